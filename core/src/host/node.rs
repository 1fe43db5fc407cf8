//! The process of a node: its worker, and its master if it has one.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Faults;
use super::control::{Control, Ended};
use super::process::{Answer, Command, Process, ProcessEffect, ProcessInput};
use super::requests::Requests;
use super::sockets::{Heard, Local, Sockets};
use crate::control::{Address, ControlMessage, Peer, Reply, Resources};
use crate::executor::Activity;
use crate::id::{AppTerm, ConnectionId, Incarnation, NodeId};
use crate::link::handshake::{Door, Hello, Purpose, Refusal, Standing, VERSIONS};
use crate::master::quorum::Formation;
use crate::master::{Master, MasterConfig, MasterEffect, MasterInput};
use crate::task::World;
use crate::time::Time;
use crate::worker::{Worker, WorkerConfig, WorkerEffect, WorkerInput};

/// What a node is told at its start.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The cluster.
    pub cluster: u64,
    /// The node.
    pub node: NodeId,
    /// This life of it.
    pub incarnation: Incarnation,
    /// Where it listens.
    pub address: Address,
    /// The nodes of the masters.
    pub masters: BTreeMap<NodeId, Address>,
    /// What its master makes of an empty data folder; none if it has no master.
    pub formation: Option<Formation>,
    /// From which everything random is drawn.
    pub seed: u64,
    /// What its worker has to give.
    pub capacity: Resources,
    /// What its operator says of it.
    pub labels: BTreeMap<String, String>,
}

/// A node.
pub struct NodeProcess<F: Faults> {
    node: NodeId,
    /// Who is told how the worker is, and asked what clients want to know.
    masters: BTreeMap<NodeId, Address>,
    requests: Requests,
    sockets: Sockets,
    control: Control,
    door: Door,
    master: Option<Master<F>>,
    worker: Worker<F>,
    /// What this node says to itself.
    inbox: Vec<ControlMessage>,
    heard: Vec<(Peer, ControlMessage)>,
    master_effects: Vec<MasterEffect>,
    worker_effects: Vec<WorkerEffect>,
}

impl<F: Faults> NodeProcess<F> {
    /// Nothing happens before [`ProcessInput::Start`].
    #[must_use]
    pub fn new(config: NodeConfig) -> Self {
        let NodeConfig { cluster, node, incarnation, address, masters, formation, .. } = config;
        let local = Local { cluster, peer: Peer::Node(node), token: 0 };
        let mut control = Control::default();
        for (other, address) in masters.iter().filter(|(other, _)| **other != node) {
            control.know(Peer::Node(*other), address);
        }
        let voters = masters.clone();
        let seed = config.seed;
        let master = formation.map(|formation| {
            let voters = masters;
            Master::new(MasterConfig { cluster, node, incarnation, seed, voters, formation })
        });
        let (capacity, labels) = (config.capacity, config.labels);
        Self {
            node,
            masters: voters,
            requests: Requests::default(),
            sockets: Sockets::new(local),
            control,
            door: Door {
                versions: VERSIONS,
                cluster,
                here: Peer::Node(node),
                token: None,
                term: AppTerm(0),
            },
            master,
            worker: Worker::new(WorkerConfig { node, incarnation, address, capacity, labels }),
            inbox: Vec::new(),
            heard: Vec::new(),
            master_effects: Vec::new(),
            worker_effects: Vec::new(),
        }
    }

    /// Its master; none if it does not vote.
    #[must_use]
    pub const fn master(&self) -> Option<&Master<F>> {
        self.master.as_ref()
    }

    /// Whom it reports to, and has answer what it is asked.
    #[must_use]
    pub const fn masters(&self) -> &BTreeMap<NodeId, Address> {
        &self.masters
    }

    /// Its worker.
    #[must_use]
    pub const fn worker(&self) -> &Worker<F> {
        &self.worker
    }

    fn tell_master(&mut self, now: Time, input: MasterInput) {
        if let Some(master) = &mut self.master {
            master.handle(now, input, &mut self.master_effects);
        }
    }

    fn tell_worker(&mut self, now: Time, input: WorkerInput) {
        self.worker.handle(now, input, &mut self.worker_effects);
    }

