//! Memory that is allocated: a counting allocator, and the rows about it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use gear_connectors::{blackhole, files, generate};
use gear_core::api::Ref;
use gear_core::dsl::App;

use crate::jobs::{self, How};
use crate::row::{Row, Target};
use crate::{threads, words};

/// The system's allocator, counted.
pub(crate) struct Counted;

static CALLS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grown(bytes: usize) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed).wrapping_add(bytes);
    if live > PEAK.load(Ordering::Relaxed) {
        PEAK.fetch_max(live, Ordering::Relaxed);
    }
}

// SAFETY: everything is left to the system's allocator; the counters touch no memory of it.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        grown(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// The most bytes that were live at once during a call, beyond those that were live before.
pub(crate) fn peak(call: impl FnOnce()) -> usize {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    call();
    PEAK.load(Ordering::Relaxed) - before
}

fn calls(call: impl FnOnce()) -> u64 {
    let before = CALLS.load(Ordering::Relaxed);
    call();
    CALLS.load(Ordering::Relaxed) - before
}

/// What no pipeline may exceed: a batch holds hundreds of records, and may cost a few calls.
const PER_MILLION: f64 = 2_000.0;

/// Calls per million records: what twice the records cost more, so that the start does not count.
fn per_million(records: u64, run: impl Fn(u64)) -> f64 {
    let less = calls(|| run(records));
    let more = calls(|| run(2 * records));
    more.saturating_sub(less) as f64 / (records as f64 / 1e6)
}

fn row(name: &'static str, records: u64, run: impl Fn(u64) + 'static) -> Row {
    Row::alone(name, "per M rec.", Target::AtMost(PER_MILLION), move || {
        Box::new(move || per_million(records, &run))
    })
}

pub(crate) fn rows() -> Vec<Row> {
    let pipeline = |how: How, describe: fn(&mut App, u64)| {
        move |records| {
            jobs::run(how, |app| describe(app, records));
        }
    };
    vec![
        row(
            "allocations: fused chain",
            4_000_000,
            pipeline(How::on_threads(1), |app, records| {
                app.source("numbers", generate::from_fn(records, 1, |number| number))
                    .map("add", |number: u64| number + 1)
                    .sink("drop", blackhole::sink());
            }),
        ),
        row(
            "allocations: two threads",
            4_000_000,
            pipeline(How::on_threads(2), |app, records| {
                app.source("records", threads::Hundred::new(records))
                    .sink("parse", threads::parse());
            }),
        ),
        row(
            "allocations: keyed count",
            4_000_000,
            pipeline(How::on_threads(1), |app, records| {
                app.source("keys", generate::source().keys(50_000).count(records))
                    .key_by(|(_, key): &(u64, u64)| *key)
                    .count("count")
                    .sink("drop", blackhole::sink());
            }),
        ),
        Row::alone("allocations: word count", "per M rec.", Target::AtMost(PER_MILLION), || {
            // The same text once and twice: the second time every word is known.
            let files = words::copies();
            let copy = |number: usize| files[number].to_string_lossy().into_owned();
            let (one, two) = (vec![copy(0)], vec![copy(0), copy(1)]);
            let run = |paths: Vec<String>| {
                jobs::run(How::on_threads(1), move |app| {
                    words::counts(app, files::source(paths.clone()))
                        .sink("drop", blackhole::sink::<(Ref<str>, u64)>());
                });
            };
            Box::new(move || {
                let less = calls(|| run(one.clone()));
                let more = calls(|| run(two.clone()));
                more.saturating_sub(less) as f64 / (words::COPY_WORDS as f64 / 1e6)
            })
        }),
    ]
}
