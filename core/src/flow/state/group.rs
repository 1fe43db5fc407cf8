//! One key group: its entries, where they are, and the bytes of their keys.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;

use super::index::{Index, NEAR};
use crate::api::key::{Key, KeyArena};
use crate::api::state::State;

/// Entries in a chunk, the unit of a snapshot's scan.
pub(super) const CHUNK: usize = 64;
/// Entries in a segment, the unit of storage: the most that a growth copies, in well below 1 ms. So
/// large that the groups of most tasks have one, which is found without a directory.
const SEGMENT: usize = NEAR;
const NONE: u32 = u32::MAX;

/// The epoch of a write, counted from the epoch that the table was restored from.
pub(super) type Stamp = u32;

pub(super) struct Entry<K: Key, V> {
    pub(super) key: K::Stored,
    pub(super) slot: Slot<V>,
}

/// What an entry holds. The stamp shares a word with the tag.
#[derive(Debug)]
pub(super) enum Slot<V> {
    Live {
        stamp: Stamp,
        value: V,
    },
    /// Removed, but a snapshot has yet to say so.
    Dead {
        stamp: Stamp,
    },
    /// To be used again; its key means nothing.
    Free {
        next: u32,
    },
}

/// What an entry held at the barrier, until the scan comes by.
struct Kept<V> {
    index: u32,
    value: Option<V>,
}

/// What the hit path does not need of a chunk.
struct ChunkMeta<V> {
    /// The last write to any of its entries.
    stamp: Stamp,
    /// The epoch whose scan `kept` is for; what an aborted scan left is thrown away later.
    kept_for: Stamp,
    kept: Vec<Kept<V>>,
    /// Bytes that its values held outside themselves when last asked.
    heap: usize,
}

/// Which old contents the active scan still needs, of a part of the table that it has not reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// The epoch that ended at the barrier.
    pub(super) epoch: Stamp,
    /// Nothing that was last written in this epoch or before; if none, no tombstones.
    pub(super) base: Option<Stamp>,
}

impl Wanted {
    const fn live(self, stamp: Stamp) -> bool {
        stamp <= self.epoch
            && match self.base {
                Some(base) => stamp > base,
                None => true,
            }
    }

    const fn dead(self, stamp: Stamp) -> bool {
        self.base.is_some() && self.live(stamp)
    }

    /// True if something stamped so may hold what the snapshot has to say.
    pub(super) const fn touched(self, stamp: Stamp) -> bool {
        match self.base {
            Some(base) => stamp > base,
            None => true,
        }
    }
}

// The fields of the hit path come first and share a cache line.
#[repr(C, align(64))]
pub(super) struct Group<K: Key, V> {
    index: Index,
    /// The first segment, all there is of most groups.
    head: Vec<Entry<K, V>>,
    /// The others.
    tail: Vec<Vec<Entry<K, V>>>,
    /// The last write to any of its entries.
    pub(super) stamp: Stamp,
    /// The first of the free entries, or `NONE`.
    free: u32,
    free_count: u32,
    /// Entries freed since the arena was last packed.
    freed: u32,
    arena: KeyArena,
    metas: Vec<ChunkMeta<V>>,
    /// Removed entries, oldest first; one that was revived in between is skipped when its turn
    /// comes.
    graves: VecDeque<(Stamp, u32)>,
    /// Bytes of memory in use, all included.
    pub(super) bytes: usize,
}

