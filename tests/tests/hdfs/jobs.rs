//! Jobs of one process, killed and started again while servers die.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use gear_tests::chaos::job::{self, Options};
use gear_tests::process::{Dice, Input, Room, Running};
use gear_tests::words;

use super::Place;

const WORD_COUNT: &str = env!("CARGO_BIN_EXE_job_hdfs_word_count");
const CHAOS: &str = env!("CARGO_BIN_EXE_job_chaos");

/// Records of each source in a second.
const RATE: u64 = 1_500;

/// A command whose calls and waits are short.
pub(crate) fn command(room: &Room, arguments: &[impl AsRef<OsStr>], wait: &str) -> Command {
    let mut command = room.command(arguments);
    command.env("GEAR_HDFS_CALL_SECONDS", "4").env("GEAR_HDFS_WAIT_SECONDS", wait);
    command
}

pub(crate) fn counted(place: &Place, folder: &str) -> BTreeMap<String, String> {
    let (_kept, fetched) = place.fetch(folder);
    let mut table = BTreeMap::new();
    for line in words::lines(&fetched) {
        let (word, count) = line.rsplit_once('\t').expect("a line is a word and a count");
        assert!(table.insert(word.to_owned(), count.to_owned()).is_none(), "{word} twice");
    }
    table
}

#[test]
fn words_are_counted_once_however_often_the_job_is_killed() {
    let Some(place) = Place::new("words") else { return };
    let texts: Vec<Vec<u8>> = (0..3).map(|seed| words::text(8 << 20, seed)).collect();
    let expected = words::count(texts.iter().map(Vec::as_slice));
    place.put(&[("in/0.txt", &texts[0]), ("in/1.txt", &texts[1]), ("in/more/2.txt", &texts[2])]);
    let mut dice = Dice::new();
    let mut kills = 0;
    for round in 0..2 {
        let room = Room::new(WORD_COUNT);
        let (input, out) = (place.url("in"), place.url(&format!("out-{round}")));
        let checkpoints = place.url(&format!("checkpoints-{round}"));
        let mut arguments = vec![input.as_str(), "--out", &out, "--epoch-interval", "50ms"];
        if round == 1 {
            arguments.extend(["--checkpoints", &checkpoints]);
        }
        for _ in 0..4 {
            let mut run = room.start_command(command(&room, &arguments, "60"));
            // A machine with nothing else to do counts all of it in little more than a second.
            sleep(Duration::from_millis(50 + dice.below(700)));
            if run.has_ended() {
                let _ = run.wait().ok();
                break;
            }
            let _ = run.kill();
            kills += 1;
        }
        let last = room.start_command(command(&room, &arguments, "60")).wait().ok();
        let is = counted(&place, &format!("out-{round}"));
        assert!(is == expected.words, "{} words of {}: {last:?}", is.len(), expected.words.len());
        assert_eq!(room.path("gear-state/hdfs-word-count/log").exists(), round == 0);
    }
    assert!(kills > 0, "nothing was killed");
    // All that the log names is gone, and it begins anew.
    let room = Room::new(WORD_COUNT);
    let (input, out, checkpoints) =
        (place.url("in/0.txt"), place.url("out-1"), place.url("checkpoints-1"));
    let arguments = [input.as_str(), "--out", &out, "--checkpoints", &checkpoints];
    let other = room.start_command(command(&room, &arguments, "60")).wait();
    other.refused(&["--fresh"]);
    let fresh = [&arguments[..], &["--fresh"]].concat();
    let _ = room.start_command(command(&room, &fresh, "60")).wait().ok();
    let first = words::count([texts[0].as_slice()]);
    assert!(counted(&place, "out-1") == first.words);
}

/// A job that is started again whenever it has ended with an error, as whoever runs it does.
struct Supervised<'a> {
    room: &'a Room,
    arguments: Vec<String>,
    run: Option<Running>,
    ended: Vec<String>,
}

impl Supervised<'_> {
    fn start(&mut self) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.run = Some(self.room.start_command(command(self.room, &arguments, "60")));
    }

    fn kill(&mut self) {
        if let Some(run) = self.run.take() {
            let ended = run.kill();
            self.ended.push(format!("{:?}: {}", ended.code, ended.err));
        }
        self.start();
    }

    /// Lets it run for so long, or to its end: true then.
    fn runs_for(&mut self, time: Duration) -> bool {
        let began = Instant::now();
        while began.elapsed() < time {
            let run = self.run.as_mut().expect("it is started");
            if run.has_ended() {
                let ended = self.run.take().expect("it was there").wait();
                self.ended.push(format!("{:?}: {}", ended.code, ended.err));
                if ended.code == Some(0) {
                    return true;
                }
                self.start();
            }
            sleep(Duration::from_millis(20));
        }
        false
    }
}

#[test]
fn output_and_checkpoints_are_exact_whatever_dies() {
    let Some(place) = Place::new("chaos") else { return };
    let room = Room::new(CHAOS);
    let options = Options { count: 30_000, rate: RATE, seed: 5, out: place.url("out") };
    let mut arguments = options.arguments(2, "200ms");
    arguments.extend(["--checkpoints".to_owned(), place.url("checkpoints")]);
    let mut job = Supervised { room: &room, arguments, run: None, ended: Vec::new() };
    job.start();
    let moment = Duration::from_millis(1_500);
    job.runs_for(moment);
    place.kill("namenode");
    job.runs_for(moment);
    place.start_again("namenode");
    job.runs_for(moment);
    job.kill();
    job.runs_for(moment);
    place.kill("datanode2");
    job.runs_for(moment);
    job.kill();
    job.runs_for(moment);
    place.start_again("datanode2");
    place.hdfs(&["dfsadmin", "-safemode", "enter"]);
    job.runs_for(moment);
    place.hdfs(&["dfsadmin", "-safemode", "leave"]);
    place.kill("namenode");
    job.kill();
    place.start_again("namenode");
    assert!(job.runs_for(Duration::from_secs(120)), "it does not end: {:#?}", job.ended);
    let (_kept, fetched) = place.fetch("out");
    let difference = job::compare(&job::expected(&options), &fetched);
    assert!(difference.told.is_empty(), "{difference:?} {:#?}", job.ended);
    println!("it was started {} times: {:#?}", job.ended.len(), job.ended);
}

