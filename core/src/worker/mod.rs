//! A worker: runs the processes that the leader of the masters orders, and says how they are.
//!
//! Call order: `handle` with [`WorkerInput::Start`] first, then with whatever comes; after each
//! call `next_timeout` says when [`WorkerInput::Timeout`] is due.
//!
//! It decides nothing by itself. Orders and reports are whole, so a lost message is only a delay;
//! and without masters everything goes on as it was last ordered.

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::marker::PhantomData;

use crate::control::{
    Address, LaunchOrder, ProcessId, ProcessState, Resources, WorkerOrders, WorkerReport,
};
use crate::effect::{Level, Notice};
use crate::host::{Fault, Faults, NoFaults};
use crate::id::{Incarnation, MasterTerm, NodeId};
use crate::limits::HEARTBEAT_INTERVAL;
use crate::scheduler::PROCESSES_PER_WORKER_MAX;
use crate::time::{Duration, Time};

/// A process that has not ended this long after it was told to is told again, and spoken of.
pub const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Who a worker is, and what it has to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// Its node.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Where its node listens.
    pub address: Address,
    /// What its processes may take together.
    pub capacity: Resources,
    /// What its operator says of it.
    pub labels: BTreeMap<String, String>,
}

/// What a worker hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerInput {
    /// Begin.
    Start,
    /// A master says what has to run.
    Orders {
        /// The master's node.
        from: NodeId,
        /// All of it.
        orders: WorkerOrders,
    },
    /// A child process listens.
    ChildRunning {
        /// The child.
        process: ProcessId,
        /// Where.
        address: Address,
    },
    /// A child process is gone, or could not be launched.
    ChildExited {
        /// The child.
        process: ProcessId,
        /// What a user should know of it.
        reason: String,
    },
    /// The deadline that `next_timeout` gave has come.
    Timeout,
}

/// What a worker wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerEffect {
    /// Tell every master.
    Report(WorkerReport),
    /// Launch a child process; answered by `ChildRunning` or `ChildExited`.
    Spawn(LaunchOrder),
    /// End a child process at once; answered by `ChildExited`.
    Kill(ProcessId),
    /// Tell the user.
    Notice(Notice),
}

/// A deadline of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The next report is due.
    Report,
    /// A process should have ended by now.
    Kill,
}

/// Runs processes on one node.
#[derive(Clone, Debug)]
pub struct Worker<F: Faults = NoFaults> {
    config: WorkerConfig,
    /// The last orders that were followed.
    heard: Option<Heard>,
    /// Who votes, as they have said.
    voters: BTreeMap<NodeId, Address>,
    children: BTreeMap<ProcessId, Child>,
    /// Counts the reports.
    number: u64,
    /// None before the start.
    report_at: Option<Time>,
    /// True once it was said that more was ordered than a worker runs.
    warned: bool,
    faults: PhantomData<F>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    from: NodeId,
    term: MasterTerm,
    number: u64,
}

#[derive(Clone, Debug)]
struct Child {
    state: ProcessState,
    /// When to look whether it has ended; none unless it has been told to.
    ending: Option<Time>,
}

impl<F: Faults> Worker<F> {
    /// Nothing runs before it is ordered.
    #[must_use]
    pub fn new(config: WorkerConfig) -> Self {
        Self {
            config,
            heard: None,
            voters: BTreeMap::new(),
            children: BTreeMap::new(),
            number: 0,
            report_at: None,
            warned: false,
            faults: PhantomData,
        }
    }

    /// The master whose orders were followed last, and its term.
    #[must_use]
    pub fn leader(&self) -> Option<(NodeId, MasterTerm)> {
        self.heard.map(|heard| (heard.from, heard.term))
    }

    /// Who votes, and where their nodes listen, as the last orders have said; none before.
    #[must_use]
    pub const fn voters(&self) -> &BTreeMap<NodeId, Address> {
        &self.voters
    }

    /// Every process that a report would name, and how it is doing.
    pub fn processes(&self) -> impl Iterator<Item = (ProcessId, &ProcessState)> {
        self.children.iter().map(|(process, child)| (*process, &child.state))
    }

    /// When [`WorkerInput::Timeout`] is due, and for what.
    #[must_use]
    pub fn next_timeout(&self) -> Option<(Time, Timer)> {
        let report = self.report_at.map(|at| (at, Timer::Report));
        let ending = self.children.values().filter_map(|child| child.ending);
        let ending = ending.min().map(|at| (at, Timer::Kill));
        report.into_iter().chain(ending).min_by_key(|(at, _)| *at)
    }

