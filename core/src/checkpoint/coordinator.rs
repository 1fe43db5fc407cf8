//! The epochs in flight: started by a clock, collected from the tasks, appended in order.
//!
//! Methods of four kinds: getters; `handle_*` for what tasks, log and clock say; the calls that
//! begin and pause ([`Coordinator::run`], [`Coordinator::pause`], [`Coordinator::roll_back`]);
//! `next_timeout`. What has to be done comes back as [`Step`]s. Messages may come twice, late and
//! in any order.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use crate::id::{Epoch, TaskId};
use crate::limits::EPOCHS_UNCOMMITTED_MAX;
use crate::message::{EpochStart, ObjectRef, TaskSnapshot};
use crate::time::{Duration, Time};

/// An epoch that is older than this many intervals is spoken of.
const AGE_INTERVALS: u32 = 10;

/// Collects the epochs of one run of an app.
#[derive(Clone, Debug)]
pub struct Coordinator {
    interval: Option<Duration>,
    tasks: BTreeMap<TaskId, Member>,
    /// The sinks' tasks that acknowledge, each with the highest epoch it has made visible.
    sinks: BTreeMap<TaskId, Epoch>,
    /// Highest epoch that all sinks had made visible before this run.
    sinks_before: Epoch,
    /// Not yet committed, oldest first. Between the last committed epoch and the first of them may
    /// be some that were given up: their numbers are not used again.
    flights: VecDeque<Flight>,
    /// The last epoch that was started.
    started: Epoch,
    /// The last epoch that is in the log; 0 if none.
    committed: Epoch,
    /// When the next epoch is due; none if no clock starts epochs.
    due: Option<Time>,
    running: bool,
    stop_asked: bool,
    /// True while the log writes the oldest epoch.
    appending: bool,
    /// How the app ends, once its last epoch is committed.
    ending: Option<Ending>,
    /// True once the end has been announced.
    over: bool,
}

/// What is known of a task.
#[derive(Clone, Debug)]
struct Member {
    source: bool,
    /// The last epoch of which it forwarded the barrier, and what stands for every later one.
    finished: Option<(Epoch, TaskSnapshot)>,
}

#[derive(Clone, Debug)]
struct Flight {
    start: EpochStart,
    at: Time,
    snapshots: BTreeMap<TaskId, TaskSnapshot>,
    /// True once its age has been spoken of.
    aged: bool,
}

/// How an app ends by its own doing or by the user's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The last epoch.
    pub epoch: Epoch,
    /// True if all tasks had finished, false if the user asked for a stop.
    pub finished: bool,
}

/// Something that the app master has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Tell the executors of sources.
    Start(EpochStart),
    /// Append this epoch's record, then call [`Coordinator::handle_appended`].
    Append(Collected),
    /// Tell all executors.
    Committed(Epoch),
    /// The last epoch is committed and all sinks have made it visible.
    Over(Ending),
    /// Tell the user.
    Aged(Aged),
}

/// What all tasks have to say of an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Collected {
    /// The epoch.
    pub epoch: Epoch,
    /// Every task had finished before its barrier.
    pub finished: bool,
    /// The user had asked for a stop.
    pub stopped: bool,
    /// Highest epoch that all sinks are known to have made visible.
    pub sinks_committed: Epoch,
    /// Every task's part.
    pub tasks: BTreeMap<TaskId, TaskSnapshot>,
}

/// An epoch that takes long.
#[derive(Clone, Debug, PartialEq)]
pub struct Aged {
    /// The epoch.
    pub epoch: Epoch,
    /// How long ago it was started.
    pub age: Duration,
    /// The tasks that have not reported; empty if it waits for the store.
    pub waiting: Vec<TaskId>,
}

