//! The Kafka sink against a real broker: what Kafka's own consumer reads of the committed records
//! is what went in, once and in order, however often the job and the broker are killed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gear_tests::process::{Dice, Input, Room};
use gear_tests::services::{Lease, lease};

const JOB: &str = env!("CARGO_BIN_EXE_job_kafka_out");
/// Keys of the job.
const KEYS: u64 = 64;
/// On the slowest machine; usually it is a tenth of it.
const TEST_MAX: Duration = Duration::from_secs(300);
/// Records a second.
const RATE: u64 = 12_000;
const PARTITIONS: u32 = 3;

/// How the job is called.
fn arguments(services: &Lease, topic: &str, count: u64, more: &[&str]) -> Vec<String> {
    let interval = ["--epoch-interval", "100ms"];
    let interval = if more.contains(&interval[0]) { &[][..] } else { &interval };
    let mut all: Vec<String> = ["--brokers", services.brokers(), "--topic", topic]
        .iter()
        .chain(interval)
        .chain(more)
        .copied()
        .map(str::to_owned)
        .collect();
    all.extend([format!("--count={count}"), format!("--rate={RATE}")]);
    all
}

/// Asserts that each record is there once, each key's in order.
fn judge(services: &Lease, topic: &str, count: u64) {
    let most = (count + 1).to_string();
    let options = ["--max-messages", &most, "--timeout-ms", "3000"];
    let found = services.consume(topic, &options).expect("it is read");
    let mut by_key: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for line in found.lines() {
        let (key, value) = line.split_once('\t').unwrap_or_else(|| panic!("{line:?}"));
        by_key.entry(key).or_default().push(value.trim_end().parse().expect("it is a number"));
    }
    for key in 0..KEYS {
        let wanted = count / KEYS + u64::from(key < count % KEYS);
        let found = by_key.remove(&*format!("k{key}")).unwrap_or_default();
        let differs = (0..wanted).zip(&found).find(|(wanted, found)| wanted != *found);
        assert_eq!(differs, None, "k{key} of {topic}: wanted and found");
        assert_eq!(found.len() as u64, wanted, "k{key} of {topic}");
    }
    assert!(by_key.is_empty(), "{by_key:?}");
}

/// When something is done to the broker while a job runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The job has just been started.
    Started,
    /// It is about to be killed.
    Killed,
}

/// Kills the job after a few epochs, so many times.
fn kill_again_and_again(
    room: &Room,
    arguments: &[String],
    kills: u32,
    mut disturb: impl FnMut(u32, Moment),
) {
    let mut dice = Dice::new();
    for round in 0..kills {
        let until = room.last_record("kafka-out") + 2 + dice.below(8);
        let mut job = room.start(arguments);
        disturb(round, Moment::Started);
        let is_under_way = job.wait_until(|| room.last_record("kafka-out") >= until);
        assert!(is_under_way, "it has ended before it was killed: {}", job.err());
        disturb(round, Moment::Killed);
        let _ = job.kill();
    }
}

#[test]
fn a_job_that_is_killed_again_and_again_leaves_each_record_once_and_in_order() {
    let Some(services) = lease(TEST_MAX) else { return };
    services.topic("killed", PARTITIONS, &[]).expect("it is made");
    let room = Room::new(JOB);
    let arguments = |count| arguments(&services, "killed", count, &["--parallelism", "2"]);
    let input = Input::new(RATE);
    kill_again_and_again(&room, &arguments(Input::ENDLESS), 6, |_, _| {});
    let count = input.count();
    let _ = room.run(&arguments(count)).ok();
    judge(&services, "killed", count);
}

#[test]
fn output_waits_for_a_broker_that_is_killed_with_and_without_the_job() {
    let Some(services) = lease(TEST_MAX) else { return };
    services.topic("waits", PARTITIONS, &[]).expect("it is made");
    let room = Room::new(JOB);
    // Little of it in memory: most is fetched from the checkpoint store when it is produced.
    let more = ["--output-memory", "20000", "--padding", "100"];
    let arguments = |count| arguments(&services, "waits", count, &more);
    // The source goes on while the broker is away.
    let input = Input::new(RATE);
    // With the job; the next one finds no broker at first.
    let endless = arguments(Input::ENDLESS);
    kill_again_and_again(&room, &endless, 4, |round, moment| match (round, moment) {
        (0 | 2, Moment::Killed) => services.kill("kafka").expect("it runs"),
        (1 | 3, Moment::Started) => services.start_again("kafka").expect("it starts"),
        _ => {}
    });
    // And without it.
    let mut job = room.start(&endless);
    let until = room.last_record("kafka-out") + 3;
    assert!(job.wait_until(|| room.last_record("kafka-out") >= until), "{}", job.err());
    services.kill("kafka").expect("it runs");
    services.start_again("kafka").expect("it starts");
    job.interrupt();
    assert_eq!(job.wait().code, Some(130));
    let count = input.count();
    let _ = room.run(&arguments(count)).ok();
    judge(&services, "waits", count);
}