    fn message(
        &mut self,
        now: Time,
        from: Peer,
        message: ControlMessage,
        out: &mut Vec<ProcessEffect>,
    ) {
        match message {
            ControlMessage::WorkerOrders(orders) => {
                if let Peer::Node(from) = from {
                    self.tell_worker(now, WorkerInput::Orders { from, orders });
                    self.learn_voters();
                }
            }
            ControlMessage::Reply { id, reply } => {
                if let Peer::Node(from) = from {
                    self.requests.reply(now, from, (id, reply), out);
                }
            }
            ControlMessage::Voters { voters } => self.know_voters(voters),
            message => self.tell_master(now, MasterInput::Message { from, message }),
        }
    }

    /// Others lead than those that this node reports to: it reports to them as well, until orders
    /// say who votes.
    fn know_voters(&mut self, voters: BTreeMap<NodeId, Address>) {
        for (node, address) in voters {
            if node != self.node {
                self.control.know(Peer::Node(node), &address);
            }
            self.masters.insert(node, address);
        }
    }

    /// A worker that has not found the leader is dialled where it has listened last.
    fn find_worker(&mut self, node: NodeId) {
        let state = self.master.as_ref().map(|master| master.quorum().state());
        let record = state.and_then(|state| state.worker(node));
        if let Some(record) = record.filter(|_| node != self.node) {
            self.control.know(Peer::Node(node), &record.address);
        }
    }

    /// The masters may be others than those that this node was told of at its start.
    fn learn_voters(&mut self) {
        let voters = self.worker.voters();
        if !voters.is_empty() && *voters != self.masters {
            self.masters.clone_from(voters);
            for (node, address) in self.masters.iter().filter(|(node, _)| **node != self.node) {
                self.control.know(Peer::Node(*node), address);
            }
        }
    }

    fn command(&mut self, now: Time, id: u64, command: Command, out: &mut Vec<ProcessEffect>) {
        match command {
            Command::Request { id: name, request } => {
                let own = self.master.as_ref().and_then(|master| master.status(now).leader);
                let leader = own.or_else(|| self.worker.leader().map(|(node, _)| node));
                self.requests.take(now, id, (name, request), leader, out);
            }
            Command::Readmit => {
                let answer = self.readmit(now);
                out.push(ProcessEffect::Answer { id, answer });
            }
            Command::Savepoint { .. } | Command::Status | Command::Replay | Command::Drop => {
                let reason = "this is a node: ask the app master of the app".into();
                out.push(ProcessEffect::Answer { id, answer: Answer::Refused { reason } });
            }
        }
    }

    /// Only a folder that is lost is emptied: whoever asks this of another node changes nothing.
    fn readmit(&mut self, now: Time) -> Answer {
        let lost = self.master.as_ref().is_some_and(|master| master.quorum().unfit().is_some());
        if lost {
            self.tell_master(now, MasterInput::Readmit);
            return Answer::Reply(Reply::Done);
        }
        let node = self.node;
        Answer::Refused {
            reason: format!(
                "the data folder of {node}'s master is not one that is lost: nothing was changed"
            ),
        }
    }

    fn socket_events(&mut self, now: Time, out: &mut Vec<ProcessEffect>) {
        while let Some(heard) = self.sockets.next_heard() {
            match heard {
                Heard::Asked { connection, hello } => match self.judge(&hello) {
                    Ok(welcome) => {
                        self.control.welcomed(now, connection, hello.from);
                        self.sockets.welcome(connection, &welcome, out);
                    }
                    Err(refusal) => self.sockets.refuse(connection, &refusal, out),
                },
                Heard::Up { connection, to, .. } => self.control.dialed(now, (connection, to), out),
                Heard::Bytes { connection, bytes } => {
                    let into = (&mut self.heard, &mut *out);
                    self.control.received(now, (connection, &bytes), &mut self.sockets, into);
                    for (from, message) in core::mem::take(&mut self.heard) {
                        self.message(now, from, message, out);
                    }
                }
                Heard::Down { connection, gone, .. } => self.down(now, connection, gone),
            }
        }
    }

    /// Its master hears what this says of another node.
    fn down(&mut self, now: Time, connection: ConnectionId, gone: bool) {
        let Some(Ended { peer: Peer::Node(node), dialed, was_up }) =
            self.control.down(now, connection)
        else {
            return;
        };
        match dialed.filter(|_| gone) {
            Some(dialed) => self.tell_master(now, MasterInput::Gone { node, dialed }),
            None if was_up => self.tell_master(now, MasterInput::Disconnected { node }),
            None => {}
        }
    }

    fn judge(&self, hello: &Hello) -> Result<crate::link::handshake::Welcome, Refusal> {
        let standing = match hello.purpose {
            Purpose::Control => Standing::Known,
            Purpose::Link { .. } => Standing::Unknown,
        };
        self.door.judge(hello, standing)
    }

