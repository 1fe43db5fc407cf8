//! Gear's benchmarks for Renoir: `peer-renoir pair|latency|keyed`, started once for each host with
//! `NOIR_HOST_ID` and `NOIR_CONFIG` in the environment, as Renoir's own starter over ssh does.
//!
//! The first host has no cores, so that only the source runs there, and the second has one: one
//! task to one task over one connection.

use std::cell::RefCell;
use std::env;
use std::error::Error;
use std::iter;
use std::time::Duration;

use peer_work::{Latency, Pace, RECORD_BYTES, Throughput, Work, key, stamp};
use renoir::{BatchMode, RuntimeConfig, StreamContext};
use serde_bytes::ByteArray;

/// A batch leaves when it has so many records: Renoir's own default.
const BATCH_RECORDS: usize = 1024;

/// A batch that is not full leaves after so long where only the rate counts: Renoir's own default.
const THROUGHPUT_INTERVAL: Duration = Duration::from_millis(100);

/// The same where latency counts; see README.md for what others gave.
const LATENCY_INTERVAL: Duration = Duration::from_micros(50);

fn main() -> Result<(), Box<dyn Error>> {
    let work: Work = env::args().nth(1).unwrap_or_default().parse()?;
    let context = StreamContext::new(RuntimeConfig::remote("the environment says all")?);
    match work {
        Work::Pair => pair(&context),
        Work::Latency => latency(&context),
        Work::Keyed => keyed(&context),
    }
    context.execute_blocking();
    Ok(())
}

fn record(number: u64, intended: u64) -> ByteArray<RECORD_BYTES> {
    let mut record = [0x5a; RECORD_BYTES];
    stamp(&mut record, number, intended);
    ByteArray::new(record)
}

fn pair(context: &StreamContext) {
    let mut throughput = Throughput::new("pair");
    context
        .stream_iter((0..).map(|number| record(number, 0)))
        .batch_mode(BatchMode::timed(BATCH_RECORDS, THROUGHPUT_INTERVAL))
        .shuffle()
        .for_each(move |record| throughput.take(&record[..]));
}

fn latency(context: &StreamContext) {
    let mut latency = Latency::new();
    let mut pace = Pace::default();
    context
        .stream_iter(iter::repeat_with(move || {
            let (number, intended) = pace.wait();
            record(number, intended)
        }))
        .batch_mode(BatchMode::timed(BATCH_RECORDS, LATENCY_INTERVAL))
        .shuffle()
        .for_each(move |record| latency.take(&record[..]));
}

thread_local! {
    /// Renoir shares what folds between keys, so the count of all cannot be in it.
    static KEYED: RefCell<Throughput> = RefCell::new(Throughput::new("keyed"));
}

fn keyed(context: &StreamContext) {
    context
        .stream_iter((0..).map(key))
        .batch_mode(BatchMode::timed(BATCH_RECORDS, THROUGHPUT_INTERVAL))
        .group_by(|key| *key)
        .fold(0_u64, |count, _| {
            *count += 1;
            KEYED.with_borrow_mut(Throughput::count);
        })
        .for_each(drop);
}
