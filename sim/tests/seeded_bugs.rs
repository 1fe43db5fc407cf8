//! The simulator finds bugs that were put into the engine, and none without them.

#[macro_use]
#[path = "common/seeded.rs"]
mod seeded;

use gear_core::host::Fault;
use seeded::{Bug, Seeded};
use sim::direct::{Options, run_with};

/// Each bug has to be found within so many seeds.
const SEEDS: u64 = 1_000;

fn in_the_engine(bug: Bug) {
    seeded::found(bug, 0..SEEDS, |seed| run_with::<Seeded>(seed, &Options::default()));
}

bugs! {
    Fault, in_the_engine;
    snapshot_before_alignment: SnapshotBeforeAlignment;
    commit_before_record: CommitBeforeRecord;
    forget_state_on_restore: ForgetStateOnRestore;
    report_before_stored: ReportBeforeStored;
}
