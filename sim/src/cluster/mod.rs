//! The direct simulator of a whole cluster: machines with disks and clocks, a network between them,
//! the processes on them, and what happens to all of these.
//!
//! It drives the same processes as production does, as [`gear_core::host::process::Process`]es, and
//! knows nothing of what they say to each other.

mod brokers;
mod client;
pub(crate) mod clock;
mod conn;
pub(crate) mod disk;
mod fault;
mod growth;
mod hosted;
pub(crate) mod inspect;
mod jobs;
mod nemesis;
mod network;
mod observe;
mod operator;
mod phases;
mod real;
mod remote;
mod retention;
mod services;
mod setup;
mod subject;
mod swarm;
#[cfg(test)]
mod tests;
mod trace;
mod world;

pub use brokers::Brokers;
pub use client::Client;
pub use fault::{FaultKind, Faults, Planned};
pub(crate) use hosted::LogState;
pub use jobs::{Jobs, app_plan, program, spec};
pub(crate) use nemesis::ACKNOWLEDGER_LOST;
pub use real::Real;
pub(crate) use services::Paced;
pub use setup::{Rates, Setup, Slow, Wanted};
pub(crate) use subject::judged;
pub use subject::{
    Answer, AppLook, Assembly, Channels, ChildStart, ClientStart, ExecutorLook, KnownApp,
    KnownCluster, LaterWish, Look, NodeLook, NodeStart, Output, Subject, TaskLook, Work,
};
pub use swarm::Swarm;

use crate::report::{Options, Report};
use crate::trace::Trace;
use gear_connectors::faults as connectors;
use gear_core::host::NoFaults;
use gear_core::time::Time;
use world::World;

/// Runs a cluster.
#[must_use]
pub fn simulate(
    setup: &Setup,
    assembly: &dyn Assembly,
    work: &dyn Work,
    options: &Options,
) -> Report {
    let trace = Trace::new(options.keep, options.print);
    let mut world = World::new(setup, assembly, work, trace);
    world.run();
    let mut report = Report { seed: setup.seed, ..Report::default() };
    if world.violations.is_empty() {
        report.records = world.judge();
    }
    report.epochs = world.services.values().map(|services| services.commits.epochs()).sum();
    report.recoveries = world.stopwatch.recoveries;
    report.outages = std::mem::take(&mut world.stopwatch.outages);
    report.blackouts = std::mem::take(&mut world.stopwatch.blackouts);
    report.elections = std::mem::take(&mut world.stopwatch.elections);
    report.events = world.events;
    report.simulated = world.now.since(Time::ZERO);
    report.hash = world.trace.hash();
    report.trace = world.trace.take_text();
    report.fired = std::mem::take(&mut world.fired);
    report.rare = std::mem::take(&mut world.rare);
    report.violations = std::mem::take(&mut world.violations);
    report
}

/// The scenario's name on the command line.
pub const NAME: &str = "cluster";

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, wanted: &Wanted, options: &Options) -> Report {
    run_with::<NoFaults>(seed, wanted, options)
}

/// Runs a seed with a bug in the engine, to see whether it is found.
#[must_use]
pub fn run_with<F: gear_core::host::Faults>(
    seed: u64,
    wanted: &Wanted,
    options: &Options,
) -> Report {
    let swarm = Swarm::draw(seed);
    let setup = Setup::draw(seed, swarm.slots(), wanted);
    run_setup::<F>(NAME, &setup, &swarm, wanted, options)
}

/// The scenario of a cluster whose apps read and write topics of Kafka.
pub const TOPICS_NAME: &str = "kafka";

/// Runs a seed of a job from Kafka to Kafka.
#[must_use]
pub fn run_topics(seed: u64, wanted: &Wanted, options: &Options) -> Report {
    run_topics_with::<NoFaults>(Swarm::draw_topics::<connectors::NoFaults>, seed, wanted, options)
}

/// The same with a bug in the engine, or in the connectors of the swarm that is drawn.
#[must_use]
pub fn run_topics_with<F: gear_core::host::Faults>(
    draw: fn(u64) -> Swarm,
    seed: u64,
    wanted: &Wanted,
    options: &Options,
) -> Report {
    let swarm = draw(seed);
    let setup = Setup::draw_with_brokers(seed, swarm.slots(), wanted);
    run_setup::<F>(TOPICS_NAME, &setup, &swarm, wanted, options)
}

/// The scenario of a cluster whose apps write to an HDFS.
pub const FOLDERS_NAME: &str = "hdfs";

/// Runs a seed of a job that writes to an HDFS.
#[must_use]
pub fn run_folders(seed: u64, wanted: &Wanted, options: &Options) -> Report {
    let draw = Swarm::draw_folders::<connectors::NoFaults>;
    run_folders_with::<NoFaults>(draw, seed, wanted, options)
}

/// The same with a bug in the engine, or in the connectors of the swarm that is drawn.
#[must_use]
pub fn run_folders_with<F: gear_core::host::Faults>(
    draw: fn(u64) -> Swarm,
    seed: u64,
    wanted: &Wanted,
    options: &Options,
) -> Report {
    let swarm = draw(seed);
    let setup = Setup::draw_with_hdfs(seed, swarm.slots(), wanted);
    run_setup::<F>(FOLDERS_NAME, &setup, &swarm, wanted, options)
}

/// Runs what is settled.
pub(crate) fn run_setup<F: gear_core::host::Faults>(
    scenario: &'static str,
    setup: &Setup,
    swarm: &Swarm,
    wanted: &Wanted,
    options: &Options,
) -> Report {
    let mut report = simulate(setup, &Real::<F>::new(swarm), swarm, options);
    report.scenario = scenario;
    report.about = format!("{}; {}", setup.describe(), swarm.describe());
    report.changes = wanted.arguments();
    report
}
