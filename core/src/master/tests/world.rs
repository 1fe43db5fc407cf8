//! A small cluster: real masters and workers, app masters that only report, a network that is
//! instant or cut, disks that are instant and never lie.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Debug;

use crate::control::{
    Address, AppOrders, AppOutcome, AppReport, AppSpec, ControlMessage, Grant, LaunchOrder, Peer,
    ProcessId, ProcessState, Reply, Request, Resources, Role, Wish,
};
use crate::host::Faults;
use crate::host::process::{DiskReply, DiskRequest};
use crate::id::{
    AppId, AppTerm, Epoch, ExecutorId, Incarnation, MasterTerm, NodeId, RequestId, Token,
};
use crate::limits::HEARTBEAT_INTERVAL;
use crate::master::quorum::Formation;
use crate::master::state::{App, State};
use crate::master::{Master, MasterConfig, MasterEffect, MasterInput};
use crate::time::{Duration, Time, millis};
use crate::wire::message::decode_message;
use crate::worker::{Worker, WorkerConfig, WorkerEffect, WorkerInput};

pub(super) const CLIENT: u64 = 77;
/// The kind of a part of the state on disk.
const PART_KIND: u16 = 0x5114;
const STEP: Duration = millis(10);
/// How long a child takes until it listens.
const START: Duration = millis(50);

/// A process that a worker has launched.
pub(super) struct Child {
    order: LaunchOrder,
    launched: Time,
    listens: bool,
    /// What an app master says; of no meaning for an executor.
    report: AppReport,
    report_at: Time,
    pub(super) silent: bool,
    pub(super) heard: Option<AppOrders>,
}

/// A master's disk, and everything that has ever been on it.
#[derive(Default)]
struct Disk {
    entries: BTreeMap<String, Vec<u8>>,
    apps: BTreeSet<AppId>,
    placed: BTreeSet<ProcessId>,
}

impl Disk {
    fn write(&mut self, name: String, bytes: Option<Vec<u8>>) {
        let Some(bytes) = bytes else {
            self.entries.remove(&name);
            return;
        };
        if name.starts_with("quorum/part/apps-") {
            let state: State = decode_message(PART_KIND, &bytes).expect("a part of the state");
            for (id, app) in state.apps() {
                self.apps.insert(id);
                let placed = app.processes(id).filter(|(_, it)| it.place.is_some());
                self.placed.extend(placed.map(|(process, _)| process));
            }
        }
        self.entries.insert(name, bytes);
    }
}

enum Message {
    Control { from: Peer, to: Peer, message: ControlMessage },
    Disk { master: u64, token: Token, reply: DiskReply },
}

pub(super) struct World<F: Faults> {
    pub(super) now: Time,
    pub(super) masters: BTreeMap<u64, Master<F>>,
    voters: BTreeMap<NodeId, Address>,
    disks: BTreeMap<u64, Disk>,
    pub(super) workers: BTreeMap<u64, Worker<F>>,
    pub(super) children: BTreeMap<(u64, ProcessId), Child>,
    queue: VecDeque<Message>,
    /// Nodes that hear nobody and are heard by nobody.
    pub(super) cut: BTreeSet<u64>,
    /// The masters that a worker reports to; all where nothing is said.
    pub(super) known: BTreeMap<u64, BTreeSet<NodeId>>,
    pub(super) replies: Vec<(RequestId, Reply)>,
    /// Every process that was ever launched.
    pub(super) launched: Vec<ProcessId>,
    pub(super) notices: Vec<String>,
    lives: u64,
    leaders: BTreeMap<MasterTerm, u64>,
    numbers: u64,
    /// If set, every process ends as soon as it listens.
    pub(super) crash: bool,
    /// If set, no app master stops its app when it is asked to.
    pub(super) stubborn: bool,
}