    /// Carries out what master and worker want, until they want nothing more.
    fn settle(&mut self, now: Time, out: &mut Vec<ProcessEffect>) {
        loop {
            for ask in self.requests.due(now, &self.masters, out) {
                let message = ControlMessage::Request { id: ask.id, request: ask.request };
                self.send(now, Peer::Node(ask.master), message, out);
            }
            for effect in core::mem::take(&mut self.master_effects) {
                match effect {
                    MasterEffect::Send { to, message } => {
                        if let (ControlMessage::Voters { .. }, Peer::Node(node)) = (&message, to) {
                            self.find_worker(node);
                        }
                        self.send(now, to, message, out);
                    }
                    MasterEffect::Disk { token, request } => {
                        out.push(ProcessEffect::Disk { token, request });
                    }
                    MasterEffect::Notice(notice) => out.push(ProcessEffect::Notice(notice)),
                }
            }
            for effect in core::mem::take(&mut self.worker_effects) {
                match effect {
                    WorkerEffect::Report(report) => {
                        for master in self.masters.keys().copied().collect::<Vec<_>>() {
                            let message = ControlMessage::WorkerReport(report.clone());
                            self.send(now, Peer::Node(master), message, out);
                        }
                    }
                    WorkerEffect::Spawn(order) => out.push(ProcessEffect::Spawn { order }),
                    WorkerEffect::Kill(process) => out.push(ProcessEffect::Kill { process }),
                    WorkerEffect::Notice(notice) => out.push(ProcessEffect::Notice(notice)),
                }
            }
            if self.inbox.is_empty() {
                break;
            }
            for message in core::mem::take(&mut self.inbox) {
                self.message(now, Peer::Node(self.node), message, out);
            }
        }
    }

    fn send(&mut self, now: Time, to: Peer, message: ControlMessage, out: &mut Vec<ProcessEffect>) {
        if to == Peer::Node(self.node) {
            self.inbox.push(message);
        } else {
            self.control.send(now, to, &message, &mut self.sockets, out);
        }
    }
}

impl<F: Faults> Process for NodeProcess<F> {
    fn handle(&mut self, world: &mut World<'_>, input: ProcessInput, out: &mut Vec<ProcessEffect>) {
        let now = world.now;
        match self.sockets.handle(now, input, out) {
            Some(ProcessInput::Start) => {
                self.tell_master(now, MasterInput::Start);
                self.tell_worker(now, WorkerInput::Start);
            }
            Some(ProcessInput::Disk { token, reply }) => {
                self.tell_master(now, MasterInput::Disk { token, reply });
            }
            Some(ProcessInput::ChildRunning { process, address }) => {
                self.tell_worker(now, WorkerInput::ChildRunning { process, address });
            }
            Some(ProcessInput::ChildExited { process, reason }) => {
                self.tell_worker(now, WorkerInput::ChildExited { process, reason });
            }
            Some(ProcessInput::Timeout) => {
                self.sockets.handle_timeout(now, out);
                self.control.handle_timeout(now, &mut self.sockets, out);
                if self.worker.next_timeout().is_some_and(|(at, _)| at <= now) {
                    self.tell_worker(now, WorkerInput::Timeout);
                }
                let due = |master: &Master<F>| master.next_timeout().is_some_and(|at| at <= now);
                if self.master.as_ref().is_some_and(due) {
                    self.tell_master(now, MasterInput::Timeout);
                }
            }
            Some(ProcessInput::Known { node, address }) if node != self.node => {
                self.control.know(Peer::Node(node), &address);
            }
            Some(ProcessInput::Command { id, command }) => self.command(now, id, command, out),
            // A node has neither tasks nor a checkpoint store.
            _ => {}
        }
        self.socket_events(now, out);
        self.settle(now, out);
    }

    fn turn(&mut self, _: &mut World<'_>, _: &mut Vec<ProcessEffect>) -> Activity {
        Activity::Idle(None)
    }

    fn turned_away(&self) -> u64 {
        self.sockets.turned_away()
    }

    fn next_timeout(&self) -> Option<Time> {
        let master = self.master.as_ref().and_then(Master::next_timeout);
        let worker = self.worker.next_timeout().map(|(at, _)| at);
        [self.sockets.next_timeout(), self.control.next_timeout(), worker]
            .into_iter()
            .flatten()
            .chain(master)
            .chain(self.requests.next_timeout())
            .min()
    }
}
