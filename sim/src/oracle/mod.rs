//! What has to hold, each rule by itself.

pub mod attempts;
pub mod audit;
pub mod channels;
pub mod clocks;
pub mod commits;
pub mod credit;
pub mod deadlines;
pub mod fences;
pub mod gone;
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
use std::ops::Range;

/// How often each thing occurs.
pub(crate) fn counted<T: Ord>(things: impl IntoIterator<Item = T>) -> BTreeMap<T, i64> {
    let mut counts = BTreeMap::new();
    for thing in things {
        *counts.entry(thing).or_default() += 1;
    }
    counts
}

/// Where the longest runs are of those that hold.
pub(crate) fn runs(hold: impl Iterator<Item = bool>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (place, _) in hold.enumerate().filter(|(_, holds)| *holds) {
        match runs.last_mut() {
            Some(run) if run.end == place => run.end += 1,
            _ => runs.push(place..place + 1),
        }
    }
    runs
}
