//! One situation after the other.

use std::time::Duration;

use super::*;
use crate::kafka::sink::{Command, SEGMENT_BYTES, Unsure, decode};

/// A task of one, its cluster and its store.
struct Bench {
    cluster: ModelCluster,
    store: Store,
    clock: Clock,
    task: Task,
}

impl Bench {
    fn new(sink: &KafkaSink<Pair>) -> Self {
        let cluster = ModelCluster::new();
        cluster.create(TOPIC, 1);
        let clock = Clock::start();
        let task = Task::open(sink, (0, 1, 1), calm(&cluster), &[], clock);
        Self { cluster, store: Store::new(), clock, task }
    }

    fn ready() -> Self {
        let mut bench = Self::new(&sink());
        bench.settle();
        assert!(bench.task.writer.is_open(), "{:?}", bench.task.failed);
        bench
    }

    fn settle(&mut self) {
        self.clock.advance(1);
        self.task.settle(&mut self.store, &mut self.clock);
    }

    /// Writes these and prepares the epoch; gives the accounts of its record.
    fn epoch(&mut self, epoch: u64, values: &[&str]) -> Vec<Pending> {
        for value in values {
            self.task.write("k", value, self.clock);
        }
        self.task.prepare(epoch, self.clock);
        self.settle();
        assert!(self.task.is_reported(epoch), "{:?}", self.task.failed);
        self.pending(epoch)
    }

    fn pending(&self, epoch: u64) -> Vec<Pending> {
        let (bytes, objects) = self.task.account(epoch);
        vec![Pending { index: 0, bytes, objects }]
    }

    fn commit(&mut self, epoch: u64) {
        self.task.commit(epoch, self.clock);
        self.settle();
    }

    /// The process is gone, and the next attempt goes on from a record.
    fn restart(&mut self, sink: &KafkaSink<Pair>, attempt: u64, pending: &[Pending]) {
        self.clock.advance(1);
        let producers = calm(&self.cluster);
        self.task = Task::open(sink, (0, 1, attempt), producers, pending, self.clock);
        self.settle();
    }

    fn values(&self) -> Vec<String> {
        committed(&self.cluster, 1).remove(0).into_iter().map(|(_, value)| value).collect()
    }

    fn failed(&self) -> &str {
        self.task.failed.as_deref().unwrap_or_default()
    }
}

#[test]
fn nothing_is_sent_before_the_epoch_has_committed() {
    let mut bench = Bench::ready();
    let begun = bench.cluster.begun();
    bench.epoch(1, &["a", "b"]);
    assert_eq!((bench.values(), bench.cluster.begun()), (Vec::new(), begun));
    assert_eq!(bench.task.writer.waiting().since, None);
    bench.commit(1);
    assert_eq!(bench.values(), ["a", "b"]);
    assert_eq!(bench.cluster.begun(), begun + 1);
    assert_eq!(bench.cluster.mark("gear.app.sink.0", TOPIC).unwrap().epoch, 1);
    // An epoch without output needs no transaction.
    bench.epoch(2, &[]);
    bench.commit(2);
    assert_eq!(bench.cluster.begun(), begun + 1);
    assert_eq!(bench.task.writer.waiting().bytes, 0);
}

#[test]
fn an_epoch_that_was_given_up_is_produced_with_the_next() {
    let mut bench = Bench::ready();
    bench.epoch(1, &["a"]);
    let pending = bench.epoch(2, &["b"]);
    assert_eq!(pending[0].objects.len(), 2);
    bench.commit(2);
    assert_eq!(bench.values(), ["a", "b"]);
}

#[test]
fn output_that_may_not_be_in_kafka_is_produced_by_the_next_attempt_once() {
    for produced in [false, true] {
        let mut bench = Bench::ready();
        let pending = bench.epoch(1, &["a", "b"]);
        if produced {
            bench.commit(1);
        }
        bench.restart(&sink(), 2, &pending);
        assert!(bench.task.writer.is_open());
        assert_eq!(bench.values(), ["a", "b"], "produced before: {produced}");
        // The same again: it is known.
        bench.restart(&sink(), 3, &pending);
        bench.epoch(2, &["c"]);
        bench.commit(2);
        assert_eq!(bench.values(), ["a", "b", "c"]);
    }
}

