//! One seed: what it did, and its trace.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use sim::cluster::Wanted;
use sim::report::{Options, Report};
use sim::scenario::Scenario;
use sim::shrink::shrink;

use super::args::Args;

/// More than a seed ever plans.
const PLANNED_MAX: usize = 32;
/// Runs that a shrinking takes at most.
const SHRINK_RUNS: u32 = 300;

/// Runs a seed.
pub(crate) fn run(scenario: &Scenario, seed: u64, args: &Args) -> ExitCode {
    let wanted = args.wanted();
    let print = args.trace.as_deref() == Some(Path::new("-"));
    let options = Options { print, keep: args.trace.is_some() && !print };
    let report = (scenario.run)(seed, &wanted, &options);
    if args.trace_hash {
        println!("{:016x}", report.hash);
        return ExitCode::SUCCESS;
    }
    if let Some(file) = args.trace.as_deref().filter(|_| !print)
        && let Err(error) = write(file, &report.trace)
    {
        eprintln!("{}: {error}", file.display());
        return ExitCode::from(2);
    }
    if args.json {
        println!("{}", super::table::json_of(&report));
    } else {
        show(&report);
    }
    if report.violations.is_empty() {
        return ExitCode::SUCCESS;
    }
    if args.shrink {
        smaller(scenario, seed, &wanted);
    }
    ExitCode::FAILURE
}

fn write(file: &Path, lines: &[String]) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    for line in lines {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// Tells of a run.
fn show(report: &Report) {
    println!("seed {}: {}", report.seed, report.about);
    println!(
        "{} events in {:?} simulated, {} processes replaced, {} epochs, {} rows",
        report.events, report.simulated, report.recoveries, report.epochs, report.records
    );
    println!("faults: {:?}\nrare: {:?}", report.fired, report.rare);
    if report.violations.is_empty() {
        println!("nothing is wrong");
        return;
    }
    report.violations.iter().for_each(|violation| println!("WRONG: {violation}"));
    println!("run it again: {}", report.command());
}

/// Shrinks a failing seed and shows what is left.
pub(crate) fn smaller(scenario: &Scenario, seed: u64, wanted: &Wanted) {
    if !scenario.shrinks {
        println!("nothing can be taken away from the scenario {}", scenario.name);
        return;
    }
    let run = |wanted: &Wanted| (scenario.run)(seed, wanted, &Options::default());
    if let Some((_, report)) = shrink(wanted, PLANNED_MAX, SHRINK_RUNS, &run) {
        println!("this is left of seed {seed}:");
        show(&report);
    }
}
