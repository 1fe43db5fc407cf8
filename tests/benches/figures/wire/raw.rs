//! The same records over a bare socket, and the time that a sink takes.

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use gear_core::api::Ref;
use gear_core::api::sink::{Sink, SinkConnector, SinkContext, SinkTask};
use gear_core::flow::push::Meta;
use gear_core::id::Epoch;
use gear_core::message::Pending;

use hdrhistogram::Histogram;

use super::{MEASURED, records};
use crate::jobs::Watch;
use crate::latency;

pub(crate) const RECORD: usize = 100;
const SIZES: [usize; 5] = [48 << 10, 64 << 10, 96 << 10, 128 << 10, 256 << 10];

/// The best of several sizes of a write.
pub(crate) fn best() -> f64 {
    SIZES.into_iter().map(receive).fold(0.0, f64::max)
}

/// Reads and parses what another process sends in writes of this size.
fn receive(size: usize) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (mut child, mut output) = super::launch(&["raw", &address, &size.to_string()]);
    let (stream, _) = listener.accept().unwrap();
    let watch = Watch::start();
    parse(stream, size);
    let took = watch.seconds();
    child.wait().unwrap();
    // By the processor's time the watch counts this process, and the other one counts itself.
    super::rate(took, &[took, super::used(&mut output)])
}

/// Parses all records.
pub(crate) fn parse(mut stream: impl Read, size: usize) {
    let mut buffer = vec![0; size + RECORD];
    let (mut held, mut sum, mut parsed, all) = (0, 0_u64, 0, records());
    while parsed < all {
        let count = stream.read(&mut buffer[held..]).unwrap();
        assert!(count > 0, "records are missing");
        held += count;
        let whole = buffer[..held].chunks_exact(RECORD);
        let rest = whole.remainder().len();
        for record in whole {
            sum = sum.wrapping_add(number(record));
            parsed += 1;
        }
        buffer.copy_within(held - rest..held, 0);
        held = rest;
    }
    assert_eq!(sum, all * (all - 1) / 2);
}

/// Sends records in writes of about this size.
pub(crate) fn send(to: &str, size: usize) {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    fill(stream, size);
}

/// Fills and writes all records.
pub(crate) fn fill(mut stream: impl Write, size: usize) {
    let mut buffer = Vec::with_capacity(size + RECORD);
    let mut body = [7; RECORD - 1];
    for number in 0..records() {
        if buffer.len() + RECORD > size {
            stream.write_all(&buffer).unwrap();
            buffer.clear();
        }
        append(&mut buffer, &mut body, number);
    }
    stream.write_all(&buffer).unwrap();
    stream.flush().unwrap();
}

/// Appends the record of this number.
#[inline(always)]
pub(crate) fn append(buffer: &mut Vec<u8>, body: &mut [u8; RECORD - 1], number: u64) {
    body[..8].copy_from_slice(&number.to_le_bytes());
    buffer.push(body.len() as u8);
    buffer.extend_from_slice(body);
}

/// The number of a record.
#[inline(always)]
pub(crate) fn number(record: &[u8]) -> u64 {
    u64::from_le_bytes(record[1..9].try_into().unwrap())
}

/// How long records are on their way that another process writes one by one, each at its time, to
/// a reader that waits in the kernel; in microseconds.
pub(crate) fn latency(quantile: f64) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (mut child, _output) = super::launch(&["paced", &address]);
    let (stream, _) = listener.accept().unwrap();
    let mut stream = BufReader::new(stream);
    let mut found = Histogram::<u64>::new(3).unwrap();
    let mut record = [0; RECORD];
    for number in 0..latency::RECORDS {
        stream.read_exact(&mut record).unwrap();
        if number > latency::WARM {
            let intended = u64::from_le_bytes(record[..8].try_into().unwrap());
            found.record(latency::nanos().saturating_sub(intended).max(1)).unwrap();
        }
    }
    child.wait().unwrap();
    found.value_at_quantile(quantile) as f64 / 1e3
}

/// Writes each record at its time, which is in it, and waits awake in between.
pub(crate) fn pace(to: &str) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut record = [7; RECORD];
    let began = latency::nanos();
    for number in 0..latency::RECORDS {
        let intended = began + number * 1_000_000_000 / latency::RATE;
        while latency::nanos() < intended {
            std::thread::yield_now();
        }
        record[..8].copy_from_slice(&intended.to_le_bytes());
        stream.write_all(&record).unwrap();
    }
}

/// A sink of byte strings that prints the seconds between the first and the last.
pub(crate) const fn timed<S>(inner: S) -> Timed<S> {
    Timed(inner)
}

pub(crate) struct Timed<S>(S);

impl<S> SinkConnector for Timed<S>
where
    S: SinkConnector,
    S::Sink: Sink<In = Ref<[u8]>>,
{
    type Sink = TimedSink<S::Sink>;

    fn sink(&self, task: &SinkTask) -> Self::Sink {
        TimedSink { inner: self.0.sink(task), began: None, records: 0, last: records() }
    }

    fn transactional(&self) -> bool {
        self.0.transactional()
    }
}

pub(crate) struct TimedSink<S> {
    inner: S,
    began: Option<Instant>,
    /// Records that have come, until the time of the last is printed.
    records: u64,
    /// How many there are.
    last: u64,
}

impl<S: Sink<In = Ref<[u8]>>> Sink for TimedSink<S> {
    type In = Ref<[u8]>;

    fn open(&mut self, pending: &[Pending], cx: &mut SinkContext<'_>) -> Result<(), String> {
        self.inner.open(pending, cx)
    }

    #[inline(always)]
    fn write(&mut self, meta: Meta, view: &[u8], cx: &mut SinkContext<'_>) -> Result<(), String> {
        if self.began.is_none() {
            self.began = Some(Instant::now());
        }
        self.records += 1;
        self.inner.write(meta, view, cx)
    }

    fn prepare(
        &mut self,
        epoch: Epoch,
        last: bool,
        cx: &mut SinkContext<'_>,
    ) -> Result<Vec<u8>, String> {
        // The last record may be followed by a barrier before it is known to be the last.
        if let Some(began) = self.began
            && self.records == self.last
        {
            self.records = 0;
            println!("{MEASURED}{}", began.elapsed().as_secs_f64());
        }
        self.inner.prepare(epoch, last, cx)
    }

    fn commit(&mut self, epoch: Epoch, cx: &mut SinkContext<'_>) -> Result<(), String> {
        self.inner.commit(epoch, cx)
    }
}
