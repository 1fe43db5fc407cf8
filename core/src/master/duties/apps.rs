//! Reports of app masters: outcomes, commits, executors that are given up.

use alloc::collections::BTreeSet;
use alloc::format;

use super::{COMMITTED_INTERVAL, Change, Leader};
use crate::control::{AppOutcome, AppReport};
use crate::crdt::{Max, Register};
use crate::effect::Level;
use crate::host::Faults;
use crate::id::{AppId, AppTerm, Epoch, ExecutorId};
use crate::master::state::{App, State};
use crate::time::Time;

/// What this leader has heard of an app's master.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) at: Time,
    pub(super) term: AppTerm,
    number: u64,
    /// Executors that are the app's and that it has given up.
    pub(super) lost: BTreeSet<ExecutorId>,
    committed: Epoch,
    outcome: Option<AppOutcome>,
}

impl<F: Faults> Leader<F> {
    /// Only the app master of the last granted term speaks for its app.
    pub(super) fn take_app_report(&mut self, now: Time, report: AppReport, state: &State) {
        let AppReport { app: id, term, number, lost, committed, outcome } = report;
        let Some(app) = state.app(id).filter(|app| app.outcome.is_none() && app.term() == term)
        else {
            return;
        };
        let before = self.apps.get(&id).filter(|heard| heard.term == term);
        if before.is_some_and(|heard| heard.number >= number) {
            return;
        }
        let owned = |executor: &ExecutorId| app.executors.get(executor.0.into()).is_some();
        let lost: BTreeSet<_> = lost.into_iter().filter(owned).collect();
        self.stirred |= !lost.is_empty() || outcome.is_some();
        self.apps.insert(id, Heard { at: now, term, number, lost, committed, outcome });
    }

    /// What was heard of the app master that is granted now.
    pub(super) fn heard_master(&self, id: AppId, term: AppTerm) -> Option<&Heard> {
        self.apps.get(&id).filter(|heard| heard.term == term)
    }

    /// The last committed epoch of which this leader has heard.
    pub(super) fn heard_committed(&self, id: AppId) -> Epoch {
        self.apps.get(&id).map_or(Epoch(0), |heard| heard.committed)
    }

    pub(super) fn take_app_reports(&mut self, now: Time, state: &State, change: &mut Change) {
        let note = now.since(self.committed_noted) >= COMMITTED_INTERVAL;
        for (id, app) in state.running() {
            let Some(heard) = self.heard_master(id, app.term()) else { continue };
            let mut change_of_app = App::default();
            if heard.committed > app.committed.0 && (note || heard.outcome.is_some()) {
                change_of_app.committed = Max(heard.committed);
            }
            if let Some(outcome) = heard.outcome.clone().filter(|_| !change.ends(id)) {
                let name = &app.spec().name;
                let (level, text) = match &outcome {
                    AppOutcome::Finished => (Level::Info, format!("{id} `{name}` has finished")),
                    AppOutcome::Stopped => (Level::Info, format!("{id} `{name}` has stopped")),
                    AppOutcome::Killed => (Level::Info, format!("{id} `{name}` was killed")),
                    AppOutcome::Failed { reason } => {
                        (Level::Error, format!("{id} `{name}` has failed: {reason}"))
                    }
                };
                change_of_app.outcome = Some(Register::new(change.stamp, outcome));
                change.notice(level, text);
            }
            if change_of_app != App::default() {
                change.app(id, &change_of_app);
            }
        }
        if note {
            self.committed_noted = now;
        }
    }
}
