//! The reader against the cluster in memory.

use std::collections::BTreeMap;

use gear_core::api::Record;
use gear_core::api::source::{Advance, Source, SourceConnector, SourceContext};
use gear_core::effect::IoErrorKind;
use gear_core::message::Partition;
use gear_core::time::{EventTime, Time, WallTime, millis};

use super::reader::PATIENCE;
use super::{KafkaReader, KafkaSource, Shape, Start, WhenGone, Whole, source};
use crate::kafka::model::{ModelCluster, ModelConsumers, ModelRecord};
use crate::model::ModelDisk;
use crate::random::SplitMix;

fn port(cluster: &ModelCluster, seed: u64) -> ModelDisk {
    let mut disk = ModelDisk::new(seed);
    let consumers = ModelConsumers::new(cluster.clone(), seed);
    disk.offer_kafka(consumers.mixing(seed % 2 == 1));
    disk
}

/// A task that reads, what it has given, and what would be left of that after a crash.
struct Task<S: Shape> {
    source: KafkaSource<S>,
    port: ModelDisk,
    now: Time,
    reader: KafkaReader<S>,
    names: Vec<String>,
    given: Vec<(String, String)>,
    aside: Vec<String>,
    notices: Vec<String>,
    ended: Vec<String>,
    committed: (Vec<Partition>, usize),
}

impl<S: Shape> Task<S> {
    fn new(source: KafkaSource<S>, cluster: &ModelCluster, seed: u64) -> Self {
        let mut port = port(cluster, seed);
        let names = source.partitions(&mut port).unwrap();
        let new = |name| Partition { name, position: None, done: false };
        let partitions: Vec<_> = names.into_iter().map(new).collect();
        let mut task = Self {
            reader: source.source(),
            source,
            port,
            now: Time::ZERO,
            names: Vec::new(),
            given: Vec::new(),
            aside: Vec::new(),
            notices: Vec::new(),
            ended: Vec::new(),
            committed: (partitions, 0),
        };
        task.crash().unwrap();
        task
    }

    /// Goes back to the last epoch.
    fn crash(&mut self) -> Result<(), String> {
        let (partitions, given) = self.committed.clone();
        self.given.truncate(given);
        self.names = partitions.iter().map(|it| it.name.clone()).collect();
        self.reader = self.source.source();
        let mut cx = SourceContext { now: self.now, wall: WallTime(0), files: &mut self.port };
        self.reader.open(&partitions, &mut cx)
    }

    fn epoch(&mut self) {
        self.committed = (self.reader.positions(), self.given.len());
    }

    fn step(&mut self) -> Result<Advance, String> {
        let mut cx = SourceContext { now: self.now, wall: WallTime(0), files: &mut self.port };
        let advance = self.reader.advance(&mut cx);
        self.notices.extend(std::iter::from_fn(|| self.reader.notice()));
        match advance.as_ref().map_err(Clone::clone)? {
            Advance::Record => {
                let (meta, view) = self.reader.current();
                let name = self.names[meta.partition as usize].clone();
                let mut bytes = Vec::new();
                S::Out::encode(&view, &mut bytes);
                let value = match crate::kafka::Message::decode(&mut bytes.as_slice()) {
                    Ok(message) => message.text().unwrap_or_default().to_owned(),
                    Err(_) => String::from_utf8_lossy(&bytes[1..]).into_owned(),
                };
                self.given.push((name, value));
            }
            Advance::Wait(until) => self.now = self.now.max(*until) + millis(1),
            Advance::NewPartition(name) => self.names.push(name.clone()),
            Advance::PartitionEnd(number) => {
                self.ended.push(self.names[*number as usize].clone());
            }
            Advance::Malformed { position, reason, bytes, .. } => {
                self.aside.push(format!("{position} {reason} ({} bytes)", bytes.len()));
            }
            Advance::End => {}
        }
        advance
    }

    /// Reads until nothing comes for so long that whatever is late would have come, or to the end.
    fn drain(&mut self) -> Result<bool, String> {
        let mut quiet = self.now + 4 * PATIENCE;
        while self.now < quiet {
            match self.step()? {
                Advance::End => return Ok(true),
                Advance::Wait(_) => {}
                _ => quiet = self.now + 4 * PATIENCE,
            }
        }
        Ok(false)
    }

    fn values(&self) -> Vec<&str> {
        self.given.iter().map(|(_, value)| value.as_str()).collect()
    }

    fn by_partition(&self) -> BTreeMap<String, Vec<String>> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &self.given {
            all.entry(name.clone()).or_default().push(value.clone());
        }
        all
    }
}

