//! What the leader of the masters does: it hears workers, app masters and clients, decides what is
//! to change in the [`State`], and orders what follows from it.
//!
//! It decides one `Change` at a time, and the next only when a majority has that on disk. So
//! every decision, every order and every answer comes from a state that survives, and whatever is
//! asked meanwhile is decided together in the next change.
//!
//! | file | handles |
//! |---|---|
//! | `requests` | what clients ask |
//! | `status` | what people are told of apps and workers |
//! | `restart` | apps that go on from the state of another |
//! | `workers` | reports of workers, and workers that are no longer heard |
//! | `apps` | reports of app masters: outcomes, commits, executors that are given up |
//! | `supervision` | processes that are lost or fail: who takes their place, and when no more |
//! | `placement` | where processes run that have no place |
//! | `drain` | processes that leave a worker which is to have no work |
//! | `orders` | what follows for workers and app masters |

mod apps;
mod drain;
mod hearing;
mod orders;
mod placement;
mod requests;
mod restart;
mod status;
mod supervision;
mod workers;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::marker::PhantomData;

use super::quorum::UpdateNumber;
use super::state::{App, AppMasterRecord, Assignment, State};
use crate::control::{AppReport, ControlMessage, Peer, ProcessId, Reply, WorkerReport};
use crate::crdt::{Register, Stamp};
use crate::effect::{Level, Notice};
use crate::host::Faults;
use crate::id::{AppId, ExecutorId, MasterTerm, NodeId, RequestId};
use crate::limits::{HEARTBEAT_INTERVAL, LEADER_LEASE};
use crate::scheduler::Scheduler;
use crate::time::{Duration, Time};
pub(super) use hearing::Hearing;
use orders::Orders;
pub use placement::UNPLACED;
pub use requests::{
    APPS_RUNNING_MAX, EXECUTORS_PER_APP_MAX, FOLDER_BYTES_MAX, NAME_BYTES_MAX, REQUESTS_REMEMBERED,
    REQUESTS_WAITING_MAX, SPEC_BYTES_MAX,
};
pub use restart::{RESTART_PATIENCE, TERMS_PER_APP};
pub(super) use status::{status, workers};
pub use supervision::{
    HEALTHY_AFTER, RESTART_BACKOFF_MAX, RESTART_BACKOFF_MIN, RESTARTS_MAX, START_PATIENCE,
};
pub use workers::{WORKER_FORGOTTEN_AFTER, WORKERS_MAX};

/// Apps that have ended and are still remembered, with their requests: for people to see what
/// became of them, and for clients that repeat what they asked.
pub const ENDED_APPS_KEPT: usize = 200;
/// Time between two notes of which epochs have been committed: they are for people only.
pub const COMMITTED_INTERVAL: Duration = Duration::from_secs(1);

/// What a leader says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Send { to: Peer, message: ControlMessage },
    Notice(Notice),
}

/// What is to change in the state.
#[derive(Clone, Debug)]
pub(super) struct Change {
    stamp: Stamp,
    pub(super) delta: State,
    /// What to answer once the change is acknowledged, and to whom.
    replies: Vec<(Peer, RequestId, Reply)>,
    /// What to tell the user then.
    notices: Vec<Notice>,
}

impl Change {
    fn is_empty(&self) -> bool {
        self.delta == State::default() && self.replies.is_empty() && self.notices.is_empty()
    }

    /// Changes something of an app.
    fn app(&mut self, id: AppId, change: &App) {
        self.delta.apps.put(id.0, change);
    }

    fn master(&mut self, id: AppId, record: AppMasterRecord) {
        let master = Some(Register::new(self.stamp, record));
        self.app(id, &App { master, ..App::default() });
    }

    fn executor(&mut self, id: AppId, executor: ExecutorId, assignment: Assignment) {
        let mut app = App::default();
        app.executors.put(executor.0.into(), &Register::new(self.stamp, assignment));
        self.app(id, &app);
    }

    /// True if the app ends with this change.
    fn ends(&self, id: AppId) -> bool {
        self.delta.app(id).is_some_and(|app| app.outcome.is_some())
    }

    fn notice(&mut self, level: Level, text: String) {
        self.notices.push(Notice { level, text });
    }
}

