//! Toy processes: nodes that send each other numbers, which have to arrive in order and to be
//! durable before they are acknowledged, and children that answer at their leisure.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use gear_connectors::model::ModelDisk;
use gear_core::control::{Address, AppSpec, LaunchOrder, ProcessId, Role};
use gear_core::effect::{StoreReply, StoreRequest};
use gear_core::executor::Activity;
use gear_core::host::process::{ACCEPTED, DiskReply, DiskRequest};
use gear_core::host::process::{Process, ProcessEffect, ProcessInput};
use gear_core::id::{AppId, ConnectionId, ExecutorId, NodeId, Token};
use gear_core::task::World;
use gear_core::time::{Duration, Time, millis};

use crate::cluster::{Assembly, ChildStart, ClientStart, Look, NodeStart, Output, Subject, Work};

const PACE: Duration = millis(40);
const SILENCE: Duration = millis(700);
/// Peers are told apart from children by their number.
const CHILD: u64 = u64::MAX;

/// What has been acknowledged: from whom, to whom, how many.
pub(super) type Progress = Rc<RefCell<BTreeMap<(u64, u64), u64>>>;

/// The assembly of a cluster of toys.
#[derive(Default)]
pub(super) struct Toys {
    pub(super) progress: Progress,
    /// A node acknowledges before its disk has answered.
    pub(super) hasty: bool,
}

impl Assembly for Toys {
    fn node(&self, start: &NodeStart<'_>) -> Box<dyn Subject> {
        let others = start.masters.iter().filter(|(node, _)| **node != start.node);
        let peers = others.map(|(node, address)| (node.0, Peer::at(address.clone()))).collect();
        Box::new(Node {
            me: start.node,
            life: start.incarnation.0,
            progress: Rc::clone(&self.progress),
            hasty: self.hasty,
            peers,
            got: BTreeMap::new(),
            writing: BTreeMap::new(),
            heard: BTreeMap::new(),
            names: BTreeMap::new(),
            loaded: false,
            connections: 0,
            tokens: 0,
            children: 0,
            due: None,
        })
    }

    fn child(&self, start: &ChildStart<'_>) -> Result<Box<dyn Subject>, String> {
        if start.order.token % 7 == 6 {
            return Err("the seventh is never born".into());
        }
        Ok(Box::new(Baby { life: start.incarnation.0, ..Baby::default() }))
    }

    fn client(&self, _: &ClientStart<'_>) -> Box<dyn Subject> {
        Box::new(Baby::default())
    }
}

impl Work for Toys {
    fn specs(&self) -> Vec<AppSpec> {
        Vec::new()
    }

    fn files(&self) -> ModelDisk {
        ModelDisk::new(0)
    }

    fn feed(&self, _: u64) {}

    fn punctual(&self) -> bool {
        false
    }

    fn judge(&self, _: &Output<'_>) -> (Vec<String>, u64) {
        (Vec::new(), 0)
    }
}

/// Bytes of a connection, cut in messages: kind, number, and as many bytes as the number says.
#[derive(Debug, Default)]
struct Inbox(VecDeque<u8>);

const HEAD: usize = 9;

fn message(kind: u8, number: u64) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(number.to_le_bytes());
    bytes.extend((0..number % 3_000).map(|byte| byte as u8));
    bytes
}

impl Inbox {
    fn next(&mut self) -> Option<(u8, u64)> {
        let head: Vec<u8> = self.0.iter().take(HEAD).copied().collect();
        let number = u64::from_le_bytes(head.get(1..)?.try_into().ok()?);
        let len = HEAD + (number % 3_000) as usize;
        if self.0.len() < len {
            return None;
        }
        let bytes: Vec<u8> = self.0.drain(..len).collect();
        assert_eq!(bytes, message(head[0], number), "bytes arrive as they were sent");
        Some((head[0], number))
    }
}

