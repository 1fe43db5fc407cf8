//! What clients ask.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::restart::outranking;
use super::{Change, Leader, Said};
use crate::control::{AppOutcome, AppSpec, ControlMessage, Peer, Reply, Request, Wish};
use crate::crdt::{Lattice, Max, Register};
use crate::effect::Level;
use crate::host::{Fault, Faults};
use crate::id::{AppId, AppTerm, NodeId, RequestId};
use crate::master::state::{App, AppMasterRecord, Assignment, State, Submission};
use crate::scheduler::Scheduler;

/// Requests that wait for a change to be acknowledged; whoever comes then has to ask again.
pub const REQUESTS_WAITING_MAX: usize = 1_024;
/// Requests that are remembered of those that another one can undo. A client repeats one for
/// [`REQUEST_DEADLINE`](crate::limits::REQUEST_DEADLINE), in which people do not ask for as many.
pub const REQUESTS_REMEMBERED: usize = 256;
/// Apps that have not ended: each has processes, and all are looked at with every change.
pub const APPS_RUNNING_MAX: usize = 1_000;
/// Executors of an app: its app master keeps a link with each, and its orders name them all.
pub const EXECUTORS_PER_APP_MAX: u32 = 1_024;
/// Bytes of an app's name: it is a column of a table.
pub const NAME_BYTES_MAX: usize = 128;
/// Bytes of an app's arguments, labels and other texts together: they travel with every order.
pub const SPEC_BYTES_MAX: usize = 16 * 1_024;

/// Bytes of the name of a folder in the checkpoint store.
pub const FOLDER_BYTES_MAX: usize = 256;

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
                Request::Drain { node, drains } => self.on_drain(id, node, drains, state, change),
                // They have changed already, and whoever asked for it is to hear it once.
                Request::Voters { .. } => done(id, state, change),
                Request::Restart { app } => self.restart(id, app, state, change),
                Request::Apps | Request::Cluster => {
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
        if let Some(app) =
            answered(request, state, change).filter(|_| !F::has(Fault::ForgetRequestIds))
        {
            return Reply::Submitted { app };
        }
        match check(&spec, scheduler) {
            // Whoever names a folder that an app has left behind goes on from there.
            Ok(()) => {
                let left = |(_, app): &(AppId, &App)| {
                    app.outcome.is_some()
                        && !spec.state.is_empty()
                        && app.spec().state == spec.state
                };
                let after = state.apps().filter(left).map(|(id, _)| id).next_back();
                self.admit(request, spec, after, state, change)
            }
            Err(reason) => Reply::Refused { reason },
        }
    }

    /// Takes an app in, behind the one whose state it goes on from.
    pub(super) fn admit(
        &mut self,
        request: RequestId,
        mut spec: AppSpec,
        after: Option<AppId>,
        state: &State,
        change: &mut Change,
    ) -> Reply {
        // The same request bears the same name, and was answered above.
        let mut others = known(state, change).filter(|(id, app)| {
            app.outcome.is_none() && app.submission().request != request && Some(*id) != after
        });
        let named = |app: &App| app.spec().name == spec.name;
        let same = |app: &App| !spec.state.is_empty() && app.spec().state == spec.state;
        if let Some((app, other)) = others.find(|(_, app)| named(app) || same(app)) {
            let reason = if named(other) {
                let name = &spec.name;
                format!("{app} is called `{name}` and runs: stop it, or take another name")
            } else {
                let folder = &spec.state;
                format!("{app} keeps its state in `{folder}` and runs: stop it, or name another")
            };
            return Reply::Refused { reason };
        }
        drop(others);
        let new = change.delta.apps.iter().filter(|(_, app)| app.submission.is_some()).count();
        if state.running().count() + new >= APPS_RUNNING_MAX {
            let reason = format!("{APPS_RUNNING_MAX} apps run already: stop one first");
            return Reply::Refused { reason };
        }
        let id = AppId(state.apps.next().max(change.delta.apps.next()));
        let is_fresh = spec.state.is_empty();
        if is_fresh {
            spec.state = own_folder(id);
        }
        let executors = u64::from(spec.executors);
        let seed = self.seed ^ self.term.0.rotate_left(32);
        let token = xxh3_64_with_seed(&id.0.to_le_bytes(), seed);
        let term = if spec.from.is_some() { outranking(id) } else { AppTerm(1) };
        let first = AppMasterRecord { term, first: term, assignment: Assignment::default() };
        let mut app = App {
            submission: Some(Max(Submission { request, spec, token, after })),
            master: is_fresh.then(|| Register::new(change.stamp, first)),
            ..App::default()
        };
        for number in 1..=executors {
            app.executors.put(number, &Register::new(change.stamp, Assignment::default()));
        }
        change.app(id, &app);
        Reply::Submitted { app: id }
    }

    /// Has a worker drained, or not.
    fn on_drain(
        &self,
        id: RequestId,
        node: NodeId,
        drains: bool,
        state: &State,
        change: &mut Change,
    ) -> Reply {
        let is_done = state.has_done(id) || change.delta.has_done(id);
        if is_done && !F::has(Fault::RepeatOrders) {
            return Reply::Done;
        }
        if state.worker(node).is_none() && drains {
            let reason = format!("there is no worker on {node}: see which there are");
            return Reply::Refused { reason };
        }
        let mut all = state.drains.clone();
        all.join(&change.delta.drains);
        let delta = match drains {
            true if all.contains(&node) => None,
            true => Some(all.insert(self.term, node, ())),
            false => all.remove(&node),
        };
        if let Some(delta) = delta {
            change.delta.drains.join(&delta);
            let what = if drains { "is drained" } else { "may have work again" };
            change.notice(Level::Info, format!("{node} {what}"));
        }
        done(id, state, change)
    }
}

