//! Apps, their processes, and what they leave behind.

use std::collections::BTreeMap;

use gear_core::control::{
    AppOutcome, AppSpec, AppStatus, Grant, ProcessId, ProcessState, Role, Wish,
};
use gear_core::id::NodeId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AppLive, ProcessorInfo, ResourcesInfo, TaskInfo, node_text, process_state};
use crate::security::hex;

/// How an app is doing, in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AppState {
    /// Its processes have no place, or fewer than it wants.
    #[default]
    Waiting,
    /// It runs.
    Running,
    /// It stops with one last epoch.
    Stopping,
    /// It is being ended at once.
    Killing,
    /// All its input was worked off.
    Finished,
    /// It was stopped.
    Stopped,
    /// It was killed.
    Killed,
    /// It could not go on.
    Failed,
}

impl AppState {
    /// True if nothing more happens with it.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Stopped | Self::Killed | Self::Failed)
    }

    pub(crate) fn of(status: &AppStatus) -> Self {
        match (&status.outcome, status.wish) {
            (Some(AppOutcome::Finished), _) => Self::Finished,
            (Some(AppOutcome::Stopped), _) => Self::Stopped,
            (Some(AppOutcome::Killed), _) => Self::Killed,
            (Some(AppOutcome::Failed { .. }), _) => Self::Failed,
            (None, Wish::Stop) => Self::Stopping,
            (None, Wish::Kill) => Self::Killing,
            (None, Wish::Run) => {
                let runs = |grant: &Grant| matches!(grant.state, ProcessState::Running { .. });
                let all = status.app_master.iter().chain(status.executors.values());
                let running = all.filter(|grant| runs(grant)).count() as u64;
                if running == u64::from(status.spec.executors) + 1 {
                    Self::Running
                } else {
                    Self::Waiting
                }
            }
        }
    }
}

impl std::fmt::Display for AppState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Killing => "killing",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::Failed => "failed",
        })
    }
}

/// An app, in a row of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppSummary {
    /// Its number.
    pub app: u64,
    /// Its name.
    pub name: String,
    /// How it is doing.
    pub state: AppState,
    /// Why it waits or has failed; empty if there is nothing to say.
    pub reason: String,
    /// The last committed epoch; 0 if none.
    pub committed: u64,
    /// Executors that run.
    pub executors_running: u32,
    /// Executors that it wants.
    pub executors: u32,
    /// App masters and executors that took the place of others.
    pub restarts: u64,
    /// Who goes first when there is not enough for all: the higher.
    pub priority: i32,
}

impl From<&AppStatus> for AppSummary {
    fn from(of: &AppStatus) -> Self {
        let runs = |grant: &&Grant| matches!(grant.state, ProcessState::Running { .. });
        let running = of.executors.values().filter(runs).count();
        Self {
            app: of.app.0,
            name: of.name.clone(),
            state: AppState::of(of),
            reason: match &of.outcome {
                Some(AppOutcome::Failed { reason }) => reason.clone(),
                Some(_) => String::new(),
                None => of.waiting.clone(),
            },
            committed: of.committed.0,
            executors_running: u32::try_from(running).unwrap_or(u32::MAX),
            executors: of.spec.executors,
            restarts: of.restarts,
            priority: of.spec.priority,
        }
    }
}

/// What was submitted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Spec {
    /// SHA-256 of the binary, in hexadecimal digits.
    pub binary: String,
    /// The job's arguments, resolved at submission.
    pub arguments: Vec<String>,
    /// Executors that the app wants.
    pub executors: u32,
    /// What each executor takes.
    pub executor: ResourcesInfo,
    /// What the app master takes.
    pub app_master: ResourcesInfo,
    /// Labels that a worker must have.
    pub labels: BTreeMap<String, String>,
    /// How its processes are placed.
    pub strategy: String,
    /// Who goes first when there is not enough for all: the higher.
    pub priority: i32,
    /// Its folder in the checkpoint store.
    pub state: String,
    /// The savepoint from which it began, as a folder of the checkpoint store.
    pub from: Option<String>,
}

impl From<&AppSpec> for Spec {
    fn from(of: &AppSpec) -> Self {
        Self {
            binary: hex(&of.binary),
            arguments: of.arguments.clone(),
            executors: of.executors,
            executor: of.executor.into(),
            app_master: of.app_master.into(),
            labels: of.labels.clone(),
            strategy: of.strategy.clone(),
            priority: of.priority,
            state: of.state.clone(),
            from: of.from.clone(),
        }
    }
}

/// A process and its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlacedProcess {
    /// The app.
    pub app: u64,
    /// The number of the executor; none for the app master.
    pub executor: Option<u32>,
    /// The term, if it is the app master.
    pub term: Option<u64>,
    /// Its node.
    pub node: String,
    /// `starting`, `running` or `exited`.
    pub state: String,
    /// Where it listens, or why it has exited.
    pub detail: Option<String>,
}

impl PlacedProcess {
    pub(crate) fn new(process: &ProcessId, node: NodeId, state: &ProcessState) -> Self {
        let (executor, term) = match process.role {
            Role::AppMaster(term) => (None, Some(term.0)),
            Role::Executor(executor) => (Some(executor.0), None),
        };
        let (state, detail) = process_state(state);
        let (node, state) = (node_text(node), state.into());
        Self { app: process.app.0, executor, term, node, state, detail }
    }

