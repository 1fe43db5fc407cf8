//! Real nodes whose checkpoint store is on S3.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use gear_core::control::AppOutcome;
use gear_tests::chaos::job::{self, Options};
use gear_tests::cluster::Cluster;
use gear_tests::process::Room;
use gear_tests::services::S3_KEY;

use super::{CHAOS, Place};

const NODE: &str = env!("CARGO_BIN_EXE_node_program");

#[test]
fn an_app_survives_its_node_and_the_store() {
    let Some(place) = Place::new("cluster") else { return };
    let mut cluster = Cluster::new(NODE, 1);
    cluster.keep_checkpoints_at(&place.url(), &place.services.s3_variables());
    let node = cluster.add();
    cluster.start_node(node);
    cluster.wait_for("it is ready", |cluster| cluster.is_ready(node));
    let out = cluster.path("out");
    let options = Options { count: 20_000, rate: 1_500, seed: 4, out: out.display().to_string() };
    let app = cluster.submit(Path::new(CHAOS), 2, &options.arguments(2, "100ms"));
    cluster.wait_for_epochs(app, 5);
    place.kill();
    sleep(Duration::from_secs(2));
    place.start_again();
    cluster.wait_for_epochs(app, 3);
    cluster.kill_node(0);
    cluster.start_node(0);
    cluster.wait_for("it is ready", |cluster| cluster.is_ready(0));
    assert_eq!(cluster.outcome(app), AppOutcome::Finished, "{}", cluster.logs());
    let difference = job::compare(&job::expected(&options), &out);
    assert!(difference.told.is_empty(), "{difference:?} {}", cluster.logs());
    assert!(!cluster.logs().contains(S3_KEY.1), "a log has the key");
}

#[test]
fn what_is_submitted_is_refused_by_name_where_the_store_is_not_ours() {
    let Some(place) = Place::new("submit") else { return };
    let mut cluster = Cluster::new(NODE, 1);
    let mut variables = place.services.s3_variables();
    variables[3].1 = "a-key-of-nobody";
    cluster.keep_checkpoints_at(&place.url(), &variables);
    let node = cluster.add();
    cluster.start_node(node);
    cluster.wait_for("it is ready", |cluster| cluster.is_ready(node));
    let room = Room::new(NODE);
    let at = cluster.serves(0).to_string();
    let options = Options { count: 200, rate: 1_000, seed: 3, out: "out".into() };
    let arguments = options.arguments(1, "100ms");
    let mut submit = vec!["submit", "--cluster", &at, CHAOS, "--"];
    submit.extend(arguments.iter().map(String::as_str));
    room.run(&submit).refused(&["checkpoint store", &place.url(), "SignatureDoesNotMatch"]);
    assert!(!cluster.logs().contains("a-key-of-nobody"), "a log has the key");
}
