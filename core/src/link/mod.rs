//! Links: what two processes of an app say to each other, over connections that may break.
//!
//! A [`Link`] is one side of it. Its driver owns the connections: it dials when
//! [`wants_dial`](Link::wants_dial) says so, exchanges the [`handshake`], tells the link when a
//! connection is there and when it is gone, brings the bytes that come, and writes those that
//! [`poll_transmit`](Link::poll_transmit) gives. The link makes of it a conversation in which every
//! message arrives once and in order, or the peer is lost.
//!
//! * **Numbers.** Frames are numbered per channel and attempt, all other messages together, from 1.
//!   What is not acknowledged is kept, each batch in the buffer in which the task has put it. On a
//!   new connection each side says first what it has ([`wire::stream::kind::LINK_RESUME`]), and the
//!   other goes on from there. A number that has come is dropped and counted, one that is missing
//!   ends the link loudly.
//! * **Lives.** Both sides draw a session at their start. Whoever meets another one than before has
//!   lost the peer: what it was told is gone.
//! * **Time.** A side that has nothing to say says so every [`HEARTBEAT_INTERVAL`]. A connection on
//!   which nothing is heard for [`HEARTBEATS_MISSED_MAX`] of them is given up and another dialled.
//!   A peer that is not heard for [`GRACE`] is lost, for good; a refusal or its goodbye ends grace
//!   at once.
//! * **Credit** is in [`credit`], what is compared at each barrier in [`audit`].
//! * **Attempts.** The first frame of a later attempt on a channel makes everything of an earlier
//!   one void: the sender writes no more of it, the receiver drops what still comes. Its numbers
//!   begin at 1 again, and so does its credit.
//!
//! # Replaying only the tasks that were lost
//!
//! Today a region goes back as a whole. To bring back a single task instead, its neighbours have to
//! send it again what they had sent since its last committed epoch, and to drop what it sends them
//! again. What a link keeps is made for that: a batch stands in the queue with its channel, its
//! number and its epoch, all in its frame's header, and nothing about the connection. To keep it
//! until its epoch commits, and not only until it is acknowledged, is one more condition where the
//! front of the queue is let go; the budget of memory, or the disk, then bounds how much is kept,
//! and beyond it the region goes back as a whole as it does today. The restored task says which
//! epoch it was restored from, the sender begins behind that epoch's barrier, and the numbers of
//! the channel go on, so that the receivers of a task that computes the same again drop by number
//! what they have. For a task that does not, the receivers need the order in which it had read its
//! inputs, which no link knows: such a task takes its region along.
//!
//! [`wire::stream::kind::LINK_RESUME`]: crate::wire::stream::kind::LINK_RESUME

pub mod audit;
pub mod credit;
mod entry;
pub mod error;
pub mod handshake;
mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::marker::PhantomData;

pub use credit::{CreditError, ReceiverFigures, SenderFigures, check_credit};
pub use error::{LinkError, LostReason};

use crate::control::Peer;
use crate::host::{Fault, Faults, NoFaults};
use crate::id::{ChannelId, Epoch};
use crate::limits::{
    BATCH_BYTES, DIAL_BACKOFF_MAX, DIAL_BACKOFF_MIN, DIAL_TIMEOUT, GRACE, HEARTBEAT_INTERVAL,
    HEARTBEATS_MISSED_MAX, LINK_BROKEN_MAX, TRANSMIT_BYTES,
};
use crate::link::audit::Audit;
use crate::link::entry::{Arrived, Numbered, Resume};
use crate::link::handshake::{Hello, Purpose, Refusal, VERSIONS};
use crate::link::incoming::{Incoming, Verdict};
use crate::link::outgoing::Outgoing;
use crate::message::Message;
use crate::time::{Duration, Time};
use crate::wire::frame::{FrameHeader, FrameKind, Framed};
use crate::wire::item::{ItemError, item_from};
use crate::wire::message::{decode_message, message_kind};
use crate::wire::stream::{Decoder, Entry, StreamError, encode_entry, kind};

/// Who is linked with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// The cluster of both.
    pub cluster: u64,
    /// This side.
    pub local: Peer,
    /// The other side.
    pub remote: Peer,
    /// What both were told at their launch.
    pub token: u64,
    /// True if this side dials: exactly one of the two does.
    pub dials: bool,
    /// This side's life: differs between any two starts.
    pub session: u64,
}

