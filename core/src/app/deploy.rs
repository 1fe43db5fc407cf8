//! Regions go down when they lose a task, and are brought up again from the last committed epoch.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::master::{AppMaster, Layout, names, notice, send};
use super::outcome::Failure;
use super::regions::{Region, State};
use crate::checkpoint::record::{AttemptRecord, Record, TaskKey};
use crate::checkpoint::recovery::{self, RecoveryError};
use crate::effect::{Effect, Level};
use crate::host::{Fault, Faults};
use crate::id::{Attempt, ExecutorId, TaskId};
use crate::message::{Deployment, Message, TaskDeployment};
use crate::time::Time;

impl<F: Faults> AppMaster<F> {
    /// An executor is gone for good, and its tasks with it.
    pub(super) fn on_lost(
        &mut self,
        now: Time,
        executor: ExecutorId,
        reason: &str,
        out: &mut Vec<Effect>,
    ) {
        let Some(fleet) = &mut self.fleet else {
            let reason = reason.into();
            return self.fail(Failure::Executor { executor, reason }, out);
        };
        if !fleet.lose(now, executor) {
            return;
        }
        let Some(run) = &mut self.run else { return };
        if let Some(reports) = &mut run.reports {
            reports.remove(&executor);
        }
        let here = self.placement.iter().filter(|(_, place)| **place == executor);
        let lost: BTreeSet<TaskId> =
            here.map(|(task, _)| *task).filter(|task| self.attempts.contains_key(task)).collect();
        let hit: Vec<usize> = (0..self.regions.len())
            .filter(|place| !self.regions[*place].tasks.is_disjoint(&lost))
            .collect();
        let text = format!(
            "{executor} is lost ({reason}) with {} tasks: {} of {} regions go back to {}",
            lost.len(),
            hit.len(),
            self.regions.len(),
            run.coordinator.committed()
        );
        notice(Level::Warning, text, out);
        for place in hit {
            self.take_down(now, place, None, &lost);
        }
    }

    /// A task cannot go on: its region is tried again, so often.
    pub(super) fn on_failed(
        &mut self,
        now: Time,
        task: TaskId,
        reason: String,
        out: &mut Vec<Effect>,
    ) {
        let (Some(uid), Some(place)) = (self.uid(task), self.region_of(task)) else { return };
        let again = self.fleet.as_ref().and_then(|_| self.regions[place].fail(now));
        let Some(wait) = again else {
            let failure = Failure::Task { uid, index: task.index, reason };
            return self.fail(failure, out);
        };
        let text = format!(
            "`{uid}` (task {}) has failed: {reason}; its region goes back to the last committed \
             epoch in {} ms",
            task.index,
            wait.as_millis()
        );
        notice(Level::Warning, text, out);
        self.take_down(now, place, Some(now + wait), &[task].into());
    }

    /// A region is down from now on. `lost` are the tasks that are no longer there.
    fn take_down(
        &mut self,
        now: Time,
        place: usize,
        not_before: Option<Time>,
        lost: &BTreeSet<TaskId>,
    ) {
        let run = self.run.as_mut().expect("only a region that was up goes down");
        run.coordinator.pause();
        let regions = match run.layout {
            // What others have dealt cannot be dealt again in part.
            Layout::Foreign => 0..self.regions.len(),
            Layout::Own | Layout::Record => place..place + 1,
        };
        run.roll_backs += 1;
        for region in &mut self.regions[regions] {
            if region.is_down() {
                continue;
            }
            let mut tasks = region.tasks.clone();
            if F::has(Fault::RollBackOnlyLostTasks) {
                tasks.retain(|task| lost.contains(task));
            }
            for task in &tasks {
                self.attempts.remove(task);
            }
            run.lost.extend(&tasks);
            region.enter(now, State::Down { not_before, tasks });
        }
    }

    /// Gives the epochs in flight up if a region is down, unless one is being appended: whether
    /// that is committed decides from where the region goes on.
    pub(super) fn give_up_epochs(&mut self) {
        let Some(run) = &mut self.run else { return };
        if run.lost.is_empty() || run.coordinator.is_appending() {
            return;
        }
        let lost = core::mem::take(&mut run.lost);
        let objects = run.coordinator.roll_back(&lost);
        run.retention.give_up(objects, names(run.coordinator.named()));
    }

