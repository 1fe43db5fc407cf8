//! The rules of a link, one by one.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::{note, noted, pair};
use crate::flow::batch::Batch;
use crate::host::NoFaults;
use crate::id::{Attempt, ChannelId, Epoch};
use crate::limits::{
    BATCH_BYTES, CHANNEL_WINDOW_BYTES, CHANNEL_WINDOW_BYTES_MAX, DIAL_BACKOFF_MAX,
    DIAL_BACKOFF_MIN, DIAL_TIMEOUT, GRACE, HEARTBEAT_INTERVAL, HEARTBEATS_MISSED_MAX,
    LINK_BROKEN_MAX, LINK_ENTRIES_MAX, TRANSMIT_BYTES,
};
use crate::link::audit::Audit;
use crate::link::entry::{Arrived, NumberedRef, Resume};
use crate::link::handshake::{Purpose, Refusal};
use crate::link::{Link, LinkError, LinkEvent, LostReason};
use crate::message::{Barrier, EpochStart, Item, Message};
use crate::time::{Duration, Time, WallTime};
use crate::wire::frame::{FrameError, encode};
use crate::wire::item::{header_of, short_payload};
use crate::wire::stream::{StreamError, encode_entry, kind};

const CHANNEL: ChannelId = ChannelId { edge: 1, from: 2, to: 3 };

struct Pair {
    now: Time,
    links: [Link<NoFaults>; 2],
}

impl Pair {
    fn new() -> Self {
        Self { now: Time::ZERO, links: pair().map(|config| Link::new(config, Time::ZERO)) }
    }

    fn connected() -> Self {
        let mut pair = Self::new();
        assert!(pair.links[0].wants_dial(pair.now) && !pair.links[1].wants_dial(pair.now));
        pair.connect();
        pair.exchange();
        assert_eq!(pair.events(0), [LinkEvent::Up]);
        assert_eq!(pair.events(1), [LinkEvent::Up]);
        pair
    }

    fn connect(&mut self) {
        self.links.iter_mut().for_each(|link| link.connected(self.now));
    }

    fn disconnect(&mut self) {
        self.links.iter_mut().for_each(|link| link.disconnected(self.now, false));
    }

    fn written(&mut self, place: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while self.links[place].poll_transmit(self.now, &mut out) {}
        out
    }

    /// Brings everything over until nothing is said any more.
    fn exchange(&mut self) {
        loop {
            let written = [0, 1].map(|place| self.written(place));
            for (place, bytes) in written.iter().enumerate() {
                self.links[1 - place].received(self.now, bytes).expect("sound");
            }
            if written.iter().all(Vec::is_empty) {
                return;
            }
        }
    }

    fn events(&mut self, place: usize) -> Vec<LinkEvent> {
        core::iter::from_fn(|| self.links[place].poll_event()).collect()
    }

    fn batch(&mut self, place: usize, attempt: u64, bytes: usize) {
        self.item(place, attempt, Item::Batch(Batch::from_parts(vec![7; bytes], 1, false)));
    }

    fn item(&mut self, place: usize, attempt: u64, item: Item) {
        let attempt = Attempt(attempt);
        self.links[place].send(self.now, Message::Item { channel: CHANNEL, attempt, item });
    }

    fn lost(&mut self, place: usize) -> Option<LostReason> {
        self.events(place).into_iter().find_map(|event| match event {
            LinkEvent::Lost { reason } => Some(reason),
            _ => None,
        })
    }
}

/// What a peer with this session says first.
fn opening(session: u64, arrived: Arrived) -> Vec<u8> {
    let mut out = Vec::new();
    let resume = Resume { session, met: None, arrived };
    encode_entry(kind::LINK_RESUME, &resume, &mut out).expect("short");
    out
}

/// A link that has heard a sound peer's first words.
fn opened() -> Link<NoFaults> {
    let mut link = Link::new(pair()[0], Time::ZERO);
    link.connected(Time::ZERO);
    link.received(Time::ZERO, &opening(200, Arrived::default())).expect("sound");
    assert_eq!(link.poll_event(), Some(LinkEvent::Up));
    link
}

fn barrier(epoch: u64) -> Item {
    let start = EpochStart { epoch: Epoch(epoch), base: None, stop: false };
    Item::Barrier(Barrier { start, records: 0, born: WallTime(0) })
}

