//! The process of an executor: its tasks, and the links with the app master and other executors.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::figures::ProcessFigures;
use super::links::Links;
use super::process::{Answer, Command, Process, ProcessEffect, ProcessInput};
use super::sockets::{Heard, Local, Sockets};
use super::{Fault, Faults};
use crate::control::{Address, LaunchOrder, Peer, Role};
use crate::effect::{Effect, Level, Notice, Place};
use crate::executor::{Activity, Executor, Program};
use crate::id::{AppId, AppTerm, ConnectionId, ExecutorId, Incarnation};
use crate::limits::FIGURES_INTERVAL;
use crate::link::handshake::{Door, Hello, Purpose, Refusal, Standing, VERSIONS, Welcome};
use crate::link::{Link, LinkEvent};
use crate::message::{Input, Message};
use crate::task::World;
use crate::time::Time;

/// What an executor is told at its start.
#[derive(Clone)]
pub struct ExecutorConfig {
    /// The cluster.
    pub cluster: u64,
    /// What its worker was ordered.
    pub order: LaunchOrder,
    /// This life of it.
    pub incarnation: Incarnation,
    /// The job.
    pub program: Arc<Program>,
    /// Bytes that its tasks may hold; 0 for no limit.
    pub memory: usize,
}

/// An executor on a cluster.
pub struct ExecutorProcess<F: Faults> {
    app: AppId,
    id: ExecutorId,
    executor: Executor<F>,
    sockets: Sockets,
    links: Links<F>,
    door: Door,
    /// The app master that is obeyed.
    app_master: Option<Peer>,
    /// Executors that are lost to this one, and why: every app master has to know.
    lost: BTreeMap<ExecutorId, String>,
    /// True once this process has asked to end.
    exits: bool,
    /// When the app master is to hear how it is doing.
    figures_at: Time,
    heard: Vec<(Peer, LinkEvent)>,
    effects: Vec<Effect>,
    /// The buffer of what was read last.
    spent: Option<Vec<u8>>,
}

impl<F: Faults> ExecutorProcess<F> {
    /// Nothing happens before [`ProcessInput::Start`].
    ///
    /// # Panics
    /// If the order is not one for an executor.
    #[must_use]
    pub fn new(config: ExecutorConfig) -> Self {
        let ExecutorConfig { cluster, order, incarnation, program, memory } = config;
        let Role::Executor(id) = order.process.role else {
            panic!("{} is no executor", order.process)
        };
        let app = order.process.app;
        let here = Peer::Executor(app, id);
        let local = Local { cluster, peer: here, token: order.token };
        Self {
            app,
            id,
            executor: Executor::new(id, program, memory),
            sockets: Sockets::new(local),
            links: Links::new(local, incarnation.0),
            door: Door {
                versions: VERSIONS,
                cluster,
                here,
                token: Some(order.token),
                term: AppTerm(0),
            },
            app_master: None,
            lost: BTreeMap::new(),
            exits: false,
            figures_at: Time::ZERO,
            heard: Vec::new(),
            effects: Vec::new(),
            spent: None,
        }
    }

    /// Its app.
    #[must_use]
    pub const fn app(&self) -> AppId {
        self.app
    }

    /// The term of the app master that it obeys; 0 if it obeys none at the moment.
    #[must_use]
    pub const fn app_term(&self) -> AppTerm {
        match self.app_master {
            Some(Peer::AppMaster(_, term)) => term,
            _ => AppTerm(0),
        }
    }

    /// Its tasks.
    #[must_use]
    pub const fn executor(&self) -> &Executor<F> {
        &self.executor
    }

    /// Its tasks, for whoever reads their figures.
    pub const fn executor_mut(&mut self) -> &mut Executor<F> {
        &mut self.executor
    }

    fn figures(&mut self) -> ProcessFigures {
        let (tasks, links) = (self.executor.task_figures(), self.links.figures());
        ProcessFigures { tasks, links }
    }

    /// Its links.
    pub fn links(&self) -> impl Iterator<Item = (Peer, &Link<F>)> {
        self.links.iter()
    }

