//! A value that is replaced as a whole, by whoever writes last.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::Lattice;
use crate::id::MasterTerm;

/// Orders what leaders write: by term, and within it by the leader's count. No two writes bear the
/// same, since at most one leader acts in a term.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp {
    /// The leader's term.
    pub term: MasterTerm,
    /// The leader's count in its term; the first is 1.
    pub counter: u64,
}

impl Stamp {
    /// Before every write.
    pub const ZERO: Self = Self { term: MasterTerm(0), counter: 0 };

    /// The stamp of a term's next write, given its last, or any of an earlier term.
    #[must_use]
    pub const fn next(self, term: MasterTerm) -> Self {
        let last = if self.term.0 == term.0 { self.counter } else { 0 };
        Self { term, counter: last + 1 }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.term.0, self.counter)
    }
}

/// The value with the latest stamp. Equal stamps with different values cannot come from leaders
/// that keep the rules; should they, the greater value wins everywhere.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Register<T> {
    // The order of the fields is the order of the derived comparison.
    stamp: Stamp,
    value: T,
}

impl<T> Register<T> {
    /// A value, written at `stamp`.
    #[must_use]
    pub const fn new(stamp: Stamp, value: T) -> Self {
        Self { stamp, value }
    }

    /// The value.
    #[must_use]
    pub const fn get(&self) -> &T {
        &self.value
    }

    /// When it was written.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }
}

impl<T: Ord + Clone> Lattice for Register<T> {
    fn join(&mut self, other: &Self) -> bool {
        let later = other > self;
        if later {
            self.clone_from(other);
        }
        later
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crdt::laws;

    fn register() -> impl Strategy<Value = Register<u8>> {
        (0_u64..3, 0_u64..3, 0_u8..3).prop_map(|(term, counter, value)| {
            Register::new(Stamp { term: MasterTerm(term), counter }, value)
        })
    }

    #[test]
    fn a_later_term_beats_a_higher_count() {
        let old = Stamp { term: MasterTerm(1), counter: 9 };
        let new = old.next(MasterTerm(2));
        assert_eq!(new, Stamp { term: MasterTerm(2), counter: 1 });
        assert_eq!(new.next(MasterTerm(2)).counter, 2);
        let mut value = Register::new(old, "z");
        assert!(value.join(&Register::new(new, "a")));
        assert!(!value.join(&Register::new(old, "z")));
        assert_eq!((*value.get(), value.stamp()), ("a", new));
    }

    proptest! {
        #[test]
        fn it_is_a_lattice(a in register(), b in register(), c in register()) {
            laws::hold(&a, &b, &c)?;
        }
    }
}