/// What a link tells its user.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkEvent {
    /// The peer is there, for the first time or again.
    Up,
    /// It says this.
    Message(Message),
    /// What came over a channel in an epoch is not what was sent: the epoch must not commit. The
    /// barrier follows.
    AuditFailed {
        /// The channel.
        channel: ChannelId,
        /// The epoch.
        epoch: Epoch,
        /// What was sent.
        sent: Audit,
        /// What came.
        came: Audit,
    },
    /// The peer is lost, for good; nothing follows.
    Lost {
        /// Why.
        reason: LostReason,
    },
}

/// Counters of a link's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkFigures {
    /// Connections over which both sides have spoken.
    pub connections: u64,
    /// Frames and messages that were written again over a later connection.
    pub repeated: u64,
    /// Frames and messages that came twice.
    pub duplicates: u64,
    /// Frames and messages before which some were missing.
    pub gaps: u64,
    /// Items of attempts that were over, on either side.
    pub fenced: u64,
    /// Epochs of channels that were compared.
    pub checked: u64,
    /// Epochs of them in which something else had come than was sent.
    pub failed: u64,
}

/// What is known of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    /// There is none. Whoever dials does so at this time.
    Down { dial_at: Time },
    /// The driver was asked for one.
    Dialing { until: Time },
    /// It is there; the peer has not yet said what it has.
    Opening,
    /// Both have spoken.
    Open,
    /// The driver is to close it.
    Closing,
}

/// One side of a link.
pub struct Link<F: Faults = NoFaults> {
    config: LinkConfig,
    /// The peer's life, as soon as it was met.
    met: Option<u64>,
    connection: Connection,
    decoder: Decoder,
    outgoing: Outgoing,
    incoming: Incoming,
    events: VecDeque<LinkEvent>,
    /// When the peer was last heard.
    heard: Time,
    /// When the present connection came.
    connected: Time,
    /// When something was last written to it.
    spoken: Time,
    backoff: Duration,
    /// Connections in a row that broke by what came over them.
    broken: u32,
    /// This side's first words on the connection are still to be written.
    opens: bool,
    /// An acknowledgement is due, be it as a heartbeat.
    speaks: bool,
    /// This side's last words are to be written behind everything else.
    leaves: bool,
    /// They are to be written now.
    farewell: bool,
    lost: bool,
    figures: LinkFigures,
    faults: PhantomData<F>,
}

impl<F: Faults> Link<F> {
    /// A link without a connection.
    #[must_use]
    pub fn new(config: LinkConfig, now: Time) -> Self {
        let mut decoder = Decoder::new();
        decoder.admit();
        Self {
            config,
            met: None,
            connection: Connection::Down { dial_at: now },
            decoder,
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            events: VecDeque::new(),
            heard: now,
            connected: now,
            spoken: now,
            backoff: DIAL_BACKOFF_MIN,
            broken: 0,
            opens: false,
            speaks: false,
            leaves: false,
            farewell: false,
            lost: false,
            figures: LinkFigures::default(),
            faults: PhantomData,
        }
    }

    /// Who is linked with whom.
    #[must_use]
    pub const fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// The hello with which this side dials.
    #[must_use]
    pub const fn hello(&self) -> Hello {
        let LinkConfig { cluster, local: from, remote: to, token, session, .. } = self.config;
        let purpose = Purpose::Link { session };
        Hello { versions: VERSIONS, cluster, from, to, token, purpose }
    }

    /// Judges a hello of the peer, by its session.
    ///
    /// # Errors
    /// [`Refusal`] if the peer was started again, or is lost.
    pub fn judge(&self, session: u64) -> Result<(), Refusal> {
        if self.lost {
            return Err(Refusal::GivenUp);
        }
        match self.met {
            Some(met) if met != session && !F::has(Fault::AcceptAnySession) => {
                Err(Refusal::AnotherLife)
            }
            _ => Ok(()),
        }
    }

    /// Sends a message. What is sent on a lost link is dropped.
    pub fn send(&mut self, now: Time, message: Message) {
        if self.lost || self.leaves {
            return;
        }
        let result = match message {
            Message::Item { channel, attempt, item } => self.outgoing.item(channel, attempt, item),
            message => self.send_message(now, message),
        };
        if let Err(reason) = result {
            self.lose(reason);
        }
    }

    fn send_message(&mut self, now: Time, mut message: Message) -> Result<(), LostReason> {
        if let Message::Credit { channel, attempt, bytes, buffer } = &mut message {
            self.decoder.give(core::mem::take(buffer));
            match self.incoming.consumed(now, *channel, *attempt, *bytes) {
                // There is nothing to say yet, or the sender is another attempt by now.
                Some(0) | None => return Ok(()),
                Some(granted) => *bytes = granted,
            }
            if F::has(Fault::GrantCreditTwice) {
                self.outgoing.message(&message)?;
            }
        }
        self.outgoing.message(&message)
    }

