//! How fast the Kafka source reads, beside a bare loop over a consumer with the same settings.
//!
//! `cargo run --release -p gear-tests --features services --bin kafka_read`
//!
//! Both read the same topic from its first record to its last, in turn, each with a client of its
//! own; the time is from the making of the client to the last record, and the best of the rounds
//! counts.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser;
use gear_connectors::kafka::{self, KafkaSource, Whole};
use gear_connectors::os::OsFiles;
use gear_core::api::source::{Advance, Source as _, SourceConnector as _, SourceContext};
use gear_core::message::Partition;
use gear_core::time::{Time, WallTime};
use gear_tests::kafka::{Broker, consumer, fill};
use rdkafka::config::ClientConfig;

/// Bytes of a record's value.
const RECORD_BYTES: usize = 100;

/// What can be told.
#[derive(Debug, Parser)]
struct Arguments {
    /// Brokers that run; without it one is started
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,

    /// Records that are read
    #[arg(long, value_name = "N", default_value_t = 4_000_000)]
    records: u64,

    /// Partitions of the topic
    #[arg(long, value_name = "N", default_value_t = 1)]
    partitions: i32,

    /// Times that each reads them
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(broker) = Broker::reach(arguments.brokers.as_deref()) else {
        return ExitCode::FAILURE;
    };
    let topic = format!("read-{}", std::process::id());
    prepare(&broker, &topic, &arguments);
    let source = kafka::source(broker.address(), [topic.as_str()]).until_end();
    let expected = arguments.records * RECORD_BYTES as u64;
    let (mut best_bare, mut best_source) = (f64::MAX, f64::MAX);
    for round in 1..=arguments.rounds {
        let bare = timed(|| bare(&source, &topic, &arguments), expected);
        let gear = timed(|| read(&source), expected);
        let rate = |seconds: f64| arguments.records as f64 / seconds / 1e6;
        let (of_bare, of_source) = (rate(bare), rate(gear));
        println!(
            "round {round}: bare loop {of_bare:.2} M records/s, source {of_source:.2}: {:.0} %",
            100.0 * bare / gear
        );
        (best_bare, best_source) = (best_bare.min(bare), best_source.min(gear));
    }
    println!("best of {}: {:.0} %", arguments.rounds, 100.0 * best_bare / best_source);
    ExitCode::SUCCESS
}

/// Seconds that this took to read so many bytes.
fn timed(read: impl FnOnce() -> u64, expected: u64) -> f64 {
    let began = Instant::now();
    let bytes = read();
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(bytes, expected, "it has not read what there is");
    seconds
}

fn prepare(broker: &Broker, topic: &str, arguments: &Arguments) {
    broker.make_topic(topic, arguments.partitions);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.address());
    config.set("linger.ms", "5").set("batch.num.messages", "10000");
    config.set("batch.size", "1000000").set("queue.buffering.max.messages", "500000");
    fill(&config, topic, arguments.partitions, arguments.records, &[b'x'; RECORD_BYTES]);
}

/// What can be had with librdkafka.
fn bare(source: &KafkaSource<Whole>, topic: &str, arguments: &Arguments) -> u64 {
    let settings = source.settings().expect("none is the source's own");
    let consumer = consumer(&settings, topic, arguments.partitions);
    gear_tests::kafka::read(&consumer, arguments.records)
}

/// A task of the source, without an engine around it.
fn read(source: &KafkaSource<Whole>) -> u64 {
    let began = Instant::now();
    let now = || Time(began.elapsed().as_nanos() as u64);
    let mut files = OsFiles::default();
    let names = source.partitions(&mut files).expect("the broker answers");
    let new = |name| Partition { name, position: None, done: false };
    let partitions: Vec<_> = names.into_iter().map(new).collect();
    let mut reader = source.source();
    let mut cx = SourceContext { now: now(), wall: WallTime(0), files: &mut files };
    reader.open(&partitions, &mut cx).expect("the positions are new");
    let mut bytes = 0;
    loop {
        match reader.advance(&mut cx).unwrap_or_else(|error| panic!("{error}")) {
            Advance::Record => {
                let (_, message) = reader.current();
                bytes += message.value.map_or(0, <[u8]>::len) as u64;
            }
            Advance::Wait(until) => {
                cx.now = now();
                sleep(Duration::from_nanos(until.0.saturating_sub(cx.now.0)));
                cx.now = now();
            }
            Advance::End => return bytes,
            _ => {}
        }
    }
}
