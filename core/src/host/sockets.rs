//! The connections of a process: dialling with a time limit, the handshake, and bytes from then on.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::process::{ACCEPTED, ProcessEffect, ProcessInput};
use crate::control::{Address, Peer};
use crate::effect::{Level, Notice};
use crate::id::ConnectionId;
use crate::limits::{DIAL_TIMEOUT, HANDSHAKE_TIMEOUT, REFUSALS_TOLD_MAX, STRANGERS_MAX};
use crate::link::handshake::{Hello, Purpose, Refusal, VERSIONS, Welcome};
use crate::time::Time;
use crate::wire::decode_message;
use crate::wire::message::message_kind;
use crate::wire::stream::{Decoder, Entry, encode_entry, kind};

/// Who a process says that it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local {
    pub(crate) cluster: u64,
    pub(crate) peer: Peer,
    /// What the processes of an app know; 0 for a node.
    pub(crate) token: u64,
}

/// Something that happened to a connection.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    /// Somebody wants to come in: answer with [`Sockets::welcome`] or [`Sockets::refuse`].
    Asked { connection: ConnectionId, hello: Hello },
    /// Whoever was dialled lets this process in.
    Up { connection: ConnectionId, to: Peer, purpose: Purpose },
    /// Bytes behind the handshake.
    Bytes { connection: ConnectionId, bytes: Vec<u8> },
    /// The connection is over, and its number with it. `gone` is true if whoever was dialled is
    /// there no more, or will never let this process in.
    Down { connection: ConnectionId, gone: bool, reason: String },
}

#[derive(Debug)]
enum Stage {
    /// The driver connects; then this is said.
    Dialing(Hello),
    /// It is said, and the answer has not come.
    Greeting(Hello, Decoder),
    /// Somebody has connected and has said nothing yet.
    Accepted(Decoder),
    /// It has said who it is; what came behind that waits for the answer.
    Asked(Vec<u8>),
    /// The handshake is done.
    Up,
}

#[derive(Debug)]
struct Socket {
    stage: Stage,
    /// When it is given up, unless the handshake is done by then.
    deadline: Time,
}

/// Every connection of a process.
#[derive(Debug)]
pub(crate) struct Sockets {
    local: Local,
    next: u64,
    sockets: BTreeMap<ConnectionId, Socket>,
    heard: VecDeque<Heard>,
    turned_away: u64,
    /// What was told of refusals: a peer dials again and again, and a person reads it once.
    told: BTreeSet<String>,
}

impl Sockets {
    pub(crate) const fn new(local: Local) -> Self {
        Self {
            local,
            next: 0,
            sockets: BTreeMap::new(),
            heard: VecDeque::new(),
            turned_away: 0,
            told: BTreeSet::new(),
        }
    }

    /// See [`Process::turned_away`](super::process::Process::turned_away).
    pub(crate) const fn turned_away(&self) -> u64 {
        self.turned_away
    }

    /// Connects, and says hello as soon as that is possible.
    pub(crate) fn dial(
        &mut self,
        now: Time,
        (to, address): (Peer, &Address),
        purpose: Purpose,
        out: &mut Vec<ProcessEffect>,
    ) -> ConnectionId {
        self.next += 1;
        assert!(self.next < ACCEPTED, "the driver numbers what others have dialled");
        let connection = ConnectionId(self.next);
        let Local { cluster, peer, token } = self.local;
        let hello = Hello { versions: VERSIONS, cluster, from: peer, to, token, purpose };
        let socket = Socket { stage: Stage::Dialing(hello), deadline: now + DIAL_TIMEOUT };
        self.sockets.insert(connection, socket);
        out.push(ProcessEffect::Dial { connection, to: address.clone() });
        connection
    }

    /// What has happened since the last call, oldest first.
    pub(crate) fn next_heard(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        let waits = |socket: &&Socket| !matches!(socket.stage, Stage::Up);
        self.sockets.values().filter(waits).map(|socket| socket.deadline).min()
    }

    /// Gives up what has taken too long.
    pub(crate) fn handle_timeout(&mut self, now: Time, out: &mut Vec<ProcessEffect>) {
        let late = |(id, socket): (&ConnectionId, &Socket)| {
            let late = !matches!(socket.stage, Stage::Up) && socket.deadline <= now;
            late.then_some(*id)
        };
        let late: Vec<ConnectionId> = self.sockets.iter().filter_map(late).collect();
        for connection in late {
            self.drop_socket(connection, false, "nobody answered in time", out);
        }
    }

