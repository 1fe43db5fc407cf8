//! What REST says and hears, as JSON.
//!
//! Numbers of nodes are drawn from 64 bits, which not every reader of JSON can hold, so they are
//! text. Times are seconds, sizes bytes, moments of events RFC 3339.

mod apps;
mod cluster;
mod figures;
mod input;

pub use apps::{
    AppDetail, AppErrors, AppFailure, AppState, AppSummary, Dag, ExecutorInfo, LogEnd, Logs,
    PlacedProcess, QuarantineDropped, QuarantineReplayed, QuarantineSummary, QuarantinedObject,
    SavepointInfo, Spec,
};
pub(crate) use cluster::voters as cluster_voters;
pub use cluster::{
    ClusterInfo, Done, NodeEntry, Ready, ResourcesInfo, Version, Voter, Voters, Whoami, WorkerInfo,
};
pub use figures::{
    AppLive, Audit, ClockHolder, EpochInfo, LinkInfo, OpenEpoch, ProcessorInfo, RegionInfo,
    TaskInfo,
};
pub use input::{
    Event, LogsQuery, MetricFamily, MetricSample, MetricsQuery, ProbeSeen, RecordsQuery,
    SavepointRequest, SavepointTaken, SubmitRequest, Submitted, VotersRequest,
};

use gear_core::control::{Address, ProcessState};
use gear_core::id::NodeId;
use gear_core::time::{Duration, EventTime};

/// A node's number as REST writes it.
#[must_use]
pub fn node_text(node: NodeId) -> String {
    node.0.to_string()
}

/// A node's number as REST reads it.
#[must_use]
pub fn node_number(text: &str) -> Option<NodeId> {
    text.parse().ok().map(NodeId)
}

pub(crate) fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// A moment of the events' time; none before the first and after the last.
pub(crate) fn moment(time: EventTime) -> Option<i64> {
    (time != EventTime::MIN && time != EventTime::MAX).then_some(time.0)
}

/// The word for a process's state, and what there is to say about it.
pub(crate) fn process_state(state: &ProcessState) -> (&'static str, Option<String>) {
    match state {
        ProcessState::Starting => ("starting", None),
        ProcessState::Running { address: Address(address) } => ("running", Some(address.clone())),
        ProcessState::Exited { reason } => ("exited", Some(reason.clone())),
    }
}
