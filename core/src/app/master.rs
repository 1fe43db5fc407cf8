//! The app master: opens the commit log, deploys the tasks, runs the epochs, and ends the app.
//!
//! Call order: `handle` with [`Input::Start`] first, then with whatever comes; after each call
//! `next_timeout` says when [`Input::Timeout`] is due. Once there is an `outcome`, nothing that
//! is heard changes anything.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::marker::PhantomData;

use super::fleet::Fleet;
use super::outcome::{Failure, OpenEpoch, Outcome, Stage, Status};
use super::plan::{AppPlan, Placement};
use super::regions::{Region, regions};
use super::replays::Replays;
use super::savepoints::Savepoints;
use crate::checkpoint::coordinator::{Aged, Cause, Config, Coordinator, Ending};
use crate::checkpoint::history::History;
use crate::checkpoint::log::{Log, LogError, LogEvent};
use crate::checkpoint::record::{EpochRecord, Record, TaskKey, object_name};
use crate::checkpoint::recovery::{self, Choice};
use crate::checkpoint::retention::Retention;
use crate::effect::{Effect, Level, Notice, Place};
use crate::host::figures::EpochFigures;
use crate::host::{Faults, NoFaults};
use crate::id::{Attempt, Epoch, ExecutorId, LogNumber, TaskId};
use crate::message::{Input, Message, ObjectRef, TaskReport, TaskSnapshot};
use crate::time::Time;

/// Leads one app.
#[derive(Clone, Debug)]
pub struct AppMaster<F: Faults = NoFaults> {
    pub(super) plan: AppPlan,
    /// Where each task runs, or ran last.
    pub(super) placement: BTreeMap<TaskId, ExecutorId>,
    /// The attempt of each task that is deployed: what is said of another is not heard.
    pub(super) attempts: BTreeMap<TaskId, Attempt>,
    pub(super) regions: Vec<Region>,
    /// None if the executors are fixed.
    pub(super) fleet: Option<Fleet>,
    pub(super) log: Log,
    /// What there is once the log has been read.
    pub(super) run: Option<Run>,
    pub(super) savepoints: Savepoints,
    pub(super) replays: Replays,
    started: bool,
    pub(super) stop_asked: bool,
    outcome: Option<Outcome>,
    faults: PhantomData<fn() -> F>,
}

/// An app whose log has been read.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) coordinator: Coordinator,
    pub(super) retention: Retention,
    /// The highest attempt that was given to anybody.
    pub(super) attempt: Attempt,
    /// In which attempts tasks were about to run when the log was read.
    pub(super) attempted: BTreeMap<TaskKey, Attempt>,
    /// A record that cannot be read was passed over: it may be of an attempt.
    pub(super) blind: bool,
    /// The tasks of which the log says that they are about to be deployed.
    pub(super) recorded: BTreeSet<TaskKey>,
    pub(super) key_groups: u32,
    /// The epoch that was the last one when the log was read.
    recovered: Epoch,
    /// The record of the last committed epoch.
    pub(super) last: Option<Box<EpochRecord>>,
    pub(super) layout: Layout,
    /// What executors ran when this app master began, until it is decided what of it goes on.
    pub(super) reports: Option<BTreeMap<ExecutorId, Vec<TaskReport>>>,
    /// Tasks that have gone down, until the epochs in flight are given up.
    pub(super) lost: BTreeSet<TaskId>,
    /// True once tasks have run since the last epoch that was found in the log.
    pub(super) has_run: bool,
    /// How often a region has gone down.
    pub(super) roll_backs: u64,
    /// The record that the log writes.
    pub(super) writing: Option<Record>,
    /// How the app ends once the log has the note that all is visible.
    pub(super) closing: Option<Ending>,
    /// What each task counted last.
    counts: BTreeMap<TaskId, Counts>,
    /// The last epochs that were committed.
    pub(super) epochs: VecDeque<EpochFigures>,
    /// True if the app had finished and only its sinks have something left to do.
    pub(super) only_sinks: bool,
}

