//! The process of an app master: the links with the app's executors, and what is said to the
//! masters.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Faults;
use super::control::Control;
use super::figures::{AppFigures, AuditFigures, ProcessFigures};
use super::links::Links;
use super::process::{Answer, Command, Process, ProcessEffect, ProcessInput};
use super::sockets::{Heard, Local, Sockets};
use crate::app::reports::{Change, Reports};
use crate::app::{AppMaster, AppPlan, Failure, Leave, Outcome};
use crate::checkpoint::LogError;
use crate::control::{Address, AppOutcome, ControlMessage, LaunchOrder, Peer, Role, Wish};
use crate::effect::{Effect, Level, Notice, Place};
use crate::executor::Activity;
use crate::id::{AppId, ExecutorId, Incarnation, NodeId};
use crate::link::handshake::{Purpose, Refusal};
use crate::link::{Link, LinkEvent};
use crate::message::{Input, Message};
use crate::task::World;
use crate::time::Time;

/// What an app master is told at its start.
#[derive(Clone, Debug)]
pub struct AppConfig {
    /// The cluster.
    pub cluster: u64,
    /// What its worker was ordered.
    pub order: LaunchOrder,
    /// This life of it.
    pub incarnation: Incarnation,
    /// The nodes of the masters.
    pub masters: BTreeMap<NodeId, Address>,
    /// The app; its term and incarnation are replaced by those of this process.
    pub plan: AppPlan,
}

/// An app master on a cluster.
pub struct AppProcess<F: Faults> {
    app: AppId,
    app_master: AppMaster<F>,
    reports: Reports,
    masters: Vec<NodeId>,
    sockets: Sockets,
    control: Control,
    links: Links<F>,
    /// Where executors listen.
    addresses: BTreeMap<ExecutorId, Address>,
    /// Executors whose links have been up.
    up: BTreeSet<ExecutorId>,
    /// Executors that are gone for good.
    lost: BTreeSet<ExecutorId>,
    /// What executors that are not lost have said of themselves last.
    figures: BTreeMap<ExecutorId, ProcessFigures>,
    /// True once this process has to end itself.
    exits: bool,
    heard: Vec<(Peer, LinkEvent)>,
    said: Vec<(Peer, ControlMessage)>,
    effects: Vec<Effect>,
}

