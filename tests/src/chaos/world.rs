//! The cluster, its job, and whoever is hurt at the moment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use gear_core::control::{AppOutcome, AppStatus};
use gear_core::id::AppId;

use super::Chaos;
use super::plan::{Fault, Step};
use super::report::Report;
use super::watch::Watch;
use crate::cluster::Cluster;
use crate::system::{Blow, cut_connections, strike};

/// Masters of the cluster.
const MASTERS: usize = 3;
/// Nodes that are hurt at the same time, by all but the fault that hits all masters: what runs has
/// to find a place.
const HURT_MAX: usize = 2;
/// How long a fault waits until there is somebody whom it can hit.
const TARGET_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two lines about how the rest is worked off.
const SAY_INTERVAL: Duration = Duration::from_secs(5);

/// What puts something right again.
#[derive(Clone, Copy, Debug)]
enum Remedy {
    /// A process goes on.
    Continue(u32),
    /// A node goes on.
    ContinueNode(usize),
    /// A node is started again.
    Start(usize),
}

pub(super) struct World {
    cluster: Cluster,
    app: AppId,
    watch: Watch,
    began: Instant,
    remedies: Vec<(Instant, Remedy)>,
    /// Nodes that stand still.
    still: BTreeSet<usize>,
    fired: BTreeMap<Fault, u64>,
    skipped: u64,
    last: Option<AppStatus>,
}

impl World {
    /// A cluster that works, and the job on it.
    pub(super) fn start(chaos: &Chaos) -> Self {
        let program = Box::leak(chaos.node.display().to_string().into_boxed_str());
        let mut cluster = Cluster::start(program, chaos.nodes, MASTERS);
        cluster.keep(true);
        let options = chaos.options(&cluster.path("out"));
        let arguments = options.arguments(3, "200ms");
        let app = cluster.submit(&chaos.job, chaos.executors, &arguments);
        cluster.wait_for("an epoch has committed", |cluster| cluster.app(app).committed.0 > 0);
        let nodes = (0..cluster.len()).map(|number| cluster.serves(number)).collect();
        Self {
            watch: Watch::start(nodes, app.0),
            cluster,
            app,
            began: Instant::now(),
            remedies: Vec::new(),
            still: BTreeSet::new(),
            fired: BTreeMap::new(),
            skipped: 0,
            last: None,
        }
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.cluster.path("")
    }

    pub(super) fn out(&self) -> PathBuf {
        self.cluster.path("out")
    }

    /// Lets the folder be removed.
    pub(super) fn discard(&mut self) {
        self.cluster.keep(false);
    }

    /// Nodes that answer.
    fn lively(&self) -> Vec<usize> {
        let runs = |it: &usize| self.cluster.pid(*it).is_some() && !self.still.contains(it);
        (0..self.cluster.len()).filter(runs).collect()
    }

    /// What the masters say of the app; what they said last, if nobody leads.
    fn status(&mut self) -> Option<AppStatus> {
        for number in self.lively() {
            if let Some(status) = self.cluster.app_at(number, self.app) {
                self.last = Some(status);
                break;
            }
        }
        self.last.clone()
    }

