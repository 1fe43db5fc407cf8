//! The simulator finds bugs that were put into the sources and sinks of Kafka, each within so many
//! seeds, and none without them.

#[macro_use]
#[path = "common/seeded.rs"]
mod seeded;

use std::ops::Range;

use gear_connectors::faults;
use gear_core::host;
use seeded::{Bug, Seeded};
use sim::cluster::{Swarm, Wanted, run_topics_with};
use sim::direct::{self, Config};
use sim::report::Options;

/// Each bug has to be found within so many seeds: a few times what it took when it was measured.
const SEEDS: u64 = 1_500;

fn found(bug: Bug, seeds: Range<u64>) {
    let (wanted, options) = (Wanted::default(), Options::default());
    let draw = Swarm::draw_topics::<Seeded>;
    seeded::found(bug, seeds, |seed| run_topics_with::<Seeded>(draw, seed, &wanted, &options));
}

fn in_kafka(bug: Bug) {
    found(bug, 0..SEEDS);
}

fn in_kafka_embedded(bug: Bug) {
    let (draw, options) = (Config::draw_topics::<Seeded>, Options::default());
    seeded::found(bug, 0..SEEDS, |seed| direct::run_topics_with::<Seeded>(draw, seed, &options));
}

bugs! {
    faults::Fault, in_kafka;
    produce_before_record: ProduceBeforeRecord;
    take_unknown_for_committed: TakeUnknownForCommitted;
    leave_out_epoch_number: LeaveOutEpochNumber;
    look_before_fence: LookBeforeFence;
    produce_newest_first: ProduceNewestFirst;
    collect_before_produced: CollectBeforeProduced;
    wait_for_uncommitted: WaitForUncommitted;
    forget_part: ForgetPart;
    end_unheard: EndUnheard;
    latest_when_gone: LatestWhenGone;
    begin_anew_out_of_range: BeginAnewOutOfRange;
    earliest_for_latest: EarliestForLatest;
    earliest_for_fail: EarliestForFail;
    pass_untold: PassUntold;
    positions_of_fetched: PositionsOfFetched;
}

// Only there does the parallelism change, which leaves ids of tasks that there are no more, and do
// partitions turn up.
bugs! {
    faults::Fault, in_kafka_embedded;
    fence_own_id_only: FenceOwnIdOnly;
    find_partitions_again: FindPartitionsAgain;
}

bugs! {
    host::Fault, in_kafka;
    commit_before_record: CommitBeforeRecord;
}

/// It takes an app master that was cut off together with an executor, while its successor reaches
/// all that it has deployed: none of the first 1,500 seeds has that.
#[test]
fn deploy_unrecorded() {
    let seed = 18_615_339_370_122;
    found(host::Fault::DeployUnrecorded.into(), seed..seed + 1);
}
