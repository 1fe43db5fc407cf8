//! Windows against a model that keeps every pane in a map.

use std::collections::BTreeMap;

use gear_core::dsl::{Sliding, Stream, Tumbling};
use gear_core::flow::window::{Window, Windows};
use gear_core::time::{Duration, EventTime};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::rig::{Plane, Rig, drain, encoded, restore};

/// A record: its key, and a number that no other record has.
type Event = (u8, u32);
/// A result: key, window, and the numbers in it.
type Result = (u8, Window, Vec<u32>);

fn plane(windows: Windows) -> Plane {
    Plane::of(true, |events: Stream<Event>| {
        let keyed = events.key_by(|event| event.0);
        let folded = keyed.window(windows).fold("w", Vec::new(), |all: &mut Vec<u32>, event| {
            assert!(event.1 != u32::MAX, "a record that nobody can take");
            all.push(event.1);
        });
        folded.late().sink("late", drain());
        folded.sink("out", drain());
    })
}

fn windows(size: u64, slide: u64, lateness: u64) -> Windows {
    let of = Duration::from_micros;
    Sliding::of(of(size), of(slide)).allowed_lateness(of(lateness)).into()
}

/// The same in a straightforward way, in numbers that do not overflow.
#[derive(Default)]
struct Model {
    size: i128,
    slide: i128,
    lateness: i128,
    clock: i128,
    panes: BTreeMap<(i128, u8), (Vec<u32>, bool)>,
    out: Vec<(i128, u8, Vec<u32>)>,
    late: Vec<u32>,
}

impl Model {
    fn new(size: u64, slide: u64, lateness: u64) -> Self {
        let (size, slide, lateness) = (size.into(), slide.into(), lateness.into());
        Self { size, slide, lateness, clock: i128::MIN / 2, ..Self::default() }
    }

    fn record(&mut self, at: i64, (key, number): Event) {
        let at = i128::from(at);
        let mut taken = false;
        let mut start = at.div_euclid(self.slide) * self.slide;
        while start + self.size > at {
            let end = start + self.size;
            if end + self.lateness > self.clock {
                taken = true;
                let pane = self.panes.entry((start, key)).or_default();
                pane.0.push(number);
                if end <= self.clock {
                    pane.1 = true;
                    self.out.push((start, key, pane.0.clone()));
                }
            }
            start -= self.slide;
        }
        if !taken {
            self.late.push(number);
        }
    }

    fn watermark(&mut self, at: i64) {
        self.clock = self.clock.max(at.into());
        for ((start, key), (numbers, fired)) in &mut self.panes {
            if !*fired && start + self.size <= self.clock {
                *fired = true;
                self.out.push((*start, *key, numbers.clone()));
            }
        }
        let (size, lateness, clock) = (self.size, self.lateness, self.clock);
        self.panes.retain(|(start, _), _| start + size + lateness > clock);
    }

    fn take(&mut self) -> (Vec<(i128, u8, Vec<u32>)>, Vec<u32>) {
        let (mut out, late) = (std::mem::take(&mut self.out), std::mem::take(&mut self.late));
        out.sort();
        (out, late)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Records(Vec<(i64, u8)>),
    Watermark(u8),
    Snapshot { crash: bool, tasks: u32 },
}

fn steps(times: std::ops::Range<i64>) -> impl Strategy<Value = Vec<Step>> {
    let records = vec((times, 0..4_u8), 1..8).prop_map(Step::Records);
    let snapshot = (any::<bool>(), 1..4_u32);
    vec(
        prop_oneof![
            4 => records,
            3 => (0..30_u8).prop_map(Step::Watermark),
            1 => snapshot.prop_map(|(crash, tasks)| Step::Snapshot { crash, tasks }),
        ],
        1..40,
    )
}

/// Tasks that share the key groups, fed like by a hash partitioner that knows nothing of keys:
/// every task gets every record, and those of other tasks' groups are not sent.
struct Tasks {
    plane: Plane,
    rigs: Vec<Rig>,
}

impl Tasks {
    fn of(&self, key: u8) -> usize {
        use gear_core::api::key::{Key, key_group, task_of_group};
        let groups = self.plane.job.graph.key_groups;
        let group = key_group(u8::hash(&key, 0), groups);
        task_of_group(group, self.rigs.len() as u32, groups) as usize
    }

