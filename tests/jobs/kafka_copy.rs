//! The job that copies records from Kafka to Kafka while it is measured: as little as there can be
//! between the two.

use std::process::ExitCode;

use gear_node::prelude::*;

#[derive(clap::Args, Clone, Debug)]
struct Options {
    /// Brokers
    #[arg(long)]
    brokers: String,

    /// Topic to read
    #[arg(long)]
    from: String,

    /// Topic to write to
    #[arg(long)]
    to: String,
}

fn main() -> ExitCode {
    gear_node::main("kafka-copy", job)
}

fn job(app: &mut App<Options>) -> Result<()> {
    let Options { brokers, from, to } = app.options().clone();
    app.source("records", kafka::source(&brokers, [from]).bytes())
        .sink("out", kafka::sink::<Ref<[u8]>>(brokers, to));
    Ok(())
}
