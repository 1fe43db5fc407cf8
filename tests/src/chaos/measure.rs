//! How long it takes until what was killed is made up for.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use gear_core::control::{AppStatus, ProcessState};
use gear_core::id::AppId;

use super::job::{self, Options};
use crate::cluster::Cluster;
use crate::rest;
use crate::system::{Blow, strike};

/// Masters of the cluster, which run nothing of the job.
const MASTERS: usize = 3;
/// Other nodes, on which the job runs.
const WORKERS: usize = 3;
/// Executors of the job.
const EXECUTORS: u32 = 2;
/// Records of each source in a second.
const RATE: u64 = 1_000;
/// The job outlasts everything that is measured.
const LASTS: u64 = 3_600;
/// Output that was on its way when something was killed has come by then.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// The longest that new output, or a new leader, is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long output has to go on for the gap before it to have been the one.
const GOES_ON: Duration = Duration::from_secs(2);
/// Between two kills: so long that the failure before is forgotten, and waits for nothing.
const REST: Duration = Duration::from_secs(6);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// How long it took each time, and how long it should at most.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What was measured.
    pub what: &'static str,
    /// What is aimed at.
    pub target: Duration,
    /// Each time, in order.
    pub took: Vec<Duration>,
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted = self.took.clone();
        sorted.sort();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default().as_secs_f64();
        let worst = sorted.last().copied().unwrap_or_default().as_secs_f64();
        let (target, times) = (self.target.as_secs_f64(), sorted.len());
        let what = self.what;
        write!(f, "{what:<52} median {median:.2} s  worst {worst:.2} s  aim {target} s  of {times}")
    }
}

/// A cluster whose masters run nothing of the job, and what is measured on it.
#[derive(Debug)]
pub struct Bench {
    cluster: Cluster,
    app: AppId,
    out: PathBuf,
}

impl Bench {
    /// The cluster, with the job at work.
    #[must_use]
    pub fn start(node: &Path, binary: &Path) -> Self {
        let program = Box::leak(node.display().to_string().into_boxed_str());
        let mut cluster = Cluster::start(program, MASTERS, MASTERS);
        for _ in 0..WORKERS {
            let node = cluster.add();
            cluster.set_options(node, &["--label", "work=yes"]);
            cluster.start_node(node);
        }
        cluster.wait_for("every node is ready", |cluster| {
            (0..cluster.len()).all(|node| cluster.is_ready(node))
        });
        let out = cluster.path("out");
        let options =
            Options { count: RATE * LASTS, rate: RATE, seed: 1, out: out.display().to_string() };
        let arguments = options.arguments(2, "100ms");
        let app = cluster.submit_to(&[("work", "yes")], binary, EXECUTORS, &arguments);
        let mut bench = Self { cluster, app, out: out.join(job::FOLDERS[0]) };
        bench.settle();
        bench
    }

    /// Waits until everything runs and output comes.
    fn settle(&mut self) {
        let app = self.app;
        self.cluster.wait_for("everything runs", |cluster| runs(&cluster.app(app)));
        let before = self.cluster.app(app).committed;
        self.cluster.wait_for("epochs commit", |cluster| cluster.app(app).committed > before);
        sleep(REST);
    }

    /// How long after a kill the first new output comes, so many times.
    pub fn executor(&mut self, times: usize) -> Figure {
        let mut took = Vec::new();
        for time in 0..times {
            let all = self.cluster.processes().into_iter();
            let executors: Vec<u32> =
                all.filter(|(_, name)| name.contains("executor ")).map(|(pid, _)| pid).collect();
            let began = Instant::now();
            strike(executors[time % executors.len()], Blow::Kill);
            took.push(self.silence(began));
            self.settle();
        }
        let what = "kill -9 of an executor to new output";
        Figure { what, target: Duration::from_secs(1), took }
    }

    /// The same for a node on which executors run.
    ///
    /// # Panics
    /// If there is none.
    pub fn worker(&mut self, times: usize) -> Figure {
        let mut took = Vec::new();
        for _ in 0..times {
            let has_executor = |node: &usize| {
                self.cluster.children(*node).values().any(|name| name.contains("executor "))
            };
            let node = (MASTERS..MASTERS + WORKERS).find(has_executor).expect("the job runs");
            let began = Instant::now();
            self.cluster.kill_node(node);
            took.push(self.silence(began));
            self.cluster.start_node(node);
            self.cluster.wait_for("it is back", |cluster| cluster.is_ready(node));
            self.settle();
        }
        let what = "kill -9 of a worker node to new output";
        Figure { what, target: Duration::from_secs(3), took }
    }

    /// How long after a kill of the leader another master leads; what runs is not to notice.
    ///
    /// # Panics
    /// If it does.
    pub fn leader(&mut self, times: usize) -> Figure {
        let mut took = Vec::new();
        for _ in 0..times {
            let before = self.unharmed();
            let leader = self.cluster.leader().expect("somebody leads");
            let began = Instant::now();
            self.cluster.kill_node(leader);
            while !(0..MASTERS)
                .any(|node| node != leader && self.cluster.app_at(node, self.app).is_some())
            {
                assert!(began.elapsed() < PATIENCE, "nobody leads: {}", self.cluster.logs());
                sleep(PAUSE);
            }
            took.push(began.elapsed());
            self.cluster.start_node(leader);
            self.cluster.wait_for("it is back", |cluster| cluster.is_ready(leader));
            self.settle();
            assert_eq!(before, self.unharmed(), "what runs has noticed: {}", self.cluster.logs());
        }
        let what = "kill -9 of the leading master to the next leader";
        Figure { what, target: Duration::from_secs(2), took }
    }

    /// What does not change while nothing happens to what runs: processes that were replaced,
    /// regions that went back, and who runs.
    fn unharmed(&mut self) -> (u64, Option<u64>, Vec<u32>) {
        let path = format!("/api/v1/apps/{}", self.app.0);
        let mut recoveries = None;
        let at = self.cluster.serves(MASTERS);
        self.cluster.wait_for("the app master answers", |_| {
            recoveries = rest::get(at, &path).and_then(|it| it["live"]["recoveries"].as_u64());
            recoveries.is_some()
        });
        let restarts = self.cluster.app(self.app).restarts;
        (restarts, recoveries, self.cluster.processes().into_keys().collect())
    }

    /// From a moment to the end of the longest silence of the output that began with it.
    fn silence(&self, began: Instant) -> Duration {
        let seen = |out: &Path| -> SystemTime {
            let changed = std::fs::metadata(out).and_then(|it| it.modified());
            changed.expect("the folder of the output is there")
        };
        let (mut last, mut since) = (seen(&self.out), began);
        let mut longest = (Duration::ZERO, began);
        loop {
            let now = Instant::now();
            let changed = seen(&self.out);
            if changed != last {
                if since <= began + LAST_WORDS && now - since > longest.0 {
                    longest = (now - since, now);
                }
                (last, since) = (changed, now);
            }
            if longest.1 > began && now > longest.1 + GOES_ON && since > longest.1 {
                return longest.1 - began;
            }
            let logs = || self.cluster.logs();
            assert!(now < began + PATIENCE, "no output comes any more: {}", logs());
            sleep(PAUSE);
        }
    }
}

/// True if all processes of an app run.
fn runs(status: &AppStatus) -> bool {
    let all = status.app_master.iter().chain(status.executors.values());
    let running = all.filter(|grant| matches!(grant.state, ProcessState::Running { .. })).count();
    running as u64 == u64::from(status.spec.executors) + 1
}