#[test]
fn a_transaction_whose_outcome_is_unknown_is_looked_up_and_not_repeated() {
    // The producer breaks behind what it has carried out, or before.
    let faults = ProducerFaults { broken: 300, ..ProducerFaults::default() };
    for seed in 0..100 {
        let mut bench = Bench::ready();
        bench.task.producers.faults = faults;
        bench.epoch(1, &["a"]);
        bench.commit(1);
        bench.epoch(2, &["b", "c"]);
        bench.commit(2);
        assert_eq!(bench.values(), ["a", "b", "c"], "seed {seed}");
    }
}

#[test]
fn a_broker_that_is_away_is_waited_for_and_later_epochs_wait_too() {
    let mut bench = Bench::ready();
    bench.epoch(1, &["a"]);
    bench.cluster.set_down(true);
    bench.task.commit(1, bench.clock);
    bench.task.write("k", "b", bench.clock);
    bench.task.prepare(2, bench.clock);
    for _ in 0..3_000 {
        bench.clock.advance(10_000);
        bench.task.call();
        bench.task.store(&mut bench.store);
        bench.task.hear(bench.clock);
        bench.task.collect(bench.clock);
    }
    assert_eq!(bench.task.failed, None);
    assert!(!bench.task.is_reported(2));
    assert_eq!(bench.task.warnings.len(), 1, "{:?}", bench.task.warnings);
    assert!(bench.task.warnings[0].contains("waits"), "{:?}", bench.task.warnings);
    let waiting = bench.task.writer.waiting();
    assert!(bench.clock.now.since(waiting.since.unwrap()) > Duration::from_secs(20));
    bench.cluster.set_down(false);
    bench.settle();
    assert!(bench.task.is_reported(2));
    assert_eq!((bench.values(), bench.task.writer.waiting().since), (vec!["a".to_owned()], None));
}

#[test]
fn a_transaction_that_took_too_long_is_made_again_and_a_fenced_producer_stops() {
    for (waits, stops) in [(true, false), (false, true)] {
        let mut bench = Bench::ready();
        bench.epoch(1, &["a"]);
        bench.task.commit(1, bench.clock);
        // The records are sent, and the transaction is open.
        assert!(bench.task.call() && bench.task.hear(bench.clock));
        bench.task.collect(bench.clock);
        assert_eq!(bench.cluster.open_transactions(), ["gear.app.sink.0"]);
        if waits {
            bench.clock.advance(60_000_000);
        }
        bench.cluster.expire("gear.app.sink.0");
        bench.settle();
        assert_eq!(bench.task.failed.is_some(), stops, "{:?}", bench.task.failed);
        if stops {
            assert!(bench.failed().contains("another producer has the transactional id"));
        } else {
            assert_eq!(bench.values(), ["a"]);
        }
    }
}

#[test]
fn a_later_attempt_fences_an_earlier_one_that_still_runs() {
    let mut bench = Bench::ready();
    let pending = bench.epoch(1, &["a"]);
    bench.task.commit(1, bench.clock);
    bench.task.call();
    let producers = calm(&bench.cluster);
    let new = Task::open(&sink(), (0, 1, 2), producers, &pending, bench.clock);
    let mut zombie = std::mem::replace(&mut bench.task, new);
    bench.settle();
    zombie.settle(&mut bench.store, &mut bench.clock);
    assert!(zombie.failed.unwrap().contains("another producer"));
    bench.epoch(2, &["b"]);
    bench.commit(2);
    assert_eq!(bench.values(), ["a", "b"]);
}

#[test]
fn what_the_broker_has_forgotten_is_asked_about() {
    for (unsure, values) in [
        (Unsure::Stop, &["a"][..]),
        (Unsure::Produce, &["a", "a", "b"]),
        (Unsure::Skip, &["a", "b"]),
    ] {
        let mut bench = Bench::ready();
        let pending = bench.epoch(1, &["a"]);
        bench.commit(1);
        bench.cluster.forget("gear.app.sink.0");
        bench.restart(&sink().when_unsure(unsure), 2, &pending);
        if unsure == Unsure::Stop {
            let said = bench.failed();
            for part in ["epoch 1 is", "Unsure::Skip", "Unsure::Produce", "--fresh", "7 days"] {
                assert!(said.contains(part), "{said}");
            }
        } else {
            bench.epoch(2, &["b"]);
            bench.commit(2);
        }
        assert_eq!(bench.values(), values);
    }
}

