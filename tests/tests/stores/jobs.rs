//! Jobs of one process with their checkpoints on S3: killed, and without the server for a while.

use std::thread::sleep;
use std::time::Duration;

use gear_core::id::Epoch;
use gear_tests::chaos::job::{self, NAME, Options};
use gear_tests::process::{Dice, Input, Room};

use super::{CHAOS, Place, files};

/// Records of each source in a second.
const RATE: u64 = 1_500;

fn options(count: u64) -> Options {
    Options { count, rate: RATE, seed: 6, out: "out".into() }
}

fn arguments(place: &Place, count: u64) -> Vec<String> {
    let mut arguments = options(count).arguments(2, "100ms");
    arguments.extend(["--checkpoints".into(), place.url()]);
    arguments
}

/// Asserts that the output is what the model says.
fn judge(room: &Room, count: u64) {
    let difference = job::compare(&job::expected(&options(count)), &room.path("out"));
    assert!(difference.told.is_empty(), "{difference:?}");
}

#[test]
fn a_job_that_is_killed_again_and_again_is_exact_and_leaves_no_probe() {
    const KILLS: u32 = 6;
    let Some(place) = Place::new("killed") else { return };
    let room = Room::new(CHAOS);
    let endless = arguments(&place, Input::ENDLESS);
    let mut dice = Dice::new();
    let input = Input::new(RATE);
    for _ in 0..KILLS {
        let until = place.last_record(NAME) + 2 + dice.below(8);
        let mut run = room.start_command(place.command(&room, &endless));
        let is_under_way = run.wait_until(|| place.last_record(NAME) >= until);
        assert!(is_under_way, "it has ended before it was killed: {}", run.err());
        let _ = run.kill();
    }
    let count = input.count();
    let arguments = arguments(&place, count);
    let _ = room.start_command(place.command(&room, &arguments)).wait().ok();
    judge(&room, count);
    let bucket = place.services.bucket().join(place.test);
    assert_eq!(files(&bucket.join("probes")), Vec::<String>::new());
    // Nothing of it is on this machine but the lock.
    assert!(!room.path("gear-state").join(NAME).join("log").exists());

    let again = room.start_command(place.command(&room, &arguments)).wait().ok();
    assert!(again.out.contains("finished before"), "{again:?}");
    judge(&room, count);
    let fresh: Vec<_> = arguments.iter().map(String::as_str).collect();
    let fresh = [&fresh[..], &["--fresh", "--quarantine", "aside"]].concat();
    let _ = room.start_command(place.command(&room, &fresh)).wait().ok();
    judge(&room, count);
}

#[test]
fn a_server_that_is_away_is_waited_for_and_nothing_is_lost() {
    let Some(place) = Place::new("away") else { return };
    let room = Room::new(CHAOS);
    let endless = arguments(&place, Input::ENDLESS);
    let input = Input::new(RATE);
    let mut run = room.start_command(place.command(&room, &endless));
    for round in 0..3 {
        let until = place.last_record(NAME) + 4;
        assert!(run.wait_until(|| place.last_record(NAME) >= until), "{}", run.err());
        place.kill();
        // What is being written is cut short, and what is asked meanwhile is refused.
        sleep(Duration::from_secs(round));
        if round == 1 {
            // Long enough that the user hears of it.
            assert!(run.wait_until(|| run_says(&room)), "{}", run.err());
        }
        if round == 2 {
            // One that is started meanwhile waits too.
            let _ = run.kill();
            run = room.start_command(place.command(&room, &endless));
        }
        place.start_again();
    }
    let until = place.last_record(NAME) + 1;
    assert!(run.wait_until(|| place.last_record(NAME) >= until), "{}", run.err());
    run.interrupt();
    assert_eq!(run.wait().code, Some(130));
    let count = input.count();
    let _ = room.start_command(place.command(&room, &arguments(&place, count))).wait().ok();
    judge(&room, count);
}

/// Whether the first process has told that it waits for its store.
fn run_says(room: &Room) -> bool {
    let said = std::fs::read_to_string(room.path(".process-1.err")).unwrap_or_default();
    said.contains("the checkpoint store has")
}

#[test]
fn of_two_processes_on_one_store_the_later_one_goes_on() {
    let Some(place) = Place::new("fenced") else { return };
    let room = Room::new(CHAOS);
    let input = Input::new(RATE);
    let mut first = room.start_command(place.command(&room, &arguments(&place, Input::ENDLESS)));
    assert!(first.wait_until(|| place.last_record(NAME) >= 4), "{}", first.err());
    // As on another machine, where no lock is in the way.
    let count = input.count();
    let mut elsewhere = arguments(&place, count);
    elsewhere.extend(["--state".to_owned(), "elsewhere".to_owned()]);
    let second = room.start_command(place.command(&room, &elsewhere));
    first.wait().refused(&["another app master", "taken over", "commits nothing more"]);
    let _ = second.wait().ok();
    judge(&room, count);
    assert_ne!(Epoch(place.last_record(NAME)), Epoch(0));
}
