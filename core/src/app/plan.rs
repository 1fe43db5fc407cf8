//! What an app master has to know of its app before it begins.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::checkpoint::record::{Identity, TaskKey};
use crate::id::{AppTerm, ExecutorId, ProcessorId, TaskId};
use crate::limits::{EPOCH_INTERVAL_DEFAULT, KEY_GROUPS_DEFAULT};
use crate::time::Duration;

/// An app, as its master runs it.
#[derive(Clone, Debug)]
pub struct AppPlan {
    /// Whose state the store holds; its `app` is the name of the app.
    pub identity: Identity,
    /// Differs between any two app masters that the app ever has; drawn by the driver.
    pub incarnation: u64,
    /// The term that the masters granted; none if the commit log alone decides who leads.
    pub term: Option<AppTerm>,
    /// The version of the DAG.
    pub dag_version: u64,
    /// Key groups at a fresh start; later the record's count.
    pub key_groups: u32,
    /// The digest of the job's graph, which every executor compares with that of its own; none if
    /// they have it from this process.
    pub graph: Option<u64>,
    /// The nodes of the DAG.
    pub processors: Vec<ProcessorPlan>,
    /// On which executors the tasks run.
    pub placement: Placement,
    /// Time between the starts of two epochs; none or zero for no epoch but the last.
    pub epoch_interval: Option<Duration>,
    /// What the output may be after failures.
    pub guarantee: Guarantee,
    /// The user agrees to lose the state of operators that the job no longer has.
    pub drop_state: bool,
    /// The user agrees to go on from before a damaged record though output may be repeated.
    pub fall_back: bool,
    /// The savepoint from which it begins if its log holds no epoch, as a folder of the checkpoint
    /// store.
    pub from: Option<String>,
}

impl AppPlan {
    /// An app without processors, with everything else as it is unless set.
    #[must_use]
    pub fn new(identity: Identity, incarnation: u64) -> Self {
        Self {
            identity,
            incarnation,
            term: None,
            dag_version: 1,
            key_groups: KEY_GROUPS_DEFAULT,
            graph: None,
            processors: Vec::new(),
            placement: Placement::default(),
            epoch_interval: Some(EPOCH_INTERVAL_DEFAULT),
            guarantee: Guarantee::default(),
            drop_state: false,
            fall_back: false,
            from: None,
        }
    }

    /// Every task, processor by processor.
    pub fn tasks(&self) -> impl Iterator<Item = (TaskId, &ProcessorPlan)> {
        self.processors.iter().flat_map(|processor| {
            let task = |index| TaskId { processor: processor.id, index };
            (0..processor.parallelism).map(move |index| (task(index), processor))
        })
    }

    /// A processor of the plan.
    pub(super) fn processor(&self, id: ProcessorId) -> Option<&ProcessorPlan> {
        self.processors.iter().find(|processor| processor.id == id)
    }

    /// The task as the log names it, if there is such a task.
    pub(super) fn key(&self, task: TaskId) -> Option<TaskKey> {
        let ProcessorPlan { uid, parallelism, .. } = self.processor(task.processor)?;
        let (uid, parallelism) = (uid.clone(), *parallelism);
        (task.index < parallelism).then_some(TaskKey { uid, index: task.index, parallelism })
    }

    /// The name of a task's folder among those of its kind in the store.
    pub(super) fn folder(&self, task: TaskId) -> String {
        let uid = self.processor(task.processor).map_or("", |processor| &processor.uid);
        format!("{uid}-{}", task.index)
    }
}

/// On which executors the tasks of an app run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Executors that are there from the beginning to the end: where every task runs.
    Fixed(Vec<(TaskId, ExecutorId)>),
    /// Executors that come and go, as the masters grant them.
    Executors {
        /// How many there should be.
        wanted: u32,
        /// Every two tasks that are joined by a channel: what is joined goes back together.
        channels: Vec<(TaskId, TaskId)>,
    },
}

impl Default for Placement {
    fn default() -> Self {
        Self::Fixed(Vec::new())
    }
}

/// One node of the DAG.
#[derive(Clone, Debug, Default)]
pub struct ProcessorPlan {
    /// Its place in the graph.
    pub id: ProcessorId,
    /// Its stable name, to which its state belongs.
    pub uid: String,
    /// How many tasks it has.
    pub parallelism: u32,
    /// It reads from outside.
    pub source: bool,
    /// It is a transactional sink: each of its tasks, finished or not, answers every `Committed`
    /// with a `SinkCommitted` of the same epoch once nothing is left to be made visible.
    pub sink: bool,
    /// The partitions that a source has now.
    pub partitions: Vec<String>,
    /// Partitions that turn up later are read too.
    pub discovers: bool,
}

/// What the output of an app may be after failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guarantee {
    /// What some run without failures would have put out.
    #[default]
    ExactlyOnce,
    /// Nothing is missing, something may be repeated.
    AtLeastOnce,
    /// Nothing is repeated, something may be missing.
    AtMostOnce,
}
