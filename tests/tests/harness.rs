//! Jobs run by hand, as their authors test them.

use gear_node::BadRecord;
use gear_node::prelude::*;
use gear_node::testing::{self, Harness, Input, Output, Timer};

fn at(second: i64) -> EventTime {
    EventTime::from_seconds(second)
}

/// Records of a key in windows of ten seconds, with those that are too late.
fn windows(
    input: &Input<(u64, u64)>,
    output: &Output<(u64, i64, u64)>,
    late: &Output<(u64, u64)>,
) -> impl Fn(&mut App) -> Result<()> + 'static {
    let (input, output, late) = (input.clone(), output.clone(), late.clone());
    move |app| {
        let counts = app
            .source("in", testing::input(&input))
            .watermarks(input.watermarks())
            .key_by(|(key, _)| *key)
            .window(Tumbling::of(seconds(10)).allowed_lateness(seconds(5)))
            .count("counts");
        counts.late().sink("late", testing::output(&late));
        counts
            .map("flat", |(key, window, count): (u64, Window, u64)| (key, window.start.0, count))
            .sink("out", testing::output(&output));
        Ok(())
    }
}

#[test]
fn windows_fire_at_their_watermark_and_late_records_go_aside() {
    let (input, output, late) = (Input::new(), Output::new(), Output::new());
    let mut job = Harness::new(windows(&input, &output, &late)).unwrap();
    input.push((1, 0), at(1));
    input.push((1, 0), at(9));
    input.push((2, 0), at(11));
    input.watermark(at(9));
    job.run();
    assert!(output.take().is_empty());
    assert_eq!(job.clock("counts"), at(9));
    input.watermark(at(10));
    job.run();
    assert_eq!(output.take(), [(1, 0, 2)]);
    input.push((1, 1), at(3));
    job.run();
    assert_eq!(output.take(), [(1, 0, 3)], "within the allowed lateness it corrects");
    input.watermark(at(15));
    input.push((1, 2), at(3));
    job.run();
    assert_eq!((output.take(), late.take()), (vec![], vec![(1, 2)]));
    assert_eq!(job.late("counts"), 1);
    assert!(job.state_bytes("counts") > 0);
    input.end();
    job.run();
    assert_eq!(output.take_timed().len(), 1);
    assert!(job.is_finished());
    assert_eq!(output.committed(), [(1, 0, 2), (1, 0, 3), (2, 10_000_000, 1)]);
}

#[test]
fn a_crash_takes_back_what_no_epoch_holds_at_any_parallelism() {
    let (input, output, late) = (Input::new(), Output::new(), Output::new());
    let mut job = Harness::setup(windows(&input, &output, &late)).parallelism(2).start().unwrap();
    for key in 0..20 {
        input.push((key, 0), at(1));
    }
    assert_eq!(job.epoch(), 1);
    input.watermark(at(10));
    job.run();
    assert_eq!(output.take().len(), 20);
    assert!(output.committed().is_empty());
    for parallelism in [3, 1, 5] {
        job.crash_and_restore_with(parallelism);
        job.run();
        let mut again = output.take();
        again.sort_unstable();
        let expected: Vec<_> = (0..20).map(|key| (key, 0, 1)).collect();
        assert_eq!(again, expected, "parallelism {parallelism}");
    }
    job.epoch();
    job.crash_and_restore();
    job.run();
    assert!(output.take().is_empty());
    assert_eq!(output.committed().len(), 20);
}

/// A low-level operator: numbers the records, and says now and then how many there were.
#[derive(Clone, Default)]
struct Number {
    count: u64,
}

impl Operator for Number {
    type In = Ref<str>;
    type Out = Ref<str>;

    fn on_start(&mut self, cx: &mut OperatorContext<'_, Ref<str>>) {
        cx.set_timer(cx.wall + seconds(10));
    }

    fn on_record(&mut self, text: &str, cx: &mut OperatorContext<'_, Ref<str>>) {
        assert!(text != "bad", "not this one");
        self.count += 1;
        cx.emit(&format!("{} {text}", self.count));
    }

    fn on_timer(&mut self, at: WallTime, cx: &mut OperatorContext<'_, Ref<str>>) {
        cx.emit(&format!("{} so far", self.count));
        cx.set_timer(at + seconds(10));
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_le_bytes());
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        let bytes = state.try_into().map_err(|_| "the count has eight bytes".to_owned())?;
        self.count += u64::from_le_bytes(bytes);
        Ok(())
    }

    fn on_stop(&mut self, cx: &mut OperatorContext<'_, Ref<str>>) {
        cx.emit(&format!("{} in all", self.count));
    }
}

