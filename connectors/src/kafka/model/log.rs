//! The log of a partition as readers see it: offsets, timestamps, transactions, retention.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A record as its producer gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelRecord {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Its headers, encoded by [`Headers::put`](crate::kafka::Headers::put).
    pub headers: Vec<u8>,
}

impl ModelRecord {
    /// A record with a key and a value.
    #[must_use]
    pub fn new(key: &str, value: &str, timestamp: i64) -> Self {
        Self {
            key: Some(key.as_bytes().to_vec()),
            value: Some(value.as_bytes().to_vec()),
            timestamp,
            headers: Vec::new(),
        }
    }
}

/// What an offset holds.
#[derive(Clone, Debug)]
enum Slot {
    Record {
        record: ModelRecord,
        transaction: Option<u64>,
    },
    /// The end of a transaction.
    Marker,
}

/// A partition's log.
///
/// As in a broker, a transaction's end takes an offset of its own; readers of committed records
/// stop at the first transaction that is open, and do not see those that were aborted.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The offset of the first slot.
    start: u64,
    slots: VecDeque<Slot>,
    /// Transactions that have records here and no end, with the offset of the first.
    open: BTreeMap<u64, u64>,
    aborted: BTreeSet<u64>,
    /// Rises when another broker leads.
    leader_epoch: u32,
}

/// What a reader finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Records with their offsets.
    pub records: Vec<(u64, ModelRecord)>,
    /// Where to go on: behind what was read, and behind what is not seen.
    pub next: u64,
}

impl Log {
    /// Appends a record, and gives its offset.
    pub fn append(&mut self, record: ModelRecord, transaction: Option<u64>) -> u64 {
        let offset = self.end();
        if let Some(transaction) = transaction {
            self.open.entry(transaction).or_insert(offset);
        }
        self.slots.push_back(Slot::Record { record, transaction });
        offset
    }

    /// Ends a transaction, if it has records here.
    pub fn end_transaction(&mut self, transaction: u64, commit: bool) {
        if self.open.remove(&transaction).is_none() {
            return;
        }
        if !commit {
            self.aborted.insert(transaction);
        }
        self.slots.push_back(Slot::Marker);
    }

    /// The first offset that there still is.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Behind the last offset.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + self.slots.len() as u64
    }

    /// Behind what readers of committed records may see.
    #[must_use]
    pub fn stable(&self) -> u64 {
        self.open.values().copied().min().unwrap_or_else(|| self.end())
    }

    /// The epoch of the leader.
    #[must_use]
    pub const fn leader_epoch(&self) -> u32 {
        self.leader_epoch
    }

    /// Another broker leads.
    pub const fn move_leader(&mut self) {
        self.leader_epoch += 1;
    }

    /// Reads at most so many records, committed ones only or all; none if there is no such offset.
    #[must_use]
    pub fn read(&self, from: u64, most: usize, committed: bool) -> Option<Read> {
        self.read_before(u64::MAX, from, most, committed)
    }

    /// The same of what is before an offset.
    #[must_use]
    pub fn read_before(
        &self,
        before: u64,
        from: u64,
        most: usize,
        committed: bool,
    ) -> Option<Read> {
        if from < self.start || from > self.end() {
            return None;
        }
        let end = if committed { self.stable() } else { self.end() }.min(before);
        let mut read = Read { records: Vec::new(), next: from };
        while read.next < end && read.records.len() < most {
            let slot = &self.slots[(read.next - self.start) as usize];
            if let Slot::Record { record, transaction } = slot
                && !(committed && transaction.is_some_and(|it| self.aborted.contains(&it)))
            {
                read.records.push((read.next, record.clone()));
            }
            read.next += 1;
        }
        Some(read)
    }

    /// The first record with this timestamp or a later one, as a reader of committed or of all
    /// records finds it.
    #[must_use]
    pub fn first_at(&self, timestamp: i64, committed: bool) -> Option<u64> {
        let end = if committed { self.stable() } else { self.end() };
        let slots = (self.start..end).zip(&self.slots);
        slots
            .filter(|(_, slot)| match slot {
                Slot::Record { record, .. } => record.timestamp >= timestamp,
                Slot::Marker => false,
            })
            .map(|(offset, _)| offset)
            .next()
    }

    /// Retention removes what is before this offset.
    pub fn remove_before(&mut self, offset: u64) {
        while self.start < offset && self.slots.pop_front().is_some() {
            self.start += 1;
        }
    }

    /// A leader that had less takes over: what is at this offset and behind it is lost.
    pub fn lose_from(&mut self, offset: u64) {
        self.slots.truncate(offset.saturating_sub(self.start) as usize);
        self.open.retain(|_, first| *first < offset);
        self.leader_epoch += 1;
    }

    /// Compaction removes a record; its offset stays empty.
    pub fn compact(&mut self, offset: u64) {
        let slot = offset.checked_sub(self.start).and_then(|at| self.slots.get_mut(at as usize));
        if let Some(slot) = slot {
            *slot = Slot::Marker;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(timestamp: i64) -> ModelRecord {
        ModelRecord::new("k", "v", timestamp)
    }

    fn offsets(log: &Log, from: u64, committed: bool) -> (Vec<u64>, u64) {
        let read = log.read(from, usize::MAX, committed).expect("it is there");
        (read.records.into_iter().map(|(offset, _)| offset).collect(), read.next)
    }

    #[test]
    fn readers_stop_at_an_open_transaction_and_pass_an_aborted_one() {
        let mut log = Log::default();
        log.append(record(1), None);
        log.append(record(2), Some(7));
        log.append(record(3), None);
        assert_eq!((log.stable(), log.end()), (1, 3));
        assert_eq!(offsets(&log, 0, true), (vec![0], 1));
        assert_eq!(offsets(&log, 0, false), (vec![0, 1, 2], 3));
        log.end_transaction(7, false);
        log.end_transaction(7, false);
        assert_eq!(offsets(&log, 1, true), (vec![2], 4));
        log.append(record(4), Some(8));
        log.end_transaction(8, true);
        assert_eq!(offsets(&log, 3, true), (vec![4], 6));
    }

    #[test]
    fn retention_moves_the_start_and_a_timestamp_finds_the_first_at_or_after_it() {
        let mut log = Log::default();
        for timestamp in [10, 30, 20, 40] {
            log.append(record(timestamp), None);
        }
        assert_eq!(
            [11, 30, 31, 41].map(|at| log.first_at(at, true)),
            [Some(1), Some(1), Some(3), None]
        );
        log.remove_before(2);
        assert_eq!((log.start(), log.read(1, 1, true)), (2, None));
        assert_eq!(log.first_at(30, true), Some(3));
        log.lose_from(3);
        assert_eq!((log.end(), log.leader_epoch()), (3, 1));
        log.compact(2);
        assert_eq!(offsets(&log, 2, true), (vec![], 3));
    }
}