#[test]
fn the_parallelism_may_change_between_two_starts() {
    let Some(services) = lease(TEST_MAX) else { return };
    services.topic("rescaled", PARTITIONS, &[]).expect("it is made");
    let room = Room::new(JOB);
    let arguments =
        |count, tasks| arguments(&services, "rescaled", count, &["--parallelism", tasks]);
    let input = Input::new(RATE);
    for tasks in ["2", "1", "2"] {
        let until = room.last_record("kafka-out") + 4;
        let mut job = room.start(&arguments(Input::ENDLESS, tasks));
        assert!(job.wait_until(|| room.last_record("kafka-out") >= until), "{}", job.err());
        let _ = job.kill();
    }
    let count = input.count();
    let _ = room.run(&arguments(count, "1")).ok();
    judge(&services, "rescaled", count);
}

#[test]
fn an_epoch_that_the_broker_does_not_take_within_a_transaction_arrives_once_and_in_order() {
    const RECORDS: u64 = 20_000;
    // All of it is of one epoch, and what a broker counts of the seconds before is soon used up.
    const BYTES_PER_SECOND: u32 = 100_000;
    const TRANSACTION: Duration = Duration::from_secs(2);
    let Some(services) = lease(TEST_MAX) else { return };
    services.topic("slow", PARTITIONS, &[]).expect("it is made");
    services.quota("slow", BYTES_PER_SECOND).expect("the broker takes it");
    let room = Room::new(JOB);
    let more = ["--padding", "50", "--epoch-interval", "10s", "--segment", "50000"];
    let timeout = format!("transaction.timeout.ms={}", TRANSACTION.as_millis());
    let more = [&more[..], &["--set", "client.id=slow", "--set", &timeout]].concat();
    let began = Instant::now();
    let _ = room.run(&arguments(&services, "slow", RECORDS, &more)).ok();
    let output = began.elapsed() - Duration::from_secs(RECORDS / RATE);
    assert!(output > 2 * TRANSACTION, "it was not slow: {output:?}");
    judge(&services, "slow", RECORDS);
}

#[test]
fn a_record_over_the_limit_of_the_topic_is_put_aside_and_the_others_arrive() {
    const RECORDS: u64 = 5_000;
    const PADDED: u64 = 10;
    let Some(services) = lease(TEST_MAX) else { return };
    services.topic("limited", 1, &["max.message.bytes=2000"]).expect("it is made");
    let room = Room::new(JOB);
    let padded = PADDED.to_string();
    let more = ["--padding", "3000", "--padded", &padded, "--quarantine", "aside"];
    let ended = room.run(&arguments(&services, "limited", RECORDS, &more)).ok();
    let aside = RECORDS / PADDED;
    assert_eq!(ended.summary("quarantined"), aside, "{ended:?}");
    let files = room.files("aside");
    let lines = files.values().flat_map(|it| it.split_inclusive(|byte| *byte == b'\n'));
    let told = lines.map(String::from_utf8_lossy).filter(|it| it.contains("max.message.bytes"));
    assert_eq!(told.count() as u64, aside, "each says what it takes");
    let most = (RECORDS + 1).to_string();
    let options = ["--max-messages", &most, "--timeout-ms", "3000"];
    let found = services.consume("limited", &options).expect("it is read");
    assert_eq!(found.lines().count() as u64, RECORDS - aside);
    assert!(found.lines().all(|line| line.len() < 100), "{found}");
}

#[test]
fn what_is_wrong_is_said_by_name() {
    let Some(services) = lease(TEST_MAX) else { return };
    let room = Room::new(JOB);
    let ended = room.run(&arguments(&services, "nowhere", 1, &[]));
    let _ = ended.refused(&["there is no topic `nowhere`"]);
}
