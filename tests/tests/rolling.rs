//! What an operator does to a cluster that is at work, and what the network does to it.

use std::collections::BTreeMap;
use std::path::Path;

use gear_core::control::AppOutcome;
use gear_core::id::{AppId, Epoch};
use gear_tests::chaos::job::{self, Options};
use gear_tests::cluster::Cluster;
use gear_tests::process::Room;
use gear_tests::rest;
use gear_tests::system::cut_connections;
use serde_json::Value;

const NODE: &str = env!("CARGO_BIN_EXE_node_program");
const JOB: &str = env!("CARGO_BIN_EXE_job_chaos");
/// Connections that are cut while the job runs.
const CUTS: usize = 100;
/// Records of each of the job's sources in a second.
const RATE: u64 = 500;

/// A cluster with the job at work, which has records for so many seconds.
fn at_work(nodes: usize, seconds: u64) -> (Cluster, AppId, Options) {
    let mut cluster = Cluster::start(NODE, nodes, 3);
    let out = cluster.path("out").display().to_string();
    let options = Options { count: RATE * seconds, rate: RATE, seed: 11, out };
    let arguments = options.arguments(2, "200ms");
    let app = cluster.submit(Path::new(JOB), 2, &arguments);
    wait_for_epoch(&mut cluster, app);
    (cluster, app, options)
}

/// Waits until an epoch commits that was not committed before.
fn wait_for_epoch(cluster: &mut Cluster, app: AppId) {
    let before = cluster.app(app).committed;
    cluster.wait_for("an epoch commits", |cluster| {
        let status = cluster.app(app);
        assert_eq!(status.outcome, None, "it ended too early: {}", cluster.logs());
        status.committed > before.max(Epoch(0))
    });
}

fn assert_exact(cluster: &mut Cluster, app: AppId, options: &Options) {
    assert_eq!(cluster.outcome(app), AppOutcome::Finished);
    let difference = job::compare(&job::expected(options), Path::new(&options.out));
    assert!(difference.told.is_empty(), "{difference:#?} {}", cluster.logs());
}

/// What the app master says of itself.
fn live(cluster: &mut Cluster, app: AppId) -> Value {
    let (at, path) = (cluster.serves(0), format!("/api/v1/apps/{}/live", app.0));
    let mut live = Value::Null;
    cluster.wait_for("the app master answers", |_| {
        live = rest::get(at, &path).unwrap_or_default();
        live["term"].is_u64()
    });
    live
}

#[test]
fn connections_that_are_cut_take_no_task_back() {
    let (mut cluster, app, options) = at_work(3, 15);
    let runs = cluster.processes();
    let mut cut = 0;
    let mut reconnects = BTreeMap::new();
    while cut < CUTS {
        // Wherever they are: between executors, with the app master, between nodes.
        let pids = cluster.processes().into_keys().collect::<Vec<_>>();
        let nodes = (0..cluster.len()).filter_map(|node| cluster.pid(node));
        for pid in pids.into_iter().chain(nodes) {
            cut += cut_connections(pid, CUTS - cut);
        }
        wait_for_epoch(&mut cluster, app);
        for link in live(&mut cluster, app)["links"].as_array().into_iter().flatten() {
            let name = (link["process"].to_string(), link["peer"].to_string());
            reconnects.insert(name, link["reconnects"].as_u64().unwrap_or(0));
        }
    }
    let live = live(&mut cluster, app);
    assert_eq!(live["recoveries"], 0, "a region went back: {live:#} {}", cluster.logs());
    assert_eq!(cluster.app(app).restarts, 0, "a process was replaced: {}", cluster.logs());
    assert_eq!(cluster.processes(), runs, "a process was replaced");
    assert!(reconnects.values().sum::<u64>() > 0, "no link has noticed: {reconnects:?}");
    println!("{cut} connections cut, {} links made anew", reconnects.values().sum::<u64>());
    assert_exact(&mut cluster, app, &options);
}

#[test]
fn every_node_is_restarted_under_load_and_nothing_is_lost() {
    let (mut cluster, app, options) = at_work(4, 20);
    let room = Room::new(NODE);
    for node in 0..cluster.len() {
        let number = cluster.identity(node).expect("it is part of the cluster").0.0.to_string();
        let other = (node + 1) % cluster.len();
        let at = cluster.serves(other).to_string();
        let _ = room.run(&["drain", &number, "--cluster", &at]).ok();
        cluster.wait_for("nothing runs there", |cluster| cluster.children(node).is_empty());
        assert_eq!(cluster.stop_node(node), Some(0), "{}", cluster.logs());
        cluster.start_node(node);
        cluster.wait_for("it is back", |cluster| cluster.is_ready(node));
        // Until the next one goes, the masters have to be as many as before.
        cluster.wait_for("somebody leads", |cluster| cluster.leader().is_some());
        let _ = room.run(&["undrain", &number, "--cluster", &at]).ok();
        if cluster.app(app).outcome.is_none() {
            let before = cluster.app(app).committed;
            cluster.wait_for("it goes on", |cluster| {
                let status = cluster.app(app);
                status.committed > before || status.outcome.is_some()
            });
        }
    }
    assert_exact(&mut cluster, app, &options);
}
