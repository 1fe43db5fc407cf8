//! Rules of the commit log: epochs rise one by one, every record's objects exist as long as it is
//! the last, and no record of a fenced term counts.

use std::collections::BTreeMap;

use gear_core::checkpoint::record::{FOLDER, number_of};
use gear_core::checkpoint::{Aside, Record};
use gear_core::effect::{StoreReply, StoreRequest};
use gear_core::flow::source::as_given;
use gear_core::id::{AppTerm, Epoch, LogNumber};
use gear_core::message::{ObjectRef, Partition};
use gear_core::task::decode_quarantine;

use super::attempts::Attempts;
use crate::cluster::TaskLook;
use crate::direct::Store;

/// What was seen of the commit log.
#[derive(Clone, Debug, Default)]
pub struct Commits {
    /// Epochs may be given up.
    gaps: bool,
    term: AppTerm,
    last: Epoch,
    epochs: u64,
    /// Epochs that were never committed, and later ones were.
    given_up: u64,
    /// Records of lower numbers count nothing.
    floor: LogNumber,
    /// How far the partitions of sources were read, as the last record says.
    partitions: Vec<Partition>,
    /// The objects of the last record.
    live: BTreeMap<String, (u64, u32)>,
    /// Objects that hold what was put aside, of all records.
    quarantine: BTreeMap<String, ObjectRef>,
    /// Which of them count, as the last record says.
    aside: Aside,
    /// What the tasks have committed, and where those begin that run.
    attempts: Attempts,
}

impl Commits {
    /// As [`Self::default`], for an app that gives epochs up while it runs.
    #[must_use]
    pub fn with_gaps() -> Self {
        Self { gaps: true, ..Self::default() }
    }

