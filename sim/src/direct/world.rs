//! The event queue: processes, one store, one disk, and the faults between them.

use std::collections::BTreeMap;

use gear_connectors::kafka::model::ProducerFaults;
use gear_connectors::model::ModelDisk;
use gear_connectors::services;
use gear_core::api::Files;
use gear_core::app::{Failure, Outcome};
use gear_core::checkpoint::LogError;
use gear_core::effect::{Effect, IoError, IoRequest, Place, StoreReply, StoreRequest};
use gear_core::executor::Activity;
use gear_core::host::Faults;
use gear_core::id::{ExecutorId, TaskId, Token};
use gear_core::message::{Input, Message};
use gear_core::time::Time;

use super::config::Config;
use super::disk::Disk;
use super::guard::catch;
use super::process::{Process, built};
use super::store::Store;
use super::trace;
use crate::cluster::{Brokers, FaultKind, Paced};
use crate::oracle::channels::Channels;
use crate::oracle::commits::Commits;
use crate::random::Random;
use crate::trace::Trace;

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A process begins.
    Begin,
    /// A machine hears something.
    Hear { place: Place, input: Input },
    /// An executor takes its turn.
    Turn { executor: usize },
    /// The app master's deadline comes.
    Timeout,
    /// A request reaches the store.
    Store { place: Place, token: Token, request: StoreRequest },
    /// The disk performs a request; the answer comes at the time given.
    Disk { task: TaskId, place: Place, token: Token, request: IoRequest, answer: Time },
    /// The disk answers.
    Settled { task: TaskId, place: Place, token: Token, change: u64 },
    /// A transaction has been open for long.
    Expire { id: String, number: u64 },
    /// The user asks for a stop.
    Stop,
    /// A zombie dies at last.
    Lay,
    /// A partition of the input turns up.
    Grow,
    /// It is looked whether a job that never ends has read all there is.
    Look,
    /// It has, a while ago.
    Leave,
}

/// Everything that there is.
pub(crate) struct World<'c, F: Faults> {
    pub(super) config: &'c Config,
    pub(crate) now: Time,
    queue: BTreeMap<(Time, u64), (u64, Event)>,
    sequence: u64,
    processes: Vec<Process<F>>,
    /// The process that is not a zombie.
    current: u64,
    pub(crate) store: Store,
    pub(crate) disk: Disk,
    /// The Kafka of a job that reads and writes topics, and whence it is read.
    pub(crate) brokers: Option<Brokers>,
    files: ModelDisk,
    random: Random,
    /// Draws what retention removes, so that nothing else is moved by it.
    pub(super) removals: Random,
    /// Draws when partitions turn up.
    pub(super) additions: Random,
    pub(crate) trace: Trace,
    pub(crate) commits: Commits,
    channels: Channels,
    /// Effects until the next crash; none if there is none any more.
    crash_in: Option<u64>,
    crashes: u64,
    stops: u64,
    disk_failures: u64,
    /// When the last fault was.
    pub(crate) last_fault: Time,
    pub(crate) fired: BTreeMap<&'static str, u64>,
    pub(crate) rare: BTreeMap<&'static str, u64>,
    pub(crate) events: u64,
    pub(crate) violations: Vec<String>,
    fx: Vec<Effect>,
    /// How the last process ended, once nothing more will be started.
    pub(crate) finished: Option<Outcome>,
}

/// Steps after which a run is stuck.
const EVENTS_MAX: u64 = 3_000_000;

impl<'c, F: Faults> World<'c, F> {
    pub(crate) fn new(config: &'c Config, trace: Trace) -> Self {
        let mut random = Random::for_part(config.seed, 3);
        let crash_in =
            (config.faults.crashes > 0).then(|| random.below(config.faults.crash_effects) + 1);
        let brokers = config.topics.as_ref().map(|topics| {
            let cluster = topics.cluster(&config.sources, &built(config, 0));
            Brokers::new(cluster, *topics, false)
        });
        let mut files = ModelDisk::new(config.seed);
        if let Some(brokers) = &brokers {
            brokers.offer(&mut files, config.seed);
        }
        Self {
            config,
            now: Time::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            processes: Vec::new(),
            current: 0,
            store: Store::default(),
            disk: Disk::default(),
            brokers,
            files,
            random,
            removals: Random::for_part(config.seed, 6),
            additions: Random::for_part(config.seed, 8),
            trace,
            commits: Commits::default(),
            channels: Channels::default(),
            crash_in,
            crashes: config.faults.crashes,
            stops: config.faults.stops,
            disk_failures: config.faults.disk_failures,
            last_fault: Time::ZERO,
            fired: BTreeMap::new(),
            rare: BTreeMap::new(),
            events: 0,
            violations: Vec::new(),
            fx: Vec::new(),
            finished: None,
        }
    }

