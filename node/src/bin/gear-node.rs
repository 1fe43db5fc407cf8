//! The program that runs the nodes of a cluster, and asks them.

use std::process::ExitCode;

fn main() -> ExitCode {
    gear_node::cli::main()
}