/// What a [`Coordinator`] starts from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Every task, and whether it is a source's.
    pub tasks: Vec<(TaskId, bool)>,
    /// The tasks of sinks that acknowledge what they have made visible.
    pub sinks: Vec<TaskId>,
    /// Time between the starts of two epochs; none or zero for no epoch but the last.
    pub interval: Option<Duration>,
    /// The epoch that was restored; 0 if none.
    pub recovered: Epoch,
    /// Highest epoch that all sinks had made visible by then.
    pub sinks_committed: Epoch,
}

impl Coordinator {
    /// Nothing happens before [`Self::run`].
    #[must_use]
    pub fn new(config: Config) -> Self {
        assert!(!config.tasks.is_empty(), "an app has tasks");
        let member = |(task, source)| (task, Member { source, finished: None });
        let tasks: BTreeMap<_, _> = config.tasks.into_iter().map(member).collect();
        assert!(config.sinks.iter().all(|sink| tasks.contains_key(sink)));
        Self {
            interval: config.interval.filter(|interval| !interval.is_zero()),
            tasks,
            sinks: config.sinks.into_iter().map(|sink| (sink, Epoch(0))).collect(),
            sinks_before: config.sinks_committed,
            flights: VecDeque::new(),
            started: config.recovered,
            committed: config.recovered,
            due: None,
            running: false,
            stop_asked: false,
            appending: false,
            ending: None,
            over: false,
        }
    }

    /// One that only waits until all sinks have made the recovered epoch visible, after which
    /// the app, which had finished with it, is over.
    #[must_use]
    pub fn closing(config: Config) -> Self {
        let ending = Ending { epoch: config.recovered, finished: true };
        assert!(ending.epoch > Epoch(0), "only a committed epoch can be the last");
        Self { ending: Some(ending), ..Self::new(config) }
    }

    /// The last epoch that is in the log; 0 if none.
    #[must_use]
    pub fn committed(&self) -> Epoch {
        self.committed
    }

    /// The last epoch that was started; 0 if none.
    #[must_use]
    pub fn started(&self) -> Epoch {
        self.started
    }

    /// Somebody waits for an epoch: the next one is due, also if no clock starts epochs.
    pub fn hurry(&mut self, now: Time, out: &mut Vec<Step>) {
        self.due = Some(now);
        self.advance(now, out);
    }

    /// How many epochs are not yet committed.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// The oldest epoch that is not committed, with its age and the tasks it waits for.
    #[must_use]
    pub fn oldest(&self, now: Time) -> Option<Aged> {
        self.flights.front().map(|flight| self.age_of(flight, now))
    }

    /// The sinks' tasks that have not yet made the last committed epoch visible.
    pub fn silent_sinks(&self) -> impl Iterator<Item = TaskId> {
        let is_silent = |(_, epoch): &(&TaskId, &Epoch)| **epoch < self.committed;
        self.sinks.iter().filter(is_silent).map(|(task, _)| *task)
    }

    /// The committed epoch from which on all objects are still needed by epochs in flight: an
    /// incremental snapshot names those of its base.
    #[must_use]
    pub fn oldest_base(&self) -> Option<Epoch> {
        self.flights.iter().filter_map(|flight| flight.start.base).min()
    }

