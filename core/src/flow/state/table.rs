//! The state of one operator in one task.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use super::group::{Group, Slot, Stamp, Wanted};
use super::scan::Scan;
use crate::api::key::{Key, key_group};
use crate::api::state::State;
use crate::id::Epoch;

/// The place of an entry: stable from its insertion until it is removed, so that windows and timers
/// can keep it. A place is used again only after its removal has been committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The key group.
    pub group: u32,
    /// The place within the group.
    pub index: u32,
}

/// Where an iteration stands; the default is the beginning.
///
/// Entries that are inserted or removed in between are seen or not, all others once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    // Counted from the table's first group.
    group: u32,
    index: u32,
}

/// Values by key, for the key groups that a task owns.
///
/// What is written belongs to the open epoch until [`Self::begin_snapshot`] ends it.
pub struct Table<K: Key, V: State> {
    pub(super) groups: Vec<Group<K, V>>,
    pub(super) first: u32,
    pub(super) total: u32,
    /// The epoch from which stamps count: the one that was restored, or 0.
    pub(super) origin: Epoch,
    /// The stamp of the open epoch.
    pub(super) open: Stamp,
    pub(super) scan: Option<Scan>,
    /// The last committed epoch.
    pub(super) committed: Stamp,
    /// The base of the last snapshot: no later one has an older base, unless it is full.
    pub(super) floor: Option<Stamp>,
    /// Tombstones up to here may be gone: a snapshot with an older base cannot be incremental.
    pub(super) forgotten: Stamp,
    /// Where the search for tombstones to free goes on, and how many groups it has before it.
    pub(super) sweep: (usize, usize),
    pub(super) len: usize,
    pub(super) bytes: usize,
}

impl<K: Key, V: State> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("groups", &self.groups())
            .field("len", &self.len)
            .field("open", &self.open_epoch())
            .field("scan", &self.scan)
            .finish_non_exhaustive()
    }
}

impl<K: Key, V: State> Table<K, V> {
    /// True if a key of this hash belongs to this table's task.
    #[must_use]
    pub fn owns(&self, hash: u64) -> bool {
        let group = key_group(hash, self.total);
        (self.first..self.first + self.groups.len() as u32).contains(&group)
    }

    /// An empty table of a task that owns `groups` of an app's `total_groups`. Its open epoch is
    /// the first.
    #[must_use]
    pub fn new(groups: Range<u32>, total_groups: u32) -> Self {
        assert!(groups.start <= groups.end && groups.end <= total_groups, "the app's key groups");
        Self {
            first: groups.start,
            total: total_groups,
            groups: groups.clone().map(|_| Group::new()).collect(),
            origin: Epoch(0),
            open: 1,
            scan: None,
            committed: 0,
            floor: None,
            forgotten: 0,
            sweep: (0, 0),
            len: 0,
            bytes: groups.len() * size_of::<Group<K, V>>(),
        }
    }

    /// The key groups that the task owns.
    #[must_use]
    pub fn groups(&self) -> Range<u32> {
        self.first..self.first + self.groups.len() as u32
    }

    /// The epoch to which writes belong.
    #[must_use]
    pub const fn open_epoch(&self) -> Epoch {
        Epoch(self.origin.0 + self.open as u64)
    }

    /// Keys that have a value.
    #[inline(always)]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if no key has a value.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory in use, kept up to date: entries (room for growth, tombstones and what is
    /// kept for a snapshot included), indices, keys, and what values hold outside themselves. The
    /// last is asked when a value is inserted or removed and when a snapshot comes by; what a value
    /// grows by in between is not counted.
    #[must_use]
    pub const fn allocated(&self) -> usize {
        self.bytes
    }

    #[inline(always)]
    pub(super) fn at(&self, hash: u64) -> usize {
        // A foreign group is out of bounds, on either side.
        key_group(hash, self.total).wrapping_sub(self.first) as usize
    }

    #[inline(always)]
    fn id(&self, at: usize, index: u32) -> EntryId {
        EntryId { group: self.first + at as u32, index }
    }

    #[inline(always)]
    fn place(&self, id: EntryId) -> usize {
        id.group.wrapping_sub(self.first) as usize
    }

    /// The value of a key, for reading.
    ///
    /// # Panics
    /// As everything that takes a hash: if the key's group is not the task's.
    #[inline(always)]
    #[must_use]
    pub fn get(&self, hash: u64, key: &K::View<'_>) -> Option<(EntryId, &V)> {
        let at = self.at(hash);
        let group = &self.groups[at];
        let index = group.find(hash, key)?;
        match group.slot(index) {
            Slot::Live { value, .. } => Some((self.id(at, index), value)),
            _ => None,
        }
    }

    /// An entry that may be the key's, and mostly is if the key has one: the first half of a
    /// look-up, which reads the index only. [`Self::confirms`] is the other, which reads the entry.
    /// Who has many keys to look up does one half for all of them and then the other, so that what
    /// each one has to wait for is fetched at the same time.
    #[inline(always)]
    #[must_use]
    pub fn guess(&self, hash: u64, key: &K::View<'_>) -> Option<EntryId> {
        let at = self.at(hash);
        self.groups[at].guess(hash, key).map(|index| self.id(at, index))
    }

    /// True if an entry that was guessed is the key's, and has a value.
    #[inline(always)]
    #[must_use]
    pub fn confirms(&self, id: EntryId, key: &K::View<'_>) -> bool {
        self.groups[self.place(id)].confirms(id.index, key)
    }

