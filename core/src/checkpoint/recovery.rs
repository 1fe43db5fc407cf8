//! From the last committed epoch to the tasks of a job that may have another shape.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::history::{Damaged, History};
use super::record::{EpochRecord, TaskKey, object_name};
use crate::api::key::groups_of_task;
use crate::api::source::{group, grows};
use crate::app::plan::{AppPlan, Guarantee, ProcessorPlan};
use crate::id::{Epoch, LogNumber, TaskId};
use crate::message::{ObjectRef, Partition, Pending, TaskDeployment, TaskSnapshot};

/// Where an app goes on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// The epoch to go on from; none for a fresh start.
    pub record: Option<Box<EpochRecord>>,
    /// A damaged record behind it that is passed over.
    pub passed_over: Option<Damaged>,
}

/// Why an app cannot go on from its log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The last record cannot be read, and the sinks may have gone further.
    #[error(
        "the last record of the commit log, `{object}`, is damaged: {reason}. {before}, but sinks \
         may have made later output visible, which would then be repeated. Put the object back \
         from a copy, or go on from before with `--fall-back`, or discard all state with `--fresh`"
    )]
    Damaged {
        /// The object.
        object: String,
        /// What is wrong with it.
        reason: String,
        /// What could be gone on from.
        before: String,
    },
    /// The job has lost a processor that has state.
    #[error(
        "the saved state holds the operator `{uid}`, which the job no longer has: give an operator \
         that name again, or discard its state with `--drop-state`"
    )]
    MissingProcessor {
        /// The operator's name.
        uid: String,
    },
    /// The record contradicts itself.
    #[error(
        "the record of {epoch} does not name every task of `{uid}` once: it was not written by \
         this program; discard the state with `--fresh`"
    )]
    Inconsistent {
        /// The epoch.
        epoch: Epoch,
        /// The operator's name.
        uid: String,
    },
}

/// Picks the last committed epoch, or the one before a damaged record if that is harmless.
///
/// # Errors
/// [`RecoveryError::Damaged`] if it may not be harmless and the user has not said so.
pub fn choose(history: &History, plan: &AppPlan) -> Result<Choice, RecoveryError> {
    let record = history.epochs.last().map(|(number, record)| (*number, record));
    let last = record.map_or(LogNumber(0), |(number, _)| number);
    let damaged = history.damaged.iter().rfind(|damaged| damaged.number > last);
    if let Some(damaged) = damaged {
        let is_safe = plan.guarantee != Guarantee::ExactlyOnce
            || !plan.processors.iter().any(|processor| processor.sink)
            // Behind the end of a finished app nothing is committed any more.
            || record.is_some_and(|(_, record)| record.finished);
        if !is_safe && !plan.fall_back {
            let before = match record {
                Some((_, record)) => alloc::format!("The record of {} is whole", record.epoch),
                None => "There is none before it".to_string(),
            };
            return Err(RecoveryError::Damaged {
                object: object_name(damaged.number),
                reason: damaged.error.to_string(),
                before,
            });
        }
    }
    let record = record.map(|(_, record)| Box::new(record.clone()));
    Ok(Choice { record, passed_over: damaged.cloned() })
}

/// The tasks of every processor of the plan, and from where they go on.
///
/// # Errors
/// [`RecoveryError`] if the record does not fit the plan.
pub fn deploy(
    record: Option<&EpochRecord>,
    plan: &AppPlan,
) -> Result<Vec<TaskDeployment>, RecoveryError> {
    let old = match record {
        Some(record) => by_processor(record)?,
        None => BTreeMap::new(),
    };
    let known: BTreeSet<&str> =
        plan.processors.iter().map(|processor| processor.uid.as_str()).collect();
    let missing = old.keys().find(|uid| !known.contains(**uid));
    if let Some(uid) = missing.filter(|_| !plan.drop_state) {
        return Err(RecoveryError::MissingProcessor { uid: uid.to_string() });
    }
    let key_groups = record.map_or(plan.key_groups, |record| record.key_groups);
    let mut tasks = Vec::new();
    for processor in &plan.processors {
        let old = old.get(processor.uid.as_str()).map(Vec::as_slice).unwrap_or_default();
        let mut new = deploy_processor(processor, old, key_groups);
        for account in new.iter_mut().flat_map(|task| &mut task.pending) {
            let (uid, parallelism) = (processor.uid.clone(), old.len() as u32);
            let key = TaskKey { uid, index: account.index, parallelism };
            let objects = record.and_then(|record| record.output.get(&key));
            account.objects = objects.cloned().unwrap_or_default();
        }
        tasks.append(&mut new);
    }
    Ok(tasks)
}

