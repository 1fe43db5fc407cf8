//! The job that writes to Kafka while it is killed: numbers by key, in order.

use std::fmt;
use std::process::ExitCode;

use gear_node::prelude::*;
use gear_tests::kafka::setting;

/// Keys: each one's numbers come from one partition, in order.
const KEYS: u64 = 64;

#[derive(clap::Args, Clone)]
struct Options {
    /// Brokers
    #[arg(long)]
    brokers: String,

    /// Topic to write to
    #[arg(long)]
    topic: String,

    /// Records
    #[arg(long)]
    count: u64,

    /// Records a second
    #[arg(long)]
    rate: u64,

    /// Bytes of output in memory
    #[arg(long, default_value_t = 64 * 1_024 * 1_024)]
    output_memory: usize,

    /// Bytes of output that are kept and sent together
    #[arg(long)]
    segment: Option<usize>,

    /// A setting of the client, as NAME=VALUE
    #[arg(long, value_parser = setting)]
    set: Vec<(String, String)>,

    /// Bytes by which each value is longer
    #[arg(long, default_value_t = 0)]
    padding: usize,

    /// Which values are longer: each of so many
    #[arg(long, default_value_t = 1)]
    padded: u64,
}

impl fmt::Debug for Options {
    /// What tells this job from another one. The count does not: tests let one that has no end go
    /// on with an end; nor does how the output is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { brokers, topic, rate, padding, padded, .. } = self;
        f.debug_struct("Options")
            .field("brokers", brokers)
            .field("topic", topic)
            .field("rate", rate)
            .field("padding", padding)
            .field("padded", padded)
            .finish_non_exhaustive()
    }
}

fn main() -> ExitCode {
    gear_node::main("kafka-out", job)
}

fn job(app: &mut App<Options>) -> Result<()> {
    let Options { brokers, topic, count, rate, output_memory, segment, set, padding, padded } =
        app.options().clone();
    let sink =
        kafka::sink_with(brokers, topic, move |number: u64, record: &mut kafka::Outgoing| {
            record.key_text(format_args!("k{}", number % KEYS));
            let padding = if number.is_multiple_of(padded) { padding } else { 0 };
            record.value_text(format_args!("{}{:padding$}", number / KEYS, ""));
        });
    let mut sink = sink.memory_bytes(output_memory);
    if let Some(segment) = segment {
        sink = sink.segment_bytes(segment);
    }
    let sink = set.into_iter().fold(sink, |sink, (name, value)| sink.set(name, value));
    app.source("numbers", generate::from_fn(count, 2, |number| number).rate(rate))
        .sink("out", sink);
    Ok(())
}
