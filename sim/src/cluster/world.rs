//! The machines of a cluster and the queue of what happens to them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use gear_connectors::model::ModelDisk;
use gear_core::control::Address;
use gear_core::effect::{IoRequest, StoreRequest};
use gear_core::host::process::{ProcessEffect, ProcessInput};
use gear_core::id::{AppId, NodeId, TaskId, Token};
use gear_core::time::{Duration, Time};

use super::clock::{Clock, TRUE_RATE};
use super::conn::{Conn, Side};
use super::disk::NodeDisk;
use super::fault::FaultKind;
use super::hosted::{Doom, Hosted};
use super::network::Links;
use super::operator::Operator;
use super::services::AppServices;
use super::setup::Setup;
use super::subject::{Assembly, Work};
use crate::oracle::orders::Orders;
use crate::oracle::watch::Watch;
use crate::random::Random;
use crate::stopwatch::Stopwatch;
use crate::trace::Trace;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A machine gets its power, or its node is started again.
    Boot { machine: usize, life: u64 },
    /// A process hears something.
    Hear { process: usize, input: ProcessInput },
    /// An executor takes its turn.
    Turn { process: usize },
    /// A process's deadline comes.
    Timeout { process: usize },
    /// A paused process goes on.
    Resume { process: usize },
    /// A dial reaches the other machine.
    Syn { conn: usize },
    /// Its answer comes back.
    SynAck { conn: usize },
    /// Its refusal comes back.
    Refused { conn: usize },
    /// What one side has sent arrives at the other.
    Arrive { conn: usize, side: Side, number: u64 },
    /// A side hears that its connection is over; `remote` if the other machine says so.
    Reset { conn: usize, side: Side, remote: bool },
    /// A request reaches the checkpoint store.
    Store { process: usize, app: AppId, token: Token, request: StoreRequest },
    /// The connectors' file system performs a request; the answer comes at the time given.
    Io { process: usize, app: AppId, task: TaskId, token: Token, request: IoRequest, answer: Time },
    /// A machine's disk answers the oldest write.
    Disk { process: usize, token: Token },
    /// A child has been launched, or was not.
    Spawned { process: usize },
    /// A process dies.
    Die { process: usize, reason: String },
    /// The so-manieth planned fault happens.
    Fault { place: usize },
    /// Tasks and channels are looked at.
    Inspect,
    /// The operator looks after an order.
    Operate { number: u64 },
    /// So many thousandths of the input are there.
    Feed { permille: u64 },
    /// A transaction in the Kafka of an app has been open for long.
    Expire { home: AppId, id: String, number: u64 },
    /// An outage of brokers is over.
    BrokersBack,
    /// A partition of a topic has a leader again.
    LeaderThere { home: AppId, topic: String, partition: u32 },
    /// A partition of the input of an app turns up.
    Grow { home: AppId },
}

struct Entry {
    at: Time,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives the greatest first.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// A host.
pub(crate) struct Machine {
    /// It has power.
    pub(crate) up: bool,
    /// Its node's process; none if it is not running.
    pub(crate) node: Option<usize>,
    /// Lives of its node so far.
    pub(crate) lives: u64,
    /// Its disk.
    pub(crate) disk: NodeDisk,
    /// Its clocks.
    pub(crate) clock: Clock,
    /// Ports that were given to children.
    pub(crate) ports: u64,
    /// Its disk refuses until then.
    pub(crate) full_until: Time,
    /// Its disk takes long until then.
    pub(crate) slow_disk_until: Time,
    /// It is to stay without power.
    pub(crate) dead: bool,
    /// Those who vote, as its node has heard last.
    pub(crate) masters: BTreeMap<NodeId, Address>,
}

/// What draws: one generator a part, so that one fault less moves little else.
pub(crate) struct Draws {
    pub(crate) net: Random,
    pub(crate) store: Random,
    pub(crate) io: Random,
    pub(crate) disk: Random,
    pub(crate) other: Random,
    pub(crate) operator: Random,
    pub(crate) growth: Random,
}

/// Addresses by number, so that a connection holds no text.
#[derive(Default)]
pub(crate) struct Addresses {
    names: Vec<Address>,
    numbers: BTreeMap<Address, usize>,
    /// Which process listens.
    listeners: Vec<Option<usize>>,
}

impl Addresses {
    /// The number of an address.
    pub(crate) fn number(&mut self, address: Address) -> usize {
        if let Some(number) = self.numbers.get(&address) {
            return *number;
        }
        let number = self.names.len();
        self.names.push(address.clone());
        self.numbers.insert(address, number);
        self.listeners.push(None);
        number
    }