/// The tasks of every processor of the plan as they were at an epoch that they have committed
/// themselves: each with its own partitions, state and account, so that a part of them can go back
/// while the others go on.
///
/// # Errors
/// [`RecoveryError::Inconsistent`] if the record is of another shape than the plan.
pub fn redeploy(
    record: &EpochRecord,
    plan: &AppPlan,
) -> Result<Vec<TaskDeployment>, RecoveryError> {
    let again = |(task, processor): (TaskId, &ProcessorPlan)| {
        let (uid, parallelism) = (processor.uid.clone(), processor.parallelism);
        let key = TaskKey { uid, index: task.index, parallelism };
        let Some(own) = record.tasks.get(&key) else {
            return Err(RecoveryError::Inconsistent { epoch: record.epoch, uid: key.uid });
        };
        let objects = record.output.get(&key).cloned().unwrap_or_default();
        let account = Pending { index: task.index, bytes: own.pending.clone(), objects };
        Ok(TaskDeployment {
            task,
            finished: own.finished,
            partitions: own.partitions.clone(),
            restore: [own.chain.clone()].into_iter().filter(|chain| !chain.is_empty()).collect(),
            pending: [account].into_iter().filter(|account| !account.bytes.is_empty()).collect(),
            records: own.records,
            quarantined: own.quarantined,
        })
    };
    plan.tasks().map(again).collect()
}

type Old<'a> = BTreeMap<&'a str, Vec<&'a TaskSnapshot>>;

/// The snapshots of each processor's tasks, by index.
fn by_processor(record: &EpochRecord) -> Result<Old<'_>, RecoveryError> {
    let mut old = Old::new();
    let mut last: Option<&TaskKey> = None;
    // The record's order is by uid, then by index.
    for (key, snapshot) in &record.tasks {
        let snapshots = old.entry(key.uid.as_str()).or_default();
        let fits = key.index as usize == snapshots.len()
            && last.is_none_or(|last| last.uid != key.uid || last.parallelism == key.parallelism);
        if !fits {
            return Err(RecoveryError::Inconsistent { epoch: record.epoch, uid: key.uid.clone() });
        }
        snapshots.push(snapshot);
        last = Some(key);
    }
    let short =
        record.tasks.keys().find(|key| old[key.uid.as_str()].len() as u32 != key.parallelism);
    match short {
        Some(key) => Err(RecoveryError::Inconsistent { epoch: record.epoch, uid: key.uid.clone() }),
        None => Ok(old),
    }
}

fn deploy_processor(
    processor: &ProcessorPlan,
    old: &[&TaskSnapshot],
    key_groups: u32,
) -> Vec<TaskDeployment> {
    let (partitions, discovered) = partitions_of(processor, old);
    let had_finished = !old.is_empty() && old.iter().all(|snapshot| snapshot.finished);
    let new = |(index, partitions)| TaskDeployment {
        task: TaskId { processor: processor.id, index },
        // A partition that turned up since has to be read.
        finished: had_finished && !discovered,
        partitions,
        restore: chains_of(index, processor.parallelism, old, key_groups),
        pending: pending_of(index, processor.parallelism, old),
        // Figures of the whole processor: the first task carries on from the sum.
        records: if index == 0 { old.iter().map(|snapshot| snapshot.records).sum() } else { 0 },
        quarantined: if index == 0 {
            old.iter().map(|snapshot| snapshot.quarantined).sum()
        } else {
            0
        },
    };
    let shares = share(partitions, processor.parallelism);
    (0..processor.parallelism).zip(shares).map(new).collect()
}

