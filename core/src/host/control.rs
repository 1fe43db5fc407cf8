//! Control messages between processes: each for itself, lost with its connection, and repeated by
//! whoever wants something.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::vec::Vec;

use super::process::ProcessEffect;
use super::sockets::{Sockets, written};
use crate::control::{Address, ControlMessage, Peer};
use crate::effect::{Level, Notice};
use crate::id::ConnectionId;
use crate::limits::{
    CONTROL_QUEUE_MAX, DIAL_BACKOFF_MAX, DIAL_BACKOFF_MIN, GRACE, PING_INTERVAL, SILENCE_MAX,
};
use crate::link::handshake::Purpose;
use crate::time::{Duration, Time};
use crate::wire::decode_message;
use crate::wire::message::message_kind;
use crate::wire::stream::{Decoder, Entry, encode_entry, kind};

/// A connection that is up.
#[derive(Debug)]
struct Line {
    peer: Peer,
    decoder: Decoder,
    /// True if this process dialled it.
    dialed: bool,
    heard: Time,
    /// When this process last asked whether the peer is there.
    asked: Time,
}

/// A peer whose address is known.
#[derive(Debug)]
struct Known {
    address: Address,
    connection: Option<ConnectionId>,
    /// What waits for the connection.
    waiting: VecDeque<Vec<u8>>,
    backoff: Duration,
    not_before: Time,
    /// When it was dialled last.
    dialed: Time,
}

/// A connection that is over.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) peer: Peer,
    /// When this process dialled it; none if the peer did.
    pub(crate) dialed: Option<Time>,
    /// True if the peer was heard over it, or could have been.
    pub(crate) was_up: bool,
}

/// The control connections of a process.
#[derive(Debug, Default)]
pub(crate) struct Control {
    lines: BTreeMap<ConnectionId, Line>,
    known: BTreeMap<Peer, Known>,
    /// Where each peer that has connected is answered: over the connection that it used last, since
    /// an older one may have been let in after a newer one.
    accepted: BTreeMap<Peer, ConnectionId>,
}

impl Control {
    /// A peer can be reached there; it is dialled when there is something to say.
    pub(crate) fn know(&mut self, peer: Peer, address: &Address) {
        match self.known.get_mut(&peer) {
            Some(known) => known.address = address.clone(),
            None => {
                let known = Known {
                    address: address.clone(),
                    connection: None,
                    waiting: VecDeque::new(),
                    backoff: DIAL_BACKOFF_MIN,
                    not_before: Time::ZERO,
                    dialed: Time::ZERO,
                };
                self.known.insert(peer, known);
            }
        }
    }

    /// Sends a message as soon as there is a connection; the oldest that wait are forgotten.
    pub(crate) fn send(
        &mut self,
        now: Time,
        to: Peer,
        message: &ControlMessage,
        sockets: &mut Sockets,
        out: &mut Vec<ProcessEffect>,
    ) {
        let mut bytes = Vec::with_capacity(256);
        if let Err(error) = encode_entry(kind::CONTROL, message, &mut bytes) {
            let text = format!("a message to {to} cannot be sent: {error}");
            out.push(ProcessEffect::Notice(Notice { level: Level::Error, text }));
            return;
        }
        if let Some(known) = self.known.get_mut(&to) {
            match known.connection {
                Some(connection) if self.lines.contains_key(&connection) => {
                    out.push(ProcessEffect::Write { connection, bytes });
                    return;
                }
                Some(_) => {}
                // It may have found the way that this process does not find.
                None if now < known.not_before => {}
                None => {
                    let to = (to, &known.address);
                    known.dialed = now;
                    known.connection = Some(sockets.dial(now, to, Purpose::Control, out));
                }
            }
            if let Some(connection) = self.accepted.get(&to).copied() {
                out.push(ProcessEffect::Write { connection, bytes });
                return;
            }
            if known.connection.is_some() {
                if known.waiting.len() >= CONTROL_QUEUE_MAX {
                    known.waiting.pop_front();
                }
                known.waiting.push_back(bytes);
            }
        } else if let Some(connection) = self.accepted.get(&to).copied() {
            out.push(ProcessEffect::Write { connection, bytes });
        }
    }

