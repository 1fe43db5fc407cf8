//! The table against a naive model: whole copies of a map, one per epoch.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::api::key::{Key, groups_of_task, key_group};
use crate::api::record::Ref;
use crate::id::Epoch;

const GROUPS: u32 = 3;
type Names = Ref<str>;
type Content = BTreeMap<String, u64>;

#[derive(Clone, Debug)]
enum Step {
    Set(u16, u64),
    Update(u16),
    Remove(u16),
    /// The barrier; true for a snapshot of everything.
    Barrier(bool),
    Write(usize),
    GiveUp,
    Commit,
    Crash(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..400_u16;
    let step = prop_oneof![
        20 => (key.clone(), any::<u64>()).prop_map(|(key, value)| Step::Set(key, value)),
        8 => key.clone().prop_map(Step::Update),
        16 => key.prop_map(Step::Remove),
        2 => prop::bool::weighted(0.2).prop_map(Step::Barrier),
        4 => (1..200_usize).prop_map(Step::Write),
        1 => Just(Step::GiveUp),
        2 => Just(Step::Commit),
        1 => (1..=GROUPS).prop_map(Step::Crash),
    ];
    prop::collection::vec(step, 0..1_200)
}

/// Long and short keys, so that some lie in the arena.
fn name(key: u16) -> String {
    if key.is_multiple_of(2) {
        alloc::format!("{key}")
    } else {
        alloc::format!("the key of number {key}")
    }
}

fn hash(key: &str) -> u64 {
    <Names as Key>::hash(&key, 0)
}

fn content<'a>(tables: impl IntoIterator<Item = &'a Table<Names, u64>>) -> Content {
    let mut content = Content::new();
    for table in tables {
        let mut count = 0;
        table.for_each(|id, key, value| {
            assert_eq!(id.group, key_group(hash(key), GROUPS));
            assert_eq!((table.key(id), table.value(id)), (key, Some(value)));
            assert_eq!(table.get(hash(key), &key), Some((id, value)));
            assert!(content.insert(key.into(), *value).is_none(), "{key} is there twice");
            count += 1;
        });
        assert_eq!(table.len(), count);
    }
    content
}

/// A task: its table, and what it has written for which epochs.
struct Task {
    table: Table<Names, u64>,
    writer: Option<SnapshotWriter>,
    /// The base in effect of the snapshot on its way.
    base: Option<Epoch>,
    /// The chain of each epoch that was written to its end.
    chains: BTreeMap<Epoch, Vec<Vec<u8>>>,
}

impl Task {
    fn new(groups: Range<u32>) -> Self {
        let table = Table::new(groups, GROUPS);
        Self { table, writer: None, base: None, chains: BTreeMap::new() }
    }

    fn write(&mut self, epoch: Epoch, budget: usize) -> bool {
        let Some(writer) = &mut self.writer else { return true };
        if !self.table.write_snapshot("names", budget, writer) {
            return false;
        }
        let object = self.writer.take().expect("it is there").finish();
        assert_eq!(object.crc, crc32c::crc32c(&object.bytes));
        let mut chain = match self.base {
            Some(base) => self.chains.get(&base).cloned().unwrap_or_default(),
            None => Vec::new(),
        };
        chain.push(object.bytes);
        self.chains.insert(epoch, chain);
        true
    }
}

struct Run {
    tasks: Vec<Task>,
    content: Content,
    open: Epoch,
    /// The epoch that is being written, and what there was at its barrier.
    taken: Option<(Epoch, Content)>,
    written: BTreeMap<Epoch, Content>,
    committed: Option<Epoch>,
    /// What barriers say: the last committed epoch, or the one before.
    base: Option<Epoch>,
}

impl Run {
    fn new() -> Self {
        Self {
            tasks: [Task::new(0..GROUPS)].into(),
            content: Content::new(),
            open: Epoch(1),
            taken: None,
            written: BTreeMap::new(),
            committed: None,
            base: None,
        }
    }