    /// Ends the link from this side, behind everything that was sent. The driver closes the
    /// connection when [`wants_close`](Self::wants_close) says so.
    pub const fn leave(&mut self) {
        self.leaves = true;
    }

    /// A connection is there, and the handshake has gone well.
    pub fn connected(&mut self, now: Time) {
        self.connection = Connection::Opening;
        self.connected = now;
        self.spoken = now;
        self.opens = true;
        self.speaks = false;
        self.farewell = self.lost;
        self.decoder.restart();
    }

    /// The connection is gone, or could not be made. `refused` says that there is no use in another
    /// one: nobody listens, or the peer's refusal [is final](Refusal::is_final).
    pub fn disconnected(&mut self, now: Time, refused: bool) {
        if F::has(Fault::LinkForgetsUnacknowledged) {
            self.outgoing.forget_written();
        }
        self.connection = Connection::Down { dial_at: now + self.backoff };
        self.backoff = (self.backoff * 2).min(DIAL_BACKOFF_MAX);
        if refused {
            self.lose(LostReason::Refused);
        }
    }

    /// Bytes have come, cut anywhere. What they mean is in the events.
    ///
    /// # Errors
    /// [`LinkError`] if they cannot be used. The connection is to be closed, as
    /// [`wants_close`](Self::wants_close) says too; whether the peer is lost is in the events.
    pub fn received(&mut self, now: Time, mut bytes: &[u8]) -> Result<(), LinkError> {
        if !self.is_connected() || bytes.is_empty() {
            return Ok(());
        }
        self.heard = now;
        let mut decoder = core::mem::take(&mut self.decoder);
        let result = self.read(now, &mut decoder, &mut bytes);
        self.decoder = decoder;
        if let Err(error) = &result {
            self.connection = Connection::Closing;
            self.broken += 1;
            if error.is_final() || self.broken >= LINK_BROKEN_MAX {
                self.lose(LostReason::Broken(error.clone().into()));
            }
        }
        result
    }

    fn read(
        &mut self,
        now: Time,
        decoder: &mut Decoder,
        input: &mut &[u8],
    ) -> Result<(), LinkError> {
        while self.is_connected() {
            match decoder.next(input)? {
                None => break,
                Some(Entry::Message(bytes)) => self.message(now, bytes)?,
                Some(Entry::Frame { header, crc, payload }) => {
                    if self.connection != Connection::Open {
                        return Err(LinkError::Unexpected { kind: 0 });
                    }
                    match self
                        .incoming
                        .judge(&header, !F::has(Fault::ResumeWithoutDeduplication))?
                    {
                        Verdict::Take => self.frame(now, &header, crc, payload)?,
                        Verdict::Drop => decoder.give(payload),
                    }
                }
            }
        }
        Ok(())
    }

    fn frame(
        &mut self,
        now: Time,
        header: &FrameHeader,
        crc: u32,
        mut payload: Vec<u8>,
    ) -> Result<(), LinkError> {
        let FrameHeader { channel, attempt, kind, epoch, .. } = *header;
        let sent = match kind {
            FrameKind::Barrier => {
                Some(Audit::split_from(&mut payload).ok_or(ItemError::Payload { kind })?)
            }
            _ => None,
        };
        let bytes = payload.len();
        let item = item_from(header, payload)?;
        let came = self.incoming.take(now, header, crc, bytes);
        if let (Some(sent), Some(came)) = (sent, came)
            && sent != came
        {
            self.figures.failed += 1;
            self.events.push_back(LinkEvent::AuditFailed { channel, epoch, sent, came });
        }
        self.broken = 0;
        self.events.push_back(LinkEvent::Message(Message::Item { channel, attempt, item }));
        Ok(())
    }

    fn message(&mut self, now: Time, bytes: &[u8]) -> Result<(), LinkError> {
        let found = message_kind(bytes)?;
        match (found, self.connection) {
            (kind::LINK_RESUME, Connection::Opening) => {
                let resume: Resume = decode_message(found, bytes)?;
                self.resume(&resume)
            }
            (kind::LINK_GOODBYE, _) => {
                self.lose(LostReason::Goodbye);
                Ok(())
            }
            (kind::LINK_ACKNOWLEDGE, Connection::Open) => {
                let arrived: Arrived = decode_message(found, bytes)?;
                self.outgoing.acknowledge(&arrived)
            }
            (kind::LINK_MESSAGE, Connection::Open) => {
                let numbered: Numbered = decode_message(found, bytes)?;
                self.numbered(now, numbered, bytes.len())
            }
            (kind, _) => Err(LinkError::Unexpected { kind }),
        }
    }

