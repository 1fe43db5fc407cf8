//! Records come out of the quarantine into the operator that had refused them.

use std::cell::Cell;

use gear_core::dsl::Stream;
use gear_core::flow::push::Quarantined;
use gear_core::message::Replayed;
use gear_core::task::{ReplayCounts, encode_quarantine};
use gear_core::time::EventTime;

use crate::rig::{Plane, Rig, drain, encoded};

thread_local! {
    static HEALED: Cell<bool> = const { Cell::new(false) };
}

fn refuse(number: u64) {
    assert!(number % 10 != 3 || HEALED.get(), "{number} is refused");
}

/// Operators in a chain behind a keyed one, some of which refuse.
fn plane() -> Plane {
    Plane::of::<u64>(true, |stream: Stream<u64>| {
        let counted =
            stream.key_by(|number: &u64| *number).fold("sum", 0_u64, |sum, number: u64| {
                *sum += number;
                refuse(number);
            });
        let counted = counted.updates().map("number", |(number, _): (u64, u64)| {
            assert!(number % 10 != 4 || HEALED.get(), "{number} is refused");
            number
        });
        counted.sink("out", drain::<u64>());
    })
}

fn started() -> Rig {
    HEALED.set(false);
    let mut rig = plane().task("sum", 1);
    rig.batch::<u64>(0, &[(1, 1), (2, 13), (3, 24), (4, 5)]);
    rig.barrier(0, 1, None);
    rig.settle();
    rig.committed(1);
    rig
}

fn object(rig: &Rig) -> String {
    rig.snapshots[&1].quarantine[0].name.clone()
}

fn replayed(rig: &Rig, epoch: u64) -> Vec<Replayed> {
    rig.snapshots[&epoch].replayed.clone()
}

fn numbers(rig: &mut Rig) -> Vec<(i64, u64)> {
    rig.records::<u64>(0)
}

#[test]
fn each_goes_in_where_it_was_refused_and_leaves_once() {
    let mut rig = started();
    assert_eq!(numbers(&mut rig), [(1, 1), (4, 5)]);
    assert_eq!(rig.aside(&rig.snapshots[&1]).len(), 2);
    HEALED.set(true);
    let object = object(&rig);
    rig.replay(&[&object, &object]);
    rig.settle();
    rig.replay(&[&object]);
    rig.batch::<u64>(0, &[(9, 7)]);
    rig.barrier(0, 2, Some(1));
    rig.settle();
    // Each has the time that it had; the order among tasks' inputs is nobody's to rely on.
    assert_eq!(numbers(&mut rig), [(2, 13), (3, 24), (9, 7)]);
    let counts = ReplayCounts { replayed: 2, ..ReplayCounts::default() };
    assert_eq!(replayed(&rig, 2), [Replayed { object, taken: true, counts }]);
    assert!(rig.snapshots[&2].quarantine.is_empty());
    assert_eq!(rig.snapshots[&2].quarantined, 2, "it was put aside twice, ever");
    // An epoch that is given up joins the next; one that is committed has said it.
    rig.barrier(0, 3, Some(1));
    rig.settle();
    assert_eq!(replayed(&rig, 3).len(), 1);
    rig.committed(3);
    rig.barrier(0, 4, Some(3));
    rig.settle();
    assert!(replayed(&rig, 4).is_empty());
}

#[test]
fn what_is_refused_again_is_put_aside_again_and_changes_nothing() {
    let mut rig = started();
    let before = rig.aside(&rig.snapshots[&1]);
    let _ = numbers(&mut rig);
    let object = object(&rig);
    rig.replay(&[&object]);
    rig.settle();
    rig.barrier(0, 2, Some(1));
    rig.settle();
    assert!(numbers(&mut rig).is_empty());
    let counts = ReplayCounts { refused: 2, ..ReplayCounts::default() };
    assert_eq!(replayed(&rig, 2), [Replayed { object, taken: true, counts }]);
    assert_eq!(rig.aside(&rig.snapshots[&2]), before, "with where they came from");
    assert_eq!(rig.snapshots[&2].quarantined, 2);
}