    fn task(&mut self, key: &str) -> &mut Task {
        let group = key_group(hash(key), GROUPS);
        let mut tasks = self.tasks.iter_mut();
        tasks.find(|task| task.table.groups().contains(&group)).expect("every group has a task")
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Set(key, value) => {
                let key = name(*key);
                let table = &mut self.task(&key).table;
                let (id, place, new) = table.get_or_insert_with(hash(&key), &&*key, || 0);
                *place = *value;
                assert_eq!(table.key(id), key);
                assert_eq!(new, self.content.insert(key, *value).is_none());
            }
            Step::Update(key) => {
                let key = name(*key);
                let table = &mut self.task(&key).table;
                let found = table.get_mut(hash(&key), &&*key).map(|(id, value)| {
                    *value = value.wrapping_add(1);
                    (id, *value)
                });
                if let Some((id, value)) = found {
                    assert_eq!(table.value_mut(id), Some(&mut value.clone()));
                }
                let expected = self.content.get_mut(&key).map(|value| {
                    *value = value.wrapping_add(1);
                    *value
                });
                assert_eq!(found.map(|found| found.1), expected);
            }
            Step::Remove(key) => {
                let key = name(*key);
                let table = &mut self.task(&key).table;
                let removed = match table.get(hash(&key), &&*key).map(|found| found.0) {
                    Some(id) if key.len().is_multiple_of(3) => table.remove_id(id),
                    _ => table.remove(hash(&key), &&*key),
                };
                assert_eq!(removed, self.content.remove(&key));
            }
            Step::Barrier(full) => self.barrier(*full),
            Step::Write(budget) => self.write(*budget),
            Step::GiveUp => {
                self.taken = None;
                for task in &mut self.tasks {
                    task.table.abort_snapshot();
                    task.writer = None;
                }
            }
            Step::Commit => self.commit(),
            Step::Crash(parallelism) => self.crash(*parallelism),
        }
    }

    fn barrier(&mut self, full: bool) {
        if self.taken.is_some() {
            return;
        }
        let base = self.base.filter(|_| !full);
        for task in &mut self.tasks {
            // A task whose chain does not reach the base, since it was restored, writes it whole.
            let base = base.filter(|base| task.chains.contains_key(base));
            task.base = task.table.begin_snapshot(self.open, base);
            task.writer = Some(SnapshotWriter::default());
        }
        self.taken = Some((self.open, self.content.clone()));
        self.open = self.open.next();
        self.base = self.committed;
    }

    fn write(&mut self, budget: usize) {
        let Some((epoch, _)) = &self.taken else { return };
        let done: Vec<bool> =
            self.tasks.iter_mut().map(|task| task.write(*epoch, budget)).collect();
        if done.iter().all(|done| *done)
            && let Some((epoch, content)) = self.taken.take()
        {
            self.written.insert(epoch, content);
        }
    }

    fn commit(&mut self) {
        let next = self.written.keys().find(|epoch| Some(**epoch) > self.committed);
        let Some(&epoch) = next else { return };
        self.committed = Some(epoch);
        for task in &mut self.tasks {
            task.table.committed(epoch);
        }
    }

    /// All tasks are lost; as many as wanted go on from the last committed epoch.
    fn crash(&mut self, parallelism: u32) {
        let old = core::mem::take(&mut self.tasks);
        self.content = match self.committed {
            Some(epoch) => self.written[&epoch].clone(),
            None => Content::new(),
        };
        for index in 0..parallelism {
            let mut task = Task::new(groups_of_task(index, parallelism, GROUPS));
            if let Some(epoch) = self.committed {
                for object in old.iter().flat_map(|task| &task.chains[&epoch]) {
                    let reader = SnapshotReader::open(object).expect("it is whole");
                    task.table.restore(&reader, "names").expect("it is readable");
                }
                task.table.restored(epoch);
                if old.len() == 1 && parallelism == 1 {
                    task.chains.insert(epoch, old[0].chains[&epoch].clone());
                }
            }
            self.tasks.push(task);
        }
        assert_eq!(content(self.tasks.iter().map(|task| &task.table)), self.content);
        self.taken = None;
        self.written.retain(|epoch, _| Some(*epoch) <= self.committed);
        self.open = self.committed.unwrap_or_default().next();
        self.base = self.committed;
        if parallelism > 1 || old.len() > 1 {
            // What comes next is written whole, since no chain of one task tells it.
            self.base = None;
            self.restart_epochs();
        }
    }

    /// Old epochs cannot be restored any more by tasks that have no chain for them.
    fn restart_epochs(&mut self) {
        let Some(epoch) = self.committed else { return };
        for task in &mut self.tasks {
            task.base = task.table.begin_snapshot(epoch.next(), None);
            task.writer = Some(SnapshotWriter::default());
        }
        self.taken = Some((epoch.next(), self.content.clone()));
        self.open = epoch.next().next();
        self.write(usize::MAX);
        self.commit();
    }

    fn check(&self) {
        assert_eq!(content(self.tasks.iter().map(|task| &task.table)), self.content);
        for task in &self.tasks {
            assert_eq!(task.table.recount(), task.table.allocated());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_restored_is_what_there_was_at_the_barrier(steps in steps()) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        run.check();
        run.step(&Step::Write(usize::MAX));
        run.step(&Step::Commit);
        run.step(&Step::Crash(3));
        run.step(&Step::Crash(1));
        run.check();
    }

    #[test]
    fn the_same_steps_give_the_same_bytes(steps in steps()) {
        let bytes = || {
            let mut run = Run::new();
            steps.iter().for_each(|step| run.step(step));
            let chains: Vec<_> = run.tasks.into_iter().map(|task| task.chains).collect();
            chains
        };
        prop_assert_eq!(bytes(), bytes());
    }
}

