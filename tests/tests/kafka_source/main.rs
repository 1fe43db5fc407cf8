//! The Kafka source against a real broker.

#[cfg(test)]
mod rig;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gear_connectors::kafka::{Start, WhenGone};
use gear_core::api::SourceConnector as _;
use gear_core::effect::IoErrorKind;
use gear_core::time::EventTime;
use gear_tests::services::{Lease, lease};

use rig::{Job, Task, Writer, fresh_topic, source};

/// On the slowest machine; usually it is a tenth of it.
const TEST_MAX: Duration = Duration::from_secs(240);

fn servers() -> Option<Lease> {
    lease(TEST_MAX)
}

#[test]
fn all_that_is_there_is_read_with_its_keys_headers_and_timestamps() {
    let Some(services) = servers() else { return };
    let topic = fresh_topic(&services, 3, &[]);
    let writer = Writer::new(&services);
    for number in 0..300 {
        writer.queue(&topic, number % 3, &format!("value {number}"), 1_000 + i64::from(number));
    }
    writer.send_whole(&topic);
    let mut task = Task::new(source(&services, &topic).until_end());
    task.read_to_end();
    let by_partition = task.by_partition();
    for partition in 0..3 {
        let expected = (0..300).filter(|number| number % 3 == partition);
        let expected: Vec<_> = expected.map(|number| format!("value {number}")).collect();
        assert_eq!(by_partition[&partition][..100], expected);
    }
    let last = task.records.iter().find(|it| it.key.as_deref() == Some("key")).unwrap();
    assert_eq!(last.headers, [("a".into(), Some("1".into())), ("b".into(), None)]);
    assert_eq!((last.at, last.value.as_deref()), (EventTime::from_millis(77_777), None));
    assert_eq!(task.records.len(), 301);
}

#[test]
fn a_time_is_exactly_the_first_record_at_or_after_it() {
    let Some(services) = servers() else { return };
    let topic = fresh_topic(&services, 2, &[]);
    let writer = Writer::new(&services);
    // Partition 1 is out of order.
    for (partition, timestamp) in
        [(0, 10), (0, 20), (0, 30), (1, 10), (1, 40), (1, 20), (1, 50), (1, 19)]
    {
        writer.send(&topic, partition, &timestamp.to_string(), 1_000_000 + timestamp);
    }
    for (micros, expected) in [
        (1_000_020_000, [vec!["20", "30"], vec!["40", "20", "50", "19"]]),
        // A microsecond later than a millisecond is the next one.
        (1_000_020_001, [vec!["30"], vec!["40", "20", "50", "19"]]),
        (1_000_041_000, [vec![], vec!["50", "19"]]),
        (0, [vec!["10", "20", "30"], vec!["10", "40", "20", "50", "19"]]),
        (1_000_051_000, [vec![], vec![]]),
    ] {
        let since = Start::At(EventTime(micros));
        let mut task = Task::new(source(&services, &topic).from(since).until_end());
        task.read_to_end();
        let given = task.by_partition();
        for (partition, expected) in expected.iter().enumerate() {
            let given = given.get(&(partition as i32)).cloned().unwrap_or_default();
            assert_eq!(given, *expected, "partition {partition} since {micros}");
        }
    }
}

#[test]
fn it_ends_behind_aborted_transactions_and_before_open_ones() {
    let Some(services) = servers() else { return };
    let topic = fresh_topic(&services, 2, &[]);
    let writer = Writer::new(&services);
    writer.send(&topic, 0, "a", 1);
    let transactions = Writer::transactional(&services, &topic);
    transactions.in_transaction(&topic, 0, "aborted", false);
    transactions.in_transaction(&topic, 1, "committed", true);
    let open = Writer::transactional(&services, &format!("{topic}-open"));
    open.begin(&topic, 1, "open");
    let began = Instant::now();
    let mut task = Task::new(source(&services, &topic).until_end());
    task.read_to_end();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let expected: BTreeMap<i32, Vec<String>> =
        [(0, vec!["a".into()]), (1, vec!["committed".into()])].into();
    assert_eq!(task.by_partition(), expected);
    open.abort();
}

