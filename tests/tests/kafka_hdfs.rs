//! From Kafka to HDFS on a cluster of real processes whose checkpoints are on HDFS too, while
//! records come in and executors, app masters, nodes, the leader, the broker, the `NameNode` and
//! the `DataNode`s are killed: what our client and Hadoop's own find in the visible files is every
//! line that went in, and every count of every key, once, and those of a key in order.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use gear_connectors::hdfs::HdfsFiles;
use gear_core::api::Files as _;
use gear_core::effect::{IoErrorKind, Notice};
use gear_tests::kafka::feeder::{Feeder, Pace};
use gear_tests::kills::{Victim, World};
use gear_tests::services::lease;
use tempfile::TempDir;

const NODE: &str = env!("CARGO_BIN_EXE_node_program");
const JOB: &str = env!("CARGO_BIN_EXE_job_kafka_hdfs");
/// On the slowest machine; usually it is a third of it.
const TEST_MAX: Duration = Duration::from_secs(300);
const PARTITIONS: u32 = 3;
/// Different keys: a multiple of the partitions, so that all of a key's records are in one.
const KEYS: u64 = 150;
/// Records a second.
const RATE: u64 = 1_500;
/// Until all that went in is visible, on the slowest machine.
const DRAIN_MAX: Duration = Duration::from_secs(60);
/// Between two looks at what is visible.
const PAUSE: Duration = Duration::from_millis(300);
/// Bytes that are read of a file at once.
const READ_BYTES: usize = 256 * 1_024;
/// What the job writes, each in a folder of its own, and by how much the first number of a key is
/// more than 0 there.
const FOLDERS: [(&str, u64); 2] = [("lines", 0), ("counts", 1)];

/// The lines of visible files by the epoch that closed them, the task that wrote them, and their
/// names.
type Lines = BTreeMap<(u64, u64, String), Vec<String>>;

/// What sorts the lines of a key: the epoch, then the task, out of `part-<task>-<epoch>`.
fn place(path: &str) -> (u64, u64, String) {
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut parts = name.split('-').skip(1).map(|part| part.parse().ok());
    match (parts.next().flatten(), parts.next().flatten(), parts.next()) {
        (Some(task), Some(epoch), None) => (epoch, task, name.to_owned()),
        _ => panic!("{path} is no name of an output file"),
    }
}

fn lines(content: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(content).expect("it is text");
    assert!(text.is_empty() || text.ends_with('\n'), "a line is cut off: {text:?}");
    text.lines().map(str::to_owned).collect()
}

/// Adds the lines of files that have become visible in a folder since the last look, through our
/// own client; visible files do not change.
fn look(folder: &str, found: &mut Lines) {
    let tell = |notice: Notice| println!("{notice:?}");
    let mut files = HdfsFiles::new(tell);
    let listed = match files.list(folder) {
        Ok(listed) => listed,
        // Nothing is there yet, or a server that was killed is on its way.
        Err(error) if error.kind == IoErrorKind::NotFound => return,
        Err(error) if error.kind == IoErrorKind::Unavailable => return,
        Err(error) => panic!("{error}"),
    };
    for file in listed {
        let place = place(&file.path);
        if found.contains_key(&place) {
            continue;
        }
        let mut content = Vec::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match files.read_at(&file.path, content.len() as u64, &mut buffer) {
                Ok(0) => break,
                Ok(len) => content.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind == IoErrorKind::Unavailable => {}
                Err(error) => panic!("{error}"),
            }
        }
        found.insert(place, lines(&content));
    }
}

/// The lines of a folder as Hadoop's own client copies it to this machine.
fn fetch(world: &World, path: &str) -> Lines {
    let local = TempDir::new().expect("there is room for a temporary folder");
    let to = local.path().join("fetched");
    let get = ["-get", path, to.to_str().expect("it is text")];
    world.services.hdfs(&get).unwrap_or_else(|error| panic!("{error}"));
    let mut found = Lines::new();
    for entry in fs::read_dir(&to).expect("it was fetched") {
        let path = entry.expect("it was fetched").path();
        if path.is_file() {
            let content = fs::read(&path).expect("it was fetched");
            found.insert(place(&path.to_string_lossy()), lines(&content));
        }
    }
    found
}

