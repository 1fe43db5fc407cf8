//! What has to hold, each rule by itself.

pub mod audit;
pub mod channels;
pub mod clocks;
pub mod commits;
pub mod credit;
pub mod deadlines;
pub mod fences;
pub mod leaders;
pub mod orders;
pub mod outcomes;
pub mod output;
pub mod quarantine;
pub mod reads;
pub mod savepoints;
pub mod topics;
pub mod updates;
pub mod voids;
pub mod watch;

use std::collections::BTreeMap;

/// How often each thing occurs.
pub(crate) fn counted<T: Ord>(things: impl IntoIterator<Item = T>) -> BTreeMap<T, i64> {
    let mut counts = BTreeMap::new();
    for thing in things {
        *counts.entry(thing).or_default() += 1;
    }
    counts
}
