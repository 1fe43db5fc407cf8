//! What operators refuse as a stream of its own, instead of the quarantine.

use gear_core::api::{DeadLetter, Operator, OperatorContext};
use gear_core::clock::Watermarks;
use gear_core::dag::Partitioner;
use gear_core::dsl::{App, GraphBuilder, JobError, Settings, Stream};
use gear_core::flow::push::Quarantined;
use gear_core::message::Replayed;
use gear_core::task::{ReplayCounts, encode_quarantine};
use gear_core::time::EventTime;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::rig::{Plane, Rig, drain, encoded, nothing};

/// Event time, operator, reason and number of a letter.
type Letter = (i64, String, String, u64);

fn letters(rig: &mut Rig, port: usize) -> Vec<Letter> {
    let mut letters = Vec::new();
    rig.each::<DeadLetter<'static>>(port, |at, letter| {
        assert_eq!(at, letter.at);
        let number = letter.record::<u64>().expect("the operators read numbers");
        letters.push((at.0, letter.operator.to_owned(), letter.reason.to_owned(), number));
    });
    letters
}

fn parsed(number: &u64) -> Result<u64, String> {
    assert!(!number.is_multiple_of(5), "five");
    if number.is_multiple_of(3) { Err(format!("{number} is three's")) } else { Ok(*number) }
}

/// Some of what is emitted for a record is refused before another panics further down.
fn plane(read: bool) -> Plane {
    Plane::of(true, move |numbers: Stream<u64>| {
        let (numbers, refused) = numbers
            .flat_map::<u64, _>("split", |number, out| {
                (0..4).for_each(|place| out.push(number + place));
            })
            .try_map::<u64, _, _>("parse", parsed)
            .dead_letters();
        if read {
            refused.sink("refused", drain());
        }
        numbers
            .map("after", |number| {
                assert!(!number.is_multiple_of(7), "seven");
                number
            })
            .sink("out", drain());
    })
}

/// What comes out, what is refused, and what is put aside, in order.
fn model(inputs: &[u64]) -> (Vec<u64>, Vec<(String, u64)>, Vec<Vec<u8>>) {
    let (mut out, mut refused, mut aside) = (Vec::new(), Vec::new(), Vec::new());
    for number in inputs.iter().flat_map(|input| *input..input + 4) {
        if number % 5 == 0 {
            refused.push(("five".to_owned(), number));
        } else if number % 3 == 0 {
            refused.push((format!("{number} is three's"), number));
        } else if number % 7 == 0 {
            aside.push(encoded(&number));
        } else {
            out.push(number);
        }
    }
    (out, refused, aside)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn each_record_goes_to_one_of_three_places_once(
        batches in vec(vec(0..10_000_u64, 0..60), 1..6),
    ) {
        let mut rig = plane(true).task("split", 1);
        for batch in &batches {
            let records: Vec<_> = batch.iter().map(|number| (*number as i64, *number)).collect();
            rig.batch::<u64>(0, &records);
        }
        rig.end();
        let (out, refused, aside) = model(&batches.concat());
        let found: Vec<u64> = rig.records::<u64>(0).into_iter().map(|(_, number)| number).collect();
        prop_assert_eq!(found, out);
        let found: Vec<_> = letters(&mut rig, 1);
        for (at, operator, _, number) in &found {
            prop_assert_eq!(operator, "parse");
            prop_assert!((*at..at + 4).contains(&(*number as i64)));
        }
        let found: Vec<_> =
            found.into_iter().map(|(_, _, reason, number)| (reason, number)).collect();
        prop_assert_eq!(found, refused);
        let found: Vec<_> = rig.all_aside().into_iter().map(|entry| entry.bytes).collect();
        prop_assert_eq!(found, aside);
    }
}

#[test]
fn letters_that_nobody_reads_are_put_aside() {
    let mut rig = plane(false).task("split", 1);
    rig.batch::<u64>(0, &[(1, 1)]);
    rig.end();
    let aside: Vec<_> = rig.all_aside().into_iter().map(|it| (it.operator, it.error)).collect();
    assert_eq!(aside, [("parse".to_owned(), "3 is three's".to_owned())]);
}

#[test]
fn a_letter_leaves_with_the_epoch_of_its_record() {
    let mut rig = plane(true).task("split", 1);
    rig.batch::<u64>(0, &[(1, 1)]);
    rig.barrier(0, 1, None);
    rig.settle();
    assert_eq!(letters(&mut rig, 1), [(1, "parse".into(), "3 is three's".into(), 3)]);
    assert!(rig.snapshots[&1].quarantine.is_empty() && rig.snapshots[&1].quarantined == 0);
}

