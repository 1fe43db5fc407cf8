//! The app master: opens the commit log, deploys the tasks, runs the epochs, and ends the app.
//!
//! Call order: `handle` with [`Input::Start`] first, then with whatever comes; after each call
//! `next_timeout` says when [`Input::Timeout`] is due. Once there is an `outcome`, nothing that
//! is heard changes anything.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::outcome::{Failure, OpenEpoch, Outcome, Stage, Status};
use super::plan::AppPlan;
use crate::checkpoint::coordinator::{Aged, Cause, Collected, Config, Coordinator, Ending, Step};
use crate::checkpoint::history::History;
use crate::checkpoint::log::{Log, LogEvent};
use crate::checkpoint::record::{Closed, EpochRecord, Record, TaskKey, object_name};
use crate::checkpoint::recovery;
use crate::checkpoint::retention::Retention;
use crate::effect::{Effect, Level, Notice, Place};
use crate::id::{Attempt, Epoch, ExecutorId, LogNumber, TaskId};
use crate::message::{Deployment, Input, Message, ObjectRef, TaskDeployment, TaskSnapshot};
use crate::time::Time;

/// Tasks that a notice names before it only counts.
const NAMED_MAX: usize = 5;

/// Leads one app.
#[derive(Clone, Debug)]
pub struct AppMaster {
    plan: AppPlan,
    /// Where each task runs.
    placement: BTreeMap<TaskId, ExecutorId>,
    log: Log,
    /// What there is once the log has been read and the tasks are deployed.
    run: Option<Run>,
    started: bool,
    outcome: Option<Outcome>,
}

/// An app whose tasks are deployed.
#[derive(Clone, Debug)]
struct Run {
    coordinator: Coordinator,
    retention: Retention,
    attempt: Attempt,
    key_groups: u32,
    recovered: Epoch,
    /// Tasks that are not restored yet.
    unready: BTreeSet<TaskId>,
    /// The record that the log writes.
    writing: Option<Record>,
    /// How the app ends once the log has the note that all is visible.
    closing: Option<Ending>,
    /// What each task counted last.
    counts: BTreeMap<TaskId, Counts>,
    /// True if the app had finished and only its sinks have something left to do.
    only_sinks: bool,
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
}

