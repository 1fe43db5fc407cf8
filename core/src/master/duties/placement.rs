//! Where processes run that have no place.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::supervision::backoff;
use super::{Change, Leader};
use crate::control::{ProcessId, ProcessState, Role};
use crate::host::Faults;
use crate::id::{AppId, NodeId};
use crate::master::state::{App, AppMasterRecord, Assignment, Place, State};
use crate::scheduler::{Answer, Candidate, Request, Scheduler};
use crate::time::Time;

/// Why an app waits whose processes have not been looked at yet.
pub const UNPLACED: &str = "it is about to be placed";

/// Processes of an app that are placed together, since they want the same.
struct Wanted {
    processes: Vec<ProcessId>,
    request: Request,
}

impl<F: Faults> Leader<F> {
    /// Places what has no place, app masters before their executors.
    pub(super) fn place(
        &mut self,
        now: Time,
        state: &State,
        scheduler: &Scheduler,
        change: &mut Change,
    ) {
        let mut waiting = BTreeMap::new();
        let mut wanted = Vec::new();
        for (id, app) in state.running().filter(|(id, _)| !change.ends(*id)) {
            self.collect(now, id, app, &mut wanted, &mut waiting);
        }
        if !wanted.is_empty() {
            let requests: Vec<_> = wanted.iter().map(|it| it.request.clone()).collect();
            let answers = scheduler.place(self.candidates(now, state), &requests);
            for (wanted, answer) in wanted.iter().zip(answers) {
                self.assign(state, wanted, answer, change, &mut waiting);
            }
        }
        self.waiting = waiting;
    }

    /// What an app wants placed now, and why it waits if it does not.
    fn collect(
        &self,
        now: Time,
        id: AppId,
        app: &App,
        wanted: &mut Vec<Wanted>,
        waiting: &mut BTreeMap<AppId, String>,
    ) {
        let Some(master) = &app.master else { return };
        let AppMasterRecord { term, assignment, .. } = master.get();
        let process = ProcessId { app: id, role: Role::AppMaster(*term) };
        let mut groups: BTreeMap<Option<NodeId>, Vec<ProcessId>> = BTreeMap::new();
        let mut unplaced = Vec::new();
        if assignment.place.is_none() {
            unplaced.push((process, assignment));
        } else {
            let executors = app.processes(id).skip(1).filter(|(_, it)| it.place.is_none());
            unplaced.extend(executors);
        }
        for (process, assignment) in unplaced {
            let due = self.since(process) + backoff(assignment.failures);
            if assignment.failures > 1 && now < due {
                let text = format!(
                    "{process} is started again after {} failures in a row, the last time: {}",
                    assignment.failures, assignment.reason
                );
                waiting.insert(id, text);
            } else {
                groups.entry(assignment.avoid).or_default().push(process);
            }
        }
        for (avoid, processes) in groups {
            let request = Request {
                count: u32::try_from(processes.len()).unwrap_or(u32::MAX),
                avoid: avoid.into_iter().collect(),
                ..Self::request(id, app, processes[0].role)
            };
            wanted.push(Wanted { processes, request });
        }
    }

    /// What one process of the app asks of the worker on which it runs.
    pub(super) fn request(id: AppId, app: &App, role: Role) -> Request {
        let spec = app.spec();
        Request {
            app: id,
            count: 1,
            resources: app.resources(role),
            labels: spec.labels.clone(),
            binary: spec.binary.clone(),
            strategy: spec.strategy.clone(),
            priority: spec.priority,
            avoid: BTreeSet::new(),
        }
    }

    /// The workers that are heard, with all that is meant to run on them, and what still does.
    pub(super) fn candidates(&self, now: Time, state: &State) -> Vec<Candidate> {
        let mut candidates = BTreeMap::new();
        let binaries = state.binaries();
        for worker in self.workers.keys() {
            let Some(heard) = self.living(now, *worker) else { continue };
            let mut candidate = Candidate {
                node: *worker,
                capacity: heard.record.capacity,
                labels: heard.record.labels.clone(),
                drains: state.drains.contains(worker),
                ..Candidate::default()
            };
            let held = binaries.iter().filter(|(_, nodes)| nodes.contains(worker));
            candidate.binaries = held.map(|(binary, _)| binary.to_vec()).collect();
            candidates.insert(*worker, candidate);
        }
        let mut meant = BTreeSet::new();
        for (id, app) in state.running() {
            for (process, assignment) in app.processes(id) {
                let place = assignment.place.filter(|place| self.is_current(*place));
                let Some(place) = place else { continue };
                if let Some(candidate) = candidates.get_mut(&place.worker) {
                    candidate.occupy(id, app.resources(process.role));
                    meant.insert((place.worker, process));
                }
            }
        }
        for (worker, candidate) in &mut candidates {
            let Some(heard) = self.workers.get(worker) else { continue };
            for (process, seen) in &heard.processes {
                let exited = matches!(seen.state, ProcessState::Exited { .. });
                if exited || meant.contains(&(*worker, *process)) {
                    continue;
                }
                let app = state.app(process.app);
                let resources = app.map(|app| app.resources(process.role));
                candidate.occupy(process.app, resources.unwrap_or_default());
            }
        }
        candidates.into_values().collect()
    }

    /// True if the worker still lives the life in which a place was given.
    fn is_current(&self, place: Place) -> bool {
        let heard = self.workers.get(&place.worker);
        heard.is_some_and(|heard| heard.record.incarnation == place.incarnation)
    }

    fn assign(
        &self,
        state: &State,
        wanted: &Wanted,
        answer: Answer,
        change: &mut Change,
        waiting: &mut BTreeMap<AppId, String>,
    ) {
        let id = wanted.request.app;
        for (process, worker) in wanted.processes.iter().zip(&answer.placed) {
            let incarnation = self.workers[worker].record.incarnation;
            let place = Some(Place { worker: *worker, incarnation });
            let app = state.app(id).expect("only what is in the state is placed");
            let before = app.processes(id).find(|(it, _)| it == process);
            let (_, before) = before.expect("only what is in the state is placed");
            let assignment = Assignment { place, ..before.clone() };
            match process.role {
                Role::AppMaster(term) => {
                    let master = app.master.as_ref().expect("it was among the processes").get();
                    let first = master.first;
                    change.master(id, AppMasterRecord { term, first, assignment });
                }
                Role::Executor(executor) => change.executor(id, executor, assignment),
            }
        }
        let Some(why) = answer.waiting else { return };
        let text = match wanted.processes[0].role {
            Role::AppMaster(_) => format!("the app master {why}"),
            Role::Executor(_) => {
                let left = wanted.processes.len() - answer.placed.len();
                let executors = if left == 1 { "executor" } else { "executors" };
                format!("{left} {executors} without a place, each {why}")
            }
        };
        waiting.insert(id, text);
    }
}
