//! Many seeds: progress, and what they came to.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sim::report::Options;
use sim::scenario::Scenario;
use sim::sweep::{Limits, sweep};

use super::args::Args;
use super::table;

/// Runs the seeds.
pub(crate) fn run(scenario: &Scenario, args: &Args) -> ExitCode {
    let began = Instant::now();
    let wanted = args.wanted();
    let mut limits = Limits::default();
    limits.threads = args.threads.unwrap_or(limits.threads);
    limits.until = args.minutes.map(|minutes| began + Duration::from_secs_f64(minutes * 60.0));
    let count = args.count();
    let bar = bar(count, args.json);
    let run = |seed| (scenario.run)(seed, &wanted, &Options::default());
    let all = sweep(args.first_seed..args.first_seed + count, &limits, run, |report| {
        bar.inc(1);
        if !report.violations.is_empty() {
            bar.set_message("there are failures");
        }
    });
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    if args.json {
        println!("{}", table::json(scenario.name, &all, seconds));
    } else {
        print!("{}", table::text(scenario.name, &all, seconds));
    }
    // What failed fastest is the easiest to read.
    let first = all.failures.iter().min_by_key(|(_, failure)| failure.events);
    if let Some((seed, _)) = first.filter(|_| args.shrink) {
        super::one::smaller(scenario, *seed, &wanted);
    }
    if all.fired.is_empty() {
        eprintln!("WRONG: no fault fired in any run, so nothing was shown");
        return ExitCode::FAILURE;
    }
    if all.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn bar(count: u64, quiet: bool) -> ProgressBar {
    let bar = if count == u64::MAX { ProgressBar::new_spinner() } else { ProgressBar::new(count) };
    if quiet {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let template = "{elapsed_precise} {wide_bar} {pos}/{len} seeds, {per_sec}, {eta} {msg}";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
    bar
}
