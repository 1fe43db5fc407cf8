//! The turmoil simulator: whole processes in the loop that production runs, over simulated
//! sockets, each machine with a disk of its own.
//!
//! It is the outer of the two simulators of a cluster: slower than the direct one, and the only
//! one in which the loop, its buffers and its tasks take part. What is run, what happens to it and
//! how it is judged are the same.

mod children;
mod drivers;
mod gate;
mod links;
mod machine;
mod nemesis;
mod observe;
mod phases;
mod process;
mod shared;
#[cfg(test)]
mod sockets_tests;
mod stage;
#[cfg(test)]
mod stage_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod toy;
mod transport;

use std::rc::Rc;

use gear_core::host::{Faults, NoFaults};
use gear_core::time::Time;

use crate::cluster::{Assembly, Real, Setup, Swarm, Wanted, Work};
use crate::report::{Options, Report};
use crate::trace::Trace;
use stage::Stage;

/// The scenario's name on the command line.
pub const NAME: &str = "turmoil";

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, wanted: &Wanted, options: &Options) -> Report {
    run_with::<NoFaults>(seed, wanted, options)
}

/// Runs a seed with a bug in the engine, to see whether it is found.
#[must_use]
pub fn run_with<F: Faults>(seed: u64, wanted: &Wanted, options: &Options) -> Report {
    let swarm = Swarm::draw(seed);
    let setup = Setup::draw(seed, swarm.slots(), wanted);
    let mut report = simulate(&setup, &Real::<F>::new(&swarm), &swarm, options);
    report.scenario = NAME;
    report.about = format!("{}; {}", setup.describe(), swarm.describe());
    report.changes = wanted.arguments();
    report
}

/// Runs a cluster.
#[must_use]
pub fn simulate(
    setup: &Setup,
    assembly: &dyn Assembly,
    work: &dyn Work,
    options: &Options,
) -> Report {
    let trace = Trace::new(options.keep, options.print);
    let mut stage = Stage::new(Rc::new(setup.clone()), assembly, work, trace);
    stage.run();
    let records = if stage.is_wrong() { 0 } else { stage.judge() };
    stage.report(records)
}

impl Stage<'_> {
    /// How the run went.
    fn report(&self, records: u64) -> Report {
        let state = &mut *self.shared.state.borrow_mut();
        Report {
            seed: self.shared.setup.seed,
            records,
            epochs: state.services.values().map(|services| services.commits.epochs()).sum(),
            recoveries: state.stopwatch.recoveries,
            outages: std::mem::take(&mut state.stopwatch.outages),
            blackouts: std::mem::take(&mut state.stopwatch.blackouts),
            elections: std::mem::take(&mut state.stopwatch.elections),
            events: state.events,
            simulated: self.now().since(Time::ZERO),
            hash: state.trace.hash(),
            trace: state.trace.take_text(),
            fired: std::mem::take(&mut state.fired),
            rare: std::mem::take(&mut state.rare),
            violations: std::mem::take(&mut state.violations),
            ..Report::default()
        }
    }
}
