//! What the parts of an app say to each other, and what the driver says to them.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::control::Address;
use crate::effect::{IoError, Place, StoreReply};
use crate::flow::batch::Batch;
use crate::host::figures::ProcessFigures;
use crate::id::{AppTerm, Attempt, ChannelId, Epoch, ExecutorId, TaskId, Token};
use crate::task::ReplayCounts;
use crate::time::{EventTime, WallTime};

/// What a machine hears.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Begin.
    Start,
    /// A message arrived.
    Message {
        /// Who sent it.
        from: Place,
        /// What it says.
        message: Message,
    },
    /// The checkpoint store answered.
    Stored {
        /// The request's token.
        token: Token,
        /// The answer.
        reply: StoreReply,
    },
    /// A connector's request was performed.
    IoDone {
        /// The task that asked.
        task: TaskId,
        /// The request's token.
        token: Token,
        /// How it ended; with bytes if a server was asked.
        result: Result<Vec<u8>, IoError>,
    },
    /// The masters say which executors the app has: all of them, again at each change.
    Executors {
        /// Those that were granted and not given up.
        granted: BTreeSet<ExecutorId>,
    },
    /// The link to an executor is up.
    ExecutorUp {
        /// The executor.
        executor: ExecutorId,
        /// Where it listens.
        address: Address,
    },
    /// An executor is gone, or counts as gone: nothing more comes from it, and nobody ever is
    /// called the same.
    ExecutorLost {
        /// The executor.
        executor: ExecutorId,
        /// What a user should know of it.
        reason: String,
    },
    /// The user asks for a graceful stop: one last epoch, then the end.
    Stop,
    /// The deadline that `next_timeout` gave has come.
    Timeout,
}

/// What the parts of an app say to each other.
///
/// What an app master says carries its term: an executor that has heard a higher one refuses it.
/// What is said of a task carries the task's attempt: nobody takes it for news of a later one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// App master to executor: run these tasks.
    Deploy(Deployment),
    /// App master to executor: every task of this attempt is ready, let the sources read.
    Run {
        /// The app master's term.
        term: AppTerm,
        /// The attempt.
        attempt: Attempt,
    },
    /// App master to the executors of sources: put the barrier of this epoch into the streams.
    StartEpoch {
        /// The app master's term.
        term: AppTerm,
        /// The epoch.
        start: EpochStart,
    },
    /// App master to executor: this epoch's record is in the commit log.
    Committed {
        /// The app master's term.
        term: AppTerm,
        /// The epoch.
        epoch: Epoch,
    },
    /// App master to executor: from now on this term counts; say what runs.
    TakeOver {
        /// The app master's term.
        term: AppTerm,
    },
    /// Executor to app master: the answer to `TakeOver`.
    Report {
        /// The term that asked.
        term: AppTerm,
        /// Every task that there is.
        tasks: Vec<TaskReport>,
    },
    /// App master to executor: stop; nothing that follows will count.
    Shutdown {
        /// The app master's term.
        term: AppTerm,
    },
    /// Executor to app master: this task is restored and waits for `Run`.
    Ready {
        /// The task.
        task: TaskId,
        /// Its attempt.
        attempt: Attempt,
    },
    /// Executor to app master: this task's part of an epoch is durable.
    Snapshot {
        /// The task.
        task: TaskId,
        /// Its attempt.
        attempt: Attempt,
        /// The epoch.
        epoch: Epoch,
        /// What the epoch's record has to say of the task.
        snapshot: TaskSnapshot,
    },
    /// Executor to app master: this task has done all it will ever do. Its last snapshot stands for
    /// every epoch later than `after`.
    Finished {
        /// The task.
        task: TaskId,
        /// Its attempt.
        attempt: Attempt,
        /// The last epoch of which it forwarded the barrier; 0 if none.
        after: Epoch,
        /// What later epochs' records have to say of the task.
        snapshot: TaskSnapshot,
    },
    /// App master to executor: this task is to take the records of these objects of the
    /// quarantine again. One that it has taken in this attempt it does not take twice.
    Replay {
        /// The app master's term.
        term: AppTerm,
        /// The task.
        task: TaskId,
        /// Its attempt.
        attempt: Attempt,
        /// The objects.
        objects: Vec<String>,
    },
    /// Executor to app master: what is to become of an object's records has been done in the
    /// stream, and the next snapshot says it; or the task has ended, and never does it.
    Replayed {
        /// The task.
        task: TaskId,
        /// Its attempt.
        attempt: Attempt,
        /// The object.
        object: String,
        /// True if the task has ended.
        ended: bool,
    },
    /// Executor to app master: what this sink pre-committed up to and with this epoch is visible.
    SinkCommitted {
        /// The sink's task.
        task: TaskId,
        /// Its attempt.
        attempt: Attempt,
        /// The epoch.
        epoch: Epoch,
    },
    /// Executor to app master: this task cannot go on.
    Failed {
        /// The task.
        task: TaskId,
        /// Its attempt.
        attempt: Attempt,
        /// What happened to the user, and what to do.
        reason: String,
    },
    /// Executor to app master: the link with another executor is lost.
    PeerLost {
        /// The other.
        executor: ExecutorId,
        /// Why.
        reason: String,
    },
    /// Executor to app master: how it is doing, for people to see.
    Figures(Box<ProcessFigures>),
    /// Executor to executor, against the stream: so many bytes were consumed.
    Credit {
        /// The channel.
        channel: ChannelId,
        /// The attempt of both tasks.
        attempt: Attempt,
        /// Bytes that the sender may send more.
        bytes: u64,
        /// The buffer they came in, empty, for the sender's pool; it stays in its process.
        #[serde(skip)]
        buffer: Vec<u8>,
    },
    /// Executor to executor: what flows on a channel. Between processes it is a frame.
    #[serde(skip)]
    Item {
        /// The channel.
        channel: ChannelId,
        /// The attempt of both tasks.
        attempt: Attempt,
        /// What flows.
        item: Item,
    },
}

