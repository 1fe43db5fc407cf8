//! The simulator finds bugs that were put into the engine, and none without them.

use gear_core::host::Faults;
use sim::direct::{Options, run, run_with};

/// Each bug has to be found within so many seeds.
const SEEDS: u64 = 1_000;

macro_rules! bug {
    ($name:ident, $const:ident) => {
        struct $name;

        impl Faults for $name {
            const $const: bool = true;
        }
    };
}
bug!(SnapshotBeforeAlignment, SNAPSHOT_BEFORE_ALIGNMENT);
bug!(CommitBeforeRecord, COMMIT_BEFORE_RECORD);
bug!(ForgetStateOnRestore, FORGET_STATE_ON_RESTORE);
bug!(ReportBeforeStored, REPORT_BEFORE_STORED);

/// The first seed that finds the bug; the same seed is right without it.
fn found<F: Faults>(name: &str) {
    let finds = |seed: &u64| !run_with::<F>(*seed, &Options::default()).violations.is_empty();
    let seed = (0..SEEDS).find(finds);
    let seed = seed.unwrap_or_else(|| panic!("{name} was not found in {SEEDS} seeds"));
    let report = run_with::<F>(seed, &Options::default());
    println!("{name}: seed {seed}, {}", report.violations[0]);
    let violations = run(seed, &Options::default()).violations;
    assert!(violations.is_empty(), "{name}: seed {seed} is wrong without it: {violations:?}");
}

#[test]
fn a_snapshot_before_alignment_is_found() {
    found::<SnapshotBeforeAlignment>("snapshot before alignment");
}

#[test]
fn a_commit_before_the_record_is_found() {
    found::<CommitBeforeRecord>("commit before the record");
}

#[test]
fn a_restore_that_forgets_is_found() {
    found::<ForgetStateOnRestore>("restore that forgets");
}

#[test]
fn a_report_before_the_object_is_stored_is_found() {
    found::<ReportBeforeStored>("report before the object is stored");
}