    /// Deploys the regions that are down, as soon as it is known from where and to whom.
    pub(super) fn bring_up(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Some(run) = &self.run else { return };
        if !run.lost.is_empty() || run.closing.is_some() {
            return;
        }
        let is_due = |place: &usize| self.regions[*place].is_due() && self.is_needed(*place);
        let due: Vec<usize> = (0..self.regions.len()).filter(is_due).collect();
        if due.is_empty() || self.fleet.as_ref().is_some_and(|fleet| !fleet.is_ready()) {
            return;
        }
        if !self.record(&due, out) {
            return;
        }
        match self.restore_points() {
            Ok(tasks) => self.deploy(now, &due, tasks, out),
            Err(error) => self.fail(error.into(), out),
        }
    }

    /// Writes to the log that these regions are about to be deployed. True once it says so: an app
    /// master that was fenced comes no further, and one that is fenced later has told its successor
    /// that what runs in an earlier attempt is not to be taken over.
    fn record(&mut self, due: &[usize], out: &mut Vec<Effect>) -> bool {
        if self.fleet.is_none() || F::has(Fault::DeployUnrecorded) {
            // Nobody takes running tasks over.
            return true;
        }
        let tasks = due.iter().flat_map(|place| &self.regions[*place].tasks);
        let tasks: BTreeSet<TaskKey> = tasks.filter_map(|task| self.plan.key(*task)).collect();
        let run = self.run.as_mut().expect("the log has been read");
        if tasks.is_subset(&run.recorded) {
            run.recorded.clear();
            return true;
        }
        if run.writing.is_none() {
            let record = Record::Attempt(AttemptRecord {
                term: self.log.term(),
                attempt: run.attempt.next(),
                identity: self.plan.identity.clone(),
                tasks,
            });
            self.write(record, out);
        }
        false
    }

    /// True if a region has to run: at the end of the app only those whose sinks have something
    /// left to make visible.
    pub(super) fn is_needed(&self, place: usize) -> bool {
        let Some(run) = &self.run else { return true };
        let mut silent = run.coordinator.silent_sinks();
        run.coordinator.ending().is_none()
            || self.fleet.is_none()
            || silent.any(|sink| self.regions[place].tasks.contains(&sink))
    }

    /// Every task as of the last committed epoch.
    fn restore_points(&self) -> Result<Vec<TaskDeployment>, RecoveryError> {
        let run = self.run.as_ref().expect("the log has been read");
        let record = run.last.as_deref();
        let mut tasks = match (run.layout, record) {
            (Layout::Record, Some(record)) => recovery::redeploy(record, &self.plan)?,
            _ => recovery::deploy(record, &self.plan)?,
        };
        // An app that has finished stays finished, whatever its job has turned into.
        let has_finished = record.is_some_and(|record| record.finished);
        tasks.iter_mut().for_each(|task| task.finished |= has_finished);
        Ok(tasks)
    }

    fn deploy(
        &mut self,
        now: Time,
        due: &[usize],
        tasks: Vec<TaskDeployment>,
        out: &mut Vec<Effect>,
    ) {
        let run = self.run.as_mut().expect("the log has been read");
        if !F::has(Fault::ReuseAttemptOnRollBack) || run.attempt.count() == 0 {
            run.attempt = run.attempt.next();
        }
        if run.layout == Layout::Foreign {
            run.layout = Layout::Own;
        }
        let (attempt, restored) = (run.attempt, run.coordinator.committed());
        let mut named = BTreeSet::new();
        for place in due {
            let region = &mut self.regions[*place];
            let State::Down { tasks, .. } = &region.state else { continue };
            let unready = tasks.clone();
            named.extend(&unready);
            region.enter(now, State::Deploying { unready });
        }
        let mut shares: BTreeMap<ExecutorId, Vec<TaskDeployment>> = BTreeMap::new();
        if let Some(fleet) = &self.fleet {
            // Also those who run nothing of it any more: they may have before.
            shares.extend(fleet.usable().map(|executor| (executor, Vec::new())));
            self.placement.extend(named.iter().map(|task| (*task, fleet.place(*task))));
        }
        for task in tasks.into_iter().filter(|task| named.contains(&task.task)) {
            self.attempts.insert(task.task, attempt);
            run.retention.deployed(self.plan.folder(task.task), attempt, restored);
            shares.entry(self.placement[&task.task]).or_default().push(task);
        }
        if run.has_run {
            run.retention.list(out);
        }
        for (executor, tasks) in shares {
            let deployment = self.deployment(attempt, named.iter().copied(), tasks);
            out.push(send(executor, Message::Deploy(deployment)));
        }
    }

