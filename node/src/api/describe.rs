//! What a job's binary says of itself, before it is run.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gear_core::control::AppStatus;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::errors::{Code, Problem};
use super::{Api, Digest};

/// Has a job's binary describe itself instead of running.
pub const DESCRIBE: &str = "GEAR_DESCRIBE";
/// Time for it: it builds a graph and runs nothing.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of a description: a graph of the most processors drawn twice.
const BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Bytes that are shown of what it says when it fails.
const ERROR_BYTES_MAX: u64 = 4 * 1024;
/// Binaries that describe themselves at once: each is a process.
const AT_ONCE: usize = 2;
/// Descriptions that are kept, for who looks at an app again and again.
const KEPT_MAX: usize = 64;

/// What a job says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    /// Its name.
    pub(crate) name: String,
    /// Its arguments, resolved: run with them it is the same job wherever and whenever.
    pub(crate) arguments: Vec<String>,
    /// Tasks of its widest processor.
    pub(crate) parallelism: u32,
    /// The graph as people read it.
    #[serde(default)]
    pub(crate) text: String,
    /// The graph for Graphviz.
    #[serde(default)]
    pub(crate) dot: String,
    /// Why it cannot be run.
    #[serde(default)]
    pub(crate) problems: Vec<String>,
}

type Key = (Digest, Vec<String>);

/// Has binaries describe themselves, a few at a time.
#[derive(Debug)]
pub(super) struct Describer {
    at_once: Semaphore,
    kept: Mutex<VecDeque<(Key, Arc<Description>)>>,
}

impl Describer {
    pub(super) fn new() -> Self {
        Self { at_once: Semaphore::new(AT_ONCE), kept: Mutex::default() }
    }

    fn known(&self, key: &Key) -> Option<Arc<Description>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(known, _)| known == key).map(|(_, it)| it.clone())
    }

    async fn describe(
        &self,
        path: &Path,
        digest: Digest,
        arguments: &[String],
    ) -> Result<Arc<Description>, Problem> {
        let key = (digest, arguments.to_vec());
        if let Some(known) = self.known(&key) {
            return Ok(known);
        }
        let _turn = self.at_once.acquire().await.expect("it is never closed");
        let description = Arc::new(run(path, arguments).await?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((key, description.clone()));
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
        Ok(description)
    }
}

impl Api {
    pub(super) async fn describe(
        &self,
        digest: Digest,
        arguments: &[String],
    ) -> Result<Arc<Description>, Problem> {
        let path = self.binary(digest);
        if !tokio::fs::try_exists(&path).await.unwrap_or(false) {
            let what = format!("this node has no binary {digest}: upload it first");
            return Err(Problem::not_found(what));
        }
        self.0.describer.describe(&path, digest, arguments).await
    }

    pub(super) async fn describe_app(&self, app: &AppStatus) -> Result<Description, Problem> {
        let digest = Digest::from_bytes(&app.spec.binary)
            .ok_or_else(|| Problem::not_found(format!("{} has no binary", app.app)))?;
        let description = self.describe(digest, &app.spec.arguments).await?;
        Ok(Description::clone(&description))
    }
}

async fn run(path: &Path, arguments: &[String]) -> Result<Description, Problem> {
    let bad = |what: String| Problem::new(Code::BadJob, what);
    let mut child = Command::new(path)
        .args(arguments)
        .env_clear()
        .env(DESCRIBE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| bad(format!("the binary cannot be started here: {error}")))?;
    let (said, failed) = (child.stdout.take(), child.stderr.take());
    let finished = async {
        let said = read(said.expect("it is piped"), BYTES_MAX);
        let failed = read(failed.expect("it is piped"), ERROR_BYTES_MAX);
        let (said, failed) = tokio::join!(said, failed);
        (said, failed, child.wait().await)
    };
    let Ok((said, failed, status)) = tokio::time::timeout(TIME_MAX, finished).await else {
        let seconds = TIME_MAX.as_secs();
        return Err(bad(format!(
            "the binary does not describe its job within {seconds} s: a job's function only \
             describes streams; what takes long belongs into a source or an operator"
        )));
    };
    let status = status.map_err(|error| bad(format!("the binary cannot be watched: {error}")))?;
    let failed = String::from_utf8_lossy(&failed);
    if !status.success() {
        return Err(bad(format!("the job refuses ({status}): {}", failed.trim())));
    }
    // A job may greet before it describes itself.
    let line = said.split(|&byte| byte == b'\n').rev().find(|it| !it.is_empty());
    let description: Description =
        line.and_then(|line| serde_json::from_slice(line).ok()).ok_or_else(|| {
            bad("the binary does not describe a job: is it built with this version of Gear, and \
                 does its `main` call `gear_node::main`?"
                .to_owned())
        })?;
    if description.problems.is_empty() {
        Ok(description)
    } else {
        Err(bad(description.problems.join("\n")))
    }
}

/// The first bytes of what somebody says; the rest is taken from him and dropped.
async fn read(from: impl AsyncRead + Unpin, bytes_max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut first = from.take(bytes_max);
    // What could not be read is not there.
    let _ = first.read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut first.into_inner(), &mut tokio::io::sink()).await;
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;

    async fn said_by(script: &str) -> Result<Description, Problem> {
        let folder = TempDir::new().expect("there is a folder");
        let path = folder.path().join("job");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("it is ours");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("it is ours");
        // A fork of another test may still have the file open for writing.
        for _ in 0..50 {
            match run(&path, &["--fast".to_owned()]).await {
                Err(problem) if problem.detail.contains("Text file busy") => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                said => return said,
            }
        }
        panic!("the file stays busy");
    }

    #[tokio::test]
    async fn a_job_describes_itself() {
        let json = r#"{"name": "job", "arguments": ["'$1'"], "parallelism": 3, "wire": 1}"#;
        let script = format!("echo hello\n[ \"$GEAR_DESCRIBE\" = 1 ] && echo '{json}'");
        let said = said_by(&script).await.expect("it says all there is");
        assert_eq!((said.name.as_str(), said.parallelism), ("job", 3));
        assert_eq!(said.arguments, ["--fast"]);
    }

    #[tokio::test]
    async fn what_is_no_job_is_said() {
        for (script, part) in [
            ("echo no such option >&2; exit 2", "no such option"),
            ("true", "gear_node::main"),
            ("echo rubbish", "gear_node::main"),
            ("kill -9 $$", "signal"),
            (
                r#"echo '{"name": "j", "arguments": [], "parallelism": 1, "problems": ["no sink"]}'"#,
                "no sink",
            ),
        ] {
            let problem = said_by(script).await.expect_err("it is no job");
            assert_eq!(problem.code, Code::BadJob);
            assert!(problem.detail.contains(part), "{}", problem.detail);
        }
    }

    #[tokio::test]
    async fn one_that_talks_without_end_is_cut() {
        let problem = said_by("yes | head -c 9000000").await.expect_err("it is no job");
        assert_eq!(problem.code, Code::BadJob);
    }
}
