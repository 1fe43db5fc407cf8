//! Processes of a cluster with wires, a store and disks between them that never fail, and a clock
//! that goes on when nothing else is to be done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use gear_core::app::{AppPlan, Placement, ProcessorPlan};
use gear_core::checkpoint::Identity;
use gear_core::control::{Address, LaunchOrder, ProcessId, Reply, Request, Resources, Role};
use gear_core::dag::Kind;
use gear_core::effect::{IoRequest, StoreReply, StoreRequest};
use gear_core::executor::{Activity, Program};
use gear_core::flow::push::Guard;
use gear_core::host::process::{
    ACCEPTED, Answer, Command, DiskReply, DiskRequest, Process, ProcessEffect, ProcessInput,
};
use gear_core::host::{
    AppConfig, AppProcess, ExecutorConfig, ExecutorProcess, NoFaults, NodeConfig, NodeProcess,
};
use gear_core::id::{ConnectionId, Incarnation, NodeId, RequestId};
use gear_core::master::quorum::Formation;
use gear_core::task::{QuarantinePolicy, TaskOptions, World};
use gear_core::time::{Duration, Time, WallTime};

use crate::job::{NoFiles, Numbers, job};

const CLUSTER: u64 = 4;

struct Trusting;

impl Guard for Trusting {
    fn run(&mut self, call: &mut dyn FnMut()) -> Result<(), String> {
        call();
        Ok(())
    }
}

struct Host {
    process: Box<dyn Process>,
    address: Address,
    /// What it does for an app, and the node that launched it.
    child: Option<(ProcessId, u64)>,
    /// Its app's folder in the store.
    folder: String,
    inbox: VecDeque<ProcessInput>,
    /// When it is to have a turn.
    due: Option<Time>,
    wires: BTreeMap<ConnectionId, (u64, ConnectionId)>,
    accepted: u64,
}

/// Everything that runs.
pub(crate) struct Machine {
    pub(crate) now: Time,
    numbers: Numbers,
    hosts: BTreeMap<u64, Host>,
    born: u64,
    disks: BTreeMap<u64, BTreeMap<String, Vec<u8>>>,
    pub(crate) store: BTreeMap<String, Vec<u8>>,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    answers: BTreeMap<u64, Answer>,
    commands: u64,
    pub(crate) notices: Vec<String>,
}

impl Machine {
    /// Node 1 has the master; each has a worker.
    pub(crate) fn new(nodes: u64, numbers: Numbers) -> Self {
        Self::with_master_at("node-1", nodes, numbers)
    }

    /// The nodes are told that the master is there.
    pub(crate) fn with_master_at(told: &str, nodes: u64, numbers: Numbers) -> Self {
        let mut machine = Self {
            now: Time(1_000_000_000),
            numbers,
            hosts: BTreeMap::new(),
            born: 100,
            disks: BTreeMap::new(),
            store: BTreeMap::new(),
            files: BTreeMap::new(),
            answers: BTreeMap::new(),
            commands: 0,
            notices: Vec::new(),
        };
        for node in 1..=nodes {
            let address = Address(format!("node-{node}"));
            let process = NodeProcess::<NoFaults>::new(NodeConfig {
                cluster: CLUSTER,
                node: NodeId(node),
                incarnation: Incarnation(node),
                address: address.clone(),
                masters: [(NodeId(1), Address(told.into()))].into(),
                formation: (node == 1).then_some(Formation::First),
                seed: node,
                capacity: Resources { slots: 8, memory: 1 << 30 },
                labels: BTreeMap::new(),
            });
            machine.add(node, Box::new(process), address, None, String::new());
        }
        machine
    }

    fn add(
        &mut self,
        id: u64,
        process: Box<dyn Process>,
        address: Address,
        child: Option<(ProcessId, u64)>,
        folder: String,
    ) {
        let inbox = VecDeque::from([ProcessInput::Start]);
        let (due, wires, accepted) = (None, BTreeMap::new(), 0);
        let host = Host { process, address, child, folder, inbox, due, wires, accepted };
        self.hosts.insert(id, host);
    }

