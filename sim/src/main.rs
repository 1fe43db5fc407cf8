//! Runs seeds of the simulator: `sim --help` says how.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    cli::run(&cli::args::Args::parse())
}