#[test]
fn a_mark_that_was_forgotten_matters_to_nobody_if_nothing_waits() {
    let mut bench = Bench::ready();
    let pending = bench.epoch(1, &[]);
    bench.commit(1);
    bench.cluster.forget("gear.app.sink.0");
    bench.restart(&sink(), 2, &pending);
    assert!(bench.task.writer.is_open());
    let pending = bench.epoch(2, &["b"]);
    bench.restart(&sink(), 3, &pending);
    assert_eq!(bench.values(), ["b"]);
}

#[test]
fn a_mark_is_written_again_before_a_broker_forgets_it() {
    let mut bench = Bench::ready();
    let begun = bench.cluster.begun();
    for epoch in 1..=49 {
        bench.clock.advance(3_600_000_000);
        bench.epoch(epoch, &[]);
        bench.commit(epoch);
    }
    assert_eq!(bench.cluster.begun(), begun + 2);
}

#[test]
fn an_epoch_that_commits_while_a_mark_is_written_again_is_produced() {
    for lost in [0, 1_000] {
        let mut bench = Bench::ready();
        bench.clock.advance(25 * 3_600_000_000);
        bench.epoch(1, &[]);
        let pending = bench.epoch(2, &["a"]);
        bench.task.commit(1, bench.clock);
        bench.task.producers.faults = ProducerFaults { lost, ..ProducerFaults::default() };
        assert!(bench.task.call(), "the mark is written");
        bench.task.producers.faults = ProducerFaults::default();
        bench.task.commit(2, bench.clock);
        bench.settle();
        assert_eq!((bench.values(), bench.failed()), (vec!["a".to_owned()], ""), "lost: {lost}");
        bench.restart(&sink(), 2, &pending);
        assert_eq!((bench.values(), bench.failed()), (vec!["a".to_owned()], ""), "lost: {lost}");
    }
}

#[test]
fn a_start_from_the_beginning_counts_anew() {
    let mut bench = Bench::ready();
    for (epoch, value) in [(1, "a"), (2, "b")] {
        bench.epoch(epoch, &[value]);
        bench.commit(epoch);
    }
    bench.store.clear();
    bench.restart(&sink(), 1, &[]);
    let pending = bench.epoch(1, &["c"]);
    // Before it is produced: the mark of the first life, of a later epoch, says nothing of it.
    bench.restart(&sink(), 2, &pending);
    assert_eq!(bench.values(), ["a", "b", "c"]);
}

#[test]
fn an_attempt_whose_calendar_is_behind_the_one_before_goes_on() {
    let mut bench = Bench::ready();
    bench.clock.wall = WallTime(1);
    bench.restart(&sink(), 2, &[]);
    assert!(bench.task.writer.is_open(), "{}", bench.failed());
    bench.epoch(1, &["a"]);
    bench.commit(1);
    assert_eq!(bench.values(), ["a"]);
}

#[test]
fn an_earlier_attempt_that_comes_late_takes_no_mark_away() {
    for produced in [false, true] {
        let mut bench = Bench::ready();
        bench.restart(&sink(), 3, &[]);
        let pending = bench.epoch(1, &["a"]);
        if produced {
            bench.commit(1);
        }
        // It has seen no record, and takes itself for the first.
        bench.restart(&sink(), 2, &[]);
        assert!(bench.task.writer.is_open(), "{}", bench.failed());
        bench.restart(&sink(), 4, &pending);
        assert!(bench.task.writer.is_open(), "{}", bench.failed());
        assert_eq!(bench.values(), ["a"], "produced before: {produced}");
    }
}

