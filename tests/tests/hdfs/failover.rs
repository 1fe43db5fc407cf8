//! An HDFS of two name nodes, of which one is active: jobs go on when it is the other one.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use gear_connectors::hdfs::HdfsFiles;
use gear_core::api::Files as _;
use gear_core::control::AppOutcome;
use gear_core::effect::IoErrorKind;
use gear_tests::chaos::job::{self, Options};
use gear_tests::cluster::Cluster;
use gear_tests::process::{Input, Room, Running};
use gear_tests::services::Kind;

use super::{Frozen, Place, jobs, read, tell};

const CHAOS: &str = env!("CARGO_BIN_EXE_job_chaos");
const LINES: &str = env!("CARGO_BIN_EXE_job_hdfs_lines");
const NODE: &str = env!("CARGO_BIN_EXE_node_program");

/// Records of each source in a second.
const RATE: u64 = 1_500;

/// Two name nodes, and a folder on them for one test.
struct Pair(Place);

impl Pair {
    /// None if there can be no servers.
    fn new(test: &str) -> Option<Self> {
        let pair = Self(Place::of(Kind::HighlyAvailable, test)?);
        pair.activate("namenode");
        Some(pair)
    }

    fn activate(&self, name: &str) {
        self.0.services.activate(name).unwrap_or_else(|error| panic!("{error}"));
    }

    /// A command that knows where the name nodes are.
    fn command(&self, room: &Room, arguments: &[String]) -> Command {
        let mut command = jobs::command(room, arguments, "60");
        command.env("HADOOP_CONF_DIR", self.0.services.hadoop());
        command
    }

    /// The lines of all visible files of a folder, each with how often it stands there, through
    /// the name node that is active.
    fn lines(&self, active: &str, folder: &str) -> BTreeMap<String, usize> {
        let at = self.0.services.name_node(active);
        let folder = format!("{at}{}", self.0.path(folder));
        let mut lines = BTreeMap::new();
        let files = match HdfsFiles::new(tell).list(&folder) {
            Err(error) if error.kind == IoErrorKind::NotFound => Vec::new(),
            files => files.unwrap_or_else(|error| panic!("{error}")),
        };
        for file in files {
            let content = read(&file.path).unwrap_or_else(|error| panic!("{error}"));
            let content = String::from_utf8(content).expect("it is text");
            for line in content.lines() {
                *lines.entry(line.to_owned()).or_default() += 1;
            }
        }
        lines
    }
}

/// A job that follows a file, and what it has been given.
struct Copy<'a> {
    pair: &'a Pair,
    room: &'a Room,
    run: Running,
    given: BTreeMap<String, usize>,
}

impl Copy<'_> {
    /// Appends a line, with Hadoop's own shell at the name node that is active: it begins with
    /// either, and waits for ever for a silent one.
    fn give(&mut self, active: &str, line: &str) {
        self.room.write("more", format!("{line}\n"));
        let more = self.room.path("more").display().to_string();
        let to = self.pair.0.services.name_node(active) + &self.pair.0.path("in.txt");
        self.pair.0.hdfs(&["-appendToFile", &more, &to]);
        self.given.insert(line.to_owned(), 1);
    }

    /// Waits until all that it was given is in its output once, which is seen when it has
    /// committed.
    fn copies(&mut self, active: &str) {
        let (pair, given) = (self.pair, &self.given);
        let copied = self.run.wait_until(|| pair.lines(active, "out") == *given);
        assert!(copied, "{active}: {}", self.run.err());
    }
}

#[test]
fn a_job_of_one_process_reads_and_writes_and_commits_through_every_failover() {
    let Some(pair) = Pair::new("lines") else { return };
    let room = Room::new(LINES);
    room.write("first", "first\n");
    pair.0.hdfs(&["-mkdir", "-p", &pair.0.path("")]);
    let first = room.path("first").display().to_string();
    pair.0.hdfs(&["-put", &first, &pair.0.path("in.txt")]);
    let arguments = [
        format!("--from={}", pair.0.url("in.txt")),
        format!("--to={}", pair.0.url("out")),
        format!("--checkpoints={}", pair.0.url("checkpoints")),
        "--epoch-interval=100ms".to_owned(),
    ];
    let run = room.start_command(pair.command(&room, &arguments));
    let given = BTreeMap::from([("first".to_owned(), 1)]);
    let mut copy = Copy { pair: &pair, room: &room, run, given };
    copy.copies("namenode");

    pair.0.kill("namenode");
    pair.activate("namenode2");
    copy.give("namenode2", "after a crash");
    copy.copies("namenode2");

    pair.0.start_again("namenode");
    pair.activate("namenode");
    copy.give("namenode", "after a planned transition");
    copy.copies("namenode");

    pair.activate("none");
    let err = room.path(".process-1.err");
    let says =
        || std::fs::read_to_string(&err).is_ok_and(|it| it.contains("no name node is active"));
    assert!(copy.run.wait_until(says), "{}", copy.run.err());
    pair.activate("namenode2");
    copy.give("namenode2", "after a time with none");
    copy.copies("namenode2");

    // Its connections stay, and it says nothing: as a machine that has lost its power.
    let frozen = Frozen::new(&pair.0, &["namenode2"]);
    pair.activate("namenode");
    copy.give("namenode", "after silence");
    copy.copies("namenode");
    pair.0.kill("namenode2");
    drop(frozen);
    pair.0.start_again("namenode2");

    assert!(!copy.run.has_ended(), "{}", copy.run.err());
    copy.run.interrupt();
    assert_eq!(copy.run.wait().code, Some(130));
    assert_eq!(pair.lines("namenode", "out"), copy.given);
}