fn cluster(partitions: u32, values: &[(u32, i64, &str)]) -> ModelCluster {
    let cluster = ModelCluster::new();
    cluster.create("t", partitions);
    for &(partition, timestamp, value) in values {
        cluster.append("t", partition, ModelRecord::new("k", value, timestamp));
    }
    cluster
}

fn topic() -> KafkaSource<Whole> {
    source("model", ["t"])
}

/// A cluster in which much happens, and what a reader of committed records has to see of it.
struct World {
    cluster: ModelCluster,
    random: SplitMix,
    expected: BTreeMap<String, Vec<String>>,
    /// Open transactions, with what becomes visible with them.
    open: BTreeMap<u64, u32>,
    /// Of each partition what is appended, in order: its transaction, and the value.
    logs: BTreeMap<u32, Vec<(Option<u64>, String)>>,
    aborted: Vec<u64>,
    partitions: u32,
    appended: u64,
}

impl World {
    fn happen(&mut self) {
        let partition = self.random.below(u64::from(self.partitions)) as u32;
        match self.random.below(24) {
            0 => self.cluster.set_down(true),
            1..4 => self.cluster.set_down(false),
            4 => self.cluster.set_leaderless("t", partition, true),
            5..8 => {
                for partition in 0..self.partitions {
                    self.cluster.set_leaderless("t", partition, false);
                }
            }
            8 if self.partitions < 6 => {
                self.partitions += 1;
                self.cluster.grow("t", self.partitions);
            }
            9..12 => self.end_transactions(),
            12..15 => {
                let transaction = self.appended;
                self.open.insert(transaction, partition);
                self.append(partition, Some(transaction));
            }
            _ => self.append(partition, None),
        }
    }

    fn append(&mut self, partition: u32, transaction: Option<u64>) {
        self.appended += 1;
        let value = self.appended.to_string();
        let record = ModelRecord::new("k", &value, self.appended as i64);
        self.cluster.with("t", partition, |log| log.append(record, transaction));
        self.logs.entry(partition).or_default().push((transaction, value));
    }

    fn end_transactions(&mut self) {
        for (transaction, partition) in std::mem::take(&mut self.open) {
            let commit = self.random.below(2) == 0;
            self.cluster.with("t", partition, |log| log.end_transaction(transaction, commit));
            if !commit {
                self.aborted.push(transaction);
            }
        }
    }

    fn heal(&mut self) {
        self.cluster.set_down(false);
        for partition in 0..self.partitions {
            self.cluster.set_leaderless("t", partition, false);
        }
        self.end_transactions();
        for (partition, log) in &self.logs {
            let visible = log.iter().filter(|(transaction, _)| {
                transaction.is_none_or(|transaction| !self.aborted.contains(&transaction))
            });
            let values: Vec<_> = visible.map(|(_, value)| value.clone()).collect();
            if !values.is_empty() {
                self.expected.insert(format!("t#{partition}"), values);
            }
        }
    }
}

#[test]
fn each_record_comes_once_whatever_happens_to_the_cluster_and_to_the_task() {
    for seed in 0..300 {
        let mut world = World {
            cluster: cluster(3, &[]),
            random: SplitMix(seed),
            expected: BTreeMap::new(),
            open: BTreeMap::new(),
            logs: BTreeMap::new(),
            aborted: Vec::new(),
            partitions: 3,
            appended: 0,
        };
        let mut task = Task::new(topic(), &world.cluster, seed);
        let (mut crashes, mut epochs) = (0, 0);
        for _ in 0..600 {
            match world.random.below(12) {
                0 => world.happen(),
                1 => {
                    task.epoch();
                    epochs += 1;
                }
                2 if world.random.below(4) == 0 => {
                    task.crash().unwrap();
                    crashes += 1;
                }
                3 if world.random.below(9) == 0 => task.now = task.now + 2 * PATIENCE,
                _ => drop(task.step().unwrap()),
            }
        }
        world.heal();
        assert!(!task.drain().unwrap(), "a source that goes on has no end");
        assert_eq!(task.by_partition(), world.expected, "seed {seed}");
        assert!(crashes > 0 && epochs > 0 && world.appended > 0, "seed {seed} tried nothing");
    }
}