    /// The objects that tasks have reported for records still to come: of state and of output.
    pub fn named(&self) -> impl Iterator<Item = &ObjectRef> {
        let open = self.flights.iter().flat_map(|flight| flight.snapshots.values());
        let last = self.tasks.values().filter_map(|member| member.finished.as_ref());
        let all = open.chain(last.map(|(_, snapshot)| snapshot));
        all.flat_map(|snapshot| snapshot.chain.iter().chain(&snapshot.objects))
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<(Time, Cause)> {
        let start = self.may_start().then_some(self.due).flatten();
        let age = self.age_deadline();
        let start = start.map(|at| (at, Cause::Interval));
        start.into_iter().chain(age.map(|at| (at, Cause::Age))).min_by_key(|(at, _)| *at)
    }

    /// Every task is ready and runs from now on.
    pub fn run(&mut self, now: Time, out: &mut Vec<Step>) {
        assert!(!self.running, "who runs is paused first");
        self.running = true;
        // What was due before a pause still is.
        self.due = self.interval.map(|interval| self.due.unwrap_or(now + interval));
        self.advance(now, out);
    }

    /// Not all tasks run: no epoch is started, and none is appended that is not yet under way.
    pub fn pause(&mut self) {
        self.running = false;
    }

    /// True between [`Self::run`] and [`Self::pause`].
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// True while a record is on its way to the log: what it is worth is not known.
    #[must_use]
    pub fn is_appending(&self) -> bool {
        self.appending
    }

    /// How the app ends, once its last epoch is committed.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// These tasks go back to the last committed epoch. All epochs in flight are given up, since
    /// what the tasks had to say of them is void; their numbers are not used again. Gives the
    /// objects that nobody will name any more, unless a sink that goes on does.
    ///
    /// # Panics
    /// If it runs, or if an epoch is being appended, which may commit it.
    pub fn roll_back(&mut self, tasks: &BTreeSet<TaskId>) -> Vec<ObjectRef> {
        assert!(!self.running && !self.appending, "an epoch is given up between two appends");
        let flights = core::mem::take(&mut self.flights);
        if self.ending.is_none() {
            for task in tasks {
                if let Some(member) = self.tasks.get_mut(task) {
                    member.finished = None;
                }
            }
        }
        let snapshots = flights.into_iter().flat_map(|flight| flight.snapshots.into_values());
        snapshots.flat_map(|snapshot| snapshot.chain.into_iter().chain(snapshot.objects)).collect()
    }

    /// Tasks have heard of this epoch, so no later one may have its number.
    pub fn skip(&mut self, epoch: Epoch) {
        self.started = self.started.max(epoch);
    }

    /// The user wants the app to stop with one last epoch.
    pub fn handle_stop(&mut self, now: Time, out: &mut Vec<Step>) {
        self.stop_asked = true;
        self.advance(now, out);
    }

    /// A deadline has come.
    pub fn handle_timeout(&mut self, now: Time, out: &mut Vec<Step>) {
        if self.age_deadline().is_some_and(|at| at <= now) {
            let flight = self.flights.front_mut().expect("it has a deadline");
            flight.aged = true;
            out.extend(self.oldest(now).map(Step::Aged));
        }
        self.advance(now, out);
    }

    /// A task's part of an epoch is durable.
    pub fn handle_snapshot(
        &mut self,
        now: Time,
        task: TaskId,
        epoch: Epoch,
        snapshot: TaskSnapshot,
        out: &mut Vec<Step>,
    ) {
        let Some(member) = self.tasks.get(&task) else { return };
        if member.finished.as_ref().is_some_and(|(after, _)| *after < epoch) {
            return;
        }
        // An epoch that is not in flight is committed, or was given up because all had finished.
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.start.epoch == epoch)
        else {
            return;
        };
        flight.snapshots.entry(task).or_insert(snapshot);
        self.advance(now, out);
    }

    /// A task has ended; `snapshot` stands for every epoch later than `after`.
    pub fn handle_finished(
        &mut self,
        now: Time,
        task: TaskId,
        after: Epoch,
        mut snapshot: TaskSnapshot,
        out: &mut Vec<Step>,
    ) {
        if self.ending.is_some() {
            return;
        }
        let Some(member) = self.tasks.get_mut(&task) else { return };
        snapshot.finished = true;
        // It cannot have ended before an epoch in which it took part.
        let took_part = |flight: &&Flight| flight.snapshots.contains_key(&task);
        let last = self.flights.iter().rev().find(took_part).map(|flight| flight.start.epoch);
        member.finished.get_or_insert((after.max(last.unwrap_or_default()), snapshot));
        self.advance(now, out);
    }

    /// A sink has made visible what it had pre-committed up to and with this epoch.
    pub fn handle_sink_committed(
        &mut self,
        now: Time,
        task: TaskId,
        epoch: Epoch,
        out: &mut Vec<Step>,
    ) {
        // Nothing becomes visible before it is committed, so anything else is not of this run.
        if epoch > self.committed {
            return;
        }
        let Some(acknowledged) = self.sinks.get_mut(&task) else { return };
        *acknowledged = epoch.max(*acknowledged);
        self.advance(now, out);
    }