#[test]
fn a_job_that_was_taken_back_by_hand_produces_what_it_does_from_there() {
    let mut bench = Bench::ready();
    let first = bench.epoch(1, &["a"]);
    bench.commit(1);
    bench.epoch(2, &["b"]);
    bench.commit(2);
    bench.restart(&sink(), 2, &first);
    let pending = bench.epoch(2, &["c"]);
    bench.restart(&sink(), 3, &pending);
    assert_eq!(bench.values(), ["a", "b", "c"]);
}

#[test]
fn a_zombie_with_an_older_record_does_not_take_the_mark_back() {
    let mut bench = Bench::ready();
    let first = bench.epoch(1, &["a"]);
    bench.commit(1);
    // An attempt that is about to open, and is late.
    let producers = calm(&bench.cluster);
    let zombie = Task::open(&sink(), (0, 1, 2), producers, &first, bench.clock);
    bench.restart(&sink(), 3, &first);
    let second = bench.epoch(2, &["b"]);
    bench.commit(2);
    let mut late = zombie;
    late.settle(&mut bench.store, &mut bench.clock);
    assert!(late.failed.unwrap().contains("a later attempt has committed"));
    bench.restart(&sink(), 4, &second);
    assert_eq!((bench.values(), bench.failed()), (vec!["a".to_owned(), "b".into()], ""));
}

#[test]
fn a_job_may_write_to_another_topic_than_before() {
    let mut bench = Bench::ready();
    let pending = bench.epoch(1, &["a"]);
    bench.cluster.create("next", 1);
    let next = crate::kafka::sink("model", "next");
    bench.restart(&next, 2, &pending);
    assert_eq!((bench.values(), bench.failed()), (vec!["a".to_owned()], ""));
    let pending = bench.epoch(2, &["b"]);
    bench.restart(&next, 3, &pending);
    assert_eq!(bench.failed(), "");
    let there = bench.cluster.with("next", 0, |log| log.read(0, 9, true).unwrap().records.len());
    assert_eq!((there, bench.values().len()), (1, 1));
}

/// Records of this value, as many as fill so many segments.
fn filling(segments: usize, value: &str) -> Vec<&str> {
    vec![value; segments * SEGMENT_BYTES / value.len() + 1]
}

#[test]
fn output_beyond_the_memory_is_fetched_from_the_store_when_it_is_produced() {
    let mut bench = Bench::new(&sink().memory_bytes(0));
    bench.settle();
    let large = "x".repeat(9_000);
    let values = filling(3, &large);
    bench.epoch(1, &values);
    let waiting = bench.task.writer.waiting();
    assert!(waiting.bytes > 3 * SEGMENT_BYTES as u64, "{waiting:?}");
    assert_eq!(waiting.allocated, 0);
    assert!(bench.task.writer.objects().len() > 2);
    bench.commit(1);
    assert_eq!(bench.values().len(), values.len());
    assert_eq!(bench.task.writer.waiting().allocated, 0);
}

#[test]
fn no_more_is_taken_while_committed_output_waits_and_memory_is_full() {
    const MEMORY: usize = 3 * SEGMENT_BYTES;
    let mut bench = Bench::new(&sink().memory_bytes(MEMORY));
    bench.settle();
    let large = "x".repeat(9_000);
    let values = filling(5, &large);
    // Its barrier is yet to come, so it is taken whole, however large it is.
    bench.epoch(1, &values);
    assert!(bench.task.takes());
    bench.task.commit(1, bench.clock);
    assert!(!bench.task.takes());
    let mut taken = 0;
    while bench.task.call() | bench.task.store(&mut bench.store) | bench.task.hear(bench.clock) {
        bench.task.collect(bench.clock);
        // What is sent makes room for what comes next.
        while bench.task.takes() && bench.task.writer.waiting().since.is_some() {
            bench.task.write("k", &large, bench.clock);
            taken += 1;
        }
        let waiting = bench.task.writer.waiting();
        assert!(taken == 0 || waiting.allocated <= MEMORY + 2 * SEGMENT_BYTES, "{waiting:?}");
    }
    assert!(taken * large.len() > SEGMENT_BYTES, "{taken} were taken");
    assert_eq!(bench.values().len(), values.len());
    assert!(bench.task.takes());
}

