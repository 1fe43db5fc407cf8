//! Binaries of jobs, each named by what is in it.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path as FilePath, PathBuf};
use std::str::FromStr;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use gear_core::control::ClusterStatus;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;

use super::errors::{Code, Problem};
use super::types::Done;
use super::{Api, KnownNode, Peers};
use crate::client::ClientError;
use crate::security::{hex, random, unhex};

pub(super) const TAG: &str = "binaries";

/// Bytes of a binary: one that was not optimised and has all its symbols has a few hundred MB.
pub const BINARY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Binaries that are received at once; whoever comes then waits.
const UPLOADS_AT_ONCE: usize = 4;

/// What names a binary: SHA-256 of all its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of a file.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn of_file(path: &FilePath) -> io::Result<Self> {
        use std::io::Read as _;
        let mut hasher = Sha256::new();
        let mut file = std::fs::File::open(path)?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(Self(hasher.finalize().into())),
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// As the masters keep it.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.to_vec()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for Digest {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        // Only one way of writing it, since a file is called so.
        let is_one = text.len() == 64 && !text.bytes().any(|it| it.is_ascii_uppercase());
        let bytes = is_one.then(|| unhex(text)).flatten();
        bytes.and_then(|bytes| Self::from_bytes(&bytes)).ok_or_else(|| {
            let what = "a binary is named by its SHA-256 in 64 lower-case hexadecimal digits";
            Problem::new(Code::BadRequest, what)
        })
    }
}

/// Why a binary was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// Nobody has it.
    #[error("no node that answers has the binary {digest}: {reasons}; submit the job again")]
    Nowhere {
        /// The binary.
        digest: Digest,
        /// What each node said.
        reasons: String,
    },
    /// It cannot be kept.
    #[error("the binary {digest} cannot be kept in {}: {error}", folder.display())]
    Unwritable {
        /// The binary.
        digest: Digest,
        /// Where.
        folder: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
}

/// A file that is being received; it is gone if it is not finished.
struct Staged {
    path: PathBuf,
    file: tokio::fs::File,
    hasher: Sha256,
    bytes: u64,
}

impl Staged {
    async fn begin(folder: &FilePath, digest: Digest) -> io::Result<Self> {
        let path = folder.join(format!("{digest}.{}.part", hex(&random::<8>())));
        let file = tokio::fs::OpenOptions::new().write(true).create_new(true).open(&path).await?;
        Ok(Self { path, file, hasher: Sha256::new(), bytes: 0 })
    }

    async fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.hasher.update(chunk);
        self.bytes += chunk.len() as u64;
        self.file.write_all(chunk).await
    }

    fn digest(&self) -> Digest {
        Digest(self.hasher.clone().finalize().into())
    }

    /// Lets it appear under its name, whole and executable.
    async fn finish(mut self, folder: &FilePath, digest: Digest) -> io::Result<()> {
        self.file.flush().await?;
        self.file.set_permissions(std::fs::Permissions::from_mode(0o755)).await?;
        self.file.sync_all().await?;
        tokio::fs::rename(&self.path, folder.join(digest.to_string())).await
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Renamed, it is not there any more.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Receives binaries into a folder.
#[derive(Debug)]
pub(super) struct Uploads {
    folder: PathBuf,
    at_once: Semaphore,
}

impl Uploads {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, at_once: Semaphore::new(UPLOADS_AT_ONCE) }
    }

    pub(super) fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }

    async fn has(&self, digest: Digest) -> bool {
        tokio::fs::try_exists(self.path(digest)).await.unwrap_or(false)
    }

    /// Receives a binary; true if it was not there.
    async fn receive(&self, digest: Digest, body: Body, bytes_max: u64) -> Result<bool, Problem> {
        let _turn = self.at_once.acquire().await.expect("it is never closed");
        if self.has(digest).await {
            return Ok(false);
        }
        let failed = |error: io::Error| {
            let what = format!("the binary cannot be kept in {}: {error}", self.folder.display());
            Problem::new(Code::Internal, what)
        };
        let mut staged = Staged::begin(&self.folder, digest).await.map_err(failed)?;
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| {
                Problem::new(Code::BadRequest, format!("the upload broke off: {error}"))
            })?;
            staged.write(&chunk).await.map_err(failed)?;
            if staged.bytes > bytes_max {
                let what = format!("a binary has at most {bytes_max} bytes: strip its symbols");
                return Err(Problem::new(Code::TooLarge, what));
            }
        }
        if staged.digest() != digest {
            let what = format!(
                "what came is {} of {} bytes, not {digest}: send it again",
                staged.digest(),
                staged.bytes
            );
            return Err(Problem::new(Code::BadBinary, what));
        }
        staged.finish(&self.folder, digest).await.map_err(failed)?;
        Ok(true)
    }
}