    fn judge(&self, hello: &Hello) -> Result<Welcome, Refusal> {
        let from_app = match hello.from {
            Peer::AppMaster(app, _) => app == self.app,
            Peer::Executor(app, id) => app == self.app && id < self.id,
            Peer::Node(_) | Peer::Client(_) => false,
        };
        let standing = if self.links.is_over(hello.from) {
            Standing::GivenUp
        } else if from_app && matches!(hello.purpose, Purpose::Link { .. }) {
            Standing::Known
        } else {
            Standing::Unknown
        };
        let door = Door {
            term: if F::has(Fault::AcceptOldAppTerm) { AppTerm(0) } else { self.door.term },
            ..self.door
        };
        let welcome = door.judge(hello, standing)?;
        self.links.judge(hello)?;
        Ok(welcome)
    }

    /// Lets an executor or an app master in; one of a higher term replaces the one before.
    fn let_in(
        &mut self,
        now: Time,
        (connection, hello): (ConnectionId, &Hello),
        welcome: &Welcome,
        out: &mut Vec<ProcessEffect>,
    ) {
        let peer = hello.from;
        if let Peer::AppMaster(_, term) = peer {
            if let Some(before) = self.app_master.filter(|before| *before != peer) {
                self.links.end(before, &mut self.sockets, out);
            }
            self.door.term = self.door.term.max(term);
            self.app_master = Some(peer);
        }
        self.links.open(now, peer, None);
        // The answer stands before whatever the link has to say.
        self.sockets.welcome(connection, welcome, out);
        self.links.connected(now, (connection, peer), &mut self.sockets, out);
    }

    fn socket_events(&mut self, now: Time, out: &mut Vec<ProcessEffect>) {
        while let Some(heard) = self.sockets.next_heard() {
            match heard {
                Heard::Asked { connection, hello } => match self.judge(&hello) {
                    Ok(welcome) => self.let_in(now, (connection, &hello), &welcome, out),
                    Err(refusal) => self.sockets.refuse(connection, &refusal, out),
                },
                Heard::Up { connection, to, .. } => {
                    self.links.connected(now, (connection, to), &mut self.sockets, out);
                }
                Heard::Bytes { connection, bytes } => {
                    self.links.received(now, (connection, &bytes), &mut self.sockets, out);
                    self.spent = Some(bytes);
                }
                Heard::Down { connection, gone, .. } => {
                    self.links.down(now, connection, gone);
                }
            }
        }
    }

    fn link_events(&mut self, world: &mut World<'_>, out: &mut Vec<ProcessEffect>) {
        let now = world.now;
        let mut heard = core::mem::take(&mut self.heard);
        for (peer, event) in heard.drain(..) {
            match event {
                LinkEvent::Message(message) => self.message(world, peer, message),
                LinkEvent::Up if self.app_master == Some(peer) => {
                    for (executor, reason) in self.lost.clone() {
                        self.tell_app_master(now, Message::PeerLost { executor, reason });
                    }
                }
                LinkEvent::Up => {}
                LinkEvent::Lost { reason } => {
                    let text = format!("{peer} is lost: {reason}");
                    out.push(ProcessEffect::Notice(Notice { level: Level::Warning, text }));
                    if let Peer::Executor(_, executor) = peer {
                        let reason = reason.to_string();
                        self.lost.insert(executor, reason.clone());
                        self.tell_app_master(now, Message::PeerLost { executor, reason });
                    } else if self.app_master == Some(peer) {
                        self.app_master = None;
                    }
                }
                LinkEvent::AuditFailed { channel, epoch, sent, came } => {
                    let reason = format!(
                        "{came:?} came over channel {channel} in {epoch}, but {sent:?} was sent; \
                         this is a defect of Gear: the epoch is not taken, please report it"
                    );
                    self.executor.fail_channel(channel, &reason, &mut self.effects);
                }
            }
        }
        self.heard = heard;
    }

    fn message(&mut self, world: &mut World<'_>, peer: Peer, message: Message) {
        let from = match peer {
            Peer::Executor(_, executor) => Place::Executor(executor),
            _ if self.app_master == Some(peer) => Place::AppMaster,
            // Of an app master that another has replaced.
            _ => return,
        };
        if let Message::Deploy(deployment) = &message {
            for (executor, address) in &deployment.addresses {
                self.link_with(world.now, *executor, address);
            }
        }
        let input = Input::Message { from, message };
        self.executor.handle(input, world, &mut self.effects);
    }

