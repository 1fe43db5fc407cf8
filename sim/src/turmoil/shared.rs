//! What everything in a run knows: the machines, the processes, the services and the trace.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::rc::Rc;

use gear_connectors::model::ModelDisk;
use gear_core::control::{Address, AppSpec, LaunchOrder, Role};
use gear_core::id::{AppId, NodeId};
use gear_core::time::{Duration, Time};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot::{self, Sender};
use tokio::task::AbortHandle;

use super::gate::Gate;
use super::links::Links;
use super::transport::address;
use crate::cluster::clock::{Clock, TRUE_RATE};
use crate::cluster::disk::NodeDisk;
use crate::cluster::{FaultKind, LogState, Look, Rates, Setup, Subject};
use crate::direct::Store;
use crate::oracle::commits::Commits;
use crate::oracle::watch::Watch;
use crate::random::Random;
use crate::stopwatch::Stopwatch;
use crate::trace::Trace;

/// Where every node listens.
pub(crate) const NODE_PORT: u16 = 7_000;

/// The cluster's id.
pub(crate) const CLUSTER: u64 = 0x6765_6172;

/// What outlives the machines is done on a machine of its own: it also does what the dead have
/// asked for.
pub(crate) type Job = Pin<Box<dyn Future<Output = ()>>>;

/// A process that is to be made, for whoever waits for it.
pub(crate) struct Wanted {
    /// Its number.
    pub(crate) process: usize,
    /// Where it will listen.
    pub(crate) address: Address,
    pub(crate) answer: Sender<Result<Box<dyn Subject>, String>>,
}

/// Everything that a run is about.
pub(crate) struct Shared {
    pub(crate) setup: Rc<Setup>,
    pub(crate) jobs: UnboundedSender<Job>,
    /// The time outside of all machines.
    pub(crate) time: Cell<Time>,
    /// Processes that are to be made between two steps.
    pub(crate) wanted: RefCell<Vec<Wanted>>,
    pub(crate) state: RefCell<State>,
}

/// What changes in a run.
pub(crate) struct State {
    pub(crate) machines: Vec<Machine>,
    pub(crate) processes: Vec<Hosted>,
    /// Machines and ports where somebody listens.
    pub(crate) listeners: BTreeSet<(usize, u16)>,
    pub(crate) links: Links,
    /// What every app finds on its file system.
    pub(crate) files: ModelDisk,
    /// The most records that a source reads in one turn.
    pub(crate) records_per_turn: usize,
    pub(crate) services: BTreeMap<AppId, AppServices>,
    pub(crate) store_down_until: Time,
    pub(crate) random: Draws,
    pub(crate) trace: Trace,
    /// No planned fault happens any more.
    pub(crate) calm: bool,
    /// Machines that vote; they are the first.
    pub(crate) masters: usize,
    /// Ambushes so far.
    pub(crate) ambushes: u64,
    /// How often whom is ambushed.
    pub(crate) rates: Rates,
    /// Nodes' processes that their operator starts again, and when.
    pub(crate) restarts: Vec<(usize, Time)>,
    /// Machines that lose their power as soon as the present step has ended, and for how long.
    pub(crate) doomed: Vec<(usize, Duration)>,
    pub(crate) watch: Watch,
    pub(crate) stopwatch: Stopwatch,
    pub(crate) fired: BTreeMap<&'static str, u64>,
    pub(crate) rare: BTreeMap<&'static str, u64>,
    pub(crate) events: u64,
    pub(crate) violations: Vec<String>,
}

/// A host.
pub(crate) struct Machine {
    /// It has power.
    pub(crate) up: bool,
    /// Its node's process; none if it is not running.
    pub(crate) node: Option<usize>,
    /// Lives of its node so far.
    pub(crate) lives: u64,
    pub(crate) disk: NodeDisk,
    pub(crate) clock: Clock,
    /// Ports that were given to children.
    pub(crate) ports: u16,
    /// Its disk refuses until then.
    pub(crate) full_until: Time,
    /// Its disk takes long until then.
    pub(crate) slow_disk_until: Time,
}

