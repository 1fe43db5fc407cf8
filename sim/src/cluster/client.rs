//! Whoever submits the apps: asks any master, asks again, and reads now and then.
//!
//! It judges what it is told: the world hears from it what was acknowledged, and what was wrong.

use std::collections::{BTreeMap, BTreeSet};

use gear_core::control::{Address, AppSpec, ControlMessage, Peer, Reply, Request};
use gear_core::executor::Activity;
use gear_core::host::process::{Process, ProcessEffect, ProcessInput};
use gear_core::id::{AppId, ConnectionId, NodeId, RequestId};
use gear_core::link::handshake::{Hello, Purpose, VERSIONS};
use gear_core::task;
use gear_core::time::{Duration, Time};
use gear_core::wire::stream::{encode_entry, kind};
use gear_core::wire::{Decoder, Entry, decode_message, message_kind};

use super::subject::{Answer, ClientStart, LaterWish, Look, Subject};
use crate::oracle::reads::Asked;
use crate::random::Random;

/// The client's number.
const CLIENT: u64 = 77;
/// Requests that want something of an app have numbers from here on; submissions have lower ones.
const WISHES: u64 = 500;
/// Reads have numbers above this.
const READS: u64 = 1_000;
/// An answer that does not come within this is asked for again, elsewhere.
const ANSWER_MAX: Duration = Duration::from_millis(1_500);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// What it does at the moment.
enum Stage {
    /// Nothing, until its deadline.
    Pauses,
    /// Waits for a connection.
    Dials(ConnectionId),
    /// Waits to be let in.
    Greets(ConnectionId, Decoder),
    /// Waits for the answer.
    Asks(ConnectionId, Decoder),
}

/// A client.
pub struct Client {
    cluster: u64,
    masters: Vec<(NodeId, Address)>,
    specs: Vec<AppSpec>,
    /// The app of each spec, once it was acknowledged.
    apps: BTreeMap<usize, AppId>,
    wishes: Vec<LaterWish>,
    /// Wishes that were answered, by their places.
    answered: BTreeSet<usize>,
    resubmit: u64,
    random: Random,
    stage: Stage,
    deadline: Time,
    connections: u64,
    /// The number of the last read.
    reads: u64,
    /// What is asked for, and of whom.
    question: Option<(RequestId, Request)>,
    master: usize,
    asked: Asked,
    answers: Vec<Answer>,
    told: u64,
}

impl Client {
    /// A client that begins at once.
    #[must_use]
    pub fn new(start: &ClientStart<'_>) -> Self {
        let masters = start.masters.iter();
        Self {
            cluster: start.cluster,
            masters: masters.map(|(node, address)| (*node, address.clone())).collect(),
            specs: start.specs.clone(),
            apps: BTreeMap::new(),
            wishes: start.wishes.clone(),
            answered: BTreeSet::new(),
            resubmit: start.resubmit,
            random: Random::new(start.seed),
            stage: Stage::Pauses,
            deadline: Time::ZERO,
            connections: 0,
            reads: 0,
            question: None,
            master: 0,
            asked: Asked::default(),
            answers: Vec::new(),
            told: 0,
        }
    }

    /// What is asked next: what is not acknowledged yet, what is wanted by now, again what is
    /// acknowledged, or for all apps.
    fn next_question(&mut self, now: Time) -> (RequestId, Request) {
        let open = (0..self.specs.len()).find(|place| !self.apps.contains_key(place));
        let wanted = self.wishes.iter().enumerate().find_map(|(number, later)| {
            let due = now >= Time::ZERO + later.after && !self.answered.contains(&number);
            let app = *self.apps.get(&later.place).filter(|_| due)?;
            Some((number, Request::Wish { app, wish: later.wish }))
        });
        if let Some((number, request)) = wanted.filter(|_| open.is_none()) {
            let number = WISHES + number as u64;
            return (RequestId { client: CLIENT, number }, request);
        }
        let again = !self.apps.is_empty() && self.random.permille(self.resubmit);
        let submit = open.or_else(|| again.then(|| self.random.place(self.specs.len())));
        if let Some(place) = submit {
            let id = RequestId { client: CLIENT, number: place as u64 + 1 };
            return (id, Request::Submit(Box::new(self.specs[place].clone())));
        }
        self.reads += 1;
        (RequestId { client: CLIENT, number: READS + self.reads }, Request::Apps)
    }

    fn begin(&mut self, now: Time, out: &mut Vec<ProcessEffect>) {
        if self.question.is_none() {
            self.question = Some(self.next_question(now));
            self.asked = Asked::now(self.apps.values().copied());
            self.master = self.random.place(self.masters.len());
        }
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let to = self.masters[self.master].1.clone();
        out.push(ProcessEffect::Dial { connection, to });
        self.stage = Stage::Dials(connection);
        self.deadline = now + ANSWER_MAX;
    }