    /// Hears, and says what is to be done.
    pub fn handle(&mut self, now: Time, input: WorkerInput, out: &mut Vec<WorkerEffect>) {
        let changed = match input {
            WorkerInput::Start => {
                assert!(self.report_at.is_none(), "a worker is started once");
                true
            }
            WorkerInput::Orders { from, orders } => self.on_orders(now, from, orders, out),
            WorkerInput::ChildRunning { process, address } => self.on_running(process, address),
            WorkerInput::ChildExited { process, reason } => self.on_exited(process, reason),
            WorkerInput::Timeout => {
                self.repeat_kills(now, out);
                self.report_at.is_some_and(|at| at <= now)
            }
        };
        if changed {
            self.report(now, out);
        }
    }

    fn report(&mut self, now: Time, out: &mut Vec<WorkerEffect>) {
        self.report_at = Some(now + HEARTBEAT_INTERVAL);
        self.number += 1;
        let states = self.children.iter().map(|(process, child)| (*process, child.state.clone()));
        out.push(WorkerEffect::Report(WorkerReport {
            worker: self.config.node,
            incarnation: self.config.incarnation,
            number: self.number,
            follows: self.heard.map_or(MasterTerm::default(), |heard| heard.term),
            address: self.config.address.clone(),
            capacity: self.config.capacity,
            labels: self.config.labels.clone(),
            processes: states.collect(),
        }));
    }

    /// True if something has changed.
    fn on_orders(
        &mut self,
        now: Time,
        from: NodeId,
        orders: WorkerOrders,
        out: &mut Vec<WorkerEffect>,
    ) -> bool {
        let WorkerOrders { term, number, incarnation, launch, voters } = orders;
        if incarnation != self.config.incarnation {
            return false;
        }
        let old = self.heard.is_some_and(|heard| (term, number) < (heard.term, heard.number));
        if old && !F::has(Fault::AcceptOldTermOrders) {
            return false;
        }
        self.heard = Some(Heard { from, term, number });
        if !voters.is_empty() {
            self.voters = voters;
        }
        let named: BTreeSet<_> = launch.iter().map(|order| order.process).collect();
        let ended = self.end_unnamed(now, &named, out);
        let launched = self.launch(launch, out);
        ended || launched
    }

    /// Ends what is not named, and forgets what has ended by itself. True if anything was.
    fn end_unnamed(
        &mut self,
        now: Time,
        named: &BTreeSet<ProcessId>,
        out: &mut Vec<WorkerEffect>,
    ) -> bool {
        let before = self.children.len();
        self.children.retain(|process, child| {
            named.contains(process) || !matches!(child.state, ProcessState::Exited { .. })
        });
        let mut changed = self.children.len() < before;
        for (process, child) in &mut self.children {
            if !named.contains(process) && child.ending.is_none() {
                child.ending = Some(now + KILL_PATIENCE);
                out.push(WorkerEffect::Kill(*process));
                changed = true;
            }
        }
        changed
    }

    /// Launches what is new. What was told to end is not launched again: it ends, and that is
    /// reported. True if anything was launched.
    fn launch(&mut self, launch: Vec<LaunchOrder>, out: &mut Vec<WorkerEffect>) -> bool {
        let mut changed = false;
        for order in launch {
            if self.children.contains_key(&order.process) {
                continue;
            }
            if self.children.len() >= PROCESSES_PER_WORKER_MAX as usize {
                self.warn_full(order.process, out);
                return changed;
            }
            let child = Child { state: ProcessState::Starting, ending: None };
            self.children.insert(order.process, child);
            out.push(WorkerEffect::Spawn(order));
            changed = true;
        }
        self.warned = false;
        changed
    }

    fn warn_full(&mut self, process: ProcessId, out: &mut Vec<WorkerEffect>) {
        if !self.warned {
            self.warned = true;
            let text = format!(
                "{process} waits: {} has {PROCESSES_PER_WORKER_MAX} processes, the most that a \
                 worker runs",
                self.config.node
            );
            out.push(WorkerEffect::Notice(Notice { level: Level::Warning, text }));
        }
    }

    fn on_running(&mut self, process: ProcessId, address: Address) -> bool {
        let Some(child) = self.children.get_mut(&process) else { return false };
        let starting = child.state == ProcessState::Starting;
        if starting {
            child.state = ProcessState::Running { address };
        }
        starting
    }

    fn on_exited(&mut self, process: ProcessId, reason: String) -> bool {
        let Some(child) = self.children.get_mut(&process) else { return false };
        if matches!(child.state, ProcessState::Exited { .. }) {
            return false;
        }
        child.state = ProcessState::Exited { reason };
        child.ending = None;
        true
    }

    fn repeat_kills(&mut self, now: Time, out: &mut Vec<WorkerEffect>) {
        for (process, child) in &mut self.children {
            if child.ending.is_none_or(|at| at > now) {
                continue;
            }
            child.ending = Some(now + KILL_PATIENCE);
            let seconds = KILL_PATIENCE.as_secs();
            let text = format!("{process} was told to end and has not for {seconds} s: once more");
            out.push(WorkerEffect::Notice(Notice { level: Level::Warning, text }));
            out.push(WorkerEffect::Kill(*process));
        }
    }
}
