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
    /// By each attempt of a task, which is the name of its objects up to the epoch: from behind
    /// which epoch to which one they count. No name stands for everybody.
    kept: BTreeMap<String, Span>,
    /// What has been taken out of that: by the same names the epoch of each object, and with which
    /// epoch its records left. It is [forgotten](Self::forget) once the objects are deleted.
    gone: BTreeMap<String, BTreeMap<Epoch, Epoch>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    /// Everything up to here is out for ever: a write that was under way for very long must not
    /// bring an object back.
    behind: Epoch,
    /// The last epoch in which something was put aside.
    to: Epoch,
}

impl Span {
    fn covers(self, epoch: Epoch) -> bool {
        self.behind < epoch && epoch <= self.to
    }
}

impl Aside {
    /// An epoch that is being committed names this object.
    pub fn put(&mut self, object: &str) {
        let Some((by, epoch)) = parts(object) else { return };
        let span = self.kept.entry(by.to_string()).or_default();
        span.to = epoch.max(span.to);
    }

    /// The records of this object leave with an epoch.
    pub fn take_out(&mut self, object: &str, with: Epoch) {
        let Some((by, epoch)) = parts(object) else { return };
        if self.kept.get(by).is_some_and(|span| epoch <= span.behind) {
            return;
        }
        self.gone.entry(by.to_string()).or_default().entry(epoch).or_insert(with);
    }

    /// True if the records of this object are in the quarantine.
    #[must_use]
    pub fn holds(&self, object: &str) -> bool {
        let Some((by, epoch)) = parts(object) else { return false };
        let covers = |by| self.kept.get(by).is_some_and(|span: &Span| span.covers(epoch));
        (covers(by) || covers("")) && !self.is_out(object)
    }

    /// True if the records of this object have left, be it so long ago that nobody knows when.
    #[must_use]
    pub fn is_out(&self, object: &str) -> bool {
        let Some((by, epoch)) = parts(object) else { return false };
        let forgotten = self.kept.get(by).is_some_and(|span| epoch <= span.behind);
        forgotten || self.left(object).is_some()
    }

    /// Up to which epoch nothing of each attempt is left, given the names of all objects that there
    /// are: what [`Self::forget`] takes, as soon as the epochs that this is about are committed.
    #[must_use]
    pub fn emptied<'a>(&self, names: impl Iterator<Item = &'a str>) -> BTreeMap<String, Epoch> {
        let mut first: BTreeMap<&str, Epoch> = BTreeMap::new();
        for (by, epoch) in names.filter_map(parts) {
            let known = first.entry(by).or_insert(epoch);
            *known = epoch.min(*known);
        }
        let up_to = self.gone.keys().filter_map(|by| {
            let to = self.kept.get(by)?.to;
            let before =
                first.get(by.as_str()).map_or(to, |first| Epoch(first.0.saturating_sub(1)));
            Some((by.clone(), to.min(before)))
        });
        up_to.collect()
    }

    /// Remembers of an attempt only that nothing up to an epoch counts.
    pub fn forget(&mut self, by: &str, up_to: Epoch) {
        let Some(span) = self.kept.get_mut(by) else { return };
        span.behind = span.behind.max(up_to.min(span.to));
        let behind = span.behind;
        if let Some(gone) = self.gone.get_mut(by) {
            gone.retain(|epoch, _| *epoch > behind);
            if gone.is_empty() {
                self.gone.remove(by);
            }
        }
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
    use alloc::vec;
    use alloc::vec::Vec;

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
    fn what_is_deleted_is_forgotten_and_never_comes_back() {
        let mut aside = Aside::default();
        for epoch in [5, 6, 8, 9] {
            aside.put(&object(1, epoch));
        }
        for epoch in [5, 6, 9] {
            aside.take_out(&object(1, epoch), Epoch(10));
        }
        // Not yet deleted, so nothing can be forgotten of it or of what follows.
        let (sixth, eighth) = (object(1, 6), object(1, 8));
        let emptied = aside.emptied([sixth.as_str(), &eighth, "quarantine/notes.txt"].into_iter());
        assert!(emptied.values().eq([&Epoch(5)]), "{emptied:?}");
        let emptied = aside.emptied([eighth.as_str()].into_iter());
        let mut later = aside.clone();
        emptied.iter().for_each(|(by, epoch)| later.forget(by, *epoch));
        assert_eq!(later.gone.values().map(BTreeMap::len).sum::<usize>(), 1, "{later:?}");
        for aside in [&mut aside, &mut later] {
            // A task that has ended says both again in each epoch.
            aside.put(&object(1, 5));
            aside.take_out(&object(1, 5), Epoch(11));
            let held: Vec<u64> = (4..12).filter(|epoch| aside.holds(&object(1, *epoch))).collect();
            assert!([vec![8], vec![4, 7, 8]].contains(&held), "{held:?}");
            assert!([5, 6, 9].into_iter().all(|epoch| aside.is_out(&object(1, epoch))));
        }
        aside.take_out(&eighth, Epoch(12));
        let emptied = aside.emptied(core::iter::empty());
        emptied.iter().for_each(|(by, epoch)| aside.forget(by, *epoch));
        assert!(aside.gone.is_empty(), "{aside:?}");
        aside.put(&object(1, 13));
        let held = (0..20).filter(|epoch| aside.holds(&object(1, *epoch)));
        assert!(held.eq(10..=13), "only what came since can be there");
    }

    #[test]
    fn a_record_that_does_not_say_means_everything_up_to_it() {
        let span = Span { behind: Epoch(0), to: Epoch(5) };
        let mut aside =
            Aside { kept: BTreeMap::from([(String::new(), span)]), gone: BTreeMap::new() };
        assert!(aside.holds(&object(1, 5)) && !aside.holds(&object(1, 6)));
        aside.take_out(&object(1, 4), Epoch(9));
        assert!(!aside.holds(&object(1, 4)));
    }
}
