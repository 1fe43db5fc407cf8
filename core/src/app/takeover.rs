//! What an earlier app master has left running is found out from the executors, and taken over
//! where it fits the last committed epoch.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

use super::master::{AppMaster, Layout, notice, send, subject};
use super::outcome::Outcome;
use super::regions::State;
use crate::effect::{Effect, Level, Place};
use crate::host::{Fault, Faults};
use crate::id::{AppTerm, Attempt, Epoch, ExecutorId, TaskId};
use crate::message::{Deployment, Message, TaskPhase, TaskReport};
use crate::time::Time;

/// All that the executors have reported.
type Reports = BTreeMap<ExecutorId, Vec<TaskReport>>;
/// Where each task of a region runs, and what was reported of it.
type Found<'r> = BTreeMap<TaskId, (ExecutorId, &'r TaskReport)>;

impl<F: Faults> AppMaster<F> {
    /// An executor tells what it runs.
    pub(super) fn on_report(
        &mut self,
        executor: ExecutorId,
        term: AppTerm,
        tasks: Vec<TaskReport>,
        out: &mut Vec<Effect>,
    ) {
        let (Some(fleet), Some(run)) = (&mut self.fleet, &mut self.run) else { return };
        if term != self.log.term() || !fleet.reported(executor) {
            return;
        }
        match &mut run.reports {
            Some(reports) => {
                reports.insert(executor, tasks);
            }
            None => self.drop_stale(executor, &tasks, out),
        }
    }

    /// A task tells news of itself behind its executor's report, and before it is decided what is
    /// taken over: the report is brought up to date. Epochs that are open will be given up, and
    /// commits told again, so of those nothing is lost.
    pub(super) fn amend(&mut self, from: Place, message: Message) {
        let Place::Executor(executor) = from else { return };
        let Some((task, attempt)) = subject(&message) else { return };
        let reports = self.run.as_mut().and_then(|run| run.reports.as_mut());
        let Some(reports) = reports.and_then(|reports| reports.get_mut(&executor)) else { return };
        let mut reports = reports.iter_mut();
        let report = reports.find(|report| report.task == task && report.attempt == attempt);
        let Some(report) = report else { return };
        match message {
            Message::Ready { .. } => report.phase = TaskPhase::Ready,
            Message::Finished { after, snapshot, .. } => {
                report.phase = TaskPhase::Ended;
                report.finished = Some((after, snapshot));
                report.heard = report.heard.max(after.next());
            }
            Message::Snapshot { epoch, .. } => report.heard = report.heard.max(epoch),
            Message::Failed { reason, .. } => report.phase = TaskPhase::Failed { reason },
            _ => {}
        }
    }

    /// Decides what is taken over, once everybody has reported or been waited for. True if that is
    /// decided.
    pub(super) fn decide(&mut self, now: Time, out: &mut Vec<Effect>) -> bool {
        let (Some(fleet), Some(run)) = (&self.fleet, &mut self.run) else { return true };
        if run.reports.is_none() {
            return true;
        }
        let is_waiting = fleet.is_unheard() && fleet.until().is_some();
        let any = fleet.usable().next().is_some();
        if !fleet.is_granted() || (is_waiting && !(F::has(Fault::TakeOverWithoutReports) && any)) {
            return false;
        }
        let reports = run.reports.take().expect("it was just seen");
        let mut found: Vec<Option<Found<'_>>> =
            self.regions.iter().map(|region| self.running(&region.tasks, &reports)).collect();
        let is_evident = found.iter().flatten().flat_map(BTreeMap::values);
        let is_evident = is_evident.into_iter().any(|(_, report)| self.took_part(report));
        let in_part = !is_evident && found.iter().any(Option::is_none);
        if in_part && !F::has(Fault::TakeOverWithoutReports) {
            // Nothing says that partitions are dealt as the record has them, so what was dealt
            // cannot be dealt again in part.
            found.iter_mut().for_each(|found| *found = None);
        }
        self.take_over(now, &found, is_evident, out);
        for (executor, tasks) in &reports {
            self.drop_stale(*executor, tasks, out);
        }
        self.confirm(out);
        true
    }

