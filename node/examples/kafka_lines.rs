//! The records of Kafka topics as lines of files, `partition<TAB>offset<TAB>value`, each exactly
//! once.
//!
//! `cargo run --release -p gear-node --features kafka --example kafka_lines -- --brokers
//! 127.0.0.1:9092 --topic events --since 2026-11-20T08:00:00Z`
//!
//! It goes on until it is stopped, and started again it goes on from its last epoch. Partitions
//! that are added while it runs are read too.

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

    /// Begin with the first record at or after this time, as in 2026-11-20T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_rfc3339)]
    pub since: Option<SystemTime>,

    /// Folder for the lines
    #[arg(long, value_name = "DIR", default_value = "out/kafka_lines")]
    pub out: String,
}

fn main() -> ExitCode {
    gear_node::main("kafka-lines", job)
}

/// Writes what it reads.
pub fn job(app: &mut App<Options>) -> Result<()> {
    let Options { brokers, topic, since, out } = app.options().clone();
    let start = since.map_or(kafka::Start::Earliest, kafka::Start::from);
    let source = kafka::source(brokers, topic).from(start).discover_every(seconds(5));
    let lines = files::sink::<kafka::Message<'static>>(out, |message, out| {
        out.extend_from_slice(format!("{}\t{}\t", message.partition, message.offset).as_bytes());
        out.extend_from_slice(message.value.unwrap_or_default());
        out.push(b'\n');
    });
    // A file can be read when it is closed.
    app.source("records", source).sink("lines", lines.suffix(".tsv").roll_after(seconds(1)));
    Ok(())
}
