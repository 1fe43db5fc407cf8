//! The processes of a cluster: launched, driven, paused and killed.

use std::collections::BTreeMap;

use gear_core::api::Files;
use gear_core::control::{Address, LaunchOrder, ProcessId, Role};
use gear_core::executor::Activity;
use gear_core::host::process::{DiskReply, DiskRequest, ProcessEffect, ProcessInput};
use gear_core::id::{AppId, ConnectionId, Incarnation, NodeId, TaskId};
use gear_core::task;
use gear_core::time::Time;

use super::clock::{Clock, TRUE_RATE};
use super::conn::Side;
use super::fault::FaultKind;
use super::services::{NoFiles, Paced};
use super::setup::Setup;
use super::subject::{ChildStart, Look, NodeStart, Subject};
use super::world::{Event, World};
use crate::direct::{Catch, catch};

/// A process, running or gone.
pub(crate) struct Hosted {
    /// Its machine.
    pub(crate) machine: usize,
    /// What it does for an app; none if it is a node's or a client's.
    pub(crate) child: Option<Child>,
    /// Where it listens.
    pub(crate) address: Address,
    /// The process; none before its launch, while it is at work, and once it is gone.
    pub(crate) subject: Option<Box<dyn Subject>>,
    /// It runs.
    pub(crate) alive: bool,
    /// What was seen of it last.
    pub(crate) look: Look,
    /// It stands still until then.
    pub(crate) paused_until: Time,
    /// What it will hear when it goes on.
    pub(crate) backlog: Vec<Event>,
    /// It hears what it has missed, and does not know all of its connections yet.
    pub(crate) catches_up: bool,
    /// Its connections: the number of each, and its side of it.
    pub(crate) conns: BTreeMap<ConnectionId, (usize, Side)>,
    /// Connections that it has accepted.
    pub(crate) accepted: u64,
    /// When its next turn is, if one is settled.
    turn: Option<Time>,
    /// When its deadline comes, if one is settled.
    timeout: Option<Time>,
    /// Deadlines that came without time passing.
    spins: (Time, u32),
    /// When the last write to the machine's disk is answered.
    pub(crate) disk_at: Time,
    /// When a task's last request to the file system is performed, and answered.
    pub(crate) io_at: BTreeMap<TaskId, (Time, Time)>,
    /// Until when requests of a task to an HDFS wait.
    pub(crate) held: BTreeMap<TaskId, Time>,
    /// What it has on its way to the commit log.
    pub(crate) log: LogState,
    /// Of a dead process: whether what a task has asked the file system for is still performed.
    pub(crate) zombie_io: BTreeMap<TaskId, bool>,
    /// It dies after so many effects, or takes its machine with it.
    pub(crate) trap: Option<(u64, Doom)>,
}

/// What a child is to its worker.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    pub(crate) order: LaunchOrder,
    /// The node's process.
    pub(crate) parent: usize,
    /// It was told to end before it was there.
    pub(crate) cancelled: bool,
}

/// What an app master has on its way to the commit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogState {
    /// Nothing.
    Quiet,
    /// A record that has not arrived.
    Asked,
    /// A record that has arrived, of which it has not heard.
    Appended,
}

/// How a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doom {
    /// Alone, and its children with it; the machine goes on.
    Kill,
    /// With its machine, for so many nanoseconds.
    Power(u64),
    /// With the machines of all masters, for so many nanoseconds.
    Masters(u64),
}

/// Deadlines in a row that may come at one moment.
const SPINS_MAX: u32 = 10_000;
/// A child outlives its node's process by this at most, in nanoseconds.
const ORPHAN: u64 = 40_000_000;

impl Hosted {
    /// True if what it would hear now has to wait.
    pub(crate) fn defers(&self, now: Time) -> bool {
        self.alive && self.paused_until > now
    }

    /// What it does for its app.
    pub(crate) fn role(&self) -> Option<Role> {
        self.child.as_ref().map(|child| child.order.process.role)
    }

    /// Its app.
    pub(crate) fn app(&self) -> AppId {
        self.child.as_ref().map_or(AppId(0), |child| child.order.process.app)
    }
}

