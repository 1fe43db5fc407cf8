//! The Kafka sink against a real broker: what Kafka's own consumer reads of the committed records
//! is what went in, once and in order, however often the job and the broker are killed.

use std::collections::BTreeMap;
use std::time::Duration;

use gear_tests::process::{Dice, Room};
use gear_tests::services::{Lease, lease};

const JOB: &str = env!("CARGO_BIN_EXE_job_kafka_out");
/// Keys of the job.
const KEYS: u64 = 64;
/// On the slowest machine; usually it is a tenth of it.
const TEST_MAX: Duration = Duration::from_secs(300);
const COUNT: u64 = 90_000;
const PARTITIONS: u32 = 3;

/// How the job is called.
fn arguments<'a>(brokers: &'a str, topic: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["--brokers", brokers, "--topic", topic, "--epoch-interval", "100ms"];
    all.extend(more);
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
    arguments: &[&str],
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
    let count = COUNT.to_string();
    let more = ["--count", &count, "--rate", "12000", "--parallelism", "2"];
    let arguments = arguments(services.brokers(), "killed", &more);
    kill_again_and_again(&room, &arguments, 6, |_, _| {});
    let _ = room.run(&arguments).ok();
    judge(&services, "killed", COUNT);
}

#[test]
fn output_waits_for_a_broker_that_is_killed_with_and_without_the_job() {
    let Some(services) = lease(TEST_MAX) else { return };
    services.topic("waits", PARTITIONS, &[]).expect("it is made");
    let room = Room::new(JOB);
    // The source goes on while the broker is away.
    let count = 2 * COUNT;
    let count_text = count.to_string();
    // Little of it in memory: most is fetched from the checkpoint store when it is produced.
    let more =
        ["--count", &count_text, "--rate", "12000", "--output-memory", "20000", "--padding", "100"];
    let arguments = arguments(services.brokers(), "waits", &more);
    // With the job; the next one finds no broker at first.
    kill_again_and_again(&room, &arguments, 4, |round, moment| match (round, moment) {
        (0 | 2, Moment::Killed) => services.kill("kafka").expect("it runs"),
        (1 | 3, Moment::Started) => services.start_again("kafka").expect("it starts"),
        _ => {}
    });
    // And without it.
    let mut job = room.start(&arguments);
    let until = room.last_record("kafka-out") + 3;
    assert!(job.wait_until(|| room.last_record("kafka-out") >= until), "{}", job.err());
    services.kill("kafka").expect("it runs");
    services.start_again("kafka").expect("it starts");
    let _ = job.wait().ok();
    judge(&services, "waits", count);
}

#[test]
fn the_parallelism_may_change_between_two_starts() {
    let Some(services) = lease(TEST_MAX) else { return };
    services.topic("rescaled", PARTITIONS, &[]).expect("it is made");
    let room = Room::new(JOB);
    let count = COUNT.to_string();
    for tasks in ["2", "1", "2"] {
        let more = ["--count", &count, "--rate", "12000", "--parallelism", tasks];
        let arguments = arguments(services.brokers(), "rescaled", &more);
        let until = room.last_record("kafka-out") + 4;
        let mut job = room.start(&arguments);
        assert!(job.wait_until(|| room.last_record("kafka-out") >= until), "{}", job.err());
        let _ = job.kill();
    }
    let more = ["--count", &count, "--rate", "12000", "--parallelism", "1"];
    let _ = room.run(&arguments(services.brokers(), "rescaled", &more)).ok();
    judge(&services, "rescaled", COUNT);
}

#[test]
fn a_record_over_the_limit_of_the_topic_is_put_aside_and_the_others_arrive() {
    const RECORDS: u64 = 5_000;
    const PADDED: u64 = 10;
    let Some(services) = lease(TEST_MAX) else { return };
    services.topic("limited", 1, &["max.message.bytes=2000"]).expect("it is made");
    let room = Room::new(JOB);
    let (count, padded) = (RECORDS.to_string(), PADDED.to_string());
    let more = ["--count", &count, "--rate", "20000", "--padding", "3000", "--padded", &padded];
    let arguments = arguments(services.brokers(), "limited", &more);
    let ended = room.run(&[&arguments[..], &["--quarantine", "aside"]].concat()).ok();
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
    let more = ["--count", "1", "--rate", "1"];
    let ended = room.run(&arguments(services.brokers(), "nowhere", &more));
    let _ = ended.refused(&["there is no topic `nowhere`"]);
}
