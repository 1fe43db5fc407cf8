//! The links of a process of an app, and the connections that they use.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

use super::Faults;
use super::figures::{AuditFigures, LinkFigures};
use super::process::ProcessEffect;
use super::sockets::{Local, Sockets};
use crate::control::{Address, Peer};
use crate::effect::{Level, Notice};
use crate::id::ConnectionId;
use crate::limits::TRANSMIT_BYTES;
use crate::link::handshake::{Hello, Purpose, Refusal};
use crate::link::{Link, LinkConfig, LinkEvent};
use crate::message::Message;
use crate::time::Time;

struct Linked<F: Faults> {
    link: Link<F>,
    /// Where the peer listens, if it is this process that dials.
    address: Option<Address>,
    connection: Option<ConnectionId>,
    /// True from the time when the connection is there for both.
    up: bool,
    bytes_in: u64,
    bytes_out: u64,
}

/// Every link of a process, by who is at the other end.
pub(crate) struct Links<F: Faults> {
    local: Local,
    session: u64,
    links: BTreeMap<Peer, Linked<F>>,
    connections: BTreeMap<ConnectionId, Peer>,
    /// Peers whose links are over: they stay lost.
    over: BTreeSet<Peer>,
    /// Empty buffers for what is written next.
    spare: Vec<Vec<u8>>,
}

/// Empty buffers that are kept: as many as are written while the next one is filled, and a few for
/// other links.
const SPARE_MAX: usize = 8;
/// The largest of them: what is written at once, and the frame that may begin just below that.
const SPARE_BYTES_MAX: usize = 4 * TRANSMIT_BYTES;

impl<F: Faults> Links<F> {
    /// `session` differs between any two lives of the process.
    pub(crate) const fn new(local: Local, session: u64) -> Self {
        Self {
            local,
            session,
            links: BTreeMap::new(),
            connections: BTreeMap::new(),
            over: BTreeSet::new(),
            spare: Vec::new(),
        }
    }

