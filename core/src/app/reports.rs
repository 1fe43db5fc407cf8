//! What an app master tells the masters, and what it makes of their orders.
//!
//! Both are whole and repeated, so a lost, late or doubled one changes nothing. Without masters
//! the app goes on with the executors that it has.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::control::{Address, AppOrders, AppOutcome, AppReport, Grant, ProcessState, Wish};
use crate::id::{AppId, AppTerm, Epoch, ExecutorId, MasterTerm, NodeId};
use crate::limits::HEARTBEAT_INTERVAL;
use crate::time::Time;

/// An app master's side of what is said between it and the masters.
#[derive(Clone, Debug)]
pub struct Reports {
    app: AppId,
    term: AppTerm,
    number: u64,
    /// Executors that were given up and that the orders still name.
    lost: BTreeSet<ExecutorId>,
    committed: Epoch,
    outcome: Option<AppOutcome>,
    /// The term and number of the orders that were obeyed last; none before the first.
    obeyed: Option<(MasterTerm, u64)>,
    grants: BTreeMap<ExecutorId, Grant>,
    /// Who votes, as the masters have said last.
    voters: BTreeMap<NodeId, Address>,
    wish: Wish,
    /// Why there are fewer executors than the app wants, as the masters say it.
    waiting: String,
    /// When the next report is due.
    due: Time,
}

/// Something that new orders have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another app master has a higher term: this one has to end itself.
    Superseded,
    /// The user wants something else.
    Wish(Wish),
    /// These are all executors that the app has, whether they listen or not.
    Granted(BTreeSet<ExecutorId>),
    /// An executor listens.
    Running(ExecutorId, Address),
    /// These are the masters now, and their nodes listen there.
    Voters(BTreeMap<NodeId, Address>),
    /// An executor is gone.
    Gone(ExecutorId, String),
}

impl Reports {
    /// The first report is due at once.
    #[must_use]
    pub const fn new(app: AppId, term: AppTerm) -> Self {
        Self {
            app,
            term,
            number: 0,
            lost: BTreeSet::new(),
            committed: Epoch(0),
            outcome: None,
            obeyed: None,
            grants: BTreeMap::new(),
            voters: BTreeMap::new(),
            wish: Wish::Run,
            waiting: String::new(),
            due: Time::ZERO,
        }
    }

    /// When [`Self::report`] is due.
    #[must_use]
    pub const fn next_timeout(&self) -> Time {
        self.due
    }

    /// The report that is to be sent to every master now.
    pub fn report(&mut self, now: Time) -> AppReport {
        self.number += 1;
        self.due = now + HEARTBEAT_INTERVAL;
        AppReport {
            app: self.app,
            term: self.term,
            number: self.number,
            lost: self.lost.iter().copied().collect(),
            committed: self.committed,
            outcome: self.outcome.clone(),
        }
    }

    /// An executor is given up: the masters end and replace it.
    pub fn give_up(&mut self, executor: ExecutorId) {
        if self.lost.insert(executor) {
            self.due = Time::ZERO;
        }
    }

    /// The last committed epoch.
    pub const fn committed(&mut self, epoch: Epoch) {
        self.committed = epoch;
    }

    /// The app has ended.
    pub fn ended(&mut self, outcome: AppOutcome) {
        if self.outcome.is_none() {
            self.outcome = Some(outcome);
            self.due = Time::ZERO;
        }
    }

    /// Why there are fewer executors than the app wants; empty if there are not.
    #[must_use]
    pub fn waiting(&self) -> &str {
        &self.waiting
    }

    /// The masters have spoken; orders that are old, or not for this app, say nothing.
    pub fn orders(&mut self, orders: AppOrders, out: &mut Vec<Change>) {
        let stamp = (orders.term, orders.number);
        if orders.app != self.app || self.obeyed.is_some_and(|obeyed| stamp <= obeyed) {
            return;
        }
        let first = self.obeyed.replace(stamp).is_none();
        if orders.app_term > self.term {
            out.push(Change::Superseded);
            return;
        }
        if !orders.voters.is_empty() && orders.voters != self.voters {
            self.voters.clone_from(&orders.voters);
            out.push(Change::Voters(orders.voters));
        }
        if orders.wish > self.wish {
            self.wish = orders.wish;
            out.push(Change::Wish(orders.wish));
        }
        self.waiting = orders.waiting;
        let before = core::mem::replace(&mut self.grants, orders.executors);
        let granted = |grants: &BTreeMap<ExecutorId, Grant>| -> BTreeSet<ExecutorId> {
            let alive = |(id, grant): (&ExecutorId, &Grant)| {
                let exited = matches!(grant.state, ProcessState::Exited { .. });
                (!exited).then_some(*id)
            };
            grants.iter().filter_map(alive).collect()
        };
        let (had, has) = (granted(&before), granted(&self.grants));
        for id in had.difference(&has) {
            let reason = match self.grants.get(id).map(|grant| &grant.state) {
                Some(ProcessState::Exited { reason }) => reason.clone(),
                _ => format!("{id} was taken back: its worker is lost or it was given up"),
            };
            out.push(Change::Gone(*id, reason));
        }
        self.lost.retain(|id| self.grants.contains_key(id));
        if had != has || first {
            out.push(Change::Granted(&has - &self.lost));
        }
        for id in has.difference(&self.lost) {
            let address = |grants: &BTreeMap<_, Grant>| match &grants.get(id)?.state {
                ProcessState::Running { address } => Some(address.clone()),
                _ => None,
            };
            if let Some(now) = address(&self.grants)
                && address(&before).as_ref() != Some(&now)
            {
                out.push(Change::Running(*id, now));
            }
        }
    }
}

