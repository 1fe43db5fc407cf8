//! The quorum in a small world of its own: see [`world`].

mod bugs;
mod by_hand;
mod random;
mod world;

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Replicated;
use crate::crdt::Lattice;

/// The state: every update that was ever made, by the term of its leader and a number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Updates(BTreeSet<(u64, u64)>);

/// Entries among which the updates are spread on disk.
const PARTS: u64 = 4;

impl Lattice for Updates {
    fn join(&mut self, other: &Self) -> bool {
        let before = self.0.len();
        self.0.extend(&other.0);
        self.0.len() != before
    }
}

impl Replicated for Updates {
    fn parts(&self) -> Vec<String> {
        let parts: BTreeSet<_> = self.0.iter().map(|(_, number)| number % PARTS).collect();
        parts.into_iter().map(|part| format!("{part}")).collect()
    }

    fn part(&self, name: &str) -> Self {
        let belongs = |update: &&(u64, u64)| format!("{}", update.1 % PARTS) == name;
        Self(self.0.iter().filter(belongs).copied().collect())
    }
}
