//! Jobs from Kafka to Kafka at volume, on whole clusters and in one process.

mod common;

use common::{checked, first_seed};
use sim::cluster::{FaultKind, Wanted, run_topics};
use sim::direct;
use sim::report::Options;
use sim::sweep::{Limits, sweep};

/// Seeds of one run of the tests.
const SEEDS: u64 = 400;
/// Seeds of one process of one run.
const EMBEDDED_SEEDS: u64 = 1_000;

/// What retention meets: a job that is ahead of it, and one that is behind.
const RETENTION: [&str; 2] =
    ["retention removed only what an epoch had read", "retention removed what no epoch had read"];
/// What a job has chosen that meets it: each is too rare for so few seeds, one of them is not.
const GONE: [&str; 3] = [
    "a job failed whose position is gone",
    "a source whose position is gone went on with the first record",
    "a source whose position is gone went on at the end",
];

#[test]
fn seeds_of_this_commit_are_right() {
    let first = first_seed();
    println!("seeds from {first}");
    let run = |seed| run_topics(seed, &Wanted::default(), &Options::default());
    let all = sweep(first..first + SEEDS, &Limits::default(), run, |_| {});
    checked(&all);
    for kind in FaultKind::BROKERS {
        let name = kind.name();
        assert!(all.fired.contains_key(name), "{name} never fired: {:?}", all.fired);
    }
    let gone = GONE.iter().any(|what| all.rare.contains_key(what));
    assert!(gone, "no position was gone: {:?}", all.rare);
    for what in RETENTION.into_iter().chain(["a partition turned up"]) {
        assert!(all.rare.contains_key(what), "{what} never happened: {:?}", all.rare);
    }
    println!("{:?}\n{:?}", all.fired, all.rare);
}

#[test]
fn seeds_in_one_process_are_right() {
    let first = first_seed();
    println!("seeds from {first}");
    let run = |seed| direct::run_topics(seed, &Options::default());
    let all = sweep(first..first + EMBEDDED_SEEDS, &Limits::default(), run, |_| {});
    checked(&all);
    let turned_up = all.fired.get("a partition turned up");
    assert!(turned_up.is_some(), "no partition turned up: {:?}", all.fired);
    let gone = GONE.iter().any(|what| all.rare.contains_key(what));
    assert!(gone, "no position was gone: {:?}", all.rare);
    for what in RETENTION {
        assert!(all.rare.contains_key(what), "{what} never happened: {:?}", all.rare);
    }
    println!("{:?}\n{:?}", all.fired, all.rare);
}

#[test]
fn a_seed_means_one_trace() {
    for seed in 0..10 {
        let options = Options { keep: true, print: false };
        let once = || run_topics(seed, &Wanted::default(), &options);
        let (one, two) = (once(), once());
        for (number, (left, right)) in one.trace.iter().zip(&two.trace).enumerate() {
            assert_eq!(left, right, "seed {seed}, line {number}");
        }
        assert_eq!((one.hash, one.trace.len()), (two.hash, two.trace.len()), "seed {seed}");
    }
}