#[test]
fn a_time_is_the_first_record_at_or_after_it_and_all_behind_that() {
    let values = [(0, 10, "a"), (0, 30, "b"), (0, 20, "c"), (1, 5, "x"), (1, 19, "y")];
    let cluster = cluster(2, &values);
    // 20.000 ms, and a microsecond more.
    for (time, expected) in [(20_000, ["b", "c"].as_slice()), (20_001, &["b", "c"]), (30_001, &[])]
    {
        let mut task = Task::new(topic().from(Start::At(EventTime(time))), &cluster, 1);
        task.drain().unwrap();
        assert_eq!(task.values(), expected, "{time}");
        task.epoch();
        task.crash().unwrap();
        // What comes later and is older than the time is no record at or after it.
        for (timestamp, value) in [(19, "old"), (31, "new"), (3, "behind")] {
            let record = ModelRecord::new("k", value, timestamp);
            cluster.append("t", 0, record.clone());
            cluster.append("t", 1, record);
        }
        task.drain().unwrap();
        let given = task.by_partition();
        let late = |name: &str| {
            let values = given.get(name).cloned().unwrap_or_default();
            values.into_iter().filter(|it| it.len() > 1).collect::<Vec<_>>()
        };
        // Where a record was at or after it before, all that follows counts.
        let all = ["old", "new", "behind"].as_slice();
        let from_new = &["new", "behind"].as_slice();
        assert_eq!(late("t#0"), if expected.is_empty() { *from_new } else { all }, "{time}");
        assert_eq!(late("t#1"), *from_new, "{time}");
        cluster.delete("t");
        cluster.create("t", 2);
        for &(partition, timestamp, value) in &values {
            cluster.append("t", partition, ModelRecord::new("k", value, timestamp));
        }
    }
}

#[test]
fn it_begins_at_the_end_or_where_it_is_told() {
    let cluster = cluster(1, &[(0, 1, "a"), (0, 2, "b"), (0, 3, "c")]);
    let offsets = Start::Offsets([(("t".to_owned(), 0), 2)].into());
    for (start, expected) in [
        (Start::Earliest, ["a", "b", "c", "d"].as_slice()),
        (Start::Latest, &["d"]),
        (offsets, &["c", "d"]),
    ] {
        let mut task = Task::new(topic().from(start.clone()), &cluster, 2);
        task.drain().unwrap();
        cluster.append("t", 0, ModelRecord::new("k", "d", 4));
        task.drain().unwrap();
        assert_eq!(task.values(), expected, "{start:?}");
        cluster.with("t", 0, |log| log.lose_from(3));
    }
}

/// A task that has committed all of four records, and a fifth that comes afterwards.
fn behind(when_gone: WhenGone) -> (ModelCluster, Task<Whole>) {
    let values = [(0, 1, "a"), (0, 2, "b"), (0, 3, "c"), (0, 4, "d")];
    let cluster = cluster(1, &values);
    let mut task = Task::new(topic().when_gone(when_gone), &cluster, 3);
    task.drain().unwrap();
    task.epoch();
    for value in ["e", "f", "g"] {
        cluster.append("t", 0, ModelRecord::new("k", value, 5));
    }
    (cluster, task)
}

#[test]
fn what_retention_has_removed_stops_it_or_is_passed_and_counted() {
    for (when_gone, passed) in [
        (WhenGone::Fail, None),
        (WhenGone::Earliest, Some((2, ["g"].as_slice()))),
        (WhenGone::Latest, Some((3, &[]))),
    ] {
        // Removed while the task is down, or while it reads.
        for down in [true, false] {
            let (cluster, mut task) = behind(when_gone);
            cluster.with("t", 0, |log| log.remove_before(6));
            if down {
                task.crash().unwrap();
            }
            let result = task.drain();
            match passed {
                None => {
                    let error = result.unwrap_err();
                    assert!(
                        error.contains("up to offset 4") && error.contains("Earliest"),
                        "{error}"
                    );
                }
                Some((count, values)) => {
                    result.unwrap();
                    assert_eq!(task.values()[4..], *values);
                    let said = task.notices.join("\n");
                    assert!(said.contains(&format!("{count} offsets are passed")), "{said}");
                }
            }
        }
    }
}

#[test]
fn what_retention_removes_while_no_broker_answers_is_passed_and_counted() {
    let (cluster, mut task) = behind(WhenGone::Earliest);
    cluster.set_down(true);
    task.drain().unwrap();
    cluster.with("t", 0, |log| log.remove_before(6));
    cluster.set_down(false);
    task.drain().unwrap();
    assert_eq!(task.values()[4..], ["g"]);
    assert!(task.notices.join("\n").contains("2 offsets are passed"), "{:?}", task.notices);
}