/// What a leader remembers for itself: what it has heard, and said.
#[derive(Clone, Debug)]
pub(super) struct Leader<F> {
    term: MasterTerm,
    /// What tokens of apps are drawn from.
    seed: u64,
    /// Counts the changes.
    changes: u64,
    /// When it took office, or could act again.
    listening_since: Time,
    /// Nobody counts as silent for the time before.
    hears_since: Time,
    /// When this master heard each worker last, before it took office.
    earlier: BTreeMap<NodeId, Time>,
    /// When it last did anything.
    ran: Time,
    tick_at: Time,
    workers: BTreeMap<NodeId, workers::Heard>,
    /// Workers whose hosts say that their processes have ended.
    gone: BTreeSet<NodeId>,
    apps: BTreeMap<AppId, apps::Heard>,
    /// When a process was given its place, or lost one.
    since: BTreeMap<ProcessId, Time>,
    requests: VecDeque<requests::Asked>,
    outstanding: Option<Outstanding>,
    /// Why apps wait, in words.
    waiting: BTreeMap<AppId, String>,
    /// Since when apps wait for another one to end.
    stopping: BTreeMap<AppId, Time>,
    orders: Orders,
    committed_noted: Time,
    /// True if something was heard on which there may be something to decide.
    stirred: bool,
    /// True once it was said that there are more workers than it listens to.
    crowded: bool,
    faults: PhantomData<F>,
}

#[derive(Clone, Debug)]
struct Outstanding {
    number: UpdateNumber,
    change: Change,
}

impl<F: Faults> Leader<F> {
    /// The leader of `term`, with what it begins with acknowledged, and what its master has heard
    /// before.
    pub(super) fn new(
        now: Time,
        term: MasterTerm,
        seed: u64,
        state: &State,
        hearing: &Hearing,
    ) -> Self {
        Self {
            term,
            seed,
            changes: 0,
            listening_since: now,
            hears_since: hearing.counts_since(now),
            earlier: hearing.workers.clone(),
            ran: now,
            tick_at: now + HEARTBEAT_INTERVAL,
            workers: BTreeMap::new(),
            gone: BTreeSet::new(),
            apps: BTreeMap::new(),
            since: BTreeMap::new(),
            requests: VecDeque::new(),
            outstanding: None,
            waiting: BTreeMap::new(),
            stopping: BTreeMap::new(),
            orders: Orders::new(state),
            committed_noted: now,
            stirred: true,
            crowded: false,
            faults: PhantomData,
        }
    }

    pub(super) fn term(&self) -> MasterTerm {
        self.term
    }

    /// When it has to be woken.
    pub(super) fn next_timeout(&self) -> Time {
        self.tick_at
    }

    /// It could not act for a while, and may not have heard what was said to it: everybody gets
    /// the whole grace time again.
    pub(super) fn resume(&mut self, now: Time) {
        self.listening_since = now;
        self.hears_since = now;
        self.ran = now;
    }

    /// Time has passed. A leader that was itself held up for long judges nobody's silence by it.
    pub(super) fn wake(&mut self, now: Time) {
        if now.since(self.ran) > LEADER_LEASE {
            self.resume(now);
        }
        self.ran = now;
        if now >= self.tick_at {
            self.tick_at = now + HEARTBEAT_INTERVAL;
            self.stirred = true;
        }
    }

    /// What is to change, if anything is; nothing while the last change is outstanding.
    pub(super) fn decide(
        &mut self,
        now: Time,
        state: &State,
        scheduler: &Scheduler,
    ) -> Option<Change> {
        if self.outstanding.is_some() || !self.stirred {
            return None;
        }
        self.stirred = false;
        let stamp = Stamp { term: self.term, counter: self.changes + 1 };
        let (delta, replies, notices) = (State::default(), Vec::new(), Vec::new());
        let mut change = Change { stamp, delta, replies, notices };
        self.answer_requests(state, scheduler, &mut change);
        self.record_workers(now, state, &mut change);
        self.take_app_reports(now, state, &mut change);
        self.supervise(now, state, &mut change);
        self.place(now, state, scheduler, &mut change);
        self.begin_restarted(now, state, &mut change);
        self.drain(now, state, scheduler, &mut change);
        forget_ended(state, &mut change);
        if change.is_empty() {
            return None;
        }
        self.changes += 1;
        Some(change)
    }

