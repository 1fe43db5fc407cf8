//! How fast the transactional Kafka sink writes, beside a bare producer with the same settings that
//! commits as often.
//!
//! `cargo run --release -p gear-tests --features services --bin kafka_write`
//!
//! Both write the same records, each to a topic of its own, in turn; the time is from the making of
//! the client, or of the job, until the last record is committed. What was written is counted by a
//! consumer that reads committed records only. The first round warms the broker.
//!
//! The processor time is that of this process and of the broker. On a machine whose processors are
//! taken away by others now and then, its ratio says more than that of the rates.

use std::fmt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use gear_connectors::kafka::ClientSettings;
use gear_core::dsl::Settings;
use gear_node::RuntimeOptions;
use gear_node::prelude::{App, Result, generate, kafka};
use gear_tests::kafka::{Broker, Transactions, consumer, median, read, setting};
use gear_tests::watchdog::watch;
use tempfile::TempDir;

/// Bytes of a record's value.
const RECORD_BYTES: usize = 100;
/// KiB of records that wait or are under way for each partition: three batches and a half.
const QUEUE_KIB: u64 = 3_418;
/// Longer than any run takes.
const BOUND: Duration = Duration::from_secs(1_800);

/// What can be told.
#[derive(Debug, Parser)]
struct Arguments {
    /// Brokers that run; without it one is started
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,

    /// Records that are written
    #[arg(long, value_name = "N", default_value_t = 4_000_000)]
    records: u64,

    /// Partitions of a topic
    #[arg(long, value_name = "N", default_value_t = 1)]
    partitions: i32,

    /// Time between two epochs, and between two transactions of the bare producer
    #[arg(long, value_name = "TIME", default_value = "1s",
          value_parser = humantime::parse_duration)]
    epoch_interval: Duration,

    /// A setting of both clients
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,

    /// Times that each writes them
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,
}

/// What the job is told.
#[derive(clap::Args, Clone, Debug)]
struct Options {
    brokers: String,
    topic: String,
    records: u64,
    partitions: i32,
    #[arg(skip)]
    settings: Vec<(String, String)>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let _watch = watch("the figures of the Kafka sink", BOUND);
    let Some(broker) = Broker::reach(arguments.brokers.as_deref()) else {
        return ExitCode::FAILURE;
    };
    let mut rounds = Vec::new();
    for round in 0..=arguments.rounds {
        let bare = written(&broker, &arguments, &format!("bare-{round}"), bare);
        let gear = written(&broker, &arguments, &format!("gear-{round}"), gear);
        let name = if round == 0 { "warm-up".to_owned() } else { format!("round {round}") };
        println!(
            "{name}: bare producer {bare}, sink {gear}: {:.0} % of its rate with {:.0} % of its \
             processor time",
            100.0 * gear.rate / bare.rate,
            100.0 * gear.processor / bare.processor
        );
        if round > 0 {
            rounds.push((bare, gear));
        }
    }
    if rounds.is_empty() {
        return ExitCode::SUCCESS;
    }
    let of = |ratio: fn(&(Figures, Figures)) -> f64| median(rounds.iter().map(ratio).collect());
    println!(
        "{} rounds, medians: {:.0} % of the bare producer's rate, with {:.0} % of its processor \
         time; aim 80 %",
        rounds.len(),
        100.0 * of(|(bare, gear)| gear.rate / bare.rate),
        100.0 * of(|(bare, gear)| gear.processor / bare.processor)
    );
    ExitCode::SUCCESS
}

/// How fast records were written.
#[derive(Clone, Copy, Debug)]
struct Figures {
    /// Millions a second.
    rate: f64,
    /// Microseconds of processor time for each.
    processor: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} M records/s ({:.2} us each)", self.rate, self.processor)
    }
}

/// How fast this writes records to a new topic, in which they are all there then.
fn written(
    broker: &Broker,
    arguments: &Arguments,
    name: &str,
    write: impl FnOnce(&Options, Duration),
) -> Figures {
    let topic = format!("{name}-{}", std::process::id());
    broker.make_topic(&topic, arguments.partitions);
    let brokers = broker.address().to_owned();
    let (records, settings) = (arguments.records, arguments.settings.clone());
    let partitions = arguments.partitions;
    let options = Options { brokers, topic, records, partitions, settings };
    let (began, processor) = (Instant::now(), broker.processor_time());
    write(&options, arguments.epoch_interval);
    let seconds = began.elapsed().as_secs_f64();
    let processor = (broker.processor_time() - processor).as_secs_f64();
    let settings = kafka::source(&options.brokers, [options.topic.as_str()]).settings();
    let settings = settings.expect("none is the source's own");
    let reader = consumer(&settings, &options.topic, arguments.partitions);
    let bytes = read(&reader, options.records);
    assert_eq!(bytes, options.records * RECORD_BYTES as u64, "{name} has not written all");
    drop(reader);
    broker.remove_topic(&options.topic);
    let millions = options.records as f64 / 1e6;
    Figures { rate: millions / seconds, processor: processor / millions }
}

/// A record that costs little to make: its number in binary, and letters.
fn value(number: u64) -> [u8; RECORD_BYTES] {
    let mut value = [b'x'; RECORD_BYTES];
    value[..8].copy_from_slice(&number.to_le_bytes());
    value
}

/// Batches as large as the library takes them, and of each partition as many as it takes; the sink
/// would take what the topic says.
fn sink(options: &Options) -> kafka::KafkaSink<u64> {
    let sink = kafka::sink_with(
        &options.brokers,
        &options.topic,
        |number, record: &mut kafka::Outgoing| {
            record.value(value(number));
        },
    );
    let queue = QUEUE_KIB * u64::from(options.partitions.unsigned_abs());
    let sink = sink.set("message.max.bytes", "1000000");
    let sink = sink.set("queue.buffering.max.kbytes", queue.to_string());
    options.settings.iter().fold(sink, |sink, (name, value)| sink.set(name, value))
}

/// What can be had with librdkafka.
fn bare(options: &Options, every: Duration) {
    let settings: ClientSettings = sink(options).settings().expect("none is the sink's own");
    let mut producer = Transactions::open(&settings, &options.topic, every);
    for number in 0..options.records {
        producer.send(&options.topic, &value(number));
        if producer.is_due() {
            producer.commit(None);
        }
    }
    producer.commit(None);
}

fn job(app: &mut App<Options>) -> Result<()> {
    let options = app.options().clone();
    app.source("numbers", generate::from_fn(options.records, 1, |number| number))
        .sink("out", sink(&options));
    Ok(())
}

/// A job with one task that generates and writes, exactly once.
fn gear(options: &Options, every: Duration) {
    let settings = Settings { parallelism: 1, ..Settings::default() };
    let job = gear_node::build("kafka-write", options.clone(), settings, job);
    let state = TempDir::new().expect("there is room for a temporary folder");
    let runtime = RuntimeOptions {
        state: Some(state.path().to_owned()),
        parallelism: Some(1),
        epoch_interval: every,
        ..RuntimeOptions::default()
    };
    let report = gear_node::run(&job.expect("the job is sound"), &options.topic, &runtime);
    let report = report.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(report.records, options.records);
}
