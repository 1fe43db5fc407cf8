//! Nodes with networks of their own: cables that are pulled out, and packets that vanish one way.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use gear_core::control::AppOutcome;
use gear_core::id::AppId;
use gear_tests::chaos::job::{self, Options};
use gear_tests::cluster::Cluster;
use gear_tests::namespaces::Network;

const NODE: &str = env!("CARGO_BIN_EXE_node_program");
const JOB: &str = env!("CARGO_BIN_EXE_job_chaos");
const NODES: usize = 4;
const MASTERS: usize = 3;
/// Records of each of the job's sources in a second.
const RATE: u64 = 500;
/// Well within the grace time of three seconds: it is only a delay.
const SHORT: Duration = Duration::from_millis(800);
/// Well beyond it: who is silent for so long is lost.
const LONG: Duration = Duration::from_secs(6);

/// Set where network namespaces are known to be permitted: not to have them is a failure then.
const REQUIRED: &str = "GEAR_TEST_NAMESPACES";

/// The namespaces; none where they are not permitted.
fn network() -> Option<Network> {
    match Network::new(NODES) {
        Ok(network) => Some(network),
        Err(reason) => {
            assert!(std::env::var_os(REQUIRED).is_none(), "no network namespaces: {reason}");
            println!("NOT TESTED: network namespaces are not permitted here: {reason}");
            None
        }
    }
}

/// Waits until an epoch commits that was begun after now.
fn wait_for_epochs(cluster: &mut Cluster, app: AppId) {
    let before = cluster.app(app).committed;
    // A few may have been under way.
    cluster.wait_for("epochs commit", |cluster| {
        let status = cluster.app(app);
        assert_eq!(status.outcome, None, "it ended too early: {}", cluster.logs());
        status.committed.0 > before.0 + 5
    });
}

#[test]
fn cables_that_are_pulled_out_and_packets_that_vanish_lose_nothing() {
    let Some(network) = network() else { return };
    let mut cluster = Cluster::new(NODE, MASTERS);
    for number in 0..NODES {
        cluster.add_in(network.name(number), network.address(number));
        cluster.start_node(number);
    }
    cluster.wait_for("every node is ready", |cluster| {
        (0..NODES).all(|node| cluster.is_ready(node)) && cluster.leader().is_some()
    });
    let out = cluster.path("out").display().to_string();
    let options = Options { count: RATE * 40, rate: RATE, seed: 5, out };
    let arguments = options.arguments(2, "200ms");
    let app = cluster.submit(Path::new(JOB), 2, &arguments);
    wait_for_epochs(&mut cluster, app);

    // For a moment: nobody is given up.
    for number in 0..NODES {
        network.plug(number, false);
        sleep(SHORT);
        network.plug(number, true);
        wait_for_epochs(&mut cluster, app);
    }
    // For long: the leader, and somebody who runs something.
    let leader = cluster.leader().expect("somebody leads");
    let busy = (0..NODES).find(|node| *node != leader && !cluster.children(*node).is_empty());
    let busy = busy.expect("three processes are spread over four nodes");
    for number in [busy, leader] {
        network.plug(number, false);
        sleep(LONG);
        network.plug(number, true);
        wait_for_epochs(&mut cluster, app);
    }
    // One way: the leader speaks to nobody and hears all, then somebody is heard by nobody.
    let leader = cluster.leader().expect("somebody leads");
    let busy = (0..NODES).find(|node| *node != leader && !cluster.children(*node).is_empty());
    for from in [leader, busy.expect("three processes are spread over four nodes")] {
        let others = || (0..NODES).filter(|to| *to != from);
        others().for_each(|to| network.mute(from, to, true));
        sleep(LONG);
        others().for_each(|to| network.mute(from, to, false));
        wait_for_epochs(&mut cluster, app);
    }
    assert_eq!(cluster.outcome(app), AppOutcome::Finished);
    let difference = job::compare(&job::expected(&options), Path::new(&options.out));
    assert!(difference.told.is_empty(), "{difference:#?} {}", cluster.logs());
}
