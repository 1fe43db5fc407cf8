//! The cluster, its nodes and their workers.

use std::collections::BTreeMap;

use gear_core::control::{ClusterStatus, Resources, WorkerStatus};
use gear_core::id::NodeId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{PlacedProcess, node_text};
use crate::api::backend::KnownNode;
use crate::security::Role;

/// It was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// What was done, in words.
    pub done: String,
}

/// What serves here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// The version of the node.
    pub version: String,
}

/// As whom one has asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    /// The name of the token.
    pub name: String,
    /// What it allows.
    pub role: Role,
}

/// Whether the node can do its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// True if it can.
    pub ready: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The masters, and the cluster in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClusterInfo {
    /// The cluster's number.
    pub cluster: String,
    /// The version of the node that answers.
    pub version: String,
    /// The node that answers.
    pub node: String,
    /// The node whose master leads; none if nobody is known to.
    pub leader: Option<String>,
    /// The term of the masters.
    pub term: u64,
    /// True if the answer is not the leader's: it may be old.
    pub stale: bool,
    /// Who votes.
    pub voters: Vec<Voter>,
    /// Updates that a majority of the masters has on disk, in this term.
    pub updates: u64,
    /// Nodes that gossip knows.
    pub nodes: usize,
    /// Workers that the leader hears.
    pub workers: usize,
    /// What all workers have to give.
    pub capacity: ResourcesInfo,
    /// What is taken of it.
    pub used: ResourcesInfo,
    /// Seconds since the answering node started.
    pub uptime_seconds: f64,
    /// What everybody who looks should know; none if there is nothing.
    pub warning: Option<String>,
}

/// A master that votes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Voter {
    /// Its node.
    pub node: String,
    /// Where that listens.
    #[serde(default)]
    pub address: String,
    /// True if it leads.
    #[serde(default)]
    pub leads: bool,
}

/// Who votes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Voters {
    /// The masters.
    pub voters: Vec<Voter>,
    /// True if the answer is not the leader's: it may be old.
    pub stale: bool,
}

/// The voters as REST shows them.
pub(crate) fn voters(status: &ClusterStatus) -> Vec<Voter> {
    let voter = |(&node, address): (&NodeId, &gear_core::control::Address)| Voter {
        node: node_text(node),
        address: address.0.clone(),
        leads: status.leader == Some(node),
    };
    status.voters.iter().map(voter).collect()
}

/// Slots and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResourcesInfo {
    /// Shares of processors, one a thread of tasks.
    pub slots: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

impl From<Resources> for ResourcesInfo {
    fn from(of: Resources) -> Self {
        Self { slots: of.slots, memory_bytes: of.memory }
    }
}

/// What gossip knows of a node, and what the masters know of its worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeEntry {
    /// The node.
    pub node: String,
    /// Where it listens for links and control.
    pub listen: String,
    /// Where it serves REST.
    pub http: String,
    /// What it runs; empty if gossip does not know it.
    pub version: String,
    /// Share of its processors that is in use, from 0 to 1.
    pub load: Option<f64>,
    /// True if it has not been heard for a while.
    pub suspected: bool,
    /// True if its master votes.
    pub votes: bool,
    /// True if its master leads.
    pub leads: bool,
    /// Its worker; none if the masters have not heard of it.
    pub worker: Option<WorkerInfo>,
}

/// What the masters know of a worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerInfo {
    /// Its node.
    pub node: String,
    /// Where its node listens.
    pub address: String,
    /// True if the leader hears it.
    pub alive: bool,
    /// True if it is to have no work.
    pub drains: bool,
    /// What it has to give.
    pub capacity: ResourcesInfo,
    /// What is taken of it.
    pub used: ResourcesInfo,
    /// What its operator says of it.
    pub labels: BTreeMap<String, String>,
    /// Its processes.
    pub processes: Vec<PlacedProcess>,
}

impl WorkerInfo {
    pub(crate) fn new(node: NodeId, of: &WorkerStatus) -> Self {
        let process = |(process, state)| PlacedProcess::new(process, node, state);
        Self {
            node: node_text(node),
            address: of.address.0.clone(),
            alive: of.alive,
            drains: of.drains,
            capacity: of.capacity.into(),
            used: of.used.into(),
            labels: of.labels.clone(),
            processes: of.processes.iter().map(process).collect(),
        }
    }
}

impl NodeEntry {
    /// Every node that gossip or the masters know, by its number.
    pub(crate) fn all(known: &[KnownNode], status: &ClusterStatus) -> Vec<Self> {
        let mut all: BTreeMap<NodeId, Self> = BTreeMap::new();
        for node in known {
            let entry = Self {
                listen: node.listen.clone(),
                http: node.http.clone(),
                version: node.version.clone(),
                load: node.load,
                suspected: node.suspected,
                ..Self::default()
            };
            all.insert(node.node, entry);
        }
        // Whom gossip does not know is not heard, and is shown all the same.
        let unknown = |address: &gear_core::control::Address| Self {
            listen: address.0.clone(),
            suspected: true,
            ..Self::default()
        };
        for (&node, address) in &status.voters {
            all.entry(node).or_insert_with(|| unknown(address)).votes = true;
        }
        for (&node, worker) in &status.workers {
            let entry = all.entry(node).or_insert_with(|| unknown(&worker.address));
            entry.worker = Some(WorkerInfo::new(node, worker));
        }
        for (&node, entry) in &mut all {
            entry.node = node_text(node);
            entry.leads = status.leader == Some(node);
        }
        all.into_values().collect()
    }
}
