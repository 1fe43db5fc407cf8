//! Asks a job's binary what it is, when it is submitted.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use gear_core::link::handshake::VERSIONS;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use super::describe::{DESCRIBE, Description, MARK};

/// How long a binary may take: it only builds its graph.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of what it prints that are read: a graph has at most a thousand processors.
const DESCRIPTION_BYTES_MAX: u64 = 4 * 1_024 * 1_024;

/// Why a binary has not described its job.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// It could not be run.
    #[error("the binary cannot be run: {0}")]
    Run(std::io::Error),
    /// It takes too long.
    #[error(
        "the binary has not said within {} s which job it is: is it built on the library of Gear, \
         with gear_node::main?", DESCRIBE_TIMEOUT.as_secs()
    )]
    Slow,
    /// It has refused, with what it printed.
    #[error("the job refuses its arguments:\n{said}")]
    Refused {
        /// What it printed on standard error.
        said: String,
    },
    /// It has said something else.
    #[error(
        "the binary is no job of Gear, or of a version that does not fit ({reason}): build it on \
         the library gear-node, with gear_node::main as its main"
    )]
    NoJob {
        /// What was wrong.
        reason: String,
    },
}

impl Description {
    /// Has a binary describe its job, called with these arguments.
    ///
    /// # Errors
    /// [`DescribeError`], for the user.
    pub async fn of(binary: &Path, arguments: &[String]) -> Result<Self, DescribeError> {
        let mut command = Command::new(binary);
        command.args(arguments).env_clear().env(DESCRIBE, "1").kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let asked = async {
            let mut child = command.spawn().map_err(DescribeError::Run)?;
            let (out, err) = (child.stdout.take(), child.stderr.take());
            let (out, err) = tokio::join!(text(out), text(err));
            let status = child.wait().await.map_err(DescribeError::Run)?;
            Ok((status, out, err))
        };
        let (status, out, err) =
            timeout(DESCRIBE_TIMEOUT, asked).await.map_err(|_| DescribeError::Slow)??;
        let Some(line) = out.lines().find_map(|line| line.strip_prefix(MARK)) else {
            if status.success() || err.trim().is_empty() {
                let reason = format!("asked for its job, it ended with {status}");
                return Err(DescribeError::NoJob { reason });
            }
            return Err(DescribeError::Refused { said: err.trim().into() });
        };
        let wrong = |error: serde_json::Error| DescribeError::NoJob { reason: error.to_string() };
        let description: Self = serde_json::from_str(line).map_err(wrong)?;
        if description.wire.common(VERSIONS).is_none() {
            let reason = format!(
                "its processes speak versions {}, and this node {VERSIONS}",
                description.wire
            );
            return Err(DescribeError::NoJob { reason });
        }
        Ok(description)
    }
}

async fn text(from: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What was read before an error is still what it has said.
        let _ = from.take(DESCRIPTION_BYTES_MAX).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
