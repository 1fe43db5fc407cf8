//! The simulator finds bugs that were put into the sources and sinks of Kafka, each within so many
//! seeds, and none without them.

#[macro_use]
#[path = "common/seeded.rs"]
mod seeded;

use gear_connectors::faults::{Faults, NoFaults};
use gear_core::host;
use sim::cluster::{Swarm, Wanted, run_topics, run_topics_with};
use sim::direct::{self, Config};
use sim::report::{Options, Report};

/// Each bug has to be found within so many seeds: a few times what it took when it was measured.
const SEEDS: u64 = 1_500;

type Run = fn(fn(u64) -> Swarm, u64, &Wanted, &Options) -> Report;

/// A bug in the engine, or in the connectors of the swarm that is drawn.
fn found(name: &str, run: Run, draw: fn(u64) -> Swarm) {
    let (wanted, options) = (Wanted::default(), Options::default());
    let buggy = |seed| run(draw, seed, &wanted, &options);
    seeded::found(name, SEEDS, buggy, |seed| run_topics(seed, &wanted, &options));
}

fn in_connectors<F: Faults>(name: &str) {
    found(name, run_topics_with::<host::NoFaults>, Swarm::draw_topics::<F>);
}

fn in_connectors_embedded<F: Faults>(name: &str) {
    let options = Options::default();
    let draw = Config::draw_topics::<F>;
    let buggy = |seed| direct::run_topics_with::<host::NoFaults>(draw, seed, &options);
    seeded::found(name, SEEDS, buggy, |seed| direct::run_topics(seed, &options));
}

fn in_the_engine<F: host::Faults>(name: &str) {
    found(name, run_topics_with::<F>, Swarm::draw_topics::<NoFaults>);
}

bugs! {
    Faults, in_connectors;
    produce_before_record: ProduceBeforeRecord, PRODUCE_BEFORE_RECORD;
    take_unknown_for_committed: TakeUnknownForCommitted, TAKE_UNKNOWN_FOR_COMMITTED;
    leave_out_epoch_number: LeaveOutEpochNumber, LEAVE_OUT_EPOCH_NUMBER;
    look_before_fence: LookBeforeFence, LOOK_BEFORE_FENCE;
    produce_newest_first: ProduceNewestFirst, PRODUCE_NEWEST_FIRST;
    collect_before_produced: CollectBeforeProduced, COLLECT_BEFORE_PRODUCED;
    latest_when_gone: LatestWhenGone, LATEST_WHEN_GONE;
    begin_anew_out_of_range: BeginAnewOutOfRange, BEGIN_ANEW_OUT_OF_RANGE;
    earliest_for_latest: EarliestForLatest, EARLIEST_FOR_LATEST;
    earliest_for_fail: EarliestForFail, EARLIEST_FOR_FAIL;
    pass_untold: PassUntold, PASS_UNTOLD;
    positions_of_fetched: PositionsOfFetched, POSITIONS_OF_FETCHED;
}

// Only there does the parallelism change, which leaves ids of tasks that there are no more, and do
// partitions turn up.
bugs! {
    Faults, in_connectors_embedded;
    fence_own_id_only: FenceOwnIdOnly, FENCE_OWN_ID_ONLY;
    find_partitions_again: FindPartitionsAgain, FIND_PARTITIONS_AGAIN;
}

bugs! {
    host::Faults, in_the_engine;
    commit_before_record: CommitBeforeRecord, COMMIT_BEFORE_RECORD;
}