    /// Runs until the job has finished, something is wrong, or nothing moves.
    pub(crate) fn run(&mut self) {
        self.start_process();
        self.begin_growth();
        self.drain();
    }

    /// Starts the finished job once more.
    pub(crate) fn run_again(&mut self) -> Option<Outcome> {
        self.finished = None;
        self.start_process();
        self.drain();
        self.finished.take()
    }

    fn drain(&mut self) {
        while self.finished.is_none() && self.violations.is_empty() {
            let Some(((at, _), (process, event))) = self.queue.pop_first() else {
                self.stuck("nothing will ever happen again");
                return;
            };
            self.now = at;
            if at > self.last_fault + self.config.patience().since(Time::ZERO) {
                self.stuck("too much time has passed since the last fault");
                return;
            }
            if self.events > EVENTS_MAX {
                self.stuck("it runs in circles");
                return;
            }
            self.happen(process, event);
        }
    }

    fn stuck(&mut self, how: &str) {
        let process = &mut self.processes[self.current as usize];
        let status = process.master.status(self.now);
        let tasks: Vec<String> = process
            .executors
            .iter_mut()
            .flat_map(|executor| {
                let names: Vec<_> =
                    (0..executor.task_count()).filter_map(|at| executor.task_name(at)).collect();
                let figures = executor.figures();
                let waiting = names.into_iter().zip(figures);
                let waiting = waiting.filter(|(_, (_, figures))| !figures.ended);
                waiting.map(|(name, _)| name).collect::<Vec<_>>()
            })
            .collect();
        let now = self.now;
        let violation = format!("liveness: {how} at {now}: {status:?}; not ended: {tasks:?}");
        self.violations.push(violation);
    }