#[test]
fn a_broker_that_is_killed_and_comes_back_loses_and_doubles_nothing() {
    let Some(services) = servers() else { return };
    let topic = fresh_topic(&services, 2, &[]);
    let writer = Writer::new(&services);
    for number in 0..2_000 {
        writer.queue(&topic, number % 2, &number.to_string(), 1);
    }
    writer.flush();
    let mut task = Task::new(source(&services, &topic));
    task.until(|task| task.records.len() >= 1_000);
    services.kill("kafka").unwrap();
    services.start_again("kafka").unwrap();
    let accepts = Instant::now();
    for number in 2_000..4_000 {
        writer.queue(&topic, number % 2, &number.to_string(), 1);
    }
    task.until(|task| task.records.len() > 2_000);
    println!("first record {:?} after the broker was back", accepts.elapsed());
    task.until(|task| task.records.len() >= 4_000);
    task.quiet();
    for partition in 0..2 {
        let expected = (0..4_000).filter(|number| number % 2 == partition);
        let expected: Vec<_> = expected.map(|number| number.to_string()).collect();
        assert_eq!(task.by_partition()[&partition], expected);
    }
}

#[test]
fn partitions_that_are_added_are_read_from_their_first_record_on() {
    let Some(services) = servers() else { return };
    let topic = fresh_topic(&services, 1, &[]);
    let writer = Writer::new(&services);
    writer.send(&topic, 0, "before", 1);
    let source = source(&services, &topic).from(Start::Latest);
    let mut task = Task::new(source.discover_every(Duration::from_millis(200)));
    task.until(|task| task.knows_where(0));
    writer.send(&topic, 0, "old", 1);
    writer.grow(&topic, 3);
    // A client that knows of them.
    let writer = Writer::new(&services);
    writer.send(&topic, 2, "first", 1);
    task.until(|task| task.records.len() >= 2);
    task.restart().unwrap();
    writer.send(&topic, 1, "second", 1);
    task.until(|task| task.records.len() >= 3);
    task.quiet();
    let mut values: Vec<_> = task.records.iter().filter_map(|it| it.value.clone()).collect();
    values.sort();
    assert_eq!(values, ["first", "old", "second"]);
}

#[test]
fn a_position_that_was_removed_stops_it_or_is_passed() {
    let Some(services) = servers() else { return };
    for (when_gone, expected) in [
        (WhenGone::Fail, None),
        (WhenGone::Earliest, Some(["7", "8", "9"].as_slice())),
        (WhenGone::Latest, Some(&[])),
    ] {
        let topic = fresh_topic(&services, 1, &[]);
        let writer = Writer::new(&services);
        for number in 0..5 {
            writer.send(&topic, 0, &number.to_string(), 1);
        }
        let mut task = Task::new(source(&services, &topic).when_gone(when_gone));
        task.until(|task| task.records.len() == 5);
        task.stop();
        for number in 5..10 {
            writer.send(&topic, 0, &number.to_string(), 1);
        }
        writer.remove_before(&topic, 0, 7);
        task.restart().unwrap();
        let Some(expected) = expected else {
            let error = task.error();
            assert!(error.contains("`when_gone(WhenGone::Earliest)`"), "{error}");
            assert!(error.contains("removed up to 2 records"), "{error}");
            continue;
        };
        task.until(|task| !task.notices.is_empty());
        writer.send(&topic, 0, "new", 1);
        task.until(|task| task.records.last().is_some_and(|it| it.value.as_deref() == Some("new")));
        let values: Vec<_> = task.records[5..].iter().filter_map(|it| it.value.clone()).collect();
        assert_eq!(values[..values.len() - 1], *expected);
    }
}