impl World<'_> {
    /// The id of a machine's node.
    pub(crate) const fn node_id(machine: usize) -> NodeId {
        NodeId(machine as u64 + 1)
    }

    /// Where a machine's node listens.
    pub(crate) fn node_address(machine: usize) -> Address {
        Address(format!("m{machine}:0"))
    }

    /// The nodes of some machines, and where they listen.
    fn addresses(machines: usize) -> BTreeMap<NodeId, Address> {
        let nodes = 0..machines;
        nodes.map(|machine| (Self::node_id(machine), Self::node_address(machine))).collect()
    }

    /// Those who vote before anybody changes it.
    pub(crate) fn founders(setup: &Setup) -> BTreeMap<NodeId, Address> {
        Self::addresses(setup.masters)
    }

    /// Those who vote before anybody changes it.
    pub(crate) fn masters(&self) -> BTreeMap<NodeId, Address> {
        Self::founders(self.setup)
    }

    /// Every node.
    pub(crate) fn nodes(&self) -> BTreeMap<NodeId, Address> {
        Self::addresses(self.machines.len())
    }

    fn incarnation(&self) -> Incarnation {
        Incarnation(self.processes.len() as u64 + 1)
    }

    pub(crate) fn add(&mut self, machine: usize, address: Address, child: Option<Child>) -> usize {
        self.processes.push(Hosted {
            machine,
            child,
            address,
            subject: None,
            alive: false,
            look: Look::Nothing,
            paused_until: Time::ZERO,
            backlog: Vec::new(),
            catches_up: false,
            conns: BTreeMap::new(),
            accepted: 0,
            turn: None,
            timeout: None,
            spins: (Time::ZERO, 0),
            disk_at: Time::ZERO,
            io_at: BTreeMap::new(),
            held: BTreeMap::new(),
            log: LogState::Quiet,
            zombie_io: BTreeMap::new(),
            trap: None,
        });
        self.processes.len() - 1
    }

    /// A process begins.
    pub(crate) fn begin(&mut self, process: usize, subject: Box<dyn Subject>) {
        let hosted = &mut self.processes[process];
        hosted.subject = Some(subject);
        hosted.alive = true;
        let address = hosted.address.clone();
        self.addresses.listen(address, Some(process));
        let machine = self.processes[process].machine as u64;
        self.trace.note(self.now, "a process starts", &[process as u64, machine]);
        self.hear(process, ProcessInput::Start);
    }

    /// A machine gets its power, or its node's process is started again.
    pub(crate) fn boot(&mut self, machine: usize, life: u64) {
        let there = &mut self.machines[machine];
        if there.node.is_some() || there.dead || there.lives != life {
            return;
        }
        there.lives += 1;
        let formed = there.disk.used;
        if !there.up {
            there.up = true;
            let drift = self.setup.rates.drift;
            let random = &mut self.random.other;
            let rate = TRUE_RATE - drift + random.below(2 * drift + 1);
            // Nobody may take the clock of one boot for that of another.
            there.clock = Clock::new(self.now, random.below(1_000_000_000_000), rate);
            if drift > 0 {
                self.count(FaultKind::Drift);
            }
            self.forget_connections(machine);
        }
        let masters = self.machines[machine].masters.clone();
        let incarnation = self.incarnation();
        let subject = self.assembly.node(&NodeStart {
            node: Self::node_id(machine),
            cluster: CLUSTER,
            incarnation,
            seed: crate::random::mix(self.setup.seed ^ incarnation.0),
            address: Self::node_address(machine),
            masters: &masters,
            capacity: self.setup.machines[machine],
            formed,
            joins: self.setup.faults.has(FaultKind::ChangeVoters),
        });
        let process = self.add(machine, Self::node_address(machine), None);
        self.machines[machine].node = Some(process);
        self.begin(process, subject);
    }

    /// What a process's clock shows.
    pub(crate) fn local(&self, process: usize) -> Time {
        let machine = self.machines.get(self.processes[process].machine);
        machine.map_or(self.now, |machine| machine.clock.local(self.now))
    }

    /// A process hears something; later, if it stands still.
    pub(crate) fn hear(&mut self, process: usize, input: ProcessInput) {
        let hosted = &mut self.processes[process];
        if !hosted.alive {
            return;
        }
        if hosted.defers(self.now) {
            hosted.backlog.push(Event::Hear { process, input });
            return;
        }
        if matches!(input, ProcessInput::Stored { .. }) {
            hosted.log = LogState::Quiet;
        }
        self.trace.input(self.now, process, &input);
        self.step(process, |subject, world, fx| {
            subject.handle(world, input, fx);
            Activity::Idle(None)
        });
        if self.processes[process].alive && self.works(process) {
            self.settle_turn(process, None);
        }
    }

    pub(crate) fn works(&self, process: usize) -> bool {
        matches!(self.processes[process].role(), Some(Role::Executor(_)))
    }

    /// Lets a process work, and performs what it wants.
    fn step<C>(&mut self, process: usize, call: C) -> Activity
    where
        C: FnOnce(&mut dyn Subject, &mut task::World<'_>, &mut Vec<ProcessEffect>) -> Activity,
    {
        self.events += 1;
        let mut effects = std::mem::take(&mut self.effects);
        let hosted = &mut self.processes[process];
        let mut subject = hosted.subject.take().expect("a process that runs is there");
        let (app, machine) = (hosted.app(), hosted.machine);
        let clock = self.machines.get(machine).map_or(TRUE_CLOCK, |machine| machine.clock);
        let (now, wall) = (clock.local(self.now), clock.wall(self.now));
        let mut guard = Catch;
        let mut nothing = NoFiles;
        let records = self.work.pace().records(self.events, self.setup.slow.turn);
        let records = records.min(self.work.records_per_turn());
        let mut paced = None;
        let home = self.home(app);
        let files: &mut dyn Files = match self.services.get_mut(&home) {
            Some(services) => paced.insert(Paced { disk: &mut services.disk, records }),
            None => &mut nothing,
        };
        let mut world = task::World { now, wall, files, guard: &mut guard };
        let result = catch(|| call(subject.as_mut(), &mut world, &mut effects));
        let look = subject.look(now);
        self.processes[process].subject = Some(subject);
        let activity = match result {
            Ok(activity) => activity,
            Err(panic) => {
                self.wrong(format!("process {process} panicked: {panic}"));
                return Activity::Idle(None);
            }
        };
        self.watched(process, look);
        self.perform(process, &mut effects);
        self.effects = effects;
        if self.processes[process].alive {
            self.waits(process);
            self.settle_timeout(process);
        }
        activity
    }

    /// A turn comes.
    pub(crate) fn turn(&mut self, process: usize) {
        let hosted = &mut self.processes[process];
        if !hosted.alive || hosted.turn.is_none_or(|due| due > self.now) {
            return;
        }
        hosted.turn = None;
        if hosted.defers(self.now) {
            hosted.turn = Some(hosted.paused_until);
            let at = hosted.paused_until;
            self.push(at, Event::Turn { process });
            return;
        }
        self.trace.turn(self.now, process);
        let activity = self.step(process, |subject, world, fx| subject.turn(world, fx));
        if !self.processes[process].alive {
            return;
        }
        match activity {
            Activity::Busy => self.settle_turn(process, None),
            Activity::Idle(Some(until)) => self.settle_turn(process, Some(until)),
            Activity::Idle(None) => {}
        }
    }

    fn settle_turn(&mut self, process: usize, until: Option<Time>) {
        let soon = Time(self.now.0 + 1 + self.random.other.below(self.setup.slow.turn));
        let clock = self.machines[self.processes[process].machine].clock;
        let at = until.map_or(soon, |until| clock.global(until).max(soon));
        let settled = &mut self.processes[process].turn;
        if settled.is_none_or(|settled| at < settled) {
            *settled = Some(at);
            self.push(at, Event::Turn { process });
        }
    }

    fn settle_timeout(&mut self, process: usize) {
        let hosted = &mut self.processes[process];
        let Some(subject) = &hosted.subject else { return };
        let Some(due) = subject.next_timeout() else { return };
        let clock = self.machines.get(hosted.machine).map_or(TRUE_CLOCK, |machine| machine.clock);
        let at = clock.global(due).max(self.now);
        if hosted.timeout.is_none_or(|settled| at < settled) {
            hosted.timeout = Some(at);
            self.push(at, Event::Timeout { process });
        }
    }

    /// A deadline comes, if it is still one.
    pub(crate) fn timeout(&mut self, process: usize) {
        let hosted = &mut self.processes[process];
        if !hosted.alive || hosted.timeout.is_none_or(|settled| settled > self.now) {
            return;
        }
        hosted.timeout = None;
        if hosted.defers(self.now) {
            let at = hosted.paused_until;
            hosted.timeout = Some(at);
            self.push(at, Event::Timeout { process });
            return;
        }
        let clock = self.machines.get(hosted.machine).map_or(TRUE_CLOCK, |machine| machine.clock);
        let subject = hosted.subject.as_ref().expect("a process that runs is there");
        let due = subject.next_timeout().is_some_and(|due| clock.global(due) <= self.now);
        if !due {
            self.settle_timeout(process);
            return;
        }
        let spins = if hosted.spins.0 == self.now { hosted.spins.1 + 1 } else { 0 };
        hosted.spins = (self.now, spins);
        if spins > SPINS_MAX {
            self.wrong(format!("process {process}: its deadline comes again and again"));
            return;
        }
        self.hear(process, ProcessInput::Timeout);
    }

    /// A paused process goes on, and hears all it has missed.
    pub(crate) fn resume(&mut self, process: usize) {
        if self.processes[process].defers(self.now) {
            return;
        }
        let missed = std::mem::take(&mut self.processes[process].backlog);
        self.processes[process].catches_up = true;
        for event in missed {
            self.again(event);
        }
        self.processes[process].catches_up = false;
    }

    /// Everything that stands still goes on at once.
    pub(crate) fn resume_all(&mut self) {
        for process in 0..self.processes.len() {
            if self.processes[process].defers(self.now) {
                let hosted = &mut self.processes[process];
                hosted.paused_until = Time::ZERO;
                (hosted.timeout, hosted.turn) = (None, None);
                self.resume(process);
                if self.processes[process].alive {
                    self.settle_timeout(process);
                    if self.works(process) {
                        self.settle_turn(process, None);
                    }
                }
            }
        }
    }

    /// Performs effects one after the other; the process may die in every gap.
    fn perform(&mut self, process: usize, effects: &mut Vec<ProcessEffect>) {
        for effect in effects.drain(..) {
            if !self.processes[process].alive {
                break;
            }
            self.trace.effect(self.now, process, &effect);
            match effect {
                ProcessEffect::Dial { connection, to } => self.dial(process, connection, to),
                ProcessEffect::Write { connection, bytes } => {
                    self.write(process, connection, bytes);
                }
                ProcessEffect::WriteFrame { connection, frame } => {
                    let mut bytes = Vec::new();
                    frame.append_to(&mut bytes);
                    self.write(process, connection, bytes);
                }
                ProcessEffect::Close { connection } => self.close(process, connection),
                ProcessEffect::Store { token, request } => {
                    self.ask_store(process, token, request);
                }
                ProcessEffect::Io { task, token, request } => {
                    self.ask_io(process, (task, token), request);
                }
                ProcessEffect::Disk { token, request } => self.ask_disk(process, token, request),
                ProcessEffect::Spawn { order } => self.spawn(process, order),
                ProcessEffect::Kill { process: child } => self.kill_child(process, child),
                ProcessEffect::Notice(notice) => self.noticed(process, &notice),
                ProcessEffect::Answer { id, answer } => self.answered(id, answer),
                ProcessEffect::Exit { reason } => self.die(process, &reason, Doom::Kill),
            }
            self.spring(process);
        }
    }

    /// Counts an effect of a process that is doomed.
    fn spring(&mut self, process: usize) {
        let hosted = &mut self.processes[process];
        let Some((left, doom)) = &mut hosted.trap else { return };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return;
        }
        let doom = *doom;
        hosted.trap = None;
        self.seen("a process died between two effects of one step");
        self.doom(process, doom);
    }

    /// A process dies, alone or with its machine.
    pub(crate) fn doom(&mut self, process: usize, doom: Doom) {
        match doom {
            Doom::Kill => self.die(process, "it was killed", Doom::Kill),
            Doom::Power(nanos) => self.power_off(self.processes[process].machine, Some(nanos)),
            Doom::Masters(nanos) => {
                self.voting().into_iter().for_each(|it| self.power_off(it, Some(nanos)));
            }
        }
    }

    fn ask_disk(&mut self, process: usize, token: gear_core::id::Token, request: DiskRequest) {
        let hosted = &self.processes[process];
        let machine = &mut self.machines[hosted.machine];
        let slowness = if machine.slow_disk_until > self.now { 50 } else { 1 };
        let nanos = 1 + self.random.disk.below(self.setup.slow.disk) * slowness;
        let at = Time(self.now.0 + nanos).max(hosted.disk_at);
        self.processes[process].disk_at = at;
        match request {
            DiskRequest::Load => {
                let reply = machine.disk.load();
                self.push(at, Event::Hear { process, input: ProcessInput::Disk { token, reply } });
            }
            DiskRequest::Write { entries } => {
                machine.disk.submit(token, entries);
                self.push(at, Event::Disk { process, token });
            }
        }
    }

    /// A machine's disk answers its oldest write.
    pub(crate) fn disk_answers(&mut self, process: usize, token: gear_core::id::Token) {
        if !self.processes[process].alive {
            return;
        }
        let machine = &mut self.machines[self.processes[process].machine];
        let full = machine.full_until > self.now;
        let reply = machine.disk.settle(token, full, &mut self.random.disk);
        let room_at = machine.full_until;
        if full {
            self.count(FaultKind::FillDisk);
            self.stopwatch.disturb(room_at);
        }
        if matches!(reply, DiskReply::Failed { .. }) {
            let nanos = 1 + self.random.other.below(OPERATOR);
            self.start_again(process, Time(room_at.max(self.now).0 + nanos));
        }
        self.hear(process, ProcessInput::Disk { token, reply });
    }

    /// The operator starts a node again whose disk has failed.
    pub(crate) fn start_again(&mut self, process: usize, at: Time) {
        let reason = "its operator starts it again".into();
        self.push(at, Event::Die { process, reason });
    }

    fn spawn(&mut self, parent: usize, order: LaunchOrder) {
        let machine = self.processes[parent].machine;
        // Ports come again, so that an old address may lead to somebody else.
        let port = 1 + self.machines[machine].ports % PORTS;
        self.machines[machine].ports += 1;
        let address = Address(format!("m{machine}:{port}"));
        let child = Child { order, parent, cancelled: false };
        let process = self.add(machine, address, Some(child));
        let mut nanos = 1 + self.random.other.below(self.setup.slow.spawn);
        if self.random.other.permille(self.setup.rates.spawn_slow) {
            self.count(FaultKind::SpawnSlow);
            nanos *= 10;
            self.stopwatch.disturb(Time(self.now.0 + nanos));
        }
        self.push(Time(self.now.0 + nanos), Event::Spawned { process });
    }

    /// A child is there, or is not.
    pub(crate) fn spawned(&mut self, process: usize) {
        let hosted = &self.processes[process];
        let child = hosted.child.clone().expect("only children are spawned");
        if !self.processes[child.parent].alive {
            return;
        }
        let (machine, address) = (hosted.machine, hosted.address.clone());
        let taken = self.addresses.is_taken(&address);
        let exited = |reason: &str| ProcessInput::ChildExited {
            process: child.order.process,
            reason: reason.into(),
        };
        if child.cancelled {
            self.hear(child.parent, exited("it was told to end"));
            return;
        }
        if taken || (!self.calm && self.random.other.permille(self.setup.rates.spawn_fails)) {
            self.count(FaultKind::SpawnFails);
            self.stopwatch.disturb(self.now);
            self.hear(child.parent, exited("it could not be launched: out of processes"));
            return;
        }
        let masters = self.machines[machine].masters.clone();
        let incarnation = Incarnation(process as u64 + 1_000_000);
        let app = child.order.process.app;
        self.serve(app, &child.order.spec);
        let made = self.assembly.child(&ChildStart {
            order: &child.order,
            node: Self::node_id(machine),
            cluster: CLUSTER,
            incarnation,
            seed: crate::random::mix(self.setup.seed ^ incarnation.0),
            address: address.clone(),
            masters: &masters,
            files: &self.services[&self.home(app)].disk,
        });
        match made {
            Err(reason) => self.hear(child.parent, exited(&reason)),
            Ok(subject) => {
                self.begin(process, subject);
                let input = ProcessInput::ChildRunning { process: child.order.process, address };
                self.hear(child.parent, input);
            }
        }
    }

    fn kill_child(&mut self, parent: usize, id: ProcessId) {
        let is_it = |hosted: &Hosted| {
            hosted
                .child
                .as_ref()
                .is_some_and(|child| child.parent == parent && child.order.process == id)
        };
        let Some(process) = self.processes.iter().rposition(is_it) else { return };
        let nanos = 1 + self.random.other.below(1_000_000);
        if self.processes[process].alive {
            let reason = "it was told to end".into();
            self.push(Time(self.now.0 + nanos), Event::Die { process, reason });
        } else if let Some(child) = &mut self.processes[process].child {
            child.cancelled = true;
        }
    }

    /// A process is gone, and everybody hears of it who can.
    pub(crate) fn die(&mut self, process: usize, reason: &str, doom: Doom) {
        let hosted = &mut self.processes[process];
        if !hosted.alive {
            return;
        }
        hosted.alive = false;
        hosted.subject = None;
        hosted.backlog.clear();
        hosted.trap = None;
        let (machine, address) = (hosted.machine, hosted.address.clone());
        let silent = doom != Doom::Kill;
        self.trace.note(self.now, "a process is gone", &[process as u64, u64::from(silent)]);
        self.trace.write(self.now, || format!("process {process}: {reason}"));
        self.addresses.listen(address, None);
        self.died(process, silent);
        self.drop_connections(process, silent);
        if silent {
            return;
        }
        match self.processes[process].child.clone() {
            Some(child) => {
                let process = child.order.process;
                let input = ProcessInput::ChildExited { process, reason: reason.into() };
                let at = Time(self.now.0 + 1 + self.random.other.below(1_000_000));
                self.push(at, Event::Hear { process: child.parent, input });
            }
            None if machine < self.machines.len() => self.node_died(process, machine),
            None => {}
        }
    }

    /// A node's process is gone: its children follow, and it is started again.
    fn node_died(&mut self, process: usize, machine: usize) {
        self.machines[machine].node = None;
        let lost = self.machines[machine].disk.let_go(&mut self.random.disk);
        if lost > 0 {
            self.seen("a node died with unanswered writes to its disk");
        }
        for child in self.children(process) {
            let at = Time(self.now.0 + 1 + self.random.other.below(ORPHAN));
            let reason = "its worker is gone".into();
            self.push(at, Event::Die { process: child, reason });
        }
        let nanos = ORPHAN + 1 + self.random.other.below(self.setup.slow.restart);
        let life = self.machines[machine].lives;
        self.push(Time(self.now.0 + nanos), Event::Boot { machine, life });
    }

    /// The children of a node's process that run.
    pub(crate) fn children(&self, parent: usize) -> Vec<usize> {
        let is_child = |process: &usize| {
            let hosted = &self.processes[*process];
            hosted.alive && hosted.child.as_ref().is_some_and(|child| child.parent == parent)
        };
        (0..self.processes.len()).filter(is_child).collect()
    }

    /// A machine loses its power; for so long, or until somebody boots it.
    pub(crate) fn power_off(&mut self, machine: usize, nanos: Option<u64>) {
        if !self.machines[machine].up {
            return;
        }
        self.trace.note(self.now, "a machine loses its power", &[machine as u64]);
        self.stopwatch.disturb(self.now);
        for process in 0..self.processes.len() {
            if self.processes[process].machine == machine {
                self.die(process, "its machine lost its power", Doom::Power(0));
            }
        }
        let there = &mut self.machines[machine];
        there.up = false;
        there.node = None;
        if there.disk.let_go(&mut self.random.disk) > 0 {
            self.seen("unanswered writes were lost with the power");
        }
        if let Some(nanos) = nanos {
            let life = self.machines[machine].lives;
            self.push(Time(self.now.0 + nanos), Event::Boot { machine, life });
        }
    }
}

/// The cluster's id.
pub(crate) const CLUSTER: u64 = 0x6765_6172;
/// An operator has seen that a disk has failed within this time, in nanoseconds.
const OPERATOR: u64 = 2_000_000_000;
/// Ports of a machine's children.
const PORTS: u64 = 40;
/// The clock of whoever is on no machine.
const TRUE_CLOCK: Clock = Clock::new(Time::ZERO, 0, TRUE_RATE);
