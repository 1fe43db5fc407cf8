//! Which task a record goes to.

use gear_core::api::key::{Key, key_group, task_of_group};
use gear_core::dsl::Stream;
use gear_core::message::Item;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::rig::{Plane, Restore, Rig, drain};

/// The records that left, with the task they go to.
fn sent(rig: &Rig) -> Vec<(u32, u64)> {
    let mut sent = Vec::new();
    for (channel, item) in &rig.out {
        let Item::Batch(batch) = item else { continue };
        let mut reader = batch.reader(0);
        while let Some((_, record)) = reader.next::<u64>().expect("encoded") {
            sent.push((channel.to, record));
        }
    }
    sent
}

fn feed(plane: &Plane, parallelism: u32, numbers: &[u64]) -> Rig {
    let mut rig = plane.start("m", (0, parallelism), 1, Restore::default());
    let batch: Vec<_> = numbers.iter().map(|number| (0, *number)).collect();
    rig.batch(0, &batch);
    rig.end();
    assert_eq!(rig.failed, None);
    rig
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_key_goes_to_the_task_of_its_group(
        parallelism in 1..8_u32,
        numbers in vec(any::<u64>(), 0..200),
    ) {
        let plane = Plane::with(parallelism, false, |stream: Stream<u64>| {
            let keyed = stream.map("m", |number| number).key_by(|number| number / 3);
            keyed.count("c").sink("out", drain());
        });
        let groups = plane.job.graph.key_groups;
        let rig = feed(&plane, parallelism, &numbers);
        let mut got = sent(&rig);
        let task = |number: u64| {
            task_of_group(key_group(u64::hash(&(number / 3), 0), groups), parallelism, groups)
        };
        prop_assert!(got.iter().all(|(to, number)| *to == task(*number)));
        got.sort_by_key(|(_, number)| *number);
        let mut numbers = numbers;
        numbers.sort_unstable();
        let got: Vec<_> = got.into_iter().map(|(_, number)| number).collect();
        prop_assert_eq!(got, numbers);
    }

    #[test]
    fn a_partitioner_of_the_job_is_obeyed_or_its_record_put_aside(
        parallelism in 1..6_u32,
        numbers in vec(0..10_u64, 0..100),
    ) {
        let plane = Plane::with(parallelism, false, |stream: Stream<u64>| {
            let mapped = stream.map("m", |number| number);
            mapped.partition_by("own", |number, _| *number as usize).sink("out", drain());
        });
        let rig = feed(&plane, parallelism, &numbers);
        let (fit, outside): (Vec<u64>, Vec<u64>) =
            numbers.iter().partition(|number| **number < parallelism.into());
        let mut got = sent(&rig);
        prop_assert!(got.iter().all(|(to, number)| u64::from(*to) == *number));
        got.sort_unstable();
        prop_assert_eq!(got.len(), fit.len());
        let aside = rig.all_aside();
        prop_assert_eq!(aside.len(), outside.len());
        if let (Some(entry), Some(number)) = (aside.first(), outside.first()) {
            let expected = format!("a partitioner chose task {number} of {parallelism}");
            prop_assert_eq!(&entry.error, &expected);
        }
    }

    #[test]
    fn a_broadcast_reaches_every_task(parallelism in 1..6_u32, numbers in vec(0..10_u64, 1..50)) {
        let plane = Plane::with(parallelism, false, |stream: Stream<u64>| {
            stream.map("m", |number| number).broadcast().sink("out", drain());
        });
        let got = sent(&feed(&plane, parallelism, &numbers));
        for task in 0..parallelism {
            let of_task = got.iter().filter(|(to, _)| *to == task).map(|(_, number)| *number);
            prop_assert_eq!(of_task.collect::<Vec<_>>(), numbers.clone());
        }
    }
}

#[test]
fn a_branch_that_does_not_exist_puts_the_record_aside() {
    let plane = Plane::of(false, |stream: Stream<u64>| {
        let branches = stream.split("m", 2, |number| {
            assert!(*number != 9, "nine");
            *number as usize
        });
        for (number, branch) in branches.into_iter().enumerate() {
            branch.sink(&format!("out{number}"), drain());
        }
    });
    let mut rig = feed(&plane, 1, &[0, 1, 2, 9, 1]);
    assert_eq!(rig.records::<u64>(0).len(), 1);
    assert_eq!(rig.records::<u64>(1).len(), 2);
    let aside = rig.all_aside();
    let errors: Vec<_> = aside.iter().map(|entry| entry.error.as_str()).collect();
    assert_eq!(errors, ["chose branch 2 of 2", "nine"]);
}
