//! Who votes among the masters of a real cluster: what an operator does when one has lost its data
//! folder, or is to make way for another.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use gear_core::control::{Reply, Request};
use gear_tests::cluster::Cluster;
use gear_tests::process::{Ended, Room};
use gear_tests::rest;
use serde_json::Value;

const NODE: &str = env!("CARGO_BIN_EXE_node_program");
const MASTERS: usize = 3;
/// Longer than an election takes: whoever could lead does by then.
const ELECTIONS: Duration = Duration::from_secs(4);

/// The number of a node, as the command line takes it.
fn number(cluster: &Cluster, node: usize) -> String {
    cluster.identity(node).expect("it is part of the cluster").0.0.to_string()
}

/// Asks one node to do something about the voters.
fn voters(room: &Room, cluster: &Cluster, asked: usize, arguments: &[&str]) -> Ended {
    let at = cluster.serves(asked).to_string();
    room.run(&[&["voters"], arguments, &["--cluster", &at]].concat())
}

/// Who votes, as a node tells it.
fn who_votes(room: &Room, cluster: &Cluster, asked: usize) -> BTreeSet<String> {
    let told = voters(room, cluster, asked, &["--json"]).ok();
    let told: Value = serde_json::from_str(&told.out).expect("it is JSON");
    let all = told["voters"].as_array().expect("there is a list").iter();
    all.map(|it| it["node"].as_str().expect("it is a text").to_owned()).collect()
}

/// Somebody leads, and can change something: a majority has it on disk.
fn assert_decides(cluster: &mut Cluster) {
    cluster.wait_for("somebody leads", |cluster| cluster.leader().is_some());
    let (node, _) = cluster.identity(0).expect("it is part of the cluster");
    for drains in [true, false] {
        assert_eq!(cluster.request(&Request::Drain { node, drains }), Reply::Done);
    }
}

/// Masters that follow.
fn followers(cluster: &mut Cluster) -> Vec<usize> {
    let leader = cluster.leader().expect("somebody leads");
    (0..MASTERS).filter(|it| *it != leader).collect()
}

#[test]
fn a_master_whose_data_folder_is_lost_votes_again_once_it_is_readmitted() {
    let mut cluster = Cluster::start(NODE, MASTERS, MASTERS);
    let room = Room::new(NODE);
    let [lost, other] = followers(&mut cluster)[..] else { panic!("two of three follow") };
    let leader = cluster.leader().expect("somebody leads");
    let of_lost = number(&cluster, lost);

    cluster.kill_node(lost);
    fs::remove_file(cluster.data(lost).join("masters.redb")).expect("it was there");
    cluster.start_node(lost);
    cluster.wait_for("it says that it does not vote", |cluster| {
        cluster.is_ready(lost) && cluster.logs().contains("this master does not vote")
    });
    // It has promised and acknowledged what nobody knows any more: with it there is no majority.
    cluster.kill_node(other);
    cluster.wait_for("the lease ends", |cluster| cluster.leader().is_none());
    std::thread::sleep(ELECTIONS);
    assert_eq!(cluster.leader(), None, "a master votes whose folder is lost: {}", cluster.logs());
    cluster.start_node(other);
    cluster.wait_for("somebody leads", |cluster| cluster.leader().is_some());

    // Not who asks is meant, but who is named; and nobody's folder is emptied that is sound.
    let sound = number(&cluster, other);
    voters(&room, &cluster, lost, &["--readmit", &sound]).refused(&["not one that is lost"]);
    let done = voters(&room, &cluster, leader, &["--readmit", &of_lost]).ok();
    assert!(done.out.contains("has begun a new data folder"), "{done:?}");
    cluster.wait_for("it has its place", |cluster| {
        cluster.logs().contains("votes with a new data folder")
    });
    voters(&room, &cluster, leader, &["--readmit", &of_lost]).refused(&["not one that is lost"]);
    assert!(who_votes(&room, &cluster, leader).contains(&of_lost));

    // Again with one of the others dead: what is decided now has this master's vote.
    cluster.kill_node(other);
    assert_decides(&mut cluster);
    // And it remembers what it has acknowledged.
    cluster.start_node(other);
    cluster.wait_for("it is back", |cluster| cluster.is_ready(other));
    cluster.kill_node(lost);
    cluster.start_node(lost);
    cluster.kill_node(other);
    assert_decides(&mut cluster);
}

#[test]
fn a_voter_that_is_gone_for_good_makes_way_for_another_node() {
    let mut cluster = Cluster::start(NODE, MASTERS + 1, MASTERS);
    let room = Room::new(NODE);
    let [stays, gone] = followers(&mut cluster)[..] else { panic!("two of three follow") };
    let leader = cluster.leader().expect("somebody leads");
    let [of_gone, of_stays, of_leader, of_new] =
        [gone, stays, leader, MASTERS].map(|node| number(&cluster, node));
    let now = |of: &[&String]| of.iter().map(|it| (*it).clone()).collect::<BTreeSet<_>>();
    let new_at = cluster.listens(MASTERS).to_string();
    cluster.wait_for("the leader hears the other node", |cluster| {
        let nodes = rest::get(cluster.serves(leader), "/api/v1/nodes").unwrap_or_default();
        let heard = |it: &Value| it["listen"] == *new_at && it["suspected"] == false;
        nodes.as_array().is_some_and(|all| all.iter().any(heard))
    });
    let before = who_votes(&room, &cluster, MASTERS);
    assert_eq!(before, now(&[&of_gone, &of_stays, &of_leader]));

    cluster.kill_node(gone);
    fs::remove_dir_all(cluster.data(gone)).expect("it was there");
    // Both at once could leave two majorities.
    let both = [&*of_leader, &of_stays, &of_new].join(",");
    voters(&room, &cluster, leader, &["--set", &both]).refused(&["one at a time"]);
    assert_eq!(who_votes(&room, &cluster, leader), before);
    let fewer = [&*of_leader, &of_stays].join(",");
    let done = voters(&room, &cluster, MASTERS, &["--set", &fewer]).ok();
    assert!(done.out.contains("2 masters vote"), "{done:?}");
    // The leader has to have heard it, and says so; whoever repeats it is content soon.
    let mut said = String::new();
    cluster.wait_for("the other node may vote", |cluster| {
        let done = voters(&room, cluster, MASTERS, &["--set", &both]);
        said = done.out + &done.err;
        done.code == Some(0)
    });
    assert!(said.contains("3 masters vote"), "{said}");
    let after = now(&[&of_leader, &of_stays, &of_new]);
    assert_eq!(who_votes(&room, &cluster, leader), after);

    // Whose folder was emptied altogether is another node when it is back, and has no vote.
    cluster.start_node(gone);
    cluster.wait_for("it is part of the cluster", |cluster| {
        cluster.is_ready(gone) && cluster.identity(gone).is_some_and(|it| it.1 != 0)
    });
    assert_ne!(number(&cluster, gone), of_gone);
    assert_eq!(who_votes(&room, &cluster, gone), after);
    cluster.kill_node(gone);
    // With one of the old voters dead, nothing is decided without the new one.
    cluster.kill_node(stays);
    assert_decides(&mut cluster);
}