    fn of(status: &AppStatus, role: Role, grant: &Grant) -> Self {
        Self::new(&ProcessId { app: status.app, role }, grant.worker, &grant.state)
    }

    /// The processes of an app: its app master first.
    pub(crate) fn of_app(status: &AppStatus) -> Vec<Self> {
        let master = status.app_master.iter();
        let master = master.map(|grant| Self::of(status, Role::AppMaster(status.term), grant));
        let executors = status.executors.iter();
        let executors = executors.map(|(&id, grant)| Self::of(status, Role::Executor(id), grant));
        master.chain(executors).collect()
    }
}

/// Everything about an app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AppDetail {
    /// In short.
    pub summary: AppSummary,
    /// The term of its app master.
    pub term: u64,
    /// What was submitted.
    pub spec: Spec,
    /// Its processes, the app master first; none once it has ended.
    pub processes: Vec<PlacedProcess>,
    /// What its app master says of it; none if it could not be asked, or the app has ended.
    pub live: Option<AppLive>,
    /// Why it could not be asked.
    pub live_missing: Option<String>,
}

/// An executor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExecutorInfo {
    /// The process and its place.
    pub process: PlacedProcess,
    /// Its tasks, as its app master last heard of them.
    pub tasks: Vec<TaskInfo>,
}

/// The graph of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dag {
    /// The processors, in the order of the graph; empty until the app master knows them.
    pub processors: Vec<ProcessorInfo>,
    /// The graph as people read it.
    pub text: String,
    /// The graph for Graphviz.
    pub dot: String,
}

/// What has failed in an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppErrors {
    /// Why the app has failed; none if it has not.
    pub outcome: Option<String>,
    /// Why it waits; none if it does not.
    pub waiting: Option<String>,
    /// Processes that have exited and are not replaced yet.
    pub failures: Vec<AppFailure>,
}

/// A process that has exited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppFailure {
    /// The process.
    pub process: PlacedProcess,
    /// Why it has exited.
    pub reason: String,
}

/// A savepoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SavepointInfo {
    /// Its name.
    pub name: String,
    /// Its folder in the checkpoint store, as `submit --from` takes it.
    pub from: String,
    /// Its objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What was put aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuarantineSummary {
    /// Records in committed epochs, as far as they were counted.
    pub records: u64,
    /// True if there are more objects than are looked into.
    pub cut: bool,
    /// The objects, the oldest epoch of each task first.
    pub objects: Vec<QuarantinedObject>,
}

/// What was forgotten of what was put aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuarantineDropped {
    /// Records that are gone.
    pub records: u64,
    /// Objects that held them.
    pub objects: u64,
    /// True if there are more objects than are dropped at once.
    pub cut: bool,
}

impl From<gear_core::app::Left> for QuarantineDropped {
    fn from(left: gear_core::app::Left) -> Self {
        Self { records: left.dropped, objects: left.objects, cut: left.more }
    }
}

/// What became of the records that were put aside and were to be given again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuarantineReplayed {
    /// Records that their operators have taken: they are no longer put aside.
    pub replayed: u64,
    /// Records that were refused again, and are put aside with the new error.
    pub refused: u64,
    /// Records that stay as they were.
    pub kept: u64,
    /// Why they stay, each reason with how many.
    pub reasons: BTreeMap<String, u64>,
    /// The epoch with which the last of them left; none if nothing did.
    pub epoch: Option<u64>,
    /// True if there are more objects than are given again at once.
    pub cut: bool,
}

impl From<gear_core::app::Left> for QuarantineReplayed {
    fn from(left: gear_core::app::Left) -> Self {
        let counts = left.counts;
        let reasons = [
            ("they were too long to be kept whole", counts.cut),
            ("their operator reads another type of records now", counts.changed),
            ("the job no longer has their operator there", counts.missing),
            ("their keys belong to another task since the parallelism changed", counts.elsewhere),
            ("the source could not read them: they never were records", counts.unread),
            ("their task has ended", counts.ended),
            ("their object cannot be read: how many it holds is unknown", counts.damaged),
        ];
        let reasons = reasons.into_iter().filter(|(_, count)| *count > 0);
        Self {
            replayed: counts.replayed,
            refused: counts.refused,
            kept: counts.kept(),
            reasons: reasons.map(|(why, count)| (why.to_owned(), count)).collect(),
            epoch: left.epoch.map(|epoch| epoch.0),
            cut: left.more,
        }
    }
}

/// Records that a task put aside in an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuarantinedObject {
    /// The object in the app's folder of the checkpoint store.
    pub object: String,
    /// The epoch.
    pub epoch: u64,
    /// Its records.
    pub records: u64,
}

/// The ends of an app's logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Logs {
    /// One a process and node.
    pub logs: Vec<LogEnd>,
    /// Nodes that did not answer, and why.
    pub missing: Vec<String>,
}

/// The end of a process's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogEnd {
    /// The node that has it.
    pub node: String,
    /// The process.
    pub process: String,
    /// The text; what is no UTF-8 is replaced.
    pub text: String,
    /// True if there is more before it.
    pub cut: bool,
}