    fn spawn(&mut self, parent: u64, order: LaunchOrder) {
        self.born += 1;
        let (id, incarnation) = (self.born, Incarnation(self.born));
        let (process, folder) = (order.process, order.spec.state.clone());
        let job = job(self.numbers);
        let hosted: Box<dyn Process> = match process.role {
            Role::AppMaster(_) => {
                let identity = Identity { app: "app".into(), digest: 1, arguments: String::new() };
                let mut plan = AppPlan::new(identity, 0);
                plan.epoch_interval = Some(Duration::from_millis(100));
                plan.key_groups = 16;
                for (id, processor) in job.graph.with_ids() {
                    let source = job.sources.iter().find(|source| source.processor == id);
                    let partitions = source.map(|source| source.connector.partitions(&mut NoFiles));
                    plan.processors.push(ProcessorPlan {
                        id,
                        uid: processor.uid.clone(),
                        parallelism: processor.parallelism,
                        source: processor.kind == Kind::Source,
                        sink: processor.kind == Kind::Sink,
                        partitions: partitions.map(|it| it.expect("known")).unwrap_or_default(),
                        discovers: false,
                    });
                }
                let channels = job.graph.joined_tasks().collect();
                let wanted = order.spec.executors;
                plan.placement = Placement::Executors { wanted, channels };
                let masters = [(NodeId(1), Address("node-1".into()))].into();
                let config = AppConfig { cluster: CLUSTER, order, incarnation, masters, plan };
                Box::new(AppProcess::<NoFaults>::new(config))
            }
            Role::Executor(_) => {
                let options = TaskOptions { align: true, quarantine: QuarantinePolicy::Keep };
                let program = Program { graph: job.graph, factories: job.factories, options };
                Box::new(ExecutorProcess::<NoFaults>::new(ExecutorConfig {
                    cluster: CLUSTER,
                    order,
                    incarnation,
                    program: Arc::new(program),
                    memory: 0,
                }))
            }
        };
        let address = Address(format!("child-{id}"));
        self.add(id, hosted, address.clone(), Some((process, parent)), folder);
        self.hear(parent, ProcessInput::ChildRunning { process, address });
    }

