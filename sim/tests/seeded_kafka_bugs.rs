//! The simulator finds bugs that were put into the sources and sinks of Kafka, each within so many
//! seeds, and none without them.

#[path = "common/seeded.rs"]
mod seeded;

use gear_connectors::faults::{Faults, NoFaults};
use gear_core::host;
use sim::cluster::{Swarm, Wanted, run_topics, run_topics_with};
use sim::direct::{self, Config};
use sim::report::{Options, Report};

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

/// A bug in the engine, or in the connectors of the swarm that is drawn.
fn found(name: &str, run: Run, draw: fn(u64) -> Swarm) {
    let (wanted, options) = (Wanted::default(), Options::default());
    let buggy = |seed| run(draw, seed, &wanted, &options);
    seeded::found(name, SEEDS, buggy, |seed| run_topics(seed, &wanted, &options));
}

bugs! {
    produce_before_record: ProduceBeforeRecord, PRODUCE_BEFORE_RECORD;
    take_unknown_for_committed: TakeUnknownForCommitted, TAKE_UNKNOWN_FOR_COMMITTED;
    leave_out_epoch_number: LeaveOutEpochNumber, LEAVE_OUT_EPOCH_NUMBER;
    look_before_fence: LookBeforeFence, LOOK_BEFORE_FENCE;
    produce_newest_first: ProduceNewestFirst, PRODUCE_NEWEST_FIRST;
    collect_before_produced: CollectBeforeProduced, COLLECT_BEFORE_PRODUCED;
    latest_when_gone: LatestWhenGone, LATEST_WHEN_GONE;
    begin_anew_out_of_range: BeginAnewOutOfRange, BEGIN_ANEW_OUT_OF_RANGE;
}

struct FenceOwnIdOnly;

impl Faults for FenceOwnIdOnly {
    const FENCE_OWN_ID_ONLY: bool = true;
}

/// Only where the parallelism changes are there ids of tasks that there are no more.
#[test]
fn fence_own_id_only() {
    found_embedded("FENCE_OWN_ID_ONLY", Config::draw_topics::<FenceOwnIdOnly>);
}

struct FindPartitionsAgain;

impl Faults for FindPartitionsAgain {
    const FIND_PARTITIONS_AGAIN: bool = true;
}

/// Only there do partitions turn up.
#[test]
fn find_partitions_again() {
    found_embedded("FIND_PARTITIONS_AGAIN", Config::draw_topics::<FindPartitionsAgain>);
}

fn found_embedded(name: &str, draw: fn(u64) -> Config) {
    let options = Options::default();
    let buggy = |seed| direct::run_topics_with::<host::NoFaults>(draw, seed, &options);
    seeded::found(name, SEEDS, buggy, |seed| direct::run_topics(seed, &options));
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
