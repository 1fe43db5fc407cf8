//! What the masters remember together: apps, and workers.
//!
//! Everything is a lattice, and a change is a value of the same types that holds only what is new.
//! What only the leader needs, and would find out again within the grace time, is not here.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::quorum::Replicated;
use crate::control::{Address, AppOutcome, AppSpec, ProcessId, Resources, Role, Wish};
use crate::crdt::{Lattice, Map, Max, Numbered, Register, Removable};
use crate::id::{AppId, AppTerm, Epoch, ExecutorId, Incarnation, NodeId, RequestId};

/// Parts of the apps on disk: with as many apps as there may be, a part holds few of them, and an
/// update of one app writes little.
const PARTS: u64 = 256;
/// The part of the requests that were carried out.
const REQUESTS: &str = "requests";
/// The part of all else that belongs to no app.
const CLUSTER: &str = "cluster";

/// What the masters remember together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The apps, by [`AppId`]; what is removed has ended long ago.
    pub apps: Numbered<App>,
    /// The workers that have been heard.
    pub workers: Removable<NodeId, Register<WorkerRecord>>,
    /// Workers that are to have no work, in whichever of their lives.
    pub drains: Removable<NodeId, ()>,
    /// Requests that were carried out and that another one can undo, in their order: whoever
    /// repeats one, or a copy of it that comes late, changes nothing any more.
    pub done: Numbered<Register<RequestId>>,
}

/// What is known of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// Its life.
    pub incarnation: Incarnation,
    /// Where its node listens.
    pub address: Address,
    /// What it has to give.
    pub capacity: Resources,
    /// What its operator says of it.
    pub labels: BTreeMap<String, String>,
}

/// What is known of an app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct App {
    /// How it came in; none only in a change of something else.
    pub submission: Option<Max<Submission>>,
    /// What is wanted of it; what was asked for is not taken back.
    pub wish: Max<Wish>,
    /// Its app master.
    pub master: Option<Register<AppMasterRecord>>,
    /// Its executors, by [`ExecutorId`]; those that were given up are removed.
    pub executors: Numbered<Register<Assignment>>,
    /// Nodes that have its binary.
    pub fetched: Map<NodeId, ()>,
    /// How it has ended; none while it has not.
    pub outcome: Option<Register<AppOutcome>>,
    /// The last committed epoch, for people to see: the truth is in the app's commit log.
    pub committed: Max<Epoch>,
}

/// How an app came in.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Submission {
    /// The request that brought it: the same request again is the same app.
    pub request: RequestId,
    /// What the user submitted.
    pub spec: AppSpec,
    /// Whoever links with a process of the app has to know this.
    pub token: u64,
    /// The app whose state it goes on from: it begins when nothing of that runs any more.
    pub after: Option<AppId>,
}

/// An app master: the highest term that was granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AppMasterRecord {
    /// The term.
    pub term: AppTerm,
    /// The term of the app's first one.
    pub first: AppTerm,
    /// Where it is to run.
    pub assignment: Assignment,
}

/// Where a process is to run, and what went wrong with those whose place it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Assignment {
    /// The place; none while it waits for one.
    pub place: Option<Place>,
    /// How often in a row its predecessors failed without having run well for a while.
    pub failures: u32,
    /// What went wrong the last time; empty if nothing did.
    pub reason: String,
    /// Where that was.
    pub avoid: Option<NodeId>,
    /// The executor that goes once this one listens: it is on a worker that drains.
    pub replaces: Option<ExecutorId>,
}

/// A worker in one of its lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The worker's node.
    pub worker: NodeId,
    /// Its life: what runs on it is gone with that.
    pub incarnation: Incarnation,
}

impl State {
    /// An app.
    #[must_use]
    pub fn app(&self, app: AppId) -> Option<&App> {
        self.apps.get(app.0)
    }

    /// Every app, in the order of submission.
    pub fn apps(&self) -> impl DoubleEndedIterator<Item = (AppId, &App)> {
        self.apps.iter().map(|(number, app)| (AppId(number), app))
    }

    /// Every app that has not ended, in the order of submission.
    pub fn running(&self) -> impl DoubleEndedIterator<Item = (AppId, &App)> {
        self.apps().filter(|(_, app)| app.outcome.is_none())
    }

    /// What is known of a worker.
    #[must_use]
    pub fn worker(&self, worker: NodeId) -> Option<&WorkerRecord> {
        self.workers.get(&worker).map(Register::get)
    }

    /// Whether a request was carried out that another one can undo.
    #[must_use]
    pub fn has_done(&self, request: RequestId) -> bool {
        self.done.iter().any(|(_, done)| *done.get() == request)
    }