/// How the partitions, the state and the accounts of the last record are dealt to the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// As this app master deals them.
    Own,
    /// As an earlier app master has dealt them, which it did from a list of partitions of its own.
    Foreign,
    /// As the record has them: it was committed since they were dealt.
    Record,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    records: u64,
    quarantined: u64,
}

impl Counts {
    fn of(snapshot: &TaskSnapshot) -> Self {
        Self { records: snapshot.records, quarantined: snapshot.quarantined }
    }
}

/// A deadline of the app master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The next epoch is due.
    Epoch,
    /// The oldest epoch is old enough to be spoken of.
    EpochAge,
    /// A request of the commit log is repeated.
    LogRetry,
    /// A request of the collector is repeated.
    RetentionRetry,
    /// Executors have been waited for long enough.
    Executors,
    /// A region whose task has failed is tried again.
    RegionRetry,
    /// A request of a savepoint is repeated, or the savepoint has taken too long.
    Savepoint,
    /// The same of what is to leave the quarantine.
    Replay,
}

impl<F: Faults> AppMaster<F> {
    /// Nothing happens before [`Input::Start`].
    ///
    /// # Panics
    /// If the plan contradicts itself: no task, a task without a place, a name given twice.
    #[must_use]
    pub fn new(plan: AppPlan) -> Self {
        let tasks: Vec<TaskId> = plan.tasks().map(|(task, _)| task).collect();
        assert!(!tasks.is_empty(), "an app has tasks");
        let uids: BTreeSet<_> = plan.processors.iter().map(|processor| &processor.uid).collect();
        assert_eq!(uids.len(), plan.processors.len(), "a name means one processor");
        let (placement, fleet, regions) = match &plan.placement {
            Placement::Fixed(places) => {
                let placement: BTreeMap<_, _> = places.iter().copied().collect();
                assert_eq!(placement.len(), places.len(), "a task has one place");
                assert!(
                    tasks.len() == placement.len()
                        && tasks.iter().all(|task| placement.contains_key(task)),
                    "every task has a place, and what has a place is a task of the app"
                );
                // They begin and end together.
                let all: Vec<_> = tasks.iter().map(|task| (tasks[0], *task)).collect();
                (placement, None, regions(tasks.into_iter(), &all))
            }
            Placement::Executors { wanted, channels } => {
                let regions = regions(tasks.into_iter(), channels);
                (BTreeMap::new(), Some(Fleet::new(*wanted)), regions)
            }
        };
        let log = Log::new(plan.identity.clone(), plan.incarnation, plan.term);
        Self {
            plan,
            placement,
            attempts: BTreeMap::new(),
            regions,
            fleet,
            log,
            run: None,
            savepoints: Savepoints::default(),
            replays: Replays::new(),
            started: false,
            stop_asked: false,
            outcome: None,
            faults: PhantomData,
        }
    }

    /// How the app ended; none while it has not.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// How the app is doing.
    #[must_use]
    pub fn status(&self, now: Time) -> Status {
        let run = self.run.as_ref();
        let some = |epoch: Epoch| (epoch > Epoch(0)).then_some(epoch);
        let open =
            |aged: Aged| OpenEpoch { epoch: aged.epoch, age: aged.age, waiting: aged.waiting };
        let counts = || run.iter().flat_map(|run| run.counts.values());
        Status {
            stage: self.stage(),
            term: self.log.term(),
            recovered: run.and_then(|run| some(run.recovered)),
            committed: run.and_then(|run| some(run.coordinator.committed())),
            in_flight: run.map_or(0, |run| run.coordinator.in_flight()),
            oldest: run.and_then(|run| run.coordinator.oldest(now)).map(open),
            records: counts().map(|counts| counts.records).sum(),
            quarantined: counts().map(|counts| counts.quarantined).sum(),
            roll_backs: run.map_or(0, |run| run.roll_backs),
        }
    }

    fn stage(&self) -> Stage {
        match &self.run {
            _ if self.outcome.is_some() => Stage::Ended,
            _ if !self.started => Stage::New,
            None => Stage::Opening,
            Some(_) if self.regions.iter().all(Region::is_running) => Stage::Running,
            Some(_) => Stage::Deploying,
        }
    }

