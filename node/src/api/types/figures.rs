//! What an app master tells of its app.

use std::collections::BTreeMap;

use gear_core::control::Peer;
use gear_core::host::figures::{
    AppFigures, AuditFigures, LinkFigures, ProcessFigures, ProcessorFigures, ProcessorKind,
    RegionState, TaskFigures,
};
use gear_core::id::{ExecutorId, TaskId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{moment, seconds};

/// How an app is doing, as its app master sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AppLive {
    /// The term of the app master.
    pub term: u64,
    /// What it is at.
    pub stage: String,
    /// The epoch it went on from; 0 at a fresh start.
    pub recovered: u64,
    /// The last committed epoch; 0 if none.
    pub committed: u64,
    /// Epochs that have been started and are not committed.
    pub in_flight: u64,
    /// The oldest of them.
    pub open: Option<OpenEpoch>,
    /// The last epochs that were committed, the oldest first.
    pub epochs: Vec<EpochInfo>,
    /// Records that all sources have read, as of their last snapshots.
    pub records: u64,
    /// Records that were put aside, as of the tasks' last snapshots.
    pub quarantined: u64,
    /// How often tasks were taken back to the last committed epoch.
    pub recoveries: u64,
    /// Tasks that go back together.
    pub regions: Vec<RegionInfo>,
    /// The lowest clock, and whose it is.
    pub min_clock: Option<ClockHolder>,
    /// The processors, in the order of the graph.
    pub processors: Vec<ProcessorInfo>,
    /// The tasks.
    pub tasks: Vec<TaskInfo>,
    /// The links between its processes.
    pub links: Vec<LinkInfo>,
    /// What was found by comparing what was sent and what came.
    pub audit: Audit,
}

/// An epoch that is not committed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OpenEpoch {
    /// The epoch.
    pub epoch: u64,
    /// Seconds since it was started.
    pub age_seconds: f64,
    /// The tasks that have not reported; none if it is being written.
    pub waiting: Vec<String>,
}

/// An epoch that was committed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EpochInfo {
    /// The epoch.
    pub epoch: u64,
    /// Seconds from its start to its commit.
    pub duration_seconds: f64,
    /// Bytes that were stored for it.
    pub bytes: u64,
}

/// Tasks that go back together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegionInfo {
    /// The tasks.
    pub tasks: Vec<String>,
    /// `down`, `deploying` or `running`.
    pub state: String,
    /// How often in a row one of its tasks has failed.
    pub failures: u32,
}

/// Whose clock holds all the others back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClockHolder {
    /// The task.
    pub task: String,
    /// Its processor.
    pub processor: String,
    /// Microseconds since 1970; none before its first event.
    pub event_time_us: Option<i64>,
}

/// A processor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProcessorInfo {
    /// Its place in the graph.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// How many tasks it has.
    pub parallelism: u32,
    /// `source`, `operator` or `sink`.
    pub kind: String,
}

/// A task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskInfo {
    /// The task.
    pub task: String,
    /// The name of its processor.
    pub processor: String,
    /// Its place among the processor's tasks.
    pub index: u32,
    /// Where it runs.
    pub executor: u32,
    /// Records that it took or read, in this attempt, as everything that is counted here.
    pub records_in: u64,
    /// Records that it sent.
    pub records_out: u64,
    /// Bytes that it took or read.
    pub bytes_in: u64,
    /// Bytes that it sent.
    pub bytes_out: u64,
    /// Records that it put aside.
    pub quarantined: u64,
    /// Records that came too late for their window.
    pub late: u64,
    /// Bytes that wait at its inputs.
    pub queue_bytes: u64,
    /// Bytes that it may send at once, over the channel that has least.
    pub credit_bytes: Option<u64>,
    /// Seconds in which it could do nothing because what it sends to took nothing.
    pub blocked_seconds: f64,
    /// Bytes of a sink's output that are not yet visible.
    pub output_bytes: u64,
    /// Seconds since the oldest epoch was committed whose output is not yet visible.
    pub output_age_seconds: f64,
    /// Its clock, in microseconds since 1970; none before its first event and after its last.
    pub watermark_us: Option<i64>,
    /// Bytes of its state.
    pub state_bytes: u64,
    /// The last epoch of which it has taken a snapshot.
    pub epoch: u64,
    /// Seconds that this took.
    pub snapshot_seconds: f64,
    /// Bytes that it stored for it.
    pub snapshot_bytes: u64,
    /// True if it has ended.
    pub ended: bool,
    /// True if it reads from outside.
    pub is_source: bool,
}

impl TaskInfo {
    fn new(task: TaskId, executor: ExecutorId, of: &TaskFigures) -> Self {
        Self {
            task: task.to_string(),
            processor: of.uid.clone(),
            index: task.index,
            executor: executor.0,
            records_in: of.records_in,
            records_out: of.records_out,
            bytes_in: of.bytes_in,
            bytes_out: of.bytes_out,
            quarantined: of.quarantined,
            late: of.late,
            queue_bytes: of.queue_bytes,
            credit_bytes: of.credit_bytes,
            blocked_seconds: seconds(of.blocked),
            output_bytes: of.output_bytes,
            output_age_seconds: seconds(of.output_age),
            watermark_us: moment(of.watermark),
            state_bytes: of.state_bytes,
            epoch: of.epoch.0,
            snapshot_seconds: seconds(of.snapshot),
            snapshot_bytes: of.snapshot_bytes,
            ended: of.ended,
            is_source: of.is_source,
        }
    }

