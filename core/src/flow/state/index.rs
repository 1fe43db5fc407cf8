//! From a hash to the place of an entry in its group.

use alloc::boxed::Box;
use alloc::vec;

const SLOTS_MIN: usize = 8;

/// An open-addressed table with linear probing, four bytes a slot.
///
/// A slot holds, in as many low bits as the table's size has, the entry's index plus one, and above
/// them the hash's bits, so that a probe reads one cache line and almost never a wrong entry. Only
/// the low 32 bits of the hash are used: the high ones chose the group.
#[derive(Debug, Default)]
pub(super) struct Index {
    // A power of two, or none at all; at most three quarters are in use.
    slots: Box<[u32]>,
}

impl Index {
    /// An index in which the entries `0..count` have room.
    pub(super) fn with_room(count: usize) -> Self {
        let slots = (count.div_ceil(3) * 4).next_power_of_two().max(SLOTS_MIN);
        assert!(slots <= 1 << 31, "a key group holds at most 1.6 billion keys");
        Self { slots: vec![0; slots].into_boxed_slice() }
    }

    /// True if the entries `0..count` have room.
    pub(super) const fn has_room(&self, count: usize) -> bool {
        count <= self.slots.len() / 4 * 3
    }

    /// Bytes of memory in use.
    pub(super) const fn allocated(&self) -> usize {
        self.slots.len() * size_of::<u32>()
    }

    /// The index with this hash for which `matches` holds.
    #[inline(always)]
    pub(super) fn find(&self, hash: u64, mut matches: impl FnMut(u32) -> bool) -> Option<u32> {
        let hash = hash as u32;
        let mask = (self.slots.len() as u32).wrapping_sub(1);
        let mut at = hash & mask;
        // An index without slots ends here, too.
        while let Some(&slot) = self.slots.get(at as usize) {
            if slot == 0 {
                return None;
            }
            if (slot ^ hash) & !mask == 0 {
                let index = (slot & mask) - 1;
                if matches(index) {
                    return Some(index);
                }
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Adds an entry that is not there; there must be room.
    pub(super) fn insert(&mut self, hash: u64, index: u32) {
        let hash = hash as u32;
        let mask = self.slots.len() as u32 - 1;
        debug_assert!(index < mask, "the index fits below the hash's bits");
        let mut at = hash & mask;
        while self.slots[at as usize] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at as usize] = (hash & !mask) | (index + 1);
    }

    /// Takes out an entry that is there; `hash_of` gives the hash of any entry.
    pub(super) fn remove(&mut self, hash: u64, index: u32, hash_of: impl Fn(u32) -> u64) {
        let mask = self.slots.len() as u32 - 1;
        let mut hole = hash as u32 & mask;
        while self.slots[hole as usize] & mask != index + 1 {
            assert!(self.slots[hole as usize] != 0, "the entry is in its group's index");
            hole = (hole + 1) & mask;
        }
        // Entries behind the hole move up, so that no probe ends early and no marker stays.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let slot = self.slots[at as usize];
            if slot == 0 {
                break;
            }
            let home = hash_of((slot & mask) - 1) as u32 & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.slots[hole as usize] = slot;
                hole = at;
            }
        }
        self.slots[hole as usize] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn finds_what_is_in_and_only_that_after_any_removals() {
        // Few distinct homes, so that probes run into each other and wrap around.
        let hash_of = |index: u32| u64::from(index % 5) * 7 + u64::from(index) * (1 << 20) + 60;
        let mut index = Index::with_room(48);
        (0..48).for_each(|entry| index.insert(hash_of(entry), entry));
        let mut left: Vec<u32> = (0..48).collect();
        while !left.is_empty() {
            let gone = left.swap_remove(left.len() * 7 / 11);
            index.remove(hash_of(gone), gone, hash_of);
            assert_eq!(index.find(hash_of(gone), |entry| entry == gone), None);
            for &entry in &left {
                assert_eq!(index.find(hash_of(entry), |found| found == entry), Some(entry));
            }
        }
        assert!(index.slots.iter().all(|slot| *slot == 0));
    }

    #[test]
    fn an_index_without_slots_finds_nothing() {
        assert_eq!(Index::default().find(u64::MAX, |_| true), None);
        assert!(!Index::default().has_room(1));
    }
}
