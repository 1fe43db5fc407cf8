//! The command line of a job's binary.

use std::fmt::Debug;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser};
use gear_core::dag::{explain_dot, explain_text};
use gear_core::dsl::{App, Job, Settings};

use crate::embedded;
use crate::options::{Explain, RuntimeOptions};
use crate::report::Report;

/// What a job's function gives: an error is shown to the user, and the job is not run.
pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// The options of a job that has none of its own.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct NoOptions {}

#[derive(Parser)]
struct Cli<O: Args> {
    #[command(flatten)]
    job: O,
    #[command(flatten)]
    runtime: RuntimeOptions,
}

/// The whole of a job binary's `main`: parses the command line, and runs the job or explains it.
pub fn main<O, F>(name: &'static str, job: F) -> ExitCode
where
    O: Args + Clone + Debug,
    F: Fn(&mut App<O>) -> Result<()>,
{
    main_with(name, job, |_, _| Ok(()))
}

/// As [`main`], and calls `after` with the job's options when it has finished or was finished
/// before.
pub fn main_with<O, F, A>(name: &'static str, job: F, after: A) -> ExitCode
where
    O: Args + Clone + Debug,
    F: Fn(&mut App<O>) -> Result<()>,
    A: FnOnce(&O, &Report) -> Result<()>,
{
    let about = format!("The job {name}, run by Gear in this process");
    let matches = Cli::<O>::command().name(name).about(about).get_matches();
    let cli = match Cli::<O>::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    start_logging(&cli.runtime.log);
    match start(name, &cli, job) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(report)) => finish(&cli, &report, after),
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn finish<O: Args>(
    cli: &Cli<O>,
    report: &Report,
    after: impl FnOnce(&O, &Report) -> Result<()>,
) -> ExitCode {
    let stopped = matches!(report.outcome, gear_core::app::Outcome::Stopped { .. });
    if !stopped && let Err(error) = after(&cli.job, report) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    if !cli.runtime.quiet {
        println!("{}", report.summary());
        if let Some(file) = &report.quarantine_file {
            println!("put aside: {}", file.display());
        }
    }
    // As a shell reports a process that an interrupt has ended.
    if stopped { ExitCode::from(130) } else { ExitCode::SUCCESS }
}

fn start<O, F>(name: &str, cli: &Cli<O>, describe: F) -> Result<Option<Report>>
where
    O: Args + Clone + Debug,
    F: Fn(&mut App<O>) -> Result<()>,
{
    let settings =
        Settings { parallelism: cli.runtime.parallelism(), key_groups: cli.runtime.key_groups };
    let job = build(name, cli.job.clone(), settings, describe)?;
    match cli.runtime.explain {
        Some(Explain::Text) => print!("{}", explain_text(&job.graph)),
        Some(Explain::Dot) => print!("{}", explain_dot(&job.graph)),
        None => {
            for warning in &job.warnings {
                tracing::warn!(target: "gear", "{warning}");
            }
            embedded::stop_on_interrupt();
            let arguments = format!("{:?}", cli.job);
            return Ok(Some(embedded::run(&job, &arguments, &cli.runtime)?));
        }
    }
    Ok(None)
}

/// Describes a job and checks it.
///
/// # Errors
/// What the function gave, or every mistake in the job.
pub fn build<O, F>(name: &str, options: O, settings: Settings, describe: F) -> Result<Job>
where
    F: Fn(&mut App<O>) -> Result<()>,
{
    let mut app = App::new(name, options, settings);
    describe(&mut app)?;
    app.finish().map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        lines.join("\n").into()
    })
}

fn start_logging(level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_new(level)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // A program that logs already keeps its own way.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .try_init();
}