/// All partitions of a source, by name, and whether any is new to a source that had begun.
fn partitions_of(processor: &ProcessorPlan, old: &[&TaskSnapshot]) -> (Vec<Partition>, bool) {
    if !processor.source {
        return (Vec::new(), false);
    }
    let mut partitions: BTreeMap<&str, Partition> = BTreeMap::new();
    for partition in old.iter().flat_map(|snapshot| &snapshot.partitions) {
        partitions.insert(&partition.name, partition.clone());
    }
    let before = partitions.len();
    // What a source reads is settled when it begins, unless it looks for more.
    if old.is_empty() || processor.discovers {
        let growing: BTreeSet<String> =
            partitions.keys().filter_map(|name| Some(grows(name)?.0.into())).collect();
        for name in &processor.partitions {
            // Its reader may have found it already, or will.
            if group(name).is_some_and(|group| growing.contains(group)) {
                continue;
            }
            let new = Partition { name: name.clone(), position: None, done: false };
            partitions.entry(name).or_insert(new);
        }
    }
    let discovered = !old.is_empty() && partitions.len() > before;
    (partitions.into_values().collect(), discovered)
}

/// Deals partitions to tasks in the order of their names: first those to be read, so that no
/// task has two more of them than another, then those that are done, which are only remembered.
fn share(partitions: Vec<Partition>, parallelism: u32) -> Vec<Vec<Partition>> {
    let mut shares = vec![Vec::new(); parallelism as usize];
    let (done, open): (Vec<_>, Vec<_>) =
        partitions.into_iter().partition(|partition| partition.done);
    for (place, partition) in open.into_iter().chain(done).enumerate() {
        shares[place % parallelism as usize].push(partition);
    }
    shares
}

/// The state of every old task that had one of this task's key groups.
fn chains_of(
    index: u32,
    parallelism: u32,
    old: &[&TaskSnapshot],
    key_groups: u32,
) -> Vec<Vec<ObjectRef>> {
    let ours = groups_of_task(index, parallelism, key_groups);
    let before = old.len() as u32;
    let overlaps = |old_index: u32| {
        if before == parallelism {
            // Also for a task whose state has no key.
            return old_index == index;
        }
        let theirs = groups_of_task(old_index, before, key_groups);
        theirs.start < ours.end && ours.start < theirs.end
    };
    let needed = (0..before).zip(old).filter(|(old_index, _)| overlaps(*old_index));
    let chains = needed.map(|(_, snapshot)| snapshot.chain.clone());
    chains.filter(|chain| !chain.is_empty()).collect()
}