#[test]
fn a_peer_that_is_not_heard_is_lost_after_the_grace_time() {
    let mut pair = Pair::connected();
    pair.disconnect();
    pair.links[1].handle_timeout(Time(GRACE.as_nanos() as u64 - 1));
    assert_eq!(pair.lost(1), None);
    assert_eq!(pair.links[1].next_timeout(), Some(Time::ZERO + GRACE));
    pair.links[1].handle_timeout(Time::ZERO + GRACE);
    assert_eq!(pair.lost(1), Some(LostReason::Silent));
    assert_eq!(pair.links[1].next_timeout(), None);
    // A connection that comes too late is told so, and the other side need not wait either.
    pair.connect();
    pair.exchange();
    assert_eq!(pair.lost(0), Some(LostReason::Goodbye));
    assert!(pair.links[1].wants_close());
    assert_eq!(pair.links[1].judge(100), Err(Refusal::GivenUp));
}

#[test]
fn a_refusal_ends_grace_and_lets_go_what_is_kept() {
    let mut pair = Pair::connected();
    pair.batch(0, 1, 100_000);
    assert!(pair.links[0].allocated() >= 100_000);
    pair.links[0].disconnected(pair.now, true);
    assert_eq!(pair.lost(0), Some(LostReason::Refused));
    assert!(pair.links[0].allocated() < 1_000);
    pair.batch(0, 1, 100_000);
    assert!(pair.links[0].allocated() < 1_000 && !pair.links[0].wants_dial(Time::MAX));
}

#[test]
fn a_goodbye_comes_behind_everything_that_was_sent() {
    let mut pair = Pair::connected();
    pair.batch(0, 1, 200_000);
    pair.links[0].send(pair.now, note(1));
    pair.links[0].leave();
    pair.exchange();
    let events = pair.events(1);
    assert!(matches!(&events[0], LinkEvent::Message(Message::Item { .. })));
    assert_eq!(events[1], LinkEvent::Message(note(1)));
    assert_eq!(events[2], LinkEvent::Lost { reason: LostReason::Goodbye });
    assert!(pair.links.iter().all(Link::wants_close));
    assert_eq!(pair.lost(0), None, "it has left by itself");
}

#[test]
fn an_idle_link_stays() {
    let mut pair = Pair::connected();
    let mut bytes = 0;
    for _ in 0..100 {
        pair.now = pair.links.iter().filter_map(Link::next_timeout).min().expect("it has one");
        for place in 0..2 {
            pair.links[place].handle_timeout(pair.now);
            let written = pair.written(place);
            bytes += written.len();
            pair.links[1 - place].received(pair.now, &written).expect("sound");
        }
        assert!(!pair.links.iter().any(Link::wants_close));
    }
    assert!(pair.now >= Time::ZERO + HEARTBEAT_INTERVAL * 50, "{}", pair.now);
    assert!((100..5_000).contains(&bytes), "{bytes} bytes");
    assert!(pair.events(0).is_empty() && pair.events(1).is_empty());
}

#[test]
fn a_silent_connection_is_given_up_and_dialled_again() {
    let mut pair = Pair::connected();
    let silent = Time::ZERO + HEARTBEAT_INTERVAL * HEARTBEATS_MISSED_MAX;
    let link = &mut pair.links[0];
    link.handle_timeout(Time(silent.0 - 1));
    assert!(!link.wants_close());
    link.handle_timeout(silent);
    assert!(link.wants_close() && !link.wants_dial(silent));
    link.disconnected(silent, false);
    assert!(!link.wants_close() && !link.wants_dial(silent));
    let mut now = silent;
    let mut wait = DIAL_BACKOFF_MIN;
    for _ in 0..4 {
        assert_eq!(link.next_timeout(), Some(now + wait));
        now = now + wait;
        assert!(link.wants_dial(now) && !link.wants_dial(now));
        assert!(!link.wants_close());
        link.disconnected(now, false);
        wait = (wait * 2).min(DIAL_BACKOFF_MAX);
    }
}

#[test]
fn a_dial_without_an_answer_is_given_up() {
    let mut pair = Pair::new();
    let link = &mut pair.links[0];
    assert!(link.wants_dial(Time::ZERO));
    assert_eq!(link.next_timeout(), Some(Time::ZERO + DIAL_TIMEOUT));
    link.handle_timeout(Time::ZERO + DIAL_TIMEOUT);
    assert!(link.wants_close());
}

#[test]
fn what_waits_is_bounded() {
    let mut pair = Pair::new();
    for number in 0..LINK_ENTRIES_MAX as u64 {
        pair.links[0].send(pair.now, note(number));
    }
    assert_eq!(pair.lost(0), None);
    pair.links[0].send(pair.now, note(0));
    assert_eq!(pair.lost(0), Some(LostReason::Overflow));
}

