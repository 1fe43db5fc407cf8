//! How long a record is on its way through two threads.

use std::sync::{Arc, Mutex};

use gear_core::api::Files;
use gear_core::api::sink::{Sink, SinkConnector, SinkContext, SinkTask};
use gear_core::api::source::{Advance, Source, SourceConnector, SourceContext};
use gear_core::dsl::App;
use gear_core::effect::IoError;
use gear_core::flow::push::Meta;
use gear_core::id::Epoch;
use gear_core::message::{Partition, Pending};
use gear_core::time::{EventTime, Time};
use hdrhistogram::Histogram;

use crate::jobs::{self, How};
use crate::row::{Row, Target};

pub(crate) const RATE: u64 = 50_000;
pub(crate) const RECORDS: u64 = 3 * RATE;
/// The first records, when threads have only just begun.
pub(crate) const WARM: u64 = RATE / 2;

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, quantile: f64, target| {
        Row::alone(name, "us", Target::AtMost(target), move || {
            Box::new(move || run().value_at_quantile(quantile) as f64 / 1e3)
        })
    };
    vec![
        row("latency at 50,000 records/s, p50", 0.5, 20.0),
        row("latency at 50,000 records/s, p99", 0.99, 200.0),
    ]
}

fn run() -> Histogram<u64> {
    let found = Arc::new(Mutex::new(Histogram::new(3).unwrap()));
    jobs::run(How::on_threads(2), |app| describe(app, &found));
    Arc::try_unwrap(found).unwrap().into_inner().unwrap()
}

/// The job, and where its sink puts what it has measured.
pub(crate) fn describe(app: &mut App, found: &Arc<Mutex<Histogram<u64>>>) {
    app.source("paced", Paced).sink("timed", Timed(Arc::clone(found)));
}

/// A clock that all processes of the machine share.
pub(crate) fn nanos() -> u64 {
    jobs::cpu(libc::CLOCK_MONOTONIC).as_nanos() as u64
}

/// Sends each record at its time; what is late keeps the time at which it should have gone.
struct Paced;

impl SourceConnector for Paced {
    type Source = PacedReader;

    fn partitions(&self, _: &mut dyn Files) -> Result<Vec<String>, IoError> {
        Ok(vec!["all".into()])
    }

    fn source(&self) -> PacedReader {
        PacedReader { began: 0, sent: 0, intended: 0 }
    }
}

struct PacedReader {
    began: u64,
    sent: u64,
    intended: u64,
}

impl Source for PacedReader {
    type Out = (u64, u64);

    fn open(&mut self, _: &[Partition], _: &mut SourceContext<'_>) -> Result<(), String> {
        Ok(())
    }

    fn advance(&mut self, cx: &mut SourceContext<'_>) -> Result<Advance, String> {
        if self.sent == RECORDS {
            return Ok(Advance::End);
        }
        let now = nanos();
        if self.sent == 0 {
            self.began = now;
        }
        self.intended = self.began + self.sent * 1_000_000_000 / RATE;
        if self.intended > now {
            return Ok(Advance::Wait(Time(cx.now.0 + (self.intended - now))));
        }
        self.sent += 1;
        Ok(Advance::Record)
    }

    fn current(&self) -> (Meta, (u64, u64)) {
        (Meta { at: EventTime::MIN, partition: 0 }, (self.sent, self.intended))
    }

    fn positions(&self) -> Vec<Partition> {
        vec![Partition { name: "all".into(), position: None, done: false }]
    }
}

/// Notes how long each record was on its way.
struct Timed(Arc<Mutex<Histogram<u64>>>);

impl SinkConnector for Timed {
    type Sink = TimedWriter;

    fn sink(&self, _: &SinkTask) -> TimedWriter {
        TimedWriter { shared: Arc::clone(&self.0), own: Histogram::new(3).unwrap() }
    }

    fn transactional(&self) -> bool {
        true
    }
}

struct TimedWriter {
    shared: Arc<Mutex<Histogram<u64>>>,
    own: Histogram<u64>,
}

impl Sink for TimedWriter {
    type In = (u64, u64);

    fn open(&mut self, _: &[Pending], _: &mut SinkContext<'_>) -> Result<(), String> {
        Ok(())
    }

    fn write(
        &mut self,
        _: Meta,
        (number, intended): (u64, u64),
        _: &mut SinkContext<'_>,
    ) -> Result<(), String> {
        if number > WARM {
            self.own.record(nanos().saturating_sub(intended).max(1)).unwrap();
        }
        Ok(())
    }

    fn prepare(&mut self, _: Epoch, _: bool, _: &mut SinkContext<'_>) -> Result<Vec<u8>, String> {
        let mut shared = self.shared.lock().unwrap();
        shared.add(&self.own).unwrap();
        self.own.reset();
        Ok(Vec::new())
    }

    fn commit(&mut self, _: Epoch, _: &mut SinkContext<'_>) -> Result<(), String> {
        Ok(())
    }
}
