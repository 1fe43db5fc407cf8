//! What the world runs, and what the oracles see of it.

use std::collections::{BTreeMap, BTreeSet};

use gear_connectors::kafka::model::ModelCluster;
use gear_connectors::model::ModelDisk;
use gear_core::control::{Address, AppOutcome, AppSpec, LaunchOrder, Resources, Wish};
use gear_core::host::process::Process;
use gear_core::id::{
    AppId, AppTerm, Attempt, Epoch, Incarnation, MasterTerm, NodeId, RequestId, TaskId,
};
use gear_core::link::{LinkFigures, ReceiverFigures, SenderFigures};
use gear_core::time::{Duration, EventTime, Time};

use super::brokers::Brokers;
use crate::direct::Store;
use crate::oracle::commits::Commits;
use crate::oracle::voids::Stamps;
use crate::random::Random;
use crate::workload::pace::Pace;

/// A process, and what of it can be seen from outside.
pub trait Subject: Process {
    /// How it is doing, at a time of its own clock. Asked for after every step, so it is cheap.
    fn look(&self, now: Time) -> Look;

    /// The stamps of everything in a master's state that a majority has on disk; none if it does
    /// not lead.
    fn stamps(&self, now: Time) -> Option<Stamps> {
        let _ = now;
        None
    }

    /// What a master knows of the apps that a majority has on disk; none if it does not lead.
    fn known(&self, now: Time) -> Option<BTreeMap<AppId, KnownApp>> {
        let _ = now;
        None
    }

    /// What a master knows of the cluster; none if it does not lead.
    fn cluster(&self, now: Time) -> Option<KnownCluster> {
        let _ = now;
        None
    }

    /// Whom a node takes for the voters.
    fn masters(&self) -> Option<&BTreeMap<NodeId, Address>> {
        None
    }

    /// The data folder with which a node's master takes part; none if it does not.
    fn folder(&self) -> Option<Incarnation> {
        None
    }

    /// What a client was told since it was asked last.
    fn answers(&mut self) -> Vec<Answer> {
        Vec::new()
    }

    /// What it is at, in words, for whoever wants to know why nothing moves.
    fn describe(&mut self, now: Time) -> String {
        format!("{:?}", self.look(now))
    }

    /// What the ends of channels that are here have counted.
    fn channels(&self) -> Channels {
        Channels::default()
    }

    /// What an executor's tasks have come to.
    fn tasks(&mut self) -> Vec<TaskLook> {
        Vec::new()
    }
}

/// How a process is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Look {
    /// There is nothing to see.
    #[default]
    Nothing,
    /// A node.
    Node(NodeLook),
    /// An app master.
    App(AppLook),
    /// An executor.
    Executor(ExecutorLook),
    /// A client, by how often it was told something.
    Client(u64),
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its app is known.
    Submitted {
        /// The request.
        id: RequestId,
        /// The app's id.
        app: AppId,
        /// What was submitted.
        spec: Box<AppSpec>,
    },
    /// What is wanted of an app will not be forgotten.
    Wished {
        /// The app.
        app: AppId,
        /// What is wanted.
        wish: Wish,
    },
    /// The app has ended before it was told what is wanted of it.
    TooLate {
        /// The app.
        app: AppId,
    },
    /// All apps, as they are or as they were.
    Read {
        /// They may have changed since.
        stale: bool,
    },
    /// Something that may not be.
    Wrong(String),
}

/// How a node's master is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeLook {
    /// The highest term that it has promised.
    pub term: MasterTerm,
    /// It leads, and serves.
    pub acts: bool,
    /// It leads, and writes back what it has read.
    pub writes_back: bool,
    /// The term of the leader whose orders its worker followed last; 0 if there was none.
    pub follows: MasterTerm,
}

/// How an app master is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppLook {
    /// Its app.
    pub app: AppId,
    /// Its term.
    pub term: AppTerm,
    /// The last committed epoch that it knows of.
    pub committed: Epoch,
    /// Its tasks run.
    pub runs: bool,
    /// Tasks are being rolled back.
    pub recovers: bool,
    /// The app has ended for it.
    pub ended: bool,
    /// Regions of tasks that were taken back.
    pub roll_backs: u64,
}

/// How an executor is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecutorLook {
    /// Its app.
    pub app: AppId,
    /// The term of the app master that it obeys; 0 if it obeys none at the moment.
    pub term: AppTerm,
    /// It has tasks.
    pub works: bool,
}

/// What a master knows of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownCluster {
    /// Who votes, and with which data folder; while they change, who will.
    pub voters: BTreeMap<NodeId, Incarnation>,
    /// A majority has them on disk, and no change is under way.
    pub settled: bool,
    /// Workers that are to have no work.
    pub drains: BTreeSet<NodeId>,
}

/// What a master knows of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownApp {
    /// The request that brought it.
    pub request: RequestId,
    /// The app from whose state it goes on.
    pub after: Option<AppId>,
    /// What was submitted.
    pub spec: AppSpec,
    /// What is wanted of it.
    pub wish: Wish,
    /// How it has ended; none while it has not.
    pub outcome: Option<AppOutcome>,
}

/// What a task has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskLook {
    /// The task.
    pub task: TaskId,
    /// The name of its processor.
    pub uid: String,
    /// Its attempt.
    pub attempt: Attempt,
    /// The epoch from which it has begun.
    pub restored: Epoch,
    /// Its clock.
    pub clock: EventTime,
    /// Records that came too late for it.
    pub late: u64,
}

/// What the ends of channels in one process have counted.
#[derive(Clone, Debug, Default)]
pub struct Channels {
    /// Of each channel on which it sends.
    pub senders: Vec<SenderFigures>,
    /// Of each channel on which it receives.
    pub receivers: Vec<ReceiverFigures>,
    /// Of each of its links.
    pub links: Vec<LinkFigures>,
}

