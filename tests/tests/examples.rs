//! The examples: as processes, and by hand.

use std::collections::BTreeMap;

use gear_node::prelude::*;
use gear_node::testing::{self, Harness, Input, Output, Timer};
use gear_tests::process::Room;

#[expect(dead_code, unreachable_pub, reason = "a program that is tested from within")]
#[path = "../../node/examples/late_events.rs"]
mod late_events;
#[expect(dead_code, unreachable_pub, reason = "a program that is tested from within")]
#[path = "../../node/examples/sessions.rs"]
mod sessions;

use sessions::{Alert, Click, Session, Sessions};

fn fields(line: &str) -> Vec<i64> {
    line.split('\t').map(|field| field.parse().expect("a number")).collect()
}

/// How many readings the windows hold in the end, the last result of each window counting.
fn in_windows(lines: &[String]) -> i64 {
    let mut windows = BTreeMap::new();
    for line in lines {
        let fields = fields(line);
        let count = windows.entry((fields[0], fields[1])).or_insert(0);
        // A window only ever gains readings, whatever the order of the files.
        *count = fields[2].max(*count);
    }
    windows.values().sum()
}

#[test]
fn each_late_event_is_in_a_window_or_in_the_late_folder() {
    for (parallelism, readings) in [("1", 30_000), ("3", 30_000)] {
        let room = Room::new(env!("CARGO_BIN_EXE_job_late_events"));
        let number = readings.to_string();
        let ended =
            room.run(&["--readings", &number, "--parallelism", parallelism, "--out", "out"]).ok();
        let late = room.lines("out/late").len() as i64;
        assert!(late > 0 && ended.out.contains("readings came too late"), "{ended:?}");
        assert_eq!(in_windows(&room.lines("out/per_10s")) + late, readings, "{parallelism}");
        // A reading is in up to six of the sliding windows.
        let sliding = in_windows(&room.lines("out/per_minute"));
        assert!(sliding > readings * 5 && sliding <= readings * 6, "{sliding}");
        assert!(!room.lines("out/late_for_minute").is_empty());
    }
}

#[test]
fn late_events_survive_crashes_by_hand() {
    let options = || late_events::Options { readings: 20_000, rate: 1_000, out: "o".into() };
    let results = |crashes: bool| {
        let mut job = Harness::setup_with(options(), late_events::job).start().unwrap();
        for second in 0..25 {
            job.advance(seconds(1));
            if second % 3 == 0 {
                job.epoch();
            }
            if crashes && second % 7 == 5 {
                job.crash_and_restore_with(1 + second % 4);
            }
        }
        for _ in 0..30 {
            job.advance(seconds(1));
        }
        assert!(job.is_finished());
        let names: Vec<String> = job.disk().names().map(str::to_owned).collect();
        let mut read = |folder: &str| {
            let mut lines = Vec::new();
            for name in names.iter().filter(|name| name.starts_with(folder)) {
                let content = job.disk().content(name).unwrap_or_default().to_vec();
                let text = String::from_utf8(content).unwrap();
                lines.extend(text.lines().map(str::to_owned));
            }
            lines
        };
        (in_windows(&read("o/per_10s/part")), read("o/late/part").len() as i64)
    };
    let (windows, late) = results(false);
    assert_eq!(windows + late, 20_000);
    let (windows, late) = results(true);
    assert_eq!(windows + late, 20_000);
}

#[test]
fn sessions_hold_each_click_once() {
    for parallelism in ["1", "3"] {
        let room = Room::new(env!("CARGO_BIN_EXE_job_sessions"));
        let clicks = ["--clicks", "20000", "--users", "50", "--out", "out"];
        let _ = room.run(&[&clicks[..], &["--parallelism", parallelism]].concat()).ok();
        let lines = room.lines("out/sessions");
        let clicks: i64 = lines.iter().map(|line| fields(line)[3]).sum();
        assert_eq!(clicks, 20_000);
        assert!(lines.len() > 50);
    }
}

#[test]
fn a_session_ends_by_its_pause_and_alerts_go_aside() {
    let (input, output, alerts) =
        (Input::<Click>::new(), Output::<Session>::new(), Output::<Alert>::new());
    let mut job = Harness::new({
        let (input, output, alerts) = (input.clone(), output.clone(), alerts.clone());
        move |app| {
            let sessions = app
                .source("clicks", testing::input(&input))
                .watermarks(input.watermarks())
                .key_by(|click| click.user)
                .process("sessions", Sessions::default());
            sessions.side().sink("alerts", testing::output(&alerts));
            sessions.sink("out", testing::output(&output));
            Ok(())
        }
    })
    .unwrap();
    let minute = |minute: i64| EventTime::from_seconds(minute * 60);
    let click = |user, page, at| input.push(Click { user, page, at }, at);
    click(1, 7, minute(0));
    click(1, 8, minute(20));
    click(1, 8, minute(10));
    click(2, 9, minute(21));
    job.epoch();
    let timers = job.timers::<u64>("sessions");
    assert_eq!(timers[0], (Timer::Event(minute(50)), 1), "{timers:?}");
    assert_eq!(timers.len(), 4, "two of each kind: {timers:?}");
    job.crash_and_restore_with(2);
    input.watermark(minute(50));
    job.run();
    let session =
        Session { user: 1, start: minute(0), end: minute(20), pages: vec![7, 8, 8], favourite: 8 };
    assert_eq!(output.take(), [session]);
    job.advance(seconds(60));
    assert_eq!(alerts.take(), [Alert::StillOpen(2)]);
    (0..30).for_each(|_| click(3, 1, minute(51)));
    job.run();
    assert_eq!(alerts.take(), [Alert::TooFast(3)]);
    input.end();
    job.run();
    assert_eq!(output.committed().len(), 3);
    job.run();
    assert!(job.is_finished());
}