#[test]
fn damage_is_repaired_by_another_connection() {
    let mut pair = Pair::connected();
    pair.batch(0, 1, 1_000);
    pair.links[0].send(pair.now, note(1));
    let mut written = pair.written(0);
    written[500] ^= 4;
    let refused = pair.links[1].received(pair.now, &written).expect_err("damaged");
    assert!(matches!(refused, LinkError::Stream(StreamError::Frame(FrameError::Checksum { .. }))));
    assert!(pair.links[1].wants_close() && pair.events(1).is_empty());
    pair.disconnect();
    pair.connect();
    pair.exchange();
    let events = pair.events(1);
    assert_eq!(events[0], LinkEvent::Up);
    assert!(matches!(&events[1], LinkEvent::Message(Message::Item { .. })));
    assert_eq!(events[2], LinkEvent::Message(note(1)));
    assert_eq!((pair.links[0].figures().repeated, pair.links[1].figures().duplicates), (2, 0));
}

#[test]
fn a_peer_that_is_never_sound_is_lost() {
    let mut link = opened();
    for broken in 1..=LINK_BROKEN_MAX {
        assert!(link.received(Time::ZERO, b"XYZ").is_err());
        let lost = link.poll_event();
        if broken == LINK_BROKEN_MAX {
            let reason = LinkError::Stream(StreamError::NoEntry { found: b'X' });
            let reason = LostReason::Broken(reason.into());
            assert_eq!(lost, Some(LinkEvent::Lost { reason }));
            return;
        }
        assert_eq!(lost, None);
        link.disconnected(Time::ZERO, false);
        link.connected(Time::ZERO);
        link.received(Time::ZERO, &opening(200, Arrived::default())).expect("sound");
        assert_eq!(link.poll_event(), Some(LinkEvent::Up));
    }
}

#[test]
fn what_a_peer_may_not_say_is_refused_by_name() {
    let said = |kind: u16, value: &Arrived| {
        let mut out = Vec::new();
        encode_entry(kind, value, &mut out).expect("short");
        out
    };
    let lie = Arrived { messages: 1, channels: vec![] };
    let unsent = LinkError::Acknowledged { known: 0, found: 1, written: 0 };
    let mut link = opened();
    assert_eq!(link.received(Time::ZERO, &said(kind::LINK_ACKNOWLEDGE, &lie)), Err(unsent.clone()));
    let reason = LostReason::Broken(unsent.into());
    assert_eq!(link.poll_event(), Some(LinkEvent::Lost { reason }));

    let unexpected = LinkError::Unexpected { kind: kind::LINK_RESUME };
    assert_eq!(opened().received(Time::ZERO, &opening(200, lie.clone())), Err(unexpected));
    let mut link: Link = Link::new(pair()[0], Time::ZERO);
    link.connected(Time::ZERO);
    let early = link.received(Time::ZERO, &said(kind::LINK_ACKNOWLEDGE, &lie));
    assert_eq!(early, Err(LinkError::Unexpected { kind: kind::LINK_ACKNOWLEDGE }));
    let version = FrameError::Version { found: 9 };
    let refused = opened().received(Time::ZERO, b"G\x09").expect_err("refused");
    assert_eq!(refused, LinkError::Stream(version.into()));
}

#[test]
fn credit_for_nothing_is_refused() {
    let mut link = opened();
    let item = Item::Idle;
    let attempt = Attempt(1);
    link.send(Time::ZERO, Message::Item { channel: CHANNEL, attempt, item });
    let most = (CHANNEL_WINDOW_BYTES_MAX - CHANNEL_WINDOW_BYTES) as u64;
    let credit = |number: u64, bytes: u64| {
        let message = Message::Credit { channel: CHANNEL, attempt, bytes, buffer: vec![] };
        let mut out = Vec::new();
        let numbered = NumberedRef { number, message: &message };
        encode_entry(kind::LINK_MESSAGE, &numbered, &mut out).expect("short");
        out
    };
    assert_eq!(link.received(Time::ZERO, &credit(1, most)), Ok(()));
    let refused = LinkError::Credit { channel: CHANNEL, bytes: 1 };
    assert_eq!(link.received(Time::ZERO, &credit(2, 1)), Err(refused));
    let refused = LinkError::Credit { channel: CHANNEL, bytes: u64::MAX };
    let mut link = opened();
    link.send(Time::ZERO, Message::Item { channel: CHANNEL, attempt, item: Item::Idle });
    assert_eq!(link.received(Time::ZERO, &credit(1, u64::MAX)), Err(refused));
}