#[test]
fn the_last_record_that_was_read_may_go_without_harm() {
    let (cluster, mut task) = behind(WhenGone::Fail);
    cluster.with("t", 0, |log| log.remove_before(4));
    task.crash().unwrap();
    task.drain().unwrap();
    assert_eq!(task.values()[4..], ["e", "f", "g"]);
    let (cluster, mut task) = behind(WhenGone::Fail);
    cluster.with("t", 0, |log| log.compact(3));
    task.crash().unwrap();
    task.drain().unwrap();
    assert_eq!(task.values()[4..], ["e", "f", "g"]);
}

#[test]
fn a_topic_that_was_made_anew_is_noticed_whatever_its_length() {
    for count in [0, 2, 4, 9] {
        for when_gone in [WhenGone::Fail, WhenGone::Earliest] {
            let (cluster, mut task) = behind(when_gone);
            cluster.create("t", 1);
            let values: Vec<_> = (0..count).map(|number| format!("new {number}")).collect();
            for value in &values {
                cluster.append("t", 0, ModelRecord::new("k", value, 9));
            }
            task.crash().unwrap();
            let result = task.drain();
            if when_gone == WhenGone::Fail {
                let error = result.unwrap_err();
                assert!(error.contains("deleted and made again"), "{count}: {error}");
            } else {
                result.unwrap();
                assert_eq!(task.values()[4..], *values, "{count}");
                assert!(task.notices.join("\n").contains("offsets are passed"));
            }
        }
    }
}

#[test]
fn a_topic_that_is_gone_or_smaller_is_an_error_after_some_patience() {
    let cluster = cluster(2, &[]);
    let mut task = Task::new(topic(), &cluster, 5);
    task.drain().unwrap();
    task.epoch();
    cluster.create("t", 1);
    let error = task.drain().unwrap_err();
    assert!(error.contains("has 1 partitions"), "{error}");
    cluster.delete("t");
    let began = task.now;
    task.crash().unwrap();
    let error = task.drain().unwrap_err();
    assert!(error.contains("there is no topic `t`"), "{error}");
    assert!(task.now.since(began) >= PATIENCE);
    // It comes back in time.
    task.crash().unwrap();
    task.step().unwrap();
    cluster.create("t", 2);
    cluster.append("t", 0, ModelRecord::new("k", "a", 1));
    task.drain().unwrap();
    let missing = source("model", ["u"]).partitions(&mut task.port).unwrap_err();
    assert!(missing.kind == IoErrorKind::NotFound && missing.reason.contains("`u`"), "{missing}");
}

#[test]
fn a_cluster_that_does_not_answer_is_waited_for_and_a_refusal_is_not() {
    let cluster = cluster(1, &[(0, 1, "a")]);
    let mut task = Task::new(topic(), &cluster, 6);
    cluster.set_down(true);
    assert!(!task.drain().unwrap());
    assert!(task.notices[0].contains("goes on trying"), "{:?}", task.notices);
    // One a minute, not one a try.
    assert_eq!(task.notices.len(), 1);
    cluster.set_down(false);
    task.drain().unwrap();
    assert_eq!(task.values(), ["a"]);
    cluster.set_refused("t", true);
    task.crash().unwrap();
    let error = task.drain().unwrap_err();
    assert!(error.contains("refuses access to the topic `t`"), "{error}");
}

#[test]
fn it_ends_where_the_partitions_ended_at_the_start() {
    for seed in 0..50 {
        let cluster = cluster(3, &[(0, 1, "a"), (0, 1, "b"), (1, 1, "c")]);
        // An aborted transaction is the last of one partition, an open one of another.
        cluster.with("t", 0, |log| {
            log.append(ModelRecord::new("k", "no", 1), Some(1));
            log.end_transaction(1, false);
        });
        cluster.with("t", 1, |log| log.append(ModelRecord::new("k", "later", 1), Some(2)));
        let mut task = Task::new(topic().until_end(), &cluster, seed);
        let mut random = SplitMix(seed);
        // Where it ends is known with the first record.
        while task.given.is_empty() {
            task.step().unwrap();
        }
        task.epoch();
        cluster.with("t", 1, |log| log.end_transaction(2, true));
        cluster.append("t", 0, ModelRecord::new("k", "after", 1));
        cluster.append("t", 2, ModelRecord::new("k", "after", 1));
        for _ in 0..random.below(20) {
            if random.below(3) == 0 {
                task.epoch();
            }
            task.step().unwrap();
        }
        task.crash().unwrap();
        assert!(task.drain().unwrap(), "seed {seed}");
        let expected = [("t#0", vec!["a", "b"]), ("t#1", vec!["c"])];
        let expected = expected.map(|(name, values)| {
            (name.to_owned(), values.into_iter().map(str::to_owned).collect::<Vec<_>>())
        });
        assert_eq!(task.by_partition(), expected.into(), "seed {seed}");
        assert!(task.reader.positions().iter().all(|partition| partition.done));
    }
}

