//! Whole processes in the loop of production over simulated sockets: seeds at volume, and
//! determinism.

mod common;

use std::process::Command;

use common::{checked, first_seed};
use sim::cluster::Wanted;
use sim::report::Options;
use sim::sweep::{Limits, sweep};
use sim::turmoil::run;

/// Seeds of one run of the tests: each takes a second, so they are fewer than those of the direct
/// simulator.
const SEEDS: u64 = 120;

#[test]
fn seeds_of_this_commit_are_right() {
    let first = first_seed();
    println!("seeds from {first}");
    let run = |seed| run(seed, &Wanted::default(), &Options::default());
    let all = sweep(first..first + SEEDS, &Limits::default(), run, |_| {});
    checked(&all);
    for fault in FIRED {
        assert!(all.fired.contains_key(fault), "{fault} never fired: {:?}", all.fired);
    }
    for state in RARE {
        assert!(all.rare.contains_key(state), "`{state}` was never reached: {:?}", all.rare);
    }
    assert!(all.epochs > 0 && all.records > 0, "epochs commit, and there is output");
    println!("{:?}\n{:?}", all.fired, all.rare);
}

/// Faults that so many seeds have to bring.
const FIRED: &[&str] = &[
    "chop",
    "clog",
    "disconnect",
    "drift",
    "isolate",
    "kill-app-master",
    "kill-executor",
    "kill-node",
    "latency",
    "one-way",
    "pause-machine",
    "power-loss",
    "store-errors",
    "swizzle",
];

/// Rare states that so many seeds have to come across.
const RARE: &[&str] = &[
    "a link was resumed with what it had kept",
    "a process died between two effects of one step",
    "an app master was lost",
    "an app went back to its last epoch and runs again",
    "an epoch committed without a leader",
    "an executor was lost",
    "the leader was lost",
];

#[test]
fn a_seed_means_one_trace_in_another_process() {
    for seed in [1, 2, 3, 5] {
        let hash = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
            command.args(["--scenario", "turmoil", "--seed", &seed.to_string(), "--trace-hash"]);
            let output = command.output().expect("the simulator starts");
            String::from_utf8(output.stdout).expect("a hash is text")
        };
        let here = run(seed, &Wanted::default(), &Options::default()).hash;
        assert_eq!(hash(), format!("{here:016x}\n"), "seed {seed}");
        assert_eq!(hash(), hash(), "seed {seed}");
    }
}

#[test]
fn a_seed_means_one_trace() {
    for seed in 10..16 {
        let options = Options { keep: true, print: false };
        let once = || run(seed, &Wanted::default(), &options);
        let (one, two) = (once(), once());
        for (number, (left, right)) in one.trace.iter().zip(&two.trace).enumerate() {
            assert_eq!(left, right, "seed {seed}, line {number}");
        }
        assert_eq!((one.hash, one.trace.len()), (two.hash, two.trace.len()), "seed {seed}");
    }
}