    fn settle(&mut self) {
        self.rigs.iter_mut().for_each(Rig::settle);
        for rig in &self.rigs {
            assert_eq!(rig.failed, None);
        }
    }

    fn take(&mut self) -> (Vec<(i128, u8, Vec<u32>)>, Vec<u32>) {
        let (mut out, mut late) = (Vec::new(), Vec::new());
        for rig in &mut self.rigs {
            for (at, (key, window, numbers)) in rig.records::<Result>(0) {
                assert_eq!(at, window.end.0 - 1, "a result is the last event of its window");
                out.push((window.start.0.into(), key, numbers));
            }
            late.extend(rig.records::<Event>(1).into_iter().map(|(_, event)| event.1));
        }
        out.sort();
        late.sort_unstable();
        (out, late)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn windows_are_those_of_the_model(
        size in 1..40_u64,
        slide in 1..40_u64,
        lateness in prop_oneof![Just(0), 0..60_u64],
        steps in steps(-100..200),
    ) {
        let plane = plane(windows(size, slide, lateness));
        let rigs = vec![plane.task("w", 1)];
        let mut tasks = Tasks { plane, rigs };
        let mut model = Model::new(size, slide, lateness);
        let (mut number, mut clock, mut epoch) = (0, -100, 0);
        for step in steps {
            match step {
                Step::Records(records) => {
                    for (at, key) in records {
                        number += 1;
                        model.record(at, (key, number));
                        let task = tasks.of(key);
                        tasks.rigs[task].batch(0, &[(at, (key, number))]);
                    }
                }
                Step::Watermark(ahead) => {
                    clock += i64::from(ahead);
                    model.watermark(clock);
                    tasks.rigs.iter_mut().for_each(|rig| rig.watermark(0, clock));
                }
                Step::Snapshot { crash, tasks: count } => {
                    epoch += 1;
                    tasks.rigs.iter_mut().for_each(|rig| {
                        let base = rig.snapshots.keys().next_back().copied();
                        rig.barrier(0, epoch, base);
                    });
                    tasks.settle();
                    prop_assert_eq!(tasks.take(), model.take());
                    tasks.rigs.iter_mut().for_each(|rig| rig.committed(epoch));
                    if crash {
                        let rigs: Vec<_> = tasks.rigs.iter().collect();
                        let rigs = (0..count).map(|index| {
                            let place = (index, count);
                            tasks.plane.start("w", place, 1, restore(epoch, &rigs))
                        });
                        tasks.rigs = rigs.collect();
                    }
                }
            }
            tasks.settle();
            prop_assert_eq!(tasks.take(), model.take());
        }
        tasks.rigs.iter_mut().for_each(Rig::end);
        model.watermark(i64::MAX);
        prop_assert_eq!(tasks.take(), model.take());
    }

    /// Near the ends of time results may be cut, but nothing overflows and no record is lost.
    #[test]
    fn no_record_is_lost_at_the_ends_of_time(
        size in prop_oneof![1..1_000_u64, Just(i64::MAX as u64), Just(u64::MAX), 1..u64::MAX],
        slide in prop_oneof![1..1_000_u64, Just(i64::MAX as u64), any::<u64>()],
        lateness in prop_oneof![Just(0), any::<u64>()],
        records in vec((
            prop_oneof![
                Just(i64::MIN), Just(i64::MAX), Just(0), any::<i64>(),
                (0..2_000_i64).prop_map(|by| i64::MIN + by),
                (0..2_000_i64).prop_map(|by| i64::MAX - by),
            ],
            any::<bool>(),
        ), 1..20),
    ) {
        // A window that slides by less than a thousandth of its size is a job's mistake, not ours.
        let slide = slide.max(size / 1_000).max(1);
        let plane = plane(windows(size, slide, lateness));
        let mut rig = plane.task("w", 1);
        let mut clock = i64::MIN;
        for (number, (at, watermark)) in records.iter().enumerate() {
            rig.batch::<Event>(0, &[(*at, (0, number as u32))]);
            if *watermark {
                clock = clock.max(*at);
                rig.watermark(0, clock);
            }
        }
        rig.end();
        prop_assert_eq!(&rig.failed, &None);
        prop_assert_eq!(rig.all_aside(), Vec::new());
        let mut seen = vec![slide > size; records.len()];
        for (_, (_, window, numbers)) in rig.records::<Result>(0) {
            prop_assert!(window.start < window.end || window.end == EventTime::MAX);
            numbers.iter().for_each(|number| seen[*number as usize] = true);
        }
        let late = rig.records::<Event>(1);
        late.iter().for_each(|(_, event)| seen[event.1 as usize] = true);
        prop_assert!(seen.iter().all(|seen| *seen), "{:?}", seen);
    }
}

#[test]
fn a_panic_puts_the_record_aside_and_leaves_every_window_of_it_as_it_was() {
    let plane = plane(windows(10, 5, 0));
    let mut rig = plane.task("w", 1);
    rig.batch::<Event>(0, &[(7, (1, 1)), (7, (1, u32::MAX)), (8, (1, 2)), (8, (2, u32::MAX))]);
    rig.end();
    let results = rig.records::<Result>(0);
    let numbers: Vec<_> = results.iter().map(|(_, it)| (it.0, it.1.start.0, &it.2)).collect();
    assert_eq!(numbers, [(1, 0, &vec![1, 2]), (1, 5, &vec![1, 2])]);
    let aside = rig.all_aside();
    let bytes: Vec<_> = aside.iter().map(|entry| entry.bytes.clone()).collect();
    assert_eq!(bytes, [encoded(&(1_u8, u32::MAX)), encoded(&(2_u8, u32::MAX))]);
    assert_eq!(aside[0].operator, "w");
    assert!(aside[0].error.contains("nobody can take"), "{}", aside[0].error);
}

#[test]
fn a_key_that_panics_takes_nothing_back_from_the_record_before() {
    let plane = Plane::of(true, |events: Stream<Event>| {
        let keyed = events.key_by(|event| {
            assert!(event.0 != 99, "no key");
            event.0
        });
        keyed.window(Tumbling::of(Duration::from_micros(10))).count("w").sink("out", drain());
    });
    let mut rig = plane.task("w", 1);
    rig.batch::<Event>(0, &[(1, (1, 1)), (2, (99, 2)), (3, (1, 3)), (4, (99, 4))]);
    rig.end();
    assert_eq!(rig.failed, None);
    let results = rig.records::<(u8, Window, u64)>(0);
    assert_eq!(results.iter().map(|(_, it)| (it.0, it.2)).collect::<Vec<_>>(), [(1, 2)]);
    assert_eq!(rig.all_aside().len(), 2);
}

#[test]
fn state_is_dropped_when_its_lateness_is_over() {
    let plane = plane(windows(10, 10, 5));
    let mut rig = plane.task("w", 1);
    let records = (0..2_000).map(|number| (3, ((number % 251) as u8, number)));
    let records: Vec<(i64, Event)> = records.collect();
    rig.batch(0, &records);
    rig.settle();
    let entries = |rig: &mut Rig, epoch| {
        rig.barrier(0, epoch, None);
        rig.settle();
        rig.snapshots[&epoch].chain.iter().map(|object| object.len).sum::<u64>()
    };
    let full = entries(&mut rig, 1);
    rig.watermark(0, 14);
    let fired = entries(&mut rig, 2);
    assert!(fired >= full, "late records may still come: {fired} < {full}");
    rig.watermark(0, 15);
    let empty = entries(&mut rig, 3);
    assert!(empty < 200, "{empty} bytes of nothing");
}

#[test]
fn the_starts_of_a_time_are_its_windows() {
    let windows = windows(10, 4, 0);
    let starts = |at| windows.starts(EventTime(at)).map(|start| start.0).collect::<Vec<_>>();
    assert_eq!(starts(0), [0, -4, -8]);
    assert_eq!(starts(-1), [-4, -8]);
    assert_eq!(starts(9), [8, 4, 0]);
}
