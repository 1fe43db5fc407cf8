//! Real nodes whose checkpoint store is on HDFS, and an app of theirs that writes to it.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use gear_core::control::{AppOutcome, Reply, Request};
use gear_tests::chaos::job::{self, Options};
use gear_tests::cluster::Cluster;
use gear_tests::process::Room;

use super::Place;

const NODE: &str = env!("CARGO_BIN_EXE_node_program");
const CHAOS: &str = env!("CARGO_BIN_EXE_job_chaos");
const LIMITS: [(&str, &str); 2] =
    [("GEAR_HDFS_CALL_SECONDS", "4"), ("GEAR_HDFS_WAIT_SECONDS", "60")];

fn start(url: &str) -> Cluster {
    let mut cluster = Cluster::new(NODE, 1);
    cluster.keep_checkpoints_at(url, &LIMITS);
    let node = cluster.add();
    cluster.start_node(node);
    cluster.wait_for("it is ready", |cluster| cluster.is_ready(node));
    cluster
}

#[test]
fn an_app_survives_its_processes_its_node_and_the_servers() {
    let Some(place) = Place::new("cluster") else { return };
    let mut cluster = start(&place.url("checkpoints"));
    let options = Options { count: 30_000, rate: 1_500, seed: 9, out: place.url("out") };
    let app = cluster.submit(Path::new(CHAOS), 2, &options.arguments(2, "200ms"));
    cluster.wait_for_epochs(app, 5);
    place.kill("namenode");
    sleep(Duration::from_secs(1));
    place.start_again("namenode");
    cluster.wait_for_epochs(app, 3);
    place.kill("datanode1");
    sleep(Duration::from_secs(1));
    cluster.kill_node(0);
    place.start_again("datanode1");
    cluster.start_node(0);
    cluster.wait_for("it is ready", |cluster| cluster.is_ready(0));
    assert_eq!(cluster.outcome(app), AppOutcome::Finished, "{}", cluster.logs());
    let (_kept, fetched) = place.fetch("out");
    let difference = job::compare(&job::expected(&options), &fetched);
    assert!(difference.told.is_empty(), "{difference:?} {}", cluster.logs());
}

#[test]
fn what_is_submitted_is_refused_while_the_store_is_away_and_taken_when_it_is_back() {
    let Some(place) = Place::new("submit") else { return };
    let mut cluster = start(&place.url("checkpoints"));
    let room = Room::new(NODE);
    let at = cluster.serves(0).to_string();
    let options = Options { count: 200, rate: 1_000, seed: 3, out: place.url("out") };
    let arguments = options.arguments(1, "100ms");
    let mut submit = vec!["submit", "--cluster", &at, CHAOS, "--"];
    submit.extend(arguments.iter().map(String::as_str));
    place.hdfs(&["dfsadmin", "-safemode", "enter"]);
    room.run(&submit).refused(&["checkpoint store", "safe mode"]);
    place.hdfs(&["dfsadmin", "-safemode", "leave"]);
    let _ = room.run(&submit).ok();
    let Reply::Apps { apps, .. } = cluster.request(&Request::Apps) else {
        panic!("the masters have answered something else")
    };
    let app = apps.first().expect("it was submitted").app;
    assert_eq!(cluster.outcome(app), AppOutcome::Finished, "{}", cluster.logs());
    let (_kept, fetched) = place.fetch("out");
    let difference = job::compare(&job::expected(&options), &fetched);
    assert!(difference.told.is_empty(), "{difference:?} {}", cluster.logs());
}
