//! The direct simulator of a whole cluster: machines with disks and clocks, a network between them,
//! the processes on them, and what happens to all of these.
//!
//! It drives the same processes as production does, as [`gear_core::host::process::Process`]es, and
//! knows nothing of what they say to each other.

pub(crate) mod clock;
mod conn;
pub(crate) mod disk;
mod fault;
mod hosted;
mod nemesis;
mod network;
mod observe;
mod phases;
mod services;
mod setup;
mod subject;
#[cfg(test)]
mod tests;
mod trace;
mod world;

pub use fault::{FaultKind, Faults, Planned};
pub use setup::{Rates, Setup, Slow, Wanted};
pub use subject::{
    AppLook, Assembly, ChildStart, ClientStart, ExecutorLook, KnownApp, Look, NodeLook, NodeStart,
    Output, Subject, TaskLook, Work,
};

use crate::report::{Options, Report};
use crate::trace::Trace;
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
