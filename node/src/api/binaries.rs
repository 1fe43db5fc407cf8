//! Binaries of jobs, on their way to and between nodes.

use std::fmt;
use std::io;
use std::path::Path as FilePath;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use axum::Json;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use gear_core::control::ClusterStatus;
use gear_core::id::NodeId;
use sha2::{Digest as _, Sha256};

use super::errors::{Code, Problem};
use super::types::Done;
use super::{Api, Peers};
use crate::binaries::{BINARY_BYTES_MAX, BinaryError, BinarySource, Upload};
use crate::client::ClientError;
use crate::gossip::NodeInfo;
use crate::security::{hex, unhex};

pub(super) const TAG: &str = "binaries";

/// Binaries that a node receives at once; whoever comes then waits.
pub(super) const UPLOADS_AT_ONCE: usize = 4;
/// Time in which something has to come: who stops sending gives his place to others.
const SILENCE_MAX: Duration = Duration::from_secs(30);

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

/// Fetches binaries from the nodes that have them.
pub struct PeerBinaries<F> {
    peers: Peers,
    nodes: F,
}

impl<F> fmt::Debug for PeerBinaries<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerBinaries").field("peers", &self.peers).finish_non_exhaustive()
    }
}

impl<F: Fn() -> Vec<NodeInfo> + Send + Sync + 'static> PeerBinaries<F> {
    /// From the other nodes as `nodes` lists them.
    #[must_use]
    pub const fn new(peers: Peers, nodes: F) -> Self {
        Self { peers, nodes }
    }
}

#[async_trait]
impl<F: Fn() -> Vec<NodeInfo> + Send + Sync + 'static> BinarySource for PeerBinaries<F> {
    async fn fetch(&self, name: &str, into: &mut Upload) -> Result<(), String> {
        let path = format!("/api/v1/binaries/{name}");
        let mut nodes = (self.nodes)();
        // Masters' nodes have it for certain, unless they are gone.
        nodes.sort_by_key(|node| (node.suspected, !node.voters.contains_key(&node.node)));
        let mut reasons = Vec::new();
        for node in nodes.iter().filter(|it| !it.http.is_empty()) {
            let client = self.peers.client(&node.http);
            let mut begun = false;
            let received = client.receive(&path, |chunk| {
                begun = true;
                into.write(chunk).map_err(|error| error.to_string())
            });
            match received.await {
                Ok(_) => return Ok(()),
                // What has come of it cannot be taken back.
                Err(error) if begun => return Err(format!("{}: {error}", node.node)),
                Err(error) => reasons.push(format!("{}: {error}", node.node)),
            }
        }
        if reasons.is_empty() {
            reasons.push("no other node is heard".into());
        }
        Err(reasons.join("; "))
    }
}

impl Api {
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

    async fn push(&self, node: NodeId, digest: Digest) -> Result<(), Problem> {
        let client = self.0.peers.client(&self.http_of(node)?);
        let path = format!("/api/v1/binaries/{digest}");
        let failed = |error: ClientError| super::peers::problem(&error);
        if !client.has(&path).await.map_err(failed)? {
            let file = self.backend().binaries().path(&digest.to_string());
            let file = file.ok_or_else(|| Problem::not_found("the binary is gone"))?;
            client.send_file::<Done>(&path, &file, |_| ()).await.map_err(failed)?;
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
    let mut chunks = body.into_data_stream();
    let answer = take(&api, &sha256, &mut chunks).await;
    if !matches!(&answer, Err(problem) if problem.code == Code::Timeout) {
        pass(&mut chunks).await;
    }
    answer.map(Json)
}

async fn take(api: &Api, sha256: &str, chunks: &mut BodyDataStream) -> Result<Done, Problem> {
    let digest: Digest = sha256.parse()?;
    let _turn = api.0.uploads.acquire().await.expect("it is never closed");
    let binaries = api.backend().binaries();
    if binaries.path(sha256).is_some() {
        return Ok(Done { done: format!("the binary {digest} was here already") });
    }
    let mut upload = binaries.upload().map_err(|error| problem(&error))?;
    let mut hasher = Sha256::new();
    while let Some(chunk) = next(chunks).await? {
        hasher.update(&chunk);
        upload.write(&chunk).map_err(|error| problem(&error))?;
    }
    // Before it is kept: it would be kept under the name of what it is.
    let came = Digest(hasher.finalize().into());
    if came != digest {
        let what = format!("what came is {came}, not {digest}: send it again");
        return Err(Problem::new(Code::BadBinary, what));
    }
    let finished = tokio::task::spawn_blocking(move || upload.finish()).await;
    let finished = finished.map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    finished.map_err(|error| problem(&error))?;
    Ok(Done { done: format!("the binary {digest} is here") })
}

/// The next bytes of an upload; none at its end.
async fn next(chunks: &mut BodyDataStream) -> Result<Option<Bytes>, Problem> {
    let chunk = tokio::time::timeout(SILENCE_MAX, chunks.next()).await.map_err(|_| {
        let what = format!("nothing came for {} s: send it again", SILENCE_MAX.as_secs());
        Problem::new(Code::Timeout, what)
    })?;
    chunk
        .transpose()
        .map_err(|error| Problem::new(Code::BadRequest, format!("the upload broke off: {error}")))
}

/// Lets the rest of an upload come: a client that is still sending when the connection closes would
/// learn of that, and not of the answer.
async fn pass(chunks: &mut BodyDataStream) {
    let mut passed = 0;
    while passed < BINARY_BYTES_MAX {
        match next(chunks).await {
            Ok(Some(chunk)) => passed += chunk.len() as u64,
            Ok(None) | Err(_) => return,
        }
    }
}

fn problem(error: &BinaryError) -> Problem {
    let code = match error {
        BinaryError::TooLong => Code::TooLarge,
        BinaryError::Elf(_) | BinaryError::Damaged { .. } | BinaryError::Name(_) => Code::BadBinary,
        BinaryError::Missing { .. } => Code::NotFound,
        BinaryError::Full { .. } => Code::Refused,
        BinaryError::Io { .. } => Code::Internal,
    };
    Problem::new(code, error.to_string())
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
    let Some(path) = api.backend().binaries().path(&sha256) else {
        return Err(Problem::not_found(format!("this node has no binary {digest}")));
    };
    let failed = |error: io::Error| Problem::new(Code::Internal, error.to_string());
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
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
    use super::*;

    #[test]
    fn a_binary_has_one_name() {
        let digest = Digest(Sha256::digest(b"abc").into());
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let upper = digest.to_string().to_uppercase();
        for name in ["", "..", "abc", upper.as_str(), "../../../../etc/passwd"] {
            assert!(name.parse::<Digest>().is_err(), "{name}");
        }
    }
}