    /// The store has performed a request.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn observe(
        &mut self,
        request: &StoreRequest,
        reply: &StoreReply,
        store: &Store,
    ) -> Result<(), String> {
        match request {
            StoreRequest::Create { name, bytes }
                if name.starts_with(FOLDER) && *reply == StoreReply::Done =>
            {
                let record = Record::decode(bytes);
                let number = number_of(name).ok_or_else(|| format!("{name} has no number"))?;
                self.record(number, record.map_err(|error| format!("{name}: {error}"))?, store)
            }
            StoreRequest::Delete { name } if self.live.contains_key(name) => {
                Err(format!("{name} was deleted, and the last epoch needs it"))
            }
            StoreRequest::Delete { name }
                if self.quarantine.contains_key(name) && !self.aside.is_out(name) =>
            {
                Err(format!("{name} was deleted, and holds records that were put aside"))
            }
            _ => Ok(()),
        }
    }

    fn record(&mut self, number: LogNumber, record: Record, store: &Store) -> Result<(), String> {
        if number < self.floor || record.term() < self.term {
            // Void: its author was fenced while it was under way, or it came into a freed number.
            return Ok(());
        }
        self.term = record.term();
        let Record::Epoch(record) = record else { return Ok(()) };
        // Epochs that were given up leave a gap where regions of a running app go back.
        let follows = record.epoch == self.last.next() || self.gaps && record.epoch > self.last;
        if !follows {
            return Err(format!("{} was committed behind {}", record.epoch, self.last));
        }
        self.given_up += record.epoch.0 - self.last.next().0;
        self.last = record.epoch;
        self.floor = self.floor.max(record.floor);
        self.epochs += 1;
        let partitions = record.tasks.values().flat_map(|snapshot| &snapshot.partitions);
        self.partitions = partitions.cloned().map(as_given).collect();
        self.live.clear();
        let quarantine = record.tasks.values().flat_map(|snapshot| &snapshot.quarantine);
        for object in record.objects().chain(quarantine) {
            let Some(bytes) = store.get(&object.name) else {
                return Err(format!("{} names {}, which is missing", record.epoch, object.name));
            };
            if bytes.len() as u64 != object.len || crc32c::crc32c(bytes) != object.crc {
                return Err(format!("{} names another {}", record.epoch, object.name));
            }
            self.live.insert(object.name.clone(), (object.len, object.crc));
        }
        for snapshot in record.tasks.values() {
            for object in &snapshot.quarantine {
                if !record.aside.holds(&object.name) && !record.aside.is_out(&object.name) {
                    return Err(format!(
                        "{} names {}, which is not in its quarantine",
                        record.epoch, object.name
                    ));
                }
                self.quarantine.insert(object.name.clone(), object.clone());
            }
        }
        self.aside = record.aside;
        for (key, snapshot) in record.tasks {
            // One that has finished says the same in every attempt.
            if !snapshot.finished {
                self.attempts.commits((key.uid, key.index), snapshot.attempt, record.epoch)?;
            }
        }
        Ok(())
    }

    /// A task of the app runs.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn runs(&mut self, look: TaskLook) -> Result<(), String> {
        self.attempts.begins((look.uid, look.task.index), look.attempt, look.restored)
    }

    /// The highest term of a record that counts.
    #[must_use]
    pub const fn term(&self) -> AppTerm {
        self.term
    }

    /// The last committed epoch.
    #[must_use]
    pub const fn last(&self) -> Epoch {
        self.last
    }

    /// How far the partitions of sources were read, as the last committed epoch says.
    #[must_use]
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// Epochs that were committed.
    #[must_use]
    pub const fn epochs(&self) -> u64 {
        self.epochs
    }

    /// Epochs that were never committed, and later ones were.
    #[must_use]
    pub const fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Every record that is in the quarantine as of the last epoch: its operator, and its bytes.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn quarantined(&self, store: &Store) -> Result<Vec<(String, Vec<u8>)>, String> {
        let mut found = Vec::new();
        for name in self.quarantine.keys().filter(|name| self.aside.holds(name)) {
            let bytes = store.get(name).ok_or_else(|| format!("{name} is gone"))?;
            let entries = decode_quarantine(bytes).map_err(|error| format!("{name} {error}"))?;
            found.extend(entries.into_iter().map(|entry| (entry.operator, entry.bytes)));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use gear_core::checkpoint::EpochRecord;
    use gear_core::checkpoint::TaskKey;
    use gear_core::checkpoint::record::object_name;
    use gear_core::message::TaskSnapshot;

    use super::*;

    fn commit(epoch: u64, term: u64, object: Option<&str>) -> StoreRequest {
        let chain =
            object.map(|name| ObjectRef { name: name.into(), len: 1, crc: crc32c::crc32c(b"x") });
        let snapshot =
            TaskSnapshot { chain: chain.into_iter().collect(), ..TaskSnapshot::default() };
        let key = TaskKey { uid: "x".into(), index: 0, parallelism: 1 };
        let record = EpochRecord {
            epoch: Epoch(epoch),
            term: AppTerm(term),
            tasks: [(key, snapshot)].into(),
            ..EpochRecord::default()
        };
        let bytes = Record::Epoch(record).encode();
        StoreRequest::Create {
            name: object_name(LogNumber(epoch * 10 + term)),
            bytes: bytes.into(),
        }
    }

    #[test]
    fn what_was_put_aside_is_deleted_only_once_it_has_left() {
        let name = "quarantine/x-0/t0000000001-a1-e0000000001";
        let mut store = Store::default();
        store.perform(&StoreRequest::Put { name: name.into(), bytes: b"x".to_vec().into() });
        let commit = |epoch: u64, left: bool| {
            let object = ObjectRef { name: name.into(), len: 1, crc: crc32c::crc32c(b"x") };
            let mut record = EpochRecord { epoch: Epoch(epoch), ..EpochRecord::default() };
            record.aside.put(name);
            if left {
                record.aside.take_out(name, Epoch(epoch));
            } else {
                let snapshot = TaskSnapshot { quarantine: vec![object], ..TaskSnapshot::default() };
                let key = TaskKey { uid: "x".into(), index: 0, parallelism: 1 };
                record.tasks.insert(key, snapshot);
            }
            let bytes = Record::Epoch(record).encode();
            StoreRequest::Create { name: object_name(LogNumber(epoch)), bytes: bytes.into() }
        };
        let done = StoreReply::Done;
        let mut commits = Commits::default();
        let delete = StoreRequest::Delete { name: name.into() };
        assert_eq!(commits.observe(&commit(1, false), &done, &store), Ok(()));
        let mut early = commits.clone();
        early.live.clear();
        assert!(early.observe(&delete, &done, &store).is_err());
        assert_eq!(commits.observe(&commit(2, true), &done, &store), Ok(()));
        assert_eq!(commits.observe(&delete, &done, &store), Ok(()));
        assert_eq!(commits.quarantined(&store), Ok(Vec::new()));
    }

    #[test]
    fn epochs_rise_one_by_one_and_void_ones_do_not_count() {
        let (store, mut commits) = (Store::default(), Commits::default());
        let done = StoreReply::Done;
        commits.observe(&commit(1, 2, None), &done, &store).unwrap();
        commits.observe(&commit(2, 1, None), &done, &store).unwrap();
        assert_eq!(commits.epochs(), 1);
        commits.observe(&commit(2, 2, None), &done, &store).unwrap();
        assert!(commits.observe(&commit(4, 2, None), &done, &store).is_err());
    }

    #[test]
    fn objects_of_the_last_record_are_there_and_stay() {
        let (mut store, mut commits) = (Store::default(), Commits::default());
        let done = StoreReply::Done;
        let mut missing = commits.clone();
        assert!(missing.observe(&commit(1, 1, Some("a")), &done, &store).is_err());
        store.perform(&StoreRequest::Put { name: "a".into(), bytes: b"x".to_vec().into() });
        commits.observe(&commit(1, 1, Some("a")), &done, &store).unwrap();
        let delete = StoreRequest::Delete { name: "a".into() };
        assert!(commits.observe(&delete, &done, &store).is_err());
        commits.observe(&commit(2, 1, None), &done, &store).unwrap();
        commits.observe(&delete, &done, &store).unwrap();
    }
}
