//! The job that counts words from Kafka to Kafka while it is killed: every count that a word comes
//! to is a record of its own, so that one that is lost, doubled or out of its order shows.

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
    gear_node::main("kafka-words", job)
}

fn job(app: &mut App<Options>) -> Result<()> {
    let Options { brokers, from, to } = app.options().clone();
    app.source("words", kafka::source(&brokers, [from]).text())
        .key_by_ref(|word| *word)
        .count("counts")
        .updates()
        .sink("out", kafka::sink::<(Ref<str>, u64)>(brokers, to));
    Ok(())
}