    /// What an executor is told of the regions of these tasks.
    pub(super) fn deployment(
        &self,
        attempt: Attempt,
        named: impl Iterator<Item = TaskId>,
        tasks: Vec<TaskDeployment>,
    ) -> Deployment {
        let run = self.run.as_ref().expect("the log has been read");
        Deployment {
            term: self.log.term(),
            attempt,
            epoch: run.coordinator.committed(),
            key_groups: run.key_groups,
            graph: self.plan.graph,
            placement: named.filter_map(|task| Some((task, *self.placement.get(&task)?))).collect(),
            addresses: self.fleet.as_ref().map(|fleet| fleet.addresses()).unwrap_or_default(),
            tasks,
        }
    }

    pub(super) fn on_ready(&mut self, now: Time, task: TaskId, out: &mut Vec<Effect>) {
        let Some(place) = self.region_of(task) else { return };
        if let State::Deploying { unready } = &mut self.regions[place].state {
            unready.remove(&task);
        }
        self.start_ready(now, self.attempts[&task], out);
    }

    /// Lets regions run that only waited for one that has gone down since.
    pub(super) fn start_all_ready(&mut self, now: Time, out: &mut Vec<Effect>) {
        let attempt = |region: &Region| match &region.state {
            State::Deploying { unready } if unready.is_empty() => {
                region.tasks.iter().filter_map(|task| self.attempts.get(task)).max().copied()
            }
            _ => None,
        };
        let attempts: BTreeSet<Attempt> = self.regions.iter().filter_map(attempt).collect();
        for attempt in attempts {
            self.start_ready(now, attempt, out);
        }
    }

    /// Lets the regions of an attempt run, once all of their tasks are ready.
    pub(super) fn start_ready(&mut self, now: Time, attempt: Attempt, out: &mut Vec<Effect>) {
        let run = self.run.as_mut().expect("the log has been read");
        let mut starting = Vec::new();
        for (place, region) in self.regions.iter().enumerate() {
            let State::Deploying { unready } = &region.state else { continue };
            if !region.tasks.iter().any(|task| self.attempts.get(task) == Some(&attempt)) {
                continue;
            }
            if !unready.is_empty() {
                return;
            }
            starting.push(place);
        }
        if starting.is_empty() {
            return;
        }
        for place in starting {
            self.regions[place].enter(now, State::Running);
        }
        // Behind the last epoch of a stopped app nothing is read: its sinks only commit.
        let has_stopped = run.coordinator.ending().is_some_and(|ending| !ending.finished);
        run.has_run = true;
        if !has_stopped {
            self.broadcast(&Message::Run { term: self.log.term(), attempt }, out);
        }
    }

    /// Lets the epochs go on once every region runs that is needed.
    pub(super) fn resume_epochs(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Some(run) = &self.run else { return };
        if run.coordinator.is_running() || !run.lost.is_empty() || run.reports.is_some() {
            return;
        }
        let runs = |place: usize| self.regions[place].is_running() || !self.is_needed(place);
        if !(0..self.regions.len()).all(runs) {
            return;
        }
        let run = self.run.as_mut().expect("it was just seen");
        let mut steps = Vec::new();
        let is_ending = run.coordinator.ending().is_some();
        let epoch = run.coordinator.committed();
        run.coordinator.run(now, &mut steps);
        if is_ending {
            // Their acknowledgement may have been what the app master before died waiting for.
            self.broadcast(&Message::Committed { term: self.log.term(), epoch }, out);
        }
        self.perform(steps, out);
    }
}
