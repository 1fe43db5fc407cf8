//! Seeded bugs: each is seen.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use gear_core::host::{Fault, Faults};

use crate::random::run;
use crate::replays;

std::thread_local! {
    static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Has the bug of the thread: one engine is compiled for all of them.
struct Seeded;

impl Faults for Seeded {
    fn has(fault: Fault) -> bool {
        FAULT.get() == Some(fault)
    }
}

/// True if one of the first seeds sees a bug.
fn is_seen<T>(fault: Fault, run: impl Fn(u64) -> T) -> bool {
    FAULT.set(Some(fault));
    (0..300).any(|seed| catch_unwind(AssertUnwindSafe(|| run(seed))).is_err())
}

#[test]
fn records_that_leave_the_quarantine_before_their_epoch_are_missed() {
    assert!(is_seen(Fault::ReplayLeavesBeforeCommit, replays::run::<Seeded>));
}

#[test]
fn a_reused_attempt_is_seen() {
    assert!(is_seen(Fault::ReuseAttemptOnRollBack, run::<Seeded>));
}

#[test]
fn an_executor_that_obeys_a_fenced_app_master_is_seen() {
    assert!(is_seen(Fault::AcceptOldAppTerm, run::<Seeded>));
}

#[test]
fn a_region_of_which_a_part_goes_on_is_seen() {
    assert!(is_seen(Fault::RollBackOnlyLostTasks, run::<Seeded>));
}

#[test]
fn a_take_over_that_asks_nobody_is_seen() {
    assert!(is_seen(Fault::TakeOverWithoutReports, run::<Seeded>));
}
