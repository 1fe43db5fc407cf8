//! Words counted from Kafka to Kafka by a cluster of real processes, while executors, app masters,
//! nodes, the leader and the broker are killed: what Kafka's own consumer reads in the end is every
//! count of every word, once and in order.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use gear_tests::kills::{Victim, World};
use gear_tests::services::lease;

const NODE: &str = env!("CARGO_BIN_EXE_node_program");
const JOB: &str = env!("CARGO_BIN_EXE_job_kafka_words");
/// On the slowest machine; usually it is a third of it.
const TEST_MAX: Duration = Duration::from_secs(300);
const PARTITIONS: u32 = 3;
/// Words that go in before each kill.
const WORDS: u64 = 4_000;
/// Different words.
const VOCABULARY: u64 = 150;

type Counts = BTreeMap<String, u64>;

fn start() -> Option<World> {
    let services = lease(TEST_MAX)?;
    for topic in ["words", "counts"] {
        services.topic(topic, PARTITIONS, &[]).expect("it is made");
    }
    let brokers = services.brokers().to_owned();
    let arguments = ["--brokers", &brokers, "--from", "words", "--to", "counts"];
    let arguments = [&arguments[..], &["--parallelism", "2", "--epoch-interval", "200ms"]];
    Some(World::start(services, NODE, None, (JOB, &arguments.concat())))
}

/// Puts words in.
fn feed(world: &mut World, counts: &mut Counts) {
    let mut lines = String::new();
    for number in 0..WORDS {
        let word = format!("w{}", world.dice.below(VOCABULARY));
        writeln!(lines, "{number}\t{word}").expect("text takes text");
        *counts.entry(word).or_default() += 1;
    }
    world.services.produce("words", &lines).expect("the broker takes them");
}

/// Asserts that every count of every word is there once, each word's in order.
fn judge(world: &World, counts: &Counts) {
    let total: u64 = counts.values().sum();
    let most = (total + 1).to_string();
    // One more than there are to be, which nobody writes.
    let options = ["--max-messages", &most, "--timeout-ms", "15000"];
    let found = world.services.consume("counts", &options).expect("it is read");
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for line in found.lines() {
        let (word, count) = line.split_once('\t').unwrap_or_else(|| panic!("{line:?}"));
        let count: u64 = count.trim_end().parse().expect("it is a number");
        let last = last.entry(word).or_default();
        assert_eq!(count, *last + 1, "of {word}: {}", world.cluster.logs());
        *last = count;
    }
    let wanted = counts.iter().map(|(word, count)| (word.as_str(), *count)).collect();
    assert_eq!(last, wanted, "{}", world.cluster.logs());
}

#[test]
fn words_are_counted_once_whoever_is_killed() {
    let Some(mut world) = start() else { return };
    let mut counts = Counts::new();
    let victims =
        [Victim::Executor, Victim::Broker, Victim::AppMaster, Victim::Worker, Victim::Leader];
    for victim in victims {
        feed(&mut world, &mut counts);
        world.kill(victim);
    }
    feed(&mut world, &mut counts);
    judge(&world, &counts);
    world.stop();
    judge(&world, &counts);
}
