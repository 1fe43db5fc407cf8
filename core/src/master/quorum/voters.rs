//! Who counts for a majority.

use alloc::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::control::Address;
use crate::id::{Incarnation, NodeId};

/// Most voters: each update waits for a majority of them.
pub const VOTERS_MAX: usize = 9;

/// A master that votes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Voter {
    /// Its data folder: the votes of another folder do not count, so an empty disk cannot vote in
    /// the name of the one it replaced.
    pub folder: Incarnation,
    /// Where its node listens.
    pub address: Address,
}

/// The voters, and while they change also those before the change.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Voters {
    current: BTreeMap<NodeId, Voter>,
    /// Nobody decides without a majority of these either; empty unless a change is under way.
    before: BTreeMap<NodeId, Voter>,
}

impl Voters {
    /// These, and nobody else.
    #[must_use]
    pub const fn new(current: BTreeMap<NodeId, Voter>) -> Self {
        Self { current, before: BTreeMap::new() }
    }

    /// On the way from these to `next`: majorities of both are needed.
    pub(super) fn towards(&self, next: BTreeMap<NodeId, Voter>) -> Self {
        assert!(!self.is_changing(), "voters change one at a time");
        Self { current: next, before: self.current.clone() }
    }

    /// The end of the change.
    pub(super) fn settled(&self) -> Self {
        Self::new(self.current.clone())
    }

    /// The voters after the change, if there is one.
    #[must_use]
    pub const fn current(&self) -> &BTreeMap<NodeId, Voter> {
        &self.current
    }

    /// Everybody who may lead, with the address of his node: while a change is under way, those
    /// before it and those after it.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<NodeId, Address> {
        let all = self.before.iter().chain(&self.current);
        all.map(|(node, voter)| (*node, voter.address.clone())).collect()
    }

    /// Whether a change is under way.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        !self.before.is_empty()
    }

    /// Whether this folder of this node votes.
    #[must_use]
    pub fn contains(&self, node: NodeId, folder: Incarnation) -> bool {
        self.members().any(|member| member == (node, folder))
    }

    /// All who vote, before or after the change. Some may come twice.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, Incarnation)> {
        self.current.iter().chain(&self.before).map(|(node, voter)| (*node, voter.folder))
    }

    /// Whether those for whom `has` is true are a majority, before and after the change.
    pub fn is_quorum(&self, has: impl Fn(NodeId, Incarnation) -> bool) -> bool {
        let majority = |set: &BTreeMap<NodeId, Voter>| {
            let count = set.iter().filter(|(node, voter)| has(**node, voter.folder)).count();
            count * 2 > set.len()
        };
        majority(&self.current) && (self.before.is_empty() || majority(&self.before))
    }

    /// The greatest value that a majority has reached, none if there is no majority.
    pub fn reached<T: Ord + Copy>(
        &self,
        value: impl Fn(NodeId, Incarnation) -> Option<T>,
    ) -> Option<T> {
        let values = self.members().filter_map(|(node, folder)| value(node, folder));
        values.filter(|least| self.is_quorum(|n, f| value(n, f) >= Some(*least))).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(folders: &[(u64, u64)]) -> BTreeMap<NodeId, Voter> {
        let voter = |folder| Voter { folder: Incarnation(folder), address: Address::default() };
        folders.iter().map(|(node, folder)| (NodeId(*node), voter(*folder))).collect()
    }

    #[test]
    fn a_majority_is_more_than_half() {
        for (voters, needed) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
            let all: alloc::vec::Vec<_> = (0..voters).map(|node| (node, 0)).collect();
            let voters = Voters::new(set(&all));
            assert!(voters.is_quorum(|node, _| node.0 < needed));
            assert!(!voters.is_quorum(|node, _| node.0 < needed - 1));
            let reached = voters.reached(|node, _| Some(node.0 + 1));
            assert_eq!(reached, Some(all.len() as u64 - needed + 1));
        }
        assert!(!Voters::default().is_quorum(|_, _| true), "nobody is no majority");
        assert_eq!(Voters::default().reached(|_, _| Some(1)), None);
    }

    #[test]
    fn while_they_change_both_majorities_are_needed() {
        let old = Voters::new(set(&[(1, 0), (2, 0), (3, 0)]));
        let both = old.towards(set(&[(1, 0), (2, 0), (3, 0), (4, 7)]));
        assert!(!both.is_quorum(|node, _| node.0 <= 2));
        assert!(both.is_quorum(|node, _| node.0 <= 2 || node.0 == 4));
        assert!(both.is_changing() && !both.settled().is_changing());
        // A new folder of a node does not speak for its old one.
        let both = old.towards(set(&[(1, 9), (2, 0), (3, 0)]));
        assert!(!both.is_quorum(|node, folder| node.0 != 3 && folder.0 == 9 || node.0 == 2));
        assert!(both.is_quorum(|node, folder| node.0 != 1 && folder.0 == 0));
    }
}
