//! The program that runs the nodes of a cluster.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gear_node::server::{self, StartOptions};

/// Runs and asks the nodes of a Gear cluster.
#[derive(Parser)]
#[command(name = "gear-node", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a node
    Start(Box<StartOptions>),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Start(options) => server::start(*options),
    }
}
