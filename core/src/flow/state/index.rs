//! From a hash to the place of an entry in its group.

use alloc::boxed::Box;

use hashbrown::HashTable;

/// Places below are near: found in one step, and kept in two bytes.
pub(super) const NEAR: usize = 16_384;

/// The places of a group's entries by the hashes of their keys.
#[derive(Debug, Default)]
pub(super) struct Index {
    // Half the size of the other, so that more of it is in the cache.
    near: HashTable<u16>,
    far: Option<Box<HashTable<u32>>>,
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
        let far = |far: &HashTable<u32>| far.allocation_size() + size_of::<HashTable<u32>>();
        self.near.allocation_size() + self.far.as_deref().map_or(0, far)
    }

    /// The near place with this hash for which `matches` holds.
    #[inline(always)]
    pub(super) fn find_near(&self, hash: u64, mut matches: impl FnMut(u16) -> bool) -> Option<u16> {
        self.near.find(turn(hash), |place| matches(*place)).copied()
    }

    /// A near place that may be the one with this hash, to be looked at later: nothing is read here
    /// but the index.
    #[inline(always)]
    pub(super) fn guess(&self, hash: u64) -> Option<u16> {
        self.near.find(turn(hash), |_| true).copied()
    }

    /// The place with this hash for which `matches` holds.
    #[inline(always)]
    pub(super) fn find(&self, hash: u64, mut matches: impl FnMut(u32) -> bool) -> Option<u32> {
        match self.find_near(hash, |place| matches(u32::from(place))) {
            Some(place) => Some(u32::from(place)),
            None => self.far.as_ref()?.find(turn(hash), |place| matches(*place)).copied(),
        }
    }

    /// Makes room for as many more near places; `hash_of` gives the hash of any entry that is
    /// there.
    pub(super) fn reserve(&mut self, more: usize, hash_of: impl Fn(u32) -> u64) {
        let more = more.min(NEAR.saturating_sub(self.near.len()));
        self.near.reserve(more, |place| turn(hash_of(u32::from(*place))));
    }

    /// Adds an entry that is not there.
    pub(super) fn insert(&mut self, hash: u64, place: u32, hash_of: impl Fn(u32) -> u64) {
        match u16::try_from(place) {
            Ok(near) if (place as usize) < NEAR => {
                let hash_of = |place: &u16| turn(hash_of(u32::from(*place)));
                self.near.insert_unique(turn(hash), near, hash_of);
            }
            _ => {
                let far = self.far.get_or_insert_default();
                far.insert_unique(turn(hash), place, |place| turn(hash_of(*place)));
            }
        }
    }

    /// Takes out an entry that is there.
    pub(super) fn remove(&mut self, hash: u64, place: u32) {
        const THERE: &str = "invariant: an entry is in its group's index";
        if (place as usize) < NEAR {
            let entry = self.near.find_entry(turn(hash), |other| u32::from(*other) == place);
            entry.expect(THERE).remove();
        } else {
            let far = self.far.as_mut().expect(THERE);
            far.find_entry(turn(hash), |other| *other == place).expect(THERE).remove();
        }
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
