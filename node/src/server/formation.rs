//! How a cluster begins: once, with a set of voters that is decided by one node and kept by all.
//!
//! The first node decides, writes it to its data folder, and only then tells others; they write it
//! before they act on it. So whoever dies when, there is one decision, and who comes back tells or
//! finds the same. Gossip carries it, and decides nothing.

use std::collections::BTreeMap;

use gear_core::control::Address;
use gear_core::id::NodeId;

use super::folder::Identity;
use crate::gossip::NodeInfo;

/// Who a node is that wants a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// The node.
    pub(crate) node: NodeId,
    /// Where it listens.
    pub(crate) listen: Address,
    /// It joins others, and begins no cluster of its own.
    pub(crate) joins: bool,
    /// Masters of the cluster that it begins.
    pub(crate) masters: u32,
}

/// What a node does next about its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing, until somebody else is heard.
    Wait {
        /// What for.
        reason: String,
    },
    /// Begin a cluster with these voters.
    Begin {
        /// The voters.
        voters: BTreeMap<NodeId, Address>,
    },
    /// Be part of this cluster.
    Belong {
        /// The cluster.
        cluster: u64,
        /// Its voters.
        voters: BTreeMap<NodeId, Address>,
    },
    /// There are two.
    Torn {
        /// One of them.
        one: u64,
        /// The other.
        other: u64,
    },
}

/// What a node does next, by what its folder says and what others tell.
pub(crate) fn step(me: &Candidate, identity: &Identity, heard: &[NodeInfo]) -> Step {
    if let Some(cluster) = identity.cluster
        && !identity.voters.is_empty()
    {
        return Step::Belong { cluster, voters: identity.voters.clone() };
    }
    let others = || heard.iter().filter(|it| it.node != me.node);
    let mut found: Option<(u64, &BTreeMap<NodeId, Address>)> = None;
    for node in others().filter(|it| !it.voters.is_empty()) {
        let Some(cluster) = node.cluster else { continue };
        match found {
            Some((other, _)) if other != cluster => {
                return Step::Torn { one: cluster.min(other), other: cluster.max(other) };
            }
            // Who names this node has told it to vote: that is never forgotten for another list.
            Some((_, voters)) if voters.contains_key(&me.node) => {}
            _ => found = Some((cluster, &node.voters)),
        }
    }
    // Also where this node was meant to begin one: there is a cluster already, so its folder was
    // emptied, and a second cluster would take the first one's nodes.
    if let Some((cluster, voters)) = found {
        return Step::Belong { cluster, voters: voters.clone() };
    }
    if me.joins {
        let reason = match others().count() {
            0 => "no node at the addresses of --join has answered yet".into(),
            _ => "the node that begins the cluster still waits for others".into(),
        };
        return Step::Wait { reason };
    }
    let ready = others().filter(|it| !it.suspected && it.cluster.is_none());
    let ready: BTreeMap<_, _> = ready.map(|it| (it.node, it.listen.clone())).collect();
    let wanted = me.masters as usize - 1;
    if ready.len() < wanted {
        let reason = format!(
            "{} of {} masters are there: start {} more with --join {}",
            ready.len() + 1,
            me.masters,
            wanted - ready.len(),
            me.listen
        );
        return Step::Wait { reason };
    }
    let mut voters: BTreeMap<_, _> = ready.into_iter().take(wanted).collect();
    voters.insert(me.node, me.listen.clone());
    Step::Begin { voters }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(node: u64) -> Address {
        Address(format!("host-{node}:7400"))
    }

    fn candidate(node: u64, joins: bool, masters: u32) -> Candidate {
        Candidate { node: NodeId(node), listen: at(node), joins, masters }
    }

    fn heard(node: u64, cluster: Option<u64>, voters: &[u64]) -> NodeInfo {
        let voters = voters.iter().map(|voter| (NodeId(*voter), at(*voter))).collect();
        NodeInfo { node: NodeId(node), listen: at(node), cluster, voters, ..NodeInfo::default() }
    }

    fn new(node: u64) -> Identity {
        Identity::new(NodeId(node))
    }

    fn begins(step: &Step) -> Vec<u64> {
        match step {
            Step::Begin { voters } => voters.keys().map(|node| node.0).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn one_master_begins_at_once_and_three_when_all_are_there() {
        assert_eq!(begins(&step(&candidate(1, false, 1), &new(1), &[])), [1]);
        let me = candidate(5, false, 3);
        let mut there = vec![heard(5, None, &[])];
        for other in [9, 2] {
            let Step::Wait { reason } = step(&me, &new(5), &there) else { panic!("too early") };
            assert!(reason.contains("--join host-5:7400"), "{reason}");
            there.push(heard(other, None, &[]));
        }
        assert_eq!(begins(&step(&me, &new(5), &there)), [2, 5, 9]);
        there.push(heard(1, None, &[]));
        assert_eq!(begins(&step(&me, &new(5), &there)).len(), 3, "a fourth is no voter");
        there[1].suspected = true;
        assert_eq!(begins(&step(&me, &new(5), &there)), [1, 2, 5]);
    }

    #[test]
    fn who_joins_waits_for_the_decision_and_takes_it() {
        let me = candidate(2, true, 3);
        let silent = step(&me, &new(2), &[heard(2, None, &[])]);
        assert!(matches!(silent, Step::Wait { reason } if reason.contains("--join")));
        let undecided = [heard(1, None, &[]), heard(3, None, &[]), heard(4, None, &[])];
        assert!(matches!(step(&me, &new(2), &undecided), Step::Wait { .. }));
        let decided = [heard(1, Some(7), &[1, 2, 3]), heard(3, None, &[])];
        let Step::Belong { cluster, voters } = step(&me, &new(2), &decided) else {
            panic!("it does not belong")
        };
        assert_eq!((cluster, voters.len()), (7, 3));
    }

    #[test]
    fn what_the_folder_says_holds_whatever_is_heard() {
        let mut identity = new(1);
        identity.cluster = Some(7);
        identity.voters = [(NodeId(1), at(1)), (NodeId(2), at(2)), (NodeId(3), at(3))].into();
        let more = [heard(4, None, &[]), heard(5, None, &[]), heard(6, Some(8), &[6])];
        for joins in [true, false] {
            let belongs = step(&candidate(1, joins, 3), &identity, &more);
            let voters = identity.voters.clone();
            assert_eq!(belongs, Step::Belong { cluster: 7, voters });
        }
    }

    #[test]
    fn a_second_cluster_is_not_begun_and_two_are_not_joined() {
        let there = [heard(2, Some(7), &[1, 2, 3])];
        let emptied = step(&candidate(9, false, 1), &new(9), &there);
        assert!(matches!(emptied, Step::Belong { cluster: 7, .. }));
        let two = [heard(2, Some(7), &[2]), heard(3, Some(8), &[3])];
        let torn = step(&candidate(4, true, 1), &new(4), &two);
        assert_eq!(torn, Step::Torn { one: 7, other: 8 });
    }
}