#[test]
fn what_is_missing_ends_the_link() {
    let mut frames = Vec::new();
    let header = header_of(CHANNEL, Attempt(1), 2, Epoch(0), &Item::Idle);
    encode(&header, &[], &mut frames).expect("short");
    let mut link = opened();
    let gap = LinkError::Gap { channel: CHANNEL, attempt: Attempt(1), expected: 1, found: 2 };
    assert_eq!(link.received(Time::ZERO, &frames), Err(gap.clone()));
    let reason = LostReason::Broken(gap.into());
    assert_eq!(link.poll_event(), Some(LinkEvent::Lost { reason }));
    assert_eq!(link.figures().gaps, 1);
}

#[test]
fn an_epoch_in_which_something_else_came_is_told() {
    let item = barrier(7);
    let header = header_of(CHANNEL, Attempt(1), 1, Epoch(0), &item);
    let mut payload = short_payload(&item).to_vec();
    let sent = Audit { frames: 1, records: 2, hash: 3 };
    sent.encode(&mut payload);
    let mut bytes = Vec::new();
    encode(&header, &payload, &mut bytes).expect("short");
    let mut link = opened();
    assert_eq!(link.received(Time::ZERO, &bytes), Ok(()));
    let (epoch, came) = (Epoch(7), Audit::default());
    let failed = LinkEvent::AuditFailed { channel: CHANNEL, epoch, sent, came };
    assert_eq!(link.poll_event(), Some(failed));
    let message = Message::Item { channel: CHANNEL, attempt: Attempt(1), item };
    assert_eq!(link.poll_event(), Some(LinkEvent::Message(message)));
    assert_eq!((link.figures().checked, link.figures().failed), (1, 1));
}

#[test]
fn a_later_attempt_makes_the_earlier_one_void() {
    const QUARTER: u64 = CHANNEL_WINDOW_BYTES as u64 / 4;
    let mut pair = Pair::connected();
    pair.batch(0, 1, 10);
    pair.exchange();
    pair.batch(0, 1, 300_000);
    pair.batch(0, 2, QUARTER as usize);
    pair.batch(0, 1, 300_000);
    let written = pair.written(0);
    let most = QUARTER as usize + 200;
    assert!(written.len() < most, "nothing of the first attempt is written any more");
    pair.links[1].received(pair.now, &written).expect("sound");
    let attempts: Vec<_> = pair.events(1);
    assert_eq!(attempts.len(), 2);
    // What the other side still works off of the first attempt is no credit for the second.
    let credit = |attempt, bytes| {
        let attempt = Attempt(attempt);
        Message::Credit { channel: CHANNEL, attempt, bytes, buffer: vec![] }
    };
    pair.links[1].send(pair.now, credit(1, 10));
    pair.links[1].send(pair.now, credit(2, QUARTER));
    pair.exchange();
    let said = pair.events(0).into_iter().map(|event| match event {
        LinkEvent::Message(Message::Credit { attempt, bytes, .. }) => (attempt, bytes),
        other => panic!("{other:?}"),
    });
    assert_eq!(said.collect::<Vec<_>>(), [(Attempt(2), QUARTER)]);
    let sender = pair.links[0].senders().next().expect("one channel");
    assert_eq!((sender.attempt, sender.sent, sender.granted), (Attempt(2), QUARTER, QUARTER));
    assert_eq!(pair.links[0].figures().fenced, 1);
}

#[test]
fn credit_is_said_in_quarters_and_buffers_circulate() {
    const BATCHES: usize = (CHANNEL_WINDOW_BYTES / 4).div_ceil(BATCH_BYTES);
    let mut pair = Pair::connected();
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let (mut sent_from, mut came_in) = (Vec::new(), Vec::new());
        for number in 1..=BATCHES {
            let buffer = vec![7; BATCH_BYTES];
            sent_from.push(buffer.as_ptr());
            pair.item(0, 1, Item::Batch(Batch::from_parts(buffer, 1, false)));
            let written = pair.written(0);
            pair.links[1].received(pair.now, &written).expect("sound");
            let event = pair.events(1).pop();
            let Some(LinkEvent::Message(Message::Item { item: Item::Batch(batch), .. })) = event
            else {
                panic!("{event:?}")
            };
            let buffer = batch.into_buffer();
            came_in.push(buffer.as_ptr());
            let (channel, attempt) = (CHANNEL, Attempt(1));
            let bytes = BATCH_BYTES as u64;
            pair.links[1].send(pair.now, Message::Credit { channel, attempt, bytes, buffer });
            if number < BATCHES {
                let said = pair.written(1);
                assert!(said.len() < 100, "an acknowledgement at most");
                pair.links[0].received(pair.now, &said).expect("sound");
                assert_eq!(pair.events(0), []);
            }
        }
        pair.exchange();
        let mut credit = 0;
        let buffers = pair.events(0).into_iter().map(|event| match event {
            LinkEvent::Message(Message::Credit { bytes, buffer, .. }) => {
                credit += bytes;
                buffer.as_ptr()
            }
            other => panic!("{other:?}"),
        });
        let mut buffers: Vec<_> = buffers.collect();
        buffers.sort();
        sent_from.sort();
        assert_eq!(buffers, sent_from, "the sender's buffers are free again");
        assert_eq!(credit, (BATCHES * BATCH_BYTES) as u64);
        rounds.push(came_in);
    }
    assert!(rounds.iter().all(|came_in| came_in[0] == rounds[0][0]), "so are the receiver's");
}

