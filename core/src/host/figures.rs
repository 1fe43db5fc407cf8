//! What people see of an app and of its processes. Everything is counted once a batch or less.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::api::ConnectorFigure;
use crate::app::Stage;
use crate::control::{AppOutcome, Peer};
use crate::id::{AppId, AppTerm, Attempt, Epoch, ExecutorId, ProcessorId, TaskId};
use crate::task::{Figures, Latency};
use crate::time::{Duration, EventTime};

/// How an executor is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFigures {
    /// Its tasks.
    pub tasks: BTreeMap<TaskId, TaskFigures>,
    /// Its links, with executors and with the app master.
    pub links: BTreeMap<Peer, LinkFigures>,
}

/// How a task is doing. Everything is counted from the task's begin, which is in its attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFigures {
    /// The name of its processor.
    pub uid: String,
    /// The attempt in which it runs.
    pub attempt: Attempt,
    /// Records that it took from its inputs, or read.
    pub records_in: u64,
    /// Records that it sent.
    pub records_out: u64,
    /// Bytes of what it took from its inputs, or read.
    pub bytes_in: u64,
    /// Bytes that it sent.
    pub bytes_out: u64,
    /// Records that it put aside.
    pub quarantined: u64,
    /// Records that came too late for their window.
    pub late: u64,
    /// How long what sources read took to come to its inputs.
    pub latency: Latency,
    /// Bytes that wait at its inputs.
    pub queue_bytes: u64,
    /// Bytes that it may send at once, over the channel that has least; none if it sends nowhere.
    pub credit_bytes: Option<u64>,
    /// Time in which it could do nothing because what it sends to took nothing.
    pub blocked: Duration,
    /// Bytes of a sink's output that are not yet visible.
    pub output_bytes: u64,
    /// How long the oldest epoch has been committed whose output is not yet visible.
    pub output_age: Duration,
    /// Its clock.
    pub watermark: EventTime,
    /// Bytes of its state.
    pub state_bytes: u64,
    /// The last epoch of which it has taken a snapshot; 0 if none.
    pub epoch: Epoch,
    /// Time from the barrier of that epoch to the report that all of it is stored.
    pub snapshot: Duration,
    /// Bytes that it has stored for that epoch.
    pub snapshot_bytes: u64,
    /// It has ended.
    pub ended: bool,
    /// It reads from outside.
    pub is_source: bool,
    /// What its connector shows beside.
    pub connector: Vec<ConnectorFigure>,
}

impl TaskFigures {
    /// Of a task with this name, in this attempt.
    pub(crate) fn new(
        uid: String,
        attempt: Attempt,
        figures: Figures,
        connector: Vec<ConnectorFigure>,
    ) -> Self {
        Self {
            uid,
            attempt,
            records_in: figures.records_in,
            records_out: figures.records_out,
            bytes_in: figures.bytes_in,
            bytes_out: figures.bytes_out,
            quarantined: figures.quarantined,
            late: figures.late,
            latency: figures.latency,
            queue_bytes: figures.queue_bytes,
            credit_bytes: figures.credit_bytes,
            blocked: figures.blocked,
            output_bytes: figures.output_bytes,
            output_age: figures.output_age,
            watermark: figures.clock,
            state_bytes: figures.state_bytes,
            epoch: figures.epoch,
            snapshot: figures.snapshot,
            snapshot_bytes: figures.snapshot_bytes,
            ended: figures.ended,
            is_source: figures.is_source,
            connector,
        }
    }
}

/// How a link is doing, from its begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkFigures {
    /// Connections after the first.
    pub reconnects: u64,
    /// Bytes that were written to it.
    pub bytes_out: u64,
    /// Bytes that came over it.
    pub bytes_in: u64,
    /// What was found by comparing what was sent and what came.
    pub audit: AuditFigures,
}

/// What was found by comparing what was sent and what came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditFigures {
    /// Comparisons of a channel in an epoch.
    pub checked: u64,
    /// Frames and messages before which some were missing, and comparisons that found something
    /// else than was sent.
    pub gaps: u64,
    /// Frames and messages that came twice and were dropped.
    pub duplicates: u64,
}

impl AddAssign for AuditFigures {
    fn add_assign(&mut self, other: Self) {
        self.checked += other.checked;
        self.gaps += other.gaps;
        self.duplicates += other.duplicates;
    }
}

/// How an app is doing, as its app master sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppFigures {
    /// The app.
    pub app: AppId,
    /// The term of its app master.
    pub term: AppTerm,
    /// What the app master is at.
    pub stage: Stage,
    /// The epoch it went on from; 0 at a fresh start.
    pub recovered: Epoch,
    /// The last committed epoch; 0 if there is none.
    pub committed: Epoch,
    /// Epochs that have been started and are not committed.
    pub in_flight: u64,
    /// The oldest of them.
    pub open: Option<OpenFigures>,
    /// The last epochs that were committed in this term, the oldest first.
    pub epochs: Vec<EpochFigures>,
    /// Records that all sources have read, as of their last snapshots.
    pub records: u64,
    /// Records that were put aside, as of the tasks' last snapshots.
    pub quarantined: u64,
    /// How often a region of tasks was taken back to the last committed epoch.
    pub recoveries: u64,
    /// Executors that were lost in this term.
    pub restarts: u64,
    /// The regions: tasks that go back together.
    pub regions: Vec<RegionFigures>,
    /// The lowest clock of a task that has not ended, and whose it is; none until one is known.
    pub min_clock: Option<(EventTime, TaskId)>,
    /// Where each task runs, or ran last.
    pub placement: BTreeMap<TaskId, ExecutorId>,
    /// The processors, in the order of the graph.
    pub processors: Vec<ProcessorFigures>,
    /// What each executor has said of itself last.
    pub executors: BTreeMap<ExecutorId, ProcessFigures>,
    /// The links of the app master with its executors.
    pub links: BTreeMap<Peer, LinkFigures>,
    /// The audits of all executors that are up together.
    pub audit: AuditFigures,
    /// Why there are fewer executors than the app wants, in words; empty if there are not.
    pub waiting: String,
    /// How the app has ended; none while it has not.
    pub outcome: Option<AppOutcome>,
}

/// An epoch that is not committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFigures {
    /// The epoch.
    pub epoch: Epoch,
    /// Time since it was started.
    pub age: Duration,
    /// The tasks that have not reported; none if it is being written.
    pub waiting: Vec<TaskId>,
}

/// An epoch that was committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochFigures {
    /// The epoch.
    pub epoch: Epoch,
    /// Time from its start to its commit.
    pub duration: Duration,
    /// Bytes of the objects that were stored for it.
    pub bytes: u64,
}

/// Tasks that go back together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionFigures {
    /// The tasks.
    pub tasks: BTreeSet<TaskId>,
    /// What it is at.
    pub state: RegionState,
    /// How often in a row one of its tasks has failed.
    pub failures: u32,
}

/// What a region is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegionState {
    /// Its tasks do not run.
    Down,
    /// Its tasks are being restored.
    Deploying,
    /// Its tasks run.
    Running,
}

/// A processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessorFigures {
    /// Its place in the graph.
    pub id: ProcessorId,
    /// Its name.
    pub uid: String,
    /// How many tasks it has.
    pub parallelism: u32,
    /// What it does in the graph.
    pub kind: ProcessorKind,
}

/// What a processor does in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessorKind {
    /// It reads from outside.
    Source,
    /// It works on what comes.
    Operator,
    /// It writes to the outside, and commits.
    Sink,
}
