//! A map of lattices from which keys are removed, and a set if its values are `()`.

use alloc::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Context, Lattice, Stamp};
use crate::id::MasterTerm;

/// Every insertion bears a stamp of its own, and the context remembers all stamps ever seen. A
/// stamp that the context holds and no key bears was removed, and comes back by no join, however
/// old the replica that still has it. So there are no tombstones: what remains of a removed key is
/// its part in the context, which is a number a term, and nothing below the floor
/// ([`Removable::seal`]).
///
/// An insertion replaces what the key had; a change of a value that is there keeps its stamp and
/// is joined. A removal ends the insertions that its replica has seen, and changes to them that it
/// has not seen as well; an insertion that it has not seen survives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removable<K: Ord, V> {
    /// Never an empty value. More than one stamp only if two leaders have inserted apart.
    entries: BTreeMap<K, BTreeMap<Stamp, V>>,
    context: Context,
}

impl<K: Ord, V> Default for Removable<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), context: Context::default() }
    }
}

impl<K: Ord, V> Removable<K, V> {
    /// The value of a key: of its last insertion, if there are several.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).and_then(|values| values.values().next_back())
    }

    /// Whether the key is there.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// Every key and its value, in the order of the keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.entries.iter().filter_map(|(key, values)| Some((key, values.last_key_value()?.1)))
    }

    /// Every key, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.entries.keys()
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The stamps that are known, also of what was removed.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }
}

impl<K: Ord + Clone, V: Lattice + Clone> Removable<K, V> {
    /// Gives a key a value in place of what it had, and returns the delta. The leader of `term`
    /// counts the stamps of this map from what the map knows, so it must know all of them.
    pub fn insert(&mut self, term: MasterTerm, key: K, value: V) -> Self {
        let mut delta = Self::default();
        for stamp in self.entries.get(&key).into_iter().flat_map(BTreeMap::keys) {
            delta.context.insert(*stamp);
        }
        let stamp = self.context.last(term).next(term);
        delta.context.insert(stamp);
        delta.entries.insert(key, BTreeMap::from([(stamp, value)]));
        self.join(&delta);
        delta
    }

    /// Joins `change` into the value of a key that is there, and returns the delta; none if the
    /// key is not there.
    pub fn change(&mut self, key: &K, change: V) -> Option<Self> {
        let stamp = *self.entries.get(key)?.last_key_value()?.0;
        let mut delta = Self::default();
        delta.context.insert(stamp);
        delta.entries.insert(key.clone(), BTreeMap::from([(stamp, change)]));
        self.join(&delta);
        Some(delta)
    }

    /// Removes a key, and returns the delta; none if the key is not there.
    pub fn remove(&mut self, key: &K) -> Option<Self> {
        let mut delta = Self::default();
        for stamp in self.entries.remove(key)?.into_keys() {
            delta.context.insert(stamp);
        }
        Some(delta)
    }

    /// Takes every write of a lower term for known, and returns the delta, which is the whole map.
    /// For the leader of `term`, once it has joined all that counts: what it has not seen by then
    /// never comes in, and the context needs no number for those terms any more.
    pub fn seal(&mut self, term: MasterTerm) -> Self {
        self.context.raise_floor(term);
        self.clone()
    }
}

impl<K: Ord + Clone, V: Lattice + Clone> Lattice for Removable<K, V> {
    fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        self.entries.retain(|key, values| {
            let theirs = other.entries.get(key);
            values.retain(|stamp, _| {
                let there = theirs.is_some_and(|theirs| theirs.contains_key(stamp));
                let stays = there || !other.context.contains(*stamp);
                changed |= !stays;
                stays
            });
            !values.is_empty()
        });
        for (key, theirs) in &other.entries {
            for (stamp, value) in theirs {
                let mine = self.entries.get_mut(key).and_then(|values| values.get_mut(stamp));
                if let Some(mine) = mine {
                    changed |= mine.join(value);
                } else if !self.context.contains(*stamp) {
                    let values = self.entries.entry(key.clone()).or_default();
                    values.insert(*stamp, value.clone());
                    changed = true;
                }
            }
        }
        self.context.join(&other.context) | changed
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::crdt::{Max, laws};