    /// Lets a peer in that has asked; what it sent behind its hello follows as bytes.
    pub(crate) fn welcome(
        &mut self,
        connection: ConnectionId,
        welcome: &Welcome,
        out: &mut Vec<ProcessEffect>,
    ) {
        let Some(socket) = self.sockets.get_mut(&connection) else { return };
        let Stage::Asked(rest) = &mut socket.stage else { return };
        let rest = core::mem::take(rest);
        socket.stage = Stage::Up;
        out.push(written(connection, kind::WELCOME, welcome));
        if !rest.is_empty() {
            self.heard.push_back(Heard::Bytes { connection, bytes: rest });
        }
    }

    /// Turns a peer away that has asked.
    pub(crate) fn refuse(
        &mut self,
        connection: ConnectionId,
        refusal: &Refusal,
        out: &mut Vec<ProcessEffect>,
    ) {
        out.push(written(connection, kind::REFUSAL, refusal));
        self.turned_away += 1;
        self.tell(refusal, format!("a peer is not let in here: {refusal}"), out);
        self.close(connection, out);
    }

    /// Has a person hear of a refusal that only a person can mend.
    fn tell(&mut self, refusal: &Refusal, text: String, out: &mut Vec<ProcessEffect>) {
        let of_operators = matches!(refusal, Refusal::Versions { .. } | Refusal::Cluster { .. });
        if of_operators && self.told.len() < REFUSALS_TOLD_MAX && self.told.insert(text.clone()) {
            out.push(ProcessEffect::Notice(Notice { level: Level::Warning, text }));
        }
    }

    /// Lets a connection go; nothing more is heard of it.
    pub(crate) fn close(&mut self, connection: ConnectionId, out: &mut Vec<ProcessEffect>) {
        if self.sockets.remove(&connection).is_some() {
            out.push(ProcessEffect::Close { connection });
        }
    }

    fn drop_socket(
        &mut self,
        connection: ConnectionId,
        gone: bool,
        reason: &str,
        out: &mut Vec<ProcessEffect>,
    ) {
        let socket = self.sockets.get(&connection);
        let stranger = socket.is_some_and(|it| matches!(it.stage, Stage::Accepted(_)));
        self.turned_away += u64::from(stranger);
        self.close(connection, out);
        self.heard.push_back(Heard::Down { connection, gone, reason: reason.to_string() });
    }

    /// Hears something of a connection; anything else is given back.
    pub(crate) fn handle(
        &mut self,
        now: Time,
        input: ProcessInput,
        out: &mut Vec<ProcessEffect>,
    ) -> Option<ProcessInput> {
        match input {
            ProcessInput::Accepted { connection } => {
                let accepted = |socket: &&Socket| matches!(socket.stage, Stage::Accepted(_));
                if self.sockets.values().filter(accepted).count() >= STRANGERS_MAX {
                    self.turned_away += 1;
                    out.push(ProcessEffect::Close { connection });
                    return None;
                }
                let stage = Stage::Accepted(Decoder::new());
                let deadline = now + HANDSHAKE_TIMEOUT;
                self.sockets.insert(connection, Socket { stage, deadline });
            }
            ProcessInput::Dialed { connection } => {
                let socket = self.sockets.get_mut(&connection)?;
                if let Stage::Dialing(hello) = socket.stage {
                    out.push(written(connection, kind::HELLO, &hello));
                    let deadline = now + HANDSHAKE_TIMEOUT;
                    *socket = Socket { stage: Stage::Greeting(hello, Decoder::new()), deadline };
                }
            }
            ProcessInput::DialFailed { connection, refused } => {
                if self.sockets.remove(&connection).is_some() {
                    let reason = if refused { "nobody listens there" } else { "no way there" };
                    let reason = reason.to_string();
                    self.heard.push_back(Heard::Down { connection, gone: refused, reason });
                }
            }
            ProcessInput::Closed { connection } => {
                if self.sockets.remove(&connection).is_some() {
                    let reason = "the connection broke".to_string();
                    self.heard.push_back(Heard::Down { connection, gone: false, reason });
                }
            }
            ProcessInput::Received { connection, bytes } => self.received(connection, bytes, out),
            other => return Some(other),
        }
        None
    }