    /// A process listens there, or nobody does.
    pub(crate) fn listen(&mut self, address: Address, process: Option<usize>) {
        let number = self.number(address);
        self.listeners[number] = process;
    }

    /// True if somebody listens there.
    pub(crate) fn is_taken(&self, address: &Address) -> bool {
        self.numbers.get(address).is_some_and(|number| self.listeners[*number].is_some())
    }
}

/// A cluster.
pub(crate) struct World<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) assembly: &'a dyn Assembly,
    pub(crate) work: &'a dyn Work,
    pub(crate) now: Time,
    queue: BinaryHeap<Entry>,
    sequence: u64,
    pub(crate) machines: Vec<Machine>,
    pub(crate) processes: Vec<Hosted>,
    pub(crate) conns: Vec<Conn>,
    pub(crate) addresses: Addresses,
    pub(crate) links: Links,
    /// What every app finds on its file system.
    pub(crate) files: ModelDisk,
    pub(crate) services: BTreeMap<AppId, AppServices>,
    /// The app whose services each app has: one that was started again has those of the one before.
    pub(crate) homes: BTreeMap<AppId, AppId>,
    pub(crate) operator: Operator,
    pub(crate) random: Draws,
    pub(crate) trace: Trace,
    pub(crate) watch: Watch,
    pub(crate) stopwatch: Stopwatch,
    pub(crate) store_down_until: Time,
    pub(crate) brokers_down_until: Time,
    /// The name node of an HDFS changes nothing until then.
    pub(crate) safe_mode_until: Time,
    /// Writers to an HDFS that were lost.
    pub(crate) writers_lost: u64,
    /// Thousandths of the input that are there.
    pub(crate) fed: u64,
    /// No planned fault happens any more.
    pub(crate) calm: bool,
    /// Ambushes so far.
    pub(crate) ambushes: u64,
    /// The machine of a leader that is cut off until another one acts.
    pub(crate) deposed: Option<usize>,
    /// When the last fault was.
    pub(crate) last_fault: Time,
    pub(crate) fired: BTreeMap<&'static str, u64>,
    pub(crate) rare: BTreeMap<&'static str, u64>,
    pub(crate) events: u64,
    pub(crate) violations: Vec<String>,
    pub(crate) effects: Vec<ProcessEffect>,
}