#[test]
fn files_that_are_open_outlive_a_failover_and_the_output_is_exact() {
    let Some(pair) = Pair::new("open") else { return };
    let room = Room::new(CHAOS);
    let options = |count| Options { count, rate: RATE, seed: 6, out: pair.0.url("out") };
    let start = |count| {
        let mut arguments = options(count).arguments(2, "200ms");
        arguments.push(format!("--checkpoints={}", pair.0.url("checkpoints")));
        room.start_command(pair.command(&room, &arguments))
    };
    let input = Input::new(RATE);
    let mut run = start(Input::ENDLESS);
    let mut writes = |active: &str| {
        let before = pair.lines(active, "out/counts").len();
        let more = || pair.lines(active, "out/counts").len() > before;
        assert!(run.wait_until(more), "{active}: {}", run.err());
    };
    writes("namenode");
    pair.0.kill("namenode");
    pair.activate("namenode2");
    writes("namenode2");
    pair.0.start_again("namenode");
    pair.activate("namenode");
    writes("namenode");
    assert!(!run.has_ended(), "{}", run.err());
    run.interrupt();
    assert_eq!(run.wait().code, Some(130));
    let count = input.count();
    let _ = start(count).wait().ok();
    let (_kept, fetched) = pair.0.fetch("out");
    let difference = job::compare(&job::expected(&options(count)), &fetched);
    assert!(difference.told.is_empty(), "{difference:?}");
}

#[test]
fn an_app_on_a_cluster_goes_on_through_failovers() {
    let Some(pair) = Pair::new("cluster") else { return };
    let hadoop = pair.0.services.hadoop().display().to_string();
    let variables = [
        ("GEAR_HDFS_CALL_SECONDS", "4"),
        ("GEAR_HDFS_WAIT_SECONDS", "60"),
        ("HADOOP_CONF_DIR", hadoop.as_str()),
    ];
    let mut cluster = Cluster::new(NODE, 1);
    cluster.keep_checkpoints_at(&pair.0.url("checkpoints"), &variables);
    cluster.start_nodes(1);
    let options = Options { count: 30_000, rate: RATE, seed: 4, out: pair.0.url("out") };
    let app = cluster.submit(Path::new(CHAOS), 2, &options.arguments(2, "200ms"));
    cluster.wait_for_epochs(app, 5);
    pair.0.kill("namenode");
    pair.activate("namenode2");
    cluster.wait_for_epochs(app, 3);
    pair.0.start_again("namenode");
    pair.activate("namenode");
    cluster.wait_for_epochs(app, 3);
    assert_eq!(cluster.outcome(app), AppOutcome::Finished, "{}", cluster.logs());
    let (_kept, fetched) = pair.0.fetch("out");
    let difference = job::compare(&job::expected(&options), &fetched);
    assert!(difference.told.is_empty(), "{difference:?} {}", cluster.logs());
}

#[test]
fn a_name_service_that_nobody_knows_is_refused_with_those_that_are_known() {
    let Some(pair) = Pair::new("unknown") else { return };
    let room = Room::new(LINES);
    let arguments = |host: &str| {
        [format!("--from=hdfs://{host}/in.txt"), format!("--to={}", pair.0.url("out"))]
    };
    let run = |host: &str| room.start_command(pair.command(&room, &arguments(host))).wait();
    run("other").refused(&[
        "hdfs://other",
        "`other` is no name service",
        "HADOOP_CONF_DIR",
        "`gear`",
    ]);
    let mut nowhere = pair.command(&room, &arguments("gear"));
    nowhere.env("HADOOP_CONF_DIR", room.path("nowhere"));
    room.start_command(nowhere).wait().refused(&["nowhere", "hdfs-site.xml", "HADOOP_CONF_DIR"]);
}
