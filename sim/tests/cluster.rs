//! Whole clusters at volume, determinism, named scenarios, and seeds that have failed before.

mod common;

use std::process::Command;

use common::{checked, first_seed};
use sim::cluster::{FaultKind, Wanted, run};
use sim::report::{Ensemble, Options, Report, spread};
use sim::scenario::{self, Scenario};
use sim::sweep::{Limits, sweep};

/// Seeds of one run of the tests.
const SEEDS: u64 = 1_500;
/// Seeds of each named scenario.
const SCENARIO_SEEDS: u64 = 25;

#[test]
fn seeds_of_this_commit_are_right() {
    let first = first_seed();
    println!("seeds from {first}");
    let run = |seed| run(seed, &Wanted::default(), &Options::default());
    let all = sweep(first..first + SEEDS, &Limits::default(), run, |_| {});
    checked(&all);
    let all_kinds = sim::Faults::all().without_all(FaultKind::BROKERS);
    for kind in all_kinds.without_all(FaultKind::HDFS).kinds() {
        assert!(
            all.fired.contains_key(kind.name()),
            "{} never fired: {:?}",
            kind.name(),
            all.fired
        );
    }
    for state in RARE {
        assert!(all.rare.contains_key(state), "`{state}` was never reached: {:?}", all.rare);
    }
    println!("{:?}\n{:?}", all.fired, all.rare);
    for (name, times) in
        [("executor", &all.outages), ("machine", &all.blackouts), ("leader", &all.elections)]
    {
        let (clean, disturbed) = (spread(&times.clean), spread(&times.disturbed));
        println!("{name}: {clean:?} of {}, disturbed {disturbed:?}", times.clean.len());
    }
}

/// What so many seeds have to come across.
const RARE: &[&str] = &[
    "a dial was refused",
    "a leader stepped down",
    "a node voted that had not founded the cluster",
    "a voter left whose disk was lost",
    "a leader was lost while it wrote back",
    "a link was resumed with what it had kept",
    "a process died between two effects of one step",
    "a region went on while another one went back",
    "a stale answer was marked",
    "an app had ended before the user could end it",
    "an app master was lost",
    "an app master was lost before it heard of its record",
    "an app master was lost with a record on its way to the log",
    "an app was to be killed",
    "an app was to stop",
    "an app went back to its last epoch and runs again",
    "an epoch committed while all masters were down",
    "an epoch committed while two app masters were alive",
    "an epoch committed without a leader",
    "an epoch was given up, and a later one committed",
    "an executor was lost",
    "an executor was lost while tasks were rolled back",
    "the leader was lost",
    "the leader was lost while voters changed",
    "the store did what a dead process had asked for",
    "unanswered writes were lost with the power",
    "what ran on a drained worker has moved",
];

#[test]
fn scenarios_are_right() {
    let named = |scenario: &&Scenario| {
        !["embedded", "kafka-embedded", "cluster", "kafka", "hdfs", "turmoil"]
            .contains(&scenario.name)
    };
    for scenario in scenario::SCENARIOS.iter().filter(named) {
        let run = |seed| (scenario.run)(seed, &Wanted::default(), &Options::default());
        let all = sweep(0..SCENARIO_SEEDS, &Limits::default(), run, |_| {});
        checked(&all);
    }
}

#[test]
fn seeds_that_failed_stay_right() {
    let seeds = include_str!("../regressions-cluster.txt");
    for line in seeds.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let name = words.next().expect("a line begins with its scenario");
        let seed = words.next().and_then(|seed| seed.parse().ok()).expect("then comes its seed");
        let scenario = scenario::find(name).expect("the scenario is known");
        let report: Report = (scenario.run)(seed, &Wanted::default(), &Options::default());
        let mut all = Ensemble::default();
        all.add(report);
        checked(&all);
    }
}

#[test]
fn a_seed_means_one_trace() {
    for seed in 0..20 {
        let options = Options { keep: true, print: false };
        let once = || run(seed, &Wanted::default(), &options);
        let (one, two) = (once(), once());
        for (number, (left, right)) in one.trace.iter().zip(&two.trace).enumerate() {
            assert_eq!(left, right, "seed {seed}, line {number}");
        }
        assert_eq!((one.hash, one.trace.len()), (two.hash, two.trace.len()), "seed {seed}");
    }
}

#[test]
fn a_seed_means_one_trace_in_another_process() {
    let folder = tempfile::tempdir().expect("there is room for a trace");
    for seed in [1, 2, 3] {
        let traced = |name: &str| {
            let file = folder.path().join(name);
            let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
            let output = command.args(["--seed", &seed.to_string(), "--trace"]).arg(&file).output();
            let output = output.expect("the simulator starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            (std::fs::read(&file).expect("the trace is there"), output.stdout)
        };
        let (one, two) = (traced("one"), traced("two"));
        assert!(!one.0.is_empty());
        assert!(one == two, "seed {seed} means two traces");
    }
}
