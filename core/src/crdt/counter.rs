//! Counts to which several actors add.

use serde::{Deserialize, Serialize};

use super::{Lattice, VersionVector};

/// A count that only rises: the sum over what each actor has added.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grow<A: Ord>(VersionVector<A>);

impl<A: Ord> Default for Grow<A> {
    fn default() -> Self {
        Self(VersionVector::default())
    }
}

impl<A: Ord + Clone> Grow<A> {
    /// The count.
    #[must_use]
    pub fn value(&self) -> u128 {
        self.0.iter().map(|(_, added)| u128::from(added)).sum()
    }

    /// Adds to what `actor` has added and returns the delta. No two replicas add as one actor.
    /// An actor's part stays at the greatest number once it is there.
    pub fn add(&mut self, actor: &A, amount: u64) -> Self {
        let mut delta = VersionVector::default();
        delta.advance(actor.clone(), self.0.get(actor).saturating_add(amount));
        self.0.join(&delta);
        Self(delta)
    }
}

impl<A: Ord + Clone> Lattice for Grow<A> {
    fn join(&mut self, other: &Self) -> bool {
        self.0.join(&other.0)
    }
}

/// A count that rises and falls: what was added less what was taken away.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Counter<A: Ord> {
    added: Grow<A>,
    taken: Grow<A>,
}

impl<A: Ord> Default for Counter<A> {
    fn default() -> Self {
        Self { added: Grow::default(), taken: Grow::default() }
    }
}

impl<A: Ord + Clone> Counter<A> {
    /// The count.
    #[must_use]
    pub fn value(&self) -> i128 {
        // A sum of 64-bit parts stays far below the 127 bits, for any number of actors that fits.
        self.added.value().cast_signed() - self.taken.value().cast_signed()
    }

    /// Adds, or takes away if `amount` is negative, and returns the delta. No two replicas do so
    /// as one actor.
    pub fn add(&mut self, actor: &A, amount: i64) -> Self {
        let mut delta = Self::default();
        if amount >= 0 {
            delta.added = self.added.add(actor, amount.unsigned_abs());
        } else {
            delta.taken = self.taken.add(actor, amount.unsigned_abs());
        }
        delta
    }
}

impl<A: Ord + Clone> Lattice for Counter<A> {
    fn join(&mut self, other: &Self) -> bool {
        self.added.join(&other.added) | self.taken.join(&other.taken)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::crdt::laws;

    fn counter() -> impl Strategy<Value = Counter<u8>> {
        prop::collection::vec((0_u8..3, -3_i64..4), 0..5).prop_map(|adds| {
            let mut counter = Counter::default();
            for (actor, amount) in adds {
                counter.add(&actor, amount);
            }
            counter
        })
    }

    proptest! {
        #[test]
        fn it_is_a_lattice(a in counter(), b in counter(), c in counter()) {
            laws::hold(&a, &b, &c)?;
            laws::hold(&a.added, &b.added, &c.added)?;
        }

        #[test]
        fn replicas_that_add_apart_count_together(
            adds in prop::collection::vec((0_u8..3, -9_i64..10), 0..20)
        ) {
            let mut replicas = [Counter::default(), Counter::default(), Counter::default()];
            for (actor, amount) in &adds {
                replicas[usize::from(*actor)].add(actor, *amount);
            }
            let mut total = Counter::default();
            for replica in &replicas {
                total.join(replica);
            }
            prop_assert_eq!(total.value(), adds.iter().map(|add| i128::from(add.1)).sum::<i128>());
        }

        #[test]
        fn a_delta_says_what_the_whole_says(
            start in counter(), adds: Vec<(u8, i8)>, replica in counter(),
        ) {
            let mut whole = start.clone();
            let deltas: Vec<_> = adds.iter().map(|(a, n)| whole.add(a, i64::from(*n))).collect();
            laws::deltas_say_what_the_whole_says(&start, &whole, &deltas, &replica)?;
        }
    }
}