/// What an app has outside of the machines.
pub(crate) struct AppServices {
    /// The app's name.
    pub(crate) name: String,
    pub(crate) store: Store,
    pub(crate) commits: Commits,
    pub(crate) disk: ModelDisk,
}

/// A process, running or gone.
pub(crate) struct Hosted {
    pub(crate) machine: usize,
    /// What it does for an app; none if it is a node's or a client's.
    pub(crate) child: Option<Child>,
    /// None while it is at work, and once it is gone.
    pub(crate) subject: Option<Box<dyn Subject>>,
    pub(crate) alive: bool,
    pub(crate) look: Look,
    pub(crate) gate: Rc<Gate>,
    /// Ends its loop.
    pub(crate) abort: Option<AbortHandle>,
    /// It dies after so many effects, or takes its machine with it.
    pub(crate) trap: Option<(u64, Doom)>,
    /// What it has on its way to the commit log.
    pub(crate) log: LogState,
}

/// What a child is to its worker.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    pub(crate) order: LaunchOrder,
    /// The node's process.
    pub(crate) parent: usize,
}

/// How a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doom {
    /// Alone, and its children with it; the machine goes on.
    Kill,
    /// With its machine, for so long.
    Power(Duration),
}

/// What draws: one generator a part, so that one fault less moves little else.
pub(crate) struct Draws {
    pub(crate) store: Random,
    pub(crate) io: Random,
    pub(crate) disk: Random,
    pub(crate) other: Random,
}

impl Hosted {
    pub(crate) fn role(&self) -> Option<Role> {
        self.child.as_ref().map(|child| child.order.process.role)
    }

    pub(crate) fn app(&self) -> AppId {
        self.child.as_ref().map_or(AppId(0), |child| child.order.process.app)
    }
}

impl Shared {
    pub(crate) fn new(
        setup: Rc<Setup>,
        (files, records_per_turn): (ModelDisk, usize),
        trace: Trace,
        jobs: UnboundedSender<Job>,
    ) -> Self {
        let draws = |part: u64| Random::for_part(setup.seed, 130 + part);
        let machine = || Machine {
            up: true,
            node: None,
            lives: 0,
            disk: NodeDisk::default(),
            clock: Clock::new(Time::ZERO, 0, TRUE_RATE),
            ports: 0,
            full_until: Time::ZERO,
            slow_disk_until: Time::ZERO,
        };
        let state = State {
            machines: setup.machines.iter().map(|_| machine()).collect(),
            processes: Vec::new(),
            listeners: BTreeSet::new(),
            links: Links::new(setup.machines.len() + 1),
            files,
            records_per_turn,
            services: BTreeMap::new(),
            store_down_until: Time::ZERO,
            random: Draws { store: draws(1), io: draws(2), disk: draws(3), other: draws(4) },
            trace,
            calm: false,
            masters: setup.masters,
            ambushes: 0,
            rates: setup.rates,
            restarts: Vec::new(),
            doomed: Vec::new(),
            watch: Watch::default(),
            stopwatch: Stopwatch::default(),
            fired: BTreeMap::new(),
            rare: BTreeMap::new(),
            events: 0,
            violations: Vec::new(),
        };
        let time = Cell::new(Time::ZERO);
        Self { setup, jobs, time, wanted: RefCell::default(), state: RefCell::new(state) }
    }

    /// The true time.
    pub(crate) fn now(&self) -> Time {
        turmoil::sim_elapsed().map_or_else(|| self.time.get(), |elapsed| Time::ZERO + elapsed)
    }

    /// Whoever dials from a machine learns that nobody listens there: the machine is there, and
    /// both the question and the answer get through.
    pub(crate) fn refuses(&self, from: usize, (to, port): (usize, u16)) -> bool {
        let state = self.state.borrow();
        let up = state.machines.get(to).is_none_or(|machine| machine.up);
        up && !state.listeners.contains(&(to, port)) && !state.links.is_cut(from, to)
    }