    /// When [`Input::Timeout`] is due, and for what.
    #[must_use]
    pub fn next_timeout(&self) -> Option<(Time, Timer)> {
        if self.outcome.is_some() {
            return None;
        }
        let run = self.run.as_ref();
        let epoch = run.and_then(|run| run.coordinator.next_timeout());
        let epoch = epoch.map(|(at, cause)| match cause {
            Cause::Interval => (at, Timer::Epoch),
            Cause::Age => (at, Timer::EpochAge),
        });
        let log = self.log.next_timeout().map(|at| (at, Timer::LogRetry));
        let retention = run.and_then(|run| run.retention.next_timeout());
        let retention = retention.map(|at| (at, Timer::RetentionRetry));
        let executors = self.fleet.as_ref().and_then(Fleet::until);
        let executors = executors.filter(|_| run.is_some_and(|run| self.waits_for_executors(run)));
        let executors = executors.map(|at| (at, Timer::Executors));
        let regions = self.regions.iter().filter_map(Region::not_before).min();
        let regions = regions.map(|at| (at, Timer::RegionRetry));
        let savepoints = self.savepoints.next_timeout().map(|at| (at, Timer::Savepoint));
        let replays = self.replays.next_timeout().map(|at| (at, Timer::Replay));
        let all = [epoch, log, retention, executors, regions, savepoints, replays];
        all.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn waits_for_executors(&self, run: &Run) -> bool {
        run.reports.is_some() || self.regions.iter().any(Region::is_down)
    }

    /// Hears, and says what is to be done.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Effect>) {
        if self.outcome.is_some() {
            return;
        }
        match input {
            Input::Start => {
                assert!(!self.started, "an app master is started once");
                self.started = true;
                self.log.start(out);
            }
            Input::Message { from, message } => self.on_message(now, from, message, out),
            Input::Stored { token, reply } => {
                if self.log.owns(token) {
                    if let Some(event) = self.log.handle_stored(now, token, reply, out) {
                        self.on_log_event(now, event, out);
                    }
                } else if self.savepoints.owns(token) {
                    self.on_savepoint_stored(now, token, reply, out);
                } else if self.replays.owns(token) {
                    self.on_replay_stored(now, token, reply, out);
                } else if let Some(run) = &mut self.run {
                    let Run { coordinator, retention, .. } = run;
                    let named = names(coordinator.named().chain(self.savepoints.named()));
                    retention.handle_stored(now, token, reply, named, out);
                }
            }
            // Connectors' requests are the executors'.
            Input::IoDone { .. } => {}
            Input::Executors { granted } => {
                if let Some(fleet) = &mut self.fleet {
                    if !fleet.is_granted() {
                        fleet.wait(now);
                    }
                    fleet.grant(granted);
                }
            }
            Input::ExecutorUp { executor, address } => {
                let is_new = self.fleet.as_mut().is_some_and(|fleet| fleet.up(executor, address));
                if is_new && self.run.is_some() {
                    self.ask(executor, out);
                }
            }
            Input::ExecutorLost { executor, reason } => self.on_lost(now, executor, &reason, out),
            Input::Stop => self.on_stop(now, out),
            Input::Timeout => self.on_timeout(now, out),
        }
        self.advance(now, out);
    }

    /// Does whatever can be done now; doing it again changes nothing.
    fn advance(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.run.is_none() || !self.decide(now, out) {
            return;
        }
        if self.outcome.is_none() {
            self.give_up_epochs();
            self.start_all_ready(now, out);
            self.bring_up(now, out);
        }
        if self.outcome.is_none() {
            self.resume_epochs(now, out);
            self.order_replays(out);
        }
    }

    fn on_timeout(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.log.handle_timeout(now, out);
        self.savepoints.handle_timeout(now, out);
        self.replays.handle_timeout(now, out);
        if let Some(fleet) = &mut self.fleet {
            fleet.handle_timeout(now);
        }
        self.regions.iter_mut().for_each(|region| region.handle_timeout(now));
        let Some(run) = &mut self.run else { return };
        run.retention.handle_timeout(now, out);
        let mut steps = Vec::new();
        run.coordinator.handle_timeout(now, &mut steps);
        self.perform(steps, out);
    }

