//! Checkpoint stores on S3, against a real server that is killed and started again, and against
//! servers that do not do what a commit log needs.

mod careless;
mod cluster;
mod errors;
mod jobs;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gear_tests::process::Room;
use gear_tests::services::{BUCKET, Lease, lease};

/// A job whose output is known to the line.
const CHAOS: &str = env!("CARGO_BIN_EXE_job_chaos");
/// Longer than any of these tests takes on a machine with other work.
const BOUND: Duration = Duration::from_secs(300);

/// The servers, and a folder of the bucket for one test.
struct Place {
    services: Lease,
    test: &'static str,
}

impl Place {
    /// None if there can be no servers.
    fn new(test: &'static str) -> Option<Self> {
        Some(Self { services: lease(BOUND)?, test })
    }

    /// The checkpoint store.
    fn url(&self) -> String {
        format!("s3://{BUCKET}/{}", self.test)
    }

    /// What runs a job's binary with the right to use the bucket.
    fn command(&self, room: &Room, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = room.command(arguments);
        command.envs(self.services.s3_variables());
        command
    }

    /// The number of the last record in the commit log of a job; 0 if there is none.
    fn last_record(&self, job: &str) -> u64 {
        let log = self.services.bucket().join(self.test).join("jobs").join(job).join("log");
        let entries = fs::read_dir(log).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter_map(|name| name.parse().ok()).max().unwrap_or(0)
    }

    fn kill(&self) {
        self.services.kill("s3").unwrap_or_else(|error| panic!("{error}"));
    }

    fn start_again(&self) {
        self.services.start_again("s3").unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => found.push(path.display().to_string()),
        }
    }
    found
}