#[test]
fn a_checkpoint_store_that_is_full_is_waited_for_and_nothing_is_lost() {
    let Some(place) = Place::new("full") else { return };
    let room = Room::new(CHAOS);
    let options = |count| Options { count, rate: RATE, seed: 8, out: "out".into() };
    let arguments = |count| {
        let mut arguments = options(count).arguments(2, "200ms");
        arguments.extend(["--checkpoints".to_owned(), place.url("checkpoints")]);
        arguments
    };
    let folder = place.path("checkpoints");
    place.hdfs(&["-mkdir", "-p", &folder]);
    let input = Input::new(RATE);
    let mut run = room.start_command(command(&room, &arguments(Input::ENDLESS), "60"));
    let objects = || -> u64 {
        let counted = place.hdfs(&["-count", &folder]);
        let files = counted.split_whitespace().nth(1).and_then(|it| it.parse().ok());
        files.unwrap_or_else(|| panic!("{counted}"))
    };
    assert!(run.wait_until(|| objects() >= 10), "{}", run.err());
    // Less than a block: nothing more can be written there.
    place.hdfs(&["dfsadmin", "-setSpaceQuota", "1m", &folder]);
    let err = room.path(".process-1.err");
    let says = || std::fs::read_to_string(&err).is_ok_and(|it| it.contains("quota"));
    assert!(run.wait_until(says), "{}", run.err());
    assert!(!run.has_ended(), "{}", run.err());
    place.hdfs(&["dfsadmin", "-clrSpaceQuota", &folder]);
    run.interrupt();
    assert_eq!(run.wait().code, Some(130));
    let count = input.count();
    let _ = room.start_command(command(&room, &arguments(count), "60")).wait().ok();
    let difference = job::compare(&job::expected(&options(count)), &room.path("out"));
    assert!(difference.told.is_empty(), "{difference:?}");
}

#[test]
fn a_job_that_cannot_go_on_says_why_and_what_to_do() {
    let Some(place) = Place::new("errors") else { return };
    place.put(&[("in/a.txt", b"the cat and the dog\n")]);
    let room = Room::new(WORD_COUNT);
    let (input, out) = (place.url("in"), place.url("out"));
    let run =
        |arguments: &[&str], wait: &str| room.start_command(command(&room, arguments, wait)).wait();
    run(&[&place.url("none"), "--out", &out], "60").refused(&["lines", "no such file", "/none"]);
    run(&["hdfs://127.0.0.1:1/in", "--out", &out], "2").refused(&["127.0.0.1:1", "reached"]);
    run(&["hdfs://nobody.invalid:9000/in", "--out", &out], "60").refused(&["nobody.invalid"]);
    run(&["hdfs://service/in", "--out", &out], "60").refused(&["HADOOP_CONF_DIR", "service"]);
    run(&["hdfs://me@127.0.0.1:1/in", "--out", &out], "60").refused(&["HADOOP_USER_NAME"]);
    run(&[&input, "--out", &out], "soon").refused(&["GEAR_HDFS_WAIT_SECONDS=soon"]);
    let unknown = format!("{}?replication=1", place.url("gear"));
    let arguments = [input.as_str(), "--out", &out, "--checkpoints", &unknown];
    run(&arguments, "60").refused(&["replication=1", "unknown"]);
    // Full, and then not: nothing that has committed is lost.
    place.hdfs(&["-mkdir", "-p", &place.path("out")]);
    place.hdfs(&["dfsadmin", "-setSpaceQuota", "1m", &place.path("out")]);
    run(&[&input, "--out", &out], "60").refused(&["quota", "make room and start again"]);
    place.hdfs(&["dfsadmin", "-clrSpaceQuota", &place.path("out")]);
    let _ = run(&[&input, "--out", &out], "60").ok();
    assert_eq!(counted(&place, "out")["the"], "2");
    // The name service comes out of the configuration, as does the HDFS that is not named.
    let mut named = command(&room, &["hdfs:///errors/in", "--out", "hdfs:///errors/named"], "60");
    named.env("HADOOP_CONF_DIR", place.services.hadoop());
    named.args(["--state", "other"]);
    let _ = room.start_command(named).wait().ok();
    assert_eq!(counted(&place, "named")["the"], "2");
}

#[test]
fn a_file_that_is_still_written_to_is_refused() {
    let Some(place) = Place::new("open") else { return };
    let mut writer = super::driver::performer();
    let open = place.url("in/open.txt");
    writer.perform(&super::write(&open, 0, b"one two\nthree\n")).unwrap();
    writer.perform(&super::sync(&open)).unwrap();
    let room = Room::new(WORD_COUNT);
    let (input, out) = (place.url("in"), place.url("out"));
    let ended = room.start_command(command(&room, &[&input, "--out", &out], "60")).wait();
    ended.refused(&["still being written to", "follow it"]);
}