impl<F: Faults + Debug> World<F> {
    /// Masters on nodes 1, 2 and so on, and one of them leads.
    pub(super) fn new(masters: u64) -> Self {
        let voters = (1..=masters).map(|node| (NodeId(node), Address(format!("m{node}"))));
        let mut world = Self {
            now: Time(1_000_000_000),
            masters: BTreeMap::new(),
            voters: voters.collect(),
            disks: BTreeMap::new(),
            workers: BTreeMap::new(),
            children: BTreeMap::new(),
            queue: VecDeque::new(),
            cut: BTreeSet::new(),
            known: BTreeMap::new(),
            replies: Vec::new(),
            launched: Vec::new(),
            notices: Vec::new(),
            lives: 0,
            leaders: BTreeMap::new(),
            numbers: 0,
            crash: false,
            stubborn: false,
        };
        for node in 1..=masters {
            world.start_master(node);
        }
        world.run(millis(6_000));
        assert!(world.leader().is_some(), "somebody leads");
        world
    }

    /// A cluster with workers on nodes 11, 12 and so on.
    pub(super) fn with_workers(masters: u64, workers: u64, slots: u32) -> Self {
        let mut world = Self::new(masters);
        for node in 11..11 + workers {
            world.start_worker(node, slots, &[]);
        }
        world.run(millis(300));
        world
    }

    pub(super) fn start_master(&mut self, node: u64) {
        self.lives += 1;
        let formation =
            if self.disks.contains_key(&node) { Formation::Before } else { Formation::First };
        let master = Master::new(MasterConfig {
            cluster: 5,
            node: NodeId(node),
            incarnation: Incarnation(self.lives),
            seed: node * 1_000 + self.lives,
            voters: self.voters.clone(),
            formation,
        });
        self.disks.entry(node).or_default();
        self.masters.insert(node, master);
        self.master_hears(node, MasterInput::Start);
    }

    pub(super) fn stop_master(&mut self, node: u64) {
        self.masters.remove(&node);
        self.queue
            .retain(|message| !matches!(message, Message::Disk { master, .. } if *master == node));
    }

    pub(super) fn start_worker(&mut self, node: u64, slots: u32, labels: &[(&str, &str)]) {
        self.lives += 1;
        let label = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        let worker = Worker::new(WorkerConfig {
            node: NodeId(node),
            incarnation: Incarnation(self.lives),
            address: Address(format!("w{node}")),
            capacity: Resources { slots, memory: 1 << 30 },
            labels: labels.iter().map(label).collect(),
        });
        self.workers.insert(node, worker);
        self.worker_hears(node, WorkerInput::Start);
    }

    /// A worker dies, and with it what it runs.
    pub(super) fn stop_worker(&mut self, node: u64) {
        self.workers.remove(&node);
        self.children.retain(|(worker, _), _| *worker != node);
    }