impl<K: Key, V: State> Group<K, V> {
    pub(super) fn new() -> Self {
        Self {
            index: Index::default(),
            head: Vec::new(),
            tail: Vec::new(),
            stamp: 0,
            free: NONE,
            free_count: 0,
            freed: 0,
            arena: KeyArena::default(),
            metas: Vec::new(),
            graves: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Indices given out so far, those of free entries included.
    pub(super) fn used(&self) -> u32 {
        match self.tail.split_last() {
            Some((last, full)) => ((full.len() + 1) * SEGMENT + last.len()) as u32,
            None => self.head.len() as u32,
        }
    }

    /// Entries that are not free: all of them live, if there are no tombstones.
    pub(super) fn live(&self) -> usize {
        (self.used() - self.free_count) as usize
    }

    pub(super) const fn chunk_count(&self) -> usize {
        self.metas.len()
    }

    #[inline(always)]
    pub(super) fn find(&self, hash: u64, key: &K::View<'_>) -> Option<u32> {
        self.index
            .find(K::probe(key, hash), |index| K::matches(&self.entry(index).key, key, &self.arena))
    }

    /// The place of a key, if it was written in the open epoch before and is in the first segment.
    /// Calls nothing out of line, so that all of it stays in registers.
    #[inline(always)]
    pub(super) fn hit(&self, hash: u64, key: &K::View<'_>, open: Stamp) -> Option<u32> {
        let index = self.index.find_near(K::probe(key, hash), |index| {
            let entry = self.head.get(usize::from(index));
            entry.is_some_and(|entry| K::matches(&entry.key, key, &self.arena))
        })?;
        let slot = &self.head[usize::from(index)].slot;
        matches!(slot, Slot::Live { stamp, .. } if *stamp == open).then_some(u32::from(index))
    }

    /// A place that may be the key's, without a look at its entry.
    #[inline(always)]
    pub(super) fn guess(&self, hash: u64, key: &K::View<'_>) -> Option<u32> {
        self.index.guess(K::probe(key, hash)).map(u32::from)
    }

    /// True if a place that was guessed is the key's, and has a value.
    #[inline(always)]
    pub(super) fn confirms(&self, index: u32, key: &K::View<'_>) -> bool {
        self.head.get(index as usize).is_some_and(|entry| {
            K::matches(&entry.key, key, &self.arena) && matches!(entry.slot, Slot::Live { .. })
        })
    }

    /// The value that [`Self::hit`] has found.
    #[inline(always)]
    pub(super) fn hit_mut(&mut self, index: u32) -> &mut V {
        match &mut self.head[index as usize].slot {
            Slot::Live { value, .. } => value,
            _ => unreachable!("it was live"),
        }
    }

    /// # Panics
    /// If there is none.
    #[inline(always)]
    pub(super) fn entry(&self, index: u32) -> &Entry<K, V> {
        match self.head.get(index as usize) {
            Some(entry) => entry,
            None => self.tail_entry(index),
        }
    }

    #[cold]
    #[inline(never)]
    fn tail_entry(&self, index: u32) -> &Entry<K, V> {
        &self.tail[index as usize / SEGMENT - 1][index as usize % SEGMENT]
    }

    #[inline(always)]
    fn entry_mut(&mut self, index: u32) -> &mut Entry<K, V> {
        if (index as usize) < self.head.len() {
            &mut self.head[index as usize]
        } else {
            self.tail_entry_mut(index)
        }
    }

    #[cold]
    #[inline(never)]
    fn tail_entry_mut(&mut self, index: u32) -> &mut Entry<K, V> {
        &mut self.tail[index as usize / SEGMENT - 1][index as usize % SEGMENT]
    }

    fn segment(&self, number: usize) -> &Vec<Entry<K, V>> {
        if number == 0 { &self.head } else { &self.tail[number - 1] }
    }

    #[inline(always)]
    pub(super) fn slot(&self, index: u32) -> &Slot<V> {
        &self.entry(index).slot
    }

    #[inline(always)]
    pub(super) fn slot_mut(&mut self, index: u32) -> &mut Slot<V> {
        &mut self.entry_mut(index).slot
    }

    pub(super) fn get(&self, index: u32) -> Option<&Entry<K, V>> {
        (index < self.used()).then(|| self.entry(index))
    }

    /// The key of an entry that is not free.
    pub(super) fn key(&self, index: u32) -> K::View<'_> {
        let entry = self.entry(index);
        assert!(!matches!(entry.slot, Slot::Free { .. }), "the entry of an id lives");
        K::load(&entry.key, &self.arena)
    }

    fn hash_of(&self, index: u32) -> u64 {
        let key = K::load(&self.entry(index).key, &self.arena);
        K::probe(&key, K::hash(&key, 0))
    }

    /// Changes the index, which may look up hashes meanwhile, and counts its memory.
    fn with_index(&mut self, act: impl FnOnce(&mut Index, &Self)) {
        let mut index = mem::take(&mut self.index);
        let before = index.allocated();
        act(&mut index, self);
        self.bytes = self.bytes + index.allocated() - before;
        self.index = index;
    }

    /// Makes room in the index for as many entries more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.with_index(|index, this| index.reserve(more, |other| this.hash_of(other)));
    }

    /// Adds a key that is not there.
    pub(super) fn insert(&mut self, hash: u64, key: &K::View<'_>, value: V, stamp: Stamp) -> u32 {
        let hash = K::probe(key, hash);
        let arena_before = self.arena.allocated();
        let key = K::store(key, &mut self.arena);
        self.bytes += self.arena.allocated() - arena_before;
        let heap = value.heap_bytes();
        let entry = Entry { key, slot: Slot::Live { stamp, value } };
        let index = if self.free == NONE {
            self.push(entry)
        } else {
            let index = self.free;
            let old = mem::replace(self.entry_mut(index), entry);
            let Slot::Free { next } = old.slot else { unreachable!("the list holds free entries") };
            self.free = next;
            self.free_count -= 1;
            index
        };
        self.with_index(|places, this| places.insert(hash, index, |other| this.hash_of(other)));
        self.mark(index, stamp);
        self.metas[index as usize / CHUNK].heap += heap;
        self.bytes += heap;
        index
    }