    /// The record of the epoch that [`Step::Append`] asked for is in the log.
    pub fn handle_appended(&mut self, now: Time, out: &mut Vec<Step>) {
        assert!(self.appending, "only what was asked for is appended");
        self.appending = false;
        let flight = self.flights.pop_front().expect("it was being appended");
        let epoch = flight.start.epoch;
        assert!(epoch > self.committed, "epochs are committed in order");
        self.committed = epoch;
        out.push(Step::Committed(epoch));
        let finished = self.is_final(epoch);
        if finished || flight.start.stop {
            self.ending = Some(Ending { epoch, finished });
            self.flights.clear();
        }
        self.advance(now, out);
    }

    /// Does whatever can be done now; doing it again changes nothing.
    fn advance(&mut self, now: Time, out: &mut Vec<Step>) {
        self.check();
        if let Some(ending) = self.ending {
            let is_over = self.running && self.silent_sinks().next().is_none();
            if is_over && !self.over {
                self.over = true;
                out.push(Step::Over(ending));
            }
            return;
        }
        if !self.running {
            return;
        }
        self.end_if_all_finished(now);
        self.append_oldest(out);
        if !self.may_start() {
            return;
        }
        if self.stop_asked || self.due.is_some_and(|due| due <= now) {
            let start = self.open(now, self.stop_asked);
            self.due = self.interval.map(|interval| now + interval);
            out.push(Step::Start(start));
        }
    }

    /// Once all tasks have finished, the first epoch behind them is the last: it is opened if
    /// there is none, needs no barrier, and makes those behind it pointless.
    fn end_if_all_finished(&mut self, now: Time) {
        if !self.all_finished() {
            return;
        }
        let is_last = |flight: &Flight| self.is_final(flight.start.epoch);
        match self.flights.iter().position(is_last) {
            Some(place) => self.flights.truncate(place + 1),
            None => {
                self.open(now, false);
            }
        }
    }

    fn open(&mut self, now: Time, stop: bool) -> EpochStart {
        let epoch = self.started.next();
        let base = (self.committed > Epoch(0)).then_some(self.committed);
        let start = EpochStart { epoch, base, stop };
        self.started = epoch;
        let snapshots = BTreeMap::new();
        self.flights.push_back(Flight { start, at: now, snapshots, aged: false });
        start
    }

    fn append_oldest(&mut self, out: &mut Vec<Step>) {
        let Some(flight) = self.flights.front() else { return };
        let epoch = flight.start.epoch;
        if self.appending || self.waiting(flight).next().is_some() {
            return;
        }
        let part = |task: &TaskId, member: &Member| match &member.finished {
            Some((after, last)) if *after < epoch => last.clone(),
            _ => flight.snapshots[task].clone(),
        };
        let tasks = self.tasks.iter().map(|(task, member)| (*task, part(task, member))).collect();
        let finished = self.is_final(epoch);
        let sinks_committed = match self.sinks.values().min() {
            Some(acknowledged) => self.sinks_before.max(*acknowledged),
            // Without sinks there is nothing to wait for.
            None => epoch,
        };
        let stopped = flight.start.stop;
        out.push(Step::Append(Collected { epoch, finished, stopped, sinks_committed, tasks }));
        self.appending = true;
    }

    fn may_start(&self) -> bool {
        let reads = self.tasks.values().any(|member| member.source && member.finished.is_none());
        let stops = self.flights.back().is_some_and(|flight| flight.start.stop);
        let has_room = self.flights.len() < EPOCHS_UNCOMMITTED_MAX;
        // Without a source that reads there is nobody to put in a barrier: the tasks will end.
        self.running && self.ending.is_none() && has_room && !stops && reads
    }

    fn all_finished(&self) -> bool {
        self.tasks.values().all(|member| member.finished.is_some())
    }

