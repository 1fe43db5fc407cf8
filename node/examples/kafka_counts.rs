//! Counts words per minute, from a Kafka topic to another, each record exactly once.
//!
//! `cargo run --release -p gear-node --features kafka --example kafka_counts -- --brokers
//! 127.0.0.1:9092 --from posts --since 2026-11-20T08:00:00Z`
//!
//! It reads posts, `{"at": "2026-11-20T08:00:01Z", "text": "to be or not to be"}`, and begins with
//! the first one that Kafka has had since a time. A count has the word as its key, and the begin of
//! its minute and the number as its value. A minute is over when all partitions have come five
//! seconds further, or are silent for ten; a word that comes within another five minutes corrects
//! its count. What comes later still goes to a topic of its own, and so does what is no post, with
//! the reason in its headers.
//!
//! It goes on until it is stopped, and started again it goes on from its last epoch.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use gear_node::prelude::*;
use serde::de::{Deserialize, Deserializer, Error as _};

/// What the job can be told.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The brokers, as host:port,host:port
    #[arg(long, value_name = "BROKERS")]
    pub brokers: String,

    /// The topic with the posts
    #[arg(long, value_name = "TOPIC", default_value = "posts")]
    pub from: String,

    /// The topic for the counts
    #[arg(long, value_name = "TOPIC", default_value = "counts")]
    pub to: String,

    /// The topic for words that came too late
    #[arg(long, value_name = "TOPIC", default_value = "late")]
    pub late: String,

    /// The topic for what is no post
    #[arg(long, value_name = "TOPIC", default_value = "dead")]
    pub dead: String,

    /// Begin with the first record at or after this time, as in 2026-11-20T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_rfc3339)]
    pub since: Option<SystemTime>,
}

/// What somebody has said.
#[derive(Clone, Debug, serde::Deserialize, PartialEq, Eq, Record)]
pub struct Post {
    /// When.
    #[serde(deserialize_with = "rfc3339")]
    pub at: EventTime,
    /// What.
    pub text: String,
}

fn main() -> ExitCode {
    gear_node::main("kafka-counts", job)
}

/// Words per minute.
pub fn job(app: &mut App<Options>) -> Result<()> {
    let Options { brokers, from, to, late, dead, since } = app.options().clone();
    let start = since.map_or(kafka::Start::Earliest, kafka::Start::from);
    let (posts, refused) = app
        .source("records", kafka::source(&brokers, [from]).from(start))
        .try_map::<Post, _, _>("parse", |record| json::decode(record.value.unwrap_or_default()))
        .dead_letters();
    refused.sink("dead", kafka::sink(&brokers, dead));
    let counts = posts
        .event_time("time", |post| post.at)
        .watermarks(Watermarks::bounded(seconds(5)).idle_after(seconds(10)))
        .flat_map::<String, _>("split", |post, words| {
            post.text.split_whitespace().for_each(|word| words.push(word.to_owned()));
        })
        .key_by(|word| word.clone())
        .window(Tumbling::of(minutes(1)).allowed_lateness(minutes(5)))
        .count("per-minute");
    // Their time is when they were said, as it is of all records that no other is given.
    counts.late().sink("late", kafka::sink::<String>(&brokers, late));
    counts.sink(
        "counts",
        kafka::sink_with::<(String, Window, u64)>(brokers, to, |(word, window, count), record| {
            record.key(word);
            record.value_text(format_args!("{} {count}", shown(window.start)));
        }),
    );
    Ok(())
}

/// A time of the years 1970 to 9999, as in 2026-11-20T08:00:00Z.
fn rfc3339<'de, D: Deserializer<'de>>(text: D) -> Result<EventTime, D::Error> {
    let at = humantime::parse_rfc3339(&String::deserialize(text)?).map_err(D::Error::custom)?;
    let since = at.duration_since(UNIX_EPOCH).map_err(D::Error::custom)?;
    i64::try_from(since.as_micros()).map(EventTime).map_err(D::Error::custom)
}

fn shown(at: EventTime) -> impl std::fmt::Display {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_micros(at.0.unsigned_abs()))
}
