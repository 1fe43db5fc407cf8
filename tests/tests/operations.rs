//! What operators do to nodes: start them, stop them, and start them again.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gear_core::control::{AppOutcome, ClusterStatus, Reply, Request};
use gear_core::id::{AppId, Epoch};
use gear_tests::chaos::job::Options;
use gear_tests::cluster::{Cluster, is_running};
use gear_tests::words;

const NODE: &str = env!("CARGO_BIN_EXE_node_program");
/// A job that lasts.
const JOB: &str = env!("CARGO_BIN_EXE_job_chaos");
const WORD_COUNT: &str = env!("CARGO_BIN_EXE_job_word_count");
/// What a node that waits for nothing takes to end, on a slow machine: a fraction of the 20 s that
/// it gives its work to move.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A cluster of so many nodes, with one master, that is at work on a text: an epoch has committed.
fn busy(nodes: usize, text: &[u8]) -> (Cluster, AppId) {
    let mut cluster = Cluster::start(NODE, nodes, 1);
    let input = cluster.path("text.txt");
    std::fs::write(&input, text).expect("it can be written");
    let (input, output) = (input.display().to_string(), cluster.path("out").display().to_string());
    let arguments = [&*input, "--out", &output, "--parallelism", "2", "--epoch-interval", "100ms"];
    let app = cluster.submit(Path::new(WORD_COUNT), 2, &arguments);
    cluster.wait_for("an epoch has committed", |cluster| {
        let status = cluster.app(app);
        assert_eq!(status.outcome, None, "it ended too early: {}", cluster.logs());
        status.committed > Epoch(0)
    });
    (cluster, app)
}

fn status(cluster: &mut Cluster) -> ClusterStatus {
    match cluster.request(&Request::Cluster) {
        Reply::Cluster(status) => status,
        other => panic!("the masters have answered something else: {other:?}"),
    }
}

#[test]
fn a_single_node_is_ready_before_a_lease_could_have_run_out() {
    let mut cluster = Cluster::new(NODE, 1);
    let node = cluster.add();
    // The first start and later ones; the best of some, since the machine may have other work.
    let times = (0..4).map(|_| {
        let began = Instant::now();
        cluster.start_node(node);
        while !cluster.is_ready(node) {
            std::thread::sleep(Duration::from_millis(5));
            assert!(began.elapsed() < Duration::from_secs(60), "{}", cluster.logs());
        }
        let time = began.elapsed();
        cluster.kill_node(node);
        time
    });
    let times: Vec<_> = times.collect();
    let first = times.iter().min().expect("there are some");
    assert!(*first < Duration::from_secs(1), "{times:?}");
}

#[test]
fn a_node_that_is_told_to_end_gives_its_work_away_and_takes_some_when_it_is_back() {
    let text = words::text(24_000_000, 5);
    let (mut cluster, app) = busy(2, &text);
    let (node, _) = cluster.identity(1).expect("it has started");
    assert!(!cluster.children(1).is_empty(), "{:?}", cluster.processes());
    assert_eq!(cluster.stop_node(1), Some(0));
    assert!(cluster.logs().contains("its work has moved to others"), "{}", cluster.logs());
    assert!(status(&mut cluster).workers[&node].drains, "nothing new comes to it");
    cluster.start_node(1);
    cluster.wait_for("it takes work again", |cluster| {
        let worker = &status(cluster).workers[&node];
        worker.alive && !worker.drains
    });
    assert_eq!(cluster.outcome(app), AppOutcome::Finished);
    let expected = words::count([text.as_slice()]);
    let wrong = words::differences(&words::lines(&cluster.path("out")), &expected);
    assert!(wrong.is_empty(), "{wrong:#?} {}", cluster.logs());
}

#[test]
fn a_drain_that_somebody_asked_for_stays() {
    let mut cluster = Cluster::start(NODE, 2, 1);
    let (node, _) = cluster.identity(1).expect("it has started");
    assert_eq!(cluster.request(&Request::Drain { node, drains: true }), Reply::Done);
    assert_eq!(cluster.stop_node(1), Some(0));
    cluster.start_node(1);
    cluster.wait_for("it is back", |cluster| cluster.is_ready(1));
    std::thread::sleep(Duration::from_millis(500));
    assert!(status(&mut cluster).workers[&node].drains);
}

/// The arguments of a job that outlasts every test.
fn lasting(cluster: &Cluster) -> Vec<String> {
    let out = cluster.path("out").display().to_string();
    Options { count: 1_000_000, rate: 1_000, seed: 6, out }.arguments(2, "100ms")
}

