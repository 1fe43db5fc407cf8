//! An app master whose masters are a script: they grant it the executors that there are.

use std::collections::{BTreeMap, VecDeque};

use gear_core::control::{
    Address, AppOrders, AppOutcome, ControlMessage, Grant, Peer, ProcessState, Wish,
};
use gear_core::executor::Activity;
use gear_core::host::process::{Process, ProcessEffect, ProcessInput};
use gear_core::host::{AppProcess, NoFaults};
use gear_core::id::{AppTerm, ConnectionId, ExecutorId, MasterTerm, NodeId};
use gear_core::link::handshake::{Hello, Welcome};
use gear_core::task::World;
use gear_core::time::Time;
use gear_core::wire::decode_message;
use gear_core::wire::message::message_kind;
use gear_core::wire::stream::{Decoder, Entry, encode_entry, kind};

/// The node that the masters are.
pub(crate) const MASTERS: NodeId = NodeId(1);

/// Where the masters are: nowhere in the network.
pub(crate) fn address() -> Address {
    Address("masters".into())
}

/// An app master and its masters.
pub(crate) struct Led {
    app: AppProcess<NoFaults>,
    executors: BTreeMap<ExecutorId, Address>,
    decoder: Decoder,
    orders: u64,
    exits: bool,
}

impl Led {
    pub(crate) fn new(app: AppProcess<NoFaults>, executors: BTreeMap<ExecutorId, Address>) -> Self {
        Self { app, executors, decoder: Decoder::new(), orders: 0, exits: false }
    }

    /// Passes on what is for the network; the masters hear the rest.
    fn pass(
        &mut self,
        world: &mut World<'_>,
        effects: Vec<ProcessEffect>,
        out: &mut Vec<ProcessEffect>,
    ) {
        let mut effects = VecDeque::from(effects);
        // Only one process is dialled for control, and its connection is the first.
        while let Some(effect) = effects.pop_front() {
            let input = match effect {
                ProcessEffect::Dial { connection, to } if to == address() => {
                    self.decoder = Decoder::new();
                    ProcessInput::Dialed { connection }
                }
                ProcessEffect::Write { connection, bytes } if connection == ConnectionId(1) => {
                    match self.masters(&bytes, out) {
                        bytes if bytes.is_empty() => continue,
                        bytes => ProcessInput::Received { connection, bytes },
                    }
                }
                other => {
                    out.push(other);
                    continue;
                }
            };
            let mut more = Vec::new();
            self.app.handle(world, input, &mut more);
            effects.extend(more);
        }
    }

    /// What the masters answer.
    fn masters(&mut self, mut bytes: &[u8], out: &mut Vec<ProcessEffect>) -> Vec<u8> {
        let mut answer = Vec::new();
        let mut decoder = std::mem::take(&mut self.decoder);
        while let Some(entry) = decoder.next(&mut bytes).unwrap() {
            let Entry::Message(entry) = entry else { panic!("masters get no records") };
            match message_kind(entry).unwrap() {
                kind::HELLO => {
                    let hello: Hello = decode_message(kind::HELLO, entry).unwrap();
                    let version = hello.versions.highest;
                    let welcome = Welcome { version, from: Peer::Node(MASTERS) };
                    encode_entry(kind::WELCOME, &welcome, &mut answer).unwrap();
                    decoder.admit();
                }
                kind::PING => encode_entry(kind::PONG, &(), &mut answer).unwrap(),
                _ => {
                    let message = decode_message(kind::CONTROL, entry).unwrap();
                    let ControlMessage::AppReport(report) = message else { continue };
                    if let (Some(outcome), false) = (report.outcome, self.exits) {
                        self.exits = true;
                        let reason = match outcome {
                            AppOutcome::Finished => "finished".into(),
                            other => format!("{other:?}"),
                        };
                        out.push(ProcessEffect::Exit { reason });
                    }
                    self.orders += 1;
                    let orders = ControlMessage::AppOrders(self.orders());
                    encode_entry(kind::CONTROL, &orders, &mut answer).unwrap();
                }
            }
        }
        self.decoder = decoder;
        answer
    }

    fn orders(&self) -> AppOrders {
        let grant = |(id, address): (&ExecutorId, &Address)| {
            let state = ProcessState::Running { address: address.clone() };
            (*id, Grant { worker: MASTERS, state })
        };
        AppOrders {
            term: MasterTerm(1),
            number: self.orders,
            app: super::APP,
            app_term: AppTerm(1),
            wish: Wish::Run,
            executors: self.executors.iter().map(grant).collect(),
            waiting: String::new(),
            // The app master keeps to the one that it was told of.
            voters: BTreeMap::new(),
        }
    }
}

impl Process for Led {
    fn handle(&mut self, world: &mut World<'_>, input: ProcessInput, out: &mut Vec<ProcessEffect>) {
        let mut effects = Vec::new();
        self.app.handle(world, input, &mut effects);
        self.pass(world, effects, out);
    }

    fn turn(&mut self, _: &mut World<'_>, _: &mut Vec<ProcessEffect>) -> Activity {
        Activity::Idle(None)
    }

    fn next_timeout(&self) -> Option<Time> {
        self.app.next_timeout()
    }
}
