//! The state of a million keys: its memory, its snapshots and its restore.

use std::cell::Cell;
use std::time::Duration;

use gear_connectors::{blackhole, generate};
use gear_core::api::Key;
use gear_core::flow::state::{SnapshotReader, SnapshotWriter, Table};
use gear_core::id::Epoch;
use gear_core::limits::{KEY_GROUPS_DEFAULT, SNAPSHOT_ENTRIES_PER_SLICE};

use crate::allocations;
use crate::jobs::{self, How, Watch};
use crate::row::{Row, Target};

const KEYS: u64 = 1_000_000;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::alone(
            "state of 1 M keys, snapshot in progress",
            "bytes/key",
            Target::AtMost(100.0),
            || Box::new(|| memory() as f64 / KEYS as f64),
        ),
        Row::alone("restore of 1 M keys", "s", Target::AtMost(1.0), || {
            let object = object();
            Box::new(move || restore(&object))
        }),
        Row::alone("longest stop for a snapshot of 1 M keys", "ms", Target::AtMost(2.0), || {
            Box::new(|| longest_stop().as_secs_f64() * 1e3)
        }),
    ]
}

/// What a job of this state takes at most, all else that it has included: its queues, its threads,
/// and the snapshot until it is stored.
fn memory() -> usize {
    allocations::peak(|| {
        fold(20, 500, || {});
    })
}

/// Runs a job with values of 16 bytes and a snapshot every so many milliseconds, on two threads;
/// `each` is called in the task that has the state.
fn fold(passes: u64, millis: u64, each: fn()) {
    let how = How::on_threads(2).epochs(Duration::from_millis(millis));
    jobs::run(how, |app| {
        app.source("keys", generate::from_fn(passes * KEYS, 1, |number| number % KEYS))
            .key_by(|key: &u64| *key)
            .fold("sums", (0_u64, 0_u64), move |sums: &mut (u64, u64), key| {
                each();
                *sums = (sums.0 + 1, sums.1 + key);
            })
            .sink("drop", blackhole::sink());
    });
}

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
    static LAST: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

static LONGEST: std::sync::Mutex<Duration> = std::sync::Mutex::new(Duration::ZERO);

/// The longest time of the processor between two records that are 16 apart, in the task that has
/// the state: waiting for input, and other programs on the machine, do not count.
fn longest_stop() -> Duration {
    *LONGEST.lock().unwrap() = Duration::ZERO;
    fold(40, 500, || {
        let calls = CALLS.get().wrapping_add(1);
        CALLS.set(calls);
        if !calls.is_multiple_of(16) {
            return;
        }
        let now = jobs::cpu(libc::CLOCK_THREAD_CPUTIME_ID);
        let last = LAST.replace(now);
        // Not while the table fills, and not between threads of different runs.
        if calls > KEYS as u32 && now - last > Duration::from_micros(100) {
            let mut longest = LONGEST.lock().unwrap();
            *longest = (*longest).max(now - last);
        }
    });
    *LONGEST.lock().unwrap()
}

fn object() -> Vec<u8> {
    let mut table = Table::<u64, (u64, u64)>::new(0..KEY_GROUPS_DEFAULT, KEY_GROUPS_DEFAULT);
    for key in 0..KEYS {
        table.get_or_insert_with(u64::hash(&key, 0), &key, || (key, key));
    }
    table.begin_snapshot(Epoch(1), None);
    let mut writer = SnapshotWriter::default();
    while !table.write_snapshot("keys", SNAPSHOT_ENTRIES_PER_SLICE, &mut writer) {}
    writer.finish().bytes
}

fn restore(object: &[u8]) -> f64 {
    let watch = Watch::start();
    let mut table = Table::<u64, (u64, u64)>::new(0..KEY_GROUPS_DEFAULT, KEY_GROUPS_DEFAULT);
    let reader = SnapshotReader::open(object).unwrap();
    table.restore(&reader, "keys").unwrap();
    table.restored(Epoch(1));
    assert_eq!(table.len() as u64, KEYS);
    watch.seconds()
}
