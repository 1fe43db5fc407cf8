//! What a job does when it is started again, twice at once, with other arguments, or stopped.

use std::fs;

use gear_tests::process::Room;
use gear_tests::words::{self, Count};

const WORD_COUNT: &str = env!("CARGO_BIN_EXE_job_word_count");
const HOSTILE: &str = env!("CARGO_BIN_EXE_job_hostile");

/// A room with a text in it, and what there is to count.
fn room_with_text(bytes: usize) -> (Room, Count) {
    let text = words::text(bytes, 7);
    let expected = words::count([text.as_slice()]);
    let room = Room::new(WORD_COUNT);
    room.write("text.txt", text);
    (room, expected)
}

#[test]
fn once_finished_nothing_changes_but_by_starting_over() {
    let (room, expected) = room_with_text(100_000);
    let _ = room.run(&["text.txt"]).ok();
    assert_eq!(room.table("out"), expected.words);
    let before = room.files("out");
    let modified = || {
        let paths = before.keys().map(|name| room.path("out").join(name));
        paths.map(|path| fs::metadata(path).unwrap().modified().unwrap()).collect::<Vec<_>>()
    };
    let times = modified();

    let again = room.run(&["text.txt"]).ok();
    assert!(again.out.contains("finished before"), "{again:?}");
    assert!(room.files("out") == before && modified() == times, "it has changed something");

    room.write("out/mine.txt", "this is\tmine\n");
    room.write("out/part-00000-mine", "this is\ttoo\n");
    room.write("gear-state/word-count/mine", "this too");
    let fresh = room.run(&["text.txt", "--fresh"]).ok();
    assert!(!fresh.out.contains("finished before"), "{fresh:?}");
    assert_eq!(fs::read(room.path("out/mine.txt")).unwrap(), b"this is\tmine\n");
    assert_eq!(fs::read(room.path("gear-state/word-count/mine")).unwrap(), b"this too");
    for mine in ["out/mine.txt", "out/part-00000-mine"] {
        fs::remove_file(room.path(mine)).unwrap();
    }
    assert_eq!(room.table("out"), expected.words);
}

#[test]
fn other_arguments_are_refused_on_the_same_state() {
    let (room, _) = room_with_text(1_000);
    room.write("other.txt", "other");
    let _ = room.run(&["text.txt"]).ok();
    let before = room.files("out");
    let refused = room.run(&["other.txt"]);
    refused.refused(&["\"text.txt\"", "\"other.txt\"", "--fresh", "state folder"]);
    assert!(room.files("out") == before);
    // How it runs is no part of what it is.
    let _ = room.run(&["text.txt", "--parallelism", "3", "--epoch-interval", "50ms"]).ok();
}

#[test]
fn a_second_process_is_refused_by_the_number_of_the_first() {
    let room = Room::new(HOSTILE);
    let mut first = room.start(&["--case", "endless"]);
    assert!(first.wait_until(|| room.last_record("hostile") > 1));
    let second = room.run(&["--case", "endless"]);
    second.refused(&[&format!("process {}", first.id()), "in use", "--take-over"]);
    assert!(!first.has_ended());
}

#[test]
fn a_process_that_is_taken_over_is_fenced_off() {
    let room = Room::new(HOSTILE);
    let arguments = ["--case", "endless", "--epoch-interval", "20ms"];
    let mut first = room.start(&arguments);
    assert!(first.wait_until(|| room.last_record("hostile") > 5));
    let mut second = room.start(&[&arguments[..], &["--take-over"]].concat());
    let fenced = first.wait();
    fenced.refused(&["another app master", "taken over", "commits nothing more"]);
    let err = room.path(".process-2.err");
    assert!(second.wait_until(|| fs::read_to_string(&err).unwrap().contains("goes on from epoch")));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!second.has_ended(), "{}", second.err());
    // The one that took over has inherited the folder.
    let lock = room.path("gear-state/hostile/lock");
    let number = second.id().to_string();
    assert!(second.wait_until(|| fs::read_to_string(&lock).unwrap() == number));
    room.run(&arguments).refused(&[&format!("process {number}"), "in use"]);
    second.interrupt();
    assert_eq!(second.wait().code, Some(130));
}

#[test]
fn taken_over_in_the_middle_the_result_is_right() {
    let (room, expected) = room_with_text(12 << 20);
    let arguments = ["text.txt", "--epoch-interval", "20ms"];
    let mut first = room.start(&arguments);
    let _ = first.wait_until(|| room.last_record("word-count") > 3);
    let second = room.run(&[&arguments[..], &["--take-over"]].concat()).ok();
    let first = first.wait();
    assert!(first.code == Some(0) || first.err.contains("taken over"), "{first:?}{second:?}");
    assert!(room.table("out") == expected.words);
}

#[test]
fn an_interrupt_takes_a_last_epoch_and_the_job_goes_on_later() {
    let (room, expected) = room_with_text(24 << 20);
    // Without an interval there is no epoch but the one of the interrupt.
    let arguments = ["text.txt", "--epoch-interval", "0"];
    let mut first = room.start(&arguments);
    let state = room.path(".process-1.err");
    assert!(first.wait_until(|| fs::read_to_string(&state).unwrap().contains("starts fresh")));
    std::thread::sleep(std::time::Duration::from_millis(100));
    first.interrupt();
    let stopped = first.wait();
    assert_eq!(stopped.code, Some(130), "{stopped:?}");
    assert!(stopped.out.contains("stopped: "), "{stopped:?}");
    assert!(room.lines("out").is_empty(), "the counts are there when the input has ended");
    let rest = room.run(&arguments).ok().says(&["goes on from epoch 1"]);
    assert!(rest.summary("records") == expected.lines, "{rest:?}");
    assert!(room.table("out") == expected.words);
}

#[test]
fn a_job_whose_operators_have_changed_says_what_is_missing() {
    let room = Room::new(HOSTILE);
    let _ = room.run(&["--case", "bad", "--count", "10"]).ok();
    room.run(&["--case", "large", "--count", "10"]).refused(&["Large", "Bad"]);
}
