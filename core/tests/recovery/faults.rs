//! Seeded bugs: each is seen.

use std::panic::{AssertUnwindSafe, catch_unwind};

use gear_core::host::Faults;

use crate::random::run;

struct ReuseAttempt;

impl Faults for ReuseAttempt {
    const REUSE_ATTEMPT_ON_ROLL_BACK: bool = true;
}

struct AcceptOldTerm;

impl Faults for AcceptOldTerm {
    const ACCEPT_OLD_APP_TERM: bool = true;
}

struct OnlyLostTasks;

impl Faults for OnlyLostTasks {
    const ROLL_BACK_ONLY_LOST_TASKS: bool = true;
}

struct WithoutReports;

impl Faults for WithoutReports {
    const TAKE_OVER_WITHOUT_REPORTS: bool = true;
}

/// The first seed that sees a bug.
fn seeds_to<F: Faults>() -> Option<u64> {
    (0..300).find(|seed| catch_unwind(AssertUnwindSafe(|| run::<F>(*seed))).is_err())
}

struct LeavesEarly;

impl Faults for LeavesEarly {
    const REPLAY_LEAVES_BEFORE_COMMIT: bool = true;
}

#[test]
fn records_that_leave_the_quarantine_before_their_epoch_are_missed() {
    let seed = (0..300).find(|seed| {
        catch_unwind(AssertUnwindSafe(|| crate::replays::run::<LeavesEarly>(*seed))).is_err()
    });
    assert!(seed.is_some());
}

#[test]
fn a_reused_attempt_is_seen() {
    assert!(seeds_to::<ReuseAttempt>().is_some());
}

#[test]
fn an_executor_that_obeys_a_fenced_app_master_is_seen() {
    assert!(seeds_to::<AcceptOldTerm>().is_some());
}

#[test]
fn a_region_of_which_a_part_goes_on_is_seen() {
    assert!(seeds_to::<OnlyLostTasks>().is_some());
}

#[test]
fn a_take_over_that_asks_nobody_is_seen() {
    assert!(seeds_to::<WithoutReports>().is_some());
}
