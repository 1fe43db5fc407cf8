//! What REST needs of the node that serves it.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use gear_core::control::{ProcessId, Request};
use gear_core::host::figures::{AppFigures, ProcessFigures};
use gear_core::host::process::{Answer, Command};
use gear_core::id::{AppId, NodeId, RequestId};

use crate::binaries::Binaries;
use crate::child::ChildState;
use crate::gossip::NodeInfo;
use crate::security::Ends;
use crate::server::Cluster;
use crate::server::certificates::KnownEnds;
use crate::store::CheckpointStore;

/// What a node is, from its start to its end.
#[derive(Clone, Debug)]
pub struct Here {
    /// The node.
    pub node: NodeId,
    /// The cluster; none until it is formed.
    pub cluster: Option<u64>,
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

/// What came to a node's port from those who are not of its cluster, or do not speak as it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnedAway {
    /// Connections that were closed before whoever dialled was let in.
    pub connections: u64,
    /// Datagrams of gossip that were dropped: of outsiders, damaged, or sent again.
    pub datagrams: u64,
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
    fn here(&self) -> Here;

    /// True once it can do what it is asked: its cluster is formed.
    fn is_ready(&self) -> bool;

    /// What it has turned away since its start.
    fn turned_away(&self) -> TurnedAway;

    /// When its certificates end; none if it has none.
    fn certificates(&self) -> Option<Ends>;

    /// Has the leader of the masters do something, wherever it is. The same request under the same
    /// id is done once.
    async fn request(&self, id: RequestId, request: Request) -> Answer;

    /// Has this node's master, whose data folder is lost, begin a new one.
    async fn readmit(&self) -> Answer;

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
    async fn logs(&self, app: AppId, bytes: u64) -> io::Result<Vec<LogTail>>;

    /// The jobs' binaries on this node.
    fn binaries(&self) -> &Binaries;

    /// The checkpoint store of the cluster.
    fn checkpoints(&self) -> &CheckpointStore;
}

/// The node of a process.
pub(crate) struct ThisNode {
    cluster: Cluster,
    warning: Option<&'static str>,
    ends: KnownEnds,
}

impl ThisNode {
    /// Of this cluster; `warning` is shown everywhere.
    pub(crate) const fn new(
        cluster: Cluster,
        warning: Option<&'static str>,
        ends: KnownEnds,
    ) -> Self {
        Self { cluster, warning, ends }
    }
}

impl From<NodeInfo> for KnownNode {
    fn from(of: NodeInfo) -> Self {
        Self {
            node: of.node,
            listen: of.listen.0,
            http: of.http,
            version: of.version,
            load: of.load,
            suspected: of.suspected,
        }
    }
}

#[async_trait]
impl Backend for ThisNode {
    fn here(&self) -> Here {
        Here {
            node: self.cluster.node(),
            cluster: self.cluster.id(),
            warning: self.warning,
            started: self.cluster.started(),
        }
    }

    fn is_ready(&self) -> bool {
        self.cluster.id().is_some()
    }

    fn turned_away(&self) -> TurnedAway {
        let (connections, datagrams) = (self.cluster.turned_away(), self.cluster.gossip_dropped());
        TurnedAway { connections, datagrams }
    }

    fn certificates(&self) -> Option<Ends> {
        self.ends.get()
    }

    async fn request(&self, id: RequestId, request: Request) -> Answer {
        self.cluster.ask(id, request).await
    }

    async fn readmit(&self) -> Answer {
        self.cluster.readmit().await
    }

    fn nodes(&self) -> Vec<KnownNode> {
        self.cluster.nodes().into_iter().map(KnownNode::from).collect()
    }

    fn processes(&self) -> Vec<LocalProcess> {
        let children = self.cluster.children().list().into_iter();
        let running = children.filter(|(_, it)| !matches!(it.state, ChildState::Exited { .. }));
        running
            .map(|(process, child)| {
                let (figures, app) = match child.status {
                    Some(Answer::Figures(figures)) => (Some(Arc::from(figures)), None),
                    Some(Answer::Status(figures)) => (None, Some(Arc::from(figures))),
                    _ => (None, None),
                };
                LocalProcess { process, pid: child.pid, figures, app }
            })
            .collect()
    }

    async fn command(&self, process: ProcessId, command: Command) -> Answer {
        self.cluster.children().command(process, command).await
    }

    async fn logs(&self, app: AppId, bytes: u64) -> io::Result<Vec<LogTail>> {
        let folder = self.cluster.logs();
        let reading = tokio::task::spawn_blocking(move || crate::logs::tails(&folder, app, bytes));
        reading.await.map_err(io::Error::other)?
    }

    fn binaries(&self) -> &Binaries {
        self.cluster.binaries()
    }

    fn checkpoints(&self) -> &CheckpointStore {
        self.cluster.checkpoints()
    }
}
