//! How long records take from Kafka to Kafka exactly once, beside a bare loop that reads, writes
//! and commits transactions with the same settings.
//!
//! `cargo run --release -p gear-tests --features services --bin kafka_latency`
//!
//! The time of a record is from when it was to be appended to the one topic until a consumer of
//! committed records has it from the other: a record that was appended late, or that stood in a
//! queue, has waited from the time at which it should have been there. Every record of the time
//! that counts has to come, once.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use gear_connectors::kafka::{self, ClientSettings};
use gear_core::api::Ref;
use gear_tests::kafka::feeder::{Feeder, Pace, number, numbered};
use gear_tests::kafka::{Broker, PATIENCE, Transactions, consumer, median};
use gear_tests::process::Room;
use gear_tests::programs::{kept, programs};
use gear_tests::watchdog::watch;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message as _;

/// Bytes of a record's value.
const RECORD_BYTES: usize = 100;
/// Times between two epochs, each with what is aimed at for all but the slowest hundredth.
const EPOCHS: [(Duration, Duration); 2] = [
    (Duration::from_secs(1), Duration::from_millis(1_300)),
    (Duration::from_millis(100), Duration::from_millis(250)),
];
/// What is printed of all times, in thousandths from the shortest.
const SHARES: [usize; 3] = [500, 990, 999];
/// Between two looks whether a loop is to end.
const LOOK: Duration = Duration::from_millis(10);
/// Longer than any run takes.
const BOUND: Duration = Duration::from_secs(3_600);

/// What can be told.
#[derive(Debug, Parser)]
struct Arguments {
    /// Brokers that run; without it one is started
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,

    /// Records a second
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    rate: u64,

    /// Seconds that count
    #[arg(long, value_name = "N", default_value_t = 20)]
    seconds: u64,

    /// Seconds from the first record that comes out to those that count
    #[arg(long, value_name = "N", default_value_t = 5)]
    warm_up: u64,

    /// Partitions of the topics
    #[arg(long, value_name = "N", default_value_t = 1)]
    partitions: u32,

    /// Times that each is measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
}

/// Who copies the records.
#[derive(Clone, Copy, Debug)]
enum Copier {
    Bare,
    Gear(&'static str),
}

/// A run: its two topics, and what reads and writes them.
struct Run<'a> {
    broker: &'a Broker,
    arguments: &'a Arguments,
    from: String,
    to: String,
    every: Duration,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let _watch = watch("the figures of records from Kafka to Kafka", BOUND);
    let built = programs(&["services"], &["job_kafka_copy"]);
    let Some([job]) = built.as_deref() else { return ExitCode::FAILURE };
    let Some(broker) = Broker::reach(arguments.brokers.as_deref()) else {
        return ExitCode::FAILURE;
    };
    let copiers = [Copier::Bare, Copier::Gear(kept(job))];
    // By epoch and copier: each share of each round, in milliseconds.
    let mut all = vec![[const { Vec::new() }; 2]; EPOCHS.len()];
    for round in 1..=arguments.rounds {
        for ((every, _), all) in EPOCHS.into_iter().zip(&mut all) {
            for (copier, all) in copiers.into_iter().zip(all) {
                let name = if matches!(copier, Copier::Bare) { "bare" } else { "gear" };
                let named = |end: &str| {
                    let (process, millis) = (std::process::id(), every.as_millis());
                    format!("latency-{process}-{round}-{name}-{millis}-{end}")
                };
                let (from, to) = (named("from"), named("to"));
                let run = Run { broker: &broker, arguments: &arguments, from, to, every };
                let shares = run.shares(copier);
                println!("round {round}, epochs of {every:?}, {name}: {}", show(shares));
                all.push(shares);
            }
        }
    }
    for ((every, aim), [bare, gear]) in EPOCHS.into_iter().zip(&all) {
        if gear.is_empty() {
            continue;
        }
        let (bare, gear) = (medians(bare), medians(gear));
        println!(
            "epochs of {every:?}, medians of {} rounds at {} records/s:",
            arguments.rounds, arguments.rate
        );
        println!("  bare loop {}", show(bare));
        println!(
            "  gear      {}; p99 is {:.0} % of the bare loop's, aim {aim:?}",
            show(gear),
            100.0 * gear[1] / bare[1]
        );
    }
    ExitCode::SUCCESS
}

fn show([p50, p99, p999]: [f64; 3]) -> String {
    format!("p50 {p50:.1} ms  p99 {p99:.1} ms  p99.9 {p999:.1} ms")
}

fn medians(rounds: &[[f64; 3]]) -> [f64; 3] {
    std::array::from_fn(|share| median(rounds.iter().map(|shares| shares[share]).collect()))
}