    /// True if every task had finished before this epoch.
    fn is_final(&self, epoch: Epoch) -> bool {
        let is_before = |(after, _): &(Epoch, TaskSnapshot)| *after < epoch;
        self.tasks.values().all(|member| member.finished.as_ref().is_some_and(is_before))
    }

    fn waiting<'a>(&'a self, flight: &'a Flight) -> impl Iterator<Item = TaskId> + 'a {
        let is_missing = move |(task, member): &(&TaskId, &Member)| {
            let epoch = flight.start.epoch;
            let has_ended = member.finished.as_ref().is_some_and(|(after, _)| *after < epoch);
            !has_ended && !flight.snapshots.contains_key(task)
        };
        self.tasks.iter().filter(is_missing).map(|(task, _)| *task)
    }

    fn age_of(&self, flight: &Flight, now: Time) -> Aged {
        let waiting = self.waiting(flight).collect();
        Aged { epoch: flight.start.epoch, age: now.since(flight.at), waiting }
    }

    fn age_deadline(&self) -> Option<Time> {
        let interval = self.interval?;
        let oldest = self.flights.front().filter(|flight| !flight.aged)?;
        Some(oldest.at + interval.saturating_mul(AGE_INTERVALS))
    }

    fn check(&self) {
        let first = self.flights.front().map(|flight| flight.start.epoch);
        assert!(first.is_none_or(|first| first > self.committed), "epochs are committed in order");
        // One more than the bound: the last epoch needs no barrier and holds nothing up.
        assert!(self.flights.len() <= EPOCHS_UNCOMMITTED_MAX + 1);
        assert!(!self.appending || !self.flights.is_empty());
        assert!(self.sinks.values().all(|epoch| *epoch <= self.committed));
        assert!(self.started >= self.committed);
    }
}