    fn on_stop(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.stop_asked = true;
        let is_idle = match (&self.run, &self.fleet) {
            (None, None) => true,
            // Executors may run what an earlier app master has deployed.
            (None, Some(_)) => false,
            (Some(_), None) => !self.regions.iter().all(Region::is_running),
            (Some(run), Some(_)) => {
                run.reports.is_none() && !run.has_run && run.coordinator.ending().is_none()
            }
        };
        if is_idle {
            // No task has done anything since the last committed epoch.
            let epoch = self.run.as_ref().map(|run| run.recovered);
            let epoch = epoch.filter(|epoch| *epoch > Epoch(0));
            self.end(Outcome::Stopped { epoch }, out);
        } else if let Some(run) = &mut self.run {
            let mut steps = Vec::new();
            run.coordinator.handle_stop(now, &mut steps);
            self.perform(steps, out);
        }
    }

    fn on_message(&mut self, now: Time, from: Place, message: Message, out: &mut Vec<Effect>) {
        let Some(run) = &mut self.run else { return };
        if run.reports.is_some() && !matches!(message, Message::Report { .. }) {
            return self.amend(from, message);
        }
        let subject = subject(&message);
        let is_known = |(task, attempt)| self.attempts.get(&task) == Some(&attempt);
        // Where tasks never go back a failure ends the app, whose ever it is.
        let ends = self.fleet.is_none() && matches!(message, Message::Failed { .. });
        if subject.is_some_and(|subject| !is_known(subject)) && !ends {
            return;
        }
        let mut steps = Vec::new();
        match message {
            Message::Ready { task, .. } => self.on_ready(now, task, out),
            Message::Snapshot { task, epoch, snapshot, .. } => {
                run.count(task, &snapshot);
                run.coordinator.handle_snapshot(now, task, epoch, snapshot, &mut steps);
            }
            Message::Finished { task, after, snapshot, .. } => {
                run.count(task, &snapshot);
                run.coordinator.handle_finished(now, task, after, snapshot, &mut steps);
            }
            Message::SinkCommitted { task, epoch, .. } => {
                run.coordinator.handle_sink_committed(now, task, epoch, &mut steps);
            }
            Message::Failed { task, reason, .. } => self.on_failed(now, task, reason, out),
            Message::Replayed { object, ended, .. } => self.on_replayed(now, object, ended, out),
            Message::Report { term, tasks } => {
                if let Place::Executor(executor) = from {
                    self.on_report(executor, term, tasks, out);
                }
            }
            Message::Deploy(_)
            | Message::Run { .. }
            | Message::StartEpoch { .. }
            | Message::Committed { .. }
            | Message::Replay { .. }
            | Message::TakeOver { .. }
            | Message::Shutdown { .. }
            | Message::PeerLost { .. }
            | Message::Figures(_)
            | Message::Item { .. }
            | Message::Credit { .. } => {
                // Not for an app master; a confused sender is no reason to die.
            }
        }
        self.perform(steps, out);
    }

    /// Asks an executor what it runs; from then on it hears no earlier app master.
    fn ask(&self, executor: ExecutorId, out: &mut Vec<Effect>) {
        out.push(send(executor, Message::TakeOver { term: self.log.term() }));
    }

    fn on_log_event(&mut self, now: Time, event: LogEvent, out: &mut Vec<Effect>) {
        match event {
            LogEvent::Opened(history) => self.on_opened(now, &history, out),
            LogEvent::Appended { number } => self.on_appended(now, number, out),
            LogEvent::Failed(error) => self.fail(error.into(), out),
        }
    }

