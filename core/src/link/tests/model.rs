//! Two links over a pipe that is cut anywhere, compared with two lists of what was sent.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::{Random, note, noted, pair};
use crate::flow::batch::Batch;
use crate::host::{Fault, Faults, NoFaults};
use crate::id::{Attempt, ChannelId, Epoch};
use crate::limits::{BATCH_BYTES, CHANNEL_WINDOW_BYTES, GRACE};
use crate::link::{Link, LinkConfig, LinkEvent, LostReason, check_credit};
use crate::message::{Barrier, EpochStart, Item, Message};
use crate::time::{Duration, EventTime, Time, WallTime};

const CHANNELS: u64 = 3;

/// What one side has sent on a channel, and what the other has taken.
#[derive(Default)]
struct Flow {
    attempt: Attempt,
    credit: i64,
    /// Of the present attempt: each item by its number and its bytes, and how many have come.
    sent: Vec<(u64, usize)>,
    came: usize,
    /// The attempt that the receiver works on, and the batches that it has not worked off.
    receives: Attempt,
    open: VecDeque<(usize, Vec<u8>)>,
    epoch: u64,
    records: u64,
    /// What earlier attempts had sent, and how much of it has come.
    earlier: BTreeMap<Attempt, (Vec<(u64, usize)>, usize)>,
}

struct Side<F: Faults> {
    link: Link<F>,
    /// The connection that this side believes in.
    end: Option<u64>,
    /// Bytes on their way to the other side.
    pipe: VecDeque<u8>,
    notes: u64,
    notes_came: u64,
    flows: BTreeMap<ChannelId, Flow>,
    lost: Option<LostReason>,
    ups: u64,
}

struct World<F: Faults> {
    random: Random,
    now: Time,
    sides: [Side<F>; 2],
    /// The connection that is really there.
    live: Option<u64>,
    connections: u64,
    numbers: u64,
    /// Connections break and dials fail.
    rough: bool,
}

