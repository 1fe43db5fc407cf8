//! The node itself and its view of the masters.

use gear_core::id::NodeId;

use super::families::Families;
use super::{Scrape, proc, since_epoch};
use crate::api::TurnedAway;

pub(super) fn collect(all: &mut Families, node: NodeId, scrape: &Scrape) {
    let version = env!("CARGO_PKG_VERSION");
    let help = "What runs here, as labels";
    all.gauge(("gear_build_info", help), &[("version", version)], 1.0);
    proc::collect_self(all);
    for suspected in [false, true] {
        let count = scrape.nodes.iter().filter(|it| it.suspected == suspected).count();
        let state = if suspected { "suspected" } else { "heard" };
        let what = ("gear_nodes", "Nodes of the cluster, by what gossip thinks of them");
        all.gauge(what, &[("state", state)], count as f64);
    }
    let help = "Connections that were closed before whoever dialled was let in";
    let TurnedAway { connections, datagrams } = scrape.turned_away;
    all.counter(("gear_connections_turned_away_total", help), &[], connections as f64);
    let help = "Datagrams of gossip that were dropped: of outsiders, damaged, or sent again";
    all.counter(("gear_gossip_datagrams_dropped_total", help), &[], datagrams as f64);
    if let Some(ends) = &scrape.certificates {
        let help = "When a certificate ends: the node's own, or the one of its authority";
        for (whose, end) in [("node", ends.node), ("authority", ends.authority)] {
            let what = ("gear_certificate_expiry_timestamp_seconds", help);
            all.gauge(what, &[("certificate", whose)], since_epoch(end));
        }
    }
    let Some(status) = &scrape.cluster else { return };
    let leads = f64::from(status.leader == Some(node));
    all.gauge(("gear_master_leads", "1 if the master of this node leads"), &[], leads);
    let has_leader = f64::from(status.leader.is_some());
    all.gauge(("gear_master_has_leader", "1 if a leader is known here"), &[], has_leader);
    let term = status.term.0 as f64;
    all.gauge(("gear_master_term", "The term of the masters, as known here"), &[], term);
    let voters = status.voters.len() as f64;
    all.gauge(("gear_master_voters", "Masters that vote"), &[], voters);
    // Once is enough: the leader knows it first, and the sum over the nodes is right.
    if status.leader == Some(node) {
        let help = "Updates that a majority of the masters has on disk, in this term";
        all.counter(("gear_master_replicated_updates_total", help), &[], status.updates as f64);
        let alive = status.workers.values().filter(|it| it.alive).count() as f64;
        all.gauge(("gear_workers_alive", "Workers that the leader hears"), &[], alive);
        let slots = |of: fn(&gear_core::control::WorkerStatus) -> u32| {
            status.workers.values().filter(|it| it.alive).map(|it| f64::from(of(it))).sum()
        };
        let capacity = slots(|it| it.capacity.slots);
        all.gauge(("gear_workers_slots", "Slots of all workers"), &[], capacity);
        let used = slots(|it| it.used.slots);
        all.gauge(("gear_workers_slots_used", "Slots that processes take"), &[], used);
    }
}
