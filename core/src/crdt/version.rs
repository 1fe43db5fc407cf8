//! How much of what each actor has done is known.

use alloc::collections::BTreeMap;

use core::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::Lattice;

/// For each actor the number of its last event that is known, events being numbered from 1 without
/// gaps. An actor of which nothing is known is not in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VersionVector<A: Ord>(BTreeMap<A, u64>);

impl<A: Ord> Default for VersionVector<A> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<A: Ord> VersionVector<A> {
    /// The last event of `actor` that is known, 0 if none is.
    #[must_use]
    pub fn get(&self, actor: &A) -> u64 {
        self.0.get(actor).copied().unwrap_or(0)
    }

    /// Every actor of which something is known.
    pub fn iter(&self) -> impl Iterator<Item = (&A, u64)> {
        self.0.iter().map(|(actor, number)| (actor, *number))
    }

    /// Learns of all events of `actor` up to `number`; returns whether that was news.
    pub fn advance(&mut self, actor: A, number: u64) -> bool {
        if number <= self.get(&actor) {
            return false;
        }
        self.0.insert(actor, number);
        true
    }

    /// Forgets actors for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&A) -> bool) {
        self.0.retain(|actor, _| keep(actor));
    }

    fn within(&self, other: &Self) -> bool {
        self.0.iter().all(|(actor, number)| *number <= other.get(actor))
    }
}

/// None if each knows something that the other does not.
impl<A: Ord> PartialOrd for VersionVector<A> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self.within(other), other.within(self)) {
            (true, true) => Some(Ordering::Equal),
            (true, false) => Some(Ordering::Less),
            (false, true) => Some(Ordering::Greater),
            (false, false) => None,
        }
    }
}

impl<A: Ord + Clone> Lattice for VersionVector<A> {
    fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (actor, number) in &other.0 {
            changed |= self.advance(actor.clone(), *number);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crdt::laws;

    fn vector() -> impl Strategy<Value = VersionVector<u8>> {
        prop::collection::btree_map(0_u8..3, 1_u64..4, 0..3).prop_map(VersionVector)
    }

    proptest! {
        #[test]
        fn it_is_a_lattice(a in vector(), b in vector(), c in vector()) {
            laws::hold(&a, &b, &c)?;
        }

        #[test]
        fn the_order_is_that_of_the_join(a in vector(), b in vector()) {
            let mut joined = a.clone();
            let changed = joined.join(&b);
            prop_assert!(a <= joined && b <= joined);
            prop_assert_eq!(changed, !matches!(
                b.partial_cmp(&a), Some(Ordering::Less | Ordering::Equal)
            ));
        }
    }
}