impl Run<'_> {
    /// How long the records took, each of [`SHARES`] in milliseconds.
    fn shares(&self, copier: Copier) -> [f64; 3] {
        let Arguments { partitions, rate, .. } = *self.arguments;
        for topic in [&self.from, &self.to] {
            self.broker.make_topic(topic, partitions as i32);
        }
        let reader = consumer(&self.reading(&self.to), &self.to, partitions as i32);
        let pace = Pace { partitions, rate };
        let feeder = Feeder::start(self.broker.address(), &self.from, pace, numbered(RECORD_BYTES));
        let mut took = match copier {
            Copier::Bare => self.of_bare(&reader, &feeder),
            Copier::Gear(program) => {
                let room = Room::new(program);
                let mut job = room.start(&self.job().each_ref().map(String::as_str));
                self.measure(&reader, &feeder, || assert!(!job.has_ended(), "{}", job.err()))
            }
        };
        feeder.stop();
        drop(reader);
        for topic in [&self.from, &self.to] {
            self.broker.remove_topic(topic);
        }
        took.sort_unstable();
        SHARES.map(|share| took[(took.len() - 1) * share / 1_000].as_secs_f64() * 1e3)
    }

    fn reading(&self, topic: &str) -> ClientSettings {
        let source = kafka::source(self.broker.address(), [topic]);
        source.settings().expect("none is the source's own")
    }

    /// What the job is called with.
    fn job(&self) -> [String; 5] {
        [
            format!("--brokers={}", self.broker.address()),
            format!("--from={}", self.from),
            format!("--to={}", self.to),
            format!("--epoch-interval={}ms", self.every.as_millis()),
            "--parallelism=1".to_owned(),
        ]
    }

    fn of_bare(&self, reader: &BaseConsumer, feeder: &Feeder) -> Vec<Duration> {
        let stop = Arc::new(AtomicBool::new(false));
        let partitions = self.arguments.partitions as i32;
        let from = consumer(&self.reading(&self.from), &self.from, partitions);
        let sink = kafka::sink::<Ref<[u8]>>(self.broker.address(), &self.to);
        let settings = sink.settings().expect("none is the sink's own");
        let out = Transactions::open(&settings, &self.to, self.every);
        let (to, stopped) = (self.to.clone(), Arc::clone(&stop));
        let copying = thread::spawn(move || copy(&from, out, &to, &stopped));
        let took = self.measure(reader, feeder, || assert!(!copying.is_finished()));
        stop.store(true, Ordering::Relaxed);
        copying.join().expect("it was told to stop");
        took
    }

    /// Waits for the first record that comes out, lets some time pass, and gives how long each
    /// record of the time that counts takes.
    fn measure(
        &self,
        reader: &BaseConsumer,
        feeder: &Feeder,
        is_well: impl FnMut(),
    ) -> Vec<Duration> {
        let Arguments { rate, seconds, warm_up, .. } = *self.arguments;
        let mut out = Output { reader, is_well, since: Instant::now() };
        out.next();
        let first = feeder.first_after(Instant::now() + Duration::from_secs(warm_up));
        let mut took = vec![None; (rate * seconds) as usize];
        let mut left = took.len();
        while left > 0 {
            let number = out.next();
            let place = number.checked_sub(first).and_then(|at| took.get_mut(at as usize));
            if let Some(place) = place {
                let waited = Instant::now() - feeder.due(number);
                assert_eq!(place.replace(waited), None, "record {number} has come twice");
                left -= 1;
            }
        }
        took.into_iter().flatten().collect()
    }
}

/// The records that come out.
struct Output<'a, F> {
    reader: &'a BaseConsumer,
    is_well: F,
    since: Instant,
}

impl<F: FnMut()> Output<'_, F> {
    /// The number of the next one.
    fn next(&mut self) -> u64 {
        loop {
            match self.reader.poll(LOOK) {
                Some(Ok(message)) => {
                    self.since = Instant::now();
                    return message.payload().and_then(number).expect("it was fed");
                }
                Some(Err(error)) => panic!("{error}"),
                None => {
                    (self.is_well)();
                    assert!(self.since.elapsed() < PATIENCE, "nothing comes out");
                }
            }
        }
    }
}

/// What can be had with librdkafka: reads, writes, and commits both once in a while.
fn copy(from: &BaseConsumer, mut out: Transactions, to: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match from.poll(LOOK) {
            Some(Ok(message)) => out.send(to, message.payload().unwrap_or_default()),
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
        if out.is_over(Instant::now()) {
            out.commit(Some(from));
        }
    }
}