impl<'a> World<'a> {
    /// A cluster that has never run.
    pub(crate) fn new(
        setup: &'a Setup,
        assembly: &'a dyn Assembly,
        work: &'a dyn Work,
        trace: Trace,
    ) -> Self {
        let draws = |part: u64| Random::for_part(setup.seed, 110 + part);
        let machine = || Machine {
            up: false,
            node: None,
            lives: 0,
            disk: NodeDisk::default(),
            clock: Clock::new(Time::ZERO, 0, TRUE_RATE),
            ports: 0,
            full_until: Time::ZERO,
            slow_disk_until: Time::ZERO,
            dead: false,
            masters: Self::founders(setup),
        };
        Self {
            setup,
            assembly,
            work,
            now: Time::ZERO,
            queue: BinaryHeap::new(),
            sequence: 0,
            machines: setup.machines.iter().map(|_| machine()).collect(),
            processes: Vec::new(),
            conns: Vec::new(),
            addresses: Addresses::default(),
            links: Links::new(setup.machines.len() + 1),
            files: work.files(),
            services: BTreeMap::new(),
            random: Draws {
                net: draws(1),
                store: draws(2),
                io: draws(3),
                disk: draws(4),
                other: draws(5),
                operator: draws(6),
                growth: draws(7),
            },
            trace,
            watch: Watch {
                orders: Some(Orders::new(Self::founders(setup).into_keys().collect())),
                ..Watch::default()
            },
            operator: Operator::default(),
            homes: BTreeMap::new(),
            stopwatch: Stopwatch::default(),
            store_down_until: Time::ZERO,
            brokers_down_until: Time::ZERO,
            safe_mode_until: Time::ZERO,
            writers_lost: 0,
            fed: 0,
            calm: false,
            ambushes: 0,
            deposed: None,
            last_fault: Time::ZERO,
            fired: BTreeMap::new(),
            rare: BTreeMap::new(),
            events: 0,
            violations: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// Lets an event happen at a time, now at the earliest.
    pub(crate) fn push(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.queue.push(Entry { at: at.max(self.now), number: self.sequence, event });
    }

    /// Lets an event happen after a time.
    pub(crate) fn after(&mut self, span: Duration, event: Event) {
        self.push(self.now + span, event);
    }

    /// A fault has happened.
    pub(crate) fn count(&mut self, fault: FaultKind) {
        *self.fired.entry(fault.name()).or_default() += 1;
        self.last_fault = self.now;
    }

    /// A rare state was reached.
    pub(crate) fn seen(&mut self, what: &'static str) {
        *self.rare.entry(what).or_default() += 1;
    }

    /// Something is wrong.
    pub(crate) fn wrong(&mut self, what: String) {
        self.trace.note(self.now, &what, &[]);
        self.violations.push(what);
    }

    /// True if a machine has power; clients are on a host of their own that always has.
    pub(crate) fn is_up(&self, machine: usize) -> bool {
        self.machines.get(machine).is_none_or(|machine| machine.up)
    }

    /// Who listens at an address, by its number.
    pub(crate) fn listener(&self, address: usize) -> Option<usize> {
        self.addresses.listeners[address]
    }

    /// Lets events happen until a time, or until something is wrong or `done`.
    pub(crate) fn run_until(&mut self, until: Time, mut done: impl FnMut(&mut Self) -> bool) {
        while self.violations.is_empty() {
            if self.queue.peek().is_none_or(|entry| entry.at > until) {
                self.now = self.now.max(until);
                return;
            }
            let entry = self.queue.pop().expect("it was just seen");
            self.now = entry.at;
            self.happen(entry.event);
            if done(self) {
                return;
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Boot { machine, life } => self.boot(machine, life),
            Event::Hear { process, input } => self.hear(process, input),
            Event::Turn { process } => self.turn(process),
            Event::Timeout { process } => self.timeout(process),
            Event::Resume { process } => self.resume(process),
            Event::Syn { conn } => self.syn(conn),
            Event::SynAck { conn } => self.syn_ack(conn),
            Event::Refused { conn } => self.refused(conn),
            Event::Arrive { conn, side, number } => self.arrive(conn, side, number),
            Event::Reset { conn, side, remote } => self.reset(conn, side, remote),
            Event::Store { process, app, token, request } => {
                self.store(process, app, token, &request);
            }
            Event::Io { process, app, task, token, request, answer } => {
                self.io(process, app, (task, token), &request, answer);
            }
            Event::Disk { process, token } => self.disk_answers(process, token),
            Event::Spawned { process } => self.spawned(process),
            Event::Die { process, reason } => self.die(process, &reason, Doom::Kill),
            Event::Fault { place } => self.strike(place),
            Event::Inspect => self.inspect(),
            Event::Operate { number } => self.operate(number),
            Event::Feed { permille } => self.feed(permille),
            Event::Expire { home, id, number } => self.expire(home, id, number),
            Event::BrokersBack => self.brokers_back(),
            Event::LeaderThere { home, topic, partition } => {
                self.leader_there(home, &topic, partition);
            }
            Event::Grow { home } => self.grow(home),
        }
    }

    /// Happens again, for a process that was paused.
    pub(crate) fn again(&mut self, event: Event) {
        if self.violations.is_empty() {
            self.happen(event);
        }
    }
}
