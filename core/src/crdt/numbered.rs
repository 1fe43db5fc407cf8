//! A map whose keys are numbers that are handed out once.

use alloc::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Lattice;

/// Joined key by key; what was removed stays removed. A number is given to one thing ever, so a
/// removed one needs no stamp to be told from a later insertion: it is remembered by itself, as
/// part of a range, and there are no more ranges than keys and one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered<V> {
    live: BTreeMap<u64, V>,
    /// First and last of each range; no two touch.
    gone: BTreeMap<u64, u64>,
}

impl<V> Default for Numbered<V> {
    fn default() -> Self {
        Self { live: BTreeMap::new(), gone: BTreeMap::new() }
    }
}

impl<V> Numbered<V> {
    /// The value of a key that is there.
    #[must_use]
    pub fn get(&self, key: u64) -> Option<&V> {
        self.live.get(&key)
    }

    /// Whether a key was there and has been removed.
    #[must_use]
    pub fn is_gone(&self, key: u64) -> bool {
        self.gone.range(..=key).next_back().is_some_and(|(_, last)| *last >= key)
    }

    /// Every key that is there and its value, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &V)> {
        self.live.iter().map(|(key, value)| (*key, value))
    }

    /// The first and the last of each range of removed keys, in order.
    pub fn gone(&self) -> impl Iterator<Item = (u64, u64)> {
        self.gone.iter().map(|(first, last)| (*first, *last))
    }

    /// How many keys are there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether no key is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// The first key that was never given away; the very first is 1.
    #[must_use]
    pub fn next(&self) -> u64 {
        let live = self.live.last_key_value().map_or(0, |(key, _)| *key);
        let gone = self.gone.last_key_value().map_or(0, |(_, last)| *last);
        live.max(gone) + 1
    }

    /// Removes a key for ever, whether it is there or not.
    pub fn remove(&mut self, key: u64) {
        self.cover(key, key);
    }

    fn cover(&mut self, first: u64, last: u64) {
        let (mut first, mut last) = (first, last);
        while let Some((&start, &end)) = self.gone.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            self.gone.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.gone.insert(first, last);
        let Self { live, .. } = self;
        while let Some((&key, _)) = live.range(first..=last).next() {
            live.remove(&key);
        }
    }
}

impl<V: Lattice + Clone> Numbered<V> {
    /// Joins a value into a key's, unless the key was removed.
    pub fn put(&mut self, key: u64, value: &V) -> bool {
        if self.is_gone(key) {
            return false;
        }
        if let Some(mine) = self.live.get_mut(&key) {
            return mine.join(value);
        }
        self.live.insert(key, value.clone());
        true
    }
}

impl<V: Clone> Numbered<V> {
    /// The keys for which `keeps` is true, with their values, and nothing of what was removed.
    #[must_use]
    pub fn only(&self, keeps: impl Fn(u64) -> bool) -> Self {
        let live = self.live.iter().filter(|(key, _)| keeps(**key));
        let live = live.map(|(key, value)| (*key, value.clone())).collect();
        Self { live, gone: BTreeMap::new() }
    }

    /// What was removed, without what is there.
    #[must_use]
    pub fn removals(&self) -> Self {
        Self { live: BTreeMap::new(), gone: self.gone.clone() }
    }
}

impl<V: Lattice + Clone> Lattice for Numbered<V> {
    fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (first, last) in &other.gone {
            let range = self.gone.range(..=first).next_back();
            if range.is_none_or(|(_, end)| end < last) {
                self.cover(*first, *last);
                changed = true;
            }
        }
        for (key, value) in &other.live {
            changed |= self.put(*key, value);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::crdt::{Max, laws};

    type Numbers = Numbered<Max<u8>>;

    #[derive(Clone, Debug)]
    enum Step {
        Put(u64, u8),
        Remove(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1_u64..9, 0_u8..4).prop_map(|(key, value)| Step::Put(key, value)),
            (1_u64..9).prop_map(Step::Remove),
        ]
    }

    /// Takes the step, and returns the delta.
    fn apply(numbers: &mut Numbers, step: &Step) -> Numbers {
        let mut delta = Numbers::default();
        match *step {
            Step::Put(key, value) => {
                delta.put(key, &Max(value));
            }
            Step::Remove(key) => delta.remove(key),
        }
        numbers.join(&delta);
        delta
    }

    fn numbers() -> impl Strategy<Value = Numbers> {
        prop::collection::vec(step(), 0..12).prop_map(|steps| {
            let mut numbers = Numbers::default();
            for step in &steps {
                apply(&mut numbers, step);
            }
            numbers
        })
    }

    proptest! {
        #[test]
        fn it_is_a_lattice(a in numbers(), b in numbers(), c in numbers()) {
            laws::hold(&a, &b, &c)?;
        }

        #[test]
        fn a_delta_says_what_the_whole_says(
            start in numbers(), steps in prop::collection::vec(step(), 0..8), replica in numbers(),
        ) {
            let mut whole = start.clone();
            let deltas: Vec<_> = steps.iter().map(|step| apply(&mut whole, step)).collect();
            laws::deltas_say_what_the_whole_says(&start, &whole, &deltas, &replica)?;
        }

        #[test]
        fn nothing_that_was_removed_comes_back(
            mut numbers in numbers(), key in 1_u64..9, older in numbers(),
        ) {
            numbers.remove(key);
            numbers.join(&older);
            numbers.put(key, &Max(9));
            prop_assert!(numbers.get(key).is_none() && numbers.is_gone(key));
            prop_assert!(numbers.next() > key);
        }

        #[test]
        fn what_is_gone_is_kept_in_few_ranges(numbers in numbers()) {
            let ranges: Vec<_> = numbers.gone().collect();
            prop_assert!(ranges.iter().all(|(first, last)| first <= last));
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            prop_assert!(numbers.iter().all(|(key, _)| !numbers.is_gone(key)));
        }
    }
}