    /// Of each binary that an app was submitted with, the nodes that have it.
    #[must_use]
    pub fn binaries(&self) -> BTreeMap<&[u8], BTreeSet<NodeId>> {
        let mut nodes: BTreeMap<&[u8], BTreeSet<NodeId>> = BTreeMap::new();
        for (_, app) in self.apps() {
            let fetched = app.fetched.iter().map(|(node, ())| *node);
            nodes.entry(&app.spec().binary).or_default().extend(fetched);
        }
        nodes
    }
}

impl App {
    /// How it came in.
    ///
    /// # Panics
    /// If this is a change and not an app.
    #[must_use]
    pub fn submission(&self) -> &Submission {
        &self.submission.as_ref().expect("an app begins with its submission").0
    }

    /// What the user submitted.
    ///
    /// # Panics
    /// If this is a change and not an app.
    #[must_use]
    pub fn spec(&self) -> &AppSpec {
        &self.submission().spec
    }

    /// The highest term that was granted to an app master.
    #[must_use]
    pub fn term(&self) -> AppTerm {
        self.master.as_ref().map_or(AppTerm(0), |master| master.get().term)
    }

    /// App masters and executors that took the place of others.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        let masters = self.master.as_ref().map_or(0, |master| {
            let AppMasterRecord { term, first, .. } = master.get();
            term.0.saturating_sub(first.0)
        });
        let wanted = u64::from(self.spec().executors);
        masters + self.executors.next().saturating_sub(1 + wanted)
    }

    /// How it has ended; none while it has not.
    #[must_use]
    pub fn outcome(&self) -> Option<&AppOutcome> {
        self.outcome.as_ref().map(Register::get)
    }

    /// Its executors, in order.
    pub fn executors(&self) -> impl Iterator<Item = (ExecutorId, &Assignment)> {
        let executor = |number| ExecutorId(u32::try_from(number).unwrap_or(u32::MAX));
        self.executors.iter().map(move |(number, it)| (executor(number), it.get()))
    }

    /// The app master and the executors.
    pub fn processes(&self, app: AppId) -> impl Iterator<Item = (ProcessId, &Assignment)> {
        let master = self.master.iter().map(move |master| {
            let AppMasterRecord { term, assignment, .. } = master.get();
            (ProcessId { app, role: Role::AppMaster(*term) }, assignment)
        });
        let executors = self.executors();
        master.chain(executors.map(move |(executor, assignment)| {
            (ProcessId { app, role: Role::Executor(executor) }, assignment)
        }))
    }

    /// What a process of the app takes up.
    #[must_use]
    pub fn resources(&self, role: Role) -> Resources {
        match role {
            Role::AppMaster(_) => self.spec().app_master,
            Role::Executor(_) => self.spec().executor,
        }
    }
}

impl Lattice for App {
    fn join(&mut self, other: &Self) -> bool {
        self.submission.join(&other.submission)
            | self.wish.join(&other.wish)
            | self.master.join(&other.master)
            | self.executors.join(&other.executors)
            | self.fetched.join(&other.fetched)
            | self.outcome.join(&other.outcome)
            | self.committed.join(&other.committed)
    }
}

impl Lattice for State {
    fn join(&mut self, other: &Self) -> bool {
        self.apps.join(&other.apps)
            | self.workers.join(&other.workers)
            | self.drains.join(&other.drains)
            | self.done.join(&other.done)
    }
}

/// The part that holds an app.
fn part_of(app: u64) -> u64 {
    app % PARTS
}

impl Replicated for State {
    fn parts(&self) -> Vec<String> {
        let mut numbers: BTreeSet<_> = self.apps.iter().map(|(app, _)| part_of(app)).collect();
        // What an app left behind in its part goes with the app.
        for (first, last) in self.apps.gone() {
            numbers.extend((first..=last).take(PARTS as usize).map(part_of));
        }
        let apps = numbers.into_iter().map(|part| format!("apps-{part}"));
        let requests = (self.done != Numbered::default()).then(|| REQUESTS.to_owned());
        apps.chain([CLUSTER.to_owned()]).chain(requests).collect()
    }

