//! Which objects of the quarantine count: what committed epochs have put aside and not taken out.
//!
//! An object alone says nothing: it may have been left by an attempt that was given up, or its
//! records may have gone back into the streams. So each epoch's record says which count, and an
//! object comes and goes with the epoch in which its records do.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};

use serde::{Deserialize, Serialize};

use crate::id::Epoch;

/// The objects of the quarantine as of an epoch.
///
/// What an attempt of a task puts aside is committed in the order of the epochs, and what it had
/// not committed when it was given up never is. So the last epoch of each attempt says it all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// The last epoch of each attempt of a task in which it has put something aside: the name of
    /// its objects up to the epoch, and that. No name stands for everybody.
    kept: BTreeMap<String, Epoch>,
    /// What has been taken out: by the same names the epoch of each object, and with which epoch
    /// its records left. Kept for ever, a few bytes each: a write that was under way for very long
    /// must not bring an object back.
    gone: BTreeMap<String, BTreeMap<Epoch, Epoch>>,
}

impl Aside {
    /// Of a record that does not say: everything that there is up to its epoch.
    #[must_use]
    pub fn everything(epoch: Epoch) -> Self {
        Self { kept: BTreeMap::from([(String::new(), epoch)]), gone: BTreeMap::new() }
    }

    /// An epoch that is being committed names this object.
    pub fn put(&mut self, object: &str) {
        let Some((by, epoch)) = parts(object) else { return };
        let last = self.kept.entry(by.to_string()).or_default();
        *last = epoch.max(*last);
    }

    /// The records of this object leave with an epoch.
    pub fn take_out(&mut self, object: &str, with: Epoch) {
        let Some((by, epoch)) = parts(object) else { return };
        self.gone.entry(by.to_string()).or_default().entry(epoch).or_insert(with);
    }

    /// True if the records of this object are in the quarantine.
    #[must_use]
    pub fn holds(&self, object: &str) -> bool {
        let Some((by, epoch)) = parts(object) else { return false };
        let covers = |by| self.kept.get(by).is_some_and(|last| epoch <= *last);
        (covers(by) || covers("")) && self.left(object).is_none()
    }

    /// With which epoch the records of this object have left; none if they have not.
    #[must_use]
    pub fn left(&self, object: &str) -> Option<Epoch> {
        let (by, epoch) = parts(object)?;
        self.gone.get(by)?.get(&epoch).copied()
    }

    /// The objects that were taken out with an epoch.
    pub fn taken_out(&self, with: Epoch) -> impl Iterator<Item = String> + '_ {
        let of = move |(by, gone): (&String, &BTreeMap<Epoch, Epoch>)| {
            let by = by.clone();
            let gone = gone.iter().filter(move |(_, left)| **left == with);
            let names = gone.map(move |(epoch, _)| format!("{by}-e{:010}", epoch.0));
            names.collect::<alloc::vec::Vec<_>>()
        };
        self.gone.iter().flat_map(of)
    }
}

/// Who wrote an object, as its name begins, and in which epoch.
fn parts(object: &str) -> Option<(&str, Epoch)> {
    let (by, epoch) = object.rsplit_once("-e")?;
    Some((by, Epoch(epoch.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(attempt: u64, epoch: u64) -> String {
        format!("quarantine/a-e7-0/t0000000001-a{attempt}-e{epoch:010}")
    }

    #[test]
    fn what_an_attempt_had_not_committed_never_counts() {
        let mut aside = Aside::default();
        assert!(!aside.holds(&object(1, 5)), "nobody has named it");
        aside.put(&object(1, 5));
        assert!(aside.holds(&object(1, 5)));
        // Left by an attempt that was taken back to epoch 7; later ones are another's.
        aside.put(&object(2, 12));
        assert!(!aside.holds(&object(1, 8)));
        assert!(aside.holds(&object(2, 12)) && !aside.holds("quarantine/notes.txt"));
    }

    #[test]
    fn what_was_taken_out_never_comes_back() {
        let mut aside = Aside::default();
        aside.put(&object(1, 5));
        aside.put(&object(1, 6));
        aside.take_out(&object(1, 5), Epoch(8));
        // A task that has ended says it again in each epoch.
        aside.take_out(&object(1, 5), Epoch(9));
        aside.put(&object(1, 5));
        assert!(!aside.holds(&object(1, 5)) && aside.holds(&object(1, 6)));
        assert_eq!(aside.left(&object(1, 5)), Some(Epoch(8)));
        assert!(aside.taken_out(Epoch(8)).eq([object(1, 5)]));
        assert_eq!(aside.taken_out(Epoch(9)).count(), 0);
    }

    #[test]
    fn a_record_that_does_not_say_means_everything_up_to_it() {
        let mut aside = Aside::everything(Epoch(5));
        assert!(aside.holds(&object(1, 5)) && !aside.holds(&object(1, 6)));
        aside.take_out(&object(1, 4), Epoch(9));
        assert!(!aside.holds(&object(1, 4)));
    }
}
