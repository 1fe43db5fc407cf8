//! What callers send, and what they get for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{AppSummary, ClusterInfo, NodeEntry, Voter};

/// A job to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitRequest {
    /// SHA-256 of the binary, in hexadecimal digits: it was uploaded before.
    pub binary: String,
    /// What the job's command line is given.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// The name of the app; the job's own if there is none.
    #[serde(default)]
    pub name: Option<String>,
    /// Executors; as many as the job's parallelism if there is none, if there are slots.
    #[serde(default)]
    pub executors: Option<u32>,
    /// Slots that each executor takes; 1 if there is none.
    #[serde(default)]
    pub slots: Option<u32>,
    /// Bytes of memory that each executor takes; a slot's share of its worker's if there is none.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Labels that a worker must have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How the processes are placed; `spread` if there is none.
    #[serde(default)]
    pub strategy: Option<String>,
    /// Who goes first when there is not enough for all: the higher.
    #[serde(default)]
    pub priority: i32,
    /// The savepoint from which the app begins, as its list calls it.
    #[serde(default)]
    pub from: Option<String>,
}

/// The app is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    /// Its number.
    pub app: u64,
    /// Its name.
    pub name: String,
    /// The job's arguments as they were resolved.
    pub arguments: Vec<String>,
    /// The graph as people read it.
    pub graph: String,
}

/// Whether a node finds what another one has left in the checkpoint store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProbeSeen {
    /// True if it does.
    pub found: bool,
}

/// A savepoint to be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SavepointRequest {
    /// Its name: letters, digits and any of -_.
    pub name: String,
}

/// A savepoint was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SavepointTaken {
    /// Its name.
    pub name: String,
    /// The epoch of which it is a copy.
    pub epoch: u64,
    /// Its folder in the checkpoint store, as `submit --from` takes it.
    pub from: String,
}

/// Who is to vote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VotersRequest {
    /// All who vote from then on; at most one joins or leaves at a time.
    pub voters: Vec<Voter>,
}

/// How much of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogsQuery {
    /// Bytes of each log's end; 16 KiB if there is none, at most 1 MiB.
    #[serde(default)]
    pub bytes: Option<u64>,
}

/// Which of the records that were put aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RecordsQuery {
    /// Only those of this object.
    #[serde(default)]
    pub object: Option<String>,
}

/// Which metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MetricsQuery {
    /// Their names, with `*` for any letters and `?` for one; all if there is none.
    #[serde(default)]
    pub name: Option<String>,
    /// Only of this app.
    #[serde(default)]
    pub app: Option<u64>,
    /// Only of this processor.
    #[serde(default)]
    pub processor: Option<String>,
    /// Adds up what differs in other labels than these, by a comma.
    #[serde(default)]
    pub by: Option<String>,
}

/// The samples of a metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricFamily {
    /// Its name.
    pub name: String,
    /// What it says.
    pub help: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// The samples.
    pub samples: Vec<MetricSample>,
}

/// A sample of a metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricSample {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value; of a histogram the sum of all that was observed.
    pub value: f64,
    /// How many were observed, if it is a histogram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// What `/api/v1/events` sends, each time that it has changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The masters.
    Cluster(ClusterInfo),
    /// The nodes.
    Nodes(Vec<NodeEntry>),
    /// The apps.
    Apps(Vec<AppSummary>),
}