    pub(super) fn on_opened(&mut self, now: Time, history: &History, out: &mut Vec<Effect>) {
        let choice = match recovery::choose(history, &self.plan) {
            Ok(choice) => choice,
            Err(error) => return self.fail(error.into(), out),
        };
        let record = choice.record.as_deref();
        if let Some(damaged) = &choice.passed_over {
            let text = format!(
                "the last record of the commit log, `{}`, is damaged ({}) and passed over",
                object_name(damaged.number),
                damaged.error
            );
            notice(Level::Warning, text, out);
        }
        if let Some(record) = record.filter(|record| record.finished) {
            let visible = record.sinks_committed.max(history.closed.unwrap_or_default());
            if visible >= record.epoch {
                let epoch = record.epoch;
                let app = &self.plan.identity.app;
                let text =
                    format!("`{app}` had finished before with {epoch}: nothing is left to do");
                notice(Level::Info, text, out);
                return self.end(Outcome::AlreadyFinished { epoch }, out);
            }
        }
        if let (None, Some(folder)) = (record, self.plan.from.clone()) {
            return self.begin_from(&folder, history.clone(), out);
        }
        // What does not fit is found now, not when the executors are there.
        match recovery::deploy(record, &self.plan) {
            Ok(_) => self.begin(now, choice, history, out),
            Err(error) => self.fail(error.into(), out),
        }
    }

    fn begin(&mut self, now: Time, choice: Choice, history: &History, out: &mut Vec<Effect>) {
        let Choice { record, passed_over } = choice;
        let recovered = record.as_ref().map_or(Epoch(0), |record| record.epoch);
        let only_sinks = record.as_ref().is_some_and(|record| record.finished);
        let config = self.coordinator_config(record.as_deref());
        let mut retention = Retention::new(history, recovered);
        if self.fleet.is_none() {
            retention.start(self.log.term(), true, out);
        }
        self.notice_start(record.as_deref(), out);
        self.run = Some(Run {
            coordinator: if only_sinks {
                Coordinator::closing(config)
            } else {
                Coordinator::new(config)
            },
            retention,
            attempt: Attempt::before(self.log.term()),
            attempted: history.attempts.clone(),
            blind: passed_over.is_some(),
            recorded: BTreeSet::new(),
            key_groups: record.as_ref().map_or(self.plan.key_groups, |record| record.key_groups),
            recovered,
            last: record,
            layout: Layout::Own,
            reports: self.fleet.is_some().then(BTreeMap::new),
            lost: BTreeSet::new(),
            has_run: false,
            roll_backs: 0,
            writing: None,
            closing: None,
            counts: BTreeMap::new(),
            epochs: VecDeque::new(),
            only_sinks,
        });
        if let Some(fleet) = &mut self.fleet {
            fleet.wait(now);
        }
        let there: Vec<_> = self.fleet.iter().flat_map(Fleet::everybody).collect();
        there.into_iter().for_each(|executor| self.ask(executor, out));
        if self.stop_asked {
            let run = self.run.as_mut().expect("it was just made");
            run.coordinator.handle_stop(now, &mut Vec::new());
        }
    }

    fn coordinator_config(&self, record: Option<&EpochRecord>) -> Config {
        let sinks = self.plan.tasks().filter(|(_, processor)| processor.sink);
        Config {
            tasks: self.plan.tasks().map(|(task, processor)| (task, processor.source)).collect(),
            sinks: sinks.map(|(task, _)| task).collect(),
            interval: self.plan.epoch_interval,
            recovered: record.map_or(Epoch(0), |record| record.epoch),
            sinks_committed: record.map_or(Epoch(0), |record| record.sinks_committed),
        }
    }

    fn on_appended(&mut self, now: Time, number: LogNumber, out: &mut Vec<Effect>) {
        let Some(run) = &mut self.run else {
            return self.on_savepoint_adopted(now, number, out);
        };
        match run.writing.take().expect("it was being written") {
            Record::Epoch(record) => {
                let mut steps = Vec::new();
                run.note_epoch(now, &record);
                run.coordinator.handle_appended(now, &mut steps);
                let Run { coordinator, retention, .. } = run;
                self.savepoints.committed(&record, out);
                let named = names(coordinator.named().chain(self.savepoints.named()));
                let mut collected = Vec::new();
                let base = coordinator.oldest_base();
                retention.handle_committed(number, &record, base, named, &mut collected);
                run.last = Some(Box::new(record));
                run.layout = Layout::Record;
                self.perform(steps, out);
                self.replays_committed(now, out);
                // Whoever waits for the commit hears of it first.
                out.append(&mut collected);
            }
            Record::Closed(_) => {
                let ending = run.closing.expect("the note is written at the end");
                self.finish(ending, out);
            }
            Record::Attempt(record) => {
                run.retention.attempted(number);
                run.recorded = record.tasks;
            }
            Record::Fence(_) => unreachable!("the log writes its fence itself"),
        }
    }