/// With what a node is started.
#[derive(Clone, Debug)]
pub struct NodeStart<'a> {
    /// The node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: u64,
    /// Its life.
    pub incarnation: Incarnation,
    /// What it draws from.
    pub seed: u64,
    /// Where it listens.
    pub address: Address,
    /// Those who vote, and where.
    pub masters: &'a BTreeMap<NodeId, Address>,
    /// What it has to give.
    pub capacity: Resources,
    /// Something was written to its disk before, or to the one that it replaces.
    pub formed: bool,
    /// It has a master also if it does not vote, which may get a vote later.
    pub joins: bool,
}

/// With what a child is started.
#[derive(Clone, Debug)]
pub struct ChildStart<'a> {
    /// What its worker was told.
    pub order: &'a LaunchOrder,
    /// The worker's node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: u64,
    /// Its life.
    pub incarnation: Incarnation,
    /// What it draws from.
    pub seed: u64,
    /// Where it listens.
    pub address: Address,
    /// Those who vote, and where.
    pub masters: &'a BTreeMap<NodeId, Address>,
    /// What its app finds on its file system.
    pub files: &'a ModelDisk,
}

/// With what a client is started.
#[derive(Clone, Debug)]
pub struct ClientStart<'a> {
    /// The cluster.
    pub cluster: u64,
    /// What it draws from.
    pub seed: u64,
    /// Those who vote, and where.
    pub masters: &'a BTreeMap<NodeId, Address>,
    /// What it submits.
    pub specs: Vec<AppSpec>,
    /// What it wants of the apps later.
    pub wishes: Vec<LaterWish>,
    /// Of a thousand answers, those after which it asks again.
    pub resubmit: u64,
}

/// What the user wants of an app that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaterWish {
    /// The place of the app in what is submitted.
    pub place: usize,
    /// What is wanted.
    pub wish: Wish,
    /// When it is wanted at the earliest, from the beginning of the run.
    pub after: Duration,
}

/// Makes the processes of a cluster.
pub trait Assembly {
    /// The process of a node.
    fn node(&self, start: &NodeStart<'_>) -> Box<dyn Subject>;

    /// A process that a worker launches.
    ///
    /// # Errors
    /// Why it cannot be launched.
    fn child(&self, start: &ChildStart<'_>) -> Result<Box<dyn Subject>, String>;

    /// Whoever submits the apps.
    fn client(&self, start: &ClientStart<'_>) -> Box<dyn Subject>;
}

/// What the cluster is to do, and how it is judged.
pub trait Work {
    /// The apps that are to be submitted.
    fn specs(&self) -> Vec<AppSpec>;

    /// What is wanted of the apps later, in the order in which it is asked for.
    fn wishes(&self) -> Vec<LaterWish> {
        Vec::new()
    }

    /// What every app finds on its file system.
    fn files(&self) -> ModelDisk;

    /// One more partition of what an app reads turns up in its Kafka; false if none ever will.
    fn grow(&self, cluster: &ModelCluster, random: &mut Random) -> bool {
        let _ = (cluster, random);
        false
    }

    /// The input of apps grows, and they go on for ever.
    fn goes_on(&self) -> bool {
        false
    }

    /// True if such an app has come to the end of all there is.
    fn is_through(&self, output: &Output<'_>) -> bool {
        let _ = output;
        false
    }

    /// The Kafka that an app has for its own, if any.
    fn brokers(&self) -> Option<Brokers> {
        None
    }

    /// The most records that a source reads in one turn.
    fn records_per_turn(&self) -> usize {
        usize::MAX
    }

    /// How fast sources read, within that.
    fn pace(&self) -> Pace {
        Pace::ALL
    }

    /// So many thousandths of the input are there from now on.
    fn feed(&self, permille: u64);

    /// No record may come too late.
    fn punctual(&self) -> bool;

    /// What is wrong with the output of a finished app, and how many records there are.
    fn judge(&self, output: &Output<'_>) -> (Vec<String>, u64);
}

/// What an app has left that has ended.
pub struct Output<'a> {
    /// The app's name.
    pub app: &'a str,
    /// How it has ended; none if that is not known.
    pub outcome: Option<&'a AppOutcome>,
    /// The file system, after a loss of power.
    pub disk: &'a ModelDisk,
    /// The Kafka that it has read and written, if it has one.
    pub topics: Option<&'a Brokers>,
    /// What was seen of the commit log.
    pub commits: &'a Commits,
    /// The checkpoint store.
    pub store: &'a Store,
}

impl Output<'_> {
    /// True if the app has ended before all of its input was read, so that a part of the output is
    /// all that there is.
    #[must_use]
    pub const fn is_part(&self) -> bool {
        !matches!(self.outcome, None | Some(AppOutcome::Finished))
    }
}

/// Judges what an app has left, and whether anybody has wanted that it ends as it has. Gives what
/// is wrong, and how many records there are.
pub(crate) fn judged(work: &dyn Work, output: &Output<'_>) -> (Vec<String>, u64) {
    let (mut wrong, records) = work.judge(output);
    let asked = match output.outcome {
        Some(AppOutcome::Stopped) => Wish::Stop,
        Some(AppOutcome::Killed) => Wish::Kill,
        _ => return (wrong, records),
    };
    let specs = work.specs();
    let is_it = |later: &LaterWish| specs[later.place].name == output.app;
    if !work.wishes().iter().any(|later| is_it(later) && later.wish >= asked) {
        wrong.push(format!("{}: nobody wanted that it ends: {:?}", output.app, output.outcome));
    }
    (wrong, records)
}
