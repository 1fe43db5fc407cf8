//! The simulator finds bugs that were put into the machines of a cluster, each within so many
//! seeds, and none without them.

#[macro_use]
#[path = "common/seeded.rs"]
mod seeded;

use gear_core::host::{Faults, NoFaults};
use sim::cluster::{Wanted, run, run_with};
use sim::report::{Options, Report};
use sim::scenario::dag_version_after_leader_loss;

/// Each bug has to be found within so many seeds: a few times what it took when it was measured.
const SEEDS: u64 = 1_500;

type Run = fn(u64, &Wanted, &Options) -> Report;

fn found(name: &str, buggy: Run, right: Run) {
    let (wanted, options) = (&Wanted::default(), &Options::default());
    let of = |run: Run| move |seed| run(seed, wanted, options);
    seeded::found(name, SEEDS, of(buggy), of(right));
}

fn in_the_engine<F: Faults>(name: &str) {
    found(name, run_with::<F>, run);
}

bugs! {
    Faults, in_the_engine;
    snapshot_before_alignment: SnapshotBeforeAlignment, SNAPSHOT_BEFORE_ALIGNMENT;
    commit_before_record: CommitBeforeRecord, COMMIT_BEFORE_RECORD;
    report_before_stored: ReportBeforeStored, REPORT_BEFORE_STORED;
    forget_state_on_restore: ForgetStateOnRestore, FORGET_STATE_ON_RESTORE;
    replay_leaves_before_commit: ReplayLeavesBeforeCommit, REPLAY_LEAVES_BEFORE_COMMIT;
    act_on_unacknowledged: ActOnUnacknowledged, ACT_ON_UNACKNOWLEDGED;
    reuse_executor_ids: ReuseExecutorIds, REUSE_EXECUTOR_IDS;
    forget_request_ids: ForgetRequestIds, FORGET_REQUEST_IDS;
    repeat_orders: RepeatOrders, REPEAT_ORDERS;
    resume_without_deduplication: ResumeWithoutDeduplication, RESUME_WITHOUT_DEDUPLICATION;
    grant_credit_twice: GrantCreditTwice, GRANT_CREDIT_TWICE;
    reuse_attempt_on_roll_back: ReuseAttemptOnRollBack, REUSE_ATTEMPT_ON_ROLL_BACK;
    roll_back_only_lost_tasks: RollBackOnlyLostTasks, ROLL_BACK_ONLY_LOST_TASKS;
    take_over_without_reports: TakeOverWithoutReports, TAKE_OVER_WITHOUT_REPORTS;
    acknowledge_before_majority: AcknowledgeBeforeMajority, ACKNOWLEDGE_BEFORE_MAJORITY;
    ignore_lease: IgnoreLease, IGNORE_LEASE;
    accept_old_term_orders: AcceptOldTermOrders, ACCEPT_OLD_TERM_ORDERS;
    join_older_terms: JoinOlderTerms, JOIN_OLDER_TERMS;
    vote_before_stored: VoteBeforeStored, VOTE_BEFORE_STORED;
    settle_voters_before_majority: SettleVotersBeforeMajority, SETTLE_VOTERS_BEFORE_MAJORITY;
}

/// A leader that says more than a majority will remember, and one that takes a repeated request for
/// another, are found by the scenario that is about them.
#[test]
fn what_is_forgotten_with_a_leader_is_found() {
    let right: Run = dag_version_after_leader_loss::<NoFaults>;
    let name = "ACKNOWLEDGE_BEFORE_MAJORITY after the loss of a leader";
    found(name, dag_version_after_leader_loss::<AcknowledgeBeforeMajority>, right);
    let name = "FORGET_REQUEST_IDS after the loss of a leader";
    found(name, dag_version_after_leader_loss::<ForgetRequestIds>, right);
}
