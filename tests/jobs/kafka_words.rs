//! The job that counts words from Kafka to Kafka while it is killed: every count that a word comes
//! to is a record of its own, so that one that is lost, doubled or out of its order shows.

use std::process::ExitCode;

use gear_node::prelude::*;

/// The variable with the password of the user: what is an argument is written down with the job.
const PASSWORD: &str = "SASL_PASSWORD";
/// The one with which the sink comes, if it is another.
const SINK_PASSWORD: &str = "SASL_SINK_PASSWORD";

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

    /// End where the topic ends at the start
    #[arg(long)]
    until_end: bool,

    /// User whose password is in the environment as SASL_PASSWORD
    #[arg(long)]
    user: Option<String>,

    /// Certificate that the brokers' ones are signed by: over TLS, and the password is not said
    #[arg(long, requires = "user")]
    tls_ca: Option<String>,
}

fn main() -> ExitCode {
    gear_node::main("kafka-words", job)
}

fn job(app: &mut App<Options>) -> Result<()> {
    let Options { brokers, from, to, until_end, user, tls_ca } = app.options().clone();
    let mut words = kafka::source(&brokers, [from]);
    let mut counts = kafka::sink::<(Ref<str>, u64)>(brokers, to);
    if let Some(user) = user {
        let password = std::env::var(PASSWORD)?;
        let sink_password = std::env::var(SINK_PASSWORD).unwrap_or_else(|_| password.clone());
        let (protocol, mechanism) = match &tls_ca {
            Some(_) => ("SASL_SSL", "SCRAM-SHA-256"),
            None => ("SASL_PLAINTEXT", "PLAIN"),
        };
        let plain = [
            ("security.protocol", protocol),
            ("sasl.mechanism", mechanism),
            ("sasl.username", &user),
        ];
        let authority = tls_ca.as_ref().map(|file| ("ssl.ca.location", file.as_str()));
        for (name, value) in plain.into_iter().chain(authority) {
            words = words.set(name, value);
            counts = counts.set(name, value);
        }
        words = words.set("sasl.password", password);
        counts = counts.set("sasl.password", sink_password);
    }
    if until_end {
        words = words.until_end();
    }
    app.source("words", words.text())
        .key_by_ref(|word| *word)
        .count("counts")
        .updates()
        .sink("out", counts);
    Ok(())
}
