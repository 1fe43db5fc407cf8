//! The records of Kafka topics as lines of files on HDFS,
//! `topic<TAB>partition<TAB>offset<TAB>key<TAB>value`, each exactly once.
//!
//! `cargo run --release -p gear-node --features kafka,hdfs --example kafka_hdfs -- --brokers
//! 127.0.0.1:9092 --topic clicks --out hdfs://127.0.0.1:8020/clicks`
//!
//! It goes on until it is stopped, or with `--until-end` to where the topics end now. A file can be
//! seen when it is closed, which is once a minute or when it is large.

use std::process::ExitCode;
use std::time::SystemTime;

use gear_node::prelude::*;

/// What the job can be told.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The brokers, as host:port,host:port
    #[arg(long, value_name = "BROKERS")]
    pub brokers: String,

    /// A topic; may be given more than once
    #[arg(long, value_name = "TOPIC", required = true)]
    pub topic: Vec<String>,

    /// Folder for the lines, as hdfs://host:port/out
    #[arg(long, value_name = "URL")]
    pub out: String,

    /// Begin with the first record at or after this time, as in 2026-11-20T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_rfc3339)]
    pub since: Option<SystemTime>,

    /// Read to where the topics end when the job starts, and end
    #[arg(long)]
    pub until_end: bool,

    /// Time after which a file is closed
    #[arg(long, value_name = "TIME", default_value = "1m")]
    #[arg(value_parser = humantime::parse_duration)]
    pub roll_after: Duration,
}

fn main() -> ExitCode {
    gear_node::main("kafka-hdfs", job)
}

/// Writes what it reads.
pub fn job(app: &mut App<Options>) -> Result<()> {
    let Options { brokers, topic, out, since, until_end, roll_after } = app.options().clone();
    let start = since.map_or(kafka::Start::Earliest, kafka::Start::from);
    let mut source = kafka::source(brokers, topic).from(start);
    if until_end {
        source = source.until_end();
    }
    let files = hdfs::sink::<kafka::Message<'static>>(out, write_line).suffix(".tsv");
    app.source("records", source).sink("files", files.roll_after(roll_after));
    Ok(())
}

fn write_line(message: kafka::Message<'_>, out: &mut Vec<u8>) {
    let kafka::Message { topic, partition, offset, key, value, .. } = message;
    out.extend_from_slice(format!("{topic}\t{partition}\t{offset}\t").as_bytes());
    out.extend_from_slice(key.unwrap_or_default());
    out.push(b'\t');
    out.extend_from_slice(value.unwrap_or_default());
    out.push(b'\n');
}