    fn push(&mut self, entry: Entry<K, V>) -> u32 {
        let index = self.used();
        let before = self.directory_bytes();
        if index as usize / CHUNK == self.metas.len() {
            self.metas.push(ChunkMeta { stamp: 0, kept_for: 0, kept: Vec::new(), heap: 0 });
        }
        if index as usize / SEGMENT > self.tail.len() {
            self.tail.push(Vec::new());
        }
        self.bytes += self.directory_bytes() - before;
        let segment = self.tail.last_mut().unwrap_or(&mut self.head);
        if segment.len() == segment.capacity() {
            // By an eighth, so that thousands of groups waste little.
            let more = (index as usize / 8).max(4).min(SEGMENT - segment.len());
            let before = segment.capacity();
            segment.reserve_exact(more);
            self.bytes += (segment.capacity() - before) * size_of::<Entry<K, V>>();
        }
        segment.push(entry);
        index
    }

    fn directory_bytes(&self) -> usize {
        self.tail.capacity() * size_of::<Vec<Entry<K, V>>>()
            + self.metas.capacity() * size_of::<ChunkMeta<V>>()
    }

    fn mark(&mut self, index: u32, stamp: Stamp) {
        self.stamp = stamp;
        self.metas[index as usize / CHUNK].stamp = stamp;
    }

    /// Before the first write to an entry in the open epoch: keeps what the active scan needs.
    pub(super) fn touch(&mut self, index: u32, open: Stamp, wanted: Option<Wanted>) {
        self.mark(index, open);
        let slot = self.slot_mut(index);
        let kept = match (wanted, &mut *slot) {
            (Some(wanted), Slot::Live { stamp, value }) if wanted.live(*stamp) => {
                Some((wanted.epoch, Some(value.clone())))
            }
            (Some(wanted), Slot::Dead { stamp }) if wanted.dead(*stamp) => {
                Some((wanted.epoch, None))
            }
            _ => None,
        };
        match slot {
            Slot::Live { stamp, .. } | Slot::Dead { stamp } => *stamp = open,
            Slot::Free { .. } => unreachable!("a free entry is not written"),
        }
        let Some((epoch, value)) = kept else { return };
        let meta = &mut self.metas[index as usize / CHUNK];
        let before = meta.kept.capacity();
        if meta.kept_for != epoch {
            meta.kept.clear();
            meta.kept_for = epoch;
        }
        meta.kept.push(Kept { index: index % CHUNK as u32, value });
        self.bytes += (meta.kept.capacity() - before) * size_of::<Kept<V>>();
    }

    /// Puts a value back into a removed entry, which has been touched.
    pub(super) fn revive(&mut self, index: u32, value: V, stamp: Stamp) {
        let heap = value.heap_bytes();
        *self.slot_mut(index) = Slot::Live { stamp, value };
        self.metas[index as usize / CHUNK].heap += heap;
        self.bytes += heap;
    }

    /// Leaves a tombstone in the place of a value; the entry has been touched.
    pub(super) fn bury(&mut self, index: u32, stamp: Stamp) -> Option<V> {
        let value = self.take(index, Slot::Dead { stamp })?;
        let before = self.graves.capacity();
        self.graves.push_back((stamp, index));
        self.bytes += (self.graves.capacity() - before) * size_of::<(Stamp, u32)>();
        Some(value)
    }

    /// Puts another value in the place of one: for a restore, which nothing watches.
    pub(super) fn replace(&mut self, index: u32, value: V) {
        self.take(index, Slot::Dead { stamp: 0 });
        self.revive(index, value, 0);
    }

    fn take(&mut self, index: u32, instead: Slot<V>) -> Option<V> {
        let Slot::Live { value, .. } = mem::replace(self.slot_mut(index), instead) else {
            return None;
        };
        let meta = &mut self.metas[index as usize / CHUNK];
        // The value may have grown since it was last asked.
        let heap = value.heap_bytes().min(meta.heap);
        meta.heap -= heap;
        self.bytes -= heap;
        Some(value)
    }

    /// Takes a key out at once, without a tombstone: for a restore, which no snapshot has to tell.
    pub(super) fn erase(&mut self, hash: u64, key: &K::View<'_>) -> Option<V> {
        let index = self.find(hash, key)?;
        let value = self.take(index, Slot::Dead { stamp: 0 });
        self.release(index);
        self.pack();
        value
    }

