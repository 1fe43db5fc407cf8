//! Commands about nodes.

use clap::Args;
use serde_json::json;

use super::CliError;
use super::output::{Output, bytes, table, warning};
use crate::api::types::{Done, NodeEntry, Voter, Voters as Voting, VotersRequest};
use crate::client::Client;

/// Every node.
#[derive(Args, Debug)]
pub(super) struct Nodes {}

/// Who votes.
#[derive(Args, Debug)]
pub(super) struct Voters {
    /// All who vote from then on, by the numbers of their nodes; at most one may join or leave
    #[arg(long, value_name = "NODE[@HOST:PORT]", value_delimiter = ',')]
    set: Vec<String>,

    /// Have the master of this node vote again, whose data folder is lost: it begins a new one
    #[arg(long, value_name = "NODE", conflicts_with = "set")]
    readmit: Option<String>,
}

/// Takes work away from a node.
#[derive(Args, Debug)]
pub(super) struct Drain {
    /// Number of the node, or an address of it
    node: String,
}

/// Gives a node work again.
#[derive(Args, Debug)]
pub(super) struct Undrain {
    /// Number of the node, or an address of it
    node: String,
}

pub(super) async fn list(client: &Client, mut out: Output<'_>) -> Result<(), CliError> {
    let nodes: Vec<NodeEntry> = client.get("/api/v1/nodes").await?;
    let warning = if out.json { String::new() } else { warning(client).await };
    out.show(&nodes, || warning + &rows(&nodes))
}

pub(super) fn rows(nodes: &[NodeEntry]) -> String {
    let row = |node: &NodeEntry| {
        let master = match (node.leads, node.votes) {
            (true, _) => "leads",
            (false, true) => "votes",
            (false, false) => "",
        };
        let worker = match &node.worker {
            None => "",
            Some(it) if it.drains && it.processes.is_empty() => "drained",
            Some(it) if it.drains => "drains",
            Some(it) if it.alive => "works",
            Some(_) => "lost",
        };
        let (slots, memory) = match &node.worker {
            Some(it) => (
                format!("{}/{}", it.used.slots, it.capacity.slots),
                format!("{}/{}", bytes(it.used.memory_bytes), bytes(it.capacity.memory_bytes)),
            ),
            None => Default::default(),
        };
        vec![
            node.node.clone(),
            node.listen.clone(),
            node.http.clone(),
            if node.suspected { "suspected" } else { "heard" }.into(),
            master.into(),
            worker.into(),
            slots,
            memory,
            node.load.map(|load| format!("{:.0} %", load * 100.0)).unwrap_or_default(),
            node.version.clone(),
        ]
    };
    let head = [
        "NODE#", "LISTENS", "REST", "STATE", "MASTER", "WORKER", "SLOTS#", "MEMORY#", "LOAD#",
        "VERSION",
    ];
    table(&head, nodes.iter().map(row))
}

pub(super) async fn voters(
    client: &Client,
    what: &Voters,
    mut out: Output<'_>,
) -> Result<(), CliError> {
    if !what.set.is_empty() {
        let voter = |text: &String| {
            let (node, address) = text.split_once('@').unwrap_or((text, ""));
            Voter { node: node.into(), address: address.into(), leads: false }
        };
        let request = VotersRequest { voters: what.set.iter().map(voter).collect() };
        let done: Done = client.put("/api/v1/voters", &request).await?;
        return out.show(&done, || done.done.clone());
    }
    if let Some(node) = &what.readmit {
        let done: Done = client.post(&format!("/api/v1/nodes/{node}/readmit"), &json!({})).await?;
        return out.show(&done, || done.done.clone());
    }
    let voting: Voting = client.get("/api/v1/voters").await?;
    let row = |it: &Voter| {
        let leads = if it.leads { "leads" } else { "" };
        vec![it.node.clone(), it.address.clone(), leads.into()]
    };
    out.show(&voting, || table(&["NODE#", "LISTENS", "MASTER"], voting.voters.iter().map(row)))
}

pub(super) async fn drain(
    client: &Client,
    what: &Drain,
    mut out: Output<'_>,
) -> Result<(), CliError> {
    let done: Done = client.post(&format!("/api/v1/nodes/{}/drain", what.node), &json!({})).await?;
    out.show(&done, || format!("{}; `gear-node nodes` says when it is drained", done.done))
}

pub(super) async fn undrain(
    client: &Client,
    what: &Undrain,
    mut out: Output<'_>,
) -> Result<(), CliError> {
    let done: Done =
        client.post(&format!("/api/v1/nodes/{}/undrain", what.node), &json!({})).await?;
    out.show(&done, || done.done.clone())
}