/// What a deadline of the coordinator is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The next epoch is due.
    Interval,
    /// The oldest epoch is old enough to be spoken of.
    Age,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ProcessorId;
    use crate::time::seconds;

    const SOURCE: TaskId = TaskId { processor: ProcessorId(0), index: 0 };
    const SINK: TaskId = TaskId { processor: ProcessorId(1), index: 0 };

    fn running() -> Coordinator {
        let mut coordinator = Coordinator::new(Config {
            tasks: [(SOURCE, true), (SINK, false)].into(),
            sinks: [SINK].into(),
            interval: Some(seconds(1)),
            recovered: Epoch(0),
            sinks_committed: Epoch(0),
        });
        coordinator.run(Time::ZERO, &mut Vec::new());
        coordinator
    }

    fn at(second: u64) -> Time {
        Time::ZERO + seconds(second)
    }

    fn started(steps: &[Step]) -> Vec<Epoch> {
        let starts = steps.iter().filter_map(|step| match step {
            Step::Start(start) => Some(start.epoch),
            _ => None,
        });
        starts.collect()
    }

    fn snapshot(coordinator: &mut Coordinator, task: TaskId, epoch: u64) -> Vec<Step> {
        let mut steps = Vec::new();
        let part = TaskSnapshot::default();
        coordinator.handle_snapshot(at(1), task, Epoch(epoch), part, &mut steps);
        steps
    }

    #[test]
    fn epochs_start_by_the_clock_up_to_a_bound() {
        let mut coordinator = running();
        let mut steps = Vec::new();
        for second in 1..20 {
            coordinator.handle_timeout(at(second), &mut steps);
            // A deadline heard twice starts nothing twice.
            coordinator.handle_timeout(at(second), &mut steps);
        }
        let bound = EPOCHS_UNCOMMITTED_MAX as u64;
        assert_eq!(started(&steps), (1..=bound).map(Epoch).collect::<Vec<_>>());
        let aged: Vec<_> = steps.iter().filter(|step| matches!(step, Step::Aged(_))).collect();
        assert_eq!(aged.len(), 1);
        assert_eq!(coordinator.next_timeout(), None);
    }

    #[test]
    fn epochs_are_appended_in_order_whatever_order_their_parts_come_in() {
        let mut coordinator = running();
        coordinator.handle_timeout(at(1), &mut Vec::new());
        coordinator.handle_timeout(at(2), &mut Vec::new());
        assert_eq!(snapshot(&mut coordinator, SINK, 2), []);
        assert_eq!(snapshot(&mut coordinator, SOURCE, 2), []);
        assert_eq!(snapshot(&mut coordinator, SOURCE, 1), []);
        assert_eq!(snapshot(&mut coordinator, SOURCE, 1), []);
        let steps = snapshot(&mut coordinator, SINK, 1);
        assert!(matches!(&steps[..], [Step::Append(collected)] if collected.epoch == Epoch(1)));
        assert_eq!(snapshot(&mut coordinator, SINK, 1), []);
        let mut steps = Vec::new();
        coordinator.handle_appended(at(2), &mut steps);
        assert_eq!(steps[0], Step::Committed(Epoch(1)));
        assert!(matches!(&steps[1], Step::Append(collected) if collected.epoch == Epoch(2)));
        assert_eq!(snapshot(&mut coordinator, SOURCE, 1), []);
    }

    #[test]
    fn the_last_snapshot_of_a_task_stands_for_later_epochs() {
        let mut coordinator = running();
        coordinator.handle_timeout(at(1), &mut Vec::new());
        coordinator.handle_timeout(at(2), &mut Vec::new());
        let mut steps = Vec::new();
        let last = TaskSnapshot { records: 7, ..TaskSnapshot::default() };
        // It ended behind the barrier of epoch 1, and that news comes first.
        coordinator.handle_finished(at(2), SOURCE, Epoch(1), last, &mut steps);
        assert_eq!(snapshot(&mut coordinator, SINK, 1), []);
        let steps = snapshot(&mut coordinator, SOURCE, 1);
        let [Step::Append(first)] = &steps[..] else { panic!("{steps:?}") };
        assert!(!first.tasks[&SOURCE].finished && !first.finished);
        coordinator.handle_appended(at(2), &mut Vec::new());
        let steps = snapshot(&mut coordinator, SINK, 2);
        let [Step::Append(second)] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!(second.tasks[&SOURCE].records, 7);
        assert!(second.tasks[&SOURCE].finished && !second.finished);
    }

    #[test]
    fn the_last_epoch_needs_no_barrier_and_waits_for_the_sinks() {
        let mut coordinator = running();
        let mut steps = Vec::new();
        for task in [SOURCE, SINK] {
            let last = TaskSnapshot::default();
            coordinator.handle_finished(at(0), task, Epoch(0), last, &mut steps);
        }
        let [Step::Append(last)] = &steps[..] else { panic!("{steps:?}") };
        assert!(last.finished && last.epoch == Epoch(1));
        let mut steps = Vec::new();
        // Of an epoch that is not committed nobody can have made anything visible.
        coordinator.handle_sink_committed(at(0), SINK, Epoch(1), &mut steps);
        coordinator.handle_appended(at(0), &mut steps);
        assert_eq!(steps, [Step::Committed(Epoch(1))]);
        for _ in 0..2 {
            coordinator.handle_sink_committed(at(0), SINK, Epoch(1), &mut steps);
        }
        let ending = Ending { epoch: Epoch(1), finished: true };
        assert_eq!(steps, [Step::Committed(Epoch(1)), Step::Over(ending)]);
    }

    #[test]
    fn a_stop_takes_its_epoch_at_once_and_starts_no_other() {
        let mut coordinator = running();
        let mut steps = Vec::new();
        coordinator.handle_stop(at(0), &mut steps);
        coordinator.handle_stop(at(0), &mut steps);
        coordinator.handle_timeout(at(5), &mut steps);
        let start = EpochStart { epoch: Epoch(1), base: None, stop: true };
        assert_eq!(steps, [Step::Start(start)]);
    }
}
