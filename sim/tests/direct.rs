//! Seeds at volume, determinism, and seeds that have failed before.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use sim::direct::{Options, Report, run};

const SEEDS: u64 = 10_000;
const THREADS: usize = 2;

fn check(report: &Report) {
    let violations = report.violations.join("\n  ");
    let (seed, command) = (report.seed, report.command());
    assert!(report.violations.is_empty(), "seed {seed}:\n  {violations}\nagain: {command}");
}

#[test]
fn ten_thousand_seeds_are_right() {
    let next = AtomicU64::new(0);
    let work = || {
        let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return counts;
            }
            let report = run(seed, &Options::default());
            check(&report);
            for (what, count) in report.fired.iter().chain(&report.rare) {
                *counts.entry(what).or_default() += count;
            }
        }
    };
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            for (what, count) in thread.join().expect("a seed failed, see above") {
                *counts.entry(what).or_default() += count;
            }
        }
    });
    // Every fault there is has to have fired, and every rare state to have been reached.
    for what in [
        "crash",
        "zombie",
        "stop",
        "straggler",
        "single turn",
        "store failure",
        "store reply lost",
        "store reply twice",
        "disk answer twice",
        "disk refuses",
        "unsynced bytes lost",
        "unsynced names lost",
        "unsettled renames lost",
        "superseded",
        "a zombie ended by itself",
    ] {
        assert!(counts.contains_key(what), "{what} never happened: {counts:?}");
    }
}

#[test]
fn seeds_that_failed_stay_right() {
    let seeds = include_str!("../regressions.txt");
    for line in seeds.lines().filter(|line| !line.starts_with('#')) {
        let seed = line.split_whitespace().next().expect("a line begins with its seed");
        check(&run(seed.parse().expect("a seed is a number"), &Options::default()));
    }
}

#[test]
fn a_seed_means_one_trace() {
    for seed in 0..150 {
        let options = Options { keep: true, print: false };
        let (one, two) = (run(seed, &options), run(seed, &options));
        for (number, (left, right)) in one.trace.iter().zip(&two.trace).enumerate() {
            assert_eq!(left, right, "seed {seed}, line {number}");
        }
        assert_eq!((one.hash, one.trace.len()), (two.hash, two.trace.len()), "seed {seed}");
    }
}

#[test]
fn a_seed_means_one_trace_in_another_process() {
    for seed in [3, 17, 577, 8_495] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
        let output = command
            .args(["--seed", &seed.to_string(), "--trace-hash", "--scenario", "embedded"])
            .output();
        let output = output.expect("the simulator starts");
        let hash = format!("{:016x}\n", run(seed, &Options::default()).hash);
        assert_eq!(String::from_utf8_lossy(&output.stdout), hash, "seed {seed}");
    }
}