    /// Frees removed entries whose removal no later snapshot has to tell, at most so many. Gives
    /// the number it looked at and the newest stamp it freed.
    pub(super) fn reclaim(&mut self, limit: Stamp, budget: usize) -> (usize, Stamp) {
        let mut done = 0;
        let mut newest = 0;
        while done < budget {
            let Some(&(stamp, index)) = self.graves.front().filter(|grave| grave.0 <= limit) else {
                break;
            };
            self.graves.pop_front();
            done += 1;
            if matches!(self.slot(index), Slot::Dead { stamp: last } if *last == stamp) {
                self.release(index);
                newest = stamp;
            }
        }
        if done > 0 {
            self.pack();
        }
        (done, newest)
    }

    fn release(&mut self, index: u32) {
        self.index.remove(self.hash_of(index), index);
        *self.slot_mut(index) = Slot::Free { next: self.free };
        self.free = index;
        self.free_count += 1;
        self.freed += 1;
    }

    /// Packs the arena when more of its keys are gone than there are left.
    fn pack(&mut self) {
        let left = self.used() - self.free_count;
        if self.freed <= left.max(CHUNK as u32) {
            return;
        }
        self.freed = 0;
        if self.arena.allocated() == 0 {
            return;
        }
        let mut arena = KeyArena::default();
        for entry in self.head.iter_mut().chain(self.tail.iter_mut().flatten()) {
            if !matches!(entry.slot, Slot::Free { .. }) {
                let key = K::store(&K::load(&entry.key, &self.arena), &mut arena);
                entry.key = key;
            }
        }
        self.bytes = self.bytes + arena.allocated() - self.arena.allocated();
        self.arena = arena;
    }

    /// True if the scan has something to look for in the chunk.
    pub(super) fn chunk_touched(&self, chunk: usize, wanted: Wanted) -> bool {
        wanted.touched(self.metas[chunk].stamp)
    }

    /// Gives what a chunk's entries were at the barrier, as far as it is wanted, and lets go of
    /// what was kept for that.
    pub(super) fn scan_chunk(
        &mut self,
        chunk: usize,
        wanted: Wanted,
        mut each: impl FnMut(&K::View<'_>, Option<&V>),
    ) {
        let first = chunk * CHUNK;
        let meta = &mut self.metas[chunk];
        let mut kept = mem::take(&mut meta.kept);
        let kept_for = meta.kept_for;
        self.bytes -= kept.capacity() * size_of::<Kept<V>>();
        if kept_for != wanted.epoch {
            kept.clear();
        }
        kept.sort_unstable_by_key(|kept| kept.index);
        let mut kept = kept.iter().peekable();
        let entries = self.segment(first / SEGMENT)[first % SEGMENT..].iter().take(CHUNK);
        let mut heap = 0;
        for (number, entry) in (0_u32..).zip(entries) {
            if let Slot::Live { value, .. } = &entry.slot {
                heap += value.heap_bytes();
            }
            let value = match (kept.next_if(|kept| kept.index == number), &entry.slot) {
                (Some(kept), _) => kept.value.as_ref(),
                (None, Slot::Live { stamp, value }) if wanted.live(*stamp) => Some(value),
                (None, Slot::Dead { stamp }) if wanted.dead(*stamp) => None,
                _ => continue,
            };
            each(&K::load(&entry.key, &self.arena), value);
        }
        self.bytes = self.bytes + heap - mem::replace(&mut self.metas[chunk].heap, heap);
    }
}

#[cfg(test)]
impl<K: Key, V: State> Group<K, V> {
    /// What `bytes` says, counted anew.
    pub(super) fn recount(&self) -> usize {
        let entries: usize = self.tail.iter().map(Vec::capacity).sum();
        let kept: usize = self.metas.iter().map(|meta| meta.kept.capacity()).sum();
        let heap: usize = self.metas.iter().map(|meta| meta.heap).sum();
        (entries + self.head.capacity()) * size_of::<Entry<K, V>>()
            + kept * size_of::<Kept<V>>()
            + heap
            + self.index.allocated()
            + self.arena.allocated()
            + self.directory_bytes()
            + self.graves.capacity() * size_of::<(Stamp, u32)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_costs_one_word() {
        assert_eq!(size_of::<Entry<u64, u64>>(), 24);
        assert_eq!(size_of::<Entry<u64, (u64, u64)>>(), 32);
    }

    #[test]
    fn what_the_hit_path_reads_of_a_group_is_in_one_cache_line() {
        assert!(core::mem::offset_of!(Group<u64, u64>, head) + 24 <= 64);
    }
}
