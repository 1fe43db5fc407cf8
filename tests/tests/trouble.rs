//! Bad records, bad code, bad disks: a clear message, and never a wrong result.

use std::fs;
use std::path::PathBuf;

use gear_tests::process::{Dice, Room};
use gear_tests::system::SmallDisk;
use gear_tests::words;

const WORD_COUNT: &str = env!("CARGO_BIN_EXE_job_word_count");
const HOSTILE: &str = env!("CARGO_BIN_EXE_job_hostile");

#[test]
fn bad_records_are_put_aside_with_their_context_and_counted() {
    let room = Room::new(HOSTILE);
    let arguments = ["--case", "bad", "--count", "10000", "--parallelism", "2"];
    let ended = room.run(&[&arguments[..], &["--quarantine", "aside"]].concat()).ok();
    assert_eq!(ended.summary("quarantined"), 20);
    let mut numbers: Vec<u64> =
        room.lines("out").iter().map(|line| line.parse().expect("a number")).collect();
    numbers.sort_unstable();
    let good = |number: &u64| number % 1_000 != 7 && number % 1_000 != 8;
    assert!(numbers == (0..10_000).filter(good).collect::<Vec<_>>());
    let aside = String::from_utf8(room.files("aside")["quarantine.jsonl"].clone()).unwrap();
    assert_eq!(aside.lines().count(), 20, "{aside}");
    let of = |number: u64| {
        let hex: String = number.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let line = aside.lines().find(|line| line.contains(&hex));
        line.unwrap_or_else(|| panic!("{number} is not there: {aside}")).to_owned()
    };
    for part in ["\"refuse\"", "7007 is refused", "\"position\"", "u64", "generated 3/4"] {
        assert!(of(7_007).contains(part), "{part}: {}", of(7_007));
    }
    for part in ["\"panic\"", "3008 panics"] {
        assert!(of(3_008).contains(part), "{part}: {}", of(3_008));
    }
}

#[test]
fn a_bad_record_ends_the_job_if_that_is_asked_for() {
    let room = Room::new(HOSTILE);
    let ended = room.run(&["--case", "bad", "--on-bad-record", "fail"]);
    ended.refused(&["at generated ", "could not be processed by", "--on-bad-record keep"]);
    assert!(room.lines("out").is_empty(), "nothing of an epoch that failed is seen");
}

#[test]
fn a_panic_takes_back_what_it_did_to_the_state() {
    let room = Room::new(HOSTILE);
    let ended = room.run(&["--case", "bad-state", "--count", "2000", "--parallelism", "2"]).ok();
    assert_eq!(ended.summary("quarantined"), 20, "{ended:?}");
    let mut expected = std::collections::BTreeMap::new();
    for number in (0..2_000_u64).filter(|number| number % 100 != 13) {
        *expected.entry((number % 10).to_string()).or_insert(0) += number;
    }
    let expected = expected.into_iter().map(|(key, sum): (String, u64)| (key, sum.to_string()));
    assert_eq!(room.table("out"), expected.collect());
}

#[test]
fn a_slow_call_is_named() {
    let room = Room::new(HOSTILE);
    let ended = room.run(&["--case", "slow", "--count", "100", "--parallelism", "1"]).ok();
    // The chain runs in the source's task.
    let _ = ended.says(&["numbers[0]", "250 ms"]);
    assert_eq!(room.lines("out").len(), 100);
}

#[test]
fn at_the_memory_limit_the_job_stops_and_names_the_processor() {
    let room = Room::new(HOSTILE);
    let arguments = ["--case", "large", "--count", "3000000", "--memory", "8M"];
    room.run(&arguments).refused(&["memory budget", "large", "--memory"]);
    assert!(room.lines("out").is_empty());
}

