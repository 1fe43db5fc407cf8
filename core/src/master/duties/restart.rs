//! Apps that go on from the state that another has left: they begin when that one has ended.

use alloc::format;

use super::requests::{answered, on_wish, own_folder};
use super::{Change, Leader};
use crate::control::{ProcessState, Reply, Wish};
use crate::host::{Fault, Faults};
use crate::id::{AppId, AppTerm, RequestId};
use crate::master::state::{App, AppMasterRecord, Assignment, State};
use crate::time::{Duration, Time};

/// An app that was restarted is to stop with a last epoch, so that nothing is done twice; if it
/// has not for this long, it is ended: the user wants it to run, and what is not committed is done
/// again.
pub const RESTART_PATIENCE: Duration = Duration::from_secs(30);
/// The first term of an app that goes on from another's state is its id times this: ids rise, so it
/// outranks whoever wrote the folder's log before, also when the masters have forgotten him, and
/// its attempts, after which sinks name what they write, are none of the other's. No app comes near
/// as many app masters.
pub const TERMS_PER_APP: u64 = 4_096;

/// The first term of an app that goes on from the state of one before.
pub(super) fn outranking(id: AppId) -> AppTerm {
    AppTerm(id.0.saturating_mul(TERMS_PER_APP))
}

impl<F: Faults> Leader<F> {
    /// Takes in an app in the place of another.
    pub(super) fn restart(
        &mut self,
        request: RequestId,
        old: AppId,
        state: &State,
        change: &mut Change,
    ) -> Reply {
        if let Some(app) =
            answered(request, state, change).filter(|_| !F::has(Fault::ForgetRequestIds))
        {
            return Reply::Submitted { app };
        }
        let Some(app) = state.app(old) else {
            let reason = format!(
                "there is no {old}, or it ended long ago: submit the job again and name `{}` as \
                 its state",
                own_folder(old)
            );
            return Reply::Refused { reason };
        };
        let mut spec = app.spec().clone();
        // Its own state is newer.
        spec.from = None;
        let reply = self.admit(request, spec, Some(old), state, change);
        if matches!(reply, Reply::Submitted { .. }) && app.outcome.is_none() {
            on_wish(old, Wish::Stop, state, change);
        }
        reply
    }

    /// Lets those begin that wait for nobody any more.
    pub(super) fn begin_restarted(&mut self, now: Time, state: &State, change: &mut Change) {
        for (id, app) in state.running().filter(|(_, app)| app.master.is_none()) {
            if change.ends(id) {
                continue;
            }
            if let Some(old) = app.submission().after
                && self.hinders(now, id, old, state, change)
            {
                continue;
            }
            let term = first_term(id, app, state);
            let assignment = Assignment::default();
            change.master(id, AppMasterRecord { term, first: term, assignment });
        }
    }

    /// Whether something of the app before runs; it is ended if it does not stop.
    fn hinders(
        &mut self,
        now: Time,
        id: AppId,
        old: AppId,
        state: &State,
        change: &mut Change,
    ) -> bool {
        if state.app(old).is_some_and(|app| app.outcome.is_none()) {
            let since = *self.stopping.entry(id).or_insert(now);
            if now.since(since) >= RESTART_PATIENCE && !change.ends(old) {
                on_wish(old, Wish::Kill, state, change);
            }
            self.waiting.insert(id, format!("{old} stops first"));
            return true;
        }
        let mut living = self.workers.iter().filter(|(node, _)| self.living(now, **node).is_some());
        let last = living.find_map(|(node, heard)| {
            let mut processes = heard.processes.iter();
            let runs = |process: AppId, state| {
                process == old && !matches!(state, &ProcessState::Exited { .. })
            };
            let (process, _) = processes.find(|(it, seen)| runs(it.app, &seen.state))?;
            Some(format!("the {process} still ends on {node}"))
        });
        let hinders = last.is_some();
        last.into_iter().for_each(|why| drop(self.waiting.insert(id, why)));
        hinders
    }
}

/// The first term of an app: above those of all that wrote its log before.
fn first_term(id: AppId, app: &App, state: &State) -> AppTerm {
    let folder = &app.spec().state;
    let others = state.apps().filter(|(other, it)| *other != id && it.spec().state == *folder);
    let highest = others.map(|(_, it)| it.term()).max().unwrap_or_default();
    let is_own = *folder == own_folder(id) && app.spec().from.is_none();
    highest.next().max(if is_own { AppTerm(1) } else { outranking(id) })
}
