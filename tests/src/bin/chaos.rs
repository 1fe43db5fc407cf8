//! Chaos on real processes for as long as one likes, and how long it takes to recover.
//!
//! `cargo run -p gear-tests --bin chaos -- --minutes 30 --seed 7`

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use gear_tests::chaos::Chaos;
use gear_tests::chaos::measure::Bench;
use gear_tests::programs::programs;

/// Runs a cluster of real processes, hurts it by a plan that follows from a seed, and compares what
/// its job leaves with the simulator's reference model.
#[derive(Parser)]
struct Options {
    /// Minutes of faults
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,

    /// What the plan follows from; a new one each time unless given
    #[arg(long)]
    seed: Option<u64>,

    /// Runs with seeds one behind the other
    #[arg(long, default_value_t = 1)]
    runs: u64,

    /// Nodes, of which three are masters
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(4..))]
    nodes: u64,

    /// Records of each of the job's two sources in a second
    #[arg(long, default_value_t = 500)]
    rate: u64,

    /// Measures recovery so many times instead
    #[arg(long, value_name = "TIMES", num_args = 0..=1, default_missing_value = "5")]
    measure: Option<usize>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let built = programs(&[], &["node_program", "job_chaos"]);
    let Some([node, job]) = built.as_deref() else { return ExitCode::FAILURE };
    if let Some(times) = options.measure {
        let mut bench = Bench::start(node, job);
        println!("{}", bench.leader(times));
        println!("{}", bench.executor(times));
        println!("{}", bench.worker(times));
        return ExitCode::SUCCESS;
    }
    let first = options.seed.unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    });
    for seed in first..first + options.runs.max(1) {
        let lasts = Duration::from_secs_f64(options.minutes.max(0.1) * 60.0);
        let chaos = Chaos {
            nodes: options.nodes as usize,
            rate: options.rate,
            ..Chaos::new(node, job, seed, lasts)
        };
        let report = chaos.run();
        println!("{report}");
        if !report.is_good() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
