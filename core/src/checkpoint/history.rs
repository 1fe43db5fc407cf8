//! What the records of a log mean together: which count, and which are void.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::record::{EpochRecord, Record, RecordError, TaskKey};
use crate::id::{AppTerm, Attempt, Epoch, LogNumber};

/// The records of a log by number, each as far as it could be read.
pub type Records = BTreeMap<LogNumber, Result<Record, RecordError>>;

/// A log as everyone who reads it has to understand it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The committed epochs that are still there, rising in number and in epoch.
    pub epochs: Vec<(LogNumber, EpochRecord)>,
    /// The last epoch of a finished app of which all is visible.
    pub closed: Option<Epoch>,
    /// Records that cannot be read, from the floor upwards.
    pub damaged: Vec<Damaged>,
    /// In which attempt each task was last about to be deployed, as far as that is still there.
    pub attempts: BTreeMap<TaskKey, Attempt>,
    /// The highest term of the records that count.
    pub term: AppTerm,
    /// What is of no use once the floor is above it: epochs that count nothing, because they are
    /// void, superseded or below the floor already, and all attempts.
    pub stale: Vec<LogNumber>,
}

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Damaged {
    /// Its number.
    pub number: LogNumber,
    /// Why.
    pub error: RecordError,
}

/// Applies the rules to all records of a log.
///
/// * Below the highest floor that a record states, nothing counts. Numbers there may have been
///   freed, and a request that was under way for a long time may have landed in one of them.
/// * A record whose term is lower than that of a fence before it is void. A record that counts
///   stands behind a fence of its own term, so it raises the term as a fence does.
#[must_use]
pub fn settle(records: &Records) -> History {
    let mut history = History::default();
    let floor = floor(records);
    for (&number, record) in records {
        if matches!(record, Ok(Record::Attempt(_))) {
            history.stale.push(number);
        }
        if number < floor {
            if matches!(record, Ok(Record::Epoch(_))) {
                history.stale.push(number);
            }
            continue;
        }
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                history.damaged.push(Damaged { number, error: error.clone() });
                continue;
            }
        };
        if record.term() < history.term {
            if matches!(record, Record::Epoch(_)) {
                history.stale.push(number);
            }
            continue;
        }
        history.term = record.term();
        match record {
            Record::Fence(_) => {}
            Record::Epoch(epoch) => push(&mut history, number, epoch),
            Record::Closed(closed) => history.closed = Some(closed.epoch),
            Record::Attempt(record) => {
                let tasks = record.tasks.iter().cloned();
                history.attempts.extend(tasks.map(|task| (task, record.attempt)));
            }
        }
    }
    assert!(history.epochs.is_sorted_by(|a, b| a.0 < b.0 && a.1.epoch < b.1.epoch));
    history
}

/// Adds an epoch, which ends every later one before it: the app had gone back behind those.
fn push(history: &mut History, number: LogNumber, record: &EpochRecord) {
    while let Some((before, _)) = history.epochs.pop_if(|(_, last)| last.epoch >= record.epoch) {
        history.stale.push(before);
    }
    history.epochs.push((number, record.clone()));
}

fn floor(records: &Records) -> LogNumber {
    let floors = records.values().filter_map(|record| match record {
        Ok(Record::Epoch(epoch)) => Some(epoch.floor),
        _ => None,
    });
    floors.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::record::{AttemptRecord, Fence, Identity};
    use super::*;

    fn fence(term: u64) -> Record {
        Record::Fence(Fence {
            term: AppTerm(term),
            incarnation: term,
            identity: Identity::default(),
        })
    }

    fn epoch(term: u64, epoch: u64, floor: u64) -> Record {
        Record::Epoch(EpochRecord {
            term: AppTerm(term),
            epoch: Epoch(epoch),
            floor: LogNumber(floor),
            ..EpochRecord::default()
        })
    }

    fn settled(records: &[(u64, Record)]) -> History {
        settle(&records.iter().cloned().map(|(n, record)| (LogNumber(n), Ok(record))).collect())
    }

    fn epochs(history: &History) -> Vec<u64> {
        history.epochs.iter().map(|(_, record)| record.epoch.0).collect()
    }

    #[test]
    fn a_record_behind_a_higher_fence_is_void() {
        let history = settled(&[
            (1, fence(1)),
            (2, epoch(1, 1, 0)),
            (3, fence(2)),
            (4, epoch(1, 2, 0)),
            (5, epoch(2, 2, 0)),
        ]);
        assert_eq!(epochs(&history), [1, 2]);
        assert_eq!(history.epochs[1].1.term, AppTerm(2));
        assert_eq!(history.stale, [LogNumber(4)]);
    }

    #[test]
    fn a_fence_that_came_late_into_a_freed_number_voids_nothing() {
        // Numbers 2 to 4 had been collected when the fence of term 2 landed in one of them.
        let history =
            settled(&[(1, fence(1)), (3, fence(2)), (5, epoch(1, 4, 4)), (6, epoch(1, 5, 5))]);
        assert_eq!(epochs(&history), [4, 5]);
    }

    #[test]
    fn the_last_attempt_of_each_task_is_known() {
        let attempt = |term: u64, count: u64, tasks: &[u32]| {
            let task = |index: &u32| TaskKey { uid: "count".into(), index: *index, parallelism: 2 };
            Record::Attempt(AttemptRecord {
                term: AppTerm(term),
                attempt: Attempt(Attempt::before(AppTerm(term)).0 + count),
                identity: Identity::default(),
                tasks: tasks.iter().map(task).collect(),
            })
        };
        let log = [
            (1, fence(1)),
            (2, attempt(1, 1, &[0, 1])),
            (3, epoch(1, 1, 0)),
            (4, attempt(1, 2, &[1])),
            (5, fence(2)),
            (6, attempt(1, 3, &[0, 1])),
        ];
        let history = settled(&log);
        let attempts: Vec<_> =
            history.attempts.iter().map(|(task, attempt)| (task.index, attempt.count())).collect();
        assert_eq!(attempts, [(0, 1), (1, 2)], "that of a fenced app master counts nothing");
        assert_eq!(history.stale, [LogNumber(2), LogNumber(4), LogNumber(6)]);
        let later = settled(&[&log[..], &[(7, epoch(2, 2, 3))]].concat());
        assert_eq!(later.attempts.len(), 1, "those below the floor count nothing either");
    }

    #[test]
    fn an_epoch_taken_again_ends_those_before_it() {
        let history =
            settled(&[(1, fence(1)), (2, epoch(1, 7, 0)), (3, fence(2)), (4, epoch(2, 7, 0))]);
        assert_eq!(epochs(&history), [7]);
        assert_eq!(history.stale, [LogNumber(2)]);
    }
}
