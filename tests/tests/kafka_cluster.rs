//! Words counted from Kafka to Kafka by a cluster of real processes, while executors, app masters,
//! nodes, the leader and the broker are killed: what Kafka's own consumer reads in the end is every
//! count of every word, once and in order.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use gear_core::control::{AppOutcome, Reply, Request, Wish};
use gear_core::id::{AppId, Epoch};
use gear_tests::cluster::{self, Cluster};
use gear_tests::process::Dice;
use gear_tests::services::{Lease, lease};

const NODE: &str = env!("CARGO_BIN_EXE_node_program");
const JOB: &str = env!("CARGO_BIN_EXE_job_kafka_words");
/// On the slowest machine; usually it is a third of it.
const TEST_MAX: Duration = Duration::from_secs(300);
const PARTITIONS: u32 = 3;
/// Words that go in before each kill.
const WORDS: u64 = 4_000;
/// Different words.
const VOCABULARY: u64 = 150;

/// What is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Executor,
    AppMaster,
    Worker,
    Leader,
    Broker,
}

/// Everything that a test needs.
struct World {
    services: Lease,
    cluster: Cluster,
    app: AppId,
    dice: Dice,
    counts: BTreeMap<String, u64>,
}

impl World {
    fn new() -> Option<Self> {
        let services = lease(TEST_MAX)?;
        for topic in ["words", "counts"] {
            services.topic(topic, PARTITIONS, &[]).expect("it is made");
        }
        let mut cluster = Cluster::start(NODE, 3, 3);
        let brokers = services.brokers().to_owned();
        let arguments = ["--brokers", &brokers, "--from", "words", "--to", "counts"];
        let arguments = [&arguments[..], &["--parallelism", "2", "--epoch-interval", "200ms"]];
        let app = cluster.submit(Path::new(JOB), 2, &arguments.concat());
        Some(Self { services, cluster, app, dice: Dice::new(), counts: BTreeMap::new() })
    }

    /// Puts words in.
    fn feed(&mut self) {
        let mut lines = String::new();
        for number in 0..WORDS {
            let word = format!("w{}", self.dice.below(VOCABULARY));
            writeln!(lines, "{number}\t{word}").expect("text takes text");
            *self.counts.entry(word).or_default() += 1;
        }
        self.services.produce("words", &lines).expect("the broker takes them");
    }

    fn committed(&mut self) -> Epoch {
        let status = self.cluster.app(self.app);
        assert_eq!(status.outcome, None, "it goes on for ever: {}", self.cluster.logs());
        status.committed
    }

    /// Waits until so many more epochs have committed.
    fn wait_for_epochs(&mut self, more: u64) {
        let stood = self.committed();
        let app = self.app;
        self.cluster.wait_for("epochs commit", |cluster| {
            let status = cluster.app(app);
            status.committed.0 >= stood.0 + more || status.outcome.is_some()
        });
        self.committed();
    }

    fn kill(&mut self, victim: Victim) {
        match victim {
            Victim::Executor => self.kill_process("executor "),
            Victim::AppMaster => self.kill_process("app master "),
            Victim::Worker | Victim::Leader => {
                let leads = self.cluster.leader().expect("somebody leads");
                let node = match victim {
                    Victim::Leader => leads,
                    _ => (leads + 1 + self.dice.below(2) as usize) % 3,
                };
                self.cluster.kill_node(node);
                self.cluster.start_node(node);
                self.cluster.wait_for("it is ready", |cluster| cluster.is_ready(node));
            }
            Victim::Broker => {
                self.services.kill("kafka").expect("it runs");
                self.services.start_again("kafka").expect("it starts");
            }
        }
    }

    fn kill_process(&self, name: &str) {
        let processes = self.cluster.processes();
        let found = processes.iter().find(|(_, called)| called.contains(name));
        let (pid, _) = found.unwrap_or_else(|| panic!("no {name}in {processes:?}"));
        cluster::kill(*pid);
    }

    /// Asserts that every count of every word is there once, each word's in order.
    fn judge(&self) {
        let total: u64 = self.counts.values().sum();
        let most = (total + 1).to_string();
        // One more than there are to be, which nobody writes.
        let options = ["--max-messages", &most, "--timeout-ms", "15000"];
        let found = self.services.consume("counts", &options).expect("it is read");
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for line in found.lines() {
            let (word, count) = line.split_once('\t').unwrap_or_else(|| panic!("{line:?}"));
            let count: u64 = count.trim_end().parse().expect("it is a number");
            let last = last.entry(word).or_default();
            assert_eq!(count, *last + 1, "of {word}: {}", self.cluster.logs());
            *last = count;
        }
        let wanted = self.counts.iter().map(|(word, count)| (word.as_str(), *count)).collect();
        assert_eq!(last, wanted, "{}", self.cluster.logs());
    }
}

#[test]
fn words_are_counted_once_whoever_is_killed() {
    let Some(mut world) = World::new() else { return };
    let victims =
        [Victim::Executor, Victim::Broker, Victim::AppMaster, Victim::Worker, Victim::Leader];
    for victim in victims {
        world.feed();
        world.wait_for_epochs(1);
        // At any place in an epoch, or in the transaction that follows it.
        sleep(Duration::from_millis(world.dice.below(300)));
        println!("the {victim:?} is killed");
        world.kill(victim);
        world.wait_for_epochs(1);
    }
    world.feed();
    world.judge();
    let wish = Request::Wish { app: world.app, wish: Wish::Stop };
    assert_eq!(world.cluster.request(&wish), Reply::Done);
    let outcome = world.cluster.outcome(world.app);
    assert_eq!(outcome, AppOutcome::Stopped, "{}", world.cluster.logs());
    world.judge();
}