    /// Lets the connection go and pauses. The next master is asked, or the one that is named.
    fn pause(&mut self, now: Time, next: Option<NodeId>, out: &mut Vec<ProcessEffect>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Pauses);
        if let Stage::Dials(connection)
        | Stage::Greets(connection, _)
        | Stage::Asks(connection, _) = stage
        {
            out.push(ProcessEffect::Close { connection });
        }
        let named = next.and_then(|next| self.masters.iter().position(|(node, _)| *node == next));
        self.master = named.unwrap_or((self.master + 1) % self.masters.len());
        self.deadline = now + PAUSE;
    }

    fn is_current(&self, id: ConnectionId) -> bool {
        match &self.stage {
            Stage::Pauses => false,
            Stage::Dials(mine) | Stage::Greets(mine, _) | Stage::Asks(mine, _) => *mine == id,
        }
    }

    fn greet(&mut self, connection: ConnectionId, out: &mut Vec<ProcessEffect>) {
        let hello = Hello {
            versions: VERSIONS,
            cluster: self.cluster,
            from: Peer::Client(CLIENT),
            to: Peer::Node(self.masters[self.master].0),
            token: 0,
            purpose: Purpose::Control,
        };
        out.push(written(connection, kind::HELLO, &hello));
        self.stage = Stage::Greets(connection, Decoder::new());
    }

    fn received(&mut self, now: Time, mut bytes: &[u8], out: &mut Vec<ProcessEffect>) {
        loop {
            let (Stage::Greets(connection, decoder) | Stage::Asks(connection, decoder)) =
                &mut self.stage
            else {
                return;
            };
            let connection = *connection;
            let entry = match decoder.next(&mut bytes) {
                Ok(None) => return,
                Ok(Some(Entry::Message(entry))) => entry.to_vec(),
                Ok(Some(Entry::Frame { .. })) | Err(_) => {
                    self.answers.push(Answer::Wrong("a master sent what cannot be read".into()));
                    return self.pause(now, None, out);
                }
            };
            match message_kind(&entry) {
                Ok(kind::WELCOME) => {
                    let mut decoder = Decoder::new();
                    decoder.admit();
                    self.stage = Stage::Asks(connection, decoder);
                    let (id, request) = self.question.clone().expect("it has a question");
                    let message = ControlMessage::Request { id, request };
                    out.push(written(connection, kind::CONTROL, &message));
                }
                Ok(kind::PING) => out.push(written(connection, kind::PONG, &())),
                Ok(kind::CONTROL) => match decode_message(kind::CONTROL, &entry) {
                    Ok(ControlMessage::Reply { id, reply }) => self.replied(now, id, reply, out),
                    _ => return self.pause(now, None, out),
                },
                _ => return self.pause(now, None, out),
            }
        }
    }

    fn replied(&mut self, now: Time, id: RequestId, reply: Reply, out: &mut Vec<ProcessEffect>) {
        let Some((asked, request)) = self.question.take_if(|(asked, _)| *asked == id) else {
            return;
        };
        match (request, reply) {
            (request, Reply::NotLeader { leader }) => {
                self.question = Some((asked, request));
                return self.pause(now, leader, out);
            }
            (Request::Submit(spec), Reply::Submitted { app }) => {
                self.apps.insert(id.number as usize - 1, app);
                self.answers.push(Answer::Submitted { id, app, spec });
            }
            (Request::Wish { app, wish }, reply @ (Reply::Done | Reply::Refused { .. })) => {
                self.answered.insert((id.number - WISHES) as usize);
                self.answers.push(match reply {
                    Reply::Done => Answer::Wished { app, wish },
                    _ => Answer::TooLate { app },
                });
            }
            (Request::Apps, Reply::Apps { stale, apps }) => {
                let apps: BTreeSet<AppId> = apps.into_iter().map(|app| app.app).collect();
                self.answers.push(match self.asked.answered(stale, &apps) {
                    Ok(()) => Answer::Read { stale },
                    Err(wrong) => Answer::Wrong(wrong),
                });
            }
            (request, reply) => {
                self.answers.push(Answer::Wrong(format!("{request:?} was answered: {reply:?}")));
            }
        }
        self.pause(now, None, out);
    }
}

/// A message on a connection.
fn written<T: serde::Serialize>(connection: ConnectionId, kind: u16, value: &T) -> ProcessEffect {
    let mut bytes = Vec::new();
    encode_entry(kind, value, &mut bytes).expect("what a client says is short");
    ProcessEffect::Write { connection, bytes }
}

impl Process for Client {
    fn handle(
        &mut self,
        world: &mut task::World<'_>,
        input: ProcessInput,
        out: &mut Vec<ProcessEffect>,
    ) {
        let now = world.now;
        match input {
            ProcessInput::Dialed { connection } if self.is_current(connection) => {
                self.greet(connection, out);
            }
            ProcessInput::DialFailed { connection, .. } | ProcessInput::Closed { connection }
                if self.is_current(connection) =>
            {
                self.stage = Stage::Pauses;
                self.pause(now, None, out);
            }
            ProcessInput::Received { connection, bytes } if self.is_current(connection) => {
                self.received(now, &bytes, out);
            }
            ProcessInput::Start => self.deadline = now,
            ProcessInput::Timeout if now >= self.deadline => match self.stage {
                Stage::Pauses => self.begin(now, out),
                _ => self.pause(now, None, out),
            },
            _ => {}
        }
        self.told += self.answers.len() as u64;
    }

    fn turn(&mut self, _: &mut task::World<'_>, _: &mut Vec<ProcessEffect>) -> Activity {
        Activity::Idle(None)
    }

    fn next_timeout(&self) -> Option<Time> {
        Some(self.deadline)
    }
}

impl Subject for Client {
    fn look(&self, _: Time) -> Look {
        Look::Client(self.told)
    }

    fn answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }
}
