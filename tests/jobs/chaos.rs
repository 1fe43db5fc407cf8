//! The job that runs while its cluster is in trouble.

use std::process::ExitCode;

use gear_tests::chaos::job::{NAME, job};

fn main() -> ExitCode {
    gear_node::main(NAME, job)
}