    /// Rates of faults, none when it is calm.
    pub(crate) fn rates(&self) -> Rates {
        if self.state.borrow().calm { Rates::default() } else { self.setup.rates }
    }

    /// The id of a machine's node.
    pub(crate) const fn node_id(machine: usize) -> NodeId {
        NodeId(machine as u64 + 1)
    }

    /// Those who vote.
    pub(crate) fn masters(&self) -> BTreeMap<NodeId, Address> {
        let masters = 0..self.setup.masters;
        masters.map(|master| (Self::node_id(master), address(master, NODE_PORT))).collect()
    }

    /// Waits until a process has been made: its makers are outside of all machines.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub(crate) async fn made(
        &self,
        process: usize,
        address: Address,
    ) -> Result<Box<dyn Subject>, String> {
        let (answer, answered) = oneshot::channel();
        self.wanted.borrow_mut().push(Wanted { process, address, answer });
        answered.await.unwrap_or_else(|_| Err("the run has ended".into()))
    }

    /// A process is gone. Does nothing if that is known.
    pub(crate) fn end(&self, process: usize, reason: &str) {
        let now = self.now();
        let state = &mut *self.state.borrow_mut();
        let hosted = &mut state.processes[process];
        if !hosted.alive {
            return;
        }
        hosted.alive = false;
        hosted.subject = None;
        hosted.trap = None;
        if let Some(abort) = &hosted.abort {
            abort.abort();
        }
        state.trace.note(now, "a process is gone", &[process as u64]);
        state.trace.write(now, || format!("process {process}: {reason}"));
        state.died(now, process);
    }

    /// All processes of a machine are gone.
    pub(crate) fn end_all(&self, machine: usize) {
        for process in self.running(|hosted| hosted.machine == machine) {
            self.end(process, "its machine lost its power");
        }
    }

    /// The processes that run and are such.
    pub(crate) fn running(&self, such: impl Fn(&Hosted) -> bool) -> Vec<usize> {
        let state = self.state.borrow();
        let is = |process: &usize| {
            let hosted = &state.processes[*process];
            hosted.alive && such(hosted)
        };
        (0..state.processes.len()).filter(is).collect()
    }

    /// The children of a node's process that run.
    pub(crate) fn children(&self, parent: usize) -> Vec<usize> {
        let is_child = |child: &Child| child.parent == parent;
        self.running(|hosted| hosted.child.as_ref().is_some_and(is_child))
    }
}

impl State {
    /// What a process's clock shows.
    pub(crate) fn local(&self, now: Time, process: usize) -> Time {
        let machine = self.machines.get(self.processes[process].machine);
        machine.map_or(now, |machine| machine.clock.local(now))
    }

    /// A fault has happened.
    pub(crate) fn count(&mut self, fault: FaultKind) {
        *self.fired.entry(fault.name()).or_default() += 1;
    }

    /// A rare state was reached.
    pub(crate) fn seen(&mut self, what: &'static str) {
        *self.rare.entry(what).or_default() += 1;
    }

    /// Something is wrong.
    pub(crate) fn wrong(&mut self, now: Time, what: String) {
        self.trace.note(now, &what, &[]);
        self.violations.push(what);
    }

    /// A process of an app is launched: the app has a store and files from now on.
    pub(crate) fn serve(&mut self, now: Time, app: AppId, spec: &AppSpec) {
        if let Err(violation) = self.watch.updates.launched(app, spec) {
            self.wrong(now, violation);
        }
        let disk = &self.files;
        self.services.entry(app).or_insert_with(|| AppServices {
            name: spec.name.clone(),
            store: Store::default(),
            commits: Commits::with_gaps(),
            disk: disk.clone(),
        });
    }
}
