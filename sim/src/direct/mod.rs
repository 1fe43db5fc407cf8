//! The direct simulator: one app master and its executors as one process, driven by a seeded
//! queue of events, with crashes at every gap between two effects.

mod config;
mod disk;
mod growth;
mod guard;
mod process;
mod retention;
mod store;
pub(crate) mod trace;
mod world;

use std::borrow::Cow;
use std::collections::BTreeMap;

use gear_connectors::faults as connectors;
use gear_core::app::Outcome;
use gear_core::host::{Faults, NoFaults};

use crate::model;
use crate::oracle::{output, quarantine};
use crate::random::Random;
pub use crate::report::{Options, Report};
use crate::trace::Trace;
use crate::workload::source::Entry;
use crate::workload::{sink, topics};
pub use config::{Config, FaultPlan};
pub use disk::{Disk, Lost};
pub use guard::{Catch, catch};
pub use store::Store;
use world::World;

/// The scenario's name on the command line.
pub const NAME: &str = "embedded";

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Report {
    run_with::<NoFaults>(seed, options)
}

/// Runs a seed with a bug in the engine, to see whether it is found.
#[must_use]
pub fn run_with<F: Faults>(seed: u64, options: &Options) -> Report {
    run_config::<F>(NAME, &Config::draw(seed), options)
}

/// The scenario of one process that reads and writes topics of Kafka.
pub const TOPICS_NAME: &str = "kafka-embedded";

/// Runs a seed of a job from Kafka to Kafka.
#[must_use]
pub fn run_topics(seed: u64, options: &Options) -> Report {
    run_topics_with::<NoFaults>(Config::draw_topics::<connectors::NoFaults>, seed, options)
}

/// The same with a bug in the engine, or in the connectors of the configuration that is drawn.
#[must_use]
pub fn run_topics_with<F: Faults>(draw: fn(u64) -> Config, seed: u64, options: &Options) -> Report {
    run_config::<F>(TOPICS_NAME, &draw(seed), options)
}

fn run_config<F: Faults>(scenario: &'static str, config: &Config, options: &Options) -> Report {
    let seed = config.seed;
    let mut world: World<'_, F> = World::new(config, Trace::new(options.keep, options.print));
    let mut report = Report { seed, scenario, ..Report::default() };
    report.about = config.plan.describe();
    world.run();
    if world.violations.is_empty() {
        judge(config, &mut world, &mut report);
    }
    report.recoveries = world.processes().saturating_sub(1);
    report.epochs = world.commits.epochs();
    report.events = world.events;
    report.hash = world.trace.hash();
    report.trace = world.trace.take_text();
    report.simulated = world.now.since(gear_core::time::Time::ZERO);
    report.fired = std::mem::take(&mut world.fired);
    report.rare = std::mem::take(&mut world.rare);
    report.violations.append(&mut world.violations);
    report
}

/// Compares what a reader of the committed files sees with what the model says.
fn judge<F: Faults>(config: &Config, world: &mut World<'_, F>, report: &mut Report) {
    let mut random = Random::for_part(config.seed, 4);
    let built = process::built(config, 0);
    // It has failed, as it has chosen.
    let part = matches!(world.finished, Some(Outcome::Failed(_)));
    // What is visible has to be durable too.
    world.disk.lose_power(&mut random);
    let before = read(config, world, &mut report.violations);
    report.records = before.values().map(|rows| rows.len() as u64).sum();
    let aside = world.commits.quarantined(&world.store).unwrap_or_else(|violation| {
        report.violations.push(violation);
        Vec::new()
    });
    let sources = match &world.brokers {
        Some(brokers) => {
            let input = (config.sources.as_slice(), built.ordered.as_slice());
            let overtaken = &brokers.overtaken;
            let (read, wrong) = topics::read_at_all(input, overtaken, &before, &aside, part);
            report.violations.extend(wrong);
            Cow::Owned(read)
        }
        None => Cow::Borrowed(&config.sources),
    };
    let bytes = config.topics.map(|_| topics::value as fn(&Entry) -> Vec<u8>);
    let known = model::Workload { built: &built, sources: &sources, bytes };
    let expected = model::interpret(&built.job.model, &known).expect("the workload is known");
    report.violations.extend(output::judge(&built.sinks, &expected, &before, part));
    report.violations.extend(quarantine::judge(&expected.quarantined, aside, part));
    let ends = !part && !config.topics.is_some_and(|topics| topics.grows);
    if report.violations.is_empty() && ends && random.permille(250) {
        let outcome = world.run_again();
        if !matches!(outcome, Some(Outcome::AlreadyFinished { .. })) {
            let text = format!("a finished job was started again and ended with {outcome:?}");
            report.violations.push(text);
        }
        if read(config, world, &mut report.violations) != before {
            report.violations.push("a finished job changed its output when started again".into());
        }
    }
}

/// The committed rows of every sink.
fn read<F: Faults>(
    config: &Config,
    world: &World<'_, F>,
    violations: &mut Vec<String>,
) -> BTreeMap<String, Vec<Vec<u8>>> {
    if let (Some(brokers), Some(topics)) = (&world.brokers, &config.topics) {
        brokers.expire_all();
        let built = process::built(config, 0);
        let (found, wrong) = topics::found(topics, brokers.cluster(), &built, &config.sources);
        violations.extend(wrong);
        return found;
    }
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
