//! JSON lines in, counts per minute out, and what is no event in a folder of its own.
//!
//! ```sh
//! printf '%s\n' '{"at":1,"kind":"click"}' '{"at":2,"kind":"click"}' 'no json' > events.json
//! cargo run --release -p gear-node --example json_events -- events.json
//! cat out/json_events/*/part-*
//! ```
//!
//! A line that does not decode becomes a dead letter, with the reason and the place in the line. It
//! is output like any other: each is there once, whatever fails.

use std::process::ExitCode;

use gear_node::prelude::*;
use serde::{Deserialize, Serialize};

/// What the job can be told.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Files, folders or globs with one event a line
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<String>,

    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "out/json_events")]
    pub out: String,
}

/// Something that happened. More fields may be there.
#[derive(Clone, Debug, Deserialize, PartialEq, Record)]
pub struct Event {
    /// Seconds since 1970.
    pub at: i64,
    /// What it was.
    pub kind: String,
}

/// How often it happened in a minute.
#[derive(Clone, Debug, PartialEq, Record, Serialize)]
pub struct Count {
    /// What.
    pub kind: String,
    /// The minute's begin, in seconds since 1970.
    pub from: i64,
    /// How often.
    pub count: u64,
}

fn main() -> ExitCode {
    gear_node::main("json-events", job)
}

/// Counts events of each kind per minute.
pub fn job(app: &mut App<Options>) -> Result<()> {
    let Options { paths, out } = app.options().clone();
    let (events, refused) = app
        .source("lines", files::bytes_source(paths))
        .try_map::<Event, _, _>("parse", |line| json::decode(line))
        .dead_letters();
    let letters =
        files::sink::<DeadLetter<'_>>(format!("{out}/refused"), json::lines::<DeadLetter<'_>>());
    refused.sink("refused", letters.suffix(".json"));
    events
        .event_time("time", |event| EventTime::from_seconds(event.at))
        .watermarks(Watermarks::bounded(seconds(30)).idle_after(seconds(30)))
        .key_by(|event| event.kind.clone())
        .window(Tumbling::of(minutes(1)))
        .count("per-minute")
        .map("count", |(kind, window, count): (String, Window, u64)| Count {
            kind,
            from: window.start.0.div_euclid(1_000_000),
            count,
        })
        .sink(
            "counts",
            files::sink::<Count>(format!("{out}/counts"), json::lines::<Count>()).suffix(".json"),
        );
    Ok(())
}