#[test]
fn a_write_takes_as_much_as_is_worth_one() {
    let mut pair = Pair::connected();
    (0..40).for_each(|_| pair.batch(0, 1, 10_000));
    let mut out = Vec::new();
    assert!(pair.links[0].poll_transmit(pair.now, &mut out));
    let most = TRANSMIT_BYTES + 11_000;
    assert!((TRANSMIT_BYTES..most).contains(&out.len()), "{}", out.len());
}

#[test]
fn a_long_frame_is_given_apart_and_nothing_changes_its_place() {
    let mut pair = Pair::connected();
    pair.links[0].send(pair.now, note(1));
    pair.batch(0, 1, 100);
    pair.batch(0, 1, BATCH_BYTES);
    pair.links[0].send(pair.now, note(2));
    pair.links[0].leave();
    let (mut out, mut pieces) = (Vec::new(), Vec::new());
    loop {
        let before = out.len();
        let frame = pair.links[0].poll_write(pair.now, &mut out);
        if out.len() == before && frame.is_none() {
            break;
        }
        pieces.push((out.len() - before, frame.as_ref().map(|frame| frame.payload.len())));
        frame.into_iter().for_each(|frame| frame.append_to(&mut out));
    }
    assert!(matches!(pieces[..], [(1.., Some(BATCH_BYTES)), (1.., None)]), "{pieces:?}");
    pair.links[1].received(pair.now, &out).expect("sound");
    let said = pair.events(1).into_iter().map(|event| match event {
        LinkEvent::Message(Message::Item { item: Item::Batch(batch), .. }) => batch.len() as u64,
        LinkEvent::Message(message) => noted(&message).expect("a note"),
        LinkEvent::Lost { reason: LostReason::Goodbye } => 0,
        other => panic!("{other:?}"),
    });
    assert_eq!(said.collect::<Vec<_>>(), [1, 100, BATCH_BYTES as u64, 2, 0]);
}

#[test]
fn a_hello_says_who_dials() {
    let link: Link = Link::new(pair()[0], Time::ZERO);
    let hello = link.hello();
    assert_eq!((hello.from, hello.to), (pair()[0].local, pair()[0].remote));
    assert_eq!(hello.purpose, Purpose::Link { session: 100 });
    let mut pair = Pair::connected();
    assert_eq!(pair.links[1].judge(100), Ok(()));
    assert_eq!(pair.links[1].judge(101), Err(Refusal::AnotherLife));
    pair.links[0].send(pair.now, note(9));
    pair.exchange();
    let event = pair.events(1).pop();
    let Some(LinkEvent::Message(message)) = event else { panic!("{event:?}") };
    assert_eq!(noted(&message), Some(9));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_take_memory(
        magic in prop::sample::select(vec![b'G', b'M', 0]),
        kind in 0..10_u16,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        after_open: bool,
    ) {
        let mut link = opened();
        if !after_open {
            link = Link::new(pair()[0], Time::ZERO);
            link.connected(Time::ZERO);
        }
        let mut input = vec![magic];
        input.extend(&bytes);
        let mut mended = Vec::new();
        encode_entry(kind, &bytes, &mut mended).expect("short");
        for input in [input, mended] {
            let _ = link.received(Time::ZERO, &input);
            link.handle_timeout(Time::ZERO + Duration::from_millis(1));
            while link.poll_event().is_some() {}
            link.disconnected(Time::ZERO, false);
            link.connected(Time::ZERO);
        }
        prop_assert!(link.allocated() < 5 * BATCH_BYTES);
    }
}