/// Whom a node sends numbers to.
#[derive(Debug)]
struct Peer {
    address: Option<Address>,
    connection: Option<ConnectionId>,
    there: bool,
    /// The last acknowledged number that is durable, and the one that is on its way.
    sent: u64,
    acknowledged: bool,
    heard: Time,
    dial_at: Time,
}

impl Peer {
    fn at(address: Address) -> Self {
        Self {
            address: Some(address),
            connection: None,
            there: false,
            sent: 0,
            acknowledged: false,
            heard: Time::ZERO,
            dial_at: Time::ZERO,
        }
    }
}

/// A node.
struct Node {
    me: NodeId,
    life: u64,
    progress: Progress,
    hasty: bool,
    peers: BTreeMap<u64, Peer>,
    /// The last durable number of each sender.
    got: BTreeMap<u64, u64>,
    /// What is being written: numbers got, with their connection, or numbers sent.
    writing: BTreeMap<Token, (Option<ConnectionId>, u64, u64)>,
    heard: BTreeMap<ConnectionId, Inbox>,
    /// Who has dialled.
    names: BTreeMap<ConnectionId, u64>,
    loaded: bool,
    connections: u64,
    tokens: u64,
    children: u64,
    due: Option<Time>,
}

impl Node {
    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    fn peer_of(&mut self, connection: ConnectionId) -> Option<(u64, &mut Peer)> {
        let mut peers = self.peers.iter_mut();
        let found = peers.find(|(_, peer)| peer.connection == Some(connection));
        found.map(|(name, peer)| (*name, peer))
    }

    fn spawn(&mut self, out: &mut Vec<ProcessEffect>) {
        self.children += 1;
        let executor = ExecutorId((self.life * 1_000 + self.children) as u32);
        let process = ProcessId { app: AppId(self.me.0), role: Role::Executor(executor) };
        let order = LaunchOrder { process, spec: AppSpec::default(), token: self.children };
        out.push(ProcessEffect::Spawn { order });
    }

    fn write(&mut self, name: String, number: u64, out: &mut Vec<ProcessEffect>) -> Token {
        let token = self.token();
        let entries = vec![(name, Some(number.to_le_bytes().to_vec()))];
        out.push(ProcessEffect::Disk { token, request: DiskRequest::Write { entries } });
        token
    }

    fn load(&mut self, entries: Vec<(String, Vec<u8>)>, now: Time) {
        for (name, bytes) in entries {
            let number = u64::from_le_bytes(bytes.try_into().expect("numbers have eight bytes"));
            let (what, peer) = name.split_once('-').expect("names have two parts");
            let peer: u64 = peer.parse().expect("peers are numbers");
            match what {
                "got" => drop(self.got.insert(peer, number)),
                "sent" => self.peers.get_mut(&peer).expect("it is a peer").sent = number,
                _ => panic!("nobody writes {name}"),
            }
        }
        self.loaded = true;
        self.due = Some(now);
    }

    fn put(connection: ConnectionId, kind: u8, number: u64, out: &mut Vec<ProcessEffect>) {
        out.push(ProcessEffect::Write { connection, bytes: message(kind, number) });
    }

    fn hear(&mut self, now: Time, connection: ConnectionId, out: &mut Vec<ProcessEffect>) {
        while let Some((kind, number)) = self.heard.get_mut(&connection).and_then(Inbox::next) {
            match kind {
                b'h' => drop(self.names.insert(connection, number)),
                b'n' => self.number(connection, number, out),
                b'a' => self.acknowledged(connection, number, out),
                _ => assert_eq!(kind, b'b'),
            }
            if let Some((_, peer)) = self.peer_of(connection) {
                peer.heard = now;
            }
        }
    }

