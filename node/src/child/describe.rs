//! What a job's binary says of itself when it is asked.

use std::process::ExitCode;

use gear_core::dag::{explain_dot, explain_text};
use gear_core::link::handshake::{VERSIONS, Versions};
use serde::{Deserialize, Serialize};

use crate::command::Called;

/// Set in the environment of a binary that is to describe its job.
pub(crate) const DESCRIBE: &str = "GEAR_DESCRIBE";
/// What a description begins with, so that what a job prints before is not taken for one.
pub(super) const MARK: &str = "gear-description: ";

/// What a job's binary says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The job's name.
    pub name: String,
    /// What its processes read and write on connections.
    pub wire: Versions,
    /// The version of Gear that it was built with.
    pub engine: String,
    /// Its arguments, with all that was taken from the environment.
    pub arguments: Vec<String>,
    /// The tasks of a processor that does not set its own.
    pub parallelism: u32,
    /// The graph, for people.
    pub text: String,
    /// The graph, for Graphviz.
    pub dot: String,
    /// Why it cannot run on a cluster; none if it can.
    pub problems: Vec<String>,
}

/// Prints the description of a job.
pub(crate) fn describe(name: &str, called: &Called<'_>) -> ExitCode {
    let built = match called.build(name) {
        Ok(built) => built,
        Err(error) => {
            eprintln!("{name}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut problems = Vec::new();
    if !crate::embedded::unwinds() {
        problems.push(crate::RunError::PanicAborts.to_string());
    }
    for source in &built.sources {
        if source.connector.reads_stdin() {
            problems.push(format!(
                "the source {} reads standard input, which a process of a cluster does not have: \
                 read files or a socket instead",
                source.name
            ));
        }
    }
    let description = Description {
        name: name.into(),
        wire: VERSIONS,
        engine: env!("CARGO_PKG_VERSION").into(),
        arguments: called.resolved(std::env::args().skip(1)),
        parallelism: called.parallelism(),
        text: explain_text(&built.graph),
        dot: explain_dot(&built.graph),
        problems,
    };
    let line = serde_json::to_string(&description).expect("a description is plain data");
    println!("{MARK}{line}");
    ExitCode::SUCCESS
}