    /// The value of a key, for writing.
    #[inline(always)]
    pub fn get_mut(&mut self, hash: u64, key: &K::View<'_>) -> Option<(EntryId, &mut V)> {
        let at = self.at(hash);
        let index = self.groups[at].find(hash, key)?;
        let id = self.id(at, index);
        self.written(at, index).map(|value| (id, value))
    }

    /// The value of a key, for writing, and whether it was put in just now.
    #[inline(always)]
    pub fn get_or_insert_with(
        &mut self,
        hash: u64,
        key: &K::View<'_>,
        init: impl FnOnce() -> V,
    ) -> (EntryId, &mut V, bool) {
        let at = self.at(hash);
        if let Some(index) = self.groups[at].hit(hash, key, self.open) {
            let id = self.id(at, index);
            return (id, self.groups[at].hit_mut(index), false);
        }
        let (index, inserted) = self.settle(at, hash, key, init);
        let id = self.id(at, index);
        match self.groups[at].slot_mut(index) {
            Slot::Live { value, .. } => (id, value, inserted),
            _ => unreachable!("the entry was made live"),
        }
    }

    /// All but the hit path: mostly the first write to a key in the open epoch.
    #[cold]
    #[inline(never)]
    fn settle(
        &mut self,
        at: usize,
        hash: u64,
        key: &K::View<'_>,
        init: impl FnOnce() -> V,
    ) -> (u32, bool) {
        let found = self.groups[at].find(hash, key);
        let Some(index) = found else {
            // Two for one, so that tombstones vanish faster than keys come.
            self.reclaim(at, 2);
            let value = init();
            let open = self.open;
            self.len += 1;
            return (self.measured(at, |group| group.insert(hash, key, value, open)), true);
        };
        if self.written(at, index).is_some() {
            return (index, false);
        }
        self.touch(at, index);
        let value = init();
        let open = self.open;
        self.len += 1;
        self.measured(at, |group| group.revive(index, value, open));
        (index, true)
    }

    /// Takes a key out.
    pub fn remove(&mut self, hash: u64, key: &K::View<'_>) -> Option<V> {
        let at = self.at(hash);
        let index = self.groups[at].find(hash, key)?;
        self.remove_at(at, index)
    }

    fn remove_at(&mut self, at: usize, index: u32) -> Option<V> {
        // So that only the living get a tombstone, and each only one.
        self.written(at, index)?;
        let open = self.open;
        let value = self.measured(at, |group| group.bury(index, open));
        self.len -= 1;
        self.reclaim(at, 1);
        value
    }

    /// The key of an entry.
    ///
    /// # Panics
    /// If the id is not of a living entry; one that was removed may still be told its key.
    #[must_use]
    pub fn key(&self, id: EntryId) -> K::View<'_> {
        self.groups[self.place(id)].key(id.index)
    }

    /// The value of an entry, for reading; none if it was removed.
    #[inline(always)]
    #[must_use]
    pub fn value(&self, id: EntryId) -> Option<&V> {
        match self.groups[self.place(id)].slot(id.index) {
            Slot::Live { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The value of an entry, for writing; none if it was removed.
    #[inline(always)]
    pub fn value_mut(&mut self, id: EntryId) -> Option<&mut V> {
        self.written(self.place(id), id.index)
    }

    /// Takes an entry out; none if it was removed before.
    pub fn remove_id(&mut self, id: EntryId) -> Option<V> {
        self.remove_at(self.place(id), id.index)
    }

    /// A value that is about to be written.
    #[inline(always)]
    fn written(&mut self, at: usize, index: u32) -> Option<&mut V> {
        match self.groups[at].slot(index) {
            Slot::Live { stamp, .. } if *stamp == self.open => {}
            Slot::Live { .. } => self.touch(at, index),
            _ => return None,
        }
        match self.groups[at].slot_mut(index) {
            Slot::Live { value, .. } => Some(value),
            _ => None,
        }
    }

    #[cold]
    #[inline(never)]
    fn touch(&mut self, at: usize, index: u32) {
        let wanted: Option<Wanted> = self.scan.as_ref().and_then(|scan| scan.ahead(at, index));
        let open = self.open;
        self.measured(at, |group| group.touch(index, open, wanted));
    }

    /// Does something to a group and keeps count of its memory.
    #[inline(always)]
    pub(super) fn measured<R>(&mut self, at: usize, act: impl FnOnce(&mut Group<K, V>) -> R) -> R {
        let group = &mut self.groups[at];
        let before = group.bytes;
        let result = act(group);
        self.bytes = self.bytes + group.bytes - before;
        result
    }

    /// The next entry in the order of groups and places.
    pub fn next_entry(&self, cursor: &mut Cursor) -> Option<(EntryId, K::View<'_>, &V)> {
        loop {
            let group = self.groups.get(cursor.group as usize)?;
            let index = cursor.index;
            let Some(entry) = group.get(index) else {
                *cursor = Cursor { group: cursor.group + 1, index: 0 };
                continue;
            };
            cursor.index += 1;
            if let Slot::Live { value, .. } = &entry.slot {
                let id = self.id(cursor.group as usize, index);
                return Some((id, group.key(index), value));
            }
        }
    }

    /// Shows every entry in the order of groups and places.
    pub fn for_each(&self, mut each: impl FnMut(EntryId, K::View<'_>, &V)) {
        let mut cursor = Cursor::default();
        while let Some((id, key, value)) = self.next_entry(&mut cursor) {
            each(id, key, value);
        }
    }
}

#[cfg(test)]
impl<K: Key, V: State> Table<K, V> {
    /// What [`Self::allocated`] says, counted anew.
    pub(super) fn recount(&self) -> usize {
        let groups: usize = self.groups.iter().map(Group::recount).sum();
        groups + self.groups.len() * size_of::<Group<K, V>>()
    }
}