#[test]
fn a_partition_that_turns_up_is_read_from_its_first_record_on_and_only_once() {
    let cluster = cluster(1, &[]);
    let mut task = Task::new(topic().from(Start::Latest), &cluster, 7);
    assert_eq!(task.names, ["t#0", "t#1+"]);
    task.drain().unwrap();
    assert_eq!(task.ended, ["t#1+"], "what gives no record holds no clock");
    cluster.grow("t", 3);
    cluster.append("t", 2, ModelRecord::new("k", "first", 1));
    task.drain().unwrap();
    assert_eq!((task.names.len(), task.values()), (4, vec!["first"]));
    task.epoch();
    cluster.grow("t", 4);
    cluster.append("t", 3, ModelRecord::new("k", "second", 1));
    task.crash().unwrap();
    task.drain().unwrap();
    assert_eq!(task.values(), ["first", "second"]);
    assert_eq!(task.names, ["t#0", "t#1+", "t#1", "t#2", "t#3"]);
    // Found, and not yet asked about, when the epoch ends: still from its first record.
    cluster.grow("t", 5);
    cluster.append("t", 4, ModelRecord::new("k", "third", 1));
    while task.names.len() < 6 {
        task.step().unwrap();
    }
    task.epoch();
    task.crash().unwrap();
    task.drain().unwrap();
    assert_eq!(task.values(), ["first", "second", "third"]);
}

#[test]
fn values_alone_put_aside_what_is_none() {
    let cluster = cluster(1, &[(0, 1, "a"), (0, 1, "b")]);
    let none = ModelRecord { value: None, ..ModelRecord::new("k", "", 1) };
    let binary = ModelRecord { value: Some(vec![0xff; 100_000]), ..ModelRecord::new("k", "", 1) };
    cluster.append("t", 0, none);
    cluster.append("t", 0, binary);
    cluster.append("t", 0, ModelRecord::new("k", "c", 1));
    let mut task = Task::new(topic().text().until_end(), &cluster, 8);
    assert!(task.drain().unwrap());
    assert_eq!(task.values(), ["a", "b", "c"]);
    // All of it: what is kept in the quarantine is cut there.
    let aside =
        ["t#0:2 the record has no value (0 bytes)", "t#0:3 the value is not UTF-8 (100000 bytes)"];
    assert_eq!(task.aside, aside);
    let mut task = Task::new(topic().bytes().until_end(), &cluster, 8);
    task.drain().unwrap();
    assert_eq!((task.given.len(), task.aside.len()), (4, 1));
}

#[test]
fn it_tells_how_far_it_is_behind() {
    let cluster = cluster(2, &[(0, 1, "a"), (0, 1, "b"), (0, 1, "c")]);
    let mut task = Task::new(topic(), &cluster, 9);
    while task.given.is_empty() {
        task.step().unwrap();
    }
    let figures = task.reader.figures();
    let lag: Vec<_> =
        figures.iter().map(|it| (it.name.as_str(), it.of.as_str(), it.value)).collect();
    assert_eq!(lag, [("lag_records", "t#0", 2), ("lag_records", "t#1", 0)]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let cluster = cluster(1, &[]);
    let mut port = port(&cluster, 1);
    let own = topic().set("enable.auto.commit", "true").partitions(&mut port).unwrap_err();
    assert!(own.reason.contains("the positions are in the epochs"), "{own}");
    let none = source("model", Vec::<String>::new()).partitions(&mut port).unwrap_err();
    assert!(none.reason.contains("names no topic"), "{none}");
    let mut task = Task::new(topic(), &cluster, 1);
    let partition = |name: &str, position| Partition { name: name.into(), position, done: false };
    for (partition, part) in [
        (partition("u#0", None), "does not name its topic any more"),
        (partition("t#0", Some(vec![1, 2, 3])), "position in `t#0`"),
        (partition("file.txt", None), "no partition of a Kafka source"),
    ] {
        task.committed.0 = vec![partition];
        let error = task.crash().unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    let error = topic().partitions(&mut ModelDisk::new(1)).unwrap_err();
    assert!(error.reason.contains("feature `kafka`"), "{error}");
}
