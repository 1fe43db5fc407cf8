//! The direct simulator: one app master and its executors as one process, driven by a seeded
//! queue of events, with crashes at every gap between two effects.

mod config;
mod disk;
mod guard;
mod process;
mod store;
mod trace;
mod world;

use std::collections::BTreeMap;

use gear_core::host::{Faults, NoFaults};

use crate::model;
use crate::oracle::{output, quarantine};
use crate::random::Random;
use crate::workload::sink;
pub use config::{Config, FaultPlan};
pub use disk::{Disk, Lost};
pub use guard::{Catch, catch};
pub use store::Store;
use trace::Trace;
use world::World;

/// What is to be kept of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Print every input and effect as it comes.
    pub print: bool,
    /// Keep them as text in the report.
    pub keep: bool,
}

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Faults that fired, by kind.
    pub fired: BTreeMap<&'static str, u64>,
    /// Rare states that were reached.
    pub rare: BTreeMap<&'static str, u64>,
    /// Processes after the first.
    pub recoveries: u64,
    /// Epochs that were committed.
    pub epochs: u64,
    /// Rows in the committed output.
    pub records: u64,
    /// Inputs and turns of machines.
    pub events: u64,
    /// The hash of the trace.
    pub hash: u64,
    /// The trace, if it was to be kept.
    pub trace: Vec<String>,
    /// What was wrong; empty if nothing was.
    pub violations: Vec<String>,
}

impl Report {
    /// The command that runs this seed again.
    #[must_use]
    pub fn command(&self) -> String {
        format!("cargo run --release -p sim -- --seed {} --trace", self.seed)
    }
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Report {
    run_with::<NoFaults>(seed, options)
}

/// Runs a seed with a bug in the engine, to see whether it is found.
#[must_use]
pub fn run_with<F: Faults>(seed: u64, options: &Options) -> Report {
    let config = Config::draw(seed);
    let mut world: World<'_, F> = World::new(&config, Trace::new(options.keep, options.print));
    let mut report = Report { seed, ..Report::default() };
    world.run();
    if world.violations.is_empty() {
        judge(&config, &mut world, &mut report);
    }
    report.recoveries = world.processes().saturating_sub(1);
    report.epochs = world.commits.epochs();
    report.events = world.events;
    report.hash = world.trace.hash();
    report.trace = world.trace.text().to_vec();
    report.fired = std::mem::take(&mut world.fired);
    report.rare = std::mem::take(&mut world.rare);
    report.violations.append(&mut world.violations);
    report
}

/// Compares what a reader of the committed files sees with what the model says.
fn judge<F: Faults>(config: &Config, world: &mut World<'_, F>, report: &mut Report) {
    let mut random = Random::for_part(config.seed, 4);
    let built = process::built(config, 0);
    let expected = model::interpret(&built, &config.sources);
    // What is visible has to be durable too.
    world.disk.lose_power(&mut random);
    let before = read(world, &mut report.violations);
    report.records = before.values().map(|rows| rows.len() as u64).sum();
    report.violations.extend(output::judge(&built.sinks, &expected, &before));
    match world.commits.quarantined(&world.store) {
        Ok(found) => report.violations.extend(quarantine::judge(&expected.quarantined, found)),
        Err(violation) => report.violations.push(violation),
    }
    if report.violations.is_empty() && random.permille(250) {
        let outcome = world.run_again();
        if !matches!(outcome, Some(gear_core::app::Outcome::AlreadyFinished { .. })) {
            let text = format!("a finished job was started again and ended with {outcome:?}");
            report.violations.push(text);
        }
        if read(world, &mut report.violations) != before {
            report.violations.push("a finished job changed its output when started again".into());
        }
    }
}

/// The committed rows of every sink.
fn read<F: Faults>(
    world: &World<'_, F>,
    violations: &mut Vec<String>,
) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut sinks: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for (path, bytes) in world.disk.below(sink::OUT) {
        let name: Vec<&str> = path[sink::OUT.len()..].split('-').collect();
        let rows = sinks.entry(name[..2].join("-")).or_default();
        match sink::rows(bytes) {
            Ok(more) => rows.extend(more),
            Err(error) => violations.push(format!("{path}: {error}")),
        }
    }
    sinks
}
