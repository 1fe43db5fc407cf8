//! What an operator was told is so stays so until somebody asks for something else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use gear_core::id::NodeId;

use crate::cluster::KnownCluster;

/// What something may be: what was acknowledged last, what was asked for since, or what was asked
/// for at any time and never acknowledged, since nobody knows when the last copy of that is heard.
#[derive(Clone, Debug)]
pub struct Ordered<T> {
    possible: Vec<T>,
    late: Vec<T>,
}

impl<T: PartialEq + Debug> Ordered<T> {
    /// What it is before anybody asks.
    #[must_use]
    pub fn new(first: T) -> Self {
        Self { possible: vec![first], late: Vec::new() }
    }

    /// What it is, if nothing else was asked for since.
    #[must_use]
    pub fn settled(&self) -> Option<&T> {
        match &self.possible[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    /// Somebody asks for this.
    pub fn asked(&mut self, value: T) {
        self.possible.push(value);
    }

    /// Somebody was told that it is so.
    pub fn acknowledged(&mut self, value: T) {
        self.possible = vec![value];
    }

    /// Nobody waits any more for what was asked for, which may come to pass at any time.
    pub fn given_up(&mut self, value: T) {
        if let Some(place) = self.possible.iter().rposition(|possible| *possible == value) {
            self.possible.remove(place);
        }
        self.late.push(value);
    }

    /// Everything that it may be.
    pub fn possible(&self) -> impl Iterator<Item = &T> {
        self.possible.iter().chain(&self.late)
    }

    fn judge(&self, what: &str, value: &T) -> Result<(), String> {
        if self.possible().any(|possible| possible == value) {
            return Ok(());
        }
        let possible: Vec<&T> = self.possible().collect();
        Err(format!("orders: {what} {value:?}, and can only be one of {possible:?}"))
    }
}

/// The orders that concern masters and workers.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Who votes.
    pub voters: Ordered<BTreeSet<NodeId>>,
    /// Which workers are to have no work, of those of which anybody has said so.
    pub drains: BTreeMap<NodeId, Ordered<bool>>,
}

impl Orders {
    /// Nobody has ordered anything.
    #[must_use]
    pub fn new(voters: BTreeSet<NodeId>) -> Self {
        Self { voters: Ordered::new(voters), drains: BTreeMap::new() }
    }

    /// An operator asks that a worker has no work, or has work again.
    pub fn drain_asked(&mut self, node: NodeId, drains: bool) {
        self.drains.entry(node).or_insert_with(|| Ordered::new(false)).asked(drains);
    }

    /// An operator waits no longer for an answer.
    pub fn drain_given_up(&mut self, node: NodeId, drains: bool) {
        self.drains.entry(node).or_insert_with(|| Ordered::new(false)).given_up(drains);
    }

    /// An operator was told that it is so.
    pub fn drain_acknowledged(&mut self, node: NodeId, drains: bool) {
        self.drains.entry(node).or_insert_with(|| Ordered::new(false)).acknowledged(drains);
    }

    /// True if a worker may be one that is to have no work.
    #[must_use]
    pub fn may_drain(&self, node: NodeId) -> bool {
        self.drains.get(&node).is_some_and(|it| it.possible().any(|drains| *drains))
    }

    /// A leader that acts knows this.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn leader(&self, known: &KnownCluster) -> Result<(), String> {
        let voters: BTreeSet<NodeId> = known.voters.keys().copied().collect();
        self.voters.judge("the voters are", &voters)?;
        if let Some(node) = known.drains.iter().find(|node| !self.drains.contains_key(node)) {
            return Err(format!("orders: {node} drains, and nobody has asked for it"));
        }
        for (node, ordered) in &self.drains {
            let what = format!("whether {node} drains is");
            ordered.judge(&what, &known.drains.contains(node))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gear_core::id::Incarnation;

    use super::*;

    fn nodes(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    fn known(voters: &[u64], drains: &[u64]) -> KnownCluster {
        let voters = nodes(voters).into_iter().map(|node| (node, Incarnation(0))).collect();
        KnownCluster { voters, settled: true, drains: nodes(drains) }
    }

    #[test]
    fn voters_that_were_acknowledged_stay_until_others_are_asked_for() {
        let mut orders = Orders::new(nodes(&[1, 2, 3]));
        assert!(orders.leader(&known(&[1, 2], &[])).is_err(), "nobody has asked for it");
        orders.voters.asked(nodes(&[1, 2]));
        orders.leader(&known(&[1, 2], &[])).expect("it may have been done");
        orders.leader(&known(&[1, 2, 3], &[])).expect("it may be lost");
        orders.voters.acknowledged(nodes(&[1, 2]));
        orders.leader(&known(&[1, 2], &[])).unwrap();
        assert!(orders.leader(&known(&[1, 2, 3], &[])).is_err(), "it was acknowledged");
        assert_eq!(orders.voters.settled(), Some(&nodes(&[1, 2])));
        orders.voters.asked(nodes(&[1]));
        assert_eq!(orders.voters.settled(), None);
        orders.voters.given_up(nodes(&[1]));
        orders.voters.asked(nodes(&[1, 4]));
        orders.voters.acknowledged(nodes(&[1, 4]));
        orders.leader(&known(&[1], &[])).expect("a copy may have come late");
        assert!(orders.leader(&known(&[1, 2], &[])).is_err(), "that was long before");
    }

    #[test]
    fn a_worker_drains_as_long_as_it_is_wanted() {
        let mut orders = Orders::new(nodes(&[1]));
        assert!(orders.leader(&known(&[1], &[2])).is_err(), "nobody has asked for it");
        orders.drain_asked(NodeId(2), true);
        orders.leader(&known(&[1], &[])).unwrap();
        orders.leader(&known(&[1], &[2])).unwrap();
        orders.drain_acknowledged(NodeId(2), true);
        assert!(orders.leader(&known(&[1], &[])).is_err(), "it was acknowledged");
        assert!(orders.may_drain(NodeId(2)) && !orders.may_drain(NodeId(1)));
        orders.drain_asked(NodeId(2), false);
        orders.leader(&known(&[1], &[])).unwrap();
    }
}
