//! Lattices: values that replicas join in any order and however often, and end up equal.
//!
//! A **delta** is a value of the same type that holds only what has changed. Joining it says the
//! same as joining the whole value from which it was taken, so a mutator returns one, and whoever
//! has missed some takes the whole value instead.
//!
//! | lattice | join |
//! |---|---|
//! | [`Max`] | the greater |
//! | [`Register`] | the later stamp; of equal stamps the greater value |
//! | [`Map`] | key by key; a key never leaves |
//! | [`Removable`] | key by key; what was removed stays removed |
//! | [`Numbered`] | key by key; keys are given away once, and what was removed stays removed |
//! | [`Grow`], [`Counter`] | actor by actor the greater |
//! | [`VersionVector`] | actor by actor the greater |

mod context;
mod counter;
mod map;
mod max;
mod numbered;
mod register;
mod removable;
mod version;

#[cfg(test)]
pub(crate) mod laws;

pub use context::Context;
pub use counter::{Counter, Grow};
pub use map::Map;
pub use max::Max;
pub use numbered::Numbered;
pub use register::{Register, Stamp};
pub use removable::Removable;
pub use version::VersionVector;

/// A value with a join that is commutative, associative and idempotent.
pub trait Lattice {
    /// Takes in all that `other` knows; returns whether that has changed anything.
    fn join(&mut self, other: &Self) -> bool;
}

impl Lattice for () {
    fn join(&mut self, (): &Self) -> bool {
        false
    }
}

impl<A: Lattice, B: Lattice> Lattice for (A, B) {
    fn join(&mut self, other: &Self) -> bool {
        // Both, whatever the first says.
        self.0.join(&other.0) | self.1.join(&other.1)
    }
}

/// None is below every value.
impl<T: Lattice + Clone> Lattice for Option<T> {
    fn join(&mut self, other: &Self) -> bool {
        match (self, other) {
            (_, None) => false,
            (Some(mine), Some(theirs)) => mine.join(theirs),
            (mine @ None, Some(theirs)) => {
                *mine = Some(theirs.clone());
                true
            }
        }
    }
}
