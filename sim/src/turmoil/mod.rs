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

use gear_core::time::Time;

use crate::cluster::{Assembly, Setup, Work};
use crate::report::{Options, Report};
use crate::trace::Trace;
use stage::Stage;

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