    pub(super) fn at(&mut self, at: Time, process: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), (process, event));
    }

    /// A time within so many nanoseconds from now.
    fn soon(&mut self, most: u64) -> Time {
        Time(self.now.0 + 1 + self.random.below(most))
    }

    pub(super) fn count(&mut self, fault: &'static str) {
        *self.fired.entry(fault).or_default() += 1;
        self.last_fault = self.now;
    }

    pub(super) fn seen(&mut self, what: &'static str) {
        *self.rare.entry(what).or_default() += 1;
    }

    fn start_process(&mut self) {
        let number = self.processes.len() as u64;
        self.processes.push(Process::new(self.config, number, &mut self.files));
        self.current = number;
        self.trace.note(self.now, "a process starts", &[number]);
        let at = self.soon(1_000_000);
        self.at(at, number, Event::Begin);
        if self.stops > 0 {
            self.stops -= 1;
            let at = self.soon(200_000_000);
            self.at(at, number, Event::Stop);
        }
    }

    fn happen(&mut self, number: u64, event: Event) {
        let alive = self.processes[number as usize].alive;
        match event {
            // The store is another machine: it does what the dead have asked for.
            Event::Store { place, token, request } => self.store(number, place, token, &request),
            Event::Expire { id, number } => {
                if self.brokers.as_ref().is_some_and(|brokers| brokers.expire(&id, number)) {
                    self.count(FaultKind::TransactionTimeout.name());
                }
            }
            Event::Grow => self.grow(),
            Event::Look => self.look_whether_through(),
            Event::Leave => self.finished = Some(Outcome::Stopped { epoch: None }),
            _ if !alive => {}
            Event::Begin => self.hear(number, Place::AppMaster, Input::Start),
            Event::Hear { place, input } => self.hear(number, place, input),
            Event::Turn { executor } => self.turn(number, executor),
            Event::Timeout => {
                let process = &mut self.processes[number as usize];
                process.timeout = None;
                let due = process.master.next_timeout().is_some_and(|(at, _)| at <= self.now);
                if due {
                    self.hear(number, Place::AppMaster, Input::Timeout);
                } else {
                    self.settle_timeout(number);
                }
            }
            Event::Disk { task, place, token, request, answer } => {
                self.disk(number, (task, place, token), &request, answer);
            }
            Event::Settled { task, place, token, change } => {
                self.disk.settle(change);
                let result = Ok(Vec::new());
                self.answer_disk(number, place, Input::IoDone { task, token, result });
            }
            Event::Stop => {
                self.count("stop");
                self.hear(number, Place::AppMaster, Input::Stop);
            }
            Event::Lay => {
                if self.processes[number as usize].zombie {
                    self.processes[number as usize].alive = false;
                    self.trace.note(self.now, "a zombie dies", &[number]);
                }
            }
        }
    }

    fn hear(&mut self, number: u64, place: Place, input: Input) {
        self.events += 1;
        trace::input(&mut self.trace, self.now, number, place_number(place), &input);
        let mut fx = std::mem::take(&mut self.fx);
        let process = &mut self.processes[number as usize];
        let records = self.config.records_per_turn(self.events);
        let mut files = Paced { disk: &mut self.files, records };
        let at = (self.now, &mut files as &mut dyn Files);
        if let Err(panic) = catch(|| process.hear(at, place, input, &mut fx)) {
            self.violations.push(format!("a machine panicked: {panic}"));
            return;
        }
        self.perform(number, place, &mut fx);
        self.fx = fx;
        if !self.processes[number as usize].alive {
            return;
        }
        match place {
            Place::AppMaster => {
                self.settle_timeout(number);
                self.check_outcome(number);
            }
            Place::Executor(id) => self.settle_turn(number, id.0 as usize, None),
        }
    }

    fn turn(&mut self, number: u64, executor: usize) {
        let due = self.processes[number as usize].turns[executor];
        if due.is_none_or(|due| due > self.now) {
            return;
        }
        self.events += 1;
        let single = self.random.permille(self.config.faults.single_turns);
        let mut fx = std::mem::take(&mut self.fx);
        let process = &mut self.processes[number as usize];
        process.turns[executor] = None;
        let random = &mut self.random;
        let records = self.config.records_per_turn(self.events);
        let mut files = Paced { disk: &mut self.files, records };
        let at = (self.now, &mut files as &mut dyn Files);
        let turn = catch(|| process.turn(at, executor, single.then_some(random), &mut fx));
        let activity = match turn {
            Ok(activity) => activity,
            Err(panic) => {
                self.violations.push(format!("a machine panicked: {panic}"));
                return;
            }
        };
        if single {
            *self.fired.entry("single turn").or_default() += 1;
        }
        self.perform(number, Place::Executor(ExecutorId(executor as u32)), &mut fx);
        self.fx = fx;
        if !self.processes[number as usize].alive {
            return;
        }
        match activity {
            Activity::Busy => self.settle_turn(number, executor, None),
            Activity::Idle(Some(until)) => self.settle_turn(number, executor, Some(until)),
            Activity::Idle(None) => {}
        }
    }

    /// Settles when an executor takes its next turn: soon, or at a time.
    fn settle_turn(&mut self, number: u64, executor: usize, until: Option<Time>) {
        let soon = self.soon(self.config.slow.turn);
        let at = until.map_or(soon, |until| until.max(soon));
        let settled = &mut self.processes[number as usize].turns[executor];
        if settled.is_none_or(|settled| at < settled) {
            *settled = Some(at);
            self.at(at, number, Event::Turn { executor });
        }
    }

    fn settle_timeout(&mut self, number: u64) {
        let process = &mut self.processes[number as usize];
        let Some((at, _)) = process.master.next_timeout() else { return };
        if process.timeout.is_none_or(|settled| at < settled) {
            process.timeout = Some(at);
            self.at(at, number, Event::Timeout);
        }
    }

    /// Performs effects one after the other; the process may die in every gap.
    fn perform(&mut self, number: u64, place: Place, fx: &mut Vec<Effect>) {
        for effect in fx.drain(..) {
            if !self.processes[number as usize].alive {
                break;
            }
            trace::effect(&mut self.trace, self.now, number, place_number(place), &effect);
            match effect {
                Effect::Send { to, message } => self.send(number, place, to, message),
                Effect::Store { token, request } => {
                    let at = self.store_time();
                    self.at(at, number, Event::Store { place, token, request });
                }
                Effect::Io { task, token, request } => {
                    self.ask_disk(number, (task, place, token), request);
                }
                Effect::Notice(notice) => self.told(&notice.text),
            }
            if number == self.current {
                self.maybe_crash();
            }
        }
        fx.clear();
    }

    fn send(&mut self, number: u64, from: Place, to: Place, message: Message) {
        if let Err(violation) = self.channels.observe(number, &message) {
            self.violations.push(violation);
        }
        if let Message::Finished { .. } = &message {
            self.seen("a task finished");
        }
        let at = self.soon(self.config.slow.message);
        let arrivals = &mut self.processes[number as usize].arrivals;
        let last = arrivals.entry((from, to)).or_default();
        *last = at.max(*last);
        let at = *last;
        self.at(at, number, Event::Hear { place: to, input: Input::Message { from, message } });
    }

    fn store_time(&mut self) -> Time {
        let straggles = self.random.permille(self.config.faults.stragglers);
        if straggles {
            self.count("straggler");
        }
        self.soon(self.config.slow.store * if straggles { 100 } else { 1 })
    }

    fn store(&mut self, number: u64, place: Place, token: Token, request: &StoreRequest) {
        let faults = self.config.faults;
        let failed = |reason: &str| StoreReply::Failed { reason: reason.into(), retriable: true };
        let reply = if self.random.permille(faults.store_failures) {
            self.count("store failure");
            failed("the store is busy")
        } else {
            let reply = self.store.perform(request);
            if let Err(violation) = self.commits.observe(request, &reply, &self.store) {
                self.violations.push(violation);
            }
            if self.random.permille(faults.store_lost_replies) {
                self.count("store reply lost");
                failed("the store's answer was lost")
            } else {
                reply
            }
        };
        if self.random.permille(faults.duplicates) {
            self.count("store reply twice");
            let at = self.store_time();
            let input = Input::Stored { token, reply: reply.clone() };
            self.at(at, number, Event::Hear { place, input });
        }
        let at = self.soon(self.config.slow.store);
        self.at(at, number, Event::Hear { place, input: Input::Stored { token, reply } });
    }

    fn ask_disk(
        &mut self,
        number: u64,
        (task, place, token): (TaskId, Place, Token),
        request: IoRequest,
    ) {
        let (perform, answer) =
            (self.soon(self.config.slow.disk), self.soon(self.config.slow.disk));
        let disk = &mut self.processes[number as usize].disk;
        let last = disk.entry(task).or_default();
        last.0 = last.0.max(perform);
        last.1 = last.1.max(answer).max(last.0);
        let (perform, answer) = *last;
        self.at(perform, number, Event::Disk { task, place, token, request, answer });
    }

    fn disk(
        &mut self,
        number: u64,
        (task, place, token): (TaskId, Place, Token),
        request: &IoRequest,
        answer: Time,
    ) {
        if let IoRequest::Call { command, body, .. } = request {
            let result = self.call(number, (command, body));
            let input = Input::IoDone { task, token, result };
            self.at(answer, number, Event::Hear { place, input });
            return;
        }
        let refused = self.disk_failures > 0 && self.random.permille(20);
        let result = if refused {
            self.disk_failures -= 1;
            self.count("disk refuses");
            let reason = INJECTED.into();
            let kind = gear_core::effect::IoErrorKind::Full;
            Err(IoError { path: "disk".into(), reason, kind })
        } else {
            self.disk.perform(request)
        };
        match result {
            Ok(change) => self.at(answer, number, Event::Settled { task, place, token, change }),
            Err(error) => {
                let input = Input::IoDone { task, token, result: Err(error) };
                self.at(answer, number, Event::Hear { place, input });
            }
        }
    }

    /// The brokers are asked.
    fn call(&mut self, number: u64, asked: (&[u8], &[u8])) -> Result<Vec<u8>, IoError> {
        let Some(brokers) = &mut self.brokers else { return Err(services::missing("kafka")) };
        let faults = self.config.faults;
        let faults = ProducerFaults {
            refused: faults.broker_refuses,
            lost: faults.broker_lost_replies,
            broken: faults.producer_breaks,
            unfenced: false,
        };
        let who = (number as usize, self.config.seed);
        let called = brokers.call(who, asked, faults, self.commits.last());
        let timeout = brokers.topics.timeout.as_nanos() as u64;
        for kind in called.met {
            self.count(kind.name());
        }
        if let Err(violation) = called.committed {
            self.violations.push(violation);
        }
        for (id, transaction) in called.begun {
            let at = Time(self.now.0 + timeout);
            self.at(at, number, Event::Expire { id, number: transaction });
        }
        called.result
    }

    fn answer_disk(&mut self, number: u64, place: Place, input: Input) {
        if self.random.permille(self.config.faults.duplicates) {
            self.count("disk answer twice");
            let at = self.soon(self.config.slow.disk);
            self.at(at, number, Event::Hear { place, input: input.clone() });
        }
        self.hear(number, place, input);
    }

    fn maybe_crash(&mut self) {
        let Some(left) = &mut self.crash_in else { return };
        *left -= 1;
        if *left > 0 {
            return;
        }
        self.crashes -= 1;
        let next = self.random.below(self.config.faults.crash_effects) + 1;
        self.crash_in = (self.crashes > 0).then_some(next);
        let number = self.current;
        if self.random.permille(self.config.faults.zombies) {
            self.count("zombie");
            self.trace.note(self.now, "a process is thought dead", &[number]);
            self.processes[number as usize].zombie = true;
            let at = self.soon(2_000_000_000);
            self.at(at, number, Event::Lay);
        } else {
            self.count("crash");
            self.lose_power();
        }
        self.remove_oldest();
        self.start_process();
    }

    /// All processes die, and what was not synced is lost.
    fn lose_power(&mut self) {
        self.trace.note(self.now, "the power goes", &[]);
        for process in &mut self.processes {
            process.alive = false;
        }
        // Some of what they have asked the store for never reaches it, some takes its time.
        let keys: Vec<_> = self.queue.keys().copied().collect();
        for key in keys {
            if !matches!(self.queue.get(&key), Some((_, Event::Store { .. }))) {
                continue;
            }
            match self.random.below(4) {
                0 => {}
                1 => {
                    let (process, event) = self.queue.remove(&key).expect("it was just seen");
                    let at = self.soon(1_000_000_000);
                    self.at(at, process, event);
                }
                _ => {
                    self.queue.remove(&key);
                }
            }
        }
        let lost = self.disk.lose_power(&mut self.random);
        for (what, lost) in [
            ("unsynced bytes lost", lost.bytes),
            ("unsynced names lost", lost.names),
            ("unsettled renames lost", lost.renames),
        ] {
            if lost > 0 {
                self.count(what);
            }
        }
    }

    /// What becomes of a process whose app master has its outcome.
    fn check_outcome(&mut self, number: u64) {
        let Some(outcome) = self.processes[number as usize].master.outcome().cloned() else {
            return;
        };
        self.processes[number as usize].alive = false;
        self.trace.note(self.now, "a process ends", &[number]);
        let zombie = self.processes[number as usize].zombie;
        let superseded =
            matches!(&outcome, Outcome::Failed(Failure::Log(LogError::Superseded { .. })));
        if superseded {
            self.seen("superseded");
        }
        match &outcome {
            _ if zombie => self.seen("a zombie ended by itself"),
            Outcome::Finished { .. } | Outcome::AlreadyFinished { .. } => {
                self.finished = Some(outcome);
            }
            Outcome::Stopped { .. } => self.start_process(),
            Outcome::Failed(failure) => {
                let injected = failure.to_string().contains(INJECTED);
                // Two that both think they lead: whoever was fenced may meet anything, and starts
                // again.
                let term = self.processes[number as usize].master.status(self.now).term;
                let text = failure.to_string();
                let producer = text.contains(FENCED) && self.fired.contains_key("zombie");
                let fenced = superseded || producer || self.commits.term() > term;
                if injected || fenced {
                    self.start_process();
                } else if self.has_chosen_to_fail(&text) {
                    self.finished = Some(outcome);
                } else {
                    self.violations.push(format!("the job failed: {failure}"));
                }
            }
        }
    }

    /// How many processes there were.
    pub(crate) fn processes(&self) -> u64 {
        self.processes.len() as u64
    }
}

/// Marks failures of those whose producer was fenced, by a zombie that came late for example.
const FENCED: &str = "another producer has the transactional id";
/// Marks failures that the simulator has made itself.
const INJECTED: &str = "the simulated disk refuses";

fn place_number(place: Place) -> u64 {
    match place {
        Place::AppMaster => 0,
        Place::Executor(id) => u64::from(id.0) + 1,
    }
}
