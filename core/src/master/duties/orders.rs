//! What follows from the state for workers and app masters.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::placement::UNPLACED;
use super::{Leader, Said};
use crate::control::{
    AppOrders, ControlMessage, Grant, LaunchOrder, Peer, ProcessId, ProcessState, Role, Wish,
    WorkerOrders,
};
use crate::host::Faults;
use crate::id::{AppId, AppTerm, ExecutorId, NodeId};
use crate::master::state::{App, Place, State};

/// What a leader has ordered.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    /// Orders that were sent in this term.
    sent: u64,
    /// What has to run where.
    plan: BTreeMap<Place, Vec<ProcessId>>,
    /// What a worker was told last.
    workers: BTreeMap<Place, Vec<ProcessId>>,
    /// What an app master was told last, its number left at 0.
    apps: BTreeMap<AppId, AppOrders>,
}

impl Orders {
    pub(super) fn new(state: &State) -> Self {
        Self { plan: plan(state), ..Self::default() }
    }

    fn next_number(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }
}

/// What has to run where: everything that has a place, of every app that has not ended.
fn plan(state: &State) -> BTreeMap<Place, Vec<ProcessId>> {
    let mut plan: BTreeMap<Place, Vec<ProcessId>> = BTreeMap::new();
    for (id, app) in state.running() {
        for (process, assignment) in app.processes(id) {
            if let Some(place) = assignment.place {
                plan.entry(place).or_default().push(process);
            }
        }
    }
    plan
}

/// The executors of an app that have a place, of which nobody has said more.
pub(super) fn placed(app: &App) -> BTreeMap<ExecutorId, Grant> {
    let placed = app.executors().filter_map(|(executor, assignment)| {
        let worker = assignment.place?.worker;
        Some((executor, Grant { worker, state: ProcessState::Starting }))
    });
    placed.collect()
}

impl<F: Faults> Leader<F> {
    /// Orders that were sent in this term.
    pub(in crate::master) fn orders_sent(&self) -> u64 {
        self.orders.sent
    }

    /// The state has changed: whoever is concerned is told.
    pub(super) fn order_everybody(&mut self, state: &State, out: &mut Vec<Said>) {
        self.orders.plan = plan(state);
        let running: BTreeSet<AppId> = state.running().map(|(id, _)| id).collect();
        self.orders.apps.retain(|id, _| running.contains(id));
        let heard = self.workers.iter();
        let places: BTreeSet<_> = heard
            .map(|(worker, heard)| Place { worker: *worker, incarnation: heard.record.incarnation })
            .collect();
        self.orders.workers.retain(|place, _| places.contains(place));
        for place in places {
            let due = self.orders.plan.get(&place).map_or(&[][..], Vec::as_slice);
            if self.orders.workers.get(&place).is_none_or(|told| told != due) {
                self.order_worker(place.worker, state, out);
            }
        }
        for id in running {
            self.order_app(id, state, false, out);
        }
    }

    /// Tells a worker all that it has to run.
    pub(super) fn order_worker(&mut self, worker: NodeId, state: &State, out: &mut Vec<Said>) {
        let Some(heard) = self.workers.get(&worker) else { return };
        let incarnation = heard.record.incarnation;
        let place = Place { worker, incarnation };
        let processes = self.orders.plan.get(&place).cloned().unwrap_or_default();
        let launch = processes.iter().filter_map(|process| {
            let submission = state.app(process.app)?.submission();
            let (spec, token) = (submission.spec.clone(), submission.token);
            Some(LaunchOrder { process: *process, spec, token })
        });
        let launch = launch.collect();
        let number = self.orders.next_number();
        let orders =
            WorkerOrders { term: self.term, number, incarnation, launch, voters: BTreeMap::new() };
        let message = ControlMessage::WorkerOrders(orders);
        out.push(Said::Send { to: Peer::Node(worker), message });
        self.orders.workers.insert(place, processes);
        self.tell_apps_of(worker, state, out);
    }

    /// How a worker's executors are doing is news to their app masters.
    fn tell_apps_of(&mut self, worker: NodeId, state: &State, out: &mut Vec<Said>) {
        let Some(heard) = self.workers.get(&worker) else { return };
        let apps: BTreeSet<AppId> = heard.processes.keys().map(|process| process.app).collect();
        for id in apps {
            self.order_app(id, state, false, out);
        }
    }

    /// Answers an app master, also one that has nothing to do any more.
    pub(super) fn answer_app(
        &mut self,
        id: AppId,
        term: AppTerm,
        state: &State,
        out: &mut Vec<Said>,
    ) {
        match state.app(id) {
            Some(app) if app.outcome.is_none() && app.term() == term => {
                self.order_app(id, state, true, out);
            }
            app => {
                // It is of the past. One whose app is forgotten is told that there is a later one.
                let app_term = app.map_or(term.next(), App::term);
                let orders = AppOrders {
                    term: self.term,
                    number: self.orders.next_number(),
                    app: id,
                    app_term,
                    wish: Wish::Kill,
                    executors: BTreeMap::new(),
                    waiting: String::new(),
                    voters: BTreeMap::new(),
                };
                let message = ControlMessage::AppOrders(orders);
                out.push(Said::Send { to: Peer::AppMaster(id, term), message });
            }
        }
    }

    /// Tells the app master of an app what it may use, if that is news or it is to be repeated.
    fn order_app(&mut self, id: AppId, state: &State, repeat: bool, out: &mut Vec<Said>) {
        let Some(app) = state.app(id).filter(|app| app.outcome.is_none()) else { return };
        let app_term = app.term();
        if self.heard_master(id, app_term).is_none() {
            return;
        }
        let orders = AppOrders {
            term: self.term,
            number: 0,
            app: id,
            app_term,
            wish: app.wish.0,
            executors: self.grants(id, app),
            waiting: self.why_fewer(id, app),
            voters: BTreeMap::new(),
        };
        if !repeat && self.orders.apps.get(&id) == Some(&orders) {
            return;
        }
        self.orders.apps.insert(id, orders.clone());
        let orders = AppOrders { number: self.orders.next_number(), ..orders };
        let message = ControlMessage::AppOrders(orders);
        out.push(Said::Send { to: Peer::AppMaster(id, app_term), message });
    }

    /// Why an app has fewer executors than it wants; empty if it has all.
    fn why_fewer(&self, id: AppId, app: &App) -> String {
        if app.executors().all(|(_, assignment)| assignment.place.is_some()) {
            return String::new();
        }
        self.waiting.get(&id).cloned().unwrap_or_else(|| UNPLACED.to_string())
    }

    /// The executors of an app that have a place, and how they are doing.
    pub(super) fn grants(&self, id: AppId, app: &App) -> BTreeMap<ExecutorId, Grant> {
        let mut grants = placed(app);
        for (executor, grant) in &mut grants {
            let process = ProcessId { app: id, role: Role::Executor(*executor) };
            let assignment = app.executors.get(executor.0.into());
            let place = assignment.and_then(|it| it.get().place);
            if let Some(state) = place.and_then(|place| self.seen(process, place)) {
                grant.state = state.clone();
            }
        }
        grants
    }
}
