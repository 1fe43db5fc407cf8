//! The simulator finds bugs that were put into the sources and sinks of Kafka, each within so many
//! seeds, and none without them.

use gear_connectors::faults::{Faults, NoFaults};
use gear_core::host;
use sim::cluster::{Swarm, Wanted, run_topics, run_topics_with};
use sim::direct::{self, Config};
use sim::report::{Options, Report};
use sim::sweep::{Limits, sweep};

/// Each bug has to be found within so many seeds: a few times what it took when it was measured.
const SEEDS: u64 = 1_500;

macro_rules! bugs {
    ($($test:ident: $name:ident, $const:ident;)+) => {
        $(
            struct $name;

            impl Faults for $name {
                const $const: bool = true;
            }

            #[test]
            fn $test() {
                let draw = Swarm::draw_topics::<$name>;
                found(stringify!($const), run_topics_with::<host::NoFaults>, draw);
            }
        )+
    };
}

type Run = fn(fn(u64) -> Swarm, u64, &Wanted, &Options) -> Report;

/// A bug on a cluster.
fn found(name: &str, run: Run, draw: fn(u64) -> Swarm) {
    found_in(name, run, draw, |seed, options| run_topics(seed, &Wanted::default(), options));
}

/// The first seed that finds the bug; the same seed is right without it.
fn found_in(name: &str, run: Run, draw: fn(u64) -> Swarm, right: fn(u64, &Options) -> Report) {
    let (wanted, options) = (Wanted::default(), Options::default());
    let limits = Limits { threads: 1, failures: 1, ..Limits::default() };
    let all = sweep(0..SEEDS, &limits, |seed| run(draw, seed, &wanted, &options), |_| {});
    let (seed, failure) = all
        .failures
        .first_key_value()
        .unwrap_or_else(|| panic!("{name} was not found in {SEEDS} seeds"));
    let first = failure.violations[0].lines().next().unwrap_or_default();
    println!("| {name} | {} | {first} |", seed + 1);
    let violations = right(*seed, &options).violations;
    assert!(violations.is_empty(), "{name}: seed {seed} is wrong without it: {violations:?}");
}

bugs! {
    produce_before_record: ProduceBeforeRecord, PRODUCE_BEFORE_RECORD;
    take_unknown_for_committed: TakeUnknownForCommitted, TAKE_UNKNOWN_FOR_COMMITTED;
    leave_out_epoch_number: LeaveOutEpochNumber, LEAVE_OUT_EPOCH_NUMBER;
    look_before_fence: LookBeforeFence, LOOK_BEFORE_FENCE;
    produce_newest_first: ProduceNewestFirst, PRODUCE_NEWEST_FIRST;
    collect_before_produced: CollectBeforeProduced, COLLECT_BEFORE_PRODUCED;
}

struct FenceOwnIdOnly;

impl Faults for FenceOwnIdOnly {
    const FENCE_OWN_ID_ONLY: bool = true;
}

/// Only where the parallelism changes are there ids of tasks that there are no more.
#[test]
fn fence_own_id_only() {
    let run: Run = |_, seed, _, options| {
        direct::run_topics_with::<host::NoFaults>(
            Config::draw_topics::<FenceOwnIdOnly>,
            seed,
            options,
        )
    };
    let right = |seed, options: &Options| direct::run_topics(seed, options);
    found_in("FENCE_OWN_ID_ONLY", run, Swarm::draw_topics::<NoFaults>, right);
}

struct CommitBeforeRecord;

impl host::Faults for CommitBeforeRecord {
    const COMMIT_BEFORE_RECORD: bool = true;
}

#[test]
fn commit_before_record() {
    let run = run_topics_with::<CommitBeforeRecord>;
    found("COMMIT_BEFORE_RECORD", run, Swarm::draw_topics::<NoFaults>);
}
