//! What can be asked for.

use std::path::PathBuf;

use clap::Parser;
use sim::cluster::{FaultKind, Faults, Wanted};

/// Seeds of a sweep unless set.
const SEEDS_DEFAULT: u64 = 1_000;

/// Runs a streaming engine under faults that a seed draws, and judges what it does.
#[derive(Debug, Parser)]
#[command(name = "sim", max_term_width = 100)]
pub(crate) struct Args {
    /// Run so many seeds [default: 1000, or as many as fit in --minutes]
    #[arg(long, value_name = "N", conflicts_with = "seed")]
    pub(crate) seeds: Option<u64>,
    /// The first of them
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) first_seed: u64,
    /// Run this seed only
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// What is run; an unknown name lists them all
    #[arg(long, value_name = "NAME", default_value = "cluster")]
    pub(crate) scenario: String,
    /// Begin no seed after so many minutes
    #[arg(long, value_name = "M")]
    pub(crate) minutes: Option<f64>,
    /// Make what fails small: fewer faults and machines, as long as it fails
    #[arg(long)]
    pub(crate) shrink: bool,
    /// Write every input and effect of the seed to a file, or to the standard output as they come
    #[arg(long, value_name = "FILE|-", requires = "seed")]
    pub(crate) trace: Option<PathBuf>,
    /// Print the hash of the trace and nothing else
    #[arg(long, hide = true, requires = "seed")]
    pub(crate) trace_hash: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Threads [default: one for each processor]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Kinds of faults to switch off
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub(crate) without: Vec<FaultKind>,
    /// Planned faults to leave out, by their places
    #[arg(long, value_name = "PLACE", value_delimiter = ',')]
    pub(crate) skip: Vec<usize>,
    /// So many masters, whatever the seed says
    #[arg(long, value_name = "N")]
    pub(crate) masters: Option<usize>,
    /// So many workers, whatever the seed says
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
}

impl Args {
    /// What is wanted of each run.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            masters: self.masters,
            workers: self.workers,
            off: Faults::only(&self.without),
            without: self.skip.iter().copied().collect(),
            ..Wanted::default()
        }
    }

    /// How many seeds there are.
    pub(crate) fn count(&self) -> u64 {
        let unlimited = self.minutes.map_or(SEEDS_DEFAULT, |_| u64::MAX);
        self.seeds.unwrap_or(unlimited).min(u64::MAX - self.first_seed)
    }
}
