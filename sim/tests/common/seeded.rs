//! How a test shows that the simulator finds a bug that was put in.

use std::cell::Cell;
use std::ops::Range;

use gear_connectors::faults as connectors;
use gear_core::host;
use sim::report::Report;
use sim::sweep::{Limits, sweep};

/// A bug that can be put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// In the engine.
    Engine(host::Fault),
    /// In a connector.
    Connectors(connectors::Fault),
}

impl From<host::Fault> for Bug {
    fn from(fault: host::Fault) -> Self {
        Self::Engine(fault)
    }
}

impl From<connectors::Fault> for Bug {
    fn from(fault: connectors::Fault) -> Self {
        Self::Connectors(fault)
    }
}

std::thread_local! {
    static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Has the bug of the thread: one engine is compiled for all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeded;

impl host::Faults for Seeded {
    fn has(fault: host::Fault) -> bool {
        BUG.get() == Some(Bug::Engine(fault))
    }
}

impl connectors::Faults for Seeded {
    fn has(fault: connectors::Fault) -> bool {
        BUG.get() == Some(Bug::Connectors(fault))
    }
}

/// Bugs, each with the test that it is found.
macro_rules! bugs {
    ($fault:path, $found:ident; $($test:ident: $name:ident;)+) => {
        $(
            #[test]
            fn $test() {
                use $fault as Fault;
                $found(Fault::$name.into());
            }
        )+
    };
}

/// The first seed that finds the bug; the same seed is right without it.
pub(crate) fn found(bug: Bug, seeds: Range<u64>, run: impl Fn(u64) -> Report + Sync) {
    let with = |bug: Option<Bug>, seed| {
        BUG.set(bug);
        run(seed)
    };
    let name = match bug {
        Bug::Engine(fault) => format!("{fault:?}"),
        Bug::Connectors(fault) => format!("{fault:?}"),
    };
    let limits = Limits { threads: 1, failures: 1, ..Limits::default() };
    let all = sweep(seeds.clone(), &limits, |seed| with(Some(bug), seed), |_| {});
    let (seed, failure) = all
        .failures
        .first_key_value()
        .unwrap_or_else(|| panic!("{name} was not found in seeds {seeds:?}"));
    let first = failure.violations[0].lines().next().unwrap_or_default();
    println!("| `{name}` | {} | {first} |", seed - seeds.start + 1);
    let violations = with(None, *seed).violations;
    assert!(violations.is_empty(), "{name}: seed {seed} is wrong without it: {violations:?}");
}
