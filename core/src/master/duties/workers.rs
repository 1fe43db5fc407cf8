//! Reports of workers, and workers that are no longer heard.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::vec::Vec;

use super::{Change, Leader, Said};
use crate::control::{ProcessId, ProcessState, WorkerReport};
use crate::crdt::{Lattice, Register, Removable};
use crate::effect::{Level, Notice};
use crate::host::Faults;
use crate::id::{Incarnation, NodeId};
use crate::limits::{GRACE, HEARTBEAT_INTERVAL};
use crate::master::state::{State, WorkerRecord};
use crate::scheduler::PROCESSES_PER_WORKER_MAX;
use crate::time::{Duration, Time};

/// Workers of a cluster: each sends a report to each master, every heartbeat.
pub const WORKERS_MAX: usize = 1_000;
/// A worker that is not heard for this long, and has nothing to do, is forgotten: it was taken
/// away. Should it come back, it is new.
pub const WORKER_FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// A worker that is silent for longer has missed a report or two: it is looked for.
const REPORTS_MISSED: Duration = Duration::from_nanos(HEARTBEAT_INTERVAL.as_nanos() as u64 * 2);
/// Lives of a worker that are known to be over: a report of theirs that comes late says nothing.
const FORMER_LIVES_MAX: usize = 8;

/// What this leader has heard of a worker.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) at: Time,
    number: u64,
    pub(super) record: WorkerRecord,
    pub(super) processes: BTreeMap<ProcessId, Seen>,
    former: VecDeque<Incarnation>,
    /// True while it is not heard.
    lost: bool,
}

/// How a process on a worker is doing.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) state: ProcessState,
    /// Since this leader knows.
    pub(super) since: Time,
}

impl<F: Faults> Leader<F> {
    /// True if the report is new.
    pub(super) fn take_worker_report(
        &mut self,
        now: Time,
        report: WorkerReport,
        out: &mut Vec<Said>,
    ) -> bool {
        if report.processes.len() > PROCESSES_PER_WORKER_MAX as usize {
            return false;
        }
        let WorkerReport {
            worker,
            incarnation,
            number,
            address,
            capacity,
            labels,
            processes,
            follows: _,
        } = report;
        if !self.workers.contains_key(&worker) && self.workers.len() >= WORKERS_MAX {
            if !self.crowded {
                self.crowded = true;
                let text =
                    format!("{worker} is not listened to: there are {WORKERS_MAX} workers already");
                out.push(Said::Notice(Notice { level: Level::Warning, text }));
            }
            return false;
        }
        let before = self.workers.remove(&worker);
        let mut former = VecDeque::new();
        let mut seen = BTreeMap::new();
        let mut known = None;
        if let Some(mut before) = before {
            let same = before.record.incarnation == incarnation;
            if before.former.contains(&incarnation) || (same && number <= before.number) {
                self.workers.insert(worker, before);
                return false;
            }
            if !same {
                before.former.push_back(before.record.incarnation);
                if before.former.len() > FORMER_LIVES_MAX {
                    before.former.pop_front();
                }
            } else {
                seen = core::mem::take(&mut before.processes);
            }
            former = before.former;
            known = (!before.lost).then_some(before.record);
        }
        let record = WorkerRecord { incarnation, address, capacity, labels };
        let (processes, changed) = compare(now, &mut seen, processes);
        self.stirred |= changed || known.as_ref() != Some(&record);
        let heard = Heard { at: now, number, record, processes, former, lost: false };
        self.gone.remove(&worker);
        self.workers.insert(worker, heard);
        true
    }

    /// The workers that are known and not heard.
    pub(in crate::master) fn unheard(
        &self,
        now: Time,
        state: &State,
    ) -> impl Iterator<Item = NodeId> {
        let known = state.workers.keys().copied();
        known.filter(move |worker| self.living(now, *worker).is_none())
    }

    /// The workers that have missed reports and are not lost yet.
    pub(in crate::master) fn quiet(
        &self,
        now: Time,
        state: &State,
    ) -> impl Iterator<Item = NodeId> {
        let missed = move |worker: &NodeId| now.since(self.last_heard(*worker)) > REPORTS_MISSED;
        let quiet = move |worker: &NodeId| missed(worker) && !self.is_worker_silent(now, *worker);
        state.workers.keys().copied().filter(quiet)
    }