/// Remembers that a request was carried out, and forgets the one that was longest ago.
fn done(request: RequestId, state: &State, change: &mut Change) -> Reply {
    if !state.has_done(request) && !change.delta.has_done(request) {
        let new = &mut change.delta.done;
        let number = state.done.next().max(new.next());
        new.put(number, &Register::new(change.stamp, request));
        let forgotten = number.saturating_sub(REQUESTS_REMEMBERED as u64);
        if forgotten > 0 {
            new.remove(forgotten);
        }
    }
    Reply::Done
}

/// The apps of the state, and those that come in with the change.
fn known<'a>(state: &'a State, change: &'a Change) -> impl Iterator<Item = (AppId, &'a App)> {
    let known = state.apps().chain(change.delta.apps());
    known.filter(|(_, app)| app.submission.is_some())
}

/// The app that a request has brought.
pub(super) fn answered(request: RequestId, state: &State, change: &Change) -> Option<AppId> {
    let mut known = known(state, change);
    known.find(|(_, app)| app.submission().request == request).map(|(app, _)| app)
}

/// The folder of an app that was given none.
pub(super) fn own_folder(app: AppId) -> String {
    format!("app-{}", app.0)
}

pub(super) fn on_wish(id: AppId, wish: Wish, state: &State, change: &mut Change) -> Reply {
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
        let AppMasterRecord { term, first, assignment } = master.get();
        term <= first && assignment.place.is_none()
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
    for folder in [Some(&spec.state).filter(|it| !it.is_empty()), spec.from.as_ref()] {
        folder.map_or(Ok(()), |folder| check_folder(folder))?;
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

/// A folder of the checkpoint store is named so that it is one, and none above it, on every store.
fn check_folder(folder: &str) -> Result<(), String> {
    let is_plain = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain)
    };
    if folder.len() <= FOLDER_BYTES_MAX && folder.split('/').all(is_plain) {
        return Ok(());
    }
    Err(format!(
        "`{folder}` names no folder of the checkpoint store: it has at most {FOLDER_BYTES_MAX} \
         letters, digits, `-`, `_` and `.` in parts between `/`, none of which begins with `.`"
    ))
}