    fn numbered(&mut self, now: Time, said: Numbered, bytes: usize) -> Result<(), LinkError> {
        let Numbered { number, mut message } = said;
        match self.incoming.judge_message(number, !F::has(Fault::ResumeWithoutDeduplication))? {
            Verdict::Drop => return Ok(()),
            Verdict::Take => {}
        }
        let credit = match &mut message {
            Message::Credit { channel, attempt, bytes, buffer } => {
                self.outgoing.credit(*channel, *attempt, *bytes)?;
                *buffer = self.outgoing.buffer();
                Some((*channel, *attempt, *bytes))
            }
            _ => None,
        };
        self.incoming.take_message(now, number, bytes);
        self.broken = 0;
        self.events.push_back(LinkEvent::Message(message));
        // The word stands for several batches, and the task fills their buffers again.
        if let Some((channel, attempt, credit)) = credit {
            for _ in 1..credit.div_ceil(BATCH_BYTES as u64) {
                let buffer = self.outgoing.buffer();
                if buffer.capacity() == 0 {
                    break;
                }
                let message = Message::Credit { channel, attempt, bytes: 0, buffer };
                self.events.push_back(LinkEvent::Message(message));
            }
        }
        Ok(())
    }

    /// The peer's first words.
    fn resume(&mut self, resume: &Resume) -> Result<(), LinkError> {
        let (here, there) = (self.config.session, resume.session);
        let other_here = resume.met.filter(|met| *met != here).map(|known| (known, here));
        let other_there = self.met.filter(|met| *met != there).map(|known| (known, there));
        let other = other_here.or(other_there);
        if let Some((known, found)) = other
            && !F::has(Fault::AcceptAnySession)
        {
            self.lose(LostReason::AnotherLife { known, found });
            return Ok(());
        }
        self.met = Some(there);
        self.outgoing.resume(&resume.arrived, !F::has(Fault::ResumeWithoutDeduplication))?;
        self.connection = Connection::Open;
        self.backoff = DIAL_BACKOFF_MIN;
        self.figures.connections += 1;
        self.events.push_back(LinkEvent::Up);
        Ok(())
    }

    /// Appends what is to be written to the connection now: about [`TRANSMIT_BYTES`], and never a
    /// part of a frame. False if there is nothing.
    ///
    /// # Panics
    /// Never: what a link says of itself is short, and can be encoded.
    pub fn poll_transmit(&mut self, now: Time, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        if let Some(frame) = self.poll_write(now, out) {
            frame.append_to(out);
        }
        out.len() > before
    }

    /// As [`poll_transmit`](Self::poll_transmit), but gives a long frame apart, to be written
    /// behind what it has appended.
    ///
    /// # Panics
    /// Likewise never.
    pub fn poll_write(&mut self, now: Time, out: &mut Vec<u8>) -> Option<Framed> {
        let before = out.len();
        if matches!(self.connection, Connection::Down { .. } | Connection::Dialing { .. }) {
            return None;
        }
        if self.lost {
            if core::mem::take(&mut self.farewell) {
                say(kind::LINK_GOODBYE, &(), out).expect("a goodbye has no content");
                self.connection = Connection::Closing;
            }
            return None;
        }
        if self.connection == Connection::Closing {
            return None;
        }
        if core::mem::take(&mut self.opens) {
            let LinkConfig { session, .. } = self.config;
            let resume = Resume { session, met: self.met, arrived: self.incoming.arrived() };
            if say(kind::LINK_RESUME, &resume, out).is_err() {
                self.lose(LostReason::Overflow);
            }
        }
        let mut frame = None;
        if self.connection == Connection::Open {
            frame = self.transmit(now, out, before + TRANSMIT_BYTES);
        }
        if out.len() > before || frame.is_some() {
            self.spoken = now;
        }
        frame
    }