    fn number(&mut self, connection: ConnectionId, number: u64, out: &mut Vec<ProcessEffect>) {
        let from = self.names[&connection];
        let got = self.got.get(&from).copied().unwrap_or(0);
        assert!(number <= got + 1, "node {from} sends {number} behind {got}");
        if number <= got || self.hasty {
            Self::put(connection, b'a', number, out);
        }
        let under_way = (None::<ConnectionId>, from, number);
        let under_way = self.writing.values().any(|it| (None, it.1, it.2) == under_way);
        if number == got + 1 && !under_way {
            let token = self.write(format!("got-{from}"), number, out);
            self.writing.insert(token, (Some(connection), from, number));
        }
    }

    fn acknowledged(
        &mut self,
        connection: ConnectionId,
        number: u64,
        out: &mut Vec<ProcessEffect>,
    ) {
        let Some((name, peer)) = self.peer_of(connection) else { return };
        if number != peer.sent + 1 || peer.acknowledged {
            return;
        }
        peer.acknowledged = true;
        if name == CHILD {
            peer.sent += 1;
            peer.acknowledged = false;
            self.count(CHILD);
            return;
        }
        let token = self.write(format!("sent-{name}"), number, out);
        self.writing.insert(token, (None, name, number));
    }

    fn count(&self, peer: u64) {
        *self.progress.borrow_mut().entry((self.me.0, peer)).or_default() += 1;
    }

    fn written(&mut self, token: Token, out: &mut Vec<ProcessEffect>) {
        match self.writing.remove(&token) {
            Some((Some(connection), from, number)) => {
                self.got.insert(from, number);
                Self::put(connection, b'a', number, out);
            }
            Some((None, name, number)) => {
                let peer = self.peers.get_mut(&name).expect("it is a peer");
                peer.sent = number;
                peer.acknowledged = false;
                self.count(name);
            }
            None => {}
        }
    }

    fn over(&mut self, now: Time, connection: ConnectionId) {
        self.heard.remove(&connection);
        self.names.remove(&connection);
        if let Some((_, peer)) = self.peer_of(connection) {
            peer.connection = None;
            peer.there = false;
            peer.dial_at = now + millis(50);
        }
    }

    fn round(&mut self, now: Time, out: &mut Vec<ProcessEffect>) {
        self.due = Some(now + PACE);
        for peer in self.peers.values_mut() {
            match peer.connection {
                Some(connection) if peer.there && now.since(peer.heard) > SILENCE => {
                    out.push(ProcessEffect::Close { connection });
                    self.heard.remove(&connection);
                    peer.connection = None;
                    peer.there = false;
                }
                Some(connection) if peer.there => {
                    Self::put(connection, b'n', peer.sent + 1, out);
                }
                Some(_) => {}
                None if peer.dial_at <= now && peer.address.is_some() => {
                    self.connections += 1;
                    let connection = ConnectionId(self.connections);
                    peer.connection = Some(connection);
                    let to = peer.address.clone().expect("it was just seen");
                    out.push(ProcessEffect::Dial { connection, to });
                }
                None => {}
            }
        }
    }
}