#[test]
fn a_transaction_that_is_lost_is_made_again_with_what_had_been_sent() {
    let large = "x".repeat(9_000);
    let values = filling(3, &large);
    let mut sent = 0;
    for calls in 0..8 {
        let mut bench = Bench::ready();
        bench.epoch(1, &values);
        bench.task.commit(1, bench.clock);
        let held = bench.task.writer.waiting().allocated;
        for _ in 0..calls {
            bench.task.call();
            bench.task.hear(bench.clock);
            bench.task.collect(bench.clock);
        }
        sent += usize::from(bench.task.writer.waiting().allocated < held);
        bench.clock.advance(100_000_000);
        bench.cluster.expire("gear.app.sink.0");
        bench.settle();
        let found = bench.values().len();
        assert_eq!((found, bench.failed()), (values.len(), ""), "after {calls} calls");
    }
    assert!(sent > 2, "{sent}");
}

/// A record is a segment, and each takes more than a third of what a transaction may take.
fn slow() -> KafkaSink<Pair> {
    sink().segment_bytes(1)
}

impl Bench {
    /// Does so many turns of what can be done, each of which takes its time.
    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.clock.advance(13_000_000);
            let _ = self.task.call() | self.task.store(&mut self.store);
            self.task.hear(self.clock);
            self.task.collect(self.clock);
        }
    }
}

#[test]
fn output_that_takes_long_is_produced_in_several_transactions() {
    let values = ["a", "b", "c", "d", "e", "f", "g"];
    for (turns, seen) in [(3, 0), (4, 3), (7, 3), (8, 6), (9, 6), (10, 7)] {
        let mut bench = Bench::new(&slow());
        bench.settle();
        let begun = bench.cluster.begun();
        let pending = bench.epoch(1, &values);
        bench.task.commit(1, bench.clock);
        bench.turns(turns);
        assert_eq!(bench.failed(), "");
        assert_eq!(bench.values(), values[..seen], "{turns} turns");
        let mark = bench.cluster.mark("gear.app.sink.0", TOPIC).unwrap();
        let produced = if seen == values.len() { (1, 0) } else { (0, seen as u32) };
        assert_eq!((mark.epoch, mark.segments), produced, "{turns} turns");
        // It goes on by itself, behind a producer that was lost, and in the next attempt.
        bench.clock.advance(100_000_000);
        bench.cluster.expire("gear.app.sink.0");
        if turns % 2 == 0 {
            bench.restart(&slow(), 2, &pending);
        }
        bench.settle();
        assert_eq!(bench.failed(), "");
        assert_eq!(bench.values(), values, "{turns} turns");
        assert!(bench.cluster.begun() >= begun + 1 + u64::from(seen > 0));
        bench.epoch(2, &["h"]);
        bench.commit(2);
        assert_eq!(bench.values().last().unwrap(), "h");
    }
}

#[test]
fn a_transaction_that_took_too_long_is_made_again_with_less() {
    let mut bench = Bench::new(&slow());
    bench.settle();
    let values: Vec<String> = (0..20).map(|value| value.to_string()).collect();
    bench.epoch(1, &values.iter().map(String::as_str).collect::<Vec<_>>());
    bench.task.commit(1, bench.clock);
    let (mut sent, mut parts) = (0, vec![]);
    while bench.task.writer.waiting().since.is_some() {
        let command = match bench.task.calls.front() {
            Some((_, IoRequest::Call { command, .. })) => decode(command).ok(),
            _ => None,
        };
        match command {
            Some(Command::Send { .. }) => sent += 1,
            Some(Command::Commit { .. }) => {
                // All went into a queue at once, and the broker takes ten seconds for each.
                bench.clock.advance(10_000_000 * sent as u64);
                if sent > 6 {
                    bench.cluster.expire("gear.app.sink.0");
                }
                parts.push(std::mem::take(&mut sent));
            }
            _ => {}
        }
        let _ = bench.task.call() | bench.task.store(&mut bench.store);
        bench.task.hear(bench.clock);
        bench.clock.advance(1_000);
        assert!(parts.len() < 10, "{parts:?} {}", bench.failed());
        bench.task.collect(bench.clock);
    }
    assert_eq!((parts, bench.failed()), (vec![20, 10, 5, 5, 5, 5], ""));
    assert_eq!(bench.values(), values);
    // What takes little time may grow.
    bench.epoch(2, &["a"; 5]);
    bench.commit(2);
    let begun = bench.cluster.begun();
    bench.epoch(3, &["b"; 10]);
    bench.commit(3);
    assert_eq!(bench.cluster.begun(), begun + 1);
}

