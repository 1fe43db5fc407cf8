//! Runs seeds of the direct simulator: `--seed N [--trace | --trace-hash]`, or
//! `--first-seed S --seeds N`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use sim::direct::{Config, Options, Report, run};

/// Seeds between two lines of progress.
const PROGRESS: u64 = 2_000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let place = args.iter().position(|arg| arg == name)?;
        args.get(place + 1)?.parse::<u64>().ok()
    };
    let has = |name: &str| args.iter().any(|arg| arg == name);
    match (number("--seed"), number("--seeds")) {
        (Some(seed), _) => one(seed, has("--trace"), has("--trace-hash")),
        (None, Some(seeds)) => many(number("--first-seed").unwrap_or(0), seeds),
        (None, None) => {
            eprintln!("usage: sim --seed N [--trace | --trace-hash]");
            eprintln!("       sim --seeds N [--first-seed S]");
            ExitCode::from(2)
        }
    }
}

fn one(seed: u64, print: bool, hash: bool) -> ExitCode {
    let report = run(seed, &Options { print, keep: false });
    if hash {
        println!("{:016x}", report.hash);
        return ExitCode::SUCCESS;
    }
    println!("seed {seed}: {}", Config::draw(seed).plan.describe());
    println!(
        "{} events, {} processes after the first, {} epochs, {} rows",
        report.events, report.recoveries, report.epochs, report.records
    );
    println!("faults: {:?}\nrare: {:?}", report.fired, report.rare);
    verdict(&report)
}

fn verdict(report: &Report) -> ExitCode {
    if report.violations.is_empty() {
        println!("nothing is wrong");
        return ExitCode::SUCCESS;
    }
    report.violations.iter().for_each(|violation| println!("WRONG: {violation}"));
    println!("run it again: {}", report.command());
    ExitCode::FAILURE
}

fn many(first: u64, seeds: u64) -> ExitCode {
    let began = Instant::now();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut events, mut epochs, mut rows, mut recoveries, mut wrong) = (0, 0, 0, 0, 0_u64);
    for seed in first..first.saturating_add(seeds) {
        let report = run(seed, &Options::default());
        events += report.events;
        epochs += report.epochs;
        rows += report.records;
        recoveries += report.recoveries;
        for (what, count) in report.fired.iter().chain(&report.rare) {
            *counts.entry(what).or_default() += count;
        }
        if !report.violations.is_empty() {
            wrong += 1;
            println!("seed {seed}: {}", Config::draw(seed).plan.describe());
            verdict(&report);
        }
        let done = seed - first + 1;
        if done.is_multiple_of(PROGRESS) {
            eprintln!("{done} of {seeds} seeds, {wrong} wrong");
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{seeds} seeds in {seconds:.1} s, {wrong} wrong");
    println!("{events} events, {:.0} a second on one core", events as f64 / seconds);
    println!("{recoveries} processes after the first, {epochs} epochs, {rows} rows");
    counts.iter().for_each(|(what, count)| println!("{count:>10}  {what}"));
    if counts.is_empty() {
        println!("WRONG: no fault fired in any run");
        return ExitCode::FAILURE;
    }
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