/// The order to start an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: Epoch,
    /// The last committed epoch: a snapshot holds what changed since then.
    pub base: Option<Epoch>,
    /// True if the app stops when this epoch has committed: sources read nothing behind its
    /// barrier.
    pub stop: bool,
}

/// What flows on a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Records.
    Batch(Batch),
    /// No record earlier than this follows, late ones excepted.
    Watermark(EventTime),
    /// Until something else follows, this channel holds no clock back.
    Idle,
    /// The end of an epoch.
    Barrier(Barrier),
    /// Nothing follows.
    End,
}

/// The marker of an epoch in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// The epoch that ends here, and what its snapshots are relative to.
    pub start: EpochStart,
    /// Records that the sender put on this channel since the barrier before; the receiver compares.
    pub records: u64,
    /// When the first of the sources before it began it, by that machine's clock: for people only.
    pub born: WallTime,
}

/// Which tasks of some regions of an app an executor runs, and from where.
///
/// What the executor ran of these regions at an earlier attempt is dropped; its other tasks go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The app master's term: the tasks' objects carry it in their names.
    pub term: AppTerm,
    /// Of all tasks named here; fences the messages of those that ran before.
    pub attempt: Attempt,
    /// The last committed epoch; 0 if none.
    pub epoch: Epoch,
    /// Key groups of the app: fixed with its first epoch, so the job's own wish may not count.
    pub key_groups: u32,
    /// The digest of the app master's graph; none if it cannot differ.
    pub graph: Option<u64>,
    /// Where every task of these regions runs.
    pub placement: Vec<(TaskId, ExecutorId)>,
    /// Where the executors listen; empty if all are in one process.
    pub addresses: BTreeMap<ExecutorId, Address>,
    /// This executor's tasks of these regions.
    pub tasks: Vec<TaskDeployment>,
}

