//! What the masters keep in common.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::voters::Voters;
use crate::crdt::{Lattice, Register};

/// A state that masters keep in common. A delta is a value of the same type that holds only what
/// changes: joining it is the update.
pub trait Replicated:
    Lattice + Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned
{
    /// The names of the parts that this value says something about. A part is an entry on disk of
    /// its own, and an update writes those that its delta names: so parts should be small, and few
    /// enough that listing them is cheap; one for each app, say.
    fn parts(&self) -> Vec<String> {
        vec![String::new()]
    }

    /// All that this value says about one part. The join of all parts is the value.
    #[must_use]
    fn part(&self, name: &str) -> Self {
        assert!(name.is_empty(), "there is one part");
        self.clone()
    }
}

/// The state, and who votes on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Body<S> {
    pub(super) voters: Register<Voters>,
    pub(super) state: S,
}

/// An update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Delta<S> {
    pub(super) voters: Option<Register<Voters>>,
    pub(super) state: Option<S>,
}

impl<S: Replicated> Body<S> {
    pub(super) fn apply(&mut self, delta: &Delta<S>) {
        if let Some(voters) = &delta.voters {
            self.voters.join(voters);
        }
        if let Some(state) = &delta.state {
            self.state.join(state);
        }
    }
}

impl<S: Replicated> Lattice for Body<S> {
    fn join(&mut self, other: &Self) -> bool {
        self.voters.join(&other.voters) | self.state.join(&other.state)
    }
}
