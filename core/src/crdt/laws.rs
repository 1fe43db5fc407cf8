//! What every lattice is tested for.

use core::fmt::Debug;

use proptest::prelude::*;

use super::Lattice;

fn joined<L: Lattice + Clone>(a: &L, b: &L) -> L {
    let mut joined = a.clone();
    joined.join(b);
    joined
}

/// The join is commutative, associative and idempotent, and says truly whether it changed
/// anything.
pub(crate) fn hold<L>(a: &L, b: &L, c: &L) -> Result<(), TestCaseError>
where
    L: Lattice + Clone + PartialEq + Debug,
{
    let ab = joined(a, b);
    prop_assert_eq!(&ab, &joined(b, a));
    prop_assert_eq!(joined(&ab, c), joined(a, &joined(b, c)));
    prop_assert_eq!(&joined(a, a), a);
    prop_assert_eq!(&joined(&ab, b), &ab);
    let mut value = a.clone();
    prop_assert_eq!(value.join(b), value != *a);
    Ok(())
}

/// Joining the deltas says the same as joining the whole value, to a replica that is as old as
/// the value from which they were made, and to any other that has this one.
pub(crate) fn deltas_say_what_the_whole_says<L>(
    start: &L,
    whole: &L,
    deltas: &[L],
    replica: &L,
) -> Result<(), TestCaseError>
where
    L: Lattice + Clone + PartialEq + Debug,
{
    for base in [start.clone(), joined(replica, start)] {
        // In any order, and twice.
        for delta in deltas.iter().rev().chain(deltas) {
            let mut value = base.clone();
            value.join(delta);
            prop_assert_eq!(&joined(&value, whole), &joined(&base, whole));
        }
        let mut value = base.clone();
        for delta in deltas.iter().rev().chain(deltas) {
            value.join(delta);
        }
        prop_assert_eq!(value, joined(&base, whole));
    }
    Ok(())
}
