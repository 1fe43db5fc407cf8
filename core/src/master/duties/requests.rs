//! What clients ask.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Change, Leader, Said};
use crate::control::{AppOutcome, AppSpec, AppStatus, ControlMessage, Peer, Reply, Request, Wish};
use crate::crdt::{Max, Register};
use crate::host::Faults;
use crate::id::{AppId, AppTerm, RequestId};
use crate::master::state::{App, AppMasterRecord, Assignment, State, Submission};
use crate::scheduler::Scheduler;

/// Requests that wait for a change to be acknowledged; whoever comes then has to ask again.
pub const REQUESTS_WAITING_MAX: usize = 1_024;
/// Apps that have not ended: each has processes, and all are looked at with every change.
pub const APPS_RUNNING_MAX: usize = 1_000;
/// Executors of an app: its app master keeps a link with each, and its orders name them all.
pub const EXECUTORS_PER_APP_MAX: u32 = 1_024;
/// Bytes of an app's name: it is a column of a table.
pub const NAME_BYTES_MAX: usize = 128;
/// Bytes of an app's arguments, labels and other texts together: they travel with every order.
pub const SPEC_BYTES_MAX: usize = 16 * 1_024;

/// A request that waits for the next change.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) from: Peer,
    pub(super) id: RequestId,
    request: Request,
}

impl<F: Faults> Leader<F> {
    /// Takes a request that changes something; it is answered once that is acknowledged.
    pub(in crate::master) fn hear_request(
        &mut self,
        from: Peer,
        id: RequestId,
        request: Request,
        out: &mut Vec<Said>,
    ) {
        let repeated = |asked: &Asked| asked.from == from && asked.id == id;
        if self.requests.iter().any(repeated) {
            return;
        }
        if self.requests.len() >= REQUESTS_WAITING_MAX {
            let reason = format!("{REQUESTS_WAITING_MAX} requests wait already: ask again later");
            let message = ControlMessage::Reply { id, reply: Reply::Refused { reason } };
            out.push(Said::Send { to: from, message });
            return;
        }
        self.requests.push_back(Asked { from, id, request });
        self.stirred = true;
    }

    pub(super) fn answer_requests(
        &mut self,
        state: &State,
        scheduler: &Scheduler,
        change: &mut Change,
    ) {
        while let Some(Asked { from, id, request }) = self.requests.pop_front() {
            let reply = match request {
                Request::Submit(spec) => self.submit(id, *spec, state, scheduler, change),
                Request::Wish { app, wish } => on_wish(app, wish, state, change),
                Request::Drain { .. } | Request::Restart { .. } => {
                    Reply::Refused { reason: "the masters do not do that yet".into() }
                }
                Request::Apps | Request::Voters { .. } | Request::Cluster => {
                    unreachable!("what changes nothing in the state is answered by the master")
                }
            };
            change.replies.push((from, id, reply));
        }
    }

    fn submit(
        &mut self,
        request: RequestId,
        spec: AppSpec,
        state: &State,
        scheduler: &Scheduler,
        change: &mut Change,
    ) -> Reply {
        let known = || {
            let known = state.apps().chain(change.delta.apps());
            known.filter(|(_, app)| app.submission.is_some())
        };
        let answered = known().find(|(_, app)| app.submission().request == request);
        if let Some((app, _)) = answered.filter(|_| !F::FORGET_REQUEST_IDS) {
            return Reply::Submitted { app };
        }
        if let Err(reason) = check(&spec, scheduler) {
            return Reply::Refused { reason };
        }
        // The same request bears the same name, and was answered above.
        let taken = known().find(|(_, app)| {
            let other = app.submission().request != request;
            other && app.spec().name == spec.name && app.outcome.is_none()
        });
        if let Some((app, _)) = taken {
            let name = &spec.name;
            let reason =
                format!("{app} is called `{name}` and runs: stop it, or take another name");
            return Reply::Refused { reason };
        }
        let new = change.delta.apps.iter().filter(|(_, app)| app.submission.is_some()).count();
        if state.running().count() + new >= APPS_RUNNING_MAX {
            let reason = format!("{APPS_RUNNING_MAX} apps run already: stop one first");
            return Reply::Refused { reason };
        }
        let id = AppId(state.apps.next().max(change.delta.apps.next()));
        let executors = u64::from(spec.executors);
        let seed = self.seed ^ self.term.0.rotate_left(32);
        let token = xxh3_64_with_seed(&id.0.to_le_bytes(), seed);
        let first = AppMasterRecord { term: AppTerm(1), assignment: Assignment::default() };
        let mut app = App {
            submission: Some(Max(Submission { request, spec, token })),
            master: Some(Register::new(change.stamp, first)),
            ..App::default()
        };
        for number in 1..=executors {
            app.executors.put(number, &Register::new(change.stamp, Assignment::default()));
        }
        change.app(id, &app);
        Reply::Submitted { app: id }
    }

