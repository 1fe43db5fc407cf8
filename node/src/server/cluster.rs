//! The cluster, as its REST interface sees it from one node.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use gear_core::control::{ProcessId, Reply, Request};
use gear_core::host::process::{Answer, Command};
use gear_core::id::{NodeId, RequestId};
use gear_net::Handle;
use tokio::time::timeout;

use super::config::Config;
use super::folder::DataFolder;
use crate::binaries::Binaries;
use crate::child::ChildTable;
use crate::gossip::{Gossip, NodeInfo};
use crate::store::CheckpointStore;

/// How long a request may take altogether: the node's own deadline is shorter.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) folder: Arc<DataFolder>,
    pub(super) node: NodeId,
    pub(super) gossip: Gossip,
    pub(super) table: ChildTable,
    pub(super) binaries: Binaries,
    pub(super) checkpoints: CheckpointStore,
}

struct Shared {
    parts: Parts,
    started: SystemTime,
    /// There once the cluster is formed.
    formed: OnceLock<(u64, Handle)>,
    /// Names this node's requests.
    client: u64,
    requests: AtomicU64,
    /// Why the cluster is not formed yet, in words.
    waits: Mutex<String>,
}

/// The cluster, from one of its nodes.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

impl Cluster {
    pub(super) fn new(parts: Parts) -> Self {
        Self(Arc::new(Shared {
            parts,
            started: SystemTime::now(),
            formed: OnceLock::new(),
            client: crate::security::draw(),
            requests: AtomicU64::new(0),
            waits: Mutex::default(),
        }))
    }

    /// The cluster is formed.
    pub(super) fn formed(&self, cluster: u64, handle: Handle) {
        // It is formed once in a process's life.
        let _ = self.0.formed.set((cluster, handle));
    }

    /// The cluster is not formed yet, for this reason.
    pub(super) fn waits(&self, reason: String) {
        *self.0.waits.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Has the masters do something, whichever of them leads, and waits for their answer.
    pub async fn request(&self, request: Request) -> Reply {
        let number = self.0.requests.fetch_add(1, Ordering::Relaxed);
        let id = RequestId { client: self.0.client, number };
        self.request_as(id, request).await
    }

    /// The same under a name of the caller's: asked again by it, it is done once.
    pub async fn request_as(&self, id: RequestId, request: Request) -> Reply {
        let refused = |reason: String| Reply::Refused { reason };
        match self.ask(id, request).await {
            Answer::Reply(reply) => reply,
            Answer::Refused { reason } => refused(reason),
            other => refused(format!("the node has answered something else: {other:?}")),
        }
    }

    /// The same, with the answer of the node itself if no master has given one.
    pub async fn ask(&self, id: RequestId, request: Request) -> Answer {
        self.command(Command::Request { id, request }, "no master has answered").await
    }

    /// Has this node's master, whose data folder is lost, begin a new one.
    pub async fn readmit(&self) -> Answer {
        self.command(Command::Readmit, "the node has not answered").await
    }

    /// Has this node do something; `silence` says what it means if nothing comes of it.
    async fn command(&self, command: Command, silence: &str) -> Answer {
        let refused = |reason: String| Answer::Refused { reason };
        let Some((_, handle)) = self.0.formed.get() else {
            let waits = self.0.waits.lock().unwrap_or_else(PoisonError::into_inner);
            return refused(format!("the cluster is not formed yet: {waits}"));
        };
        match timeout(REQUEST_TIMEOUT, handle.command(command)).await {
            Ok(answer) => answer,
            Err(_) => refused(format!("{silence} within {} s", REQUEST_TIMEOUT.as_secs())),
        }
    }

    /// Connections of strangers that were closed without letting them in.
    #[must_use]
    pub fn turned_away(&self) -> u64 {
        self.0.formed.get().map_or(0, |(_, handle)| handle.turned_away())
    }

    /// Which cluster it is; none until it is formed.
    #[must_use]
    pub fn id(&self) -> Option<u64> {
        self.0.formed.get().map(|(cluster, _)| *cluster)
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.0.parts.node
    }

    /// When this process started.
    #[must_use]
    pub fn started(&self) -> SystemTime {
        self.0.started
    }

    /// Every node that has been heard, this one included.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.0.parts.gossip.nodes()
    }

    /// Gossip's datagrams that were dropped since the start.
    #[must_use]
    pub fn gossip_dropped(&self) -> u64 {
        self.0.parts.gossip.dropped()
    }

    /// The jobs' processes on this node.
    #[must_use]
    pub fn children(&self) -> &ChildTable {
        &self.0.parts.table
    }

    /// The jobs' binaries on this node.
    #[must_use]
    pub fn binaries(&self) -> &Binaries {
        &self.0.parts.binaries
    }

    /// The checkpoint store.
    #[must_use]
    pub fn checkpoints(&self) -> &CheckpointStore {
        &self.0.parts.checkpoints
    }

    /// What this node was told at its start.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.parts.config
    }

    /// The folder of what processes print.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.0.parts.folder.logs()
    }

    /// The last bytes of what a process has printed here, at most so many, in whole lines.
    ///
    /// # Errors
    /// As the operating system says it: not found if it has printed nothing here.
    pub fn log(&self, process: ProcessId, bytes: u64) -> io::Result<Vec<u8>> {
        crate::logs::tail(&self.0.parts.folder.logs(), process, bytes)
    }

    /// The folder of keys and tokens.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.0.parts.folder.secrets()
    }
}
