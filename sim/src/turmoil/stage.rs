//! The simulated network and the machines on it, step by step.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::UNIX_EPOCH;

use gear_core::control::Address;
use gear_core::id::Incarnation;
use gear_core::time::{Duration, Time};
use tokio::sync::mpsc::unbounded_channel;
use turmoil::{Builder, Sim};

use super::machine;
use super::shared::{CLUSTER, Child, Shared, Wanted};
use super::transport::name;
use crate::cluster::{Assembly, ChildStart, ClientStart, NodeStart, Setup, Subject, Work};
use crate::random::Random;
use crate::trace::Trace;

/// Messages that may wait on one connection: so many that a connection is never refused for lack
/// of room, which would be a panic of the network.
const TCP_CAPACITY: usize = 16_384;
/// Incarnations of children begin here, above those of nodes.
const CHILDREN: u64 = 1_000_000;
/// Latency of a machine whose messages take long.
const SLOW: Duration = Duration::from_millis(800);

/// Something that happens between two steps.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// A machine gets its power back, if this is still its life.
    Boot { machine: usize, life: u64 },
    /// A paused process goes on.
    Resume { process: usize },
    /// An operator starts a node again whose disk has failed.
    Restart { process: usize },
    /// The so-manieth planned fault happens.
    Fault { place: usize },
    /// Tasks and channels are looked at.
    Inspect,
    /// So many thousandths of the input are there.
    Feed { permille: u64 },
    /// A machine's messages are as fast as before.
    Fast { machine: usize },
}

/// A cluster on a simulated network.
pub(super) struct Stage<'a> {
    assembly: &'a dyn Assembly,
    pub(super) work: &'a dyn Work,
    pub(super) sim: Sim<'static>,
    pub(super) shared: Rc<Shared>,
    due: BTreeMap<(Time, u64), Due>,
    sequence: u64,
    latency: Duration,
}

impl<'a> Stage<'a> {
    /// A cluster that is about to be switched on.
    pub(super) fn new(
        setup: Rc<Setup>,
        assembly: &'a dyn Assembly,
        work: &'a dyn Work,
        trace: Trace,
    ) -> Self {
        let mut random = Random::for_part(setup.seed, 120);
        // Networks count in whole milliseconds.
        let latency = Duration::from_millis(setup.slow.network.div_ceil(1_000_000));
        let mut builder = Builder::new();
        builder
            .rng_seed(random.next())
            .epoch(UNIX_EPOCH)
            .simulation_duration(Duration::from_secs(1_000_000))
            .tick_duration(Duration::from_millis(random.pick(&[1, 2, 2, 4])))
            .min_message_latency(Duration::ZERO)
            .max_message_latency(latency)
            .tcp_capacity(TCP_CAPACITY);
        if random.permille(500) {
            builder.enable_random_order();
        }
        let mut sim = builder.build();
        let (jobs, asked) = unbounded_channel();
        let asked = RefCell::new(Some(asked));
        let shared =
            Rc::new(Shared::new(setup, (work.files(), work.records_per_turn()), trace, jobs));
        sim.host("services", move || {
            let asked = asked.borrow_mut().take().expect("the services never crash");
            machine::serve(asked)
        });
        for machine in 0..shared.setup.machines.len() {
            let shared = Rc::clone(&shared);
            sim.host(name(machine), move || machine::run(Rc::clone(&shared), machine));
        }
        let client = Rc::clone(&shared);
        sim.host(name(shared.setup.machines.len()), move || machine::client(Rc::clone(&client)));
        let mut stage =
            Self { assembly, work, sim, shared, due: BTreeMap::new(), sequence: 0, latency };
        for place in 0..stage.shared.setup.planned.len() {
            let at = Time::ZERO + stage.shared.setup.planned[place].at;
            stage.due(at, Due::Fault { place });
        }
        stage
    }

    /// How many machines there are.
    pub(super) fn machines(&self) -> usize {
        self.shared.setup.machines.len()
    }

