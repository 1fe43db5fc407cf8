//! What people are told of apps and workers.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Leader, orders};
use crate::control::{AppStatus, Grant, ProcessId, ProcessState, Resources, Role, WorkerStatus};
use crate::host::Faults;
use crate::id::{AppId, NodeId};
use crate::master::state::{App, State};
use crate::time::Time;

impl<F: Faults> Leader<F> {
    /// Every app, as far as this master knows; a leader knows more than the state.
    pub(in crate::master) fn statuses(&self, state: &State) -> Vec<AppStatus> {
        let status = |(id, app)| {
            let mut status = status(id, app);
            status.executors = self.grants(id, app);
            status.waiting = self.waiting.get(&id).cloned().unwrap_or_default();
            status.committed = status.committed.max(self.heard_committed(id));
            if let (Some(grant), Some(master)) = (&mut status.app_master, &app.master) {
                let master = master.get();
                let process = ProcessId { app: id, role: Role::AppMaster(master.term) };
                let seen = master.assignment.place.and_then(|place| self.seen(process, place));
                grant.state = seen.cloned().unwrap_or(ProcessState::Starting);
            }
            status
        };
        state.apps().map(status).collect()
    }

    /// Every worker, as far as this master knows; a leader knows which are alive.
    pub(in crate::master) fn workers(
        &self,
        now: Time,
        state: &State,
    ) -> BTreeMap<NodeId, WorkerStatus> {
        let mut workers = workers(state);
        for (node, status) in &mut workers {
            status.alive = self.living(now, *node).is_some();
            let Some(heard) = self.workers.get(node) else { continue };
            let seen = heard.processes.iter().map(|(process, seen)| (*process, seen.state.clone()));
            status.processes.extend(seen);
        }
        workers
    }
}

/// What the state says of an app.
pub(in crate::master) fn status(id: AppId, app: &App) -> AppStatus {
    let master = app.master.as_ref().and_then(|master| master.get().assignment.place);
    AppStatus {
        app: id,
        name: app.spec().name.clone(),
        term: app.term(),
        wish: app.wish.0,
        outcome: app.outcome().cloned(),
        committed: app.committed.0,
        executors: orders::placed(app),
        waiting: String::new(),
        spec: app.spec().clone(),
        app_master: master
            .map(|place| Grant { worker: place.worker, state: ProcessState::Starting }),
        restarts: app.restarts(),
    }
}

/// What the state says of the workers.
pub(in crate::master) fn workers(state: &State) -> BTreeMap<NodeId, WorkerStatus> {
    let status = |(node, record): (&NodeId, _)| {
        let record: &crate::master::state::WorkerRecord = crate::crdt::Register::get(record);
        let status = WorkerStatus {
            incarnation: record.incarnation,
            address: record.address.clone(),
            capacity: record.capacity,
            used: Resources::default(),
            labels: record.labels.clone(),
            drains: state.drains.contains(node),
            alive: false,
            processes: BTreeMap::new(),
        };
        (*node, status)
    };
    let mut workers: BTreeMap<_, _> = state.workers.iter().map(status).collect();
    for (id, app) in state.running() {
        for (process, assignment) in app.processes(id) {
            let Some(place) = assignment.place else { continue };
            let worker = workers.get_mut(&place.worker);
            if let Some(worker) = worker.filter(|it| it.incarnation == place.incarnation) {
                let takes = app.resources(process.role);
                worker.used.slots = worker.used.slots.saturating_add(takes.slots);
                worker.used.memory = worker.used.memory.saturating_add(takes.memory);
                worker.processes.insert(process, ProcessState::Starting);
            }
        }
    }
    workers
}
