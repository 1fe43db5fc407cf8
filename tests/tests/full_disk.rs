//! Disks of nodes that are full: whoever asks is told, nothing that was acknowledged is lost, and
//! all goes on when there is room again.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use gear_core::control::{AppOutcome, AppSpec, Reply, Request, Resources};
use gear_core::id::{AppId, Epoch};
use gear_tests::chaos::job::{self, Options};
use gear_tests::cluster::Cluster;
use gear_tests::process::Room;
use gear_tests::system::SmallDisk;

const NODE: &str = env!("CARGO_BIN_EXE_node_program");
const JOB: &str = env!("CARGO_BIN_EXE_job_chaos");
/// How long a disk stays full: longer than all bounded retries take together.
const FULL: Duration = Duration::from_secs(20);

/// A node that is started, with the disks that are there already.
fn start(cluster: &mut Cluster) -> usize {
    let node = if cluster.is_empty() { cluster.add() } else { 0 };
    cluster.start_node(node);
    cluster.wait_for("it is ready", |cluster| cluster.is_ready(node));
    node
}

fn options(cluster: &Cluster, count: u64) -> Options {
    let out = cluster.path("out").display().to_string();
    Options { count, rate: 2_000, seed: 8, out }
}

fn committed(cluster: &mut Cluster, app: AppId) -> Epoch {
    let status = cluster.app(app);
    assert_eq!(status.outcome, None, "{}", cluster.logs());
    status.committed
}

#[test]
fn an_app_waits_for_room_in_the_checkpoint_store_and_loses_nothing() {
    let mut cluster = Cluster::new(NODE, 1);
    let Some(disk) = SmallDisk::at(&cluster.path("checkpoints"), "16m") else { return };
    start(&mut cluster);
    let options = options(&cluster, 60_000);
    let app = cluster.submit(Path::new(JOB), 2, &options.arguments(2, "200ms"));
    cluster.wait_for("an epoch has committed", |cluster| committed(cluster, app) > Epoch(1));
    disk.fill();
    sleep(FULL);
    let stood = committed(&mut cluster, app);
    sleep(Duration::from_secs(1));
    assert_eq!(committed(&mut cluster, app), stood, "there is no room for an epoch");
    let logs = cluster.logs();
    // No task fails for it.
    for part in ["No space left", "the epoch waits until it is taken"] {
        assert!(logs.contains(part), "{part}: {logs}");
    }
    assert!(!logs.contains("start again when the store works"), "{logs}");
    assert!(logs.len() < 1 << 20, "a full disk makes {} bytes of logs", logs.len());
    disk.make_room();
    cluster.wait_for("epochs commit again", |cluster| {
        let status = cluster.app(app);
        status.committed > stood || status.outcome.is_some()
    });
    assert_eq!(cluster.outcome(app), AppOutcome::Finished, "{}", cluster.logs());
    let difference = job::compare(&job::expected(&options), &cluster.path("out"));
    assert!(difference.told.is_empty(), "{difference:?} {}", cluster.logs());
}

#[test]
fn a_node_without_room_refuses_what_it_cannot_keep_and_comes_back_with_what_it_has() {
    let mut cluster = Cluster::new(NODE, 1);
    let node = cluster.add();
    // For the job's binary and the masters' state, and not for another binary.
    let size = (fs::metadata(JOB).expect("it is built").len() >> 20) + 24;
    let place = cluster.path("node-0");
    let Some(disk) = SmallDisk::at(&place, &format!("{size}m")) else { return };
    start(&mut cluster);
    let options = options(&cluster, 40_000);
    let app = cluster.submit(Path::new(JOB), 2, &options.arguments(2, "200ms"));
    cluster.wait_for("an epoch has committed", |cluster| committed(cluster, app) > Epoch(0));
    disk.fill();
    // A binary that is not there yet: the old one with something behind it.
    let room = Room::new(NODE);
    let other = room.path("other");
    fs::copy(JOB, &other).expect("there is room in the other folder");
    let mut file = fs::OpenOptions::new().append(true).open(&other).expect("it is there");
    std::io::Write::write_all(&mut file, b"more").expect("there is room");
    let at = cluster.serves(node).to_string();
    let submit = ["submit", "--cluster", &at, other.to_str().expect("it is text")];
    room.run(&submit).refused(&["No space left", "make room", "node-0"]);
    // What the masters would have to keep, until what their file has set aside is used up: apps
    // that wait for a node that nobody has.
    let mut kept = Vec::new();
    cluster.wait_for("the masters cannot keep more", |cluster| {
        let spec = AppSpec {
            name: format!("waits-{}", kept.len()),
            arguments: vec!["x".repeat(8 << 10)],
            binary: vec![0; 32],
            labels: [("place".to_owned(), "nowhere".to_owned())].into(),
            executors: 1,
            executor: Resources { slots: 1, memory: 1 << 20 },
            strategy: "spread".into(),
            ..AppSpec::default()
        };
        let reply = cluster.try_request(node, &Request::Submit(spec.into()));
        if let Some(Reply::Submitted { app }) = reply {
            kept.push(app);
        }
        cluster.logs().contains("No space left")
    });
    let logs = cluster.logs();
    for part in ["masters.redb", "No space left", "make room", "start the node again"] {
        assert!(logs.contains(part), "{part}: {logs}");
    }
    assert!(logs.len() < 1 << 20, "a full disk makes {} bytes of logs", logs.len());
    disk.make_room();
    if !cluster.has_ended(node) {
        cluster.kill_node(node);
    }
    start(&mut cluster);
    for app in kept {
        assert_eq!(cluster.app(app).outcome, None, "what was acknowledged is there");
    }
    assert_eq!(cluster.outcome(app), AppOutcome::Finished, "{}", cluster.logs());
    let difference = job::compare(&job::expected(&options), &cluster.path("out"));
    assert!(difference.told.is_empty(), "{difference:?} {}", cluster.logs());
}
