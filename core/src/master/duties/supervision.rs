//! Processes that are lost or fail: who takes their place, and when no more.
//!
//! A process that ends by itself, or does not begin, has *failed*: its successor waits a while,
//! longer each time, and runs elsewhere if it can; and once too many have failed in a row the app
//! has. Who has run well for a while leaves no failure behind. A process whose worker is gone, or
//! that the app master has given up, is *lost*, which is nobody's fault and counts for nothing.

use alloc::format;
use alloc::string::{String, ToString};

use super::{Change, Leader};
use crate::control::{AppOutcome, ProcessId, ProcessState, Role};
use crate::crdt::Register;
use crate::effect::Level;
use crate::host::{Fault, Faults};
use crate::id::{AppId, AppTerm, ExecutorId, NodeId};
use crate::limits::GRACE;
use crate::master::state::{App, AppMasterRecord, Assignment, Place, State};
use crate::time::{Duration, Time};

/// Failures in a row after which an app is given up: with the waits between them, it has been
/// tried for more than half a minute.
pub const RESTARTS_MAX: u32 = 16;
/// A process that has run for this long has run well: the failures before it are forgotten.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(5);
/// Wait after the second failure in a row; doubles up to [`RESTART_BACKOFF_MAX`]. After the first
/// there is none.
pub const RESTART_BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait before a process is started again.
pub const RESTART_BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A process that does not listen this long after it was ordered has failed: a binary may have to
/// be fetched first.
pub const START_PATIENCE: Duration = Duration::from_secs(60);

/// What has become of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It runs, begins, or waits for a place.
    Fine,
    /// It has run for long enough.
    Healthy,
    /// It is gone by no fault of its own.
    Lost(String),
    /// It is gone, or as good as gone.
    Failed(String),
}

/// How long a process waits for its place after so many failures in a row.
pub(super) fn backoff(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        _ => {
            let doubled = RESTART_BACKOFF_MIN.saturating_mul(1 << (failures - 2).min(16));
            doubled.min(RESTART_BACKOFF_MAX)
        }
    }
}

impl<F: Faults> Leader<F> {
    pub(super) fn supervise(&self, now: Time, state: &State, change: &mut Change) {
        for (id, app) in state.running() {
            if change.ends(id) {
                continue;
            }
            self.note_binaries(id, app, change);
            self.supervise_master(now, id, app, change);
            self.supervise_executors(now, id, app, change);
        }
    }

    /// A node on which a process of the app listens has its binary.
    fn note_binaries(&self, id: AppId, app: &App, change: &mut Change) {
        let mut fetched = crate::crdt::Map::default();
        for (process, assignment) in app.processes(id) {
            let Some(place) = assignment.place else { continue };
            let running = matches!(self.seen(process, place), Some(ProcessState::Running { .. }));
            if running && !app.fetched.contains(&place.worker) {
                fetched.put(place.worker, &());
            }
        }
        if !fetched.is_empty() {
            change.app(id, &App { fetched, ..App::default() });
        }
    }

    /// How a process is doing on its worker, as far as that has said.
    pub(super) fn seen(&self, process: ProcessId, place: Place) -> Option<&ProcessState> {
        let heard = self.workers.get(&place.worker)?;
        let current = heard.record.incarnation == place.incarnation;
        heard.processes.get(&process).filter(|_| current).map(|seen| &seen.state)
    }

    fn fate(&self, now: Time, process: ProcessId, assignment: &Assignment) -> Fate {
        let Some(place) = assignment.place else { return Fate::Fine };
        let worker = place.worker;
        let heard = self.workers.get(&worker);
        if self.is_worker_silent(now, worker) {
            return Fate::Lost(format!("{worker} is not heard"));
        }
        // Nobody is condemned before he has spoken, or the grace time is over.
        let Some(heard) = heard else { return Fate::Fine };
        if heard.record.incarnation != place.incarnation {
            return Fate::Lost(format!("{worker} has started anew"));
        }
        let seen = heard.processes.get(&process);
        match seen.map(|seen| (&seen.state, seen.since)) {
            Some((ProcessState::Exited { reason }, _)) => Fate::Failed(reason.clone()),
            Some((ProcessState::Running { .. }, since)) => {
                if now.since(since) >= HEALTHY_AFTER {
                    Fate::Healthy
                } else {
                    Fate::Fine
                }
            }
            Some((ProcessState::Starting, _)) | None => {
                if now.since(self.since(process)) < START_PATIENCE {
                    return Fate::Fine;
                }
                let seconds = START_PATIENCE.as_secs();
                Fate::Failed(format!("it did not listen within {seconds} s"))
            }
        }
    }