/// What old tasks of a sink had pre-committed; each is committed again by exactly one new task.
fn pending_of(index: u32, parallelism: u32, old: &[&TaskSnapshot]) -> Vec<Pending> {
    let pending = (0_u32..).zip(old).filter(|(_, snapshot)| !snapshot.pending.is_empty());
    let ours = pending.filter(|(old_index, _)| old_index % parallelism == index);
    let account = |(index, snapshot): (u32, &&TaskSnapshot)| Pending {
        index,
        bytes: snapshot.pending.clone(),
        objects: Vec::new(),
    };
    ours.map(account).collect()
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::id::ProcessorId;

    fn source(parallelism: u32, partitions: &[&str], discovers: bool) -> ProcessorPlan {
        ProcessorPlan {
            id: ProcessorId(0),
            uid: "read".into(),
            parallelism,
            source: true,
            sink: false,
            partitions: partitions.iter().map(ToString::to_string).collect(),
            discovers,
        }
    }

    fn partition(name: &str, done: bool) -> Partition {
        Partition { name: name.into(), position: Some(name.as_bytes().to_vec()), done }
    }

    fn chained(index: usize) -> TaskSnapshot {
        let object = ObjectRef { name: format!("state/x-{index}/t1-e1"), len: 1, crc: 1 };
        TaskSnapshot { chain: [object].into(), pending: [index as u8].into(), ..Default::default() }
    }

    fn names(task: &TaskDeployment) -> Vec<&str> {
        task.partitions.iter().map(|partition| partition.name.as_str()).collect()
    }

    #[test]
    fn partitions_are_dealt_evenly_and_done_ones_are_remembered() {
        let old = TaskSnapshot {
            partitions: [("a", true), ("b", false), ("c", true), ("d", false), ("e", false)]
                .map(|(name, done)| partition(name, done))
                .into(),
            ..TaskSnapshot::default()
        };
        let tasks = deploy_processor(&source(2, &["b", "f"], false), &[&old], 1_024);
        assert_eq!(names(&tasks[0]), ["b", "e", "c"]);
        assert_eq!(names(&tasks[1]), ["d", "a"]);
        assert_eq!(tasks[0].partitions[0].position, Some(b"b".to_vec()));
    }

    #[test]
    fn a_new_partition_is_read_only_by_a_source_that_discovers() {
        let partitions = [partition("a", true)].into();
        let old = TaskSnapshot { finished: true, partitions, ..TaskSnapshot::default() };
        let settled = deploy_processor(&source(1, &["a", "b"], false), &[&old], 1_024);
        assert_eq!((names(&settled[0]), settled[0].finished), (["a"].into(), true));
        let growing = deploy_processor(&source(1, &["a", "b"], true), &[&old], 1_024);
        assert_eq!((names(&growing[0]), growing[0].finished), (["b", "a"].into(), false));
    }

    #[test]
    fn new_names_of_a_group_are_left_to_the_partition_that_grows() {
        let partitions = [partition("t#0", false), partition("t#1+", false)].into();
        let old = TaskSnapshot { partitions, ..TaskSnapshot::default() };
        let now = ["t#0", "t#1", "t#2+", "u#0", "u#1+"];
        let tasks = deploy_processor(&source(1, &now, true), &[&old], 1_024);
        assert_eq!(names(&tasks[0]), ["t#0", "t#1+", "u#0", "u#1+"]);
    }

    #[test]
    fn each_key_group_and_each_account_is_restored_once_at_any_parallelism() {
        for (before, after) in [(1, 1), (2, 3), (3, 2), (5, 1), (1, 7), (4, 4)] {
            let old: Vec<_> = (0..before).map(chained).collect();
            let old: Vec<_> = old.iter().collect();
            let processor =
                ProcessorPlan { parallelism: after, source: false, ..source(1, &[], false) };
            let tasks = deploy_processor(&processor, &old, 64);
            assert_eq!(tasks.len(), after as usize);
            for group in 0..64 {
                let owner = crate::api::key::task_of_group(group, after, 64) as usize;
                let holder = crate::api::key::task_of_group(group, before as u32, 64) as usize;
                let needed = &old[holder].chain;
                assert!(tasks[owner].restore.contains(needed), "{before} to {after}: {group}");
            }
            let mut accounts: Vec<u32> =
                tasks.iter().flat_map(|task| &task.pending).map(|pending| pending.index).collect();
            accounts.sort_unstable();
            assert_eq!(accounts, (0..before as u32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_processor_is_restored_as_finished_only_if_all_its_tasks_had() {
        let ended = TaskSnapshot { finished: true, ..TaskSnapshot::default() };
        let processor = ProcessorPlan { source: false, ..source(3, &[], false) };
        let all = deploy_processor(&processor, &[&ended, &ended], 64);
        assert!(all.iter().all(|task| task.finished));
        let some = deploy_processor(&processor, &[&ended, &TaskSnapshot::default()], 64);
        assert!(some.iter().all(|task| !task.finished));
    }

    #[test]
    fn a_record_that_misses_a_task_is_refused() {
        let mut record = EpochRecord::default();
        let key = TaskKey { uid: "x".into(), index: 1, parallelism: 2 };
        record.tasks.insert(key, TaskSnapshot::default());
        assert!(matches!(by_processor(&record), Err(RecoveryError::Inconsistent { .. })));
        let key = TaskKey { uid: "x".into(), index: 0, parallelism: 2 };
        record.tasks.insert(key, TaskSnapshot::default());
        assert_eq!(by_processor(&record).map(|old| old["x"].len()), Ok(2));
    }
}