#[test]
fn a_graph_of_hand_written_operators_keeps_its_state_and_its_timers() {
    let (input, output) = (Input::<Ref<str>>::new(), Output::<String>::new());
    let mut job = Harness::new({
        let (input, output) = (input.clone(), output.clone());
        move |app| {
            let lines = app.source("in", testing::input(&input));
            let mut graph = GraphBuilder::of(app);
            graph
                .processor("number", Number::default(), lines, Partitioner::Rebalance)
                .sink("out", testing::output_with(&output, |text: &str| text.to_owned()));
            Ok(())
        }
    })
    .unwrap();
    input.push("a", EventTime::MIN);
    input.push("b", EventTime::MIN);
    job.run();
    assert_eq!(output.take(), ["1 a", "2 b"]);
    job.epoch();
    job.advance(seconds(9));
    assert!(output.take().is_empty());
    job.advance(seconds(1));
    assert_eq!(output.take(), ["2 so far"]);
    input.push("c", EventTime::MIN);
    job.run();
    job.crash_and_restore();
    job.run();
    // What was not committed comes again: the timer was set when the epoch was taken.
    assert_eq!(output.take(), ["2 so far", "3 c"]);
    input.push("bad", EventTime::MIN);
    input.end();
    job.run();
    assert_eq!(output.take(), ["3 in all"]);
    assert_eq!(job.quarantined().len(), 1);
}

/// Adds up what comes for a key until it has been silent for a while, in both kinds of time.
#[derive(Clone, Copy, Default)]
struct Totals {
    total: ValueState<u64>,
    all: ListState<u64>,
    times: MapState<u64, u64>,
}

impl Process for Totals {
    type Key = u64;
    type In = (u64, u64);
    type Out = (u64, u64);
    type Side = u64;

    fn open(&mut self, states: &mut States) {
        self.total = states.value("total");
        self.all = states.list("all");
        self.times = states.map("times");
    }

    fn on_record(&mut self, (_, amount): (u64, u64), cx: &mut ProcessContext<'_, (u64, u64), u64>) {
        let total = cx.get(self.total).unwrap_or(0) + amount;
        cx.set(self.total, &total);
        cx.append(self.all, &amount);
        let times = cx.map_get(self.times, &amount).unwrap_or(0) + 1;
        cx.map_set(self.times, &amount, &times);
        cx.set_event_timer(cx.at + seconds(10));
        cx.set_wall_timer(cx.wall + seconds(60));
        assert!(amount != 13, "unlucky");
    }

    fn on_event_timer(
        &mut self,
        _: EventTime,
        key: u64,
        cx: &mut ProcessContext<'_, (u64, u64), u64>,
    ) {
        let total = cx.get(self.total).unwrap_or(0);
        cx.emit((key, total));
    }

    fn on_wall_timer(
        &mut self,
        _: WallTime,
        key: u64,
        cx: &mut ProcessContext<'_, (u64, u64), u64>,
    ) {
        cx.side(key);
    }
}

fn totals(
    input: &Input<(u64, u64)>,
    output: &Output<(u64, u64)>,
    side: &Output<u64>,
) -> impl Fn(&mut App) -> Result<()> + 'static {
    let (input, output, side) = (input.clone(), output.clone(), side.clone());
    move |app| {
        let totals = app
            .source("in", testing::input(&input))
            .watermarks(input.watermarks())
            .key_by(|(key, _)| *key)
            .process("totals", Totals::default());
        totals.side().sink("side", testing::output(&side));
        totals.sink("out", testing::output(&output));
        Ok(())
    }
}