/// A task, as the executor that runs it tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// The task.
    pub task: TaskId,
    /// Its attempt.
    pub attempt: Attempt,
    /// The term of the app master that deployed it.
    pub term: AppTerm,
    /// Where it is in its life.
    pub phase: TaskPhase,
    /// The epoch from which it went on; 0 if none.
    pub restored: Epoch,
    /// The last epoch whose barrier it has passed: that of its last snapshot. At least `restored`.
    pub passed: Epoch,
    /// The last epoch that it has heard of; at least `passed`.
    pub heard: Epoch,
    /// It has passed a barrier behind which sources read nothing: the user had asked for a stop.
    pub stopped: bool,
    /// What it has said when it had done all it will ever do: the last epoch of which it forwarded
    /// the barrier, and what stands for every later one.
    pub finished: Option<(Epoch, TaskSnapshot)>,
}

/// Where a task is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskPhase {
    /// It reads the objects of the restored epoch.
    Restoring,
    /// It waits for `Run`.
    Ready,
    /// It runs.
    Running,
    /// It has sent the end of its stream.
    Ended,
    /// It cannot go on.
    Failed {
        /// What happened and what to do.
        reason: String,
    },
}

/// One task, and from where it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDeployment {
    /// The task.
    pub task: TaskId,
    /// True if it had finished in the restored epoch: it forwards the end of its stream at once.
    pub finished: bool,
    /// The partitions that a source's task reads.
    pub partitions: Vec<Partition>,
    /// Chains of state objects, each oldest first, from which the task takes its key groups.
    pub restore: Vec<Vec<ObjectRef>>,
    /// What a sink had pre-committed, from each task that had: to be committed again.
    pub pending: Vec<Pending>,
    /// Records that tasks of this processor had read before, so far as this task counts on from it.
    pub records: u64,
    /// Records that tasks of this processor had put aside before, likewise.
    pub quarantined: u64,
}

/// A named part of a source, read by one task at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Stable name, unique in the source.
    pub name: String,
    /// Where to go on, as the source encoded it; none at the first start.
    #[serde(with = "serde_bytes")]
    pub position: Option<Vec<u8>>,
    /// True if it has been read to its end.
    pub done: bool,
}

/// An object of the checkpoint store, with what shows that it is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Its name in the store.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// The CRC32C of its content.
    pub crc: u32,
}

/// A sink task's account of its output, as its connector encoded it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The index of the sink's task when the epoch was taken.
    pub index: u32,
    /// What is staged and what is to be made visible.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// The objects that it needs.
    pub objects: Vec<ObjectRef>,
}

/// What an epoch's record says of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSnapshot {
    /// The attempt of the task that says it.
    pub attempt: Attempt,
    /// The task has ended its stream.
    pub finished: bool,
    /// Every partition of a source's task.
    pub partitions: Vec<Partition>,
    /// The state: a full object, then what changed, oldest first.
    pub chain: Vec<ObjectRef>,
    /// A sink's account of its output; empty if it has none.
    #[serde(with = "serde_bytes")]
    pub pending: Vec<u8>,
    /// The objects that the account needs.
    pub objects: Vec<ObjectRef>,
    /// The task's clock at the barrier.
    pub watermark: EventTime,
    /// Records put aside since the last epoch that the task knew to be committed: what it put
    /// aside in epochs that were given up is part of the next.
    pub quarantine: Vec<ObjectRef>,
    /// Records put aside since the task began.
    pub quarantined: u64,
    /// Records that a source has read since the app began.
    pub records: u64,
    /// What became of objects of the quarantine since the last epoch that the task knew to be
    /// committed.
    pub replayed: Vec<Replayed>,
}

/// What became of an object of the quarantine that a task was to take again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The object.
    pub object: String,
    /// True if its records are in the stream or in another object of the same task. If not, nothing
    /// was done with any of them, and it stays.
    pub taken: bool,
    /// Its records.
    pub counts: ReplayCounts,
}
