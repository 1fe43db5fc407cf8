//! Chaos on real processes: a cluster in trouble, a job on it, and what the job leaves compared
//! with the simulator's reference model.

pub mod job;
pub mod measure;
pub mod plan;
mod report;
mod watch;
mod world;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gear_core::control::AppOutcome;

pub use report::Report;
use world::World;

/// How long the job may take to end when nothing is wrong any more, beside what it has to do yet.
const DRAIN_PATIENCE: Duration = Duration::from_secs(180);

/// What chaos is told.
#[derive(Clone, Debug)]
pub struct Chaos {
    /// The program that runs nodes.
    pub node: PathBuf,
    /// The job's binary.
    pub job: PathBuf,
    /// What everything follows from but the moments.
    pub seed: u64,
    /// How long faults happen.
    pub lasts: Duration,
    /// Nodes, of which three are masters.
    pub nodes: usize,
    /// Executors of the job.
    pub executors: u32,
    /// Records of each of its two sources in a second.
    pub rate: u64,
}

impl Chaos {
    /// What a run takes without being told.
    #[must_use]
    pub fn new(node: &Path, job: &Path, seed: u64, lasts: Duration) -> Self {
        let (node, job) = (node.to_owned(), job.to_owned());
        Self { node, job, seed, lasts, nodes: 5, executors: 3, rate: 500 }
    }

    /// What the job is told.
    fn options(&self, out: &Path) -> job::Options {
        job::Options {
            count: self.rate * self.lasts.as_secs().max(1),
            rate: self.rate,
            seed: self.seed,
            out: out.display().to_string(),
        }
    }

    /// Runs it, says how it goes, and gives what came of it.
    ///
    /// # Panics
    /// If the cluster does not do what is asked of it.
    #[must_use]
    pub fn run(&self) -> Report {
        let began = Instant::now();
        let mut world = World::start(self);
        println!(
            "chaos: seed {}, {} nodes, {} s of faults, in {}",
            self.seed,
            self.nodes,
            self.lasts.as_secs(),
            world.folder().display()
        );
        for step in plan::plan(self.seed, self.lasts) {
            world.wait(step.after);
            world.apply(&step);
        }
        world.heal();
        let outcome = world.drain(self.lasts + DRAIN_PATIENCE);
        let mut report = world.report(began.elapsed());
        report.seed = self.seed;
        match outcome {
            Some(AppOutcome::Finished) => {
                let out = world.out();
                report.difference = job::compare(&job::expected(&self.options(&out)), &out);
            }
            Some(other) => report.failures.push(format!("the job did not finish: {other:?}")),
            None => report.failures.push("the job does not end though all is healed".into()),
        }
        if report.is_good() {
            world.discard();
        } else {
            report.kept = Some(world.folder());
        }
        report
    }
}
