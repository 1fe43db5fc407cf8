//! Nodes that cannot start as they are told: each says why, and what to do.

use std::fs;
use std::net::{TcpListener, UdpSocket};

use gear_tests::cluster::Cluster;
use gear_tests::process::{Ended, Room};

const NODE: &str = env!("CARGO_BIN_EXE_node_program");

fn room() -> Room {
    Room::new(NODE)
}

/// Ports that nobody has.
const ANYWHERE: [&str; 4] = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];

fn refused(room: &Room, arguments: &[&str], says: &[&str]) -> Ended {
    let ended = room.run(&[&["start"], arguments].concat());
    assert!(ended.out.is_empty(), "it claims to have started: {ended:?}");
    ended.refused(says)
}

#[test]
fn a_port_in_use_is_named_and_so_is_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let at = taken.local_addr().expect("it has an address").to_string();
    refused(
        &room(),
        &["--listen", &at, ANYWHERE[2], ANYWHERE[3]],
        &["--listen", &at, "in use", "address of its own"],
    );
    let taken = UdpSocket::bind("127.0.0.1:0").expect("there is a port");
    let at = taken.local_addr().expect("it has an address").to_string();
    refused(
        &room(),
        &["--listen", &at, ANYWHERE[2], ANYWHERE[3]],
        &["--listen", &at, "UDP", "in use"],
    );
}

#[test]
fn what_an_option_does_not_mean_is_named() {
    let room = room();
    refused(&room, &["--listen", "nowhere"], &["--listen nowhere"]);
    refused(&room, &["--masters", "0"], &["--masters 0", "1, 3 or 5"]);
    refused(&room, &["--memory", "lots"], &["--memory lots", "512M"]);
    let odd_store = [&ANYWHERE[..], &["--checkpoints", "s3:bucket"]].concat();
    refused(&room, &odd_store, &["s3:bucket", "file:///mnt/gear"]);
    refused(&room, &["--config", "gone.toml"], &["gone.toml"]);
    room.write("odd.toml", "mastres = 3\n");
    refused(&room, &["--config", "odd.toml"], &["odd.toml", "mastres"]);
}

#[test]
fn a_data_folder_is_one_node_s() {
    let cluster = Cluster::start(NODE, 1, 1);
    let room = room();
    let data = cluster.path("node-0");
    let data = data.to_str().expect("it is text");
    refused(&room, &["--data", data, "--listen", "127.0.0.1:0"], &["in use by process", "--data"]);
}

#[test]
fn a_data_folder_of_another_cluster_is_refused() {
    let mut one = Cluster::start(NODE, 1, 1);
    let mut other = Cluster::start(NODE, 1, 1);
    let node = one.add();
    one.start_node(node);
    one.wait_for("it is part of the first", |one| one.identity(node).is_some());
    assert_eq!(one.stop_node(node), Some(0));
    one.join(node, other.listens(0));
    one.start_node(node);
    one.wait_for("it has refused", |one| one.has_ended(node));
    let logs = one.logs();
    assert!(logs.contains("belongs to cluster") && logs.contains("another folder"), "{logs}");
    assert!(other.leader().is_some(), "the other one goes on");
}

#[test]
fn damage_in_the_data_folder_is_refused_and_never_believed() {
    let mut cluster = Cluster::start(NODE, 1, 1);
    assert_eq!(cluster.stop_node(0), Some(0));
    let disk = cluster.path("node-0/masters.redb");
    let intact = fs::read(&disk).expect("it is there");
    fs::write(&disk, &intact[..intact.len() / 2]).expect("it can be written");
    cluster.start_node(0);
    cluster.wait_for("it has refused", |cluster| cluster.has_ended(0));
    assert!(cluster.logs().contains("masters.redb is damaged"), "{}", cluster.logs());
    fs::write(&disk, &intact).expect("it can be written");
    fs::write(cluster.path("node-0/identity.json"), "{").expect("it can be written");
    cluster.start_node(0);
    cluster.wait_for("it has refused", |cluster| cluster.has_ended(0));
    assert!(cluster.logs().contains("identity.json is damaged"), "{}", cluster.logs());
}

#[test]
fn a_master_whose_disk_is_gone_does_not_vote() {
    let mut cluster = Cluster::start(NODE, 1, 1);
    assert_eq!(cluster.stop_node(0), Some(0));
    fs::remove_file(cluster.path("node-0/masters.redb")).expect("it is there");
    cluster.start_node(0);
    cluster.wait_for("it says so", |cluster| cluster.logs().contains("does not vote"));
    assert_eq!(cluster.leader(), None);
}

#[test]
fn a_seed_that_is_killed_while_it_waits_makes_no_second_cluster() {
    let mut cluster = Cluster::new(NODE, 3);
    for _ in 0..3 {
        cluster.add();
    }
    cluster.start_node(0);
    cluster.start_node(1);
    cluster.wait_for("it waits for one more", |cluster| cluster.logs().contains("2 of 3 masters"));
    assert_eq!(cluster.identity(0), None, "nothing is decided yet");
    cluster.kill_node(0);
    cluster.start_node(2);
    cluster.start_node(0);
    cluster.wait_for("somebody leads", |cluster| cluster.leader().is_some());
    cluster.wait_for("all belong to it", |cluster| {
        (0..3).all(|node| cluster.identity(node).is_some())
    });
    let clusters: Vec<_> = (0..3).filter_map(|node| Some(cluster.identity(node)?.1)).collect();
    assert_eq!(clusters, [clusters[0]; 3]);
    // All of them at once, and none is told again whom to join.
    for node in 0..3 {
        cluster.kill_node(node);
    }
    for node in 0..3 {
        cluster.start_node(node);
    }
    cluster.wait_for("somebody leads again", |cluster| cluster.leader().is_some());
}
