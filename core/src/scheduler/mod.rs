//! On which worker a process runs, or why it waits.
//!
//! What is possible is decided here, the same for everybody: labels, resources, priorities. Which
//! of the possible workers is best is for a [`Strategy`] to say, and a user may add his own. The
//! same workers and requests give the same answer, whatever the order of the workers.

mod explain;
#[cfg(test)]
mod properties;
mod strategies;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;

use crate::control::Resources;
use crate::id::{AppId, NodeId};
pub use strategies::{LocalityFirst, Pack, Spread};

/// Processes on a worker: each is a process of the operating system with its connections, and a
/// report names them all.
pub const PROCESSES_PER_WORKER_MAX: u32 = 1_024;

/// A worker, as it is offered to requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Its node.
    pub node: NodeId,
    /// What it has to give in all.
    pub capacity: Resources,
    /// What its processes take; more than the capacity if that has shrunk.
    pub used: Resources,
    /// What its operator says of it.
    pub labels: BTreeMap<String, String>,
    /// Its processes, by app.
    pub processes: BTreeMap<AppId, u32>,
    /// Binaries that its node holds, by what names them.
    pub binaries: BTreeSet<Vec<u8>>,
    /// It is to have no more processes.
    pub drains: bool,
}

impl Candidate {
    /// What nobody uses.
    #[must_use]
    pub fn free(&self) -> Resources {
        Resources {
            slots: self.capacity.slots.saturating_sub(self.used.slots),
            memory: self.capacity.memory.saturating_sub(self.used.memory),
        }
    }

    /// Processes of all apps.
    #[must_use]
    pub fn process_count(&self) -> u32 {
        self.processes.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Counts a process of an app as running here.
    pub fn occupy(&mut self, app: AppId, resources: Resources) {
        self.used.slots = self.used.slots.saturating_add(resources.slots);
        self.used.memory = self.used.memory.saturating_add(resources.memory);
        let count = self.processes.entry(app).or_default();
        *count = count.saturating_add(1);
    }

    fn has_labels(&self, request: &Request) -> bool {
        request.labels.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }

    /// True if the request could be met here, were there nothing else.
    fn could_ever_run(&self, request: &Request) -> bool {
        !self.drains && self.has_labels(request) && covers(self.capacity, request.resources)
    }

    fn has_room(&self, request: &Request) -> bool {
        !self.drains
            && covers(self.free(), request.resources)
            && self.process_count() < PROCESSES_PER_WORKER_MAX
    }
}

/// True if both slots and memory suffice.
#[must_use]
pub fn covers(offered: Resources, needed: Resources) -> bool {
    offered.slots >= needed.slots && offered.memory >= needed.memory
}

/// Processes of an app that look for a place, all alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The app.
    pub app: AppId,
    /// How many.
    pub count: u32,
    /// What each takes.
    pub resources: Resources,
    /// Labels that their workers must have.
    pub labels: BTreeMap<String, String>,
    /// What names the binary that they run.
    pub binary: Vec<u8>,
    /// The name of the strategy.
    pub strategy: String,
    /// Who goes first when there is not enough for all: the higher; among equals the older app.
    pub priority: i32,
    /// Workers that are taken only if no other has room: something has gone wrong there.
    pub avoid: BTreeSet<NodeId>,
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The workers of those that found a place, one for each.
    pub placed: Vec<NodeId>,
    /// Why the rest waits, in words; none if all have a place.
    pub waiting: Option<String>,
}

/// How good a worker is for a process: the lowest is best, the first number first.
pub type Cost = [u64; 4];

/// Which of the workers on which a process can run is best for it.
///
/// A strategy sees one worker at a time, with what has been placed before counted in, and two
/// calls with the same arguments give the same cost: so the result depends on nothing else.
pub trait Strategy: Send + Sync {
    /// What apps call it.
    fn name(&self) -> &str;

    /// The worker's cost; of workers that cost the same, the one with the lowest id is taken.
    fn cost(&self, request: &Request, worker: &Candidate) -> Cost;
}

/// Knows the strategies, and places what asks for a worker.
#[derive(Clone)]
pub struct Scheduler {
    strategies: Vec<Arc<dyn Strategy>>,
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Default for Scheduler {
    fn default() -> Self {
        Self { strategies: alloc::vec![Arc::new(Spread), Arc::new(Pack), Arc::new(LocalityFirst)] }
    }
}

impl Scheduler {
    /// Adds a user's strategy; every master has to know it. One of the same name is replaced.
    pub fn add(&mut self, strategy: Arc<dyn Strategy>) {
        self.strategies.retain(|it| it.name() != strategy.name());
        self.strategies.push(strategy);
    }

    /// What the strategies are called.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.strategies.iter().map(|it| it.name())
    }

    /// Places what has room, and says of the rest why it waits. The answers are in the order of
    /// the requests, and never take more of a worker than it has free.
    ///
    /// A request that waits keeps those of lower priority from every worker that could ever meet
    /// it, or small apps would starve a large one; those of the same priority it does not hinder.
    ///
    /// # Panics
    /// If a worker is given twice.
    #[must_use]
    pub fn place(&self, mut workers: Vec<Candidate>, requests: &[Request]) -> Vec<Answer> {
        workers.sort_by_key(|worker| worker.node);
        let distinct = workers.windows(2).all(|pair| pair[0].node < pair[1].node);
        assert!(distinct, "a worker is offered once");
        let mut turns: Vec<_> = (0..requests.len()).collect();
        turns.sort_by_key(|at| (Reverse(requests[*at].priority), requests[*at].app));
        let mut answers = alloc::vec![Answer::default(); requests.len()];
        let mut held: Vec<&Request> = Vec::new();
        for at in turns {
            let request = &requests[at];
            let Some(strategy) = self.strategies.iter().find(|it| it.name() == request.strategy)
            else {
                let waiting = (request.count > 0).then(|| self.unknown(&request.strategy));
                answers[at].waiting = waiting;
                continue;
            };
            answers[at] = meet(&mut workers, &held, request, &**strategy);
            if answers[at].waiting.is_some() {
                held.push(request);
            }
        }
        answers
    }

    /// Why nothing is placed by a strategy that is not known.
    #[must_use]
    pub fn unknown(&self, strategy: &str) -> String {
        let names: Vec<_> = self.names().collect();
        format!("no strategy is called `{strategy}`; there are: {}", names.join(", "))
    }
}

/// Places as much of a request as there is room for; `held` wait already.
fn meet(
    workers: &mut [Candidate],
    held: &[&Request],
    request: &Request,
    strategy: &dyn Strategy,
) -> Answer {
    let holder = |worker: &Candidate| {
        let mut higher = held.iter().filter(|it| it.priority > request.priority);
        higher.find(|it| worker.could_ever_run(it)).copied()
    };
    let mut answer = Answer::default();
    while answer.placed.len() < request.count as usize {
        let possible = workers.iter_mut().filter(|worker| {
            worker.has_labels(request) && worker.has_room(request) && holder(worker).is_none()
        });
        let best = possible.min_by_key(|worker| {
            (request.avoid.contains(&worker.node), strategy.cost(request, worker))
        });
        let Some(best) = best else {
            answer.waiting = Some(explain::waiting(workers, request, holder));
            break;
        };
        best.occupy(request.app, request.resources);
        answer.placed.push(best.node);
    }
    answer
}
