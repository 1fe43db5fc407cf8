//! From a hash to the place of an entry in its group.

use hashbrown::HashTable;

/// The places of a group's entries by the hashes of their keys.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: HashTable<u32>,
}

/// The high bits chose the group, so all of its keys share them; the table takes its tags from
/// there, and must not.
#[inline(always)]
const fn turn(hash: u64) -> u64 {
    hash.rotate_left(32)
}

impl Index {
    /// Bytes of memory in use.
    pub(super) fn allocated(&self) -> usize {
        self.places.allocation_size()
    }

    /// The place with this hash for which `matches` holds.
    #[inline(always)]
    pub(super) fn find(&self, hash: u64, mut matches: impl FnMut(u32) -> bool) -> Option<u32> {
        self.places.find(turn(hash), |place| matches(*place)).copied()
    }

    /// Makes room for as many more; `hash_of` gives the hash of any entry that is there.
    pub(super) fn reserve(&mut self, more: usize, hash_of: impl Fn(u32) -> u64) {
        self.places.reserve(more, |place| turn(hash_of(*place)));
    }

    /// Adds an entry that is not there.
    pub(super) fn insert(&mut self, hash: u64, place: u32, hash_of: impl Fn(u32) -> u64) {
        self.places.insert_unique(turn(hash), place, |place| turn(hash_of(*place)));
    }

    /// Takes out an entry that is there.
    pub(super) fn remove(&mut self, hash: u64, place: u32) {
        let entry = self.places.find_entry(turn(hash), |other| *other == place);
        entry.expect("invariant: an entry is in its group's index").remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_group_differ_in_their_tags() {
        // What tells keys of the same group apart must reach the top seven bits.
        let tags = |hash: u64| turn(hash) >> 57;
        assert_ne!(tags(0xffff_0000_0000_0000), tags(0xffff_0000_8000_0000));
        assert_eq!(tags(0xffff_0000_0000_0000), tags(0x0000_0000_0000_0000));
    }
}
