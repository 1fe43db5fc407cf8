//! The command line of a job's binary.

use std::fmt::Debug;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser};
use gear_connectors::schemes::AnyFiles;
use gear_core::app::{AppPlan, Placement};
use gear_core::dag::{explain_dot, explain_text};
use gear_core::dsl::{App, Job, Settings};
use gear_core::executor::Program;

use crate::child::protocol::CHILD;
use crate::child::{self, DESCRIBE};
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
    if std::env::var_os(CHILD).is_some() {
        return child::run(name, job);
    }
    let matches = command_of::<O>(name).get_matches();
    let cli = match Cli::<O>::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    start_logging(&cli.runtime.log);
    if std::env::var_os(DESCRIBE).is_some() {
        return child::describe(name, &Called { cli, matches }, job);
    }
    match start(name, &cli, job) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(report)) => finish(&cli, &report, after),
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn command_of<O: Args>(name: &'static str) -> clap::Command {
    let about = format!("The job {name}, run by Gear in this process");
    Cli::<O>::command().name(name).about(about)
}

/// A command line that was understood.
pub(crate) struct Called<O: Args> {
    cli: Cli<O>,
    matches: ArgMatches,
}

impl<O: Args + Clone + Debug> Called<O> {
    /// Understands the arguments with which a job was submitted.
    pub(crate) fn parse(name: &'static str, arguments: &[String]) -> Result<Self, String> {
        let words = std::iter::once(name).chain(arguments.iter().map(String::as_str));
        let text = |error: clap::Error| error.to_string();
        let matches = command_of::<O>(name).try_get_matches_from(words).map_err(text)?;
        let cli = Cli::from_arg_matches(&matches).map_err(text)?;
        Ok(Self { cli, matches })
    }

    /// The arguments with all that was taken from the environment or this machine, so that other
    /// machines understand the same.
    pub(crate) fn resolved(&self, given: impl Iterator<Item = String>) -> Vec<String> {
        let mut resolved = Vec::new();
        for argument in command_of::<O>("").get_arguments() {
            let id = argument.get_id().as_str();
            let Some(long) = argument.get_long() else { continue };
            if self.matches.value_source(id) != Some(ValueSource::EnvVariable) {
                continue;
            }
            if argument.get_action().takes_values() {
                for value in self.matches.get_raw(id).into_iter().flatten() {
                    resolved.push(format!("--{long}={}", value.to_string_lossy()));
                }
            } else if self.matches.get_flag(id) {
                resolved.push(format!("--{long}"));
            }
        }
        if self.cli.runtime.parallelism.is_none() {
            resolved.push(format!("--parallelism={}", self.cli.runtime.parallelism()));
        }
        resolved.extend(given);
        resolved
    }

    /// The tasks of a processor that does not set its own.
    pub(crate) fn parallelism(&self) -> u32 {
        self.cli.runtime.parallelism()
    }

    /// Builds the job.
    pub(crate) fn build<F>(&self, name: &str, describe: F) -> Result<Job>
    where
        F: Fn(&mut App<O>) -> Result<()>,
    {
        let runtime = &self.cli.runtime;
        let settings =
            Settings { parallelism: runtime.parallelism(), key_groups: runtime.key_groups };
        build(name, self.cli.job.clone(), settings, describe)
    }

    /// How executors run the job.
    pub(crate) fn program(&self, job: &Job) -> Program {
        embedded::program(job, &self.cli.runtime)
    }

    /// How an app master runs the job on a cluster.
    pub(crate) fn plan(&self, job: &Job, executors: u32) -> Result<AppPlan, String> {
        let arguments = format!("{:?}", self.cli.job);
        let mut files = AnyFiles::new(crate::drivers::notice);
        let plan = embedded::plan(job, &arguments, &self.cli.runtime, &mut files);
        let mut plan = plan.map_err(|error| error.to_string())?;
        let channels = job.graph.joined_tasks().collect();
        plan.placement = Placement::Executors { wanted: executors, channels };
        plan.graph = Some(job.graph.digest());
        Ok(plan)
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

pub(crate) fn start_logging(level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_new(level)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // A program that logs already keeps its own way.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .try_init();
}
