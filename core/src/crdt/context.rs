//! Which writes are known, whether what they wrote is still there or not.

use alloc::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Lattice, Stamp, VersionVector};
use crate::id::MasterTerm;

/// A set of stamps. What leaders write is numbered without gaps in each term, so the set is a
/// version vector, and apart from it the few stamps that have come before those below them. All
/// terms below the floor are in it as a whole: that is what keeps it small.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Context {
    floor: MasterTerm,
    vector: VersionVector<MasterTerm>,
    apart: BTreeSet<Stamp>,
}

impl Context {
    /// Whether a write is known.
    #[must_use]
    pub fn contains(&self, stamp: Stamp) -> bool {
        stamp.term < self.floor
            || stamp.counter <= self.vector.get(&stamp.term)
            || self.apart.contains(&stamp)
    }

    /// Learns of a write; returns whether that was news.
    pub fn insert(&mut self, stamp: Stamp) -> bool {
        if self.contains(stamp) {
            return false;
        }
        self.apart.insert(stamp);
        self.normalise();
        true
    }

    /// Takes every write of a lower term for known.
    pub fn raise_floor(&mut self, floor: MasterTerm) -> bool {
        let rises = floor > self.floor;
        if rises {
            self.floor = floor;
            self.normalise();
        }
        rises
    }

    /// The last write of a term that is known.
    #[must_use]
    pub fn last(&self, term: MasterTerm) -> Stamp {
        let end = Stamp { term, counter: u64::MAX };
        let apart = self.apart.range(Stamp { term, counter: 0 }..=end).next_back();
        let counter = self.vector.get(&term).max(apart.map_or(0, |stamp| stamp.counter));
        Stamp { term, counter }
    }

    /// One set has one form, so that equal sets are equal values.
    fn normalise(&mut self) {
        let Self { floor, vector, apart } = self;
        vector.retain(|term| *term >= *floor);
        // In ascending order, so that each can continue those before it.
        apart.retain(|stamp| {
            if stamp.term < *floor {
                return false;
            }
            let last = vector.get(&stamp.term);
            if last.checked_add(1) == Some(stamp.counter) {
                vector.advance(stamp.term, stamp.counter);
                return false;
            }
            stamp.counter > last
        });
    }
}

impl Lattice for Context {
    fn join(&mut self, other: &Self) -> bool {
        let before = self.clone();
        self.floor = self.floor.max(other.floor);
        self.vector.join(&other.vector);
        self.apart.extend(&other.apart);
        self.normalise();
        *self != before
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crdt::laws;

    pub(crate) fn stamp() -> impl Strategy<Value = Stamp> {
        (1_u64..4, 1_u64..5).prop_map(|(term, counter)| Stamp { term: MasterTerm(term), counter })
    }

    fn context() -> impl Strategy<Value = Context> {
        (0_u64..3, prop::collection::vec(stamp(), 0..8)).prop_map(|(floor, stamps)| {
            let mut context = Context::default();
            context.raise_floor(MasterTerm(floor));
            for stamp in stamps {
                context.insert(stamp);
            }
            context
        })
    }

    proptest! {
        #[test]
        fn it_is_a_lattice(a in context(), b in context(), c in context()) {
            laws::hold(&a, &b, &c)?;
        }

        #[test]
        fn the_join_is_the_union(a in context(), b in context(), stamp in stamp()) {
            let mut joined = a.clone();
            joined.join(&b);
            prop_assert_eq!(joined.contains(stamp), a.contains(stamp) || b.contains(stamp));
        }

        #[test]
        fn the_order_of_insertion_does_not_show(
            stamps in prop::collection::vec(stamp(), 0..10), floor in 0_u64..4,
        ) {
            let (mut one, mut two) = (Context::default(), Context::default());
            one.raise_floor(MasterTerm(floor));
            for stamp in &stamps {
                one.insert(*stamp);
            }
            for stamp in stamps.iter().rev() {
                two.insert(*stamp);
            }
            two.raise_floor(MasterTerm(floor));
            prop_assert_eq!(one, two);
        }
    }

    #[test]
    fn what_has_no_gaps_takes_no_room() {
        let mut context = Context::default();
        for counter in (1..=1_000).rev() {
            context.insert(Stamp { term: MasterTerm(7), counter });
        }
        assert!(context.apart.is_empty());
        assert_eq!(context.last(MasterTerm(7)).counter, 1_000);
        context.raise_floor(MasterTerm(8));
        assert_eq!(context, Context { floor: MasterTerm(8), ..Context::default() });
    }
}
