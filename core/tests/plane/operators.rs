//! Low-level operators: their state and timers through snapshots, and what a panic undoes.

use gear_core::api::{Operator, OperatorContext};
use gear_core::dag::Partitioner;
use gear_core::dsl::{App, GraphBuilder, Settings};
use gear_core::time::{EventTime, WallTime};

use crate::rig::{Plane, Rig, drain, nothing, restore};

/// Sums; emits the sum at a timer, which a record asks for.
#[derive(Clone, Default)]
struct Sums {
    sum: u64,
}

impl Operator for Sums {
    type In = u64;
    type Out = (i64, u64);

    fn on_record(&mut self, record: u64, cx: &mut OperatorContext<'_, (i64, u64)>) {
        if record >= 1_000 {
            cx.set_timer(WallTime(record as i64));
        }
        if [3, 37].contains(&record) {
            cx.quarantine::<u64>("three", record, "as it asked".to_owned());
        }
        cx.emit((0, record));
        assert!(record % 10 != 7, "seven");
        self.sum += record;
    }

    fn on_watermark(&mut self, at: EventTime, cx: &mut OperatorContext<'_, (i64, u64)>) {
        cx.emit((at.0, self.sum));
    }

    fn on_timer(&mut self, at: WallTime, cx: &mut OperatorContext<'_, (i64, u64)>) {
        cx.emit((at.0, self.sum));
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        out.extend(self.sum.to_le_bytes());
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        let state = state.try_into().map_err(|_| "not a sum".to_owned())?;
        self.sum += u64::from_le_bytes(state);
        Ok(())
    }

    fn on_stop(&mut self, cx: &mut OperatorContext<'_, (i64, u64)>) {
        cx.emit((i64::MAX, self.sum));
    }
}

fn plane() -> Plane {
    let mut app = App::new("plane", (), Settings::default());
    let source = app.source("source", nothing::<u64>());
    let mut graph = GraphBuilder::of(&app);
    let sums = graph.processor("sums", Sums::default(), source, Partitioner::Rebalance);
    sums.sink("out", drain());
    Plane { job: app.finish().expect("a job") }
}

fn out(rig: &mut Rig) -> Vec<(i64, u64)> {
    rig.settle();
    assert_eq!(rig.failed, None);
    rig.records::<(i64, u64)>(0).into_iter().map(|(_, record)| record).collect()
}

#[test]
fn state_changes_between_two_epochs_are_in_the_second() {
    let plane = plane();
    let mut rig = plane.task("sums", 1);
    for epoch in 1..=20 {
        rig.batch::<u64>(0, &[(0, 10 * epoch)]);
        rig.barrier(0, epoch, (epoch > 1).then_some(epoch - 1));
        rig.settle();
        rig.committed(epoch);
        let mut again = plane.start("sums", (0, 1), 1, restore(epoch, &[&rig]));
        again.end();
        assert_eq!(out(&mut again).last(), Some(&(i64::MAX, 5 * epoch * (epoch + 1))));
    }
}

#[test]
fn timers_survive_a_restore_and_those_that_fired_do_not() {
    let plane = plane();
    let mut rig = plane.task("sums", 1);
    rig.batch::<u64>(0, &[(0, 1_000), (0, 2_000), (0, 2_000)]);
    rig.barrier(0, 1, None);
    assert_eq!(out(&mut rig), [(0, 1_000), (0, 2_000), (0, 2_000)]);
    rig.committed(1);
    rig.wall = WallTime(1_500);
    assert_eq!(out(&mut rig), [(1_000, 5_000)], "one timer a time");
    rig.barrier(0, 2, Some(1));
    rig.settle();

    let mut first = plane.start("sums", (0, 1), 1, restore(1, &[&rig]));
    first.wall = WallTime(5_000);
    assert_eq!(out(&mut first), [(1_000, 5_000), (2_000, 5_000)]);
    let mut second = plane.start("sums", (0, 1), 1, restore(2, &[&rig]));
    second.wall = WallTime(5_000);
    assert_eq!(out(&mut second), [(2_000, 5_000)]);
}

#[test]
fn a_panic_takes_back_what_the_record_emitted_and_its_timers() {
    let plane = plane();
    let mut rig = plane.task("sums", 1);
    rig.batch::<u64>(0, &[(5, 1), (6, 1_007), (7, 3), (8, 37)]);
    assert_eq!(out(&mut rig), [(0, 1), (0, 3)]);
    rig.wall = WallTime(5_000);
    assert_eq!(out(&mut rig), [], "the timer was the bad record's");
    rig.end();
    assert_eq!(out(&mut rig), [(i64::MAX, 4), (i64::MAX, 4)]);
    let aside = rig.all_aside();
    let mut aside: Vec<_> = aside.iter().map(|it| (it.at.0, it.operator.as_str())).collect();
    aside.sort_unstable();
    assert_eq!(aside, [(6, "sums"), (7, "three"), (8, "sums")]);
}