    /// Where a worker listened nobody does, since that moment at the latest.
    pub(in crate::master) fn worker_gone(&mut self, worker: NodeId, since: Time) {
        if self.last_heard(worker) <= since && self.gone.insert(worker) {
            self.stirred = true;
        }
    }

    /// When a worker was heard last by this master, in office or before.
    fn last_heard(&self, worker: NodeId) -> Time {
        let here = self.workers.get(&worker).map(|heard| heard.at);
        here.or_else(|| self.earlier.get(&worker).copied()).unwrap_or_default()
    }

    /// A worker that is heard, none if it is not.
    pub(super) fn living(&self, now: Time, worker: NodeId) -> Option<&Heard> {
        self.workers.get(&worker).filter(|_| !self.is_worker_silent(now, worker))
    }

    /// True if somebody who was heard at `last` was not for the grace time since.
    pub(super) fn is_silent(&self, now: Time, last: Option<Time>) -> bool {
        let last = last.unwrap_or_default().max(self.hears_since);
        now.since(last) >= GRACE
    }

    /// True if a worker is gone, or was not heard by this master for the grace time, in office or
    /// before.
    pub(in crate::master) fn is_worker_silent(&self, now: Time, worker: NodeId) -> bool {
        self.gone.contains(&worker) || self.is_silent(now, Some(self.last_heard(worker)))
    }

    /// Has the state say of the workers what they say.
    pub(super) fn record_workers(&mut self, now: Time, state: &State, change: &mut Change) {
        let mut workers: Option<Removable<NodeId, Register<WorkerRecord>>> = None;
        let mut lost = Vec::new();
        for (worker, heard) in &self.workers {
            if self.is_worker_silent(now, *worker) {
                if !heard.lost {
                    lost.push(*worker);
                }
                continue;
            }
            if state.worker(*worker) == Some(&heard.record) {
                continue;
            }
            let workers = workers.get_or_insert_with(|| state.workers.clone());
            let record = Register::new(change.stamp, heard.record.clone());
            let delta = match workers.change(worker, record.clone()) {
                Some(delta) => delta,
                None => workers.insert(self.term, *worker, record),
            };
            change.delta.workers.join(&delta);
        }
        for worker in lost {
            let heard = self.workers.get_mut(&worker).expect("it is one of the workers");
            heard.lost = true;
            let text = if self.gone.contains(&worker) {
                format!("{worker} has ended: nobody listens where it did")
            } else {
                format!("{worker} is not heard for {} s: it is lost", GRACE.as_secs())
            };
            change.notice(Level::Warning, text);
        }
        self.forget_workers(now, state, change);
    }

    /// Forgets workers that were not heard for long and have nothing to do.
    fn forget_workers(&mut self, now: Time, state: &State, change: &mut Change) {
        let mut workers = None;
        let mut drains = None;
        for worker in state.workers.keys() {
            let last = self.workers.get(worker).map_or(Time::ZERO, |heard| heard.at);
            if now.since(last.max(self.listening_since)) < WORKER_FORGOTTEN_AFTER {
                continue;
            }
            let busy = state.running().any(|(id, app)| {
                let mut places = app.processes(id).filter_map(|(_, it)| it.place);
                places.any(|place| place.worker == *worker)
            });
            if !busy {
                let workers = workers.get_or_insert_with(|| state.workers.clone());
                if let Some(delta) = workers.remove(worker) {
                    change.delta.workers.join(&delta);
                }
                let drains = drains.get_or_insert_with(|| state.drains.clone());
                if let Some(delta) = drains.remove(worker) {
                    change.delta.drains.join(&delta);
                }
                self.workers.remove(worker);
                self.gone.remove(worker);
            }
        }
    }
}

/// The processes of a new report, each with the time since which it is as it is; and whether one
/// has changed.
fn compare(
    now: Time,
    before: &mut BTreeMap<ProcessId, Seen>,
    reported: BTreeMap<ProcessId, ProcessState>,
) -> (BTreeMap<ProcessId, Seen>, bool) {
    let mut changed = reported.len() != before.len();
    let seen = reported.into_iter().map(|(process, state)| match before.remove(&process) {
        Some(seen) if seen.state == state => (process, seen),
        _ => {
            changed = true;
            (process, Seen { state, since: now })
        }
    });
    let seen = seen.collect();
    (seen, changed)
}
