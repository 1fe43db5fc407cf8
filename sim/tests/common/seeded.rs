//! How a test shows that the simulator finds a bug that was put in.

use sim::report::Report;
use sim::sweep::{Limits, sweep};

/// Bugs of one trait, each with the test that it is found.
macro_rules! bugs {
    ($faults:path, $found:ident; $($test:ident: $name:ident, $const:ident;)+) => {
        $(
            struct $name;

            impl $faults for $name {
                const $const: bool = true;
            }

            #[test]
            fn $test() {
                $found::<$name>(stringify!($const));
            }
        )+
    };
}

/// The first seed that finds the bug; the same seed is right without it.
pub(crate) fn found(
    name: &str,
    seeds: u64,
    buggy: impl Fn(u64) -> Report + Sync,
    right: impl Fn(u64) -> Report,
) {
    let limits = Limits { threads: 1, failures: 1, ..Limits::default() };
    let all = sweep(0..seeds, &limits, buggy, |_| {});
    let (seed, failure) = all
        .failures
        .first_key_value()
        .unwrap_or_else(|| panic!("{name} was not found in {seeds} seeds"));
    let first = failure.violations[0].lines().next().unwrap_or_default();
    println!("| {name} | {} | {first} |", seed + 1);
    let violations = right(*seed).violations;
    assert!(violations.is_empty(), "{name}: seed {seed} is wrong without it: {violations:?}");
}