#[test]
fn splits_of_any_place_give_each_line_once() {
    let mut text = words::text(100_000, 3);
    text.truncate(99_999);
    let expected: Vec<_> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let mut expected: Vec<_> =
        expected.into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
    expected.sort();
    for parallelism in ["1", "3"] {
        let room = Room::new(HOSTILE);
        room.write("text.txt", &text);
        let case = ["--case", "splits", "--path", "text.txt"];
        let _ = room.run(&[&case[..], &["--parallelism", parallelism]].concat()).ok();
        let mut lines = room.lines("out");
        lines.sort();
        assert!(lines == expected, "parallelism {parallelism}");
    }
}

#[test]
fn an_input_that_is_not_there_is_named() {
    let room = Room::new(WORD_COUNT);
    room.run(&["missing.txt"]).refused(&["missing.txt"]);
    room.run(&["*.nothing"]).refused(&["*.nothing"]);
}

/// A word count that was killed after a few epochs.
fn interrupted() -> (Room, words::Count) {
    let text = words::text(24 << 20, 11);
    let expected = words::count([text.as_slice()]);
    let room = Room::new(WORD_COUNT);
    room.write("text.txt", text);
    let mut run = room.start(&INTERRUPTED);
    assert!(run.wait_until(|| room.last_record("word-count") > 4));
    assert!(!run.has_ended(), "it was too fast to be interrupted");
    let _ = run.kill();
    (room, expected)
}

const INTERRUPTED: [&str; 5] = ["text.txt", "--epoch-interval", "20ms", "--parallelism", "2"];

#[test]
fn an_input_that_shrank_or_went_between_two_runs_is_named() {
    let (room, expected) = interrupted();
    let text = fs::read(room.path("text.txt")).unwrap();
    fs::rename(room.path("text.txt"), room.path("away")).unwrap();
    room.run(&INTERRUPTED).refused(&["text.txt"]);
    fs::rename(room.path("away"), room.path("text.txt")).unwrap();
    // The same file, shorter.
    let file = fs::OpenOptions::new().write(true).open(room.path("text.txt")).unwrap();
    file.set_len(10).unwrap();
    room.run(&INTERRUPTED).refused(&["text.txt"]);
    // Another file under its name.
    fs::remove_file(room.path("text.txt")).unwrap();
    room.write("text.txt", &text);
    room.run(&INTERRUPTED).refused(&["text.txt"]);
    let _ = room.run(&[&INTERRUPTED[..], &["--fresh"]].concat()).ok();
    assert!(room.table("out") == expected.words);
}

fn objects(room: &Room, folder: &str) -> Vec<PathBuf> {
    let root = format!("gear-state/word-count/{folder}");
    let names = room.files(&root).into_keys();
    // What a write left that was killed has a `#` in its name.
    let whole = names.filter(|name| !name.contains('#'));
    whole.map(|name| room.path(&root).join(name)).collect()
}

#[test]
fn a_damaged_state_object_is_named_and_never_used() {
    let (room, expected) = interrupted();
    let all = objects(&room, "state");
    let harm: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| *bytes.last_mut().unwrap() ^= 1,
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x40;
        },
    ];
    let healthy: Vec<_> = all.iter().map(|path| fs::read(path).unwrap()).collect();
    for harm in harm {
        for (path, bytes) in all.iter().zip(&healthy) {
            let mut bytes = bytes.clone();
            harm(&mut bytes);
            fs::write(path, bytes).unwrap();
        }
        room.run(&INTERRUPTED).refused(&["state/counts-", "is not what was written", "--fresh"]);
    }
    // A run has collected those that no epoch needs.
    all.iter().for_each(|path| drop(fs::remove_file(path)));
    room.write("gear-state/word-count/state/counts-0/t0000000001-e0000000009#1", "cut short");
    room.run(&INTERRUPTED).refused(&["state/counts-", "is missing", "--fresh"]);
    let names = room.files("gear-state").into_keys();
    assert!(names.into_iter().all(|name| !name.contains('#')), "what was cut short is swept");
    for (path, bytes) in all.iter().zip(&healthy) {
        fs::write(path, bytes).unwrap();
    }
    let _ = room.run(&INTERRUPTED).ok().says(&["goes on from epoch"]);
    assert!(room.table("out") == expected.words);
}