/// What differs from `count` records, whose numbers by key begin with `first`: lost, doubled, and
/// out of order.
fn differences(found: &Lines, count: u64, first: u64) -> Vec<String> {
    let mut by_key: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for line in found.values().flatten() {
        let (key, number) = line.split_once('\t').unwrap_or_else(|| panic!("{line:?}"));
        by_key.entry(key).or_default().push(number.parse().expect("it is a number"));
    }
    let mut differences = Vec::new();
    for key in 0..KEYS {
        let wanted: Vec<u64> =
            (first..).take((count + KEYS - 1 - key) as usize / KEYS as usize).collect();
        let key = format!("k{key}");
        let mut numbers = by_key.remove(key.as_str()).unwrap_or_default();
        if numbers == wanted {
            continue;
        }
        let sorted_before = numbers.is_sorted();
        numbers.sort_unstable();
        let all = numbers.len();
        numbers.dedup();
        let (doubled, lost) = (all - numbers.len(), wanted.len() as i64 - numbers.len() as i64);
        let order = if sorted_before { "in order" } else { "out of order" };
        differences.push(format!("{key}: {lost} lost, {doubled} doubled, {order}"));
    }
    differences.extend(by_key.keys().map(|key| format!("{key}: never went in")));
    differences
}

/// Looks until as many lines as went in are visible, or for as long as it may take, or else what is
/// missing is for the judge to say.
fn drain(out: &str, count: u64) -> [Lines; 2] {
    let mut found = [const { Lines::new() }; 2];
    let began = Instant::now();
    let is_short = |lines: &Lines| (lines.values().map(Vec::len).sum::<usize>() as u64) < count;
    while found.iter().any(is_short) && began.elapsed() < DRAIN_MAX {
        sleep(PAUSE);
        for ((folder, _), found) in FOLDERS.iter().zip(&mut found) {
            look(&format!("{out}/{folder}"), found);
        }
    }
    found
}

#[test]
fn lines_and_counts_are_there_once_and_in_order_whoever_is_killed() {
    let Some(services) = lease(TEST_MAX) else { return };
    services.topic("events", PARTITIONS, &[]).expect("it is made");
    let at = |name: &str| format!("{}/kafka-hdfs/{name}", services.hdfs_url());
    let (out, checkpoints) = (at("out"), at("checkpoints"));
    let brokers = services.brokers().to_owned();
    let arguments = ["--brokers", &brokers, "--from", "events", "--out", &out];
    let arguments = [&arguments[..], &["--parallelism", "2", "--epoch-interval", "250ms"]].concat();
    let mut world = World::start(services, NODE, Some(&checkpoints), (JOB, &arguments));
    let pace = Pace { partitions: PARTITIONS, rate: RATE };
    let feeder = Feeder::start(&brokers, "events", pace, |number, value| {
        write!(value, "k{}\t{}", number % KEYS, number / KEYS).expect("a buffer takes all");
    });
    let mut victims = [
        Victim::Executor,
        Victim::AppMaster,
        Victim::Worker,
        Victim::Leader,
        Victim::Broker,
        Victim::NameNode,
        Victim::DataNode,
    ];
    for left in (1..victims.len()).rev() {
        victims.swap(left, world.dice.below(left as u64 + 1) as usize);
    }
    let began = Instant::now();
    for victim in victims {
        world.kill(victim);
        println!("{:.1} s: epochs commit again", began.elapsed().as_secs_f64());
    }
    let count = feeder.stop();
    println!("{count} records were fed");
    let mut found = drain(&out, count);
    world.stop();
    for ((folder, first), found) in FOLDERS.into_iter().zip(&mut found) {
        let folder = format!("{out}/{folder}");
        look(&folder, found);
        let path = folder.strip_prefix(world.services.hdfs_url()).expect("it begins so");
        for (by, found) in [("our client", &*found), ("Hadoop's", &fetch(&world, path))] {
            let differences = differences(found, count, first);
            let logs = || world.cluster.logs();
            assert!(differences.is_empty(), "{path} by {by}: {differences:#?} {}", logs());
        }
    }
}

#[test]
fn what_is_lost_doubled_or_out_of_order_is_noticed() {
    let all: Vec<String> =
        (0..2 * KEYS).map(|number| format!("k{}\t{}", number % KEYS, number / KEYS)).collect();
    let differ = |lines: Vec<String>| {
        differences(&Lines::from([((1, 0, String::new()), lines)]), 2 * KEYS, 0)
    };
    assert!(differ(all.clone()).is_empty());
    let changed = |change: fn(&mut Vec<String>)| {
        let mut lines = all.clone();
        change(&mut lines);
        differ(lines)
    };
    assert_eq!(changed(|lines| drop(lines.remove(7))), ["k7: 1 lost, 0 doubled, in order"]);
    let doubled = changed(|lines| lines.push("k8\t1".to_owned()));
    assert_eq!(doubled, ["k8: 0 lost, 1 doubled, in order"]);
    let swapped = changed(|lines| lines.swap(9, 9 + KEYS as usize));
    assert_eq!(swapped, ["k9: 0 lost, 0 doubled, out of order"]);
    let foreign = changed(|lines| lines.push("x\t1".to_owned()));
    assert_eq!(foreign, ["x: never went in"]);
}
