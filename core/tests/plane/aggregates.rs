//! Keyed aggregates against ordered maps.

use std::collections::BTreeMap;

use gear_core::dsl::Stream;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::rig::{Plane, Rig, drain, encoded, restore};

type Event = (u8, u16);

/// The record that no aggregate takes, and the one whose result no reader takes.
const POISON: u16 = 0;
const UNREADABLE: u64 = 13;

fn take(event: u16) {
    assert!(event != POISON, "poison");
}

fn read(value: u64) -> u64 {
    assert!(!value.is_multiple_of(UNREADABLE), "nobody reads a {value}");
    value
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Count,
    Fold,
    Reduce,
    Distinct,
}

fn plane(kind: Kind, updates: bool) -> Plane {
    Plane::of(false, move |events: Stream<Event>| {
        let keyed = events.key_by(|event| event.0);
        macro_rules! end {
            ($stream:expr) => {{
                let stream = $stream;
                if updates {
                    stream
                        .updates()
                        .map("read", |(key, value)| (key, read(value)))
                        .sink("out", drain());
                } else {
                    stream.map("read", |(key, value)| (key, read(value))).sink("out", drain());
                }
            }};
        }
        match kind {
            Kind::Count => end!(keyed.count("a")),
            Kind::Fold => end!(keyed.fold("a", 0_u64, |sum: &mut u64, event| {
                *sum += u64::from(event.1);
                take(event.1);
            })),
            Kind::Reduce => {
                let reduced = keyed.reduce("a", |one, other| {
                    take(other.1);
                    (one.0, one.1.max(other.1))
                });
                let stream = if updates { reduced.updates() } else { reduced };
                stream.map("read", |(key, event)| (key, read(event.1.into()))).sink("out", drain());
            }
            Kind::Distinct => keyed
                .distinct("a")
                .map("read", |event| (event.0, read(event.1.into())))
                .sink("out", drain()),
        }
    })
}

/// A value for each key, the emissions, and what is put aside.
#[derive(Default)]
struct Model {
    values: BTreeMap<u8, u64>,
    out: Vec<(u8, u64)>,
    aside: usize,
}

impl Model {
    fn emit(&mut self, key: u8, value: u64) {
        if value.is_multiple_of(UNREADABLE) {
            self.aside += 1;
        } else {
            self.out.push((key, value));
        }
    }

    fn record(&mut self, kind: Kind, updates: bool, (key, number): Event) {
        let before = self.values.get(&key).copied();
        let value = match kind {
            Kind::Count => Some(before.unwrap_or(0) + 1),
            Kind::Fold if number == POISON => None,
            Kind::Fold => Some(before.unwrap_or(0) + u64::from(number)),
            Kind::Reduce if before.is_some() && number == POISON => None,
            Kind::Reduce => Some(before.unwrap_or(0).max(number.into())),
            Kind::Distinct => {
                if before.is_none() {
                    self.values.insert(key, number.into());
                    self.emit(key, number.into());
                }
                return;
            }
        };
        let Some(value) = value else {
            self.aside += 1;
            return;
        };
        self.values.insert(key, value);
        if updates {
            self.emit(key, value);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn aggregates_are_those_of_a_map(
        kind in prop_oneof![
            Just(Kind::Count), Just(Kind::Fold), Just(Kind::Reduce), Just(Kind::Distinct),
        ],
        updates in any::<bool>(),
        batches in vec((vec((0..20_u8, 0..30_u16), 0..30), 0..4_u8), 1..12),
    ) {
        let plane = plane(kind, updates);
        let mut rig = plane.task("a", 1);
        let mut model = Model::default();
        let mut out = Vec::new();
        for (place, (batch, then)) in batches.into_iter().enumerate() {
            batch.iter().for_each(|event| model.record(kind, updates, *event));
            let batch: Vec<_> = batch.into_iter().map(|event| (0, event)).collect();
            rig.batch::<Event>(0, &batch);
            if then > 0 {
                let epoch = place as u64 + 1;
                rig.barrier(0, epoch, rig.snapshots.keys().next_back().copied());
                rig.settle();
                rig.committed(epoch);
                out.extend(got(&mut rig));
                if then == 2 {
                    rig = plane.start("a", (0, 1), 1, restore(epoch, &[&rig]));
                }
            }
        }
        rig.end();
        out.extend(got(&mut rig));
        if kind != Kind::Distinct && !updates {
            for (key, value) in model.values.clone() {
                model.emit(key, value);
            }
            out.sort_unstable();
        }
        prop_assert_eq!(out, model.out);
        prop_assert_eq!(rig.all_aside().len(), model.aside);
    }
}

fn got(rig: &mut Rig) -> Vec<(u8, u64)> {
    assert_eq!(rig.failed, None);
    rig.records::<(u8, u64)>(0).into_iter().map(|(_, record)| record).collect()
}

#[test]
fn a_record_that_panics_is_the_one_put_aside() {
    let mut rig = plane(Kind::Fold, true).task("a", 1);
    rig.batch::<Event>(0, &[(0, (1, 2)), (0, (1, POISON)), (0, (1, 3)), (0, (1, 8))]);
    rig.end();
    assert_eq!(got(&mut rig), [(1, 2), (1, 5)]);
    let aside = rig.all_aside();
    let what: Vec<_> = aside.iter().map(|it| (it.operator.as_str(), it.bytes.clone())).collect();
    let expected = [("a", encoded(&(1_u8, POISON))), ("read", encoded(&(1_u8, 13_u64)))];
    assert_eq!(what, expected);
}