#[test]
fn a_damaged_record_of_the_log_is_named_with_the_choices() {
    let (room, expected) = interrupted();
    let last =
        objects(&room, "log").into_iter().rfind(|path| !path.display().to_string().contains('#'));
    let last = last.unwrap();
    let healthy = fs::read(&last).unwrap();
    let mut damaged = healthy.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&last, damaged).unwrap();
    let name = last.file_name().unwrap().to_string_lossy().into_owned();
    room.run(&INTERRUPTED).refused(&[&name, "damaged", "--fall-back", "--fresh"]);
    fs::write(&last, healthy).unwrap();
    let _ = room.run(&INTERRUPTED).ok().says(&["goes on from epoch"]);
    assert!(room.table("out") == expected.words);
}

#[test]
fn a_damaged_record_may_be_fallen_back_behind() {
    let (room, expected) = interrupted();
    let last =
        objects(&room, "log").into_iter().rfind(|path| !path.display().to_string().contains('#'));
    fs::write(last.unwrap(), "this is no record").unwrap();
    let fallen = room.run(&[&INTERRUPTED[..], &["--fall-back"]].concat()).ok();
    let _ = fallen.says(&["goes on from epoch", "passed over"]);
    // The counts come at the end, so that nothing had been visible that is now repeated.
    assert!(room.table("out") == expected.words);
}

#[test]
fn a_folder_that_cannot_be_is_named() {
    let room = Room::new(WORD_COUNT);
    room.write("text.txt", "a b a");
    room.write("file", "I am no folder");
    room.run(&["text.txt", "--state", "file/state"]).refused(&["state folder", "file/state"]);
    let out = ["text.txt", "--out", "file/out"];
    room.run(&out).refused(&["file/out"]);
    fs::remove_file(room.path("file")).unwrap();
    let _ = room.run(&out).ok();
    assert_eq!(room.table("file/out").len(), 2);
}

#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    let mut dice = Dice::of(1);
    let room = Room::new(WORD_COUNT);
    // Every word once, so that the result is larger than the disk.
    let text: String =
        (0..60_000).map(|number| format!("{number}-{}\n", dice.below(1 << 60))).collect();
    let expected = words::count([text.as_bytes()]);
    room.write("text.txt", text);
    let Some(disk) = SmallDisk::at(&room.path("disk"), "1m") else { return };
    let arguments = ["text.txt", "--out", "disk/out", "--state", "state"];
    room.run(&arguments).refused(&["disk/out", "No space left", "make room"]);
    disk.resize("8m");
    let _ = room.run(&arguments).ok();
    assert!(room.table("disk/out") == expected.words);
}

#[test]
fn what_was_put_aside_is_listed_once_whatever_was_killed() {
    let mut dice = Dice::new();
    let room = Room::new(HOSTILE);
    let arguments = ["--case", "bad", "--count", "4000000", "--epoch-interval", "20ms"];
    for _ in 0..6 {
        let run = room.start(&arguments);
        std::thread::sleep(std::time::Duration::from_millis(40 + dice.below(100)));
        let _ = run.kill();
    }
    let ended = room.run(&[&arguments[..], &["--quarantine", "aside"]].concat()).ok();
    // On a fast machine the last kill may come when it has just finished.
    if !ended.out.contains("finished before") {
        assert!(ended.summary("quarantined") == 8_000, "{ended:?}");
    }
    assert_eq!(room.lines("out").len(), 3_992_000);
    let aside = String::from_utf8(room.files("aside")["quarantine.jsonl"].clone()).unwrap();
    let mut lines: Vec<_> = aside.lines().collect();
    lines.sort_unstable();
    let all = lines.len();
    lines.dedup();
    assert_eq!((all, lines.len()), (8_000, 8_000), "some are listed twice or not at all");
}