    /// Writes an acknowledgement if there is a reason, and what waits, until `out` is so long or a
    /// long frame is next.
    fn transmit(&mut self, now: Time, out: &mut Vec<u8>, len: usize) -> Option<Framed> {
        let is_due = self.speaks || self.incoming.due().is_some_and(|due| due <= now);
        if is_due || (self.outgoing.has_more() && self.incoming.owes()) {
            self.speaks = false;
            let arrived = self.incoming.acknowledge();
            if say(kind::LINK_ACKNOWLEDGE, &arrived, out).is_err() {
                self.lose(LostReason::Overflow);
            }
        }
        let mut frame = None;
        while frame.is_none() && out.len() < len && self.outgoing.has_more() {
            frame = self.outgoing.write(out);
        }
        if self.leaves && frame.is_none() && !self.outgoing.has_more() {
            self.lost = true;
            say(kind::LINK_GOODBYE, &(), out).expect("a goodbye has no content");
            self.connection = Connection::Closing;
        }
        frame
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// True if the driver should dial now. It answers with [`connected`](Self::connected) or
    /// [`disconnected`](Self::disconnected).
    pub fn wants_dial(&mut self, now: Time) -> bool {
        let wanted = self.config.dials && !self.lost;
        match self.connection {
            Connection::Down { dial_at } if wanted && dial_at <= now => {
                self.connection = Connection::Dialing { until: now + DIAL_TIMEOUT };
                true
            }
            _ => false,
        }
    }

    /// True if the driver should close the connection, or give up the one that it dials, and then
    /// say that it is [gone](Self::disconnected).
    #[must_use]
    pub fn wants_close(&self) -> bool {
        self.connection == Connection::Closing
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due, or [`wants_dial`](Self::wants_dial).
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        if self.lost {
            return None;
        }
        let grace = self.heard + GRACE;
        let next = match self.connection {
            Connection::Down { dial_at } if self.config.dials => dial_at,
            Connection::Dialing { until } => until,
            Connection::Opening => self.silence(),
            Connection::Open => {
                let due = self.incoming.due().unwrap_or(Time::MAX);
                let due = due.min(self.spoken + HEARTBEAT_INTERVAL);
                // Once due it waits for the driver, who may not be able to write.
                self.silence().min(if self.speaks { Time::MAX } else { due })
            }
            Connection::Down { .. } | Connection::Closing => Time::MAX,
        };
        Some(grace.min(next))
    }

    /// A deadline has come. What is to be done shows in [`poll_transmit`](Self::poll_transmit),
    /// [`wants_close`](Self::wants_close), [`wants_dial`](Self::wants_dial) and the events.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.lost {
            return;
        }
        if self.heard + GRACE <= now {
            self.lose(LostReason::Silent);
            return;
        }
        let over = match self.connection {
            Connection::Dialing { until } => until <= now,
            Connection::Opening | Connection::Open => self.silence() <= now,
            Connection::Down { .. } | Connection::Closing => false,
        };
        if over {
            self.connection = Connection::Closing;
        }
        let is_due = self.incoming.due().is_some_and(|due| due <= now);
        self.speaks |= is_due || self.spoken + HEARTBEAT_INTERVAL <= now;
    }

    /// When the connection has been silent for too long.
    fn silence(&self) -> Time {
        self.heard.max(self.connected) + HEARTBEAT_INTERVAL * HEARTBEATS_MISSED_MAX
    }

    /// True after the peer was lost, or this side has left.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.lost
    }

    /// True while there is a connection of which something may come.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        matches!(self.connection, Connection::Opening | Connection::Open) && !self.lost
    }

    fn lose(&mut self, reason: LostReason) {
        if self.lost {
            return;
        }
        self.lost = true;
        self.farewell = true;
        self.outgoing.clear();
        self.events.push_back(LinkEvent::Lost { reason });
        if matches!(self.connection, Connection::Dialing { .. }) {
            self.connection = Connection::Closing;
        }
    }

    /// Counters.
    #[must_use]
    pub const fn figures(&self) -> LinkFigures {
        LinkFigures {
            repeated: self.outgoing.repeated,
            duplicates: self.incoming.duplicates,
            gaps: self.incoming.gaps,
            fenced: self.outgoing.fenced + self.incoming.fenced,
            checked: self.incoming.checked,
            ..self.figures
        }
    }

    /// The accounts of the channels on which this side sends.
    pub fn senders(&self) -> impl Iterator<Item = SenderFigures> + '_ {
        self.outgoing.figures()
    }

    /// The accounts of the channels on which this side receives.
    pub fn receivers(&self) -> impl Iterator<Item = ReceiverFigures> + '_ {
        self.incoming.figures()
    }

    /// Bytes of memory that it holds, what waits in the events excepted.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.outgoing.allocated() + self.decoder.allocated()
    }
}

/// Says something of the link itself.
fn say<T: serde::Serialize>(kind: u16, value: &T, out: &mut Vec<u8>) -> Result<(), StreamError> {
    encode_entry(kind, value, out)
}
