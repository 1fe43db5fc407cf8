//! Jobs that write to an HDFS on whole clusters: at volume, and with bugs in the sinks.

mod common;
#[macro_use]
#[path = "common/seeded.rs"]
mod seeded;

use common::{checked, first_seed};
use gear_connectors::faults::{Faults, NoFaults};
use gear_core::host;
use sim::cluster::{FaultKind, Swarm, Wanted, run_folders, run_folders_with};
use sim::report::{Options, Report};
use sim::sweep::{Limits, sweep};

/// Seeds of one run of the tests.
const SEEDS: u64 = 300;
/// Each bug has to be found within so many seeds: a few times what it took when it was measured.
const BUG_SEEDS: u64 = 600;

#[test]
fn seeds_of_this_commit_are_right() {
    let first = first_seed();
    println!("seeds from {first}");
    let run = |seed| run_folders(seed, &Wanted::default(), &Options::default());
    let all = sweep(first..first + SEEDS, &Limits::default(), run, |_| {});
    checked(&all);
    for kind in FaultKind::HDFS {
        let name = kind.name();
        assert!(all.fired.contains_key(name), "{name} never fired: {:?}", all.fired);
    }
    println!("{:?}\n{:?}", all.fired, all.rare);
}

type Run = fn(fn(u64) -> Swarm, u64, &Wanted, &Options) -> Report;

/// A bug in the engine, or in the sinks of the swarm that is drawn.
fn found(name: &str, run: Run, draw: fn(u64) -> Swarm) {
    let (wanted, options) = (Wanted::default(), Options::default());
    let buggy = |seed| run(draw, seed, &wanted, &options);
    seeded::found(name, BUG_SEEDS, buggy, |seed| run_folders(seed, &wanted, &options));
}

fn in_sinks<F: Faults>(name: &str) {
    found(name, run_folders_with::<host::NoFaults>, Swarm::draw_folders::<F>);
}

fn in_the_engine<F: host::Faults>(name: &str) {
    found(name, run_folders_with::<F>, Swarm::draw_folders::<NoFaults>);
}

bugs! {
    Faults, in_sinks;
    leave_out_sync: LeaveOutSync, LEAVE_OUT_SYNC;
    publish_before_record: PublishBeforeRecord, PUBLISH_BEFORE_RECORD;
    remove_before_record: RemoveBeforeRecord, REMOVE_BEFORE_RECORD;
}

bugs! {
    host::Faults, in_the_engine;
    commit_before_record: CommitBeforeRecord, COMMIT_BEFORE_RECORD;
}
