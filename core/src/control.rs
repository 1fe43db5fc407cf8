//! What nodes, app masters and clients say to the masters, and what the masters answer.
//!
//! Reports and orders are whole: each says everything that its sender wants to be so, is repeated
//! until it is, and may be lost, come twice or out of order. Nothing here is an event that is lost
//! for good if one message is.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{AppId, AppTerm, Epoch, ExecutorId, Incarnation, MasterTerm, NodeId, RequestId};

/// Where a process listens, as the transport writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address(pub String);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A party to the messages of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Peer {
    /// A node: its master, if it has one, and its worker.
    Node(NodeId),
    /// The app master of one term of an app.
    AppMaster(AppId, AppTerm),
    /// An executor.
    Executor(AppId, ExecutorId),
    /// Whoever asks from outside, by a number that it has drawn.
    Client(u64),
}

/// A process that a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The app it belongs to.
    pub app: AppId,
    /// What it does for the app.
    pub role: Role,
}

/// What a process does for its app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Coordinates, in this term.
    AppMaster(AppTerm),
    /// Runs tasks.
    Executor(ExecutorId),
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Role::AppMaster(term) => write!(f, "app master of {} in {term}", self.app),
            Role::Executor(executor) => write!(f, "{executor} of {}", self.app),
        }
    }
}

/// What a process takes up on its worker, or what a worker has to give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resources {
    /// Processes' share of the processors, in units that the operator chooses.
    pub slots: u32,
    /// Bytes of memory.
    pub memory: u64,
}

/// What a user submits.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AppSpec {
    /// The name of the app: at most one that has not ended bears it.
    pub name: String,
    /// What names the binary by its content.
    pub binary: Vec<u8>,
    /// The job's arguments, resolved at submission.
    pub arguments: Vec<String>,
    /// Executors that the app wants.
    pub executors: u32,
    /// What each executor takes.
    pub executor: Resources,
    /// What the app master takes.
    pub app_master: Resources,
    /// Labels that a worker must have.
    pub labels: BTreeMap<String, String>,
    /// How its processes are placed: the name of a strategy.
    pub strategy: String,
    /// Who goes first when there is not enough for all: the higher.
    pub priority: i32,
    /// Its folder in the checkpoint store; the leader names one after the app if this is empty.
    pub state: String,
    /// The savepoint, as a folder of the checkpoint store, from which it begins if its own folder
    /// holds no commit log yet.
    pub from: Option<String>,
}

/// What is wanted of an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Wish {
    /// It runs.
    #[default]
    Run,
    /// It stops with one last epoch.
    Stop,
    /// It ends at once.
    Kill,
}

/// Everything that is said between processes, links excepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ControlMessage {
    /// Master to master.
    Quorum(crate::master::QuorumMessage),
    /// Worker to every master.
    WorkerReport(WorkerReport),
    /// Leader to worker.
    WorkerOrders(WorkerOrders),
    /// App master to every master.
    AppReport(AppReport),
    /// Leader to app master.
    AppOrders(AppOrders),
    /// Client to any master.
    Request {
        /// Names it however often it is sent.
        id: RequestId,
        /// What is wanted.
        request: Request,
    },
    /// Master to client.
    Reply {
        /// The request's name.
        id: RequestId,
        /// What came of it.
        reply: Reply,
    },
    /// Leader to a worker that it does not hear, or any master to one that reports to it and
    /// follows an earlier leader or none: whom to report to as well.
    Voters {
        /// Who votes, and where their nodes listen.
        voters: BTreeMap<NodeId, Address>,
    },
}

/// What runs on a worker. Sent often; whoever does not hear it for the grace time takes the worker
/// for lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// The worker's node.
    pub worker: NodeId,
    /// Its life: what an earlier one ran is gone.
    pub incarnation: Incarnation,
    /// Rises with each report of a life: an older one that comes later says nothing.
    pub number: u64,
    /// The term of the leader that it follows; 0 before it has heard one.
    pub follows: MasterTerm,
    /// Where its node listens.
    pub address: Address,
    /// What it has to give.
    pub capacity: Resources,
    /// What its operator says of it.
    pub labels: BTreeMap<String, String>,
    /// Every process that it was ordered to run, also those that have ended, until an order no
    /// longer names them.
    pub processes: BTreeMap<ProcessId, ProcessState>,
}

/// How a process on a worker is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessState {
    /// It has been launched.
    Starting,
    /// It listens.
    Running {
        /// Where.
        address: Address,
    },
    /// It is gone, or could not be launched.
    Exited {
        /// What a user should know of it.
        reason: String,
    },
}

/// What has to run on a worker: all of it, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerOrders {
    /// The term of the leader; a worker refuses a lower one than it has heard.
    pub term: MasterTerm,
    /// Rises within the term; a worker refuses a lower one than it has heard.
    pub number: u64,
    /// The life of the worker for which they are meant.
    pub incarnation: Incarnation,
    /// The processes.
    pub launch: Vec<LaunchOrder>,
    /// Who votes, and where their nodes listen: whom to report to. None say nothing.
    pub voters: BTreeMap<NodeId, Address>,
}

/// A process to be run, and all that it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchOrder {
    /// The process.
    pub process: ProcessId,
    /// Its app.
    pub spec: AppSpec,
    /// Whoever links with a process of the app has to know this.
    pub token: u64,
}