    /// Of two executors the one with the lower number dials; the other keeps what it has to say
    /// until it is dialled.
    fn link_with(&mut self, now: Time, executor: ExecutorId, address: &Address) {
        if self.id != executor {
            let address = (self.id < executor).then(|| address.clone());
            self.links.open(now, Peer::Executor(self.app, executor), address);
        }
    }

    fn tell_app_master(&mut self, now: Time, message: Message) {
        // Without one, nobody has to know: the next one asks for everything.
        if let Some(app_master) = self.app_master {
            self.links.send(now, app_master, message);
        }
    }

    /// Carries out what the tasks want, and sends and hears what there is.
    fn settle(&mut self, world: &mut World<'_>, out: &mut Vec<ProcessEffect>) {
        loop {
            self.perform(world.now, out);
            let into = (&mut self.heard, &mut *out);
            self.links.settle(world.now, &mut self.sockets, into);
            if self.heard.is_empty() {
                break;
            }
            self.link_events(world, out);
        }
        if self.executor.is_stopped() && !self.exits {
            // It answers nobody any more: a later app master must not wait for it.
            self.exits = true;
            out.push(ProcessEffect::Exit { reason: "the app has ended".into() });
        }
    }

    fn perform(&mut self, now: Time, out: &mut Vec<ProcessEffect>) {
        let mut effects = core::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { to: Place::AppMaster, message } => {
                    self.tell_app_master(now, message);
                }
                Effect::Send { to: Place::Executor(executor), message } => {
                    self.links.send(now, Peer::Executor(self.app, executor), message);
                }
                Effect::Store { token, request } => {
                    out.push(ProcessEffect::Store { token, request });
                }
                Effect::Io { task, token, request } => {
                    out.push(ProcessEffect::Io { task, token, request });
                }
                Effect::Notice(notice) => out.push(ProcessEffect::Notice(notice)),
            }
        }
        self.effects = effects;
    }
}

impl<F: Faults> Process for ExecutorProcess<F> {
    fn handle(&mut self, world: &mut World<'_>, input: ProcessInput, out: &mut Vec<ProcessEffect>) {
        let now = world.now;
        match self.sockets.handle(now, input, out) {
            Some(ProcessInput::Stored { token, reply }) => {
                let input = Input::Stored { token, reply };
                self.executor.handle(input, world, &mut self.effects);
            }
            Some(ProcessInput::IoDone { task, token, result }) => {
                let input = Input::IoDone { task, token, result };
                self.executor.handle(input, world, &mut self.effects);
            }
            Some(ProcessInput::Timeout) => {
                self.sockets.handle_timeout(now, out);
                self.links.handle_timeout(now);
                if self.app_master.is_some() && self.figures_at <= now {
                    self.figures_at = now + FIGURES_INTERVAL;
                    let figures = self.figures();
                    self.tell_app_master(now, Message::Figures(Box::new(figures)));
                }
            }
            Some(ProcessInput::Command { id, command }) => {
                let answer = match command {
                    Command::Status => Answer::Figures(Box::new(self.figures())),
                    Command::Savepoint { .. }
                    | Command::Request { .. }
                    | Command::Readmit
                    | Command::Replay
                    | Command::Drop => {
                        let reason = "this is an executor: ask the app master or a node".into();
                        Answer::Refused { reason }
                    }
                };
                out.push(ProcessEffect::Answer { id, answer });
            }
            _ => {}
        }
        self.socket_events(now, out);
        self.settle(world, out);
    }

    fn turn(&mut self, world: &mut World<'_>, out: &mut Vec<ProcessEffect>) -> Activity {
        let activity = self.executor.run(world, &mut self.effects);
        self.settle(world, out);
        activity
    }

    fn next_timeout(&self) -> Option<Time> {
        let figures = self.app_master.filter(|_| !self.exits).map(|_| self.figures_at);
        let all = [self.sockets.next_timeout(), self.links.next_timeout(), figures];
        all.into_iter().flatten().min()
    }

    fn take_spent(&mut self) -> Option<Vec<u8>> {
        self.spent.take()
    }

    fn give_spent(&mut self, buffer: Vec<u8>) {
        self.links.give_spent(buffer);
    }
}