#[test]
fn what_cannot_be_given_stays_and_is_counted_by_reason() {
    let mut rig = started();
    HEALED.set(true);
    let entry = |operator: &str, record: &str, cut| Quarantined {
        operator: operator.into(),
        partition: "input 0".into(),
        position: String::new(),
        at: EventTime(1),
        record: record.into(),
        bytes: encoded(&33_u64),
        cut,
        error: "it was not good".into(),
    };
    let bad = [entry("sum", "u64", true), entry("sum", "i64", false), entry("gone", "u64", false)];
    let counts = ReplayCounts { cut: 1, changed: 1, missing: 1, ..ReplayCounts::default() };
    let with = |rig: &mut Rig, epoch: u64, entries: &[Quarantined], counts, taken| {
        let object = format!("quarantine/sum-0/t0000000009-a1-e{epoch:010}");
        rig.store.insert(object.clone(), encode_quarantine(entries));
        rig.replay(&[&object]);
        rig.settle();
        rig.barrier(0, epoch, Some(epoch - 1));
        rig.settle();
        rig.committed(epoch);
        assert_eq!(replayed(rig, epoch), [Replayed { object, taken, counts }]);
    };
    // The object is left as it is if none can be given, else they move to another.
    with(&mut rig, 2, &bad, counts, false);
    assert!(rig.snapshots[&2].quarantine.is_empty());
    let some = [bad.to_vec(), vec![entry("sum", "u64", false)]].concat();
    with(&mut rig, 3, &some, ReplayCounts { replayed: 1, ..counts }, true);
    assert_eq!(rig.aside(&rig.snapshots[&3]), bad);
    rig.replay(&["quarantine/sum-0/t0000000009-a1-e0000000099"]);
    rig.settle();
    rig.barrier(0, 4, Some(3));
    rig.settle();
    assert_eq!(replayed(&rig, 4)[0].counts.damaged, 1, "it is not there");
}

#[test]
fn a_task_that_owns_other_keys_leaves_them() {
    HEALED.set(false);
    let plane = Plane::with::<u64>(2, true, |stream: Stream<u64>| {
        let sums = stream.key_by(|number: &u64| *number).fold("sum", 0_u64, |sum, number: u64| {
            *sum += number;
            refuse(number);
        });
        sums.updates().map("number", |(number, _): (u64, u64)| number).sink("out", drain::<u64>());
    });
    HEALED.set(true);
    let mut taken = 0;
    for index in 0..2 {
        let mut rig = plane.start("sum", (index, 2), 1, crate::rig::Restore::default());
        let entries: Vec<Quarantined> = (0..20_u64)
            .map(|number| Quarantined {
                operator: "sum".into(),
                partition: "input 0".into(),
                position: String::new(),
                at: EventTime(1),
                record: "u64".into(),
                bytes: encoded(&number),
                cut: false,
                error: "it was not good".into(),
            })
            .collect();
        let object = "quarantine/sum-0/t0000000009-a1-e0000000001";
        rig.store.insert(object.into(), encode_quarantine(&entries));
        rig.replay(&[object]);
        rig.settle();
        rig.barrier(0, 1, None);
        rig.settle();
        let counts = replayed(&rig, 1)[0].counts;
        assert_eq!(counts.replayed + counts.elsewhere, 20);
        assert_eq!(rig.aside(&rig.snapshots[&1]).len() as u64, counts.elsewhere);
        taken += counts.replayed;
    }
    assert_eq!(taken, 20, "each key has one task");
}

#[test]
fn a_barrier_waits_for_the_last_record_of_an_object() {
    let mut rig = started();
    HEALED.set(true);
    rig.hold_credit = true;
    let before = rig.aside(&rig.snapshots[&1]);
    let like = before.iter().find(|it| it.operator == "number").expect("it is put aside");
    let many: Vec<Quarantined> = (0..100_000_u64)
        .map(|number| Quarantined {
            operator: "number".into(),
            partition: "input 0".into(),
            position: String::new(),
            at: EventTime(1),
            record: like.record.clone(),
            bytes: encoded(&(number, number)),
            cut: false,
            error: "it was not good".into(),
        })
        .collect();
    let object = "quarantine/sum-0/t0000000009-a1-e0000000002";
    rig.store.insert(object.into(), encode_quarantine(&many));
    rig.replay(&[object]);
    // The first step reads it, the next ones give its records.
    for _ in 0..10 {
        rig.step();
    }
    rig.barrier(0, 2, Some(1));
    rig.settle();
    assert!(!rig.snapshots.contains_key(&2), "there is no room for all of them");
    while !rig.snapshots.contains_key(&2) {
        rig.release();
        rig.settle();
    }
    assert_eq!(replayed(&rig, 2)[0].counts.replayed, 100_000);
}

#[test]
fn a_task_that_has_ended_takes_nothing() {
    let mut rig = started();
    rig.end();
    let object = object(&rig);
    rig.replay(&[&object]);
    rig.settle();
    assert_eq!(rig.refused, [object]);
}