/// Fetches a binary into a folder from one of the nodes that may have it.
///
/// # Errors
/// If no node gives it, or it cannot be kept.
pub async fn fetch(
    peers: &Peers,
    nodes: &[KnownNode],
    digest: Digest,
    folder: &FilePath,
) -> Result<PathBuf, BinaryError> {
    let path = folder.join(digest.to_string());
    if path.exists() {
        return Ok(path);
    }
    let unwritable =
        |error| BinaryError::Unwritable { digest, folder: folder.to_path_buf(), error };
    let mut reasons = Vec::new();
    for node in nodes.iter().filter(|it| !it.http.is_empty()) {
        let staged = Staged::begin(folder, digest).await.map_err(unwritable)?;
        let mut writer = tokio::fs::OpenOptions::new()
            .write(true)
            .open(&staged.path)
            .await
            .map_err(unwritable)?;
        let from = format!("/api/v1/binaries/{digest}");
        match peers.client(&node.http).receive(&from, &mut writer, &staged.path).await {
            Ok(_) => {
                writer.flush().await.map_err(unwritable)?;
                let came = Digest::of_file(&staged.path).map_err(unwritable)?;
                if came == digest {
                    staged.finish(folder, digest).await.map_err(unwritable)?;
                    return Ok(path);
                }
                reasons.push(format!("{} has another one under its name", node.node));
            }
            Err(ClientError::File { error, .. }) => return Err(unwritable(error)),
            Err(error) => reasons.push(format!("{}: {error}", node.node)),
        }
    }
    if reasons.is_empty() {
        reasons.push("no other node is heard".into());
    }
    Err(BinaryError::Nowhere { digest, reasons: reasons.join("; ") })
}

impl Api {
    pub(super) fn binary(&self, digest: Digest) -> PathBuf {
        self.0.uploads.path(digest)
    }

    /// Sees to it that a majority of the masters' nodes has a binary that is here, so that the
    /// loss of a few nodes does not take an app that was submitted with it.
    pub(super) async fn spread(&self, digest: Digest) -> Result<(), Problem> {
        let status: ClusterStatus = self.cluster().await?;
        let here = self.backend().here().node;
        let mut have = usize::from(status.voters.contains_key(&here));
        let majority = status.voters.len() / 2 + 1;
        let mut reasons = Vec::new();
        for &node in status.voters.keys().filter(|&&it| it != here) {
            match self.push(node, digest).await {
                Ok(()) => have += 1,
                Err(problem) => reasons.push(format!("{node}: {problem}")),
            }
        }
        if have >= majority {
            return Ok(());
        }
        let what = format!(
            "the binary is on {have} of {} masters' nodes, and a majority is needed ({}): start \
             those that do not answer, and submit again",
            status.voters.len(),
            reasons.join("; ")
        );
        Err(Problem::new(Code::NodeUnreachable, what))
    }

    async fn push(&self, node: gear_core::id::NodeId, digest: Digest) -> Result<(), Problem> {
        let client = self.0.peers.client(&self.http_of(node)?);
        let path = format!("/api/v1/binaries/{digest}");
        let failed = |error: ClientError| super::peers::problem(&error);
        if !client.has(&path).await.map_err(failed)? {
            let sent = client.send_file::<Done>(&path, &self.binary(digest), |_| ()).await;
            sent.map_err(failed)?;
        }
        Ok(())
    }
}

/// Uploads a binary; one that is there already is not read again.
#[utoipa::path(put, path = "/binaries/{sha256}", tag = TAG, params(("sha256" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Done), (status = "default", body = Problem)))]
pub(super) async fn put(
    State(api): State<Api>,
    Path(sha256): Path<String>,
    body: Body,
) -> Result<Json<Done>, Problem> {
    let digest: Digest = sha256.parse()?;
    let new = api.0.uploads.receive(digest, body, BINARY_BYTES_MAX).await?;
    if new && let Err(reason) = api.backend().inspect(&api.binary(digest)) {
        let _ = tokio::fs::remove_file(api.binary(digest)).await;
        return Err(Problem::new(Code::BadBinary, reason));
    }
    let how = if new { "is here" } else { "was here already" };
    Ok(Json(Done { done: format!("the binary {digest} {how}") }))
}

/// Downloads a binary.
#[utoipa::path(get, path = "/binaries/{sha256}", tag = TAG, params(("sha256" = String, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", body = Problem)))]
pub(super) async fn get(
    State(api): State<Api>,
    Path(sha256): Path<String>,
) -> Result<Response, Problem> {
    let digest: Digest = sha256.parse()?;
    let Ok(file) = tokio::fs::File::open(api.binary(digest)).await else {
        return Err(Problem::not_found(format!("this node has no binary {digest}")));
    };
    let failed = |error: io::Error| Problem::new(Code::Internal, error.to_string());
    let length = file.metadata().await.map_err(failed)?.len();
    let chunks = tokio_util::io::ReaderStream::with_capacity(file, 256 * 1024);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn digest_of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    #[test]
    fn a_binary_has_one_name() {
        let digest = digest_of(b"abc");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let upper = digest.to_string().to_uppercase();
        for name in ["", "..", "abc", upper.as_str(), "../../../../etc/passwd"] {
            assert!(name.parse::<Digest>().is_err(), "{name}");
        }
    }

    #[tokio::test]
    async fn a_binary_appears_whole_or_not_at_all() {
        let folder = TempDir::new().expect("there is a folder");
        let uploads = Uploads::new(folder.path().into());
        let digest = digest_of(b"abc");
        let receive = |bytes: &'static str, max| uploads.receive(digest, Body::from(bytes), max);
        let names = || std::fs::read_dir(folder.path()).expect("it is there").count();
        let error = receive("abd", 10).await.expect_err("it is another");
        assert_eq!((error.code, names()), (Code::BadBinary, 0));
        let error = receive("abc", 2).await.expect_err("it is too long");
        assert_eq!((error.code, names()), (Code::TooLarge, 0));
        assert_eq!(receive("abc", 3).await, Ok(true));
        assert_eq!(receive("anything", 3).await, Ok(false), "it is there");
        let mode = std::fs::metadata(uploads.path(digest)).expect("it is there").permissions();
        assert_eq!((names(), mode.mode() & 0o777), (1, 0o755));
    }
}