    /// The time between two steps.
    pub(super) fn now(&self) -> Time {
        self.shared.time.get()
    }

    /// Lets something happen at a time.
    pub(super) fn due(&mut self, at: Time, what: Due) {
        self.sequence += 1;
        self.due.insert((at, self.sequence), what);
    }

    /// Something is wrong.
    pub(super) fn is_wrong(&self) -> bool {
        !self.shared.state.borrow().violations.is_empty()
    }

    /// Takes steps until a time, or until something is wrong.
    pub(super) fn run_until(&mut self, until: Time) {
        while self.now() < until && !self.is_wrong() {
            self.step();
        }
    }

    fn step(&mut self) {
        let now = self.now();
        while let Some(entry) = self.due.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let due = entry.remove();
            self.happen(due);
        }
        self.shared.state.borrow_mut().links.tell(&self.sim, now);
        if let Err(error) = self.sim.step() {
            let what = format!("a machine has failed: {error}");
            self.shared.state.borrow_mut().wrong(now, what);
        }
        self.shared.time.set(Time::ZERO + self.sim.elapsed());
        self.make();
        let doomed = std::mem::take(&mut self.shared.state.borrow_mut().doomed);
        for (machine, lasts) in doomed {
            self.power_off(machine, Some(lasts));
        }
        let restarts = std::mem::take(&mut self.shared.state.borrow_mut().restarts);
        for (process, at) in restarts {
            self.due(at, Due::Restart { process });
        }
    }

    /// Makes the processes that machines are about to start.
    fn make(&self) {
        let wanted = std::mem::take(&mut *self.shared.wanted.borrow_mut());
        for Wanted { process, address, answer } in wanted {
            let (machine, child) = {
                let state = self.shared.state.borrow();
                let hosted = &state.processes[process];
                (hosted.machine, hosted.child.clone())
            };
            // Whoever waits for it may have died meanwhile.
            let _ = answer.send(self.made(process, machine, address, child));
        }
    }

    fn made(
        &self,
        process: usize,
        machine: usize,
        address: Address,
        child: Option<Child>,
    ) -> Result<Box<dyn Subject>, String> {
        let setup = &self.shared.setup;
        let masters = &self.shared.masters();
        let node = Shared::node_id(machine);
        let incarnation = Incarnation(process as u64 + 1);
        let seed = crate::random::mix(setup.seed ^ incarnation.0);
        if let Some(Child { order, .. }) = &child {
            let (cluster, incarnation) = (CLUSTER, Incarnation(CHILDREN + incarnation.0));
            let files = &self.work.files();
            return self.assembly.child(&ChildStart {
                order,
                node,
                cluster,
                incarnation,
                seed,
                address,
                masters,
                files,
            });
        }
        let Some(capacity) = setup.machines.get(machine).copied() else {
            let (specs, wishes) = (self.work.specs(), self.work.wishes());
            let (cluster, resubmit) = (CLUSTER, setup.rates.resubmit);
            let start = ClientStart { cluster, seed, masters, specs, wishes, resubmit };
            return Ok(self.assembly.client(&start));
        };
        Ok(self.assembly.node(&NodeStart {
            node,
            cluster: CLUSTER,
            incarnation,
            seed,
            address,
            masters,
            capacity,
            formed: self.shared.state.borrow().machines[machine].disk.used,
            joins: false,
        }))
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Boot { machine, life } => self.boot(machine, Some(life)),
            Due::Resume { process } => self.resume(process),
            Due::Restart { process } => self.restart(process),
            Due::Fault { place } => self.strike(place),
            Due::Inspect => self.inspect(),
            Due::Feed { permille } => self.work.feed(permille),
            Due::Fast { machine } => self.set_latency(machine, self.latency),
        }
    }

    fn restart(&mut self, process: usize) {
        self.shared.end(process, "its operator starts it again");
    }

    fn resume(&mut self, process: usize) {
        let gate = Rc::clone(&self.shared.state.borrow().processes[process].gate);
        gate.open();
    }

    /// A machine's messages take long, until a time.
    pub(super) fn slow(&mut self, machine: usize, until: Time) {
        self.set_latency(machine, SLOW);
        self.due(until, Due::Fast { machine });
    }

    fn set_latency(&mut self, machine: usize, latency: Duration) {
        for other in (0..self.machines()).filter(|other| *other != machine) {
            self.sim.set_link_max_message_latency(name(machine), name(other), latency);
        }
    }

    /// A machine loses its power: nobody hears of it, and what was not durable is gone. For so
    /// long, or for good.
    pub(super) fn power_off(&mut self, machine: usize, lasts: Option<Duration>) {
        let now = self.now();
        let life = {
            let state = &mut *self.shared.state.borrow_mut();
            let there = &mut state.machines[machine];
            if there.up {
                there.up = false;
                there.node = None;
                let lost = there.disk.let_go(&mut state.random.disk);
                if lost > 0 {
                    state.seen("unanswered writes were lost with the power");
                }
                state.trace.note(now, "a machine loses its power", &[machine as u64]);
                state.stopwatch.disturb(now);
            } else if lasts.is_some() {
                return;
            }
            state.machines[machine].lives
        };
        self.shared.end_all(machine);
        let all = 0..=self.machines();
        let others: Vec<usize> = all.filter(|other| *other != machine).collect();
        for other in &others {
            self.sim.partition(name(machine), name(*other));
        }
        self.sim.crash(name(machine));
        let state = self.shared.state.borrow();
        for other in others {
            // As it was: `Links` knows nothing of the power.
            self.sim.repair(name(machine), name(other));
            state.links.apply(&self.sim, machine, other);
        }
        drop(state);
        if let Some(lasts) = lasts {
            self.due(now + lasts, Due::Boot { machine, life });
        }
    }

    /// A machine gets its power, if it has none and this is still its life.
    pub(super) fn boot(&mut self, machine: usize, life: Option<u64>) {
        {
            let there = &mut self.shared.state.borrow_mut().machines[machine];
            if there.up || life.is_some_and(|life| life != there.lives) {
                return;
            }
            there.up = true;
        }
        self.sim.bounce(name(machine));
    }

    /// No fault happens any more. Only these machines are healed; all others are cut off or dead
    /// for good.
    pub(super) fn heal_only(&mut self, core: &[usize], cut_off: bool) {
        let now = self.now();
        {
            let state = &mut *self.shared.state.borrow_mut();
            state.calm = true;
            let numbers: Vec<u64> = core.iter().map(|machine| *machine as u64).collect();
            state.trace.note(now, "only this core goes on", &numbers);
            state.store_down_until = Time::ZERO;
            for machine in &mut state.machines {
                machine.full_until = Time::ZERO;
                machine.slow_disk_until = Time::ZERO;
            }
            for hosted in &mut state.processes {
                hosted.trap = None;
            }
        }
        let client = self.machines();
        let others = (0..self.machines()).filter(|machine| !core.contains(machine));
        for machine in others.collect::<Vec<usize>>() {
            if cut_off {
                let links = &mut self.shared.state.borrow_mut().links;
                for other in (0..=client).filter(|other| *other != machine) {
                    links.cut(machine, other, Time::MAX);
                    links.cut(other, machine, Time::MAX);
                }
            } else {
                self.power_off(machine, None);
                self.shared.state.borrow_mut().machines[machine].lives += 1;
            }
        }
        for process in self.shared.running(|_| true) {
            self.resume(process);
        }
        for one in core.iter().copied() {
            for other in core.iter().copied().filter(|other| *other < one) {
                self.shared.state.borrow_mut().links.heal(one, other);
            }
            self.set_latency(one, self.latency);
            self.boot(one, None);
            let (node, failed) = {
                let there = &self.shared.state.borrow().machines[one];
                (there.node, there.disk.failed)
            };
            if let Some(node) = node.filter(|_| failed) {
                self.restart(node);
            }
        }
    }
}