    /// The links, for whoever checks their figures.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Peer, &Link<F>)> {
        self.links.iter().map(|(peer, linked)| (*peer, &linked.link))
    }

    /// How each link is doing.
    pub(crate) fn figures(&self) -> BTreeMap<Peer, LinkFigures> {
        let figures = self.links.iter().map(|(peer, linked)| {
            let figures = linked.link.figures();
            let audit = AuditFigures {
                checked: figures.checked,
                gaps: figures.gaps + figures.failed,
                duplicates: figures.duplicates,
            };
            let reconnects = figures.connections.saturating_sub(1);
            let (bytes_in, bytes_out) = (linked.bytes_in, linked.bytes_out);
            (*peer, LinkFigures { reconnects, bytes_out, bytes_in, audit })
        });
        figures.collect()
    }

    /// True if the link with this peer has ended for good.
    pub(crate) fn is_over(&self, peer: Peer) -> bool {
        self.over.contains(&peer)
    }

    /// The purpose that a hello of this process states.
    pub(crate) const fn purpose(&self) -> Purpose {
        Purpose::Link { session: self.session }
    }

    /// Begins a link, unless there is or was one; this process dials if it is given an address.
    pub(crate) fn open(&mut self, now: Time, remote: Peer, address: Option<Address>) {
        if self.over.contains(&remote) || self.links.contains_key(&remote) {
            return;
        }
        let (local, token) = (self.local.peer, self.local.token);
        let (session, dials) = (self.session, address.is_some());
        let cluster = self.local.cluster;
        let link = Link::new(LinkConfig { cluster, local, remote, token, dials, session }, now);
        let linked =
            Linked { link, address, connection: None, up: false, bytes_in: 0, bytes_out: 0 };
        self.links.insert(remote, linked);
    }

    /// Ends a link for good.
    pub(crate) fn end(&mut self, peer: Peer, sockets: &mut Sockets, out: &mut Vec<ProcessEffect>) {
        self.over.insert(peer);
        if let Some(connection) = self.links.remove(&peer).and_then(|linked| linked.connection) {
            self.connections.remove(&connection);
            sockets.close(connection, out);
        }
    }

    /// Sends a message; says false if there is no such link.
    pub(crate) fn send(&mut self, now: Time, to: Peer, message: Message) -> bool {
        let Some(linked) = self.links.get_mut(&to) else { return false };
        linked.link.send(now, message);
        true
    }

    /// Whether the life of a peer that says hello is the one that the link began with.
    ///
    /// # Errors
    /// The refusal if it is not.
    pub(crate) fn judge(&self, hello: &Hello) -> Result<(), Refusal> {
        let Purpose::Link { session } = hello.purpose else { return Err(Refusal::Unknown) };
        match self.links.get(&hello.from) {
            Some(linked) => linked.link.judge(session),
            None => Ok(()),
        }
    }

    /// A connection is there, dialled by this process or by the peer: the link goes on over it.
    pub(crate) fn connected(
        &mut self,
        now: Time,
        (connection, peer): (ConnectionId, Peer),
        sockets: &mut Sockets,
        out: &mut Vec<ProcessEffect>,
    ) {
        let Some(linked) = self.links.get_mut(&peer) else {
            sockets.close(connection, out);
            return;
        };
        let before = linked.connection.replace(connection);
        if let Some(before) = before.filter(|before| *before != connection) {
            self.connections.remove(&before);
            sockets.close(before, out);
        }
        if linked.up {
            linked.link.disconnected(now, false);
        }
        linked.up = true;
        linked.link.connected(now);
        self.connections.insert(connection, peer);
    }

    /// A connection is over; true if it was one of these.
    pub(crate) fn down(&mut self, now: Time, connection: ConnectionId, gone: bool) -> bool {
        let Some(peer) = self.connections.remove(&connection) else { return false };
        if let Some(linked) = self.links.get_mut(&peer) {
            linked.connection = None;
            linked.up = false;
            linked.link.disconnected(now, gone);
        }
        true
    }

    /// Takes what came over a connection; true if it is one of these.
    pub(crate) fn received(
        &mut self,
        now: Time,
        (connection, bytes): (ConnectionId, &[u8]),
        sockets: &mut Sockets,
        out: &mut Vec<ProcessEffect>,
    ) -> bool {
        let Some(peer) = self.connections.get(&connection).copied() else { return false };
        let Some(linked) = self.links.get_mut(&peer) else { return false };
        linked.bytes_in += bytes.len() as u64;
        if let Err(error) = linked.link.received(now, bytes) {
            let text = format!("the connection with {peer} is closed: {error}");
            out.push(ProcessEffect::Notice(Notice { level: Level::Warning, text }));
            sockets.close(connection, out);
            self.down(now, connection, false);
        }
        true
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.links.values().filter_map(|linked| linked.link.next_timeout()).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        for linked in self.links.values_mut() {
            if linked.link.next_timeout().is_some_and(|at| at <= now) {
                linked.link.handle_timeout(now);
            }
        }
    }

    /// Takes a buffer whose bytes have been written.
    pub(crate) fn give_spent(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        keep(&mut self.spare, buffer);
    }

    /// Dials, sends and hands over whatever there is.
    pub(crate) fn settle(
        &mut self,
        now: Time,
        sockets: &mut Sockets,
        (heard, out): (&mut Vec<(Peer, LinkEvent)>, &mut Vec<ProcessEffect>),
    ) {
        let purpose = self.purpose();
        let mut lost = Vec::new();
        for (peer, linked) in &mut self.links {
            if linked.link.wants_close()
                && let Some(connection) = linked.connection.take()
            {
                self.connections.remove(&connection);
                sockets.close(connection, out);
                linked.up = false;
                linked.link.disconnected(now, false);
            }
            if let Some(address) = &linked.address
                && linked.connection.is_none()
                && linked.link.wants_dial(now)
            {
                let connection = sockets.dial(now, (*peer, address), purpose, out);
                linked.connection = Some(connection);
                self.connections.insert(connection, *peer);
            }
            while let Some(event) = linked.link.poll_event() {
                if matches!(event, LinkEvent::Lost { .. }) {
                    lost.push(*peer);
                }
                heard.push((*peer, event));
            }
            if let Some(connection) = linked.connection.filter(|_| linked.up) {
                let mut bytes = self.spare.pop().unwrap_or_default();
                loop {
                    let frame = linked.link.poll_write(now, &mut bytes);
                    if bytes.is_empty() && frame.is_none() {
                        break;
                    }
                    if !bytes.is_empty() {
                        let next = self.spare.pop().unwrap_or_default();
                        let bytes = core::mem::replace(&mut bytes, next);
                        linked.bytes_out += bytes.len() as u64;
                        out.push(ProcessEffect::Write { connection, bytes });
                    }
                    if let Some(frame) = frame {
                        linked.bytes_out += frame.len() as u64;
                        out.push(ProcessEffect::WriteFrame { connection, frame });
                    }
                }
                keep(&mut self.spare, bytes);
            }
        }
        for peer in lost {
            self.end(peer, sockets, out);
        }
    }
}

/// Keeps an empty buffer, if it is worth it.
fn keep(spare: &mut Vec<Vec<u8>>, buffer: Vec<u8>) {
    if (1..=SPARE_BYTES_MAX).contains(&buffer.capacity()) && spare.len() < SPARE_MAX {
        spare.push(buffer);
    }
}