fn set(table: &mut Table<u64, u64>, key: u64, value: u64) -> EntryId {
    let (id, place, _) = table.get_or_insert_with(u64::hash(&key, 0), &key, || 0);
    *place = value;
    id
}

fn remove(table: &mut Table<u64, u64>, key: u64) -> Option<u64> {
    table.remove(u64::hash(&key, 0), &key)
}

fn entries(table: &mut Table<u64, u64>) -> u64 {
    let mut out = SnapshotWriter::default();
    while !table.write_snapshot("s", 1, &mut out) {}
    let object = out.finish();
    let reader = SnapshotReader::open(&object.bytes).expect("it is whole");
    reader.section("s").map_or(0, Section::entries)
}

#[test]
fn a_place_is_used_again_only_after_the_commit() {
    let mut table = Table::new(0..1, 1);
    let first = set(&mut table, 1, 1);
    table.begin_snapshot(Epoch(1), None);
    assert_eq!(entries(&mut table), 1);
    table.committed(Epoch(1));
    assert_eq!(remove(&mut table, 1), Some(1));
    assert_ne!(set(&mut table, 2, 2), first);
    table.begin_snapshot(Epoch(2), Some(Epoch(1)));
    assert_eq!(entries(&mut table), 2);
    assert_ne!(set(&mut table, 3, 3), first);
    table.committed(Epoch(2));
    // A barrier that was started before the commit may still come, so the place waits for one.
    assert_ne!(set(&mut table, 4, 4), first);
    table.begin_snapshot(Epoch(3), Some(Epoch(2)));
    assert_eq!(set(&mut table, 5, 5), first);
    assert_eq!(entries(&mut table), 2);
}

#[test]
fn a_barrier_that_knows_of_an_older_commit_still_gets_its_tombstones() {
    let mut table = Table::new(0..1, 1);
    set(&mut table, 1, 1);
    table.begin_snapshot(Epoch(1), None);
    entries(&mut table);
    table.committed(Epoch(1));
    remove(&mut table, 1);
    for epoch in 2..4 {
        assert_eq!(table.begin_snapshot(Epoch(epoch), Some(Epoch(1))), Some(Epoch(1)));
        assert_eq!(entries(&mut table), 1);
    }
    table.committed(Epoch(2));
    set(&mut table, 2, 2);
    assert_eq!(table.begin_snapshot(Epoch(4), Some(Epoch(1))), Some(Epoch(1)));
    assert_eq!(entries(&mut table), 2);
}

