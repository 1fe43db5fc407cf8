//! Epochs of a table: the scan of a snapshot between writes, and the end of tombstones.

use super::group::{CHUNK, Stamp, Wanted};
use super::snapshot::{SectionHead, SnapshotWriter};
use super::table::Table;
use crate::api::key::Key;
use crate::api::state::State;
use crate::id::Epoch;

/// Tombstones that a commit looks at by itself; writes and snapshots see to the rest.
const SWEPT_BY_COMMIT: usize = 1_024;

/// A snapshot on its way: what lies before `group` and `chunk` has been written out.
#[derive(Debug)]
pub(super) struct Scan {
    wanted: Wanted,
    group: usize,
    chunk: usize,
    begun: bool,
}

impl Scan {
    /// What the scan still needs of an entry, unless it has passed it.
    pub(super) fn ahead(&self, at: usize, index: u32) -> Option<Wanted> {
        let ahead = (at, index as usize / CHUNK) >= (self.group, self.chunk);
        ahead.then_some(self.wanted)
    }
}

impl<K: Key, V: State> Table<K, V> {
    fn stamp(&self, epoch: Epoch) -> Stamp {
        let stamp = epoch.0.saturating_sub(self.origin.0);
        Stamp::try_from(stamp).expect("invariant: a task sees fewer than 2^32 epochs")
    }

    const fn epoch(&self, stamp: Stamp) -> Epoch {
        Epoch(self.origin.0 + stamp as u64)
    }

    /// At the barrier of `epoch`: whatever is written from now on belongs to a later epoch, and a
    /// scan for what changed since `base` begins (for everything, if there is none).
    ///
    /// Gives the base that is in effect. It is the one asked for, but none if removals since then
    /// have been forgotten, because [`Self::committed`] told of a later epoch and a snapshot
    /// relative to that was begun. A full snapshot may follow any chain: its restore begins anew.
    ///
    /// # Panics
    /// If a scan is active, or `epoch` has ended before.
    pub fn begin_snapshot(&mut self, epoch: Epoch, base: Option<Epoch>) -> Option<Epoch> {
        assert!(self.scan.is_none(), "one snapshot at a time");
        assert!(epoch >= self.open_epoch(), "{epoch} has ended before");
        assert!(base.is_none_or(|base| base < epoch), "a snapshot's base is an earlier epoch");
        let known = base.filter(|base| *base >= self.epoch(self.forgotten));
        let known = known.map(|base| self.stamp(base));
        let ended = self.stamp(epoch);
        self.scan = Some(Scan {
            wanted: Wanted { epoch: ended, base: known },
            group: 0,
            chunk: 0,
            begun: false,
        });
        self.floor = base.map(|base| self.stamp(base));
        self.sweep.1 = self.groups.len();
        self.open = ended.checked_add(1).expect("invariant: a task sees fewer than 2^32 epochs");
        known.map(|base| self.epoch(base))
    }

    /// True while a snapshot is on its way.
    #[must_use]
    pub const fn is_snapshotting(&self) -> bool {
        self.scan.is_some()
    }

    /// Writes the next part of the snapshot to a section of this name, looking at about so many
    /// entries. True once it is whole, and then there is no active scan.
    ///
    /// Sections of one object are written one behind the other, each in as many parts as it takes.
    ///
    /// # Panics
    /// If no snapshot was begun, or the object has another section of this name.
    pub fn write_snapshot(
        &mut self,
        section: &str,
        budget_entries: usize,
        out: &mut SnapshotWriter,
    ) -> bool {
        let mut scan = self.scan.take().expect("invariant: a snapshot was begun");
        if !scan.begun {
            scan.begun = true;
            out.begin_section::<K, V>(SectionHead {
                name: section,
                epoch: self.epoch(scan.wanted.epoch),
                base: scan.wanted.base.map(|base| self.epoch(base)),
                groups: self.groups(),
                total_groups: self.total,
            });
        }
        let mut left = budget_entries;
        while left > 0 && scan.group < self.groups.len() {
            let group = &self.groups[scan.group];
            if scan.chunk == group.chunk_count() || !scan.wanted.touched(group.stamp) {
                scan.group += 1;
                scan.chunk = 0;
                left -= 1;
                continue;
            }
            if group.chunk_touched(scan.chunk, scan.wanted) {
                let number = self.first + scan.group as u32;
                self.measured(scan.group, |group| {
                    group.scan_chunk(scan.chunk, scan.wanted, |key, value| {
                        out.entry::<K, V>(number, key, value);
                    });
                });
                left = left.saturating_sub(CHUNK);
            } else {
                left -= 1;
            }
            scan.chunk += 1;
        }
        out.settle();
        self.sweep(budget_entries / 4);
        if scan.group < self.groups.len() {
            self.scan = Some(scan);
            return false;
        }
        out.end_section();
        true
    }

    /// Gives the active snapshot up, if there is one. What it would have told is part of the next,
    /// whose base is an earlier epoch.
    pub fn abort_snapshot(&mut self) {
        self.scan = None;
    }

    /// The record of `epoch` is in the commit log: removals up to there need not be told again, so
    /// their places may be used again, little by little.
    pub fn committed(&mut self, epoch: Epoch) {
        let ended = self.open - 1;
        self.committed = self.committed.max(self.stamp(epoch).min(ended));
        self.sweep.1 = self.groups.len();
        self.sweep(SWEPT_BY_COMMIT);
    }

    /// Tombstones up to here may go. An epoch is known to be committed here before the barriers
    /// that
    /// were started without knowing it have come, so the base of the last barrier counts as well;
    /// and it is what the active scan reads.
    fn limit(&self) -> Stamp {
        self.floor.map_or(self.committed, |floor| floor.min(self.committed))
    }

    /// Frees some of a group's tombstones that may go.
    pub(super) fn reclaim(&mut self, at: usize, budget: usize) -> usize {
        let limit = self.limit();
        let (done, newest) = self.measured(at, |group| group.reclaim(limit, budget));
        self.forgotten = self.forgotten.max(newest);
        done
    }

    fn sweep(&mut self, budget: usize) {
        let mut left = budget;
        let (mut at, mut groups) = self.sweep;
        while left > 0 && groups > 0 {
            let done = self.reclaim(at, left);
            left -= done;
            if left > 0 {
                at = if at + 1 == self.groups.len() { 0 } else { at + 1 };
                groups -= 1;
            }
        }
        self.sweep = (at, groups);
    }
}
