//! The link machine, in memory: what it costs to carry batches, apart from the socket.

use std::time::{Duration, Instant};

use gear_core::control::Peer;
use gear_core::flow::batch::Batch;
use gear_core::id::{AppId, Attempt, ChannelId, ExecutorId};
use gear_core::limits::BATCH_BYTES;
use gear_core::link::{Link, LinkConfig, LinkEvent};
use gear_core::message::{Item, Message};
use gear_core::time::Time;

use crate::jobs;
use crate::row::{Row, Target};

const RECORD_BYTES: usize = 100;
/// A batch is sealed with the record that fills it.
const RECORDS: u32 = (BATCH_BYTES / RECORD_BYTES + 1) as u32;
const BATCHES: u32 = 100_000;

const CHANNEL: ChannelId = ChannelId { edge: 0, from: 0, to: 0 };
const ATTEMPT: Attempt = Attempt(1);

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, side: fn(Took) -> Duration| {
        Row::alone(name, "M records/s", Target::AtLeast(40.0), move || {
            Box::new(move || {
                let records = f64::from(BATCHES) * f64::from(RECORDS);
                records / side(run()).as_secs_f64() / 1e6
            })
        })
    };
    vec![
        row("link machine, sending 100-byte records", |took| took.sending),
        row("link machine, receiving 100-byte records", |took| took.receiving),
    ]
}

/// How long each side has worked.
struct Took {
    sending: Duration,
    receiving: Duration,
}

struct Sides {
    begin: Instant,
    sender: Link,
    receiver: Link,
    /// Bytes on their way from the sender and to it.
    there: Vec<u8>,
    back: Vec<u8>,
    /// Buffers that came back with credit.
    buffers: Vec<Vec<u8>>,
}

/// Carries batches from one link to another on one thread, each side timed by itself. A batch is
/// written before the clock runs, so that it is in the cache, as a task leaves it. What counts is
/// the time of the processor, so that others on the machine do not; reading it counts too.
fn run() -> Took {
    let mut sides = Sides::connected();
    let mut took = Took { sending: Duration::ZERO, receiving: Duration::ZERO };
    for _ in 0..BATCHES {
        let mut buffer = sides.buffers.pop().unwrap_or_default();
        buffer.resize(RECORDS as usize * RECORD_BYTES, 7);
        let batch = Batch::from_parts(buffer, RECORDS, false);
        let begin = jobs::cpu(libc::CLOCK_THREAD_CPUTIME_ID);
        sides.send(batch);
        let sent = jobs::cpu(libc::CLOCK_THREAD_CPUTIME_ID);
        sides.receive();
        took.sending += sent - begin;
        took.receiving += jobs::cpu(libc::CLOCK_THREAD_CPUTIME_ID) - sent;
    }
    let came = sides.receiver.receivers().next().map(|figures| figures.frames);
    assert_eq!(came, Some(u64::from(BATCHES)), "everything has come");
    took
}

impl Sides {
    fn connected() -> Self {
        let [one, two] = [1, 2].map(|id| Peer::Executor(AppId(1), ExecutorId(id)));
        let config =
            LinkConfig { cluster: 1, local: one, remote: two, token: 1, dials: true, session: 1 };
        let other = LinkConfig { local: two, remote: one, dials: false, session: 2, ..config };
        let now = Time::ZERO;
        let [mut sender, mut receiver] = [config, other].map(|config| Link::new(config, now));
        let (mut there, mut back) = (Vec::new(), Vec::new());
        for (link, out) in [(&mut sender, &mut there), (&mut receiver, &mut back)] {
            link.connected(now);
            link.poll_transmit(now, out);
        }
        receiver.received(now, &there).unwrap();
        there.clear();
        Self { begin: Instant::now(), sender, receiver, there, back, buffers: Vec::new() }
    }

    fn now(&self) -> Time {
        Time(self.begin.elapsed().as_nanos() as u64)
    }

    /// The sender takes acknowledgements and credit, and sends a batch.
    fn send(&mut self, batch: Batch) {
        let now = self.now();
        self.sender.received(now, &self.back).unwrap();
        while let Some(event) = self.sender.poll_event() {
            if let LinkEvent::Message(Message::Credit { buffer, .. }) = event {
                self.buffers.push(buffer);
            }
        }
        let (channel, attempt, item) = (CHANNEL, ATTEMPT, Item::Batch(batch));
        self.sender.send(now, Message::Item { channel, attempt, item });
        self.there.clear();
        while self.sender.poll_transmit(now, &mut self.there) {}
    }

    /// The receiver takes the batch, as if its task had worked it off at once.
    fn receive(&mut self) {
        let now = self.now();
        self.receiver.received(now, &self.there).unwrap();
        while let Some(event) = self.receiver.poll_event() {
            if let LinkEvent::Message(Message::Item { item: Item::Batch(batch), .. }) = event {
                let (bytes, buffer) = (batch.len() as u64, batch.into_buffer());
                let (channel, attempt) = (CHANNEL, ATTEMPT);
                let credit = Message::Credit { channel, attempt, bytes, buffer };
                self.receiver.send(now, credit);
            }
        }
        self.back.clear();
        while self.receiver.poll_transmit(now, &mut self.back) {}
    }
}