    pub(super) fn fail(&mut self, failure: Failure, out: &mut Vec<Effect>) {
        notice(Level::Error, failure.to_string(), out);
        let is_superseded = matches!(failure, Failure::Log(LogError::Superseded { .. }));
        if is_superseded && self.fleet.is_some() {
            // The tasks are another's.
            self.savepoints.over("another app master leads the app: ask again");
            self.replays.over("another app master leads the app: ask again");
            self.outcome = Some(Outcome::Failed(failure));
            return;
        }
        self.end(Outcome::Failed(failure), out);
    }

    pub(super) fn end(&mut self, outcome: Outcome, out: &mut Vec<Effect>) {
        assert!(self.outcome.is_none(), "an app ends once");
        self.savepoints.over("the app has ended before it was done");
        self.replays.over("the app has ended before it was done");
        let message = Message::Shutdown { term: self.log.term() };
        match &self.fleet {
            // They may run what an earlier app master has left.
            Some(fleet) => {
                out.extend(fleet.everybody().map(|executor| send(executor, message.clone())));
            }
            None if self.run.is_some() => self.broadcast(&message, out),
            None => {}
        }
        self.outcome = Some(outcome);
    }

    /// The name of a task's processor, if there is such a task.
    pub(super) fn uid(&self, task: TaskId) -> Option<String> {
        let mut processors = self.plan.processors.iter();
        let processor = processors.find(|processor| processor.id == task.processor)?;
        (task.index < processor.parallelism).then(|| processor.uid.clone())
    }

    /// The place of a task's region.
    pub(super) fn region_of(&self, task: TaskId) -> Option<usize> {
        self.regions.iter().position(|region| region.tasks.contains(&task))
    }

    pub(super) fn source_executors(&self) -> BTreeSet<ExecutorId> {
        let sources = self.plan.tasks().filter(|(_, processor)| processor.source);
        sources.map(|(task, _)| self.placement[&task]).collect()
    }

    /// Tells every executor that is used.
    pub(super) fn broadcast(&self, message: &Message, out: &mut Vec<Effect>) {
        let executors: BTreeSet<ExecutorId> = match &self.fleet {
            Some(fleet) => fleet.usable().collect(),
            None => self.placement.values().copied().collect(),
        };
        out.extend(executors.into_iter().map(|executor| send(executor, message.clone())));
    }
}

impl Run {
    pub(super) fn count(&mut self, task: TaskId, snapshot: &TaskSnapshot) {
        let counts = self.counts.entry(task).or_default();
        // Snapshots may come out of order, and both figures only rise.
        let new = Counts::of(snapshot);
        counts.records = counts.records.max(new.records);
        counts.quarantined = counts.quarantined.max(new.quarantined);
    }
}

/// The task of which a message tells, and its attempt.
pub(super) fn subject(message: &Message) -> Option<(TaskId, Attempt)> {
    match message {
        Message::Ready { task, attempt }
        | Message::Snapshot { task, attempt, .. }
        | Message::Finished { task, attempt, .. }
        | Message::SinkCommitted { task, attempt, .. }
        | Message::Replayed { task, attempt, .. }
        | Message::Failed { task, attempt, .. } => Some((*task, *attempt)),
        _ => None,
    }
}

pub(super) fn names<'a>(
    objects: impl Iterator<Item = &'a ObjectRef>,
) -> impl Iterator<Item = &'a str> {
    objects.map(|object| object.name.as_str())
}

pub(super) fn send(executor: ExecutorId, message: Message) -> Effect {
    Effect::Send { to: Place::Executor(executor), message }
}

pub(super) fn notice(level: Level, text: String, out: &mut Vec<Effect>) {
    out.push(Effect::Notice(Notice { level, text }));
}
