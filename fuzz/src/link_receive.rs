//! A link meets a peer that says anything, at any time, and never panics.

use std::collections::VecDeque;

use gear_core::control::Peer;
use gear_core::flow::batch::Batch;
use gear_core::id::{AppId, Attempt, ChannelId, Epoch, ExecutorId};
use gear_core::limits::BATCH_BYTES;
use gear_core::link::{Link, LinkConfig, LinkEvent};
use gear_core::message::{Item, Message};
use gear_core::time::{Duration, EventTime, Time};
use gear_core::wire::frame::{FrameHeader, FrameKind, encode};
use gear_core::wire::stream::encode_entry;

use crate::script::Script;

/// What a link has told its user and what it has to answer for.
struct World {
    link: Link,
    now: Time,
    /// Batches that were not worked off.
    open: VecDeque<(ChannelId, Attempt, Batch)>,
    lost: bool,
}

/// Lets a peer speak as the bytes say.
pub fn run(bytes: &[u8]) {
    let mut script = Script(bytes);
    let [one, two] = [1, 2].map(|id| Peer::Executor(AppId(1), ExecutorId(id)));
    let config =
        LinkConfig { cluster: 1, local: one, remote: two, token: 1, dials: true, session: 1 };
    let now = Time::ZERO;
    let mut peer: Link = Link::new(
        LinkConfig { local: two, remote: one, dials: false, session: 2, ..config },
        now,
    );
    let mut opening = Vec::new();
    peer.connected(now);
    peer.poll_transmit(now, &mut opening);

    let link = Link::new(config, now);
    let mut world = World { link, now, open: VecDeque::new(), lost: false };
    let mut came = 0;
    while let Some(choice) = script.next() {
        match choice % 16 {
            0 => {
                world.link.connected(world.now);
                world.receive(&opening);
            }
            1 => world.link.connected(world.now),
            2 => world.link.disconnected(world.now, choice > 240),
            3..=5 => world.receive(&script.bytes()),
            6..=7 => world.receive(&message(&mut script)),
            8..=10 => world.receive(&frame(&mut script)),
            11 => {
                world.now = world.now + Duration::from_millis(script.byte().into());
                world.link.handle_timeout(world.now);
            }
            12 => world.work_off(),
            13 => world.send(&mut script),
            14 if choice > 250 => world.link.leave(),
            _ => world.transmit(),
        }
        came += world.events();
        let _ = (world.link.wants_dial(world.now), world.link.next_timeout());
        let figures = world.link.figures();
        assert!(figures.failed <= figures.checked);
        let most = 2 * bytes.len() + 64 * BATCH_BYTES;
        assert!(world.link.allocated() <= most, "{} for {came}", world.link.allocated());
    }
}

/// A message of any kind and content, its length and checksum right.
fn message(script: &mut Script<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let kind = u16::from(script.byte() % 10);
    encode_entry(kind, &(), &mut out).expect("nothing encodes");
    out.extend(script.bytes());
    let len = (out.len() - 5) as u32;
    out[1..5].copy_from_slice(&len.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[5..9]), &out[13..]);
    out[9..13].copy_from_slice(&crc.to_le_bytes());
    out
}

/// A frame of any kind and content that a frame may have.
fn frame(script: &mut Script<'_>) -> Vec<u8> {
    let kinds = [
        FrameKind::Batch,
        FrameKind::Watermark,
        FrameKind::Idle,
        FrameKind::Barrier,
        FrameKind::End,
    ];
    let kind = kinds[usize::from(script.byte()) % kinds.len()];
    let channel = ChannelId { to: script.byte().into(), ..ChannelId::default() };
    let header = FrameHeader {
        kind,
        timed: script.byte() % 2 == 1,
        channel,
        attempt: Attempt(script.byte().into()),
        number: script.number(),
        epoch: Epoch(script.number()),
        count: script.byte().into(),
    };
    let mut out = Vec::new();
    // A payload that is too long for its kind is none.
    let _ = encode(&header, &script.bytes(), &mut out);
    out
}

impl World {
    fn receive(&mut self, bytes: &[u8]) {
        if let Err(error) = self.link.received(self.now, bytes) {
            assert!(!error.to_string().is_empty());
            assert!(self.link.wants_close());
        }
    }

    fn events(&mut self) -> usize {
        let mut came = 0;
        while let Some(event) = self.link.poll_event() {
            assert!(!self.lost, "nothing follows a loss");
            came += 1;
            match event {
                LinkEvent::Lost { reason } => {
                    assert!(!reason.to_string().is_empty() && self.link.is_lost());
                    self.lost = true;
                }
                LinkEvent::Message(Message::Item { channel, attempt, item }) => {
                    if let Item::Batch(batch) = item {
                        self.open.push_back((channel, attempt, batch));
                    }
                }
                LinkEvent::Message(_) | LinkEvent::Up | LinkEvent::AuditFailed { .. } => {}
            }
        }
        came
    }

    fn work_off(&mut self) {
        let Some((channel, attempt, batch)) = self.open.pop_front() else { return };
        let (bytes, buffer) = (batch.len() as u64, batch.into_buffer());
        self.link.send(self.now, Message::Credit { channel, attempt, bytes, buffer });
    }

    fn send(&mut self, script: &mut Script<'_>) {
        let channel = ChannelId { to: script.byte().into(), ..ChannelId::default() };
        let attempt = Attempt(script.byte().into());
        let item = match script.byte() % 3 {
            0 => Item::Batch(Batch::from_parts(script.bytes(), 1, false)),
            1 => Item::Watermark(EventTime(5)),
            _ => Item::End,
        };
        self.link.send(self.now, Message::Item { channel, attempt, item });
    }

    fn transmit(&mut self) {
        let mut out = Vec::new();
        assert_eq!(self.link.poll_transmit(self.now, &mut out), !out.is_empty());
    }
}
