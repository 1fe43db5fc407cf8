//! From one thread to another.

use std::sync::mpsc::sync_channel;

use gear_core::api::sink::{Sink, SinkConnector, SinkContext, SinkTask};
use gear_core::api::source::{Advance, Source, SourceConnector, SourceContext};
use gear_core::api::{Files, Ref};
use gear_core::effect::IoError;
use gear_core::flow::push::Meta;
use gear_core::id::Epoch;
use gear_core::message::{Partition, Pending};
use gear_core::time::EventTime;

use crate::jobs::{self, How, Watch};
use crate::row::Row;

const RECORDS: u64 = 100_000_000;
/// A record of 100 bytes is a byte for its length and these.
const BODY: usize = 99;

pub(crate) fn rows() -> Vec<Row> {
    vec![Row::against(
        "two tasks, two threads, 100-byte records",
        "M records/s",
        0.6,
        "a pair swapping 64 KiB buffers",
        || (Box::new(gear), Box::new(pair)),
    )]
}

fn gear() -> f64 {
    let (took, _) = jobs::run(How::on_threads(2), |app| {
        app.source("records", Hundred::new(RECORDS)).sink("parse", parse());
    });
    RECORDS as f64 / took / 1e6
}

/// Two threads and two bounded queues: full buffers one way, empty ones the other.
fn pair() -> f64 {
    const BUFFER: usize = 64 << 10;
    let watch = Watch::start();
    let (full, fulls) = sync_channel::<Vec<u8>>(16);
    let (empty, empties) = sync_channel::<Vec<u8>>(17);
    for _ in 0..17 {
        empty.send(Vec::with_capacity(BUFFER + BODY + 1)).unwrap();
    }
    let writer = std::thread::spawn(move || {
        let mut buffer: Vec<u8> = empties.recv().unwrap();
        let mut body = [7; BODY];
        for number in 0..RECORDS {
            if buffer.len() >= BUFFER {
                full.send(std::mem::replace(&mut buffer, empties.recv().unwrap())).unwrap();
            }
            body[..8].copy_from_slice(&number.to_le_bytes());
            buffer.push(BODY as u8);
            buffer.extend_from_slice(&body);
        }
        full.send(buffer).unwrap();
    });
    let mut sum = 0_u64;
    for mut buffer in fulls {
        let mut rest = buffer.as_slice();
        while let Some((len, behind)) = rest.split_first() {
            let (body, behind) = behind.split_at(usize::from(*len));
            sum = sum.wrapping_add(number(body));
            rest = behind;
        }
        buffer.clear();
        let _ = empty.send(buffer);
    }
    writer.join().unwrap();
    assert_eq!(sum, expected(RECORDS));
    RECORDS as f64 / watch.seconds() / 1e6
}

fn number(body: &[u8]) -> u64 {
    body.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

const fn expected(records: u64) -> u64 {
    (records as u128 * (records as u128 - 1) / 2) as u64
}

/// So many records of 100 bytes, each with its number in it.
pub(crate) struct Hundred {
    records: u64,
}

impl Hundred {
    pub(crate) const fn new(records: u64) -> Self {
        Self { records }
    }
}

impl SourceConnector for Hundred {
    type Source = HundredReader;

    fn partitions(&self, _: &mut dyn Files) -> Result<Vec<String>, IoError> {
        Ok(vec!["all".into()])
    }

    fn source(&self) -> HundredReader {
        HundredReader { next: 0, records: self.records, bodies: [[7; BODY]; AHEAD] }
    }
}

/// Records that are made before they are read: a processor stalls on a load of what it stored in
/// smaller pieces just before, which is nothing that a source of real records does.
const AHEAD: usize = 8;

pub(crate) struct HundredReader {
    next: u64,
    records: u64,
    bodies: [[u8; BODY]; AHEAD],
}

impl HundredReader {
    #[inline(always)]
    fn make(&mut self, number: u64) {
        self.bodies[number as usize % AHEAD][..8].copy_from_slice(&number.to_le_bytes());
    }
}

impl Source for HundredReader {
    type Out = Ref<[u8]>;

    fn open(&mut self, _: &[Partition], _: &mut SourceContext<'_>) -> Result<(), String> {
        (0..AHEAD as u64).for_each(|number| self.make(number));
        Ok(())
    }

    #[inline(always)]
    fn advance(&mut self, _: &mut SourceContext<'_>) -> Result<Advance, String> {
        if self.next == self.records {
            return Ok(Advance::End);
        }
        if self.next > 0 {
            self.make(self.next + AHEAD as u64 - 1);
        }
        self.next += 1;
        Ok(Advance::Record)
    }

    #[inline(always)]
    fn current(&self) -> (Meta, &[u8]) {
        (Meta { at: EventTime::MIN, partition: 0 }, &self.bodies[(self.next as usize - 1) % AHEAD])
    }

    fn positions(&self) -> Vec<Partition> {
        vec![Partition { name: "all".into(), position: None, done: false }]
    }
}

/// Reads each record, and checks at the end that it had all.
pub(crate) const fn parse() -> Parse {
    Parse
}

pub(crate) struct Parse;

impl SinkConnector for Parse {
    type Sink = Parsed;

    fn sink(&self, _: &SinkTask) -> Parsed {
        Parsed { records: 0, sum: 0 }
    }

    fn transactional(&self) -> bool {
        true
    }
}

pub(crate) struct Parsed {
    records: u64,
    sum: u64,
}

impl Sink for Parsed {
    type In = Ref<[u8]>;

    fn open(&mut self, _: &[Pending], _: &mut SinkContext<'_>) -> Result<(), String> {
        Ok(())
    }

    #[inline(always)]
    fn write(&mut self, _: Meta, view: &[u8], _: &mut SinkContext<'_>) -> Result<(), String> {
        self.records += 1;
        self.sum = self.sum.wrapping_add(number(view));
        Ok(())
    }

    fn prepare(
        &mut self,
        _: Epoch,
        last: bool,
        _: &mut SinkContext<'_>,
    ) -> Result<Vec<u8>, String> {
        if last && self.sum != expected(self.records) {
            return Err("records were lost".into());
        }
        Ok(Vec::new())
    }

    fn commit(&mut self, _: Epoch, _: &mut SinkContext<'_>) -> Result<(), String> {
        Ok(())
    }
}