    fn received(&mut self, connection: ConnectionId, bytes: Vec<u8>, out: &mut Vec<ProcessEffect>) {
        let Some(socket) = self.sockets.get_mut(&connection) else { return };
        let step = match &mut socket.stage {
            Stage::Up => {
                self.heard.push_back(Heard::Bytes { connection, bytes });
                return;
            }
            Stage::Asked(rest) => {
                rest.extend_from_slice(&bytes);
                return;
            }
            Stage::Accepted(decoder) => asked(decoder, &bytes),
            Stage::Greeting(hello, decoder) => answered(hello, decoder, &bytes),
            Stage::Dialing(_) => Err(unreadable(&"it spoke before it was connected")),
        };
        match step {
            Ok(None) => {}
            Ok(Some(Step::Asked(hello, rest))) => {
                socket.stage = Stage::Asked(rest);
                self.heard.push_back(Heard::Asked { connection, hello });
            }
            Ok(Some(Step::Welcomed(hello, rest))) => {
                socket.stage = Stage::Up;
                let Hello { to, purpose, .. } = hello;
                self.heard.push_back(Heard::Up { connection, to, purpose });
                if !rest.is_empty() {
                    self.heard.push_back(Heard::Bytes { connection, bytes: rest });
                }
            }
            Err(Fault::Unreadable(reason)) => self.drop_socket(connection, false, &reason, out),
            Err(Fault::Refused(to, refusal)) => {
                self.tell(&refusal, format!("{to} does not let this process in: {refusal}"), out);
                let reason = refusal.to_string();
                self.drop_socket(connection, refusal.is_final(), &reason, out);
            }
        }
    }
}

/// What the handshake has come to.
enum Step {
    Asked(Hello, Vec<u8>),
    Welcomed(Hello, Vec<u8>),
}

/// Why there is no handshake.
enum Fault {
    Unreadable(String),
    /// By whom, and why.
    Refused(Peer, Refusal),
}

type Stepped = Result<Option<Step>, Fault>;

fn unreadable(error: &dyn core::fmt::Display) -> Fault {
    Fault::Unreadable(error.to_string())
}

fn asked(decoder: &mut Decoder, mut bytes: &[u8]) -> Stepped {
    let entry = match decoder.next(&mut bytes).map_err(|error| unreadable(&error))? {
        None => return Ok(None),
        Some(Entry::Message(entry)) => entry,
        Some(Entry::Frame { .. }) => return Err(unreadable(&"it did not say hello")),
    };
    let hello = decode_message(kind::HELLO, entry).map_err(|error| unreadable(&error))?;
    Ok(Some(Step::Asked(hello, bytes.to_vec())))
}

fn answered(hello: &Hello, decoder: &mut Decoder, mut bytes: &[u8]) -> Stepped {
    let entry = match decoder.next(&mut bytes).map_err(|error| unreadable(&error))? {
        None => return Ok(None),
        Some(Entry::Message(entry)) => entry,
        Some(Entry::Frame { .. }) => return Err(unreadable(&"it did not answer")),
    };
    if message_kind(entry).map_err(|error| unreadable(&error))? == kind::REFUSAL {
        let refusal: Refusal =
            decode_message(kind::REFUSAL, entry).map_err(|error| unreadable(&error))?;
        return Err(Fault::Refused(hello.to, refusal));
    }
    let welcome: Welcome =
        decode_message(kind::WELCOME, entry).map_err(|error| unreadable(&error))?;
    hello.check(&welcome).map_err(|refusal| Fault::Refused(hello.to, refusal))?;
    Ok(Some(Step::Welcomed(*hello, bytes.to_vec())))
}

/// A message on a connection.
pub(crate) fn written<T: serde::Serialize>(
    connection: ConnectionId,
    kind: u16,
    value: &T,
) -> ProcessEffect {
    let mut bytes = Vec::with_capacity(128);
    encode_entry(kind, value, &mut bytes).expect("what is said to a peer is bounded");
    ProcessEffect::Write { connection, bytes }
}
