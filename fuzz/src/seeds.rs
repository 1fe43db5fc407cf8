//! Seeds that hold records of the commit log, as those are written now. When their format has
//! changed, `cargo run -p gear-fuzz --example seeds` writes them anew.

use gear_core::checkpoint::EpochRecord;
use gear_core::checkpoint::record::{AttemptRecord, Closed, Fence, Identity, Record, TaskKey};
use gear_core::id::{AppTerm, Attempt, Epoch};
use gear_core::message::{ObjectRef, Partition, TaskSnapshot};

/// The name of each seed below `corpus`, and its content.
#[must_use]
pub fn with_records() -> Vec<(String, Vec<u8>)> {
    let records = [
        ("fence", fence(1)),
        ("epoch", epoch(1, false)),
        ("epoch_finished", epoch(1, true)),
        ("epoch_of_the_greatest_numbers", epoch(u64::MAX, false)),
        ("closed", closed()),
        ("attempt", attempt(2)),
    ];
    let mut seeds = Vec::new();
    let mut put = |target: &str, name: &str, content| {
        seeds.push((format!("{target}/{name}"), content));
    };
    for (name, record) in &records {
        put("record_log_decode", name, record.encode());
        put("record_log_decode", &format!("{name}_content"), content(record));
    }
    let whole = closed().encode();
    let (cut, more) = (whole[..whole.len() - 1].to_vec(), [&whole[..], &[0]].concat());
    let mut version = whole;
    version[6..8].copy_from_slice(&9_u16.to_le_bytes());
    for (name, content) in [("cut", cut), ("something_left_over", more), ("version", version)] {
        put("record_log_decode", name, content);
    }
    for (name, script) in scripts() {
        put("app_master", name, script.clone());
        put("commit_log", name, script);
    }
    seeds
}

/// Answers of a store, as [`crate::script`] reads them: an odd first byte grants a term.
fn scripts() -> Vec<(&'static str, Vec<u8>)> {
    let kept = answer(7, &[]);
    let first = [&[0], &kept[..]].concat();
    let log = |records: &[Record]| {
        let numbers: Vec<u8> = (1..=records.len() as u8).collect();
        let count = [records.len() as u8];
        let names = answer(5, &[&count, &numbers[..], &[1]].concat());
        let records = records.iter().flat_map(|record| {
            let content = content(record);
            let len = u8::try_from(content.len()).expect("a script's texts are short");
            answer(4, &[&[len], &content[..]].concat())
        });
        [names, records.collect()].concat()
    };
    let read = |records: &[Record]| [&first[..], &log(records), &kept.repeat(4)].concat();
    vec![
        ("another_job", read(&[closed()])),
        ("one_epoch", read(&[fence(1), epoch(1, false)])),
        ("finished", read(&[fence(1), epoch(1, true)])),
        ("an_attempt", read(&[fence(1), epoch(1, false), attempt(2)])),
        ("greatest_numbers", read(&[epoch(u64::MAX, false)])),
        ("greatest_attempt", read(&[fence(1), attempt(u64::MAX)])),
        ("greatest_term", read(&[fence(u64::MAX)])),
    ]
}

/// The first request that is open gets an answer of this kind.
fn answer(kind: u8, rest: &[u8]) -> Vec<u8> {
    [&[100, kind], rest].concat()
}

fn content(record: &Record) -> Vec<u8> {
    postcard::to_allocvec(record).expect("a record can be written")
}

fn fence(term: u64) -> Record {
    Record::Fence(Fence { term: AppTerm(term), incarnation: 2, identity: Identity::default() })
}

fn closed() -> Record {
    let identity = Identity { app: "app".into(), digest: 7, arguments: "--x".into() };
    Record::Closed(Closed { term: AppTerm(1), epoch: Epoch(4), identity })
}

fn attempt(attempt: u64) -> Record {
    let tasks = ["source", "sink"].map(key).into();
    let (term, attempt) = (AppTerm(attempt - 1), Attempt(attempt));
    Record::Attempt(AttemptRecord { term, attempt, tasks, ..AttemptRecord::default() })
}

fn epoch(number: u64, finished: bool) -> Record {
    let object = ObjectRef { name: "state/a".into(), len: 10, crc: 3 };
    let partition = Partition { name: "p".into(), position: Some(vec![1]), done: finished };
    let source = TaskSnapshot {
        attempt: Attempt(1),
        partitions: vec![partition],
        finished,
        ..TaskSnapshot::default()
    };
    let sink = TaskSnapshot {
        attempt: Attempt(1),
        chain: vec![object.clone()],
        pending: vec![5],
        finished,
        ..TaskSnapshot::default()
    };
    Record::Epoch(EpochRecord {
        term: AppTerm(number),
        epoch: Epoch(number),
        attempt: Attempt(1),
        key_groups: 1_024,
        finished,
        tasks: [(key("source"), source), (key("sink"), sink)].into(),
        output: [(key("sink"), vec![object])].into(),
        ..EpochRecord::default()
    })
}

fn key(uid: &str) -> TaskKey {
    TaskKey { uid: uid.into(), index: 0, parallelism: 1 }
}