    /// Waits so long, and puts right what is due.
    pub(super) fn wait(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            let now = Instant::now();
            let mut later = Vec::new();
            for (due, remedy) in std::mem::take(&mut self.remedies) {
                if due <= now {
                    self.remedy(remedy);
                } else {
                    later.push((due, remedy));
                }
            }
            self.remedies = later;
            if now >= until {
                return;
            }
            sleep(PAUSE);
        }
    }

    fn remedy(&mut self, remedy: Remedy) {
        match remedy {
            Remedy::Continue(pid) => strike(pid, Blow::Continue),
            Remedy::ContinueNode(node) => {
                if let Some(pid) = self.cluster.pid(node) {
                    strike(pid, Blow::Continue);
                }
                self.still.remove(&node);
                self.watch.avoid(self.still.clone());
            }
            Remedy::Start(node) => self.cluster.start_node(node),
        }
    }

    /// Puts everything right at once.
    pub(super) fn heal(&mut self) {
        for (_, remedy) in std::mem::take(&mut self.remedies) {
            self.remedy(remedy);
        }
        self.say("all is healed");
    }

    fn say(&mut self, what: &str) {
        let status = self.last.clone();
        let committed = status.as_ref().map_or(0, |status| status.committed.0);
        let restarts = status.as_ref().map_or(0, |status| status.restarts);
        let seconds = self.began.elapsed().as_secs_f64();
        println!("{seconds:7.1} s  epoch {committed:<6} replaced {restarts:<4} {what}");
    }

    /// Has a fault happen, as soon as there is somebody to hit.
    pub(super) fn apply(&mut self, step: &Step) {
        let until = Instant::now() + TARGET_PATIENCE;
        loop {
            if let Some(whom) = self.strike(step) {
                *self.fired.entry(step.fault).or_default() += 1;
                let _ = self.status();
                self.say(&format!("{}: {whom}", step.fault));
                return;
            }
            if Instant::now() > until {
                self.skipped += 1;
                self.say(&format!("{}: nobody is there", step.fault));
                return;
            }
            self.wait(PAUSE);
        }
    }

    fn strike(&mut self, step: &Step) -> Option<String> {
        let heals_at = Instant::now() + step.lasts;
        match step.fault {
            Fault::KillExecutor | Fault::KillAppMaster => {
                let (pid, name) = self.process(step, step.fault == Fault::KillExecutor)?;
                strike(pid, Blow::Kill);
                Some(name)
            }
            Fault::StopExecutor | Fault::StopAppMaster => {
                let (pid, name) = self.process(step, step.fault == Fault::StopExecutor)?;
                strike(pid, Blow::Stop);
                self.remedies.push((heals_at, Remedy::Continue(pid)));
                Some(format!("{name} for {:?}", step.lasts))
            }
            Fault::Cut => {
                let mut pids: Vec<u32> = self.cluster.processes().into_keys().collect();
                pids.extend((0..self.cluster.len()).filter_map(|it| self.cluster.pid(it)));
                let pid = *chosen(&pids, step)?;
                Some(format!("{} of process {pid}", cut_connections(pid, usize::MAX)))
            }
            Fault::KillMasters => {
                let lively = self.lively();
                if !(0..self.cluster.len()).all(|it| lively.contains(&it)) {
                    return None;
                }
                for node in 0..MASTERS {
                    self.cluster.kill_node(node);
                    self.remedies.push((heals_at, Remedy::Start(node)));
                }
                Some(format!("for {:?}", step.lasts))
            }
            Fault::StopWorker | Fault::StopLeader => {
                let node = self.node(step)?;
                strike(self.cluster.pid(node)?, Blow::Stop);
                self.still.insert(node);
                self.watch.avoid(self.still.clone());
                self.remedies.push((heals_at, Remedy::ContinueNode(node)));
                Some(format!("node {node} for {:?}", step.lasts))
            }
            Fault::KillWorker | Fault::KillFollower | Fault::KillLeader => {
                let node = self.node(step)?;
                self.cluster.kill_node(node);
                self.remedies.push((heals_at, Remedy::Start(node)));
                Some(format!("node {node} for {:?}", step.lasts))
            }
            Fault::EndNode => {
                let node = self.node(step)?;
                self.cluster.stop_node(node);
                self.remedies.push((heals_at, Remedy::Start(node)));
                Some(format!("node {node} for {:?}", step.lasts))
            }
        }
    }

    /// A process of the job.
    fn process(&self, step: &Step, executor: bool) -> Option<(u32, String)> {
        let kind = if executor { "executor " } else { "app master " };
        let all: Vec<(u32, String)> =
            self.cluster.processes().into_iter().filter(|(_, name)| name.contains(kind)).collect();
        chosen(&all, step).cloned()
    }

    /// A node that this fault can hit: never so many that the masters have no majority, but by the
    /// fault that hits all of them.
    fn node(&mut self, step: &Step) -> Option<usize> {
        let lively = self.lively();
        let masters_hurt = (0..MASTERS).any(|it| !lively.contains(&it));
        if self.cluster.len() - lively.len() >= HURT_MAX {
            return None;
        }
        let is_master = |node: &usize| *node < MASTERS;
        let candidates: Vec<usize> = match step.fault {
            Fault::KillWorker | Fault::StopWorker => {
                lively.into_iter().filter(|it| !is_master(it)).collect()
            }
            Fault::EndNode => {
                lively.into_iter().filter(|it| !is_master(it) || !masters_hurt).collect()
            }
            _ if masters_hurt => return None,
            _ => {
                let leader =
                    lively.iter().copied().find(|it| self.cluster.app_at(*it, self.app).is_some());
                let leader = leader?;
                match step.fault {
                    Fault::KillFollower => (0..MASTERS).filter(|it| *it != leader).collect(),
                    _ => vec![leader],
                }
            }
        };
        chosen(&candidates, step).copied()
    }

    /// Waits until the job has ended.
    pub(super) fn drain(&mut self, patience: Duration) -> Option<AppOutcome> {
        let until = Instant::now() + patience;
        let mut said = Instant::now();
        while Instant::now() < until {
            if let Some(outcome) = self.status().and_then(|status| status.outcome) {
                self.say(&format!("the job has ended: {outcome:?}"));
                return Some(outcome);
            }
            if said.elapsed() > SAY_INTERVAL {
                said = Instant::now();
                self.say("the rest is worked off");
            }
            sleep(PAUSE * 10);
        }
        None
    }

    pub(super) fn report(&mut self, took: Duration) -> Report {
        let status = self.status();
        Report {
            took,
            fired: self.fired.clone(),
            skipped: self.skipped,
            restarts: status.as_ref().map_or(0, |status| status.restarts),
            committed: status.as_ref().map_or(0, |status| status.committed.0),
            watched: self.watch.watched(),
            ..Report::default()
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What stands still would outlast a test that fails.
        for (_, remedy) in std::mem::take(&mut self.remedies) {
            if !matches!(remedy, Remedy::Start(_)) {
                self.remedy(remedy);
            }
        }
    }
}

fn chosen<'a, T>(among: &'a [T], step: &Step) -> Option<&'a T> {
    let count = among.len() as u64;
    (count > 0).then(|| &among[(step.pick % count) as usize])
}