impl<F: Faults> AppProcess<F> {
    /// Nothing happens before [`ProcessInput::Start`].
    ///
    /// # Panics
    /// If the order is not one for an app master, or the plan contradicts itself.
    #[must_use]
    pub fn new(config: AppConfig) -> Self {
        let AppConfig { cluster, order, incarnation, masters, mut plan } = config;
        let Role::AppMaster(term) = order.process.role else {
            panic!("{} is no app master", order.process)
        };
        let app = order.process.app;
        let local = Local { cluster, peer: Peer::AppMaster(app, term), token: order.token };
        let mut control = Control::default();
        for (node, address) in &masters {
            control.know(Peer::Node(*node), address);
        }
        plan.term = Some(term);
        plan.incarnation = incarnation.0;
        plan.from.clone_from(&order.spec.from);
        Self {
            app,
            app_master: AppMaster::new(plan),
            reports: Reports::new(app, term),
            masters: masters.into_keys().collect(),
            sockets: Sockets::new(local),
            control,
            links: Links::new(local, incarnation.0),
            addresses: BTreeMap::new(),
            up: BTreeSet::new(),
            lost: BTreeSet::new(),
            figures: BTreeMap::new(),
            exits: false,
            heard: Vec::new(),
            said: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// Its app.
    #[must_use]
    pub const fn app(&self) -> AppId {
        self.app
    }

    /// Its app master.
    #[must_use]
    pub const fn app_master(&self) -> &AppMaster<F> {
        &self.app_master
    }

    /// Its links.
    pub fn links(&self) -> impl Iterator<Item = (Peer, &Link<F>)> {
        self.links.iter()
    }

    fn tell(&mut self, now: Time, input: Input) {
        self.app_master.handle(now, input, &mut self.effects);
    }

    fn command(&mut self, now: Time, id: u64, command: Command, out: &mut Vec<ProcessEffect>) {
        let answer = match command {
            Command::Savepoint { name } => {
                self.app_master.make_savepoint(now, id, name, &mut self.effects);
                return;
            }
            Command::Replay => {
                self.app_master.leave_quarantine(now, id, Leave::Replay, &mut self.effects);
                return;
            }
            Command::Drop => {
                self.app_master.leave_quarantine(now, id, Leave::Drop, &mut self.effects);
                return;
            }
            Command::Status => Answer::Status(Box::new(self.status(now))),
            Command::Request { .. } | Command::Readmit => {
                Answer::Refused { reason: "this is an app master: ask a node".into() }
            }
        };
        out.push(ProcessEffect::Answer { id, answer });
    }

    fn status(&self, now: Time) -> AppFigures {
        let mut audit = AuditFigures::default();
        for link in self.figures.values().flat_map(|figures| figures.links.values()) {
            audit += link.audit;
        }
        AppFigures {
            restarts: self.lost.len() as u64,
            executors: self.figures.clone(),
            links: self.links.figures(),
            audit,
            waiting: self.reports.waiting().into(),
            ..self.app_master.figures(now, self.app, &self.figures)
        }
    }

    fn exit(&mut self, reason: &str, out: &mut Vec<ProcessEffect>) {
        if !self.exits {
            self.exits = true;
            out.push(ProcessEffect::Exit { reason: reason.into() });
        }
    }

    /// An executor is gone for good: the app goes on without it.
    fn lose(
        &mut self,
        now: Time,
        executor: ExecutorId,
        reason: String,
        out: &mut Vec<ProcessEffect>,
    ) {
        if !self.lost.insert(executor) {
            return;
        }
        self.links.end(Peer::Executor(self.app, executor), &mut self.sockets, out);
        self.reports.give_up(executor);
        self.figures.remove(&executor);
        self.tell(now, Input::ExecutorLost { executor, reason });
    }

    fn change(&mut self, now: Time, change: Change, out: &mut Vec<ProcessEffect>) {
        match change {
            Change::Superseded => self.exit("another app master leads the app", out),
            Change::Wish(Wish::Stop) => self.tell(now, Input::Stop),
            Change::Wish(Wish::Kill) => self.exit("the app was killed", out),
            Change::Wish(Wish::Run) => {}
            Change::Voters(voters) => {
                for (node, address) in &voters {
                    self.control.know(Peer::Node(*node), address);
                }
                self.masters = voters.into_keys().collect();
            }
            Change::Granted(granted) => self.tell(now, Input::Executors { granted }),
            Change::Gone(executor, reason) => self.lose(now, executor, reason, out),
            Change::Running(executor, address) => {
                if !self.lost.contains(&executor) {
                    let peer = Peer::Executor(self.app, executor);
                    self.links.open(now, peer, Some(address.clone()));
                    self.addresses.insert(executor, address);
                }
            }
        }
    }

    fn socket_events(&mut self, now: Time, out: &mut Vec<ProcessEffect>) {
        while let Some(heard) = self.sockets.next_heard() {
            match heard {
                // Executors wait to be dialled, and masters answer where they are asked.
                Heard::Asked { connection, .. } => {
                    self.sockets.refuse(connection, &Refusal::Unknown, out);
                }
                Heard::Up { connection, to, purpose: Purpose::Control } => {
                    self.control.dialed(now, (connection, to), out);
                }
                Heard::Up { connection, to, .. } => {
                    self.links.connected(now, (connection, to), &mut self.sockets, out);
                }
                Heard::Bytes { connection, bytes } => {
                    let came = (connection, bytes.as_slice());
                    let into = (&mut self.said, &mut *out);
                    if !self.control.received(now, came, &mut self.sockets, into) {
                        self.links.received(now, came, &mut self.sockets, out);
                    }
                    self.control_messages(now, out);
                }
                Heard::Down { connection, gone, .. } => {
                    if self.control.down(now, connection).is_none() {
                        self.links.down(now, connection, gone);
                    }
                }
            }
        }
    }

    fn control_messages(&mut self, now: Time, out: &mut Vec<ProcessEffect>) {
        for (from, message) in core::mem::take(&mut self.said) {
            if let (Peer::Node(_), ControlMessage::AppOrders(orders)) = (from, message) {
                let mut changes = Vec::new();
                self.reports.orders(orders, &mut changes);
                changes.into_iter().for_each(|change| self.change(now, change, out));
            }
        }
    }

    fn link_events(&mut self, now: Time, out: &mut Vec<ProcessEffect>) {
        let mut heard = core::mem::take(&mut self.heard);
        for (peer, event) in heard.drain(..) {
            let Peer::Executor(_, executor) = peer else { continue };
            match event {
                // Of two executors that do not hear each other, the one that was complained of
                // first is replaced; what the other is told of it then is no news.
                LinkEvent::Message(Message::PeerLost { executor: other, reason }) => {
                    if !self.lost.contains(&executor) {
                        self.lose(now, other, reason, out);
                    }
                }
                LinkEvent::Message(Message::Figures(figures)) => {
                    self.figures.insert(executor, *figures);
                }
                LinkEvent::Message(message) => {
                    let from = Place::Executor(executor);
                    self.tell(now, Input::Message { from, message });
                }
                LinkEvent::Up if self.up.insert(executor) => {
                    let address = self.addresses.get(&executor).cloned().unwrap_or_default();
                    self.tell(now, Input::ExecutorUp { executor, address });
                }
                LinkEvent::Lost { reason } => self.lose(now, executor, reason.to_string(), out),
                // Between an app master and an executor there are no channels.
                LinkEvent::Up | LinkEvent::AuditFailed { .. } => {}
            }
        }
        self.heard = heard;
    }

    /// Carries out what the app master wants, and sends and hears what there is.
    fn settle(&mut self, now: Time, out: &mut Vec<ProcessEffect>) {
        loop {
            self.perform(now, out);
            let into = (&mut self.heard, &mut *out);
            self.links.settle(now, &mut self.sockets, into);
            if self.heard.is_empty() {
                break;
            }
            self.link_events(now, out);
        }
        for (id, result) in self.app_master.savepoints_made() {
            let answer = match result {
                Ok(epoch) => Answer::Savepoint { epoch },
                Err(reason) => Answer::Refused { reason },
            };
            out.push(ProcessEffect::Answer { id, answer });
        }
        for (id, _, result) in self.app_master.gone() {
            let answer = match result {
                Ok(left) => Answer::Left(left),
                Err(reason) => Answer::Refused { reason },
            };
            out.push(ProcessEffect::Answer { id, answer });
        }
        self.check_outcome(out);
        if !self.exits && self.reports.next_timeout() <= now {
            self.reports.committed(self.app_master.status(now).committed.unwrap_or_default());
            let report = self.reports.report(now);
            for master in self.masters.clone() {
                let message = ControlMessage::AppReport(report.clone());
                self.control.send(now, Peer::Node(master), &message, &mut self.sockets, out);
            }
        }
    }

    fn check_outcome(&mut self, out: &mut Vec<ProcessEffect>) {
        match self.app_master.outcome() {
            None => {}
            // How the app goes on is for the one to say that has the higher term.
            Some(Outcome::Failed(Failure::Log(LogError::Superseded { .. }))) => {
                self.exit("another app master leads the app", out);
            }
            // The store may be back for the next app master: the masters start one, and say why.
            Some(Outcome::Failed(failure @ Failure::Log(LogError::Store { .. }))) => {
                let reason = failure.to_string();
                self.exit(&reason, out);
            }
            Some(outcome) => self.reports.ended(AppOutcome::from(outcome)),
        }
    }

    fn perform(&mut self, now: Time, out: &mut Vec<ProcessEffect>) {
        let mut effects = core::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { to: Place::Executor(executor), message } => {
                    // What an executor does not hear because it is lost, it is lost for.
                    self.links.send(now, Peer::Executor(self.app, executor), message);
                }
                Effect::Store { token, request } => {
                    out.push(ProcessEffect::Store { token, request });
                }
                Effect::Notice(notice) => out.push(ProcessEffect::Notice(notice)),
                Effect::Send { to: Place::AppMaster, .. } | Effect::Io { .. } => {
                    let text = "an app master asked for what only executors do".into();
                    out.push(ProcessEffect::Notice(Notice { level: Level::Error, text }));
                }
            }
        }
        self.effects = effects;
    }
}