    type Numbers = Removable<u8, Max<u8>>;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8, u8),
        Change(u8, u8),
        Remove(u8),
        Seal,
        /// Take in what another replica has.
        Join(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u8..3, 0_u8..4).prop_map(|(key, value)| Step::Insert(key, value)),
            2 => (0_u8..3, 0_u8..4).prop_map(|(key, value)| Step::Change(key, value)),
            3 => (0_u8..3).prop_map(Step::Remove),
            1 => Just(Step::Seal),
            2 => (0_usize..3).prop_map(Step::Join),
        ]
    }

    fn apply(map: &mut Numbers, term: MasterTerm, step: &Step) -> Option<Numbers> {
        match *step {
            Step::Insert(key, value) => Some(map.insert(term, key, Max(value))),
            Step::Change(key, value) => map.change(&key, Max(value)),
            Step::Remove(key) => map.remove(&key),
            Step::Seal => Some(map.seal(term)),
            Step::Join(_) => None,
        }
    }

    /// Three replicas, each the leader of a term of its own: more than leaders ever do.
    fn replicas(steps: &[(usize, Step)]) -> [Numbers; 3] {
        let mut maps = [Numbers::default(), Numbers::default(), Numbers::default()];
        for (at, step) in steps {
            if let Step::Join(from) = step {
                let from = maps[*from].clone();
                maps[*at].join(&from);
            } else {
                let term = MasterTerm(*at as u64 + 1);
                apply(&mut maps[*at], term, step);
            }
        }
        maps
    }

    fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
        prop::collection::vec((0_usize..3, step()), 0..20)
    }

    proptest! {
        #[test]
        fn it_is_a_lattice(steps in steps()) {
            let [a, b, c] = replicas(&steps);
            laws::hold(&a, &b, &c)?;
        }

        #[test]
        fn a_delta_says_what_the_whole_says(
            steps in steps(), more in prop::collection::vec(step(), 0..8),
        ) {
            let [start, replica, _] = replicas(&steps);
            let (mut whole, mut deltas) = (start.clone(), Vec::new());
            for step in &more {
                deltas.extend(apply(&mut whole, MasterTerm(9), step));
            }
            laws::deltas_say_what_the_whole_says(&start, &whole, &deltas, &replica)?;
        }

        #[test]
        fn what_was_removed_never_comes_back(
            steps in steps(), key in 0_u8..3, others in prop::collection::vec(0_usize..4, 0..8),
        ) {
            let [mut map, a, b] = replicas(&steps);
            let old = map.clone();
            let ended: Vec<_> = map.entries.get(&key).into_iter().flatten().map(|e| *e.0).collect();
            let delta = map.remove(&key);
            prop_assert_eq!(delta.is_some(), !ended.is_empty());
            for other in others {
                map.join([&old, &a, &b, &delta.clone().unwrap_or_default()][other]);
                let left = map.entries.get(&key);
                for stamp in &ended {
                    prop_assert!(left.is_none_or(|left| !left.contains_key(stamp)));
                }
            }
        }
    }

    #[test]
    fn an_insertion_that_the_removal_had_not_seen_stays() {
        let mut one = Numbers::default();
        one.insert(MasterTerm(1), 5, Max(1));
        let mut two = one.clone();
        one.remove(&5).expect("it is there");
        two.insert(MasterTerm(2), 5, Max(0));
        one.join(&two);
        two.join(&one);
        assert_eq!(one, two);
        assert_eq!(one.get(&5), Some(&Max(0)));
        assert_eq!(one.remove(&7), None);
    }

    #[test]
    fn keys_that_came_and_went_leave_nothing_behind() {
        let mut map = Numbers::default();
        for round in 0..=u8::MAX {
            map.insert(MasterTerm(3), round, Max(0));
            map.remove(&round).expect("it is there");
        }
        let mut sealed = map.clone();
        sealed.seal(MasterTerm(4));
        let context = Context::default();
        assert_ne!(map.context, context);
        let mut floor = Numbers::default();
        floor.context.raise_floor(MasterTerm(4));
        assert_eq!(sealed, floor);
        // An old replica that still had a key loses it.
        let mut old = Numbers::default();
        old.insert(MasterTerm(3), 1, Max(9));
        old.join(&sealed);
        assert!(old.is_empty());
    }
}
