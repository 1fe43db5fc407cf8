//! What the tests at volume have in common: their seeds, and how failures are told.

use std::process::Command;

use sim::report::Ensemble;

/// The first of the seeds: another with each commit, and the same for one commit.
pub(crate) fn first_seed() -> u64 {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output();
    let commit = output.ok().filter(|output| output.status.success());
    let commit = commit.and_then(|output| String::from_utf8(output.stdout).ok());
    let number = commit.and_then(|text| u64::from_str_radix(text.get(..8)?, 16).ok());
    number.map_or(1_000_000, |number| number * 10_000)
}

/// Panics if a seed failed, with what was wrong and how to run it again.
pub(crate) fn checked(all: &Ensemble) {
    let failures: Vec<String> = all
        .failures
        .iter()
        .map(|(seed, failure)| {
            let wrong = failure.violations.join("\n  ");
            format!("seed {seed}: {}\n  {wrong}\nagain: {}", failure.about, failure.command)
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
