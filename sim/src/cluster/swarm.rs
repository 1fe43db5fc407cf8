//! The workload of a seed: a random job whose input grows while the cluster suffers.

use gear_connectors::model::ModelDisk;
use gear_core::control::AppSpec;
use gear_core::dsl::Job;
use gear_core::time::Duration;

use super::jobs::{Jobs, spec};
use super::subject::{Output, Work};
use crate::direct::Config;
use crate::model::{self, Expected, Workload};
use crate::oracle::{output, quarantine};
use crate::random::Random;
use crate::workload::build::{Build, Built, build};
use crate::workload::sink;
use crate::workload::source::Gate;

/// A random job, and how many apps run it.
pub struct Swarm {
    config: Config,
    gate: Gate,
    apps: u32,
    executors: u32,
    epoch_interval: Option<Duration>,
}

impl Swarm {
    /// What a seed means.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut config = Config::draw(seed);
        let mut random = Random::for_part(seed, 120);
        let gate = Gate::default();
        for rows in &mut config.sources {
            rows.gate = gate.clone();
            // A source that waits for more looks again after this: not too often.
            rows.pace.gap = Duration::from_millis(random.pick(&[2, 10, 30]));
        }
        let interval = random.pick(&[20, 100, 100, 300, 1_000]);
        let never = random.permille(20);
        Self {
            config,
            gate,
            apps: if random.permille(150) { 2 } else { 1 },
            executors: random.pick(&[1, 2, 2, 3, 4]),
            epoch_interval: (!never).then_some(Duration::from_millis(interval)),
        }
    }

    /// Executors of all apps, and their app masters.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.apps * (self.executors + 1)
    }

    /// What it is, in a line.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { apps, executors, .. } = self;
        format!("{apps} apps on {executors} executors, {}", self.config.plan.describe())
    }

    /// Time between two epochs.
    #[must_use]
    pub const fn interval(&self) -> Option<Duration> {
        self.epoch_interval
    }

    fn built(&self, process: u64) -> Built {
        let (_, parallelism) = self.config.shape(0);
        build(
            &self.config.plan,
            &Build {
                sources: self.config.sources.clone(),
                parallelism,
                shift: 0,
                key_groups: self.config.key_groups,
                watermarks: self.config.watermarks.clone(),
                window: self.config.window,
                lateness: self.config.lateness,
                files: sink::Files { process, roll: self.config.roll },
            },
        )
    }
}

impl Jobs for Swarm {
    fn job(&self, process: u64) -> Result<Job, String> {
        Ok(self.built(process).job)
    }

    fn key_groups(&self) -> u32 {
        self.config.key_groups
    }

    fn epoch_interval(&self) -> Option<Duration> {
        self.epoch_interval
    }
}

impl Work for Swarm {
    fn specs(&self) -> Vec<AppSpec> {
        (0..self.apps).map(|number| spec(&format!("app-{number}"), self.executors)).collect()
    }

    fn files(&self) -> ModelDisk {
        ModelDisk::new(self.config.seed)
    }

    fn feed(&self, permille: u64) {
        self.gate.open(permille);
    }

    fn punctual(&self) -> bool {
        self.config.plan.punctual
    }

    fn judge(&self, left: &Output<'_>) -> (Vec<String>, u64) {
        let built = self.built(0);
        let known = Workload { built: &built, sources: &self.config.sources };
        let expected: Expected =
            model::interpret(&built.job.model, &known).expect("the workload is known");
        let mut violations = Vec::new();
        let found = rows(left.disk, &mut violations);
        let records = found.values().map(|rows| rows.len() as u64).sum();
        violations.extend(output::judge(&built.sinks, &expected, &found));
        match left.commits.quarantined(left.store) {
            Ok(found) => violations.extend(quarantine::judge(&expected.quarantined, found)),
            Err(violation) => violations.push(violation),
        }
        (violations.into_iter().map(|it| format!("{}: {it}", left.app)).collect(), records)
    }
}

/// The committed rows of every sink.
fn rows(disk: &ModelDisk, violations: &mut Vec<String>) -> output::Rows {
    let mut sinks = output::Rows::new();
    for path in disk.names().filter(|path| path.starts_with(sink::OUT)) {
        let name: Vec<&str> = path[sink::OUT.len()..].split('-').collect();
        let rows = sinks.entry(name[..2].join("-")).or_default();
        match sink::rows(disk.content(path).unwrap_or_default()) {
            Ok(more) => rows.extend(more),
            Err(error) => violations.push(format!("{path}: {error}")),
        }
    }
    sinks
}