    /// Of an app master that runs, whether it is heard too.
    fn fate_of_master(&self, now: Time, id: AppId, term: AppTerm, assignment: &Assignment) -> Fate {
        let process = ProcessId { app: id, role: Role::AppMaster(term) };
        let fate = self.fate(now, process, assignment);
        let (Fate::Fine | Fate::Healthy, Some(place)) = (&fate, assignment.place) else {
            return fate;
        };
        let heard = self.workers.get(&place.worker);
        let seen = heard.and_then(|heard| heard.processes.get(&process));
        let Some(seen) = seen.filter(|it| matches!(it.state, ProcessState::Running { .. })) else {
            return fate;
        };
        let last = self.heard_master(id, term).map_or(seen.since, |heard| heard.at);
        if self.is_silent(now, Some(last.max(seen.since))) {
            return Fate::Failed(format!("it is not heard for {} s", GRACE.as_secs()));
        }
        fate
    }

    fn supervise_master(&self, now: Time, id: AppId, app: &App, change: &mut Change) {
        let Some(master) = &app.master else { return };
        let AppMasterRecord { term, first, assignment } = master.get();
        let fate = self.fate_of_master(now, id, *term, assignment);
        let process = ProcessId { app: id, role: Role::AppMaster(*term) };
        if let Some(assignment) = next(process, app, assignment, fate, change) {
            let term = if assignment.place.is_some() { *term } else { term.next() };
            change.master(id, AppMasterRecord { term, first: *first, assignment });
        }
    }

    fn supervise_executors(&self, now: Time, id: AppId, app: &App, change: &mut Change) {
        let given_up = self.heard_master(id, app.term()).map(|heard| &heard.lost);
        let mut fresh = app.executors.next();
        for (executor, assignment) in app.executors() {
            let process = ProcessId { app: id, role: Role::Executor(executor) };
            let mut fate = self.fate(now, process, assignment);
            let is_given_up = given_up.is_some_and(|lost| lost.contains(&executor));
            if is_given_up && !matches!(fate, Fate::Failed(_)) {
                fate = Fate::Lost("the app master does not hear it".to_string());
            }
            if self.relieve(id, app, (executor, assignment), &fate, change) {
                continue;
            }
            let Some(assignment) = next(process, app, assignment, fate, change) else {
                continue;
            };
            let mut successor = executor;
            if assignment.place.is_none() && !F::has(Fault::ReuseExecutorIds) {
                successor = ExecutorId(u32::try_from(fresh).unwrap_or(u32::MAX));
                fresh += 1;
                let mut gone = App::default();
                gone.executors.remove(executor.0.into());
                change.app(id, &gone);
            }
            change.executor(id, successor, assignment);
        }
    }
}

/// What follows for a process: an assignment without a place is a successor's. None if all stays
/// as it is, or the app ends.
fn next(
    process: ProcessId,
    app: &App,
    assignment: &Assignment,
    fate: Fate,
    change: &mut Change,
) -> Option<Assignment> {
    match fate {
        Fate::Fine => None,
        Fate::Healthy => {
            let well = Assignment { place: assignment.place, ..Assignment::default() };
            (well != *assignment).then_some(well)
        }
        Fate::Lost(why) => {
            change.notice(Level::Warning, format!("{process} is lost: {why}"));
            Some(Assignment { place: None, avoid: None, ..assignment.clone() })
        }
        Fate::Failed(reason) => {
            let failures = assignment.failures.saturating_add(1);
            if failures > RESTARTS_MAX {
                give_up(process, app, failures, &reason, change);
                return None;
            }
            change.notice(Level::Warning, format!("{process} has failed: {reason}"));
            let avoid: Option<NodeId> = assignment.place.map(|place| place.worker);
            Some(Assignment { place: None, failures, reason, avoid, ..assignment.clone() })
        }
    }
}

/// The app has failed, once.
fn give_up(process: ProcessId, app: &App, failures: u32, reason: &str, change: &mut Change) {
    if change.ends(process.app) {
        return;
    }
    let what = match process.role {
        Role::AppMaster(_) => "its app master",
        Role::Executor(_) => "an executor",
    };
    let reason = format!(
        "{what} has failed {failures} times in a row without running for {} s, the last time: \
         {reason}",
        HEALTHY_AFTER.as_secs()
    );
    let name = &app.spec().name;
    change.notice(Level::Error, format!("{} `{name}` is given up: {reason}", process.app));
    let outcome = Some(Register::new(change.stamp, AppOutcome::Failed { reason }));
    change.app(process.app, &App { outcome, ..App::default() });
}
