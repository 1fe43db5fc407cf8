//! The command line.

pub(crate) mod args;
mod many;
mod one;
mod table;

use std::process::ExitCode;

use sim::scenario;

use args::Args;

/// Does what was asked for.
pub(crate) fn run(args: &Args) -> ExitCode {
    let Some(scenario) = scenario::find(&args.scenario) else {
        eprintln!("there is no scenario `{}`; there are:", args.scenario);
        for scenario in scenario::SCENARIOS {
            eprintln!("  {:<24} {}", scenario.name, scenario.about);
        }
        return ExitCode::from(2);
    };
    match args.seed {
        Some(seed) => one::run(scenario, seed, args),
        None => many::run(scenario, args),
    }
}