#[test]
fn a_transaction_is_not_ended_while_a_segment_is_unheard_of() {
    let mut bench = Bench::new(&slow());
    bench.settle();
    bench.epoch(1, &["a", "b", "c", "d"]);
    bench.task.commit(1, bench.clock);
    bench.turns(2);
    // The third is sent, and the answer that is lost comes when the transaction is long.
    bench.task.producers.faults = ProducerFaults { lost: 1_000, ..ProducerFaults::default() };
    bench.turns(1);
    bench.task.producers.faults = ProducerFaults::default();
    bench.settle();
    assert_eq!(bench.failed(), "");
    assert_eq!(bench.values(), ["a", "b", "c", "d"]);
}

#[test]
fn a_job_that_was_taken_back_by_hand_does_not_go_on_behind_a_part() {
    let mut bench = Bench::new(&slow());
    bench.settle();
    let first = bench.epoch(1, &["a"]);
    bench.commit(1);
    bench.epoch(2, &["b", "c", "d", "e"]);
    bench.task.commit(2, bench.clock);
    bench.turns(4);
    assert_eq!(bench.values(), ["a", "b", "c", "d"]);
    bench.restart(&slow(), 2, &first);
    let pending = bench.epoch(2, &["w", "x", "y", "z"]);
    bench.restart(&slow(), 3, &pending);
    assert_eq!(bench.failed(), "");
    assert_eq!(bench.values(), ["a", "b", "c", "d", "w", "x", "y", "z"]);
}

#[test]
fn a_record_that_no_batch_can_hold_is_put_aside() {
    let mut bench = Bench::ready();
    bench.task.write("k", &"x".repeat(20_000), bench.clock);
    assert_eq!(bench.task.writer.waiting().bytes, 0);
    bench.epoch(1, &["a"]);
    bench.commit(1);
    assert_eq!(bench.values(), ["a"]);
}

#[test]
fn what_is_wrong_with_the_topic_is_said_when_the_task_opens() {
    let mut bench = Bench::new(&crate::kafka::sink("model", "nowhere"));
    bench.settle();
    assert!(bench.failed().contains("there is no topic `nowhere`"), "{}", bench.failed());
    let mut bench = Bench::new(&sink());
    bench.cluster.set_refused(TOPIC, true);
    bench.settle();
    assert!(bench.failed().contains("refuses access"), "{}", bench.failed());
    let mut bench = Bench::new(&sink().set("transactional.id", "mine"));
    bench.settle();
    assert!(bench.failed().contains("`transactional.id` cannot be set"), "{}", bench.failed());
}

#[test]
fn a_plain_sink_sends_as_records_come_and_sends_again_what_may_be_lost() {
    let mut bench = Bench::new(&sink().at_least_once());
    assert!(!SinkConnector::transactional(&sink().at_least_once()));
    bench.settle();
    bench.task.write("k", "a", bench.clock);
    let clock = bench.clock;
    bench.task.with(clock, |writer, cx| {
        writer.idle(cx);
        Ok(())
    });
    bench.settle();
    assert_eq!(bench.values(), ["a"]);
    bench.task.producers.faults =
        ProducerFaults { broken: 300, refused: 200, lost: 200, unfenced: false };
    for epoch in 1..50 {
        bench.epoch(epoch, &[&epoch.to_string()]);
        bench.commit(epoch);
        let values = bench.values();
        assert_eq!(values.last(), Some(&epoch.to_string()), "the barrier waits for it");
    }
    let mut values = bench.values();
    assert!(values.len() > 50, "nothing was sent twice");
    values.dedup();
    assert_eq!(values.len(), 50, "they keep their order: {values:?}");
}
