//! The job that goes from Kafka to HDFS while it is killed: the lines as they came, and every count
//! that their first words come to, so that one that is lost, doubled or out of its order shows.

use std::process::ExitCode;

use gear_node::prelude::*;

/// A file can be read when it is closed.
const ROLL: Duration = seconds(2);

#[derive(clap::Args, Clone, Debug)]
struct Options {
    /// Brokers
    #[arg(long)]
    brokers: String,

    /// Topic to read
    #[arg(long)]
    from: String,

    /// Folder for the output, as hdfs://host:port/out
    #[arg(long)]
    out: String,
}

fn main() -> ExitCode {
    gear_node::main("kafka-hdfs", job)
}

fn job(app: &mut App<Options>) -> Result<()> {
    let Options { brokers, from, out } = app.options().clone();
    let lines = app.source("lines", kafka::source(&brokers, [from]).text()).fork();
    lines
        .clone()
        .sink("lines-out", hdfs::lines_sink::<Ref<str>>(format!("{out}/lines")).roll_after(ROLL));
    let counts = hdfs::sink::<(Ref<str>, u64)>(format!("{out}/counts"), write_count);
    lines
        .key_by_ref(|line| line.split('\t').next().unwrap_or_default())
        .count("counts")
        .updates()
        .sink("counts-out", counts.roll_after(ROLL));
    Ok(())
}

fn write_count((word, count): (&str, u64), out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{word}\t{count}\n").as_bytes());
}