    fn part(&self, name: &str) -> Self {
        match name.strip_prefix("apps-").and_then(|part| part.parse().ok()) {
            Some(part) => {
                let apps = self.apps.only(|app| part_of(app) == part);
                Self { apps, ..Self::default() }
            }
            None if name == REQUESTS => Self { done: self.done.clone(), ..Self::default() },
            None => Self {
                apps: self.apps.removals(),
                workers: self.workers.clone(),
                drains: self.drains.clone(),
                ..Self::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crdt::{Stamp, laws};
    use crate::id::MasterTerm;

    fn stamp() -> impl Strategy<Value = Stamp> {
        (1..3_u64, 1..4_u64).prop_map(|(term, counter)| Stamp { term: MasterTerm(term), counter })
    }

    fn assignment() -> impl Strategy<Value = Register<Assignment>> {
        (stamp(), 0..2_u32, prop::option::of(0..2_u64)).prop_map(|(stamp, failures, worker)| {
            let place = worker.map(|worker| Place { worker: NodeId(worker), ..Place::default() });
            Register::new(stamp, Assignment { place, failures, ..Assignment::default() })
        })
    }

    fn app() -> impl Strategy<Value = App> {
        let executors = prop::collection::vec((1..4_u64, prop::option::of(assignment())), 0..4);
        let submission = prop::option::of(
            (0..2_u64).prop_map(|token| Max(Submission { token, ..Submission::default() })),
        );
        let wish = prop_oneof![Just(Wish::Run), Just(Wish::Stop), Just(Wish::Kill)];
        let outcome = prop_oneof![Just(AppOutcome::Finished), Just(AppOutcome::Killed)];
        let outcome = prop::option::of((stamp(), outcome));
        let outcome = outcome.prop_map(|it| it.map(|(stamp, it)| Register::new(stamp, it)));
        let nodes = prop::collection::vec(0..3_u64, 0..3);
        (submission, wish, executors, outcome, nodes, 0..3_u64).prop_map(
            |(submission, wish, executors, outcome, nodes, committed)| {
                let mut app = App { submission, wish: Max(wish), outcome, ..App::default() };
                app.committed = Max(Epoch(committed));
                app.fetched = nodes.into_iter().map(|node| (NodeId(node), ())).collect();
                for (number, assignment) in executors {
                    match assignment {
                        Some(assignment) => {
                            app.executors.put(number, &assignment);
                        }
                        None => app.executors.remove(number),
                    }
                }
                app
            },
        )
    }

    fn state() -> impl Strategy<Value = State> {
        // Some apps are in the same part.
        let number = prop_oneof![1..4_u64, 255..260_u64];
        let apps = prop::collection::vec((number, prop::option::of(app())), 0..5);
        (apps, prop::collection::vec((0..3_u64, any::<bool>()), 0..4)).prop_map(
            |(apps, workers)| {
                let mut state = State::default();
                for (number, app) in apps {
                    match app {
                        Some(app) => {
                            state.apps.put(number, &app);
                        }
                        None => state.apps.remove(number),
                    }
                }
                for (node, stays) in workers {
                    let record = Register::new(Stamp::ZERO, WorkerRecord::default());
                    state.workers.insert(MasterTerm(1), NodeId(node), record);
                    state.drains.insert(MasterTerm(1), NodeId(node), ());
                    if !stays {
                        state.drains.remove(&NodeId(node));
                        state.workers.remove(&NodeId(node));
                    }
                }
                state
            },
        )
    }

    proptest! {
        #[test]
        fn an_app_is_a_lattice(a in app(), b in app(), c in app()) {
            laws::hold(&a, &b, &c)?;
        }

        #[test]
        fn the_apps_are_a_lattice(a in state(), b in state(), c in state()) {
            // Workers of different leaders never bear the same stamp.
            let apps = |state: &State| State { apps: state.apps.clone(), ..State::default() };
            laws::hold(&apps(&a), &apps(&b), &apps(&c))?;
        }

        #[test]
        fn the_parts_are_the_whole(state in state()) {
            let mut joined = State::default();
            for name in state.parts() {
                joined.join(&state.part(&name));
            }
            prop_assert_eq!(joined, state);
        }

        #[test]
        fn a_change_writes_the_parts_that_it_changes(state in state(), change in state()) {
            let apps = State { apps: change.apps, ..State::default() };
            let mut disk: BTreeMap<_, _> =
                state.parts().into_iter().map(|name| (name.clone(), state.part(&name))).collect();
            let mut next = state;
            next.join(&apps);
            for name in apps.parts() {
                let part = next.part(&name);
                disk.insert(name, part);
            }
            let mut joined = State::default();
            for part in disk.values() {
                joined.join(part);
            }
            prop_assert_eq!(joined, next);
        }

        #[test]
        fn a_removed_app_stays_removed(mut state in state(), older in state(), app in 1..4_u64) {
            state.apps.remove(app);
            state.join(&older);
            prop_assert!(state.app(AppId(app)).is_none());
        }
    }
}