/// What a node serves there.
fn get(cluster: &Cluster, node: usize, path: &str) -> String {
    let mut stream = TcpStream::connect(cluster.serves(node)).expect("it serves");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn a_node_tells_how_long_records_take_and_alone_waits_for_nothing_at_its_end() {
    let mut cluster = Cluster::start(NODE, 1, 1);
    let arguments = lasting(&cluster);
    cluster.submit(Path::new(JOB), 2, &arguments);
    cluster.wait_for("there is a histogram of latency", |cluster| {
        get(cluster, 0, "/metrics").contains("gear_task_latency_seconds_bucket{app=\"1\",")
    });
    let began = Instant::now();
    assert_eq!(cluster.stop_node(0), Some(0));
    assert!(cluster.logs().contains("no other node takes its work"), "{}", cluster.logs());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// A cluster of two whose second node alone can run a job, and runs it: its work can go nowhere,
/// though there is somebody who takes work.
fn with_work_that_cannot_move() -> Cluster {
    let mut cluster = Cluster::start(NODE, 1, 1);
    let node = cluster.add();
    cluster.set_options(node, &["--label", "place=here"]);
    cluster.start_node(node);
    cluster.wait_for("it is ready", |cluster| cluster.is_ready(node));
    let arguments = lasting(&cluster);
    let app = cluster.submit_to(&[("place", "here")], Path::new(JOB), 2, &arguments);
    cluster.wait_for("an epoch has committed", |cluster| cluster.app(app).committed > Epoch(0));
    cluster
}

#[test]
fn a_second_signal_ends_a_node_that_waits_for_its_work_to_move() {
    for second in ["TERM", "INT"] {
        let mut cluster = with_work_that_cannot_move();
        let runs = cluster.children(1);
        assert_eq!(runs.len(), 3, "{runs:?}");
        cluster.signal(1, "TERM");
        cluster.wait_for("it drains", |cluster| cluster.logs().contains("told to end"));
        std::thread::sleep(Duration::from_secs(1));
        assert!(!cluster.has_ended(1), "it waits for its work: {}", cluster.logs());
        let began = Instant::now();
        assert_eq!(cluster.end_node(1, second), Some(0), "{}", cluster.logs());
        let took = began.elapsed();
        assert!(took < AT_ONCE, "SIG{second} took {took:?}: {}", cluster.logs());
        assert!(!cluster.logs().contains("has not moved within"), "{}", cluster.logs());
        cluster.wait_for("its processes have ended", |_| !runs.keys().any(|pid| is_running(*pid)));
    }
}

#[test]
fn an_interrupt_alone_ends_a_node_at_once() {
    let mut cluster = with_work_that_cannot_move();
    let began = Instant::now();
    assert_eq!(cluster.end_node(1, "INT"), Some(0), "{}", cluster.logs());
    let took = began.elapsed();
    assert!(took < AT_ONCE, "it took {took:?}: {}", cluster.logs());
}

#[test]
fn what_a_killed_node_has_left_is_ended_when_it_starts_again() {
    let mut cluster = Cluster::new(NODE, 1);
    let node = cluster.add();
    cluster.set_options(node, &["--cgroups", "auto"]);
    cluster.start_node(node);
    cluster.wait_for("it is ready", |cluster| cluster.is_ready(node));
    if !cluster.logs().contains("jobs' processes get control groups in") {
        eprintln!("SKIPPED: the node may make no control groups here: {}", cluster.logs());
        return;
    }
    let arguments = lasting(&cluster);
    let app = cluster.submit(Path::new(JOB), 2, &arguments);
    cluster.wait_for("an epoch has committed", |cluster| cluster.app(app).committed > Epoch(0));
    let runs = cluster.children(node);
    let groups: BTreeSet<_> = runs.keys().map(|pid| group(*pid)).collect();
    assert_eq!((runs.len(), groups.len()), (3, 3), "each is in one of its own: {groups:?}");
    // As if a job had started it, in a session of its own: nobody tells it that its node is gone.
    let mut started = Command::new("sleep").arg("300").spawn().expect("there is such a program");
    let procs = format!("{}/cgroup.procs", groups.first().expect("there are some"));
    std::fs::write(procs, started.id().to_string()).expect("it can be moved");
    cluster.kill_node(node);
    cluster.wait_for("orphans end themselves", |_| !runs.keys().any(|pid| is_running(*pid)));
    assert!(is_running(started.id()));
    cluster.start_node(node);
    cluster.wait_for("it is back", |cluster| cluster.is_ready(node));
    assert!(!is_running(started.id()), "{}", cluster.logs());
    assert!(!started.wait().expect("it is our child").success());
    assert!(cluster.logs().contains("had left 1 of its processes"), "{}", cluster.logs());
    let committed = cluster.app(app).committed;
    cluster.wait_for("the app goes on", |cluster| cluster.app(app).committed > committed);
    let groups: BTreeSet<_> = cluster.children(node).keys().map(|pid| group(*pid)).collect();
    assert_eq!(cluster.stop_node(node), Some(0));
    let left: Vec<_> = groups.iter().filter(|it| Path::new(it).exists()).collect();
    assert!(left.is_empty() && !groups.is_empty(), "{left:?} of {groups:?}");
}

/// The control group of a process, as a folder.
fn group(pid: u32) -> String {
    let text = |path: String| std::fs::read_to_string(path).expect("it runs");
    let mounts = text(format!("/proc/{pid}/mountinfo"));
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("it is mounted");
    let point = mount.split(' ').nth(4).expect("it has a place");
    let groups = text(format!("/proc/{pid}/cgroup"));
    let path = groups.lines().find_map(|line| line.strip_prefix("0::")).expect("it is in one");
    format!("{point}{path}")
}