impl<F: Faults> Process for AppProcess<F> {
    fn handle(&mut self, world: &mut World<'_>, input: ProcessInput, out: &mut Vec<ProcessEffect>) {
        let now = world.now;
        match self.sockets.handle(now, input, out) {
            Some(ProcessInput::Start) => self.tell(now, Input::Start),
            Some(ProcessInput::Stored { token, reply }) => {
                self.tell(now, Input::Stored { token, reply });
            }
            Some(ProcessInput::Timeout) => {
                self.sockets.handle_timeout(now, out);
                self.control.handle_timeout(now, &mut self.sockets, out);
                self.links.handle_timeout(now);
                if self.app_master.next_timeout().is_some_and(|(at, _)| at <= now) {
                    self.tell(now, Input::Timeout);
                }
            }
            Some(ProcessInput::Known { node, address }) if self.masters.contains(&node) => {
                self.control.know(Peer::Node(node), &address);
            }
            Some(ProcessInput::Command { id, command }) => self.command(now, id, command, out),
            _ => {}
        }
        self.socket_events(now, out);
        self.settle(now, out);
    }

    fn turn(&mut self, _: &mut World<'_>, _: &mut Vec<ProcessEffect>) -> Activity {
        Activity::Idle(None)
    }

    fn next_timeout(&self) -> Option<Time> {
        if self.exits {
            return None;
        }
        let app_master = self.app_master.next_timeout().map(|(at, _)| at);
        [self.sockets.next_timeout(), self.control.next_timeout(), self.links.next_timeout()]
            .into_iter()
            .chain([app_master, Some(self.reports.next_timeout())])
            .flatten()
            .min()
    }
}
