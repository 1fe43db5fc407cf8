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
        return child::run(name, &|arguments| {
            let words = std::iter::once(name).chain(arguments.iter().map(String::as_str));
            let matches = command_of::<O>(name).try_get_matches_from(words)?;
            Ok(Called::new(Cli::from_arg_matches(&matches)?, matches, &job))
        });
    }
    let matches = command_of::<O>(name).get_matches();
    let cli = match Cli::<O>::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let options = cli.job.clone();
    let after = |report: &Report| after(&options, report);
    Called::new(cli, matches, &job).run(name, Box::new(after))
}

fn command_of<O: Args>(name: &'static str) -> clap::Command {
    let about = format!("The job {name}, run by Gear in this process");
    Cli::<O>::command().name(name).about(about)
}

/// A command line that was understood. Of what a job is written with, only functions are left
/// here: what runs it is compiled once, and not with every job.
pub(crate) struct Called<'a> {
    command: fn() -> clap::Command,
    matches: ArgMatches,
    /// The job's own options, for people.
    options: String,
    runtime: RuntimeOptions,
    describe: Box<Describe<'a>>,
}

/// Describes the job of this name.
type Describe<'a> = dyn Fn(&str, Settings) -> Result<Job> + 'a;
/// What a job's binary does when the job has finished.
type After<'a> = dyn FnOnce(&Report) -> Result<()> + 'a;

impl<'a> Called<'a> {
    fn new<O, F>(cli: Cli<O>, matches: ArgMatches, describe: &'a F) -> Self
    where
        O: Args + Clone + Debug + 'a,
        F: Fn(&mut App<O>) -> Result<()>,
    {
        let Cli { job, runtime } = cli;
        Self {
            command: || command_of::<O>(""),
            matches,
            options: format!("{job:?}"),
            runtime,
            describe: Box::new(move |name, settings| build(name, job.clone(), settings, describe)),
        }
    }

    /// Runs the job in this process, explains it or describes it.
    fn run(self, name: &str, after: Box<After<'_>>) -> ExitCode {
        start_logging(&self.runtime.log);
        if std::env::var_os(DESCRIBE).is_some() {
            return child::describe(name, &self);
        }
        match self.start(name) {
            Ok(None) => ExitCode::SUCCESS,
            Ok(Some(report)) => self.finish(&report, after),
            Err(error) => {
                eprintln!("{name}: {error}");
                ExitCode::FAILURE
            }
        }
    }

    /// The arguments with all that was taken from the environment or this machine, so that other
    /// machines understand the same.
    pub(crate) fn resolved(&self, given: impl Iterator<Item = String>) -> Vec<String> {
        let mut resolved = Vec::new();
        for argument in (self.command)().get_arguments() {
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
        if self.runtime.parallelism.is_none() {
            resolved.push(format!("--parallelism={}", self.runtime.parallelism()));
        }
        resolved.extend(given);
        resolved
    }

    /// The tasks of a processor that does not set its own.
    pub(crate) fn parallelism(&self) -> u32 {
        self.runtime.parallelism()
    }

    /// Builds the job.
    pub(crate) fn build(&self, name: &str) -> Result<Job> {
        let RuntimeOptions { key_groups, .. } = self.runtime;
        (self.describe)(name, Settings { parallelism: self.parallelism(), key_groups })
    }

    /// How executors run the job.
    pub(crate) fn program(&self, job: &Job) -> Program {
        embedded::program(job, &self.runtime)
    }

    /// How an app master runs the job on a cluster.
    pub(crate) fn plan(&self, job: &Job, executors: u32) -> Result<AppPlan, String> {
        let mut files = AnyFiles::new(crate::drivers::notice);
        let plan = embedded::plan(job, &self.options, &self.runtime, &mut files);
        let mut plan = plan.map_err(|error| error.to_string())?;
        let channels = job.graph.joined_tasks().collect();
        plan.placement = Placement::Executors { wanted: executors, channels };
        plan.graph = Some(job.graph.digest());
        Ok(plan)
    }

    fn start(&self, name: &str) -> Result<Option<Report>> {
        let job = self.build(name)?;
        match self.runtime.explain {
            Some(Explain::Text) => print!("{}", explain_text(&job.graph)),
            Some(Explain::Dot) => print!("{}", explain_dot(&job.graph)),
            None => {
                for warning in &job.warnings {
                    tracing::warn!(target: "gear", "{warning}");
                }
                embedded::stop_on_interrupt();
                return Ok(Some(embedded::run(&job, &self.options, &self.runtime)?));
            }
        }
        Ok(None)
    }

    fn finish(&self, report: &Report, after: Box<After<'_>>) -> ExitCode {
        let stopped = matches!(report.outcome, gear_core::app::Outcome::Stopped { .. });
        if !stopped && let Err(error) = after(report) {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
        if !self.runtime.quiet {
            println!("{}", report.summary());
            if let Some(file) = &report.quarantine_file {
                println!("put aside: {}", file.display());
            }
        }
        // As a shell reports a process that an interrupt has ended.
        if stopped { ExitCode::from(130) } else { ExitCode::SUCCESS }
    }
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
