//! Clusters of real processes: what they count, whoever is killed.

use std::path::Path;

use gear_core::control::AppOutcome;
use gear_core::id::{AppId, Epoch};
use gear_tests::cluster::{self, Cluster};
use gear_tests::process::Room;
use gear_tests::words;

const NODE: &str = env!("CARGO_BIN_EXE_node_program");
const WORD_COUNT: &str = env!("CARGO_BIN_EXE_job_word_count");

/// Writes this text to files, and gives their folder and the one for the counts.
fn write_input(cluster: &Cluster, text: &[Vec<u8>]) -> (String, String) {
    std::fs::create_dir_all(cluster.path("in")).expect("it can be made");
    for (number, text) in text.iter().enumerate() {
        std::fs::write(cluster.path(&format!("in/{number}.txt")), text).expect("it can be written");
    }
    let text = |path: &Path| path.to_str().expect("it is text").to_owned();
    (text(&cluster.path("in")), text(&cluster.path("out")))
}

/// Submits a word count of this text, over so many executors.
fn count_words(cluster: &mut Cluster, text: &[Vec<u8>], executors: u32) -> AppId {
    let (input, output) = write_input(cluster, text);
    let arguments = [&*input, "--out", &output, "--parallelism", "2", "--epoch-interval", "100ms"];
    cluster.submit(Path::new(WORD_COUNT), executors, &arguments)
}

fn assert_counted(cluster: &Cluster, text: &[Vec<u8>]) {
    let expected = words::count(text.iter().map(Vec::as_slice));
    let wrong = words::differences(&words::lines(&cluster.path("out")), &expected);
    assert!(wrong.is_empty(), "{wrong:#?} {}", cluster.logs());
}

#[test]
fn one_node_counts_words() {
    let mut cluster = Cluster::start(NODE, 1, 1);
    let text = [words::text(200_000, 1), words::text(100_000, 2)];
    let app = count_words(&mut cluster, &text, 2);
    assert_eq!(cluster.outcome(app), AppOutcome::Finished);
    assert_counted(&cluster, &text);
    assert_eq!(cluster.stop_node(0), Some(0));
}

#[test]
fn a_job_is_submitted_from_the_command_line() {
    let cluster = Cluster::start(NODE, 3, 1);
    let text = [words::text(100_000, 3)];
    let (input, output) = write_input(&cluster, &text);
    // Another node than that of the master, which fetches the binary from there.
    let at = cluster.serves(2).to_string();
    let room = Room::new(NODE);
    let submitted = room.run(&[
        "submit",
        "--cluster",
        &at,
        "--json",
        "--executors",
        "2",
        WORD_COUNT,
        "--",
        &input,
        "--out",
        &output,
        "--parallelism",
        "2",
        "--epoch-interval",
        "100ms",
    ]);
    let submitted = submitted.ok();
    let app: serde_json::Value = serde_json::from_str(&submitted.out).expect("it is JSON");
    let app = app["app"].as_u64().expect("it has a number").to_string();
    let mut last = String::new();
    for _ in 0..600 {
        last = room.run(&["app", "--cluster", &at, "--json", &app]).ok().out;
        if last.contains("finished") {
            break;
        }
        assert!(!last.contains("failed"), "{last} {}", cluster.logs());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(last.contains("finished"), "{last} {}", cluster.logs());
    assert_counted(&cluster, &text);
    let other = room.run(&["submit", "--cluster", &at, NODE]);
    other.refused(&["Usage:"]);
    let script = room.path("job.sh");
    room.write("job.sh", "#!/bin/sh\n");
    let script = room.run(&["submit", "--cluster", &at, script.to_str().expect("it is text")]);
    script.refused(&["no program"]);
}

#[test]
fn three_nodes_count_words() {
    let mut cluster = Cluster::start(NODE, 3, 3);
    let text = [words::text(200_000, 1), words::text(100_000, 2)];
    let app = count_words(&mut cluster, &text, 3);
    assert_eq!(cluster.outcome(app), AppOutcome::Finished);
    assert_counted(&cluster, &text);
}

/// A cluster of three that is at work on a longer text: an epoch has committed.
fn busy(text: &[Vec<u8>]) -> (Cluster, AppId) {
    let mut cluster = Cluster::start(NODE, 3, 3);
    let app = count_words(&mut cluster, text, 2);
    cluster.wait_for("an epoch has committed", |cluster| {
        let status = cluster.app(app);
        assert_eq!(status.outcome, None, "it ended too early: {}", cluster.logs());
        status.committed > Epoch(0)
    });
    (cluster, app)
}

fn long_text() -> Vec<Vec<u8>> {
    (0..4).map(|seed| words::text(8_000_000, seed)).collect()
}

/// The processes of the app that call themselves so.
fn processes(cluster: &Cluster, name: &str) -> Vec<u32> {
    let all = cluster.processes().into_iter();
    all.filter(|(_, called)| called.contains(name)).map(|(pid, _)| pid).collect()
}

#[test]
fn an_executor_that_is_killed_changes_nothing() {
    let text = long_text();
    let (mut cluster, app) = busy(&text);
    let executors = processes(&cluster, "executor ");
    assert_eq!(executors.len(), 2, "{:?}", cluster.processes());
    cluster::kill(executors[0]);
    assert_eq!(cluster.outcome(app), AppOutcome::Finished);
    assert!(cluster.app(app).restarts > 0, "it was killed too late to mean anything");
    assert_counted(&cluster, &text);
}

#[test]
fn an_app_master_that_is_killed_changes_nothing() {
    let text = long_text();
    let (mut cluster, app) = busy(&text);
    let app_masters = processes(&cluster, "app master ");
    assert_eq!(app_masters.len(), 1, "{:?}", cluster.processes());
    cluster::kill(app_masters[0]);
    assert_eq!(cluster.outcome(app), AppOutcome::Finished);
    assert!(cluster.app(app).restarts > 0, "it was killed too late to mean anything");
    assert_counted(&cluster, &text);
}

#[test]
fn a_node_that_is_killed_with_its_processes_changes_nothing() {
    let text = long_text();
    let (mut cluster, app) = busy(&text);
    let leader = cluster.leader().expect("somebody leads");
    // One that runs something of the app.
    let busy =
        (0..3).filter(|node| *node != leader).find(|node| !cluster.children(*node).is_empty());
    let node = busy.expect("what is spread over three runs on more than one");
    let children = cluster.children(node);
    cluster.kill_node(node);
    cluster.wait_for("its processes have ended themselves", |_| {
        children.keys().all(|pid| !cluster::is_running(*pid))
    });
    assert_eq!(cluster.outcome(app), AppOutcome::Finished);
    assert_counted(&cluster, &text);
}

#[test]
fn a_leader_that_is_killed_changes_nothing_and_comes_back() {
    let text = long_text();
    let (mut cluster, app) = busy(&text);
    let leader = cluster.leader().expect("somebody leads");
    cluster.kill_node(leader);
    cluster.wait_for("another one leads", |cluster| {
        cluster.leader().is_some_and(|other| other != leader)
    });
    cluster.start_node(leader);
    assert_eq!(cluster.outcome(app), AppOutcome::Finished);
    assert_counted(&cluster, &text);
}
