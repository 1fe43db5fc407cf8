//! Submitting a job's binary.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::CliError;
use super::output::Output;
use crate::api::Digest;
use crate::api::types::{Done, SubmitRequest, Submitted};
use crate::client::{Client, ClientError};
use crate::options::parse_bytes;
use crate::security::{hex, random};

const BAR: &str = "{spinner} uploading {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}";

/// Runs a job's binary on the cluster.
#[derive(Args, Debug)]
pub(super) struct Submit {
    /// The job's binary
    path: PathBuf,
    /// Name of the app [default: the job's]
    #[arg(long)]
    name: Option<String>,
    /// Executors, each a thread of tasks in a process of its own [default: the job's parallelism]
    #[arg(long, value_name = "N")]
    executors: Option<u32>,
    /// Slots that each executor takes [default: 1]
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// Memory that each executor takes, such as 2G [default: a slot's share of its worker's]
    #[arg(long, value_name = "BYTES")]
    memory: Option<String>,
    /// Begin from a savepoint, as `gear-node savepoint ID` lists it
    #[arg(long, value_name = "SAVEPOINT")]
    from: Option<String>,
    /// Label that a worker must have; can be given more than once
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// How processes are placed: spread, pack or locality [default: spread]
    #[arg(long)]
    strategy: Option<String>,
    /// Who goes first when there is not enough for all: the higher
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// The job's own arguments
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

/// What names a request, however often it is sent.
pub(super) fn key() -> String {
    hex(&random::<16>())
}

impl Submit {
    fn request(&self, digest: Digest) -> Result<SubmitRequest, CliError> {
        let label = |text: &String| {
            let parts = text.split_once('=').filter(|(key, _)| !key.is_empty());
            let parts = parts.map(|(key, value)| (key.to_owned(), value.to_owned()));
            parts.ok_or_else(|| CliError::Usage(format!("--label {text}: write KEY=VALUE")))
        };
        let memory = self.memory.as_deref().map(parse_bytes).transpose();
        Ok(SubmitRequest {
            binary: digest.to_string(),
            arguments: self.arguments.clone(),
            name: self.name.clone(),
            executors: self.executors,
            slots: self.slots,
            memory_bytes: memory
                .map_err(|reason| CliError::Usage(format!("--memory: {reason}")))?,
            labels: self.label.iter().map(label).collect::<Result<_, _>>()?,
            strategy: self.strategy.clone(),
            priority: self.priority,
            from: self.from.clone(),
        })
    }
}

/// The relative paths among a job's arguments, or behind a `=` in one, of what is there for whoever
/// submits it, though perhaps not for the job.
fn relative_paths(arguments: &[String]) -> impl Iterator<Item = &str> {
    let values = arguments.iter().map(|it| match it.split_once('=') {
        Some((option, value)) if option.starts_with('-') => value,
        _ => it,
    });
    let is_here = |it: &&str| Path::new(it).is_relative() && Path::new(it).exists();
    values.filter(|it| !it.is_empty() && !it.starts_with('-')).filter(is_here)
}

pub(super) async fn run(
    client: &Client,
    what: Submit,
    mut out: Output<'_>,
) -> Result<(), CliError> {
    let file = |error| ClientError::File { path: what.path.clone(), error };
    let digest = Digest::of_file(&what.path).map_err(file)?;
    let request = what.request(digest)?;
    for path in relative_paths(&what.arguments) {
        eprintln!(
            "gear-node: `{path}` is a path that begins here, and the job's processes look for it \
             in the folders in which their nodes run: give the whole path of a file that all of \
             them reach"
        );
    }
    let binary = format!("/api/v1/binaries/{digest}");
    if !client.has(&binary).await? {
        let length = std::fs::metadata(&what.path).map_err(file)?.len();
        let bar = if out.json { ProgressBar::hidden() } else { ProgressBar::new(length) };
        let style = ProgressStyle::with_template(BAR).expect("the template is a constant");
        bar.set_style(style);
        let moves = bar.clone();
        let sent = move |bytes| moves.inc(bytes);
        let uploaded = client.send_file::<Done>(&binary, &what.path, sent).await;
        bar.finish_and_clear();
        uploaded?;
    }
    let client = client.clone().keyed(key());
    let submitted: Submitted = client.post("/api/v1/apps", &request).await?;
    out.show(&submitted, || {
        format!(
            "`{}` is app {}; `gear-node app {}` shows it",
            submitted.name, submitted.app, submitted.app
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_mean_something_else_to_the_job_are_found() {
        // The tests run in the folder of the package.
        let whole = std::env::current_dir().expect("there is one").display().to_string();
        let arguments = ["src", "--in=Cargo.toml", "--src", "nothing", "", "--count=3", &whole];
        let arguments = arguments.map(str::to_owned);
        assert!(relative_paths(&arguments).eq(["src", "Cargo.toml"]));
    }
}
