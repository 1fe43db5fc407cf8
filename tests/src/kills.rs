//! A job on a cluster of real processes, with real servers beside it, of which each may be killed.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use gear_core::control::{AppOutcome, Reply, Request, Wish};
use gear_core::id::{AppId, Epoch};

use crate::cluster::{self, Cluster};
use crate::process::Dice;
use crate::services::Lease;

/// Nodes, each of which is a master too.
const NODES: usize = 3;
/// Executors of the job.
const EXECUTORS: u32 = 2;
/// Most milliseconds until something is killed: a few epochs, so that it is at any place in one, or
/// in what follows it.
const MOMENT_MS: u64 = 600;
/// Epochs that commit after each kill: the first may have been on its way before.
const EPOCHS_AFTER: u64 = 3;
/// Most milliseconds for which a server stays away before it is started again.
const AWAY_MS: u64 = 1_500;
/// What a node and its job wait for HDFS: a call that hangs is given up soon, a server that is
/// started again is waited for.
const LIMITS: [(&str, &str); 2] =
    [("GEAR_HDFS_CALL_SECONDS", "4"), ("GEAR_HDFS_WAIT_SECONDS", "60")];

/// What is killed.
#[derive(Clone, Copy, Debug)]
pub enum Victim {
    /// A process that runs tasks.
    Executor,
    /// The process that coordinates them.
    AppMaster,
    /// A node that does not lead, with all that it runs.
    Worker,
    /// The node that leads, with all that it runs.
    Leader,
    /// The broker of Kafka.
    Broker,
    /// The `NameNode` of HDFS.
    NameNode,
    /// One of the two `DataNode`s of HDFS.
    DataNode,
}

/// Servers, a cluster, and a job on it.
#[derive(Debug)]
pub struct World {
    /// The servers.
    pub services: Lease,
    /// The cluster.
    pub cluster: Cluster,
    /// The job's app.
    pub app: AppId,
    /// What the moments and the choices follow from.
    pub dice: Dice,
}

impl World {
    /// Starts a cluster, with its checkpoint store at this URL or in its folder, and the job.
    #[must_use]
    pub fn start(
        services: Lease,
        node: &'static str,
        checkpoints: Option<&str>,
        (job, arguments): (&str, &[&str]),
    ) -> Self {
        let mut cluster = Cluster::new(node, NODES);
        if let Some(url) = checkpoints {
            cluster.keep_checkpoints_at(url, &LIMITS);
        }
        cluster.start_nodes(NODES);
        let app = cluster.submit(Path::new(job), EXECUTORS, arguments);
        Self { services, cluster, app, dice: Dice::new() }
    }

    /// The last epoch that has committed.
    ///
    /// # Panics
    /// If the job has ended.
    pub fn committed(&mut self) -> Epoch {
        let status = self.cluster.app(self.app);
        assert_eq!(status.outcome, None, "it goes on for ever: {}", self.cluster.logs());
        status.committed
    }

    /// Waits until so many more epochs have committed.
    pub fn wait_for_epochs(&mut self, more: u64) {
        let stood = self.committed();
        let app = self.app;
        self.cluster.wait_for("epochs commit", |cluster| {
            let status = cluster.app(app);
            status.committed.0 >= stood.0 + more || status.outcome.is_some()
        });
        self.committed();
    }

    /// Kills something at a moment of the dice, and starts it again if nobody else does; the job
    /// commits before and after.
    ///
    /// # Panics
    /// If it does not run, or cannot be started.
    pub fn kill(&mut self, victim: Victim) {
        self.wait_for_epochs(1);
        sleep(Duration::from_millis(self.dice.below(MOMENT_MS)));
        println!("the {victim:?} is killed");
        match victim {
            Victim::Executor => self.kill_process("executor "),
            Victim::AppMaster => self.kill_process("app master "),
            Victim::Worker | Victim::Leader => {
                let leads = self.cluster.leader().expect("somebody leads");
                let node = match victim {
                    Victim::Leader => leads,
                    _ => self.worker(leads),
                };
                self.cluster.kill_node(node);
                self.cluster.start_node(node);
                self.cluster.wait_for("it is ready", |cluster| cluster.is_ready(node));
            }
            Victim::Broker => self.kill_server("kafka"),
            Victim::NameNode => self.kill_server("namenode"),
            Victim::DataNode => {
                let name = ["datanode1", "datanode2"][self.dice.below(2) as usize];
                self.kill_server(name);
            }
        }
        self.wait_for_epochs(EPOCHS_AFTER);
    }

    /// A node that does not lead, and that runs something of the job if there is such a one.
    fn worker(&mut self, leads: usize) -> usize {
        let others: Vec<usize> = (0..NODES).filter(|node| *node != leads).collect();
        let busy = others.iter().copied().filter(|node| !self.cluster.children(*node).is_empty());
        let busy: Vec<usize> = busy.collect();
        let among = if busy.is_empty() { others } else { busy };
        among[self.dice.below(among.len() as u64) as usize]
    }

    fn kill_process(&mut self, name: &str) {
        let processes = self.cluster.processes();
        let found: Vec<_> = processes.iter().filter(|(_, called)| called.contains(name)).collect();
        assert!(!found.is_empty(), "no {name}in {processes:?}");
        let (pid, _) = found[self.dice.below(found.len() as u64) as usize];
        cluster::kill(*pid);
    }

    fn kill_server(&mut self, name: &str) {
        self.services.kill(name).expect("it runs");
        sleep(Duration::from_millis(self.dice.below(AWAY_MS)));
        self.services.start_again(name).expect("it starts");
    }

    /// Stops the job, and waits until it has ended.
    ///
    /// # Panics
    /// If it ends in another way.
    pub fn stop(&mut self) {
        let wish = Request::Wish { app: self.app, wish: Wish::Stop };
        assert_eq!(self.cluster.request(&wish), Reply::Done);
        let outcome = self.cluster.outcome(self.app);
        assert_eq!(outcome, AppOutcome::Stopped, "{}", self.cluster.logs());
    }
}
