//! Jobs that write to an HDFS on whole clusters: at volume, and with bugs in the sinks.

mod common;

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

/// The first seed that finds the bug; the same seed is right without it.
fn found(name: &str, run: Run, draw: fn(u64) -> Swarm) {
    let (wanted, options) = (Wanted::default(), Options::default());
    let limits = Limits { threads: 1, failures: 1, ..Limits::default() };
    let all = sweep(0..BUG_SEEDS, &limits, |seed| run(draw, seed, &wanted, &options), |_| {});
    let (seed, failure) = all
        .failures
        .first_key_value()
        .unwrap_or_else(|| panic!("{name} was not found in {BUG_SEEDS} seeds"));
    let first = failure.violations[0].lines().next().unwrap_or_default();
    println!("| {name} | {} | {first} |", seed + 1);
    let violations = run_folders(*seed, &wanted, &options).violations;
    assert!(violations.is_empty(), "{name}: seed {seed} is wrong without it: {violations:?}");
}

macro_rules! bugs {
    ($($test:ident: $name:ident, $const:ident;)+) => {
        $(
            struct $name;

            impl Faults for $name {
                const $const: bool = true;
            }

            #[test]
            fn $test() {
                let draw = Swarm::draw_folders::<$name>;
                found(stringify!($const), run_folders_with::<host::NoFaults>, draw);
            }
        )+
    };
}

bugs! {
    leave_out_sync: LeaveOutSync, LEAVE_OUT_SYNC;
    publish_before_record: PublishBeforeRecord, PUBLISH_BEFORE_RECORD;
    remove_before_record: RemoveBeforeRecord, REMOVE_BEFORE_RECORD;
}

struct CommitBeforeRecord;

impl host::Faults for CommitBeforeRecord {
    const COMMIT_BEFORE_RECORD: bool = true;
}

#[test]
fn commit_before_record() {
    let run = run_folders_with::<CommitBeforeRecord>;
    found("COMMIT_BEFORE_RECORD", run, Swarm::draw_folders::<NoFaults>);
}