    fn hear(&mut self, id: u64, input: ProcessInput) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.inbox.push_back(input);
        }
    }

    fn die(&mut self, id: u64, reason: String) {
        let Some(host) = self.hosts.remove(&id) else { return };
        for (peer, connection) in host.wires.into_values() {
            self.unplug(peer, connection);
        }
        let (process, parent) = host.child.expect("a node does not end");
        self.hear(parent, ProcessInput::ChildExited { process, reason });
    }

    fn unplug(&mut self, id: u64, connection: ConnectionId) {
        let host = self.hosts.get_mut(&id);
        if host.is_some_and(|host| host.wires.remove(&connection).is_some()) {
            self.hear(id, ProcessInput::Closed { connection });
        }
    }

    /// Does one thing.
    fn step(&mut self) {
        if let Some((&id, host)) = self.hosts.iter_mut().find(|(_, host)| !host.inbox.is_empty()) {
            let input = host.inbox.pop_front().expect("it was just seen");
            self.handle(id, input);
            return;
        }
        let deadline =
            |host: &Host| [host.due, host.process.next_timeout()].into_iter().flatten().min();
        let next = self.hosts.iter().filter_map(|(id, host)| Some((deadline(host)?, *id))).min();
        let (at, id) = next.expect("somebody always has a heartbeat to send");
        self.now = self.now.max(at);
        let host = &self.hosts[&id];
        if host.process.next_timeout().is_some_and(|at| at <= self.now) {
            self.handle(id, ProcessInput::Timeout);
        } else {
            self.turn(id);
        }
    }

    fn handle(&mut self, id: u64, input: ProcessInput) {
        let mut out = Vec::new();
        let (files, guard) = (&mut NoFiles, &mut Trusting);
        let mut world = World { now: self.now, wall: WallTime(0), files, guard };
        let host = self.hosts.get_mut(&id).expect("who hears lives");
        host.process.handle(&mut world, input, &mut out);
        self.perform(id, out);
        self.turn(id);
    }

    fn turn(&mut self, id: u64) {
        let mut out = Vec::new();
        let (files, guard) = (&mut NoFiles, &mut Trusting);
        let mut world = World { now: self.now, wall: WallTime(0), files, guard };
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.due = match host.process.turn(&mut world, &mut out) {
            Activity::Busy => Some(self.now),
            Activity::Idle(until) => until,
        };
        self.perform(id, out);
    }

    fn deliver(&mut self, id: u64, connection: ConnectionId, bytes: Vec<u8>) {
        if let Some(&(peer, connection)) = self.hosts[&id].wires.get(&connection) {
            self.hear(peer, ProcessInput::Received { connection, bytes });
        }
    }

    fn perform(&mut self, id: u64, effects: Vec<ProcessEffect>) {
        for effect in effects {
            if !self.hosts.contains_key(&id) {
                return;
            }
            match effect {
                ProcessEffect::Dial { connection, to } => self.dial(id, connection, &to),
                ProcessEffect::Write { connection, bytes } => self.deliver(id, connection, bytes),
                ProcessEffect::WriteFrame { connection, frame } => {
                    let mut bytes = Vec::new();
                    frame.append_to(&mut bytes);
                    self.deliver(id, connection, bytes);
                }
                ProcessEffect::Close { connection } => {
                    let host = self.hosts.get_mut(&id).expect("it lives");
                    if let Some((peer, other)) = host.wires.remove(&connection) {
                        self.unplug(peer, other);
                    }
                }
                ProcessEffect::Store { token, request } => {
                    let folder = self.hosts[&id].folder.clone();
                    let reply = self.stored(&folder, request);
                    self.hear(id, ProcessInput::Stored { token, reply });
                }
                ProcessEffect::Io { task, token, request } => {
                    self.write(request);
                    self.hear(id, ProcessInput::IoDone { task, token, result: Ok(Vec::new()) });
                }
                ProcessEffect::Disk { token, request } => {
                    let reply = self.disk(id, request);
                    self.hear(id, ProcessInput::Disk { token, reply });
                }
                ProcessEffect::Spawn { order } => self.spawn(id, order),
                ProcessEffect::Kill { process } => {
                    if let Some((_, child)) = self.child(process) {
                        self.die(child, "killed".into());
                    }
                }
                ProcessEffect::Answer { id, answer } => {
                    let before = self.answers.insert(id, answer);
                    assert!(before.is_none(), "a command is answered once");
                }
                ProcessEffect::Notice(notice) => self.notices.push(notice.text),
                ProcessEffect::Exit { reason } => self.die(id, reason),
            }
        }
    }

    fn dial(&mut self, id: u64, connection: ConnectionId, to: &Address) {
        let found = self.hosts.iter_mut().find(|(_, host)| host.address == *to);
        let Some((&peer, host)) = found else {
            self.hear(id, ProcessInput::DialFailed { connection, refused: true });
            return;
        };
        let other = ConnectionId(ACCEPTED | host.accepted);
        host.accepted += 1;
        host.wires.insert(other, (id, connection));
        self.hear(peer, ProcessInput::Accepted { connection: other });
        let host = self.hosts.get_mut(&id).expect("it dials");
        host.wires.insert(connection, (peer, other));
        self.hear(id, ProcessInput::Dialed { connection });
    }

    /// Names are below the app's folder, unless they are below the root.
    fn stored(&mut self, folder: &str, request: StoreRequest) -> StoreReply {
        let path = |name: &str| match name.strip_prefix('/') {
            Some(name) => name.to_owned(),
            None => format!("{folder}/{name}"),
        };
        match request {
            StoreRequest::Create { name, .. } if self.store.contains_key(&path(&name)) => {
                StoreReply::Exists
            }
            StoreRequest::Create { name, bytes } | StoreRequest::Put { name, bytes } => {
                assert!(!name.starts_with('/'), "{name} is another's");
                self.store.insert(path(&name), bytes.to_vec());
                StoreReply::Done
            }
            StoreRequest::Get { name } => match self.store.get(&path(&name)) {
                Some(bytes) => StoreReply::Bytes(bytes.clone()),
                None => StoreReply::Missing,
            },
            StoreRequest::List { prefix } => {
                let root = path("");
                let names = self.store.keys().filter_map(|name| name.strip_prefix(&root));
                let names = names.filter(|name| name.starts_with(&prefix));
                StoreReply::Names(names.map(str::to_owned).collect())
            }
            StoreRequest::Delete { name } => {
                assert!(!name.starts_with('/'), "{name} is another's");
                self.store.remove(&path(&name));
                StoreReply::Done
            }
        }
    }

    fn write(&mut self, request: IoRequest) {
        match request {
            IoRequest::Write { path, bytes, .. } => {
                self.files.insert(path, bytes);
            }
            IoRequest::Publish { from, to } => match self.files.remove(&from) {
                Some(bytes) => {
                    self.files.insert(to, bytes);
                }
                None => assert!(self.files.contains_key(&to), "{from} is to be published"),
            },
            IoRequest::Sync { .. } => {}
            other => panic!("the sink of this job does not ask for {other:?}"),
        }
    }

    fn disk(&mut self, id: u64, request: DiskRequest) -> DiskReply {
        let disk = self.disks.entry(id).or_default();
        match request {
            DiskRequest::Load => {
                let entries = disk.iter();
                let entries = entries.map(|(name, bytes)| (name.clone(), bytes.clone()));
                DiskReply::Loaded { entries: entries.collect() }
            }
            DiskRequest::Write { entries } => {
                for (name, bytes) in entries {
                    match bytes {
                        Some(bytes) => drop(disk.insert(name, bytes)),
                        None => drop(disk.remove(&name)),
                    }
                }
                DiskReply::Written
            }
        }
    }

    /// The node that runs a process, and the process's number.
    pub(crate) fn child(&self, process: ProcessId) -> Option<(u64, u64)> {
        let mut hosts = self.hosts.iter();
        hosts.find_map(|(id, host)| {
            let (its, parent) = host.child?;
            (its == process).then_some((parent, *id))
        })
    }

    /// The children that run, by node.
    pub(crate) fn children(&self) -> Vec<(u64, ProcessId)> {
        let children = self.hosts.values().filter_map(|host| host.child);
        children.map(|(process, parent)| (parent, process)).collect()
    }

    /// Runs until something is so, for at most a minute.
    pub(crate) fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let end = self.now + Duration::from_secs(60);
        while !is_so(self) {
            assert!(self.now < end, "not {what}: {:?}", self.notices);
            self.step();
        }
    }

    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        self.until("the time has passed", |it| it.now >= end);
    }

    /// Gives a process a command, and waits for what comes of it.
    pub(crate) fn command(&mut self, id: u64, command: Command) -> Answer {
        self.commands += 1;
        let number = self.commands;
        self.hear(id, ProcessInput::Command { id: number, command });
        self.until("an answer", |it| it.answers.contains_key(&number));
        self.answers.remove(&number).expect("it was just seen")
    }

    /// Tells a node where another one listens.
    pub(crate) fn known(&mut self, id: u64, node: u64) {
        let (node, address) = (NodeId(node), Address(format!("node-{node}")));
        self.hear(id, ProcessInput::Known { node, address });
    }

    /// Has a node ask the masters.
    pub(crate) fn request(&mut self, node: u64, request: Request) -> Reply {
        let id = RequestId { client: 9, number: self.commands };
        match self.command(node, Command::Request { id, request }) {
            Answer::Reply(reply) => reply,
            answer => panic!("{answer:?}"),
        }
    }
}
