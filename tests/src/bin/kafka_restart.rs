//! For how long a job from Kafka to Kafka stands still when an executor, or the broker, is killed.
//!
//! `cargo run --release -p gear-tests --features services --bin kafka_restart`
//!
//! The job runs on a cluster of three nodes, records are appended to every partition all the time,
//! and a consumer of committed records reads what comes out. It counts until there is output from
//! every partition for a record that was not to be appended before the kill: no output that was
//! under way then can be taken for the first one after it. For an executor the time begins with its
//! kill, for the broker when it accepts connections again; beside it stands how long a bare
//! consumer of the job's input waits for the same records.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::path::Path;
use std::process::ExitCode;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use clap::Parser;
use gear_connectors::kafka;
use gear_core::id::AppId;
use gear_tests::chaos::measure::Figure;
use gear_tests::cluster::{self, Cluster};
use gear_tests::kafka::feeder::{Feeder, Pace, number, numbered};
use gear_tests::kafka::{Broker, PATIENCE, consumer};
use gear_tests::programs::{kept, programs};
use gear_tests::services::Services;
use gear_tests::watchdog::watch;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message as _;

/// Nodes, each of which is a master too.
const NODES: usize = 3;
/// Partitions of the topics, tasks of the job, and executors: each executor reads a partition.
const PARTITIONS: u32 = 2;
/// Bytes of a record's value.
const RECORD_BYTES: usize = 100;
/// What is aimed at.
const AIM: Duration = Duration::from_secs(3);
/// Between two kills: so long that the failure before is forgotten, and waits for nothing.
const REST: Duration = Duration::from_secs(6);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);
/// Longer than any run takes.
const BOUND: Duration = Duration::from_secs(3_600);
/// The topics.
const TOPICS: [&str; 2] = ["restart-from", "restart-to"];

/// What can be told.
#[derive(Debug, Parser)]
struct Arguments {
    /// Times that each is killed
    #[arg(long, value_name = "N", default_value_t = 7)]
    times: u32,

    /// Records a second
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    rate: u64,

    /// Time between two epochs of the job, such as 1s or 100ms
    #[arg(long, value_name = "TIME", default_value = "1s")]
    epoch_interval: String,
}

/// A job at work.
struct Bench<'a> {
    services: &'a Services,
    address: &'a str,
    cluster: Cluster,
    app: AppId,
    feeder: Feeder,
    /// What goes in, and what comes out.
    readers: [BaseConsumer; 2],
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let _watch = watch("the figures of restarts", BOUND);
    let built = programs(&["services"], &["node_program", "job_kafka_copy"]);
    let Some([node, job]) = built.as_deref() else { return ExitCode::FAILURE };
    let Some(broker) = Broker::reach(None) else { return ExitCode::FAILURE };
    let Some(services) = broker.services() else { return ExitCode::FAILURE };
    for topic in TOPICS {
        broker.make_topic(topic, PARTITIONS as i32);
    }
    let mut bench = Bench::start(services, broker.address(), (kept(node), job), &arguments);
    let mut executor = Figure {
        what: "kill -9 of an executor to committed output",
        target: AIM,
        took: Vec::new(),
    };
    let what = "kill -9 of the broker, from when it is back";
    let mut of_broker = Figure { what, target: AIM, took: Vec::new() };
    let what = "the same, until a bare consumer reads on";
    let mut bare = Figure { what, target: AIM, took: Vec::new() };
    for time in 1..=arguments.times {
        let took = bench.executor(time as usize);
        executor.took.push(took);
        let [barely, out] = bench.broker();
        of_broker.took.push(out);
        bare.took.push(barely);
        println!("{time}: executor {took:.2?}, broker {out:.2?} (a bare consumer {barely:.2?})");
    }
    println!("{executor}\n{of_broker}\n{bare}");
    ExitCode::SUCCESS
}