#[test]
fn a_snapshot_without_its_tombstones_is_a_full_one() {
    let mut table = Table::new(0..1, 1);
    set(&mut table, 1, 1);
    set(&mut table, 2, 2);
    table.begin_snapshot(Epoch(1), None);
    entries(&mut table);
    remove(&mut table, 1);
    table.begin_snapshot(Epoch(2), None);
    entries(&mut table);
    table.committed(Epoch(2));
    assert_eq!(table.begin_snapshot(Epoch(3), Some(Epoch(1))), None);
    assert_eq!(entries(&mut table), 1);
}

#[test]
fn what_was_not_touched_is_not_told_again() {
    let mut table = Table::new(0..16, 16);
    for key in 0..10_000 {
        set(&mut table, key, key);
    }
    table.begin_snapshot(Epoch(1), None);
    assert_eq!(entries(&mut table), 10_000);
    table.begin_snapshot(Epoch(2), Some(Epoch(1)));
    assert_eq!(entries(&mut table), 0);
    set(&mut table, 77, 0);
    table.begin_snapshot(Epoch(3), Some(Epoch(1)));
    assert_eq!(entries(&mut table), 1);
}

#[test]
fn a_group_of_many_keys_is_like_any_other() {
    const KEYS: u64 = 40_000;
    let mut table = Table::new(0..1, 1);
    (0..KEYS).for_each(|key| assert_eq!(u64::from(set(&mut table, key, key).index), key));
    assert_eq!(table.begin_snapshot(Epoch(1), None), None);
    for key in 0..KEYS {
        assert_eq!(set(&mut table, key, key + 1).index as u64, key);
        assert_eq!(set(&mut table, key, key + 2).index as u64, key);
    }
    (0..KEYS / 2).for_each(|key| assert_eq!(remove(&mut table, key * 2), Some(key * 2 + 2)));
    let mut out = SnapshotWriter::default();
    while !table.write_snapshot("s", 1_000, &mut out) {}
    table.committed(Epoch(1));
    table.begin_snapshot(Epoch(2), Some(Epoch(1)));
    let mut delta = SnapshotWriter::default();
    while !table.write_snapshot("s", 1_000, &mut delta) {}
    table.committed(Epoch(2));
    table.begin_snapshot(Epoch(3), Some(Epoch(2)));
    for key in KEYS..KEYS * 2 {
        set(&mut table, key, key);
    }
    assert_eq!(table.recount(), table.allocated());

    let mut restored = Table::<u64, u64>::new(0..1, 1);
    for (object, len) in [(out.finish(), KEYS), (delta.finish(), KEYS / 2)] {
        let reader = SnapshotReader::open(&object.bytes).expect("it is whole");
        restored.restore(&reader, "s").expect("it is readable");
        assert_eq!(restored.len() as u64, len);
        restored.for_each(|_, key, value| {
            assert_eq!(*value, if len == KEYS { key } else { key + 2 });
        });
    }
    assert_eq!(restored.recount(), restored.allocated());
}

#[test]
fn keys_that_come_and_go_do_not_pile_up() {
    let mut table = Table::<Names, Vec<u8>>::new(0..GROUPS, GROUPS);
    let mut most = 0;
    for round in 1..60_u64 {
        for number in 0..2_000 {
            let key = alloc::format!("the key {number} of round number {round}");
            table.get_or_insert_with(hash(&key), &&*key, || alloc::vec![1; 8]);
            if round > 1 {
                let key = alloc::format!("the key {number} of round number {}", round - 1);
                table.remove(hash(&key), &&*key).expect("it was put in");
            }
        }
        let base = (round > 1).then(|| Epoch(round - 1));
        table.begin_snapshot(Epoch(round), base);
        while !table.write_snapshot("s", 4_096, &mut SnapshotWriter::default()) {}
        table.committed(Epoch(round));
        assert_eq!(table.recount(), table.allocated());
        if round == 10 {
            most = table.allocated();
        }
    }
    assert!(table.allocated() <= most * 3 / 2, "{} after {most}", table.allocated());
}