    /// A child ends by itself.
    pub(super) fn exit(&mut self, process: ProcessId) {
        let found = self.children.keys().find(|(_, it)| *it == process).copied();
        let (worker, _) = found.expect("it runs");
        self.children.remove(&(worker, process));
        let reason = "signal 9".to_string();
        self.worker_hears(worker, WorkerInput::ChildExited { process, reason });
    }

    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + STEP;
            self.step();
        }
    }

    fn step(&mut self) {
        let masters: Vec<_> = self.masters.keys().copied().collect();
        for node in masters {
            if self.masters[&node].next_timeout().is_some_and(|at| at <= self.now) {
                self.master_hears(node, MasterInput::Timeout);
            }
        }
        let workers: Vec<_> = self.workers.keys().copied().collect();
        for node in workers {
            if self.workers[&node].next_timeout().is_some_and(|(at, _)| at <= self.now) {
                self.worker_hears(node, WorkerInput::Timeout);
            }
        }
        let children: Vec<_> = self.children.keys().copied().collect();
        for (worker, process) in children {
            self.step_child(worker, process);
        }
        self.deliver();
        self.check();
    }

    fn step_child(&mut self, worker: u64, process: ProcessId) {
        let Some(child) = self.children.get_mut(&(worker, process)) else { return };
        if !child.listens && self.now >= child.launched + START {
            if self.crash {
                self.exit(process);
                return;
            }
            child.listens = true;
            let address = Address(format!("c{}", self.lives));
            self.worker_hears(worker, WorkerInput::ChildRunning { process, address });
        }
        let Some(child) = self.children.get_mut(&(worker, process)) else { return };
        let Role::AppMaster(term) = process.role else { return };
        if child.listens && !child.silent && self.now >= child.report_at {
            child.report_at = self.now + HEARTBEAT_INTERVAL;
            child.report.number += 1;
            let from = Peer::AppMaster(process.app, term);
            let message = ControlMessage::AppReport(child.report.clone());
            self.tell_masters(from, &message);
        }
    }

    fn tell_masters(&mut self, from: Peer, message: &ControlMessage) {
        for node in self.voters.keys() {
            let (to, message) = (Peer::Node(*node), message.clone());
            self.queue.push_back(Message::Control { from, to, message });
        }
    }

    /// The node of a party; a client is everywhere.
    fn node_of(&self, peer: Peer) -> Option<u64> {
        match peer {
            Peer::Node(node) => Some(node.0),
            Peer::AppMaster(app, term) => {
                let role = Role::AppMaster(term);
                self.worker_of(ProcessId { app, role })
            }
            Peer::Executor(app, executor) => {
                let role = Role::Executor(executor);
                self.worker_of(ProcessId { app, role })
            }
            Peer::Client(_) => None,
        }
    }

    pub(super) fn worker_of(&self, process: ProcessId) -> Option<u64> {
        self.children.keys().find(|(_, it)| *it == process).map(|(worker, _)| *worker)
    }

    fn deliver(&mut self) {
        while let Some(message) = self.queue.pop_front() {
            let (from, to, message) = match message {
                Message::Disk { master, token, reply } => {
                    self.master_hears(master, MasterInput::Disk { token, reply });
                    continue;
                }
                Message::Control { from, to, message } => (from, to, message),
            };
            if let (Some(one), Some(other)) = (self.node_of(from), self.node_of(to))
                && one != other
                && (self.cut.contains(&one) || self.cut.contains(&other))
            {
                continue;
            }
            match (to, message) {
                (Peer::Node(node), ControlMessage::WorkerOrders(orders)) => {
                    let Peer::Node(from) = from else { continue };
                    self.worker_hears(node.0, WorkerInput::Orders { from, orders });
                }
                (Peer::Node(node), ControlMessage::Voters { voters }) => {
                    if let Some(known) = self.known.get_mut(&node.0) {
                        known.extend(voters.into_keys());
                    }
                }
                (Peer::Node(node), message) => {
                    self.master_hears(node.0, MasterInput::Message { from, message });
                }
                (Peer::AppMaster(app, term), ControlMessage::AppOrders(orders)) => {
                    self.app_hears(app, term, orders);
                }
                (Peer::Client(_), ControlMessage::Reply { id, reply }) => {
                    self.replies.push((id, reply));
                }
                (to, message) => panic!("{to:?} does not understand {message:?}"),
            }
        }
    }

    fn app_hears(&mut self, app: AppId, term: AppTerm, orders: AppOrders) {
        let process = ProcessId { app, role: Role::AppMaster(term) };
        let Some(worker) = self.worker_of(process) else { return };
        if orders.app_term > term || orders.wish == Wish::Kill {
            self.exit(process);
            return;
        }
        let child = self.children.get_mut(&(worker, process)).expect("it was there a line ago");
        let known = |id: &ExecutorId| orders.executors.contains_key(id);
        child.report.lost.retain(known);
        if orders.wish == Wish::Stop && !self.stubborn {
            child.report.outcome = Some(AppOutcome::Stopped);
        }
        child.heard = Some(orders);
    }

    pub(super) fn master_hears(&mut self, node: u64, input: MasterInput) {
        let Some(master) = self.masters.get_mut(&node) else { return };
        let mut effects = Vec::new();
        master.handle(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                MasterEffect::Send { to, message } => {
                    self.check_sent(node, &message);
                    let from = Peer::Node(NodeId(node));
                    self.queue.push_back(Message::Control { from, to, message });
                }
                MasterEffect::Disk { token, request } => {
                    let reply = self.disk(node, request);
                    self.queue.push_back(Message::Disk { master: node, token, reply });
                }
                MasterEffect::Notice(notice) => self.notices.push(notice.text),
            }
        }
    }

    fn disk(&mut self, node: u64, request: DiskRequest) -> DiskReply {
        let disk = self.disks.get_mut(&node).expect("every master has a disk");
        match request {
            DiskRequest::Load => {
                let entries = disk.entries.iter();
                let entries = entries.map(|(name, bytes)| (name.clone(), bytes.clone()));
                DiskReply::Loaded { entries: entries.collect() }
            }
            DiskRequest::Write { entries } => {
                for (name, bytes) in entries {
                    disk.write(name, bytes);
                }
                DiskReply::Written
            }
        }
    }

    fn worker_hears(&mut self, node: u64, input: WorkerInput) {
        let Some(worker) = self.workers.get_mut(&node) else { return };
        let mut effects = Vec::new();
        worker.handle(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                WorkerEffect::Report(report) => {
                    let from = Peer::Node(NodeId(node));
                    let message = ControlMessage::WorkerReport(report);
                    let Some(known) = self.known.get(&node) else {
                        self.tell_masters(from, &message);
                        continue;
                    };
                    let said = known.iter().map(|master| Message::Control {
                        from,
                        to: Peer::Node(*master),
                        message: message.clone(),
                    });
                    self.queue.extend(said);
                }
                WorkerEffect::Spawn(order) => self.spawn(node, order),
                WorkerEffect::Kill(process) => {
                    self.children.remove(&(node, process));
                    let reason = "told to".to_string();
                    self.worker_hears(node, WorkerInput::ChildExited { process, reason });
                }
                WorkerEffect::Notice(notice) => self.notices.push(notice.text),
            }
        }
    }

    fn spawn(&mut self, node: u64, order: LaunchOrder) {
        let process = order.process;
        assert!(!self.launched.contains(&process), "{process} has a second life");
        self.launched.push(process);
        let term = match process.role {
            Role::AppMaster(term) => term,
            Role::Executor(_) => AppTerm(0),
        };
        let report = AppReport {
            app: process.app,
            term,
            number: 0,
            lost: Vec::new(),
            committed: Epoch(0),
            outcome: None,
        };
        let (launched, report_at) = (self.now, self.now);
        let child = Child {
            order,
            launched,
            listens: false,
            report,
            report_at,
            silent: false,
            heard: None,
        };
        self.children.insert((node, process), child);
    }

    /// Whatever a leader orders, and whatever it answers, has been on the disks of a majority.
    fn check_sent(&self, node: u64, message: &ControlMessage) {
        match message {
            ControlMessage::WorkerOrders(orders) => {
                for LaunchOrder { process, .. } in &orders.launch {
                    let known = self.is_majority(|disk| disk.placed.contains(process));
                    assert!(known, "{node} orders {process}, which no majority remembers");
                }
            }
            ControlMessage::Reply { reply: Reply::Submitted { app }, .. } => {
                let known = self.is_majority(|disk| disk.apps.contains(app));
                assert!(known, "{node} promises {app}, which it may forget");
            }
            _ => {}
        }
    }

    fn is_majority(&self, holds: impl Fn(&Disk) -> bool) -> bool {
        self.disks.values().filter(|disk| holds(disk)).count() * 2 > self.disks.len()
    }

    /// Nobody leads a term in which another has led.
    fn check(&mut self) {
        for (node, master) in &self.masters {
            let status = master.status(self.now);
            if status.may_serve {
                let first = *self.leaders.entry(status.term).or_insert(*node);
                assert_eq!(first, *node, "two lead in {}", status.term);
            }
        }
    }

    pub(super) fn leader(&self) -> Option<u64> {
        let mut masters = self.masters.iter();
        masters.find(|(_, it)| it.status(self.now).may_serve).map(|(node, _)| *node)
    }

    pub(super) fn state(&self) -> &State {
        let leader = self.leader().expect("somebody leads");
        self.masters[&leader].status(self.now).acknowledged_state.expect("it leads")
    }

    pub(super) fn app(&self, app: AppId) -> &App {
        self.state().app(app).expect("the app is known")
    }

    /// Sends a request to a master.
    pub(super) fn tell(&mut self, node: u64, id: RequestId, request: Request) {
        let message = ControlMessage::Request { id, request };
        let (from, to) = (Peer::Client(CLIENT), Peer::Node(NodeId(node)));
        self.queue.push_back(Message::Control { from, to, message });
    }

    /// Sends a request to a master, and returns what came back within a second.
    pub(super) fn ask(&mut self, node: u64, id: RequestId, request: Request) -> Option<Reply> {
        let seen = self.replies.len();
        self.tell(node, id, request);
        self.run(millis(1_000));
        self.replies[seen..].iter().find(|(it, _)| *it == id).map(|(_, reply)| reply.clone())
    }

    pub(super) fn request_id(&mut self) -> RequestId {
        self.numbers += 1;
        RequestId { client: CLIENT, number: self.numbers }
    }

    /// Asks whoever leads.
    pub(super) fn command(&mut self, request: Request) -> Reply {
        let id = self.request_id();
        let leader = self.leader().expect("somebody leads");
        self.ask(leader, id, request).expect("the leader answers")
    }

    pub(super) fn submit(&mut self, spec: AppSpec) -> AppId {
        match self.command(Request::Submit(Box::new(spec))) {
            Reply::Submitted { app } => app,
            reply => panic!("{reply:?}"),
        }
    }

    /// Everything of an app that runs, in order.
    pub(super) fn running(&self, app: AppId) -> Vec<ProcessId> {
        let children = self.children.keys().map(|(_, process)| *process);
        let mut children: Vec<_> = children.filter(|process| process.app == app).collect();
        children.sort_unstable();
        children
    }

    pub(super) fn executors(&self, app: AppId) -> Vec<u32> {
        let executors = self.running(app).into_iter().filter_map(|process| match process.role {
            Role::Executor(executor) => Some(executor.0),
            Role::AppMaster(_) => None,
        });
        executors.collect()
    }

    /// The app master of the last granted term.
    pub(super) fn app_master(&mut self, app: AppId) -> &mut Child {
        let role = Role::AppMaster(self.app(app).term());
        let process = ProcessId { app, role };
        let worker = self.worker_of(process).expect("the app master runs");
        self.children.get_mut(&(worker, process)).expect("the app master runs")
    }

    /// True if all of an app listens and its app master knows it.
    pub(super) fn is_complete(&mut self, app: AppId) -> bool {
        let wanted = self.app(app).spec().executors as usize;
        let role = Role::AppMaster(self.app(app).term());
        if self.worker_of(ProcessId { app, role }).is_none() {
            return false;
        }
        let Some(heard) = &self.app_master(app).heard else { return false };
        let listens = |grant: &&Grant| matches!(grant.state, ProcessState::Running { .. });
        let granted = heard.executors.values().filter(listens).count();
        granted == wanted && heard.waiting.is_empty() && self.executors(app).len() == wanted
    }
}

impl Child {
    pub(super) fn report(&mut self) -> &mut AppReport {
        &mut self.report
    }

    pub(super) fn order(&self) -> &LaunchOrder {
        &self.order
    }
}

pub(super) fn spec(name: &str, executors: u32) -> AppSpec {
    AppSpec {
        name: name.to_string(),
        binary: b"binary".to_vec(),
        executors,
        executor: Resources { slots: 1, memory: 1 << 20 },
        strategy: "spread".to_string(),
        ..AppSpec::default()
    }
}

pub(super) fn executor(app: AppId, executor: u32) -> ProcessId {
    ProcessId { app, role: Role::Executor(ExecutorId(executor)) }
}

pub(super) fn app_master(app: AppId, term: u64) -> ProcessId {
    ProcessId { app, role: Role::AppMaster(AppTerm(term)) }
}