impl From<&crate::app::Outcome> for AppOutcome {
    fn from(outcome: &crate::app::Outcome) -> Self {
        match outcome {
            crate::app::Outcome::Finished { .. } | crate::app::Outcome::AlreadyFinished { .. } => {
                Self::Finished
            }
            crate::app::Outcome::Stopped { .. } => Self::Stopped,
            crate::app::Outcome::Failed(failure) => Self::Failed { reason: failure.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    fn grant(state: ProcessState) -> Grant {
        Grant { worker: NodeId(1), state }
    }

    fn running(at: &str) -> ProcessState {
        ProcessState::Running { address: Address(at.into()) }
    }

    fn orders(number: u64, executors: &[(u32, ProcessState)]) -> AppOrders {
        let executors =
            executors.iter().map(|(id, state)| (ExecutorId(*id), grant(state.clone()))).collect();
        AppOrders {
            term: MasterTerm(1),
            number,
            app: AppId(7),
            app_term: AppTerm(2),
            wish: Wish::Run,
            executors,
            waiting: String::new(),
            voters: BTreeMap::new(),
        }
    }

    fn changes(reports: &mut Reports, orders: AppOrders) -> Vec<Change> {
        let mut out = Vec::new();
        reports.orders(orders, &mut out);
        out
    }

    fn ids(ids: &[u32]) -> BTreeSet<ExecutorId> {
        ids.iter().copied().map(ExecutorId).collect()
    }

    #[test]
    fn orders_that_are_old_say_nothing() {
        let mut reports = Reports::new(AppId(7), AppTerm(2));
        assert!(!changes(&mut reports, orders(5, &[(1, running("a"))])).is_empty());
        assert_eq!(changes(&mut reports, orders(5, &[])), []);
        assert_eq!(changes(&mut reports, orders(4, &[])), []);
        let old = AppOrders { term: MasterTerm(0), ..orders(9, &[]) };
        assert_eq!(changes(&mut reports, old), []);
        let other = AppOrders { app: AppId(8), ..orders(9, &[]) };
        assert_eq!(changes(&mut reports, other), []);
    }

    #[test]
    fn an_executor_is_heard_of_when_it_listens_and_when_it_is_gone() {
        let mut reports = Reports::new(AppId(7), AppTerm(2));
        let first = changes(&mut reports, orders(1, &[(1, ProcessState::Starting)]));
        assert_eq!(first, [Change::Granted(ids(&[1]))]);
        let second = changes(&mut reports, orders(2, &[(1, running("a"))]));
        assert_eq!(second, [Change::Running(ExecutorId(1), Address("a".into()))]);
        assert_eq!(changes(&mut reports, orders(3, &[(1, running("a"))])), []);
        let exited = ProcessState::Exited { reason: "exit code 1".into() };
        let third = changes(&mut reports, orders(4, &[(1, exited), (2, running("b"))]));
        let expected = vec![
            Change::Gone(ExecutorId(1), "exit code 1".into()),
            Change::Granted(ids(&[2])),
            Change::Running(ExecutorId(2), Address("b".into())),
        ];
        assert_eq!(third, expected);
    }

    #[test]
    fn what_was_given_up_is_reported_until_the_orders_no_longer_name_it() {
        let mut reports = Reports::new(AppId(7), AppTerm(2));
        changes(&mut reports, orders(1, &[(1, running("a")), (2, running("b"))]));
        assert_eq!(reports.report(Time(5)).lost, []);
        reports.give_up(ExecutorId(1));
        assert_eq!(reports.next_timeout(), Time::ZERO);
        assert_eq!(reports.report(Time(6)).lost, [ExecutorId(1)]);
        changes(&mut reports, orders(2, &[(1, running("a")), (2, running("b"))]));
        assert_eq!(reports.report(Time(7)).lost, [ExecutorId(1)]);
        changes(&mut reports, orders(3, &[(2, running("b"))]));
        assert_eq!(reports.report(Time(8)).lost, []);
    }

    #[test]
    fn whoever_has_a_lower_term_ends_itself() {
        let mut reports = Reports::new(AppId(7), AppTerm(1));
        assert_eq!(changes(&mut reports, orders(1, &[])), [Change::Superseded]);
    }

    #[test]
    fn who_votes_is_said_when_it_changes() {
        let mut reports = Reports::new(AppId(7), AppTerm(2));
        let voters = |node| [(NodeId(node), Address("m:1".into()))].into();
        let with = |number, voters| AppOrders { voters, ..orders(number, &[]) };
        let first = changes(&mut reports, with(1, voters(1)));
        assert!(first.contains(&Change::Voters(voters(1))));
        assert_eq!(changes(&mut reports, with(2, voters(1))), []);
        assert_eq!(changes(&mut reports, with(3, BTreeMap::new())), []);
        assert_eq!(changes(&mut reports, with(4, voters(2))), [Change::Voters(voters(2))]);
    }

    #[test]
    fn a_wish_only_grows() {
        let mut reports = Reports::new(AppId(7), AppTerm(2));
        let kill = AppOrders { wish: Wish::Kill, ..orders(1, &[]) };
        assert!(changes(&mut reports, kill).contains(&Change::Wish(Wish::Kill)));
        let stop = AppOrders { wish: Wish::Stop, ..orders(2, &[]) };
        assert!(!changes(&mut reports, stop).contains(&Change::Wish(Wish::Stop)));
    }
}