impl Process for Node {
    fn handle(&mut self, world: &mut World<'_>, input: ProcessInput, out: &mut Vec<ProcessEffect>) {
        let now = world.now;
        match input {
            ProcessInput::Start => {
                let token = self.token();
                out.push(ProcessEffect::Disk { token, request: DiskRequest::Load });
            }
            ProcessInput::Disk { reply: DiskReply::Loaded { entries }, .. } => {
                self.load(entries, now);
                self.spawn(out);
            }
            ProcessInput::Disk { token, reply: DiskReply::Written } => self.written(token, out),
            ProcessInput::Disk { reply: DiskReply::Failed { reason }, .. } => {
                out.push(ProcessEffect::Exit { reason });
            }
            ProcessInput::Accepted { connection } => {
                assert!(connection.0 & ACCEPTED != 0);
                if self.loaded {
                    self.heard.insert(connection, Inbox::default());
                } else {
                    out.push(ProcessEffect::Close { connection });
                }
            }
            ProcessInput::Dialed { connection } => {
                self.heard.insert(connection, Inbox::default());
                Self::put(connection, b'h', self.me.0, out);
                let (_, peer) = self.peer_of(connection).expect("a node knows whom it dials");
                peer.there = true;
                peer.heard = now;
            }
            ProcessInput::Received { connection, bytes } => {
                let inbox = self.heard.get_mut(&connection).expect("it is open");
                inbox.0.extend(bytes);
                self.hear(now, connection, out);
            }
            ProcessInput::Closed { connection } | ProcessInput::DialFailed { connection, .. } => {
                self.over(now, connection);
            }
            ProcessInput::Stored { .. }
            | ProcessInput::IoDone { .. }
            | ProcessInput::Command { .. }
            | ProcessInput::Known { .. } => panic!("nobody asked"),
            ProcessInput::ChildRunning { address, .. } => {
                self.peers.insert(CHILD, Peer { dial_at: now, ..Peer::at(address) });
            }
            ProcessInput::ChildExited { .. } => {
                if let Some(connection) = self.peers.remove(&CHILD).and_then(|it| it.connection) {
                    self.heard.remove(&connection);
                    out.push(ProcessEffect::Close { connection });
                }
                self.spawn(out);
            }
            ProcessInput::Timeout => self.round(now, out),
        }
    }

    fn turn(&mut self, _: &mut World<'_>, _: &mut Vec<ProcessEffect>) -> Activity {
        Activity::Idle(None)
    }

    fn next_timeout(&self) -> Option<Time> {
        self.due
    }
}

impl Subject for Node {
    fn look(&self, _: Time) -> Look {
        Look::Nothing
    }
}

/// A child: answers a number after three turns, and keeps some of them in the store.
#[derive(Default)]
struct Baby {
    life: u64,
    inboxes: BTreeMap<ConnectionId, Inbox>,
    work: VecDeque<(ConnectionId, u64)>,
    turns: u64,
    asked: u64,
    now: Time,
}

impl Process for Baby {
    fn handle(&mut self, world: &mut World<'_>, input: ProcessInput, out: &mut Vec<ProcessEffect>) {
        self.now = world.now;
        match input {
            ProcessInput::Accepted { connection } => {
                self.inboxes.insert(connection, Inbox::default());
            }
            ProcessInput::Received { connection, bytes } => {
                let inbox = self.inboxes.get_mut(&connection).expect("it is open");
                inbox.0.extend(bytes);
                while let Some((kind, number)) = inbox.next() {
                    if kind == b'n' {
                        self.work.push_back((connection, number));
                    }
                    if number % 8 == 1 {
                        self.asked += 1;
                        let name = format!("toy/{}-{}", self.life, self.asked);
                        let request = StoreRequest::Create { name, bytes: vec![1; 100].into() };
                        out.push(ProcessEffect::Store { token: Token(self.asked), request });
                    }
                }
            }
            ProcessInput::Closed { connection } => drop(self.inboxes.remove(&connection)),
            ProcessInput::Stored { token, reply } => {
                let fine = matches!(reply, StoreReply::Done | StoreReply::Failed { .. });
                assert!(fine && token.0 <= self.asked, "{token} {reply:?}");
            }
            _ => {}
        }
    }

    fn turn(&mut self, _: &mut World<'_>, out: &mut Vec<ProcessEffect>) -> Activity {
        if self.work.is_empty() {
            return Activity::Idle(None);
        }
        self.turns += 1;
        if self.turns.is_multiple_of(3)
            && let Some((connection, number)) = self.work.pop_front()
        {
            Node::put(connection, b'a', number, out);
        }
        Activity::Busy
    }

    fn next_timeout(&self) -> Option<Time> {
        Some(self.now + Duration::from_secs(1))
    }
}

impl Subject for Baby {
    fn look(&self, _: Time) -> Look {
        Look::Nothing
    }
}
