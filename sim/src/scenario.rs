//! What can be run, by name.

use crate::cluster::Wanted;
use crate::direct;
use crate::report::{Options, Report};

/// Something that a seed settles a run of.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Runs a seed.
    pub run: fn(u64, &Wanted, &Options) -> Report,
    /// Faults and machines can be taken away from it.
    pub shrinks: bool,
}

/// Everything that can be run.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: direct::NAME,
    about: "one process: an app master and its executors",
    run: |seed, _, options| direct::run(seed, options),
    shrinks: false,
}];

/// The scenario of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}
