//! The cluster, its nodes and workers, and moving work away from one.

use axum::Json;
use axum::extract::{Path, State};
use gear_core::control::Request;
use gear_core::id::NodeId;

use super::errors::Problem;
use super::types::{
    ClusterInfo, Done, NodeEntry, ResourcesInfo, WorkerInfo, node_number, node_text,
};
use super::{Api, types};

pub(super) const TAG: &str = "cluster";

impl Api {
    /// The cluster in numbers.
    pub(super) async fn cluster_info(&self) -> Result<ClusterInfo, Problem> {
        let status = self.cluster().await?;
        let here = self.backend().here();
        let alive = || status.workers.values().filter(|it| it.alive || status.stale);
        let sum = |of: fn(&gear_core::control::WorkerStatus) -> gear_core::control::Resources| {
            alive().map(of).fold(ResourcesInfo::default(), |sum, it| ResourcesInfo {
                slots: sum.slots.saturating_add(it.slots),
                memory_bytes: sum.memory_bytes.saturating_add(it.memory),
            })
        };
        Ok(ClusterInfo {
            cluster: here.cluster.map(|it| format!("{it:016x}")).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").into(),
            node: node_text(here.node),
            leader: status.leader.map(node_text),
            term: status.term.0,
            stale: status.stale,
            voters: types::cluster_voters(&status),
            updates: status.updates,
            nodes: self.backend().nodes().len(),
            workers: alive().count(),
            capacity: sum(|it| it.capacity),
            used: sum(|it| it.used),
            uptime_seconds: here.started.elapsed().unwrap_or_default().as_secs_f64(),
            warning: here.warning.map(Into::into),
        })
    }

    pub(super) async fn node_entries(&self) -> Result<Vec<NodeEntry>, Problem> {
        let status = self.cluster().await?;
        Ok(NodeEntry::all(&self.backend().nodes(), &status))
    }

    /// A node by its number, or by where it listens or serves.
    pub(super) async fn node_entry(&self, name: &str) -> Result<NodeEntry, Problem> {
        let entries = self.node_entries().await?;
        let is_it = |it: &NodeEntry| it.node == name || it.listen == name || it.http == name;
        entries.into_iter().find(is_it).ok_or_else(|| {
            Problem::not_found(format!("there is no node `{name}`: `gear-node nodes` lists them"))
        })
    }
}

/// The masters, and the cluster in numbers.
#[utoipa::path(get, path = "/cluster", tag = TAG, responses(
    (status = 200, body = ClusterInfo), (status = "default", body = Problem)))]
pub(super) async fn get(State(api): State<Api>) -> Result<Json<ClusterInfo>, Problem> {
    api.cluster_info().await.map(Json)
}

/// Every node that gossip or the masters know.
#[utoipa::path(get, path = "/nodes", tag = TAG, responses(
    (status = 200, body = Vec<NodeEntry>), (status = "default", body = Problem)))]
pub(super) async fn nodes(State(api): State<Api>) -> Result<Json<Vec<NodeEntry>>, Problem> {
    api.node_entries().await.map(Json)
}

/// A node, by its number or an address of it.
#[utoipa::path(get, path = "/nodes/{node}", tag = TAG, params(("node" = String, Path)), responses(
    (status = 200, body = NodeEntry), (status = "default", body = Problem)))]
pub(super) async fn node(
    State(api): State<Api>,
    Path(node): Path<String>,
) -> Result<Json<NodeEntry>, Problem> {
    api.node_entry(&node).await.map(Json)
}

/// The workers that the masters know.
#[utoipa::path(get, path = "/workers", tag = TAG, responses(
    (status = 200, body = Vec<WorkerInfo>), (status = "default", body = Problem)))]
pub(super) async fn workers(State(api): State<Api>) -> Result<Json<Vec<WorkerInfo>>, Problem> {
    let status = api.cluster().await?;
    let worker = |(&node, worker)| WorkerInfo::new(node, worker);
    Ok(Json(status.workers.iter().map(worker).collect()))
}

/// The worker of a node.
#[utoipa::path(get, path = "/workers/{node}", tag = TAG, params(("node" = String, Path)),
    responses((status = 200, body = WorkerInfo), (status = "default", body = Problem)))]
pub(super) async fn worker(
    State(api): State<Api>,
    Path(node): Path<String>,
) -> Result<Json<WorkerInfo>, Problem> {
    let found = api.node_entry(&node).await?.worker;
    found.map(Json).ok_or_else(|| {
        Problem::not_found(format!("the masters have not heard of a worker on node {node}"))
    })
}

async fn drains(api: &Api, node: &str, drains: bool) -> Result<NodeId, Problem> {
    let entry = api.node_entry(node).await?;
    let node = node_number(&entry.node).expect("an entry has a node's number");
    api.have_done(Request::Drain { node, drains }).await?;
    Ok(node)
}

/// Moves everything away from a node, and gives it nothing new.
#[utoipa::path(post, path = "/nodes/{node}/drain", tag = TAG, params(("node" = String, Path)),
    responses((status = 200, body = Done), (status = "default", body = Problem)))]
pub(super) async fn drain(
    State(api): State<Api>,
    Path(node): Path<String>,
) -> Result<Json<Done>, Problem> {
    let node = drains(&api, &node, true).await?;
    let done = format!("{node} gets nothing new, and what runs there moves away");
    Ok(Json(Done { done }))
}

/// Lets a node have work again.
#[utoipa::path(post, path = "/nodes/{node}/undrain", tag = TAG, params(("node" = String, Path)),
    responses((status = 200, body = Done), (status = "default", body = Problem)))]
pub(super) async fn undrain(
    State(api): State<Api>,
    Path(node): Path<String>,
) -> Result<Json<Done>, Problem> {
    let node = drains(&api, &node, false).await?;
    Ok(Json(Done { done: format!("{node} may have work again") }))
}