impl AppMaster {
    /// Nothing happens before [`Input::Start`].
    ///
    /// # Panics
    /// If the plan contradicts itself: no task, a task without a place, a name given twice.
    #[must_use]
    pub fn new(plan: AppPlan) -> Self {
        let placement: BTreeMap<_, _> = plan.placement.iter().copied().collect();
        assert_eq!(placement.len(), plan.placement.len(), "a task has one place");
        let mut tasks = 0;
        for (task, processor) in plan.tasks() {
            assert!(placement.contains_key(&task), "{task} of `{}` has a place", processor.uid);
            tasks += 1;
        }
        assert!(tasks > 0 && tasks == placement.len(), "what has a place is a task of the app");
        let uids: BTreeSet<_> = plan.processors.iter().map(|processor| &processor.uid).collect();
        assert_eq!(uids.len(), plan.processors.len(), "a name means one processor");
        let log = Log::new(plan.identity.clone(), plan.incarnation, plan.term);
        Self { plan, placement, log, run: None, started: false, outcome: None }
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
        }
    }

    fn stage(&self) -> Stage {
        match &self.run {
            _ if self.outcome.is_some() => Stage::Ended,
            _ if !self.started => Stage::New,
            None => Stage::Opening,
            Some(run) if run.unready.is_empty() => Stage::Running,
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
        epoch.into_iter().chain(log).chain(retention).min_by_key(|(at, _)| *at)
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
            Input::Message { message, .. } => self.on_message(now, message, out),
            Input::Stored { token, reply } => {
                if self.log.owns(token) {
                    if let Some(event) = self.log.handle_stored(now, token, reply, out) {
                        self.on_log_event(now, event, out);
                    }
                } else if let Some(run) = &mut self.run {
                    let Run { coordinator, retention, .. } = run;
                    let named = names(coordinator.named());
                    retention.handle_stored(now, token, reply, named, out);
                }
            }
            // Connectors' requests are the executors'.
            Input::IoDone { .. } => {}
            Input::Stop => self.on_stop(now, out),
            Input::Timeout => self.on_timeout(now, out),
        }
    }

    fn on_timeout(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.log.handle_timeout(now, out);
        let Some(run) = &mut self.run else { return };
        run.retention.handle_timeout(now, out);
        let mut steps = Vec::new();
        run.coordinator.handle_timeout(now, &mut steps);
        self.perform(steps, out);
    }

    fn on_stop(&mut self, now: Time, out: &mut Vec<Effect>) {
        match &mut self.run {
            Some(run) if run.unready.is_empty() => {
                let mut steps = Vec::new();
                run.coordinator.handle_stop(now, &mut steps);
                self.perform(steps, out);
            }
            // No task has done anything since the last committed epoch.
            run => {
                let epoch = run.as_ref().map(|run| run.recovered);
                let epoch = epoch.filter(|epoch| *epoch > Epoch(0));
                self.end(Outcome::Stopped { epoch }, out);
            }
        }
    }

    fn on_message(&mut self, now: Time, message: Message, out: &mut Vec<Effect>) {
        let Some(run) = &mut self.run else { return };
        if attempt_of(&message).is_some_and(|attempt| attempt != run.attempt) {
            return;
        }
        let mut steps = Vec::new();
        match message {
            Message::Ready { task, .. } => {
                if run.unready.remove(&task) && run.unready.is_empty() {
                    self.start_tasks(now, &mut steps, out);
                }
            }
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
            Message::Failed { task, reason, .. } => {
                let Some(uid) = self.uid(task) else { return };
                let failure = Failure::Task { uid, index: task.index, reason };
                self.fail(failure, out);
            }
            Message::Deploy(_)
            | Message::Run { .. }
            | Message::StartEpoch { .. }
            | Message::Committed { .. }
            | Message::TakeOver { .. }
            | Message::Report { .. }
            | Message::Shutdown { .. }
            | Message::Item { .. }
            | Message::Credit { .. } => {
                // Not for an app master; a confused sender is no reason to die.
            }
        }
        self.perform(steps, out);
    }

    /// Every task is restored.
    fn start_tasks(&mut self, now: Time, steps: &mut Vec<Step>, out: &mut Vec<Effect>) {
        let term = self.log.term();
        let attempt = self.run.as_ref().map(|run| run.attempt).unwrap_or_default();
        self.broadcast(&Message::Run { term, attempt }, out);
        let run = self.run.as_mut().expect("the tasks are deployed");
        run.coordinator.run(now, steps);
        if run.only_sinks {
            // Their acknowledgement may have been what the app master before died waiting for.
            let committed = Message::Committed { term, epoch: run.recovered };
            self.broadcast(&committed, out);
        }
    }

    fn on_log_event(&mut self, now: Time, event: LogEvent, out: &mut Vec<Effect>) {
        match event {
            LogEvent::Opened(history) => self.on_opened(&history, out),
            LogEvent::Appended { number } => self.on_appended(now, number, out),
            LogEvent::Failed(error) => self.fail(error.into(), out),
        }
    }

    fn on_opened(&mut self, history: &History, out: &mut Vec<Effect>) {
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
        match recovery::deploy(record, &self.plan) {
            Ok(tasks) => self.deploy(record, history, tasks, out),
            Err(error) => self.fail(error.into(), out),
        }
    }

    fn deploy(
        &mut self,
        record: Option<&EpochRecord>,
        history: &History,
        mut tasks: Vec<TaskDeployment>,
        out: &mut Vec<Effect>,
    ) {
        let recovered = record.map_or(Epoch(0), |record| record.epoch);
        // An app that has finished stays finished, whatever its job has turned into.
        let only_sinks = record.is_some_and(|record| record.finished);
        tasks.iter_mut().for_each(|task| task.finished |= only_sinks);
        let config = self.coordinator_config(record);
        let attempt = Attempt::before(self.log.term()).next();
        let mut retention = Retention::new(self.log.term(), history, recovered);
        retention.start(out);
        let key_groups = record.map_or(self.plan.key_groups, |record| record.key_groups);
        self.run = Some(Run {
            coordinator: if only_sinks {
                Coordinator::closing(config)
            } else {
                Coordinator::new(config)
            },
            retention,
            attempt,
            key_groups,
            recovered,
            unready: self.placement.keys().copied().collect(),
            writing: None,
            closing: None,
            counts: BTreeMap::new(),
            only_sinks,
        });
        self.notice_start(record, out);
        self.send_deployments(tasks, out);
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

    fn notice_start(&self, record: Option<&EpochRecord>, out: &mut Vec<Effect>) {
        let app = &self.plan.identity.app;
        let text = match record {
            None => format!("`{app}` starts fresh"),
            Some(record) if record.finished => format!(
                "`{app}` had finished before with {}: its sinks make sure that all is visible",
                record.epoch
            ),
            Some(record) => format!("`{app}` goes on from {}", record.epoch),
        };
        notice(Level::Info, text, out);
        let groups = record.map_or(self.plan.key_groups, |record| record.key_groups);
        if groups != self.plan.key_groups {
            let asked = self.plan.key_groups;
            let text = format!(
                "key groups are fixed with the first epoch: `{app}` keeps {groups}, not {asked}"
            );
            notice(Level::Warning, text, out);
        }
    }

    fn send_deployments(&self, tasks: Vec<TaskDeployment>, out: &mut Vec<Effect>) {
        let run = self.run.as_ref().expect("it was just made");
        assert_eq!(tasks.len(), self.placement.len(), "every task is deployed");
        let mut shares: BTreeMap<ExecutorId, Vec<TaskDeployment>> = BTreeMap::new();
        for task in tasks {
            shares.entry(self.placement[&task.task]).or_default().push(task);
        }
        for (executor, tasks) in shares {
            let deployment = Deployment {
                term: self.log.term(),
                attempt: run.attempt,
                epoch: run.recovered,
                key_groups: run.key_groups,
                placement: self.placement.iter().map(|(task, place)| (*task, *place)).collect(),
                addresses: BTreeMap::new(),
                tasks,
            };
            out.push(send(executor, Message::Deploy(deployment)));
        }
    }

    fn on_appended(&mut self, now: Time, number: LogNumber, out: &mut Vec<Effect>) {
        let run = self.run.as_mut().expect("only a deployed app appends");
        match run.writing.take().expect("it was being written") {
            Record::Epoch(record) => {
                let mut steps = Vec::new();
                run.coordinator.handle_appended(now, &mut steps);
                let Run { coordinator, retention, .. } = run;
                let named = names(coordinator.named());
                let mut collected = Vec::new();
                let base = coordinator.oldest_base();
                retention.handle_committed(number, &record, base, named, &mut collected);
                self.perform(steps, out);
                // Whoever waits for the commit hears of it first.
                out.append(&mut collected);
            }
            Record::Closed(_) => {
                let ending = run.closing.expect("the note is written at the end");
                self.finish(ending, out);
            }
            Record::Fence(_) => unreachable!("the log writes its fence itself"),
        }
    }

    fn perform(&mut self, steps: Vec<Step>, out: &mut Vec<Effect>) {
        let term = self.log.term();
        for step in steps {
            match step {
                Step::Start(start) => {
                    for executor in self.source_executors() {
                        out.push(send(executor, Message::StartEpoch { term, start }));
                    }
                }
                Step::Append(collected) => self.append(collected, out),
                Step::Committed(epoch) => self.broadcast(&Message::Committed { term, epoch }, out),
                Step::Over(ending) => self.on_over(ending, out),
                Step::Aged(aged) => self.notice_age(&aged, out),
            }
        }
    }

    fn append(&mut self, collected: Collected, out: &mut Vec<Effect>) {
        let processors: BTreeMap<_, _> =
            self.plan.processors.iter().map(|processor| (processor.id, processor)).collect();
        let key = |task: TaskId| {
            let processor = processors[&task.processor];
            let parallelism = processor.parallelism;
            TaskKey { uid: processor.uid.clone(), index: task.index, parallelism }
        };
        let tasks = collected.tasks.into_iter().map(|(task, snapshot)| (key(task), snapshot));
        let run = self.run.as_mut().expect("only a deployed app appends");
        let record = Record::Epoch(EpochRecord {
            term: self.log.term(),
            epoch: collected.epoch,
            attempt: run.attempt,
            identity: self.plan.identity.clone(),
            dag_version: self.plan.dag_version,
            key_groups: run.key_groups,
            finished: collected.finished,
            stopped: collected.stopped,
            sinks_committed: collected.sinks_committed,
            floor: run.retention.next_floor(),
            tasks: tasks.collect(),
        });
        self.log.append(&record, out);
        run.writing = Some(record);
    }

    /// The last epoch is committed and visible.
    fn on_over(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        let has_sinks = self.plan.processors.iter().any(|processor| processor.sink);
        // Without sinks the epoch's own record says it all; a stopped app goes on later.
        if !ending.finished || !(has_sinks || self.is_only_sinks()) {
            return self.finish(ending, out);
        }
        let record = Record::Closed(Closed {
            term: self.log.term(),
            epoch: ending.epoch,
            identity: self.plan.identity.clone(),
        });
        self.log.append(&record, out);
        let run = self.run.as_mut().expect("only a deployed app ends");
        run.closing = Some(ending);
        run.writing = Some(record);
    }

    fn is_only_sinks(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.only_sinks)
    }

    fn finish(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        let epoch = ending.epoch;
        let outcome = if ending.finished {
            Outcome::Finished { epoch }
        } else {
            Outcome::Stopped { epoch: Some(epoch) }
        };
        self.end(outcome, out);
    }

    fn fail(&mut self, failure: Failure, out: &mut Vec<Effect>) {
        notice(Level::Error, failure.to_string(), out);
        self.end(Outcome::Failed(failure), out);
    }

    fn end(&mut self, outcome: Outcome, out: &mut Vec<Effect>) {
        assert!(self.outcome.is_none(), "an app ends once");
        if self.run.is_some() {
            self.broadcast(&Message::Shutdown { term: self.log.term() }, out);
        }
        self.outcome = Some(outcome);
    }

    fn notice_age(&self, aged: &Aged, out: &mut Vec<Effect>) {
        let mut names: Vec<String> = aged
            .waiting
            .iter()
            .take(NAMED_MAX)
            .copied()
            .map(|task| {
                let uid = self.uid(task).unwrap_or_default();
                format!("`{uid}`[{}]", task.index)
            })
            .collect();
        let more = aged.waiting.len() - names.len();
        if more > 0 {
            names.push(format!("{more} more"));
        }
        let whom = if names.is_empty() { "the checkpoint store".into() } else { names.join(", ") };
        let (epoch, age) = (aged.epoch, aged.age.as_secs_f32());
        let text = format!("{epoch} is {age:.1} s old and waits for {whom}");
        notice(Level::Warning, text, out);
    }

    fn uid(&self, task: TaskId) -> Option<String> {
        let mut processors = self.plan.processors.iter();
        let processor = processors.find(|processor| processor.id == task.processor)?;
        (task.index < processor.parallelism).then(|| processor.uid.clone())
    }

    fn source_executors(&self) -> BTreeSet<ExecutorId> {
        let sources = self.plan.tasks().filter(|(_, processor)| processor.source);
        sources.map(|(task, _)| self.placement[&task]).collect()
    }

    fn broadcast(&self, message: &Message, out: &mut Vec<Effect>) {
        let executors: BTreeSet<ExecutorId> = self.placement.values().copied().collect();
        out.extend(executors.into_iter().map(|executor| send(executor, message.clone())));
    }
}

impl Run {
    fn count(&mut self, task: TaskId, snapshot: &TaskSnapshot) {
        let counts = self.counts.entry(task).or_default();
        // Snapshots may come out of order, and both figures only rise.
        let new = Counts::of(snapshot);
        counts.records = counts.records.max(new.records);
        counts.quarantined = counts.quarantined.max(new.quarantined);
    }
}

/// The attempt of which a message tells. A failure ends the app, whose ever it is.
fn attempt_of(message: &Message) -> Option<Attempt> {
    match message {
        Message::Ready { attempt, .. }
        | Message::Snapshot { attempt, .. }
        | Message::Finished { attempt, .. }
        | Message::SinkCommitted { attempt, .. } => Some(*attempt),
        _ => None,
    }
}

fn names<'a>(objects: impl Iterator<Item = &'a ObjectRef>) -> impl Iterator<Item = &'a str> {
    objects.map(|object| object.name.as_str())
}

fn send(executor: ExecutorId, message: Message) -> Effect {
    Effect::Send { to: Place::Executor(executor), message }
}

fn notice(level: Level, text: String, out: &mut Vec<Effect>) {
    out.push(Effect::Notice(Notice { level, text }));
}
