//! How an app ends, and how it is doing until then.

use alloc::string::String;
use alloc::vec::Vec;

use crate::checkpoint::log::LogError;
use crate::checkpoint::recovery::RecoveryError;
use crate::checkpoint::savepoint::SavepointError;
use crate::id::{AppTerm, Epoch, ExecutorId, TaskId};
use crate::time::Duration;

/// How an app ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All tasks have finished, and all output is visible.
    Finished {
        /// The last epoch.
        epoch: Epoch,
    },
    /// It had finished before it was started this time.
    AlreadyFinished {
        /// The last epoch.
        epoch: Epoch,
    },
    /// The user had asked for it; the app goes on from there when it is started again.
    Stopped {
        /// The last committed epoch; none if there is none.
        epoch: Option<Epoch>,
    },
    /// It cannot go on; the app goes on from the last committed epoch when it is started again.
    Failed(Failure),
}

/// Why an app failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The commit log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The app cannot go on from what was saved.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The app cannot begin from the savepoint.
    #[error(transparent)]
    Savepoint(#[from] SavepointError),
    /// An executor is gone that was to stay to the end.
    #[error("{executor} is lost: {reason}")]
    Executor {
        /// The executor.
        executor: ExecutorId,
        /// What is known of it.
        reason: String,
    },
    /// A task cannot go on.
    #[error("`{uid}` (task {index}) cannot go on: {reason}")]
    Task {
        /// The name of its processor.
        uid: String,
        /// Which of the processor's tasks.
        index: u32,
        /// What happened and what to do.
        reason: String,
    },
}

/// How an app is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// What the app master is at.
    pub stage: Stage,
    /// Its term; 0 until it is known.
    pub term: AppTerm,
    /// The epoch it went on from; none at a fresh start or if that is not known yet.
    pub recovered: Option<Epoch>,
    /// The last committed epoch; none if there is none.
    pub committed: Option<Epoch>,
    /// Epochs that have been started and are not committed.
    pub in_flight: usize,
    /// The oldest of them.
    pub oldest: Option<OpenEpoch>,
    /// Records that all sources have read, as of their last snapshots.
    pub records: u64,
    /// Records that were put aside, as of the tasks' last snapshots.
    pub quarantined: u64,
    /// How often a region of tasks was taken back to the last committed epoch.
    pub roll_backs: u64,
}

/// An epoch that is not committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenEpoch {
    /// The epoch.
    pub epoch: Epoch,
    /// Time since it was started.
    pub age: Duration,
    /// The tasks that have not reported; none if it is being written.
    pub waiting: Vec<TaskId>,
}

/// What an app master is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Stage {
    /// Not started.
    New,
    /// Fences and reads the commit log.
    Opening,
    /// Waits until every task is restored.
    Deploying,
    /// The tasks run.
    Running,
    /// The app has its outcome.
    Ended,
}
