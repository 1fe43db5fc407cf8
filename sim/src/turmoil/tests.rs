//! The scaffolding over toy processes.

use std::collections::BTreeMap;
use std::process::Command;
use std::rc::Rc;

use gear_core::time::{Duration, Time};

use super::stage::Stage;
use super::toy::Toys;
use crate::cluster::{FaultKind, Faults, Setup, Wanted};
use crate::random::Random;
use crate::trace::Trace;

/// What a run of toys came to.
#[derive(Debug)]
struct Outcome {
    hash: u64,
    events: u64,
    simulated: Duration,
    fired: BTreeMap<&'static str, u64>,
    rare: BTreeMap<&'static str, u64>,
    violations: Vec<String>,
}

/// Toys keep on their disks what nobody can give them again.
fn faults() -> Faults {
    let spoilt = [FaultKind::WipeDisk, FaultKind::SwapDisks, FaultKind::RotDisk];
    spoilt.iter().fold(Faults::all(), |faults, kind| faults.without(*kind))
}

fn setup(seed: u64, masters: usize, faults: Faults) -> Setup {
    let wanted = Wanted {
        masters: Some(masters),
        workers: Some(0),
        faults: Some(faults),
        ..Wanted::default()
    };
    Setup::draw(seed, 1, &wanted)
}

const SEEDS: u64 = 60;
/// Numbers that everybody of the core has to get acknowledged once it is healed.
const MORE: u64 = 5;
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

fn play(setup: Setup, hasty: bool, print: bool) -> Outcome {
    let toys = Toys { hasty, ..Toys::default() };
    let progress = Rc::clone(&toys.progress);
    let (masters, majority, patience) = (setup.masters, setup.majority(), setup.patience);
    let (safety, quiet) = (Time::ZERO + setup.safety, setup.quiet);
    let mut random = Random::for_part(setup.seed, 125);
    let trace = Trace::new(false, print);
    let mut stage = Stage::new(Rc::new(setup), &toys, &toys, trace);
    stage.run_until(safety + quiet);
    let mut core: Vec<usize> = (0..masters).collect();
    while core.len() > majority {
        core.remove(random.place(core.len()));
    }
    stage.heal_only(&core, random.permille(500));
    let before = progress.borrow().clone();
    let pairs: Vec<(u64, u64)> = core
        .iter()
        .flat_map(|from| {
            let from = *from as u64 + 1;
            let others = core.iter().map(|to| *to as u64 + 1).filter(move |to| *to != from);
            others.chain([u64::MAX]).map(move |to| (from, to))
        })
        .collect();
    let grown = |progress: &BTreeMap<(u64, u64), u64>, pair: &(u64, u64)| {
        progress.get(pair).copied().unwrap_or(0) - before.get(pair).copied().unwrap_or(0)
    };
    let mut live = false;
    let until = stage.now() + patience;
    while !live && stage.now() < until && !stage.is_wrong() {
        stage.run_until(stage.now() + LOOK_INTERVAL);
        live = pairs.iter().all(|pair| grown(&progress.borrow(), pair) >= MORE);
    }
    let simulated = stage.now().since(Time::ZERO);
    let state = &mut *stage.shared.state.borrow_mut();
    if !live && state.violations.is_empty() {
        let slow: Vec<_> = pairs.iter().map(|it| (it, grown(&progress.borrow(), it))).collect();
        state.violations.push(format!("liveness: {core:?} {slow:?}"));
    }
    Outcome {
        hash: state.trace.hash(),
        events: state.events,
        simulated,
        fired: std::mem::take(&mut state.fired),
        rare: std::mem::take(&mut state.rare),
        violations: std::mem::take(&mut state.violations),
    }
}

