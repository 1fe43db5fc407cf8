//! A map of lattices whose keys never leave.

use alloc::collections::{BTreeMap, btree_map};

use serde::{Deserialize, Serialize};

use super::Lattice;

/// Joined key by key; a missing key is below every value. As large as the keys that ever came in,
/// so it is for keys that are few, or that have to be remembered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Map<K: Ord, V>(BTreeMap<K, V>);

impl<K: Ord, V> Default for Map<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, V> Map<K, V> {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    /// Whether the key is there.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Every key and its value, in the order of the keys.
    pub fn iter(&self) -> btree_map::Iter<'_, K, V> {
        self.0.iter()
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Ord + Clone, V: Lattice + Clone> Map<K, V> {
    /// The delta that joins `value` into a key's.
    #[must_use]
    pub fn delta(key: K, value: V) -> Self {
        Self(BTreeMap::from([(key, value)]))
    }

    /// Joins `value` into a key's; returns whether that has changed anything.
    pub fn put(&mut self, key: K, value: &V) -> bool {
        match self.0.entry(key) {
            btree_map::Entry::Vacant(entry) => {
                entry.insert(value.clone());
                true
            }
            btree_map::Entry::Occupied(mut entry) => entry.get_mut().join(value),
        }
    }
}

impl<K: Ord + Clone, V: Lattice + Clone> Lattice for Map<K, V> {
    fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (key, value) in &other.0 {
            changed |= self.put(key.clone(), value);
        }
        changed
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a Map<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = btree_map::Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::crdt::{Max, laws};

    fn map() -> impl Strategy<Value = Map<u8, Max<u8>>> {
        prop::collection::btree_map(0_u8..4, (0_u8..4).prop_map(Max), 0..4).prop_map(Map)
    }

    proptest! {
        #[test]
        fn it_is_a_lattice(a in map(), b in map(), c in map()) {
            laws::hold(&a, &b, &c)?;
        }

        #[test]
        fn a_delta_says_what_the_whole_says(
            start in map(), writes: Vec<(u8, u8)>, replica in map(),
        ) {
            let (mut whole, mut deltas) = (start.clone(), Vec::new());
            for (key, value) in writes {
                whole.put(key, &Max(value));
                deltas.push(Map::delta(key, Max(value)));
            }
            laws::deltas_say_what_the_whole_says(&start, &whole, &deltas, &replica)?;
        }
    }
}
