//! Chains of operators without state, in which any of them may panic.

use gear_core::dsl::Stream;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::rig::{Plane, drain, encoded};

fn refuse(number: u64, by: u64) {
    assert!(!number.is_multiple_of(by), "a multiple of {by}");
}

/// What comes out, and what is put aside by whom, in order.
fn model(inputs: &[u64]) -> (Vec<u64>, Vec<(&'static str, Vec<u8>)>) {
    let (mut out, mut aside) = (Vec::new(), Vec::new());
    for &input in inputs {
        if input % 7 == 0 {
            aside.push(("split", encoded(&input)));
            continue;
        }
        for number in (0..input % 50).map(|place| input * 3 + place) {
            if number % 11 == 0 {
                aside.push(("map", encoded(&number)));
            } else if (number + 1) % 13 == 0 {
                aside.push(("filter", encoded(&(number + 1))));
            } else if number % 2 == 0 {
                // The filter drops it.
            } else if (number + 1) % 17 == 0 || (number + 1) % 19 == 0 {
                aside.push(("try", encoded(&(number + 1))));
            } else if (number + 1) % 23 == 0 {
                aside.push(("some", encoded(&(number + 1))));
            } else if (number + 1) % 4 == 0 {
                out.push(number + 1);
            }
        }
    }
    (out, aside)
}

fn plane() -> Plane {
    Plane::of(false, |numbers: Stream<u64>| {
        numbers
            .flat_map::<u64, _>("split", |input, out| {
                for place in 0..input % 50 {
                    out.push(input * 3 + place);
                    if place == 40 {
                        refuse(input, 7);
                    }
                }
                refuse(input, 7);
            })
            .map("map", |number| {
                refuse(number, 11);
                number + 1
            })
            .filter("filter", |number| {
                refuse(*number, 13);
                number % 2 == 0
            })
            .try_map::<u64, _, _>("try", |number| {
                refuse(*number, 17);
                if number % 19 == 0 { Err("a multiple of 19") } else { Ok(*number) }
            })
            .filter_map("some", |number| {
                refuse(number, 23);
                (number % 4 == 0).then_some(number)
            })
            .sink("out", drain());
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_panic_puts_the_input_of_its_operator_aside_and_nothing_else(
        batches in vec(vec(0..10_000_u64, 0..60), 1..6),
    ) {
        let mut rig = plane().task("split", 1);
        for batch in &batches {
            let batch: Vec<_> = batch.iter().map(|number| (0, *number)).collect();
            rig.batch(0, &batch);
        }
        rig.end();
        prop_assert_eq!(&rig.failed, &None);
        let (out, aside) = model(&batches.concat());
        let got: Vec<u64> = rig.records(0).into_iter().map(|(_, number)| number).collect();
        prop_assert_eq!(got, out);
        let got = rig.all_aside();
        let got: Vec<_> = got.iter().map(|it| (it.operator.as_str(), it.bytes.clone())).collect();
        prop_assert_eq!(got, aside);
    }
}

#[test]
fn what_waits_for_room_is_neither_lost_nor_repeated() {
    let plane = Plane::of(false, |numbers: Stream<u64>| {
        let long = numbers.map("m", |number| {
            refuse(number, 100);
            vec![number; 60]
        });
        long.sink("out", drain());
    });
    let mut rig = plane.task("m", 1);
    rig.hold_credit = true;
    let inputs: Vec<u64> = (1..20_000).collect();
    for chunk in inputs.chunks(1_000) {
        let batch: Vec<_> = chunk.iter().map(|number| (0, *number)).collect();
        rig.batch(0, &batch);
    }
    rig.end();
    let mut rounds = 0;
    while rig.finished.is_none() {
        rig.release();
        rig.settle();
        rounds += 1;
        assert!(rounds < 1_000 && rig.failed.is_none());
    }
    assert!(rounds > 1, "the window was never full");
    let got = rig.records::<Vec<u64>>(0).into_iter().map(|(_, numbers)| numbers[0]);
    let expected: Vec<_> = inputs.iter().copied().filter(|number| number % 100 != 0).collect();
    assert!(got.collect::<Vec<_>>() == expected);
    assert_eq!(rig.all_aside().len(), inputs.len() - expected.len());
}

#[test]
fn the_message_of_the_panic_and_of_the_error_is_kept() {
    let mut rig = plane().task("split", 1);
    rig.batch::<u64>(0, &[(0, 14), (0, 12)]);
    rig.end();
    let aside = rig.all_aside();
    let errors: Vec<_> = aside.iter().map(|it| (it.operator.as_str(), it.error.as_str())).collect();
    assert_eq!(errors[0], ("split", "a multiple of 7"));
    assert!(errors.contains(&("try", "a multiple of 19")), "{errors:?}");
    assert_eq!(aside[0].record, "u64");
    assert!(!aside[0].cut);
}