    /// A change was taken by the quorum under this number.
    pub(super) fn proposed(&mut self, number: UpdateNumber, change: Change) {
        assert!(self.outstanding.is_none(), "one change at a time");
        self.outstanding = Some(Outstanding { number, change });
    }

    /// A change was not taken.
    pub(super) fn withdraw(&mut self, change: Change, out: &mut Vec<Said>) {
        self.stirred = true;
        refer(change.replies.into_iter().map(|(to, id, _)| (to, id)), None, out);
    }

    /// A majority has everything up to this number; `state` is what it has.
    pub(super) fn acknowledged(
        &mut self,
        now: Time,
        number: UpdateNumber,
        state: &State,
        out: &mut Vec<Said>,
    ) {
        let Some(done) = self.outstanding.take_if(|it| it.number <= number) else { return };
        self.stirred = true;
        let Change { delta, replies, notices, .. } = done.change;
        out.extend(notices.into_iter().map(Said::Notice));
        for (to, id, reply) in replies {
            out.push(Said::Send { to, message: ControlMessage::Reply { id, reply } });
        }
        self.date_assignments(now, &delta);
        self.forget_strangers(state);
        self.order_everybody(state, out);
    }

    /// Those who asked and were not answered are sent elsewhere.
    pub(super) fn resign(self, leader: Option<NodeId>, out: &mut Vec<Said>) {
        let waiting = self.requests.into_iter().map(|asked| (asked.from, asked.id));
        let outstanding = self.outstanding.into_iter().flat_map(|it| it.change.replies);
        let outstanding = outstanding.map(|(to, id, _)| (to, id));
        refer(outstanding.chain(waiting), leader, out);
    }

    /// Of the processes that a change speaks of, when.
    fn date_assignments(&mut self, now: Time, delta: &State) {
        for (id, app) in delta.apps() {
            for (process, _) in app.processes(id) {
                self.since.insert(process, now);
            }
        }
    }

    /// Nothing is remembered of what is not there any more.
    fn forget_strangers(&mut self, state: &State) {
        let running: BTreeSet<AppId> = state.running().map(|(id, _)| id).collect();
        self.apps.retain(|app, _| running.contains(app));
        self.waiting.retain(|app, _| running.contains(app));
        self.stopping.retain(|app, _| running.contains(app));
        let current = |process: &ProcessId| {
            let app = state.app(process.app).filter(|app| app.outcome.is_none());
            app.is_some_and(|app| app.processes(process.app).any(|(it, _)| it == *process))
        };
        self.since.retain(|process, _| running.contains(&process.app) && current(process));
    }

    /// Since when something is so that this leader may not have seen begin.
    fn since(&self, process: ProcessId) -> Time {
        self.since.get(&process).copied().unwrap_or_default().max(self.listening_since)
    }

    pub(super) fn hear_worker(
        &mut self,
        now: Time,
        report: WorkerReport,
        state: &State,
        out: &mut Vec<Said>,
    ) {
        let worker = report.worker;
        if self.take_worker_report(now, report, out) {
            self.order_worker(worker, state, out);
        }
    }

    pub(super) fn hear_app(
        &mut self,
        now: Time,
        report: AppReport,
        state: &State,
        out: &mut Vec<Said>,
    ) {
        let (app, term) = (report.app, report.term);
        self.take_app_report(now, report, state);
        self.answer_app(app, term, state, out);
    }
}

/// Sends those who have asked elsewhere.
fn refer(
    asked: impl Iterator<Item = (Peer, RequestId)>,
    leader: Option<NodeId>,
    out: &mut Vec<Said>,
) {
    for (to, id) in asked {
        let reply = Reply::NotLeader { leader };
        out.push(Said::Send { to, message: ControlMessage::Reply { id, reply } });
    }
}

/// Keeps the newest of the apps that have ended, and those that others are to go on from.
fn forget_ended(state: &State, change: &mut Change) {
    let needed: BTreeSet<AppId> =
        state.running().filter_map(|(_, app)| app.submission().after).collect();
    let ended = state.apps().filter_map(|(id, app)| Some((app.outcome.as_ref()?.stamp(), id)));
    let mut ended: Vec<_> = ended.filter(|(_, id)| !needed.contains(id)).collect();
    let many = ended.len().saturating_sub(ENDED_APPS_KEPT);
    ended.sort_unstable();
    for (_, id) in ended.into_iter().take(many) {
        change.delta.apps.remove(id.0);
    }
}
