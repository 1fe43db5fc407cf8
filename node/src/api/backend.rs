//! What REST needs of the node that serves it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use gear_core::control::{ProcessId, Request};
use gear_core::host::figures::{AppFigures, ProcessFigures};
use gear_core::host::process::{Answer, Command};
use gear_core::id::{AppId, NodeId, RequestId};
use object_store::ObjectStore;

/// What a node is, from its start to its end.
#[derive(Clone, Debug)]
pub struct Here {
    /// The node.
    pub node: NodeId,
    /// The cluster.
    pub cluster: u64,
    /// Where others reach its REST, as `HOST:PORT`.
    pub http: String,
    /// True if it is served over TLS.
    pub tls: bool,
    /// Where binaries of jobs are, each named by its SHA-256 in hexadecimal digits.
    pub binaries: PathBuf,
    /// What is to be shown everywhere; none if there is nothing to warn of.
    pub warning: Option<&'static str>,
    /// When it started.
    pub started: SystemTime,
}

/// A node, as gossip tells of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownNode {
    /// The node.
    pub node: NodeId,
    /// Where it listens for links and control.
    pub listen: String,
    /// Where it serves REST.
    pub http: String,
    /// What it runs.
    pub version: String,
    /// Share of its processors that is in use, from 0 to 1; none if it has not said.
    pub load: Option<f64>,
    /// True if it has not been heard for a while.
    pub suspected: bool,
}

/// A process that runs on this node.
#[derive(Clone, Debug)]
pub struct LocalProcess {
    /// The process.
    pub process: ProcessId,
    /// Its number in the operating system; none if it is not one.
    pub pid: Option<u32>,
    /// What it has said of its tasks last, if it is an executor.
    pub figures: Option<Arc<ProcessFigures>>,
    /// What it has said of its app last, if it is an app master.
    pub app: Option<Arc<AppFigures>>,
}

/// The end of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogTail {
    /// The process whose output it is, as its file is called.
    pub process: String,
    /// The last bytes.
    pub text: Vec<u8>,
    /// True if there was more before them.
    pub cut: bool,
}

/// The node that serves REST.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// What it is.
    fn here(&self) -> &Here;

    /// True once it can do what it is asked: its cluster is formed.
    fn is_ready(&self) -> bool;

    /// Has the leader of the masters do something, wherever it is. The same request under the same
    /// id is done once.
    async fn request(&self, id: RequestId, request: Request) -> Answer;

    /// Every node that gossip knows, this one included.
    fn nodes(&self) -> Vec<KnownNode>;

    /// The processes that run here.
    fn processes(&self) -> Vec<LocalProcess>;

    /// Has a process that runs here do something.
    async fn command(&self, process: ProcessId, command: Command) -> Answer;

    /// The ends of the logs that this node has of an app, at most `bytes` of each.
    ///
    /// # Errors
    /// What the operating system says.
    async fn logs(&self, app: AppId, bytes: u64) -> std::io::Result<Vec<LogTail>>;

    /// Whether a file is a binary that runs here.
    ///
    /// # Errors
    /// Why it does not, and what to do.
    fn inspect(&self, binary: &Path) -> Result<(), String>;

    /// The checkpoint store of the cluster.
    ///
    /// # Errors
    /// Why it cannot be used.
    fn checkpoints(&self) -> Result<Arc<dyn ObjectStore>, String>;
}
