//! The simulator finds bugs that were put into the machines of a cluster, each within so many
//! seeds, and none without them.

#[macro_use]
#[path = "common/seeded.rs"]
mod seeded;

use gear_core::host::Fault;
use seeded::{Bug, Seeded};
use sim::cluster::{Wanted, run_with};
use sim::report::{Options, Report};
use sim::scenario::{app_master_cut_off, dag_version_after_leader_loss};

/// Each bug has to be found within so many seeds: a few times what it took when it was measured.
const SEEDS: u64 = 1_500;

fn found(bug: Bug, run: fn(u64, &Wanted, &Options) -> Report) {
    seeded::found(bug, 0..SEEDS, |seed| run(seed, &Wanted::default(), &Options::default()));
}

fn in_the_engine(bug: Bug) {
    found(bug, run_with::<Seeded>);
}

bugs! {
    Fault, in_the_engine;
    snapshot_before_alignment: SnapshotBeforeAlignment;
    commit_before_record: CommitBeforeRecord;
    report_before_stored: ReportBeforeStored;
    forget_state_on_restore: ForgetStateOnRestore;
    replay_leaves_before_commit: ReplayLeavesBeforeCommit;
    act_on_unacknowledged: ActOnUnacknowledged;
    reuse_executor_ids: ReuseExecutorIds;
    forget_request_ids: ForgetRequestIds;
    repeat_orders: RepeatOrders;
    resume_without_deduplication: ResumeWithoutDeduplication;
    grant_credit_twice: GrantCreditTwice;
    reuse_attempt_on_roll_back: ReuseAttemptOnRollBack;
    roll_back_only_lost_tasks: RollBackOnlyLostTasks;
    take_over_without_reports: TakeOverWithoutReports;
    acknowledge_before_majority: AcknowledgeBeforeMajority;
    ignore_lease: IgnoreLease;
    accept_old_term_orders: AcceptOldTermOrders;
    join_older_terms: JoinOlderTerms;
    vote_before_stored: VoteBeforeStored;
    settle_voters_before_majority: SettleVotersBeforeMajority;
}

/// A leader that says more than a majority will remember, and one that takes a repeated request for
/// another, are found by the scenario that is about them.
#[test]
fn what_is_forgotten_with_a_leader_is_found() {
    found(Fault::AcknowledgeBeforeMajority.into(), dag_version_after_leader_loss::<Seeded>);
    found(Fault::ForgetRequestIds.into(), dag_version_after_leader_loss::<Seeded>);
}

/// Shortly before the first seed that finds it: those before take a minute.
const NEAR: u64 = 180;

/// An app master that deploys what its successor takes over is found by the scenario in which it is
/// cut off with somebody on whom it can.
#[test]
fn what_is_deployed_on_the_other_side_is_found() {
    let (wanted, options) = (Wanted::default(), Options::default());
    let run = |seed| app_master_cut_off::<Seeded>(seed, &wanted, &options);
    seeded::found(Fault::DeployUnrecorded.into(), NEAR..SEEDS, run);
}
