//! The word count as its users run it: what it counts, and what it does when it is ended.

use std::thread::sleep;
use std::time::Duration;

use gear_tests::process::{Dice, Ended, Room};
use gear_tests::words;

const WORD_COUNT: &str = env!("CARGO_BIN_EXE_job_word_count");

fn room() -> Room {
    Room::new(WORD_COUNT)
}

#[test]
fn odd_texts_are_counted_as_a_plain_program_counts_them() {
    let odd = words::odd();
    let expected = words::count(odd.iter().map(|(_, content)| content.as_slice()));
    assert_eq!(expected.bad_lines, 3, "the texts are as odd as they were meant to be");
    for parallelism in ["1", "2", "5"] {
        let room = room();
        for (name, content) in &odd {
            room.write(name, content);
        }
        let inputs = ["a", "b*.log", "nul.txt", "--parallelism", parallelism];
        let ended = room.run(&[&inputs[..], &["--quarantine", "aside"]].concat()).ok();
        assert_eq!(room.table("out"), expected.words, "parallelism {parallelism}");
        assert_eq!(ended.summary("records"), expected.lines);
        assert_eq!(ended.summary("quarantined"), expected.bad_lines);
        let aside = String::from_utf8(room.files("aside")["quarantine.jsonl"].clone());
        let aside = aside.expect("JSON is UTF-8");
        assert_eq!(aside.lines().count(), 3, "{aside}");
        for part in ["b1.log", "b2.log", "b3.log", "c328206261642061", "UTF-8", "\"lines\""] {
            assert!(aside.contains(part), "{part} is missing: {aside}");
        }
    }
}

#[test]
fn a_file_of_more_than_one_split_is_counted_once() {
    let text = words::text(33 << 20, 1);
    let expected = words::count([text.as_slice()]);
    let room = room();
    room.write("large.txt", &text);
    for parallelism in ["1", "2", "5"] {
        let _ = room.run(&["large.txt", "--parallelism", parallelism, "--fresh"]).ok();
        assert!(room.table("out") == expected.words, "parallelism {parallelism}");
    }
}

#[test]
fn killed_at_any_moment_it_goes_on_and_counts_each_word_once() {
    let mut dice = Dice::new();
    let texts: Vec<Vec<u8>> = (0..3).map(|seed| words::text(5 << 20, seed)).collect();
    let expected = words::count(texts.iter().map(Vec::as_slice));
    let mut kills = 0;
    let mut went_on = 0;
    while kills < 50 {
        let room = room();
        for (number, text) in texts.iter().enumerate() {
            room.write(&format!("in/{number}.txt"), text);
        }
        let rescales = dice.below(2) == 1;
        let runs = run_with_kills(&room, rescales, &mut dice);
        kills += runs.iter().filter(|run| run.code.is_none()).count();
        went_on += runs.iter().filter(|run| run.err.contains("goes on from epoch")).count();
        let wrong = words::differences(&room.lines("out"), &expected);
        assert!(wrong.is_empty(), "{wrong:#?} after {runs:#?}");
    }
    assert!(went_on > 10, "the kills came too early or too late to mean anything: {went_on}");
}

/// Runs the job until it ends by itself, and kills it a few times before.
fn run_with_kills(room: &Room, rescales: bool, dice: &mut Dice) -> Vec<Ended> {
    let mut runs = Vec::new();
    for _ in 0..=dice.below(8) {
        let parallelism = if rescales { ["1", "2", "3", "5"][dice.below(4) as usize] } else { "2" };
        let mut run = room.start(&["in", "--parallelism", parallelism, "--epoch-interval", "20ms"]);
        sleep(Duration::from_micros(dice.below(500_000)));
        if run.has_ended() {
            runs.push(run.wait().ok());
            return runs;
        }
        runs.push(run.kill());
    }
    let parallelism = if rescales { "4" } else { "2" };
    let arguments = ["in", "--parallelism", parallelism, "--epoch-interval", "20ms"];
    runs.push(room.run(&arguments).ok());
    runs
}