    /// A connection that this process dialled is up.
    pub(crate) fn dialed(
        &mut self,
        now: Time,
        (connection, peer): (ConnectionId, Peer),
        out: &mut Vec<ProcessEffect>,
    ) {
        let mut decoder = Decoder::new();
        decoder.admit();
        let line = Line { peer, decoder, dialed: true, heard: now, asked: now };
        self.lines.insert(connection, line);
        if let Some(known) = self.known.get_mut(&peer) {
            known.backoff = DIAL_BACKOFF_MIN;
            for bytes in known.waiting.drain(..) {
                out.push(ProcessEffect::Write { connection, bytes });
            }
        }
    }

    /// A peer was let in.
    pub(crate) fn welcomed(&mut self, now: Time, connection: ConnectionId, peer: Peer) {
        let mut decoder = Decoder::new();
        decoder.admit();
        self.lines
            .insert(connection, Line { peer, decoder, dialed: false, heard: now, asked: now });
        self.accepted.insert(peer, connection);
    }

    /// A connection is over; none if it was not one of these.
    pub(crate) fn down(&mut self, now: Time, connection: ConnectionId) -> Option<Ended> {
        let line = self.lines.remove(&connection).map(|line| line.peer);
        let was_up = line.is_some();
        if let Some(peer) = line.filter(|peer| self.accepted.get(peer) == Some(&connection)) {
            self.accepted.remove(&peer);
        }
        let mut known = self.known.iter_mut();
        let dialed = known.find(|(_, known)| known.connection == Some(connection));
        let Some((peer, known)) = dialed else {
            return line.map(|peer| Ended { peer, dialed: None, was_up });
        };
        known.connection = None;
        known.waiting.clear();
        known.not_before = now + known.backoff;
        known.backoff = (known.backoff * 2).min(DIAL_BACKOFF_MAX);
        Some(Ended { peer: *peer, dialed: Some(known.dialed), was_up })
    }

    /// Takes what came over a connection; true if it is one of these. A connection over which
    /// something came that cannot be read is closed.
    pub(crate) fn received(
        &mut self,
        now: Time,
        (connection, mut bytes): (ConnectionId, &[u8]),
        sockets: &mut Sockets,
        (heard, out): (&mut Vec<(Peer, ControlMessage)>, &mut Vec<ProcessEffect>),
    ) -> bool {
        let Some(line) = self.lines.get_mut(&connection) else { return false };
        line.heard = now;
        let peer = line.peer;
        if !line.dialed {
            self.accepted.insert(peer, connection);
        }
        let error = loop {
            let entry = match line.decoder.next(&mut bytes) {
                Ok(None) => return true,
                Ok(Some(Entry::Message(entry))) => entry,
                Ok(Some(Entry::Frame { .. })) => {
                    break format!("{peer} sent records over a control connection");
                }
                Err(error) => break format!("what {peer} sent cannot be read: {error}"),
            };
            match message_kind(entry) {
                Ok(kind::PING) => out.push(written(connection, kind::PONG, &())),
                Ok(kind::PONG) => {}
                Ok(kind) => match decode_message(kind::CONTROL, entry) {
                    Ok(message) => heard.push((peer, message)),
                    Err(error) => break format!("{peer} sent a message of kind {kind}: {error}"),
                },
                Err(error) => break format!("what {peer} sent cannot be read: {error}"),
            }
        };
        out.push(ProcessEffect::Notice(Notice { level: Level::Warning, text: error }));
        sockets.close(connection, out);
        self.down(now, connection);
        true
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.lines.values().map(Line::deadline).min()
    }

    /// Asks those who are silent whether they are there, and gives up those who stay silent: a
    /// connection may be broken without a sign.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Time,
        sockets: &mut Sockets,
        out: &mut Vec<ProcessEffect>,
    ) {
        let mut silent = Vec::new();
        for (connection, line) in &mut self.lines {
            if line.deadline() > now {
                continue;
            }
            let patience = if line.dialed { SILENCE_MAX } else { GRACE };
            if now >= line.heard + patience {
                silent.push(*connection);
            } else {
                line.asked = now;
                out.push(written(*connection, kind::PING, &()));
            }
        }
        for connection in silent {
            sockets.close(connection, out);
            self.down(now, connection);
        }
    }
}

impl Line {
    fn deadline(&self) -> Time {
        if self.dialed {
            let ask = self.heard.max(self.asked) + PING_INTERVAL;
            ask.min(self.heard + SILENCE_MAX)
        } else {
            self.heard + GRACE
        }
    }
}
