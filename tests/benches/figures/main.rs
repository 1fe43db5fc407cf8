//! The figures that Gear promises, each measured beside its reference in the same run.
//!
//! `cargo bench -p gear-benches --bench figures [-- NAME...] [--json] [--rounds N] [--cpu]
//! [--alone] [--list]`
//!
//! `FIGURES_RECORDS` in the environment is how many records the rows of two processes have, for a
//! quick try.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

mod allocations;
mod chain;
mod idle;
mod jobs;
mod keyed;
mod latency;
mod link;
mod row;
mod simulator;
mod state;
mod table;
mod text;
mod threads;
mod wire;
mod words;

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use row::Row;

/// Counts, for the rows about memory; costs the others two additions per allocation.
#[global_allocator]
static COUNTED: allocations::Counted = allocations::Counted;

/// All rows, in the order of the table. A group is one file, and one line here.
fn rows() -> Vec<Row> {
    let groups = [
        words::rows(),
        keyed::rows(),
        chain::rows(),
        threads::rows(),
        latency::rows(),
        idle::rows(),
        link::rows(),
        state::rows(),
        allocations::rows(),
        wire::rows(),
        simulator::rows(),
    ];
    groups.into_iter().flatten().collect()
}

/// What the command line asks for.
struct Wish {
    names: Vec<String>,
    json: bool,
    rounds: usize,
    /// Without the references.
    alone: bool,
    list: bool,
}

fn main() -> ExitCode {
    let mut wish = Wish { names: Vec::new(), json: false, rounds: 5, alone: false, list: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What cargo adds for harnesses.
            "--bench" => {}
            "--json" => wish.json = true,
            "--cpu" => jobs::BY_CPU.store(true, Ordering::Relaxed),
            "--alone" => wish.alone = true,
            "--list" => wish.list = true,
            "--rounds" => {
                let rounds = arguments.next().and_then(|number| number.parse().ok());
                wish.rounds = rounds.expect("--rounds N, a number above 0");
            }
            idle::CHILD => return idle::child(),
            wire::CHILD => return wire::child(&arguments.collect::<Vec<_>>()),
            _ => wish.names.push(argument),
        }
    }
    let wanted = |row: &Row| {
        wish.names.is_empty() || wish.names.iter().any(|name| row.name.contains(name.as_str()))
    };
    let rows: Vec<Row> = rows().into_iter().filter(wanted).collect();
    if wish.list {
        rows.iter().for_each(|row| println!("{}", row.name));
        return ExitCode::SUCCESS;
    }
    if !wish.json {
        println!("{}", table::head());
    }
    for row in rows {
        let result = row.measure(wish.rounds, wish.alone);
        println!("{}", if wish.json { table::json(&result) } else { table::line(&result) });
    }
    ExitCode::SUCCESS
}