impl<'a> Bench<'a> {
    fn start(
        services: &'a Services,
        address: &'a str,
        (node, job): (&'static str, &Path),
        arguments: &Arguments,
    ) -> Self {
        let mut cluster = Cluster::start(node, NODES, NODES);
        let [from, to] = TOPICS;
        let tasks = PARTITIONS.to_string();
        let called = ["--brokers", address, "--from", from, "--to", to, "--parallelism", &tasks];
        let called = [&called[..], &["--epoch-interval", &arguments.epoch_interval]].concat();
        let app = cluster.submit(job, PARTITIONS, &called);
        let pace = Pace { partitions: PARTITIONS, rate: arguments.rate };
        let feeder = Feeder::start(address, from, pace, numbered(RECORD_BYTES));
        let readers = TOPICS.map(|topic| {
            let settings = kafka::source(address, [topic]).settings();
            consumer(&settings.expect("none is the source's own"), topic, PARTITIONS as i32)
        });
        let mut bench = Self { services, address, cluster, app, feeder, readers };
        bench.settle();
        bench
    }

    /// Waits until what goes in comes out, and then for a while.
    fn settle(&mut self) {
        for reader in &self.readers {
            let _ = first_after(&self.feeder, reader, Instant::now());
        }
        sleep(REST);
        // What has come in the meantime; what is left after that is told by its number.
        for reader in &self.readers {
            while reader.poll(Duration::ZERO).is_some() {}
        }
        let status = self.cluster.app(self.app);
        assert_eq!(status.outcome, None, "{}", self.cluster.logs());
    }

    /// From the kill of an executor to output of all partitions.
    fn executor(&mut self, time: usize) -> Duration {
        let all = self.cluster.processes().into_iter();
        let executors: Vec<u32> =
            all.filter(|(_, name)| name.contains("executor ")).map(|(pid, _)| pid).collect();
        assert_eq!(executors.len(), PARTITIONS as usize, "{}", self.cluster.logs());
        let killed = Instant::now();
        cluster::kill(executors[time % executors.len()]);
        let took = first_after(&self.feeder, &self.readers[1], killed) - killed;
        self.settle();
        took
    }

    /// From when a broker that was killed accepts connections to input and output of all
    /// partitions.
    fn broker(&mut self) -> [Duration; 2] {
        self.services.kill("kafka").expect("it runs");
        let killed = Instant::now();
        let (back, came) = thread::scope(|scope| {
            let back = scope.spawn(|| self.is_back(killed));
            let readers = self.readers.each_ref();
            let feeder = &self.feeder;
            let come = readers.map(|reader| scope.spawn(|| first_after(feeder, reader, killed)));
            self.services.start_again("kafka").expect("it starts");
            let back = back.join().expect("it comes back");
            (back, come.map(|it| it.join().expect("it comes")))
        });
        self.settle();
        came.map(|came| came - back)
    }

    /// When the broker accepts connections.
    fn is_back(&self, since: Instant) -> Instant {
        loop {
            if TcpStream::connect(self.address).is_ok() {
                return Instant::now();
            }
            assert!(since.elapsed() < PATIENCE, "the broker does not come back");
            sleep(LOOK);
        }
    }
}

/// When a record that was due after a moment had come from every partition.
fn first_after(feeder: &Feeder, reader: &BaseConsumer, moment: Instant) -> Instant {
    let first = feeder.first_after(moment);
    let mut missing: BTreeSet<u64> = (0..u64::from(PARTITIONS)).collect();
    loop {
        // While the broker is away the library says so again and again.
        if let Some(Ok(message)) = reader.poll(LOOK) {
            let number = message.payload().and_then(number).expect("it was fed");
            if number >= first {
                missing.remove(&(number % u64::from(PARTITIONS)));
            }
        }
        let now = Instant::now();
        if missing.is_empty() {
            return now;
        }
        assert!(now < moment + PATIENCE, "nothing comes from partitions {missing:?}");
    }
}