    /// What of a region runs, if all of it does and fits the last committed epoch.
    fn running<'r>(&self, tasks: &BTreeSet<TaskId>, reports: &'r Reports) -> Option<Found<'r>> {
        let all = reports
            .iter()
            .flat_map(|(executor, reports)| reports.iter().map(|report| (*executor, report)));
        let ours = all.filter(|(_, report)| tasks.contains(&report.task));
        let ours: Vec<(ExecutorId, &TaskReport)> = ours.collect();
        // Whoever runs an earlier attempt was left behind when the region was rolled back.
        let attempt = ours.iter().map(|(_, report)| report.attempt).max()?;
        let ours = ours.into_iter().filter(|(_, report)| report.attempt == attempt);
        let found: Found<'_> = ours.map(|place| (place.1.task, place)).collect();
        if F::has(Fault::TakeOverWithoutReports) {
            return Some(found);
        }
        let phases = |wanted: fn(&TaskPhase) -> bool| {
            found.values().filter(|(_, report)| wanted(&report.phase)).count()
        };
        let begun = phases(|phase| matches!(phase, TaskPhase::Running | TaskPhase::Ended));
        let restoring = phases(|phase| *phase == TaskPhase::Restoring);
        let fits = found.len() == tasks.len()
            && (begun == 0 || restoring == 0)
            && found.values().all(|(_, report)| self.fits(report));
        fits.then_some(found)
    }

    /// True if a task's state goes on from the last committed epoch: it was restored from there, or
    /// it is a part of what the record holds. Of one that an earlier app master was about to deploy
    /// anew only the new attempt is fit: that app master may yet do it. None is if what those were
    /// cannot be read.
    fn fits(&self, report: &TaskReport) -> bool {
        let run = self.run.as_ref().expect("the log has been read");
        let is_whole = !matches!(report.phase, TaskPhase::Failed { .. });
        let attempted = self.plan.key(report.task).and_then(|key| run.attempted.get(&key));
        is_whole
            && !run.blind
            && attempted.is_none_or(|attempted| report.attempt >= *attempted)
            && (report.restored == run.coordinator.committed() || self.took_part(report))
    }

    /// True if the last committed epoch is of this very attempt of the task.
    fn took_part(&self, report: &TaskReport) -> bool {
        let run = self.run.as_ref().expect("the log has been read");
        let (Some(record), Some(key)) = (&run.last, self.plan.key(report.task)) else {
            return false;
        };
        record.tasks.get(&key).is_some_and(|part| part.attempt == report.attempt)
    }

    /// Takes what was found for what runs; the other regions stay down.
    fn take_over(
        &mut self,
        now: Time,
        found: &[Option<Found<'_>>],
        is_evident: bool,
        out: &mut Vec<Effect>,
    ) {
        let mut attempts = BTreeSet::new();
        let mut least = self.log.term();
        for (place, found) in found.iter().enumerate() {
            let Some(found) = found else { continue };
            let mut unready = BTreeSet::new();
            for (task, (executor, report)) in found {
                attempts.insert(report.attempt);
                least = least.min(report.term);
                self.adopt(now, *task, *executor, report);
                if report.phase == TaskPhase::Restoring {
                    unready.insert(*task);
                }
            }
            self.regions[place].enter(now, State::Deploying { unready });
        }
        let run = self.run.as_mut().expect("the log has been read");
        run.retention.start(least, false, out);
        if attempts.is_empty() {
            return;
        }
        run.has_run = true;
        run.layout = if is_evident { Layout::Record } else { Layout::Foreign };
        let taken = found.iter().flatten().count();
        let text = format!(
            "{taken} of {} regions run and are taken over in {}",
            self.regions.len(),
            self.log.term()
        );
        notice(Level::Info, text, out);
        for attempt in attempts {
            self.start_ready(now, attempt, out);
        }
    }

    /// Notes a task that runs.
    fn adopt(&mut self, now: Time, task: TaskId, executor: ExecutorId, report: &TaskReport) {
        self.placement.insert(task, executor);
        self.attempts.insert(task, report.attempt);
        let run = self.run.as_mut().expect("the log has been read");
        run.retention.deployed(self.plan.folder(task), report.attempt, report.restored);
        run.coordinator.skip(report.heard);
        if let Some((after, snapshot)) = &report.finished {
            run.count(task, snapshot);
            let (mut steps, snapshot) = (Vec::new(), snapshot.clone());
            run.coordinator.handle_finished(now, task, *after, snapshot, &mut steps);
            assert!(steps.is_empty(), "nothing is done before all regions run");
        }
        if report.stopped {
            // The user had asked for it, and sources read no more.
            self.stop_asked = true;
            let mut steps = Vec::new();
            run.coordinator.handle_stop(now, &mut steps);
            assert!(steps.is_empty(), "nothing is done before all regions run");
        }
    }

    /// Tells what is committed to those that may not have heard, or ends an app that was to stop
    /// and does not run.
    fn confirm(&mut self, out: &mut Vec<Effect>) {
        let run = self.run.as_ref().expect("the log has been read");
        let epoch = run.coordinator.committed();
        let some = (epoch > Epoch(0)).then_some(epoch);
        if run.has_run {
            if some.is_some() {
                self.broadcast(&Message::Committed { term: self.log.term(), epoch }, out);
            }
        } else if self.stop_asked && run.coordinator.ending().is_none() {
            self.end(Outcome::Stopped { epoch: some }, out);
        }
    }

    /// Lets an executor drop what it should not run: until then it must hear of no commit, which
    /// might let a sink that was left behind make its own output visible.
    fn drop_stale(&mut self, executor: ExecutorId, tasks: &[TaskReport], out: &mut Vec<Effect>) {
        let is_stale = |report: &&TaskReport| {
            self.attempts.get(&report.task) != Some(&report.attempt)
                || self.placement.get(&report.task) != Some(&executor)
        };
        let stale: Vec<TaskId> = tasks.iter().filter(is_stale).map(|report| report.task).collect();
        let mut down = Vec::new();
        let mut regions: BTreeSet<usize> = BTreeSet::new();
        for task in stale {
            match (self.region_of(task), self.attempts.contains_key(&task)) {
                (Some(place), true) => {
                    regions.insert(place);
                }
                _ => down.push(task),
            }
        }
        for place in regions {
            let tasks = &self.regions[place].tasks;
            let attempts = tasks.iter().filter_map(|task| self.attempts.get(task));
            let attempt: Attempt = attempts.copied().max().unwrap_or_default();
            let deployment = self.deployment(attempt, tasks.iter().copied(), Vec::new());
            out.push(send(executor, Message::Deploy(deployment)));
        }
        if down.is_empty() {
            return;
        }
        let run = self.run.as_mut().expect("the log has been read");
        // Higher than all before, lower than that with which they will be brought up.
        run.attempt = run.attempt.next();
        let deployment = Deployment {
            term: self.log.term(),
            attempt: run.attempt,
            epoch: run.coordinator.committed(),
            key_groups: run.key_groups,
            graph: self.plan.graph,
            placement: down.into_iter().map(|task| (task, executor)).collect(),
            addresses: BTreeMap::new(),
            tasks: Vec::new(),
        };
        out.push(send(executor, Message::Deploy(deployment)));
    }
}