#[test]
fn a_topic_that_was_made_anew_is_noticed_whatever_its_length() {
    let Some(services) = servers() else { return };
    for count in [0, 3, 8] {
        let topic = fresh_topic(&services, 2, &[]);
        let writer = Writer::new(&services);
        for number in 0..3 {
            writer.send(&topic, 0, &format!("old {number}"), 1);
        }
        let mut task = Task::new(source(&services, &topic));
        task.until(|task| task.records.len() == 3);
        task.stop();
        writer.make_anew(&topic, 2);
        for number in 0..count {
            writer.send(&topic, 0, &format!("new {number}"), 1);
        }
        task.restart().unwrap();
        let error = task.error();
        assert!(error.contains("deleted and made again"), "{count}: {error}");
    }
    let topic = fresh_topic(&services, 3, &[]);
    let writer = Writer::new(&services);
    writer.send(&topic, 2, "a", 1);
    let mut task = Task::new(source(&services, &topic));
    task.until(|task| task.records.len() == 1);
    task.stop();
    writer.make_anew(&topic, 1);
    task.restart().unwrap();
    let error = task.error();
    assert!(error.contains("has 1 partitions"), "{error}");
}

#[test]
fn what_is_not_there_is_said_within_the_time_that_is_named() {
    let Some(services) = servers() else { return };
    let mut files = gear_connectors::os::OsFiles::default();
    let began = Instant::now();
    let error = source(&services, "nowhere").partitions(&mut files).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::NotFound);
    assert!(error.reason.contains("there is no topic `nowhere`"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());

    let settings = source(&services, "t").set("sasl.pasword", "hunter2");
    let error = settings.partitions(&mut files).unwrap_err();
    assert!(error.reason.contains("`sasl.pasword`"), "{error}");
    assert!(!error.reason.contains("hunter2"), "{error}");
    let settings = source(&services, "t").set("sasl.mechanism", "hunter2");
    assert!(!settings.partitions(&mut files).unwrap_err().reason.is_empty());

    // A port on which nobody listens.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let began = Instant::now();
    let unreachable = gear_connectors::kafka::source(nobody.clone(), ["t"]);
    let error = unreachable.partitions(&mut files).unwrap_err();
    assert!(error.reason.contains(&format!("no broker of {nobody} has answered")), "{error}");
    let took = began.elapsed();
    assert!(Duration::from_secs(25) < took && took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn a_job_that_is_killed_goes_on_from_its_last_epoch() {
    const RECORDS: usize = 60_000;
    const KILLS: usize = 4;
    let Some(services) = servers() else { return };
    let topic = fresh_topic(&services, 3, &[]);
    let mut job = Job::start(&services, &topic);
    let writer = Writer::new(&services);
    for number in 0..RECORDS {
        writer.queue(&topic, number as i32 % 3, &number.to_string(), 1);
        if number % (RECORDS / KILLS) == RECORDS / KILLS / 2 {
            writer.flush();
            // It is in the middle of something: some is to be seen, and not all of it.
            job.has_written(number / 2);
            job.kill();
            job.start_again();
        }
    }
    writer.flush();
    job.has_written(RECORDS);
    job.kill();
    let mut lines = job.lines();
    lines.sort_by_key(|(partition, offset, _)| (*partition, *offset));
    let doubled = lines.windows(2).filter(|it| (it[0].0, it[0].1) == (it[1].0, it[1].1)).count();
    let mut values: Vec<usize> = lines.iter().map(|(.., value)| value.parse().unwrap()).collect();
    values.sort_unstable();
    let lost = (0..RECORDS).filter(|number| values.binary_search(number).is_err()).count();
    println!("{KILLS} kills, {} lines, {lost} lost, {doubled} doubled", lines.len());
    assert_eq!((lost, doubled, values.len()), (0, 0, RECORDS));
}