    pub(crate) fn of_executor(executor: ExecutorId, of: &ProcessFigures) -> Vec<Self> {
        of.tasks.iter().map(|(&task, figures)| Self::new(task, executor, figures)).collect()
    }
}

/// A link, as one of its ends sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkInfo {
    /// Who sees it so.
    pub process: String,
    /// The other end.
    pub peer: String,
    /// Connections after the first.
    pub reconnects: u64,
    /// Bytes that were written to it.
    pub bytes_out: u64,
    /// Bytes that came over it.
    pub bytes_in: u64,
    /// What was found by comparing what was sent and what came.
    pub audit: Audit,
}

/// What was found by comparing what was sent and what came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Audit {
    /// Comparisons of a channel in an epoch.
    pub checked: u64,
    /// Frames and messages before which some were missing, and comparisons that found something
    /// else than was sent.
    pub gaps: u64,
    /// Frames and messages that came twice and were dropped.
    pub duplicates: u64,
}

impl From<AuditFigures> for Audit {
    fn from(of: AuditFigures) -> Self {
        Self { checked: of.checked, gaps: of.gaps, duplicates: of.duplicates }
    }
}

/// The other end of a link, in a word.
pub(crate) fn peer_name(peer: &Peer) -> String {
    match peer {
        Peer::Node(node) => node.to_string(),
        Peer::AppMaster(..) => "app master".into(),
        Peer::Executor(_, executor) => executor.to_string(),
        Peer::Client(_) => "client".into(),
    }
}

/// What a processor does in the graph, in a word.
pub(crate) const fn kind_name(kind: ProcessorKind) -> &'static str {
    match kind {
        ProcessorKind::Source => "source",
        ProcessorKind::Operator => "operator",
        ProcessorKind::Sink => "sink",
    }
}

fn links(process: &str, of: &BTreeMap<Peer, LinkFigures>) -> Vec<LinkInfo> {
    let link = |(peer, figures): (&Peer, &LinkFigures)| LinkInfo {
        process: process.into(),
        peer: peer_name(peer),
        reconnects: figures.reconnects,
        bytes_out: figures.bytes_out,
        bytes_in: figures.bytes_in,
        audit: figures.audit.into(),
    };
    of.iter().map(link).collect()
}

impl From<&AppFigures> for AppLive {
    fn from(of: &AppFigures) -> Self {
        let name = |task: TaskId| {
            let processor = of.processors.iter().find(|it| it.id == task.processor);
            processor.map(|it| it.uid.clone()).unwrap_or_default()
        };
        let texts =
            |tasks: &mut dyn Iterator<Item = &TaskId>| tasks.map(TaskId::to_string).collect();
        let mut all_links = links("app master", &of.links);
        for (executor, figures) in &of.executors {
            all_links.extend(links(&executor.to_string(), &figures.links));
        }
        let tasks = of.executors.iter().flat_map(|(&id, it)| TaskInfo::of_executor(id, it));
        let mut tasks: Vec<_> = tasks.collect();
        // A task that moved is told of by both executors for a while: the later one has it.
        let runs_at = |it: &TaskInfo| {
            let of = of.placement.iter().find(|(task, _)| task.to_string() == it.task);
            of.is_none_or(|(_, executor)| executor.0 == it.executor)
        };
        tasks.retain(runs_at);
        Self {
            term: of.term.0,
            stage: format!("{:?}", of.stage).to_lowercase(),
            recovered: of.recovered.0,
            committed: of.committed.0,
            in_flight: of.in_flight,
            open: of.open.as_ref().map(|open| OpenEpoch {
                epoch: open.epoch.0,
                age_seconds: seconds(open.age),
                waiting: texts(&mut open.waiting.iter()),
            }),
            epochs: of.epochs.iter().map(epoch).collect(),
            records: of.records,
            quarantined: of.quarantined,
            recoveries: of.recoveries,
            regions: of
                .regions
                .iter()
                .map(|region| RegionInfo {
                    tasks: texts(&mut region.tasks.iter()),
                    state: region_name(region.state).into(),
                    failures: region.failures,
                })
                .collect(),
            min_clock: of.min_clock.map(|(time, task)| ClockHolder {
                task: task.to_string(),
                processor: name(task),
                event_time_us: moment(time),
            }),
            processors: of.processors.iter().map(ProcessorInfo::from).collect(),
            tasks,
            links: all_links,
            audit: of.audit.into(),
        }
    }
}

fn epoch(of: &gear_core::host::figures::EpochFigures) -> EpochInfo {
    EpochInfo { epoch: of.epoch.0, duration_seconds: seconds(of.duration), bytes: of.bytes }
}

const fn region_name(state: RegionState) -> &'static str {
    match state {
        RegionState::Down => "down",
        RegionState::Deploying => "deploying",
        RegionState::Running => "running",
    }
}

impl From<&ProcessorFigures> for ProcessorInfo {
    fn from(of: &ProcessorFigures) -> Self {
        Self {
            id: of.id.0,
            name: of.uid.clone(),
            parallelism: of.parallelism,
            kind: kind_name(of.kind).into(),
        }
    }
}
