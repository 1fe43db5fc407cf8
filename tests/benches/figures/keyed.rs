//! Counting by key, with a million of them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::time::Duration;

use gear_connectors::{blackhole, generate};
use gear_core::api::sink::{Sink, SinkConnector};
use gear_core::dsl::App;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::jobs::{self, How, Watch};
use crate::row::{Measure, Row};

const KEYS: u64 = 1_000_000;
const RECORDS: u64 = 20_000_000;
/// Long enough for some epochs of a second.
const LONG: u64 = 40_000_000;

pub(crate) fn rows() -> Vec<Row> {
    let with = |millis: u64| {
        move || -> (Measure, Measure) {
            let epochs = Duration::from_millis(millis);
            (
                Box::new(move || gear(LONG, How::on_threads(1).epochs(epochs))),
                Box::new(|| gear(LONG, How::on_threads(1))),
            )
        }
    };
    let (unit, without) = ("M records/s", "without epochs");
    vec![
        Row::against("keyed count, 1 M keys", unit, 0.6, "plain loop, same hash", || {
            (Box::new(|| gear(RECORDS, How::on_threads(1))), Box::new(|| plain(RECORDS)))
        }),
        Row::against("keyed count, epochs of 1 s", unit, 0.95, without, with(1_000)),
        Row::against("keyed count, epochs of 100 ms", unit, 0.85, without, with(100)),
    ]
}

fn gear(records: u64, how: How) -> f64 {
    let (took, _) = jobs::run(how, |app| describe(app, records, blackhole::sink()));
    records as f64 / took / 1e6
}

/// The job: random numbers, counted by key, and what takes the counts at the end.
pub(crate) fn describe<S>(app: &mut App, records: u64, sink: S)
where
    S: SinkConnector<Sink: Sink<In = (u64, u64)>>,
{
    app.source("keys", generate::source().keys(KEYS).count(records).map(|_, random| key(random)))
        .key_by(|key: &u64| *key)
        .count("count")
        .sink("drop", sink);
}

fn key(random: u64) -> u64 {
    ((u128::from(random) * u128::from(KEYS)) >> 64) as u64
}

/// The random number of a record, as the generator makes it.
fn random(sequence: u64) -> u64 {
    let mut z = (sequence + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[derive(Default)]
struct Xxh3(u64);

impl Hasher for Xxh3 {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = xxh3_64_with_seed(&number.to_le_bytes(), self.0);
    }
}

/// Counts as many in one loop.
pub(crate) fn plain(records: u64) -> f64 {
    let watch = Watch::start();
    let mut counts: HashMap<u64, u64, BuildHasherDefault<Xxh3>> = HashMap::default();
    for sequence in 0..records {
        *counts.entry(key(random(sequence))).or_insert(0) += 1;
    }
    let mut total = 0;
    for (key, count) in &counts {
        total += black_box((key, count)).1;
    }
    assert_eq!(total, records);
    drop(counts);
    records as f64 / watch.seconds() / 1e6
}
