//! State with a time to live, against a map of when each key was last heard of.

use std::collections::BTreeMap;

use gear_core::dsl::Stream;
use gear_core::time::{Duration, WallTime};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::rig::{Plane, Rig, drain, restore};

const AFTER: i64 = 20;

type Event = (u8, u16);

fn plane(timed: bool, distinct: bool) -> Plane {
    Plane::of(timed, move |events: Stream<Event>| {
        let keyed = events.key_by(|event| event.0);
        let expiring = keyed.time_to_live(Duration::from_micros(AFTER as u64));
        if distinct {
            expiring.distinct("e").map("d", |it| (it.0, u64::from(it.1))).sink("out", drain());
        } else {
            expiring.count("e").sink("out", drain());
        }
    })
}

#[derive(Clone, Debug)]
enum Step {
    Record(u8, i8),
    Clock(u8),
    Restart,
}

fn got(rig: &mut Rig) -> Vec<(u8, u64)> {
    rig.settle();
    assert_eq!(rig.failed, None);
    let mut out: Vec<_> =
        rig.records::<(u8, u64)>(0).into_iter().map(|(_, record)| record).collect();
    out.sort_unstable();
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_key_lives_as_long_as_it_is_heard_of(
        timed in any::<bool>(),
        distinct in any::<bool>(),
        steps in vec(prop_oneof![
            5 => (0..4_u8, -30..30_i8).prop_map(|(key, by)| Step::Record(key, by)),
            3 => (0..30_u8).prop_map(Step::Clock),
            1 => Just(Step::Restart),
        ], 1..60),
    ) {
        let plane = plane(timed, distinct);
        let mut rig = plane.task("e", 1);
        let mut keys: BTreeMap<u8, (i64, u64)> = BTreeMap::new();
        let (mut clock, mut epoch) = (0, 0);
        rig.watermark(0, clock);
        for (number, step) in steps.into_iter().enumerate() {
            let mut out = Vec::new();
            match step {
                Step::Record(key, by) => {
                    let at = clock + i64::from(by);
                    rig.batch::<Event>(0, &[(at, (key, number as u16))]);
                    let now = if timed { at } else { clock };
                    let of = keys.entry(key).or_insert_with(|| {
                        if distinct {
                            out.push((key, number as u64));
                        }
                        (now, 0)
                    });
                    *of = (of.0.max(now), of.1 + 1);
                }
                Step::Clock(ahead) => {
                    clock += i64::from(ahead);
                    rig.watermark(0, clock);
                    rig.wall = WallTime(clock);
                }
                Step::Restart => {
                    epoch += 1;
                    rig.barrier(0, epoch, rig.snapshots.keys().next_back().copied());
                    rig.settle();
                    rig = plane.start("e", (0, 1), 1, restore(epoch, &[&rig]));
                    rig.wall = WallTime(clock);
                }
            }
            keys.retain(|key, (last, count)| {
                let lives = *last + AFTER > clock;
                if !lives && !distinct {
                    out.push((*key, *count));
                }
                lives
            });
            out.sort_unstable();
            prop_assert_eq!(got(&mut rig), out);
        }
        rig.end();
        let rest = keys.into_iter().filter(|_| !distinct).map(|(key, (_, count))| (key, count));
        prop_assert_eq!(got(&mut rig), rest.collect::<Vec<_>>());
    }
}