    /// Every app, as far as this master knows; a leader knows more than the state.
    pub(in crate::master) fn statuses(&self, state: &State) -> Vec<AppStatus> {
        let status = |(id, app)| {
            let mut status = status(id, app);
            status.executors = self.grants(id, app);
            status.waiting = self.waiting.get(&id).cloned().unwrap_or_default();
            status.committed = status.committed.max(self.heard_committed(id));
            status
        };
        state.apps().map(status).collect()
    }
}

/// What the state says of an app.
pub(in crate::master) fn status(id: AppId, app: &App) -> AppStatus {
    AppStatus {
        app: id,
        name: app.spec().name.clone(),
        term: app.term(),
        wish: app.wish.0,
        outcome: app.outcome().cloned(),
        committed: app.committed.0,
        executors: super::orders::placed(app),
        waiting: String::new(),
        spec: app.spec().clone(),
        app_master: None,
        restarts: 0,
    }
}

fn on_wish(id: AppId, wish: Wish, state: &State, change: &mut Change) -> Reply {
    let Some(app) = state.app(id) else {
        let reason = format!("there is no {id}, or it ended long ago");
        return Reply::Refused { reason };
    };
    if wish <= app.wish.0 {
        return Reply::Done;
    }
    if app.outcome.is_some() {
        return Reply::Refused { reason: format!("{id} has ended already") };
    }
    let mut change_of_app = App { wish: Max(wish), ..App::default() };
    let never_ran = app.master.as_ref().is_none_or(|master| {
        let AppMasterRecord { term, assignment } = master.get();
        *term <= AppTerm(1) && assignment.place.is_none()
    });
    let outcome = match wish {
        Wish::Kill => Some(AppOutcome::Killed),
        Wish::Stop if never_ran => Some(AppOutcome::Stopped),
        Wish::Stop | Wish::Run => None,
    };
    change_of_app.outcome = outcome.map(|outcome| Register::new(change.stamp, outcome));
    change.app(id, &change_of_app);
    Reply::Done
}

/// What can be said of an app before any worker is known.
fn check(spec: &AppSpec, scheduler: &Scheduler) -> Result<(), String> {
    if spec.name.is_empty() || spec.name.len() > NAME_BYTES_MAX {
        return Err(format!("an app needs a name of 1 to {NAME_BYTES_MAX} bytes"));
    }
    if spec.executors == 0 || spec.executors > EXECUTORS_PER_APP_MAX {
        let asked = spec.executors;
        return Err(format!("{asked} executors, 1 to {EXECUTORS_PER_APP_MAX} can be"));
    }
    let labels = spec.labels.iter().map(|(name, value)| name.len() + value.len());
    let arguments = spec.arguments.iter().map(|argument| argument.len() + 1);
    let texts = labels.chain(arguments).sum::<usize>() + spec.binary.len() + spec.strategy.len();
    if texts > SPEC_BYTES_MAX {
        return Err(format!(
            "arguments and labels take {texts} bytes, {SPEC_BYTES_MAX} can be: put them in a file \
             that every worker reads"
        ));
    }
    let known = scheduler.names().any(|name| name == spec.strategy);
    if known { Ok(()) } else { Err(scheduler.unknown(&spec.strategy)) }
}