#[test]
fn what_comes_out_of_the_quarantine_and_is_refused_becomes_a_letter() {
    let mut rig = plane(true).task("split", 1);
    let entry = |number: u64| Quarantined {
        operator: "parse".into(),
        partition: "input 0".into(),
        position: String::new(),
        at: EventTime(7),
        record: "u64".into(),
        bytes: encoded(&number),
        cut: false,
        error: "before it had dead letters".into(),
    };
    rig.store.insert("old".into(), encode_quarantine(&[entry(8), entry(9)]));
    rig.replay(&["old"]);
    rig.settle();
    rig.barrier(0, 1, None);
    rig.settle();
    assert_eq!(rig.records::<u64>(0), [(7, 8)]);
    assert_eq!(letters(&mut rig, 1), [(7, "parse".into(), "9 is three's".into(), 9)]);
    let counts = ReplayCounts { replayed: 2, ..ReplayCounts::default() };
    let replayed = Replayed { object: "old".into(), taken: true, counts };
    assert_eq!(rig.snapshots[&1].replayed, [replayed]);
    assert!(rig.snapshots[&1].quarantine.is_empty());
}

#[test]
fn keyed_operators_have_dead_letters_beside_late_records() {
    let plane = Plane::of(true, |numbers: Stream<u64>| {
        let sums = numbers.key_by(|number: &u64| *number).fold("sum", 0, |sum, number: u64| {
            *sum += number;
            assert!(!number.is_multiple_of(5), "five");
        });
        let (sums, refused) = sums.updates().dead_letters();
        refused.sink("refused", drain());
        sums.sink("out", drain());
    });
    let mut rig = plane.task("sum", 1);
    rig.batch::<u64>(0, &[(1, 2), (2, 5), (3, 2)]);
    rig.end();
    assert_eq!(rig.records::<(u64, u64)>(0), [(1, (2, 2)), (3, (2, 4))]);
    assert_eq!(letters(&mut rig, 1), [(2, "sum".into(), "five".into(), 5)]);
}

/// Puts odd numbers aside of its own accord.
#[derive(Clone)]
struct Even;

impl Operator for Even {
    type In = u64;
    type Out = u64;

    fn on_record(&mut self, number: u64, cx: &mut OperatorContext<'_, u64>) {
        if number.is_multiple_of(2) {
            cx.emit(number);
        } else {
            cx.quarantine::<u64>("even", number, "odd".to_owned());
        }
    }
}

#[test]
fn what_an_operator_puts_aside_of_its_own_accord_is_a_letter_too() {
    let mut app = App::new("plane", (), Settings::default());
    let source = app.source("source", nothing::<u64>()).watermarks(Watermarks::monotonic());
    let mut graph = GraphBuilder::of(&app);
    let even = graph.processor("even", Even, source, Partitioner::Rebalance);
    let (even, odd) = even.dead_letters();
    odd.sink("odd", drain());
    even.sink("out", drain());
    let mut rig = Plane { job: app.finish().expect("a job") }.task("even", 1);
    rig.batch::<u64>(0, &[(1, 1), (2, 2), (3, 3)]);
    rig.end();
    assert_eq!(rig.records::<u64>(0), [(2, 2)]);
    let odd = |at, number| (at, "even".to_owned(), "odd".to_owned(), number);
    assert_eq!(letters(&mut rig, 1), [odd(1, 1), odd(3, 3)]);
}

#[test]
fn letters_of_nothing_and_letters_twice_are_mistakes() {
    let mistakes = |build: fn(Stream<u64>)| {
        let mut app = App::new("plane", (), Settings::default());
        build(app.source("source", nothing::<u64>()).rebalance());
        app.finish().err().unwrap_or_default()
    };
    let nothing = mistakes(|numbers| {
        let (numbers, _) = numbers.dead_letters();
        numbers.sink("out", drain());
    });
    assert!(matches!(nothing.as_slice(), [JobError::NoDeadLetters(_)]), "{nothing:?}");
    let twice = mistakes(|numbers| {
        let (numbers, first) = numbers.try_map::<u64, _, _>("parse", parsed).dead_letters();
        first.sink("first", drain());
        numbers.dead_letters().0.sink("out", drain());
    });
    assert!(matches!(twice.as_slice(), [JobError::NoDeadLetters(_)]), "{twice:?}");
}