#[test]
fn numbers_arrive_in_order_whatever_happens() {
    let mut fired: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..SEEDS {
        let outcome = play(setup(seed, [1, 3, 3, 5][seed as usize % 4], faults()), false, false);
        assert!(outcome.violations.is_empty(), "seed {seed}: {:?}", outcome.violations);
        for (what, count) in outcome.fired.iter().chain(&outcome.rare) {
            *fired.entry(what).or_default() += count;
        }
    }
    let gone = [FaultKind::WipeDisk, FaultKind::SwapDisks, FaultKind::RotDisk];
    // There are no leaders and no app masters among toys, nobody commands them, nothing is written
    // to files, and no system outside is read or written.
    let others = [
        FaultKind::KillLeader,
        FaultKind::KillAppMaster,
        FaultKind::AmbushLeader,
        FaultKind::AmbushAppMaster,
        FaultKind::AmbushExecutor,
        FaultKind::AmbushElection,
        FaultKind::AmbushLink,
        FaultKind::HoldBackLeader,
        FaultKind::DeposeLeader,
        FaultKind::CutOffAppMaster,
        FaultKind::ZombieIo,
        FaultKind::SlowIo,
        FaultKind::Resubmit,
    ];
    let outside = [FaultKind::BROKERS, FaultKind::HDFS].concat();
    let absent = [&gone[..], &others, FaultKind::COMMANDS, &outside].concat();
    for kind in FaultKind::ALL.iter().filter(|kind| !absent.contains(kind)) {
        assert!(fired.contains_key(kind.name()), "{} never happened", kind.name());
    }
    for what in [
        "a process died between two effects of one step",
        "a node died with unanswered writes to its disk",
        "unanswered writes were lost with the power",
        "the store did what a dead process had asked for",
    ] {
        assert!(fired.contains_key(what), "{what} never happened: {fired:?}");
    }
}

#[test]
fn an_acknowledgement_before_the_disk_has_answered_is_found() {
    let faults = Faults::only(&[FaultKind::PowerLoss, FaultKind::SlowDisk]);
    let found = (0..40).find(|seed| {
        let outcome = play(setup(*seed, 3, faults), true, false);
        outcome.violations.iter().any(|violation| violation.contains("behind"))
    });
    assert!(found.is_some());
}

#[test]
fn a_seed_means_one_trace() {
    for seed in 0..6 {
        let one = play(setup(seed, 3, faults()), false, false);
        let two = play(setup(seed, 3, faults()), false, false);
        assert_eq!((one.hash, one.events), (two.hash, two.events), "seed {seed}");
    }
}

/// Asks this test, run as a process of its own, for the hash of a seed.
const SEED: &str = "GEAR_SIM_TOY_SEED";

#[test]
fn a_seed_means_one_trace_in_another_process() {
    if let Ok(seed) = std::env::var(SEED) {
        let seed = seed.parse().expect("a seed is a number");
        println!("hash {:016x}", play(setup(seed, 5, faults()), false, false).hash);
        return;
    }
    for seed in [2, 5, 11] {
        let hash = || {
            let name = "turmoil::tests::a_seed_means_one_trace_in_another_process";
            let output = Command::new(std::env::current_exe().expect("the test is a program"))
                .args(["--exact", name, "--nocapture"])
                .env(SEED, seed.to_string())
                .output()
                .expect("the test can be run again");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = text.lines().find_map(|line| line.split("hash ").nth(1));
            line.unwrap_or_else(|| panic!("no hash in {text}")).to_owned()
        };
        assert_eq!(hash(), hash(), "seed {seed}");
    }
}

#[test]
fn a_calm_cluster_is_simulated_many_times_faster_than_it_would_run() {
    let began = std::time::Instant::now();
    let calm = Setup { safety: Duration::from_secs(60), ..setup(1, 7, Faults::none()) };
    let outcome = play(calm, false, false);
    let ratio = outcome.simulated.as_secs_f64() / began.elapsed().as_secs_f64();
    println!("{:?} at {ratio:.0} times real time, {} events", outcome.simulated, outcome.events);
    assert!(outcome.violations.is_empty());
    // Other tests may have the processor: alone it is some forty times.
    assert!(ratio > 1.0, "it runs at {ratio:.1} times real time");
}