impl<F: Faults> World<F> {
    fn new(seed: u64) -> Self {
        let now = Time::ZERO;
        let side = |config: LinkConfig| Side {
            link: Link::new(config, now),
            end: None,
            pipe: VecDeque::new(),
            notes: 0,
            notes_came: 0,
            flows: BTreeMap::new(),
            lost: None,
            ups: 0,
        };
        Self {
            random: Random::new(seed),
            now,
            sides: pair().map(side),
            live: None,
            connections: 0,
            numbers: 0,
            rough: true,
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let place = self.random.below(2) as usize;
        match self.random.below(20) {
            0..=4 => self.send_item(place),
            5 => {
                self.sides[place].notes += 1;
                let message = note(self.sides[place].notes);
                self.sides[place].link.send(self.now, message);
            }
            6..=9 => self.work_off(place),
            10..=13 => self.deliver(place)?,
            14 if self.rough && self.random.once_in(6) => self.cut(),
            14 if self.random.once_in(8) => self.new_attempt(place),
            15 => {
                let step = Duration::from_micros(self.random.below(10_000));
                self.advance(self.now + step);
            }
            _ => self.transmit(place),
        }
        self.manage(place);
        self.check_accounts()
    }

    fn channel(&mut self) -> ChannelId {
        ChannelId { edge: 0, from: 0, to: self.random.below(CHANNELS) as u32 }
    }

    fn send_item(&mut self, place: usize) {
        let channel = self.channel();
        let choice = self.random.below(10);
        let (len, barrier) = match self.random.below(60) {
            0 => (BATCH_BYTES as u64, false),
            1 => (CHANNEL_WINDOW_BYTES as u64 * 2, false),
            _ => (1 + self.random.below(3_000), choice == 0),
        };
        self.numbers += 1;
        let number = self.numbers;
        let first = Flow {
            attempt: Attempt(1),
            receives: Attempt(1),
            credit: CHANNEL_WINDOW_BYTES as i64,
            ..Flow::default()
        };
        let side = &mut self.sides[place];
        let flow = side.flows.entry(channel).or_insert(first);
        let (item, bytes) = match choice {
            0 if barrier => {
                flow.epoch += 1;
                let start = EpochStart { epoch: Epoch(flow.epoch), base: None, stop: false };
                let records = core::mem::take(&mut flow.records);
                (Item::Barrier(Barrier { start, records, born: WallTime(0) }), 0)
            }
            1 => (Item::Watermark(EventTime(number as i64)), 0),
            _ => {
                if flow.credit <= 0 {
                    return;
                }
                let buffer = vec![number as u8; len as usize];
                flow.credit -= len as i64;
                flow.records += 1;
                (Item::Batch(Batch::from_parts(buffer, 1, false)), len as usize)
            }
        };
        flow.sent.push((mark(&item), bytes));
        let attempt = flow.attempt;
        side.link.send(self.now, Message::Item { channel, attempt, item });
    }

    fn new_attempt(&mut self, place: usize) {
        let channel = self.channel();
        let Some(flow) = self.sides[place].flows.get_mut(&channel) else { return };
        let next = Attempt(flow.attempt.0 + 1);
        let attempt = core::mem::replace(&mut flow.attempt, next);
        let sent = core::mem::take(&mut flow.sent);
        flow.earlier.insert(attempt, (sent, core::mem::take(&mut flow.came)));
        flow.credit = CHANNEL_WINDOW_BYTES as i64;
        (flow.epoch, flow.records) = (0, 0);
    }

    /// The receiver of what this side sends works a batch off.
    fn work_off(&mut self, place: usize) {
        let channel = self.channel();
        let now = self.now;
        let Some(flow) = self.sides[place].flows.get_mut(&channel) else { return };
        let Some((bytes, buffer)) = flow.open.pop_front() else { return };
        let (attempt, bytes) = (flow.receives, bytes as u64);
        let credit = Message::Credit { channel, attempt, bytes, buffer };
        self.sides[1 - place].link.send(now, credit);
    }

    /// A part of what this side has written comes to the other.
    fn deliver(&mut self, place: usize) -> Result<(), String> {
        let most = if self.random.once_in(2) { 200 } else { 100_000 };
        let part = (self.random.below(most) + 1).min(self.sides[place].pipe.len() as u64);
        let bytes: Vec<u8> = self.sides[place].pipe.drain(..part as usize).collect();
        let other = &mut self.sides[1 - place];
        if other.end.is_some() && other.end == self.live {
            let result = other.link.received(self.now, &bytes);
            result.map_err(|error| error.to_string())?;
        }
        self.events(1 - place)
    }

    fn transmit(&mut self, place: usize) {
        let side = &mut self.sides[place];
        let mut out = Vec::new();
        // What does not fit through a slow connection is not asked for.
        if side.pipe.len() < 4 * BATCH_BYTES && side.link.poll_transmit(self.now, &mut out) {
            assert!(!out.is_empty());
            if side.end.is_some() && side.end == self.live {
                side.pipe.extend(out);
            }
        }
    }

    /// The connection breaks; each side hears of it now, or never.
    fn cut(&mut self) {
        self.live = None;
        for place in 0..2 {
            self.sides[place].pipe.clear();
            if self.random.once_in(2) && self.sides[place].end.take().is_some() {
                self.sides[place].link.disconnected(self.now, false);
            }
        }
    }

    /// What a driver does after each step.
    fn manage(&mut self, place: usize) {
        let now = self.now;
        if self.sides[place].link.wants_close() {
            self.transmit(place);
            let end = self.sides[place].end.take();
            if end.is_some() && end == self.live {
                // What was written before a connection is closed still arrives.
                let last: Vec<u8> = self.sides[place].pipe.drain(..).collect();
                let other = &mut self.sides[1 - place].link;
                if other.received(now, &last).is_err() {
                    assert!(other.wants_close());
                }
                self.cut();
            }
            self.sides[place].link.disconnected(now, false);
        }
        if self.sides[0].link.wants_dial(now) {
            if self.rough && self.random.once_in(3) {
                self.sides[0].link.disconnected(now, false);
                return;
            }
            self.connections += 1;
            self.live = Some(self.connections);
            for side in &mut self.sides {
                // The one that listens may not have noticed that the old one is gone.
                side.end = self.live;
                side.pipe.clear();
                side.link.connected(now);
            }
        }
    }

    fn advance(&mut self, until: Time) {
        loop {
            let timeouts = self.sides.iter().filter_map(|side| side.link.next_timeout());
            let next = timeouts.min().filter(|next| *next <= until);
            self.now = next.unwrap_or(until).max(self.now);
            for place in 0..2 {
                self.sides[place].link.handle_timeout(self.now);
                self.transmit(place);
                self.manage(place);
            }
            if next.is_none_or(|next| next < self.now || next == until) {
                self.now = until;
                return;
            }
        }
    }

    /// Takes what one side has been told, and compares.
    fn events(&mut self, place: usize) -> Result<(), String> {
        while let Some(event) = self.sides[place].link.poll_event() {
            match event {
                LinkEvent::Up => self.sides[place].ups += 1,
                LinkEvent::Lost { reason } => {
                    let text = format!("at {}: {reason}", self.now);
                    self.sides[place].lost = Some(reason);
                    return Err(text);
                }
                LinkEvent::AuditFailed { channel, sent, came, .. } => {
                    return Err(format!("audit of {channel}: {sent:?}, {came:?}"));
                }
                LinkEvent::Message(Message::Item { channel, attempt, item }) => {
                    self.item(1 - place, channel, attempt, item)?;
                }
                LinkEvent::Message(Message::Credit { channel, attempt, bytes, buffer }) => {
                    assert!(buffer.is_empty(), "an empty buffer for the next batch");
                    let flow = self.sides[place].flows.get_mut(&channel);
                    let flow = flow.ok_or("credit for nothing")?;
                    if flow.attempt == attempt {
                        flow.credit += bytes as i64;
                    }
                }
                LinkEvent::Message(message) => {
                    let number = noted(&message).ok_or("nobody sent this")?;
                    let expected = self.sides[1 - place].notes_came + 1;
                    if number != expected {
                        return Err(format!("note {number} came instead of {expected}"));
                    }
                    self.sides[1 - place].notes_came += 1;
                }
            }
        }
        Ok(())
    }

    /// An item that the side at this place had sent has come.
    fn item(
        &mut self,
        place: usize,
        channel: ChannelId,
        attempt: Attempt,
        item: Item,
    ) -> Result<(), String> {
        let flow = self.sides[place].flows.get_mut(&channel).ok_or("nobody sent on it")?;
        if attempt < flow.receives {
            return Err(format!("{attempt} came behind {}", flow.receives));
        }
        if attempt > flow.receives {
            flow.receives = attempt;
            flow.open.clear();
        }
        let (sent, came) = if attempt == flow.attempt {
            (&flow.sent, &mut flow.came)
        } else {
            let (sent, came) = flow.earlier.get_mut(&attempt).ok_or("an attempt that never was")?;
            (&*sent, came)
        };
        let found = (mark(&item), bytes(&item));
        if sent.get(*came) != Some(&found) {
            let expected = sent.get(*came);
            return Err(format!("{channel}: {found:?} came instead of {expected:?}, no {came}"));
        }
        *came += 1;
        if let Item::Batch(batch) = item {
            flow.open.push_back((batch.len(), batch.into_buffer()));
        }
        Ok(())
    }

    fn check_accounts(&self) -> Result<(), String> {
        for place in 0..2 {
            let (here, there) = (&self.sides[place].link, &self.sides[1 - place].link);
            for sender in here.senders() {
                let same = there.receivers().find(|receiver| {
                    (receiver.channel, receiver.attempt) == (sender.channel, sender.attempt)
                });
                if let Some(receiver) = same {
                    check_credit(&sender, &receiver).map_err(|error| error.to_string())?;
                }
                let flow = &self.sides[place].flows[&sender.channel];
                if flow.attempt == sender.attempt && flow.credit != sender.credit() {
                    return Err(format!("credit of {}, not {sender:?}", flow.credit));
                }
            }
        }
        Ok(())
    }

    /// Nothing breaks any more: everything arrives, and everything is worked off.
    fn settle(&mut self) -> Result<(), String> {
        self.rough = false;
        for _ in 0..4_000 {
            for place in 0..2 {
                self.transmit(place);
                self.deliver(place)?;
                self.work_off(place);
                self.manage(place);
            }
            self.check_accounts()?;
            self.advance(self.now + Duration::from_millis(1));
            if self.is_settled() {
                return self.check_settled();
            }
        }
        Err(String::from("it does not come to rest"))
    }

    fn is_settled(&self) -> bool {
        self.sides.iter().all(|side| {
            side.notes == side.notes_came
                && side.link.is_connected()
                && side.flows.values().all(|flow| {
                    let begun = flow.sent.is_empty() || flow.receives == flow.attempt;
                    flow.came == flow.sent.len() && flow.open.is_empty() && begun
                })
                && side.link.senders().all(|sender| sender.acknowledged == sender.frames)
        })
    }

    fn check_settled(&self) -> Result<(), String> {
        for side in &self.sides {
            let figures = side.link.figures();
            if (figures.gaps, figures.duplicates, figures.failed) != (0, 0, 0) {
                return Err(format!("{figures:?}"));
            }
        }
        Ok(())
    }
}

/// What tells an item from others.
fn mark(item: &Item) -> u64 {
    match item {
        Item::Batch(batch) => u64::from(batch.bytes().first().copied().unwrap_or(0)),
        Item::Watermark(at) => at.0 as u64,
        Item::Barrier(barrier) => barrier.start.epoch.0 << 32 | barrier.records,
        Item::Idle | Item::End => 0,
    }
}

fn bytes(item: &Item) -> usize {
    if let Item::Batch(batch) = item { batch.len() } else { 0 }
}

/// One run. What it has seen, or the rule that was broken.
fn run<F: Faults>(seed: u64) -> Result<[crate::link::LinkFigures; 2], String> {
    let mut world = World::<F>::new(seed);
    for _ in 0..1_500 {
        world.step()?;
    }
    world.settle()?;
    Ok(world.sides.map(|side| side.link.figures()))
}

#[test]
fn what_is_sent_arrives_once_and_in_order() {
    let (mut repeated, mut connections, mut checked, mut fenced) = (0, 0, 0, 0);
    for seed in 0..100 {
        let figures = run::<NoFaults>(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for figures in figures {
            repeated += figures.repeated;
            connections += figures.connections;
            checked += figures.checked;
            fenced += figures.fenced;
        }
    }
    assert!(repeated > 300, "what was written before is written again: {repeated}");
    assert!(connections > 600, "connections break: {connections}");
    assert!(checked > 500, "epochs are compared: {checked}");
    assert!(fenced < repeated, "attempts end: {fenced}");
}

/// The seed at which a bug is found, and how it shows.
fn found<F: Faults>() -> (u64, String) {
    (0..40)
        .find_map(|seed| run::<F>(seed).err().map(|error| (seed, error)))
        .expect("a seeded bug is found")
}

#[test]
fn a_link_that_takes_everything_is_found() {
    struct Bug;
    impl Faults for Bug {
        fn has(fault: Fault) -> bool {
            fault == Fault::ResumeWithoutDeduplication
        }
    }
    found::<Bug>();
}

#[test]
fn a_link_that_forgets_what_it_has_written_is_found() {
    struct Bug;
    impl Faults for Bug {
        fn has(fault: Fault) -> bool {
            fault == Fault::LinkForgetsUnacknowledged
        }
    }
    let (_, how) = found::<Bug>();
    assert!(how.contains("some are lost"), "{how}");
}

#[test]
fn a_link_that_gives_credit_twice_is_found() {
    struct Bug;
    impl Faults for Bug {
        fn has(fault: Fault) -> bool {
            fault == Fault::GrantCreditTwice
        }
    }
    let (_, how) = found::<Bug>();
    assert!(how.contains("credit"), "{how}");
}

/// Starts one side again in the middle of a run: the other has lost it, at once.
fn restarted<F: Faults>(seed: u64, place: usize) -> Result<(), String> {
    let mut world = World::<F>::new(seed);
    world.rough = false;
    for _ in 0..300 {
        world.step()?;
    }
    let config = LinkConfig { session: 300, ..pair()[place] };
    world.cut();
    world.sides[place].link = Link::new(config, world.now);
    world.sides[place].end = None;
    let other = 1 - place;
    let begin = world.now;
    while world.now.since(begin) < GRACE / 2 {
        for place in 0..2 {
            world.transmit(place);
            // What it says does not count: it is not the one that was linked.
            let _ = world.deliver(place);
            world.manage(place);
        }
        world.advance(world.now + Duration::from_millis(1));
        match &world.sides[other].lost {
            // Whoever was started again may be the first to notice, and takes its leave.
            Some(LostReason::AnotherLife { .. } | LostReason::Goodbye) => return Ok(()),
            Some(reason) => return Err(reason.to_string()),
            None => {}
        }
    }
    Err(String::from("it goes on with another life"))
}

#[test]
fn a_peer_that_was_started_again_is_lost() {
    struct Bug;
    impl Faults for Bug {
        fn has(fault: Fault) -> bool {
            fault == Fault::AcceptAnySession
        }
    }
    for seed in 0..20 {
        for place in 0..2 {
            assert_eq!(restarted::<NoFaults>(seed, place), Ok(()), "seed {seed}");
        }
    }
    assert!((0..20).any(|seed| restarted::<Bug>(seed, 1).is_err()));
}