/// How an app is doing, as its app master sees it. Sent often; a leader that does not hear it for
/// the grace time takes the app master for lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppReport {
    /// The app.
    pub app: AppId,
    /// The app master's term.
    pub term: AppTerm,
    /// Rises with each report of a term: an older one that comes later says nothing.
    pub number: u64,
    /// Executors that it has given up: they are to be ended and replaced.
    pub lost: Vec<ExecutorId>,
    /// The last committed epoch, for people to see; 0 if none.
    pub committed: Epoch,
    /// How the app has ended; none while it has not.
    pub outcome: Option<AppOutcome>,
}

/// How an app has ended, as the masters keep it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AppOutcome {
    /// All tasks have finished, and all output is visible.
    Finished,
    /// The user had asked for it.
    Stopped,
    /// The user had asked for its immediate end.
    Killed,
    /// It cannot go on.
    Failed {
        /// What happened, and what to do.
        reason: String,
    },
}

/// What an app master may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppOrders {
    /// The term of the leader; an app master refuses a lower one than it has heard.
    pub term: MasterTerm,
    /// Rises within the term; an app master refuses a lower one than it has heard.
    pub number: u64,
    /// The app.
    pub app: AppId,
    /// The highest term that was granted: an app master of a lower one ends itself.
    pub app_term: AppTerm,
    /// What the user wants.
    pub wish: Wish,
    /// The app's executors, given-up ones excepted.
    pub executors: BTreeMap<ExecutorId, Grant>,
    /// Why there are fewer executors than the app wants, in words; empty if there are not.
    pub waiting: String,
    /// Who votes, and where their nodes listen: whom to report to. None say nothing.
    pub voters: BTreeMap<NodeId, Address>,
}

/// An executor that was granted to an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The worker on which it runs.
    pub worker: NodeId,
    /// How it is doing.
    pub state: ProcessState,
}

/// What a client may ask of the masters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Run this app.
    Submit(Box<AppSpec>),
    /// Let an app stop, or end it.
    Wish {
        /// The app.
        app: AppId,
        /// What is wanted.
        wish: Wish,
    },
    /// Tell about every app; any master answers, and says whether it may be stale.
    Apps,
    /// Replace the voters; refused if more than one joins or leaves.
    Voters {
        /// All who vote from then on, with the addresses of their nodes.
        voters: BTreeMap<NodeId, Address>,
    },
    /// Tell about masters and workers; any master answers, and says whether it may be stale.
    Cluster,
    /// Move everything away from a worker and give it nothing new, or let it have work again. It is
    /// done when nothing runs there, which [`Request::Cluster`] shows.
    Drain {
        /// The worker's node.
        node: NodeId,
        /// Whether it is to have no work.
        drains: bool,
    },
    /// Run an app again from where it is: an app of a new id with the same spec and state, which
    /// begins when nothing of the old one runs any more. The old one stops first if it runs.
    Restart {
        /// The old app.
        app: AppId,
    },
}

/// What the masters answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The app is known under this id from now on.
    Submitted {
        /// The id.
        app: AppId,
    },
    /// It is so, and will not be forgotten.
    Done,
    /// Every app.
    Apps {
        /// True if the answer comes from a master that does not lead: it may be old.
        stale: bool,
        /// The apps.
        apps: Vec<AppStatus>,
    },
    /// The masters and the workers.
    Cluster(ClusterStatus),
    /// Ask this master, or any other if none is named, later.
    NotLeader {
        /// Who seems to lead.
        leader: Option<NodeId>,
    },
    /// It cannot be done.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

/// What the masters know of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// The app.
    pub app: AppId,
    /// Its name.
    pub name: String,
    /// The term of its app master.
    pub term: AppTerm,
    /// What is wanted of it.
    pub wish: Wish,
    /// How it has ended; none while it has not.
    pub outcome: Option<AppOutcome>,
    /// The last committed epoch that the masters have heard of.
    pub committed: Epoch,
    /// Its executors.
    pub executors: BTreeMap<ExecutorId, Grant>,
    /// Why it waits, in words; empty if it does not.
    pub waiting: String,
    /// What was submitted.
    pub spec: AppSpec,
    /// Its app master; none while it has no place.
    pub app_master: Option<Grant>,
    /// App masters and executors that took the place of others.
    pub restarts: u64,
}

/// What the masters know of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// True if the answer comes from a master that does not lead: it may be old, and does not know
    /// who is alive.
    pub stale: bool,
    /// Who leads, as far as the master knows.
    pub leader: Option<NodeId>,
    /// The term of the masters.
    pub term: MasterTerm,
    /// Who votes, and where their nodes listen.
    pub voters: BTreeMap<NodeId, Address>,
    /// Updates of the common state that a majority has on disk, in this term.
    pub updates: u64,
    /// The workers.
    pub workers: BTreeMap<NodeId, WorkerStatus>,
}

/// What the masters know of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its life.
    pub incarnation: Incarnation,
    /// Where its node listens.
    pub address: Address,
    /// What it has to give.
    pub capacity: Resources,
    /// What the processes take that have their place there.
    pub used: Resources,
    /// What its operator says of it.
    pub labels: BTreeMap<String, String>,
    /// Whether it is to have no work.
    pub drains: bool,
    /// Whether the leader hears it; false in the answer of another master.
    pub alive: bool,
    /// The processes that have their place there or still run there, as the leader last heard of
    /// them.
    pub processes: BTreeMap<ProcessId, ProcessState>,
}
