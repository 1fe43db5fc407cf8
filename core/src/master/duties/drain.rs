//! Processes leave a worker that is to have no work, one of an app at a time, and only when there
//! is room elsewhere.
//!
//! An executor goes when the one in its place listens: its tasks then go back to the last committed
//! epoch once, at once. An app master goes without more ado: tasks run on without it.

use alloc::format;

use super::supervision::Fate;
use super::{Change, Leader};
use crate::control::{ProcessId, ProcessState, Role, Wish};
use crate::effect::Level;
use crate::host::Faults;
use crate::id::{AppId, ExecutorId, NodeId};
use crate::master::state::{App, AppMasterRecord, Assignment, Place, State};
use crate::scheduler::Scheduler;
use crate::time::Time;

impl<F: Faults> Leader<F> {
    /// Moves one process, if nothing else is to be done that may take its room.
    pub(super) fn drain(
        &mut self,
        now: Time,
        state: &State,
        scheduler: &Scheduler,
        change: &mut Change,
    ) {
        if state.drains.is_empty() || !change.delta.apps.is_empty() {
            return;
        }
        for (id, app) in state.running().filter(|(_, app)| app.wish.0 == Wish::Run) {
            let Some((process, node)) = self.next_to_leave(id, app, state) else { continue };
            let request = Self::request(id, app, process.role);
            let mut answers = scheduler.place(self.candidates(now, state), &[request]);
            let answer = answers.pop().unwrap_or_default();
            match (answer.placed.first(), answer.waiting) {
                (Some(to), _) => {
                    let incarnation = self.workers[to].record.incarnation;
                    let place = Place { worker: *to, incarnation };
                    change.notice(Level::Info, format!("{process} moves from {node} to {to}"));
                    return move_to(place, process, app, change);
                }
                (None, why) => {
                    let why = why.unwrap_or_default();
                    let text = format!("the {process} is to leave {node}, and {why}");
                    self.waiting.insert(id, text);
                }
            }
        }
    }

    /// The process of an app that leaves its worker next; none while another one is on its way.
    fn next_to_leave(&self, id: AppId, app: &App, state: &State) -> Option<(ProcessId, NodeId)> {
        let runs = |(process, assignment): (ProcessId, &Assignment)| {
            let Some(place) = assignment.place else { return true };
            let seen = matches!(self.seen(process, place), Some(ProcessState::Running { .. }));
            seen && assignment.replaces.is_none()
        };
        if self.heard_master(id, app.term()).is_none() || !app.processes(id).all(runs) {
            return None;
        }
        app.processes(id).find_map(|(process, assignment)| {
            let node = assignment.place?.worker;
            state.drains.contains(&node).then_some((process, node))
        })
    }

    /// Whether nothing else is to be done about an executor, since it takes the place of another,
    /// or another takes its place.
    pub(super) fn relieve(
        &self,
        id: AppId,
        app: &App,
        (executor, assignment): (ExecutorId, &Assignment),
        fate: &Fate,
        change: &mut Change,
    ) -> bool {
        let process = ProcessId { app: id, role: Role::Executor(executor) };
        if let (Some(old), Some(place)) = (assignment.replaces, assignment.place) {
            let listens = matches!(self.seen(process, place), Some(ProcessState::Running { .. }));
            let is_well = matches!(fate, Fate::Fine | Fate::Healthy);
            if is_well && (listens || app.executors.get(old.0.into()).is_none()) {
                remove(id, old, change);
                let assignment = Assignment { replaces: None, ..assignment.clone() };
                change.executor(id, executor, assignment);
                return true;
            }
        }
        let mut others = app.executors();
        let relieved = others.any(|(_, other)| other.replaces == Some(executor));
        if relieved && matches!(fate, Fate::Lost(_) | Fate::Failed(_)) {
            remove(id, executor, change);
        }
        relieved
    }
}

fn remove(id: AppId, executor: ExecutorId, change: &mut Change) {
    let mut gone = App::default();
    gone.executors.remove(executor.0.into());
    change.app(id, &gone);
}

fn move_to(place: Place, process: ProcessId, app: &App, change: &mut Change) {
    let assignment = Assignment { place: Some(place), ..Assignment::default() };
    match process.role {
        Role::AppMaster(term) => {
            let first = app.master.as_ref().map_or(term, |master| master.get().first);
            let record = AppMasterRecord { term: term.next(), first, assignment };
            change.master(process.app, record);
        }
        Role::Executor(executor) => {
            let fresh = u32::try_from(app.executors.next()).unwrap_or(u32::MAX);
            let assignment = Assignment { replaces: Some(executor), ..assignment };
            change.executor(process.app, ExecutorId(fresh), assignment);
        }
    }
}