#[test]
fn state_timers_and_side_output_of_a_process_can_be_looked_at() {
    let (input, output, side) = (Input::new(), Output::new(), Output::new());
    let mut job = Harness::setup(totals(&input, &output, &side)).parallelism(2).start().unwrap();
    for amount in [5, 5, 13, 6] {
        input.push((1, amount), at(1));
    }
    job.epoch();
    assert_eq!(job.value::<u64, u64>("totals", "total"), [(1, 16)]);
    assert_eq!(job.list::<u64, u64>("totals", "all"), [(1, vec![5, 5, 6])]);
    let mut times = job.map::<u64, u64, u64>("totals", "times");
    times.sort_unstable();
    assert_eq!(times, [(1, 5, 2), (1, 6, 1)]);
    let wall = WallTime(60_000_000);
    assert_eq!(job.timers::<u64>("totals"), [(Timer::Event(at(11)), 1), (Timer::Wall(wall), 1)]);
    let aside = job.quarantined();
    assert_eq!((aside.len(), aside[0].error.as_str()), (1, "unlucky"));
    assert_eq!(aside[0].operator, "totals");

    job.crash_and_restore_with(3);
    job.advance(seconds(59));
    assert!(side.take().is_empty());
    job.advance(seconds(1));
    assert_eq!(side.take(), [1]);
    input.watermark(at(11));
    job.run();
    assert_eq!(output.take(), [(1, 16)]);
    job.epoch();
    assert!(job.timers::<u64>("totals").is_empty());
}

#[test]
fn an_aggregate_can_be_looked_at() {
    let (input, output) = (Input::<u64>::new(), Output::new());
    let mut job = Harness::new({
        let (input, output) = (input.clone(), output.clone());
        move |app| {
            app.source("in", testing::input(&input))
                .key_by(|number| number % 3)
                .count("counts")
                .updates()
                .sink("out", testing::output(&output));
            Ok(())
        }
    })
    .unwrap();
    (0..10).for_each(|number| input.push(number, EventTime::MIN));
    for expected in [[(0, 4), (1, 3), (2, 3)], [(0, 5), (1, 3), (2, 3)]] {
        job.epoch();
        let mut counts = job.state::<u64, u64>("counts");
        counts.sort_unstable();
        assert_eq!(counts, expected);
        input.push(0, EventTime::MIN);
    }
    assert_eq!(output.take().len(), 11);
}

#[test]
fn bad_records_are_put_aside_or_end_the_job() {
    let (input, output, side) = (Input::new(), Output::new(), Output::new());
    input.push((1, 1), at(1));
    input.push_malformed(b"\xff", "this is no pair");
    input.push((1, 13), at(1));
    input.end();
    let mut job = Harness::new(totals(&input, &output, &side)).unwrap();
    job.run();
    assert!(job.is_finished());
    let mut errors: Vec<_> = job.quarantined().into_iter().map(|entry| entry.error).collect();
    errors.sort();
    assert_eq!(errors, ["this is no pair", "unlucky"]);

    let output = Output::new();
    let setup = Harness::setup(totals(&input, &output, &side)).on_bad_record(BadRecord::Fail);
    let mut job = setup.start().unwrap();
    let failed = job.try_run().unwrap_err().to_string();
    assert!(failed.contains("this is no pair"), "{failed}");
    assert!(output.committed().is_empty());
}

#[test]
fn files_are_read_from_and_written_to_a_disk_in_memory() {
    let describe = |app: &mut App| {
        app.source("in", files::source(["in"]))
            .map("upper", |line: &str| line.to_uppercase())
            .sink("out", files::lines_sink::<String>("out"));
        Ok(())
    };
    let mut job = Harness::setup(describe).file("in/a.txt", "one\ntwo\n").start().unwrap();
    job.run();
    assert!(job.is_finished());
    let names: Vec<String> = job.disk().names().map(str::to_owned).collect();
    let visible: Vec<_> = names.iter().filter(|name| name.starts_with("out/part")).collect();
    assert_eq!(visible.len(), 1, "{names:?}");
    assert_eq!(job.disk().content(visible[0]), Some(&b"ONE\nTWO\n"[..]));
}

#[test]
fn the_same_test_does_the_same_each_time() {
    let run = || {
        let (input, output, late) = (Input::new(), Output::new(), Output::new());
        let setup = Harness::setup(windows(&input, &output, &late)).parallelism(3);
        let mut job = setup.start().unwrap();
        for number in 0..1_000_u64 {
            input.push((number % 17, number), at((number / 3) as i64));
            if number % 50 == 0 {
                input.watermark(at((number / 3) as i64 - 20));
                job.epoch();
            }
            if number == 600 {
                job.crash_and_restore();
            }
        }
        input.end();
        job.run();
        (output.take_timed(), late.take())
    };
    assert_eq!(run(), run());
}
