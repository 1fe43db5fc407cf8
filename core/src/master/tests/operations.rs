//! What operators do: drain workers, restart apps, look at the cluster.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::world::{World, app_master, executor, spec};
use crate::control::{
    Address, AppOutcome, AppStatus, ClusterStatus, ProcessState, Reply, Request, Resources, Wish,
};
use crate::host::NoFaults;
use crate::id::{AppId, AppTerm, NodeId};
use crate::limits::GRACE;
use crate::master::MasterInput;
use crate::master::duties::{REQUESTS_REMEMBERED, RESTART_PATIENCE, RESTARTS_MAX, TERMS_PER_APP};
use crate::time::{Duration, Time, millis, seconds};

const SECOND: Duration = seconds(1);

type Cluster = World<NoFaults>;

fn with_app(workers: u64, slots: u32, executors: u32) -> (Cluster, AppId) {
    let mut world = World::with_workers(1, workers, slots);
    let app = world.submit(spec("words", executors));
    world.run(SECOND);
    assert!(world.is_complete(app));
    (world, app)
}

fn drain(world: &mut Cluster, node: u64, drains: bool) -> Reply {
    world.command(Request::Drain { node: NodeId(node), drains })
}

fn on(world: &Cluster, node: u64) -> usize {
    world.children.keys().filter(|(worker, _)| *worker == node).count()
}

fn status(world: &mut Cluster, app: AppId) -> AppStatus {
    let Reply::Apps { stale: false, apps } = world.command(Request::Apps) else { panic!() };
    apps.into_iter().find(|status| status.app == app).expect("it is known")
}

fn cluster(world: &mut Cluster) -> ClusterStatus {
    match world.command(Request::Cluster) {
        Reply::Cluster(status) => status,
        reply => panic!("{reply:?}"),
    }
}

fn why(reply: Reply) -> String {
    match reply {
        Reply::Refused { reason } => reason,
        reply => panic!("{reply:?}"),
    }
}

#[test]
fn a_drained_worker_is_left_by_one_after_the_other_and_nobody_is_missing_meanwhile() {
    let (mut world, app) = with_app(3, 4, 6);
    let node = world.worker_of(app_master(app, 1)).unwrap();
    assert!(on(&world, node) > 2, "the app master and executors");
    let id = world.request_id();
    assert_eq!(
        world.ask(1, id, Request::Drain { node: NodeId(node), drains: true }),
        Some(Reply::Done)
    );
    let mut steps = 0;
    while on(&world, node) > 0 {
        world.run(millis(10));
        let executors = world.executors(app).len();
        assert!((6..=7).contains(&executors), "{executors} run");
        steps += 1;
        assert!(steps < 1_000, "it ends: {:?}", world.app(app));
    }
    world.run(SECOND);
    assert!(world.is_complete(app));
    assert_eq!(world.app(app).term(), AppTerm(2));
    let status = status(&mut world, app);
    assert_eq!(status.restarts, 3);
    assert_eq!(status.waiting, "");
    let seen = &cluster(&mut world).workers[&NodeId(node)];
    assert!(seen.drains && seen.alive && seen.processes.is_empty());
    assert_eq!(seen.used, Resources::default());
}

#[test]
fn a_drained_worker_gets_nothing_also_from_another_leader_and_in_another_life() {
    let mut world = Cluster::with_workers(3, 2, 4);
    assert_eq!(drain(&mut world, 11, true), Reply::Done);
    assert_eq!(drain(&mut world, 11, true), Reply::Done, "again");
    world.stop_master(world.leader().unwrap());
    world.run(5 * SECOND);
    world.stop_worker(11);
    world.start_worker(11, 4, &[]);
    let app = world.submit(spec("words", 4));
    let waits = world.submit(spec("more", 4));
    world.run(SECOND);
    assert!(world.is_complete(app));
    assert_eq!(on(&world, 11), 0);
    assert_eq!(
        status(&mut world, waits).waiting,
        "4 executors without a place, each needs 1 slot and 1 MiB: there is 1 worker, the freest \
         has 0 slots and 1020 MiB (1 more drained)"
    );
    assert_eq!(drain(&mut world, 11, false), Reply::Done);
    world.run(SECOND);
    assert!(world.is_complete(waits));
    assert!(!cluster(&mut world).workers[&NodeId(11)].drains);
    let reason = why(drain(&mut world, 99, true));
    assert_eq!(reason, "there is no worker on node 99: see which there are");
}

#[test]
fn what_has_no_room_elsewhere_stays_and_says_why() {
    let (mut world, app) = with_app(2, 2, 4);
    let before = world.running(app);
    drain(&mut world, 12, true);
    world.run(5 * SECOND);
    let on_12 = world.children.keys().filter(|(worker, _)| *worker == 12);
    let executors: Vec<_> =
        on_12.map(|(_, process)| *process).filter(|it| *it != app_master(app, 1)).collect();
    assert_eq!(executors.len(), 2);
    assert_eq!(world.executors(app).len(), 4);
    let waiting = status(&mut world, app).waiting;
    let expected = format!(
        "the {} is to leave node 12, and needs 1 slot and 1 MiB: there is 1 worker, the freest \
         has 0 slots and 1022 MiB (1 more drained)",
        executors[0]
    );
    assert_eq!(waiting, expected);
    world.start_worker(13, 2, &[]);
    world.run(3 * SECOND);
    assert_eq!(on(&world, 12), 0);
    assert!(world.is_complete(app));
    assert_ne!(world.running(app), before);
    assert_eq!(status(&mut world, app).waiting, "");
}

#[test]
fn a_move_outlasts_the_loss_of_either_end() {
    for lose_new in [false, true] {
        let (mut world, app) = with_app(3, 4, 3);
        let node = (11..14).find(|node| {
            world.worker_of(app_master(app, 1)) != Some(*node) && on(&world, *node) > 0
        });
        let node = node.unwrap();
        let message = Request::Drain { node: NodeId(node), drains: true };
        let id = world.request_id();
        let before = world.launched.len();
        // The one that takes the place is launched, and does not listen yet.
        world.tell(1, id, message);
        while world.launched.len() == before {
            world.run(millis(10));
        }
        let new = *world.launched.last().unwrap();
        let lost = if lose_new { world.worker_of(new).unwrap() } else { node };
        world.stop_worker(lost);
        world.start_worker(lost, 4, &[]);
        world.run(5 * SECOND);
        assert_eq!(on(&world, node), 0);
        assert!(world.is_complete(app), "{:?}", world.app(app));
    }
}

#[test]
fn a_restarted_app_begins_when_nothing_of_the_old_one_runs() {
    let (mut world, old) = with_app(2, 4, 2);
    let id = world.request_id();
    let request = Request::Restart { app: old };
    let reply = world.ask(1, id, request.clone()).unwrap();
    let Reply::Submitted { app: new } = reply else { panic!("{reply:?}") };
    assert_eq!(world.ask(1, id, request), Some(Reply::Submitted { app: new }), "again");
    world.run(SECOND);
    assert!(world.is_complete(new));
    assert_eq!(world.app(old).outcome(), Some(&AppOutcome::Stopped));
    let first_new = world.launched.iter().position(|process| process.app == new).unwrap();
    let after = world.launched[first_new..].iter();
    assert!(after.clone().all(|process| process.app == new));
    let (mut before, now) = (world.app(old).spec().clone(), world.app(new).spec().clone());
    assert_eq!(now.state, format!("app-{}", old.0));
    before.from = None;
    assert_eq!(before, now);
    // The log knows only who has the higher term.
    assert!(world.app(new).term() > world.app(old).term());
    assert_eq!(world.app(new).term(), AppTerm(new.0 * TERMS_PER_APP));
    assert_eq!(status(&mut world, new).restarts, 0);
    let reason = why(world.command(Request::Restart { app: old }));
    assert!(reason.contains("runs: stop it"), "{reason}");
    let reason = why(world.command(Request::Restart { app: AppId(99) }));
    assert!(reason.contains("name `app-99` as its state"), "{reason}");
}

#[test]
fn an_app_that_does_not_stop_for_its_successor_is_ended() {
    let (mut world, old) = with_app(2, 4, 2);
    world.stubborn = true;
    let Reply::Submitted { app: new } = world.command(Request::Restart { app: old }) else {
        panic!()
    };
    world.run(RESTART_PATIENCE - 2 * SECOND);
    assert_eq!(status(&mut world, new).waiting, format!("{old} stops first"));
    assert_eq!(world.executors(old).len(), 2);
    world.run(4 * SECOND);
    assert_eq!(world.app(old).outcome(), Some(&AppOutcome::Killed));
    assert!(world.is_complete(new));
}

#[test]
fn apps_that_have_ended_are_restarted_too_and_their_folders_found() {
    let (mut world, old) = with_app(2, 4, 2);
    world.command(Request::Wish { app: old, wish: Wish::Kill });
    let Reply::Submitted { app: new } = world.command(Request::Restart { app: old }) else {
        panic!()
    };
    world.run(SECOND);
    assert!(world.is_complete(new));
    // Another job on the same folder.
    let mut other = spec("other", 1);
    other.state = format!("app-{}", old.0);
    let reason = why(world.command(Request::Submit(Box::new(other.clone()))));
    assert!(reason.contains("keeps its state in `app-1` and runs"), "{reason}");
    world.command(Request::Wish { app: new, wish: Wish::Kill });
    let third = world.submit(other);
    world.run(SECOND);
    assert!(world.is_complete(third));
    assert!(world.app(third).term() > world.app(new).term());
    for bad in ["../up", "/root", "a//b", "x y", &"x".repeat(300)] {
        let bad = crate::control::AppSpec { from: Some(bad.to_string()), ..spec("bad", 1) };
        let reason = why(world.command(Request::Submit(Box::new(bad))));
        assert!(reason.contains("names no folder of the checkpoint store"), "{reason}");
    }
}

#[test]
fn an_app_whose_executors_end_at_once_is_given_up_and_says_why() {
    let mut world = Cluster::with_workers(1, 2, 4);
    let app = world.submit(spec("words", 1));
    for number in 1..=RESTARTS_MAX + 1 {
        assert_eq!(world.app(app).outcome(), None, "executor {number}");
        let mut steps = 0;
        while world.worker_of(executor(app, number)).is_none() {
            world.run(millis(10));
            steps += 1;
            assert!(steps < 1_000, "executor {number} is launched");
        }
        world.exit(executor(app, number));
        world.run(millis(20));
        if (3..=RESTARTS_MAX).contains(&number) {
            let waiting = status(&mut world, app).waiting;
            let retried = world.worker_of(executor(app, number + 1)).is_some();
            assert!(retried || waiting.contains("the last time: signal 9"), "{waiting}");
        }
    }
    let Some(AppOutcome::Failed { reason }) = world.app(app).outcome() else { panic!() };
    assert_eq!(
        reason,
        "an executor has failed 17 times in a row without running for 5 s, the last time: signal 9"
    );
}

#[test]
fn a_restart_that_waits_can_be_called_off() {
    let (mut world, old) = with_app(1, 4, 1);
    world.stubborn = true;
    let Reply::Submitted { app: new } = world.command(Request::Restart { app: old }) else {
        panic!()
    };
    assert_eq!(world.command(Request::Wish { app: new, wish: Wish::Stop }), Reply::Done);
    assert_eq!(world.app(new).outcome(), Some(&AppOutcome::Stopped));
    world.run(2 * RESTART_PATIENCE);
    assert_eq!(world.app(old).outcome(), None, "nobody needs it ended");
}

#[test]
fn any_master_tells_of_the_cluster_and_only_the_leader_who_is_alive() {
    let mut world = Cluster::with_workers(3, 2, 4);
    let app = world.submit(spec("words", 2));
    world.run(SECOND);
    world.stop_worker(12);
    world.run(4 * SECOND);
    let leader = world.leader().unwrap();
    let fresh = cluster(&mut world);
    assert_eq!((fresh.stale, fresh.leader), (false, Some(NodeId(leader))));
    assert_eq!(fresh.voters.keys().map(|node| node.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(fresh.updates > 0);
    assert!(fresh.workers[&NodeId(11)].alive && !fresh.workers[&NodeId(12)].alive);
    let there = &fresh.workers[&NodeId(11)];
    assert_eq!(there.used, Resources { slots: 2, memory: 2 << 20 });
    let running = there.processes.values();
    let running = running.filter(|state| matches!(state, ProcessState::Running { .. }));
    assert_eq!(running.count(), 3, "the app master and the executors");
    let follower = (1..=3).find(|node| *node != leader).unwrap();
    let id = world.request_id();
    let Some(Reply::Cluster(stale)) = world.ask(follower, id, Request::Cluster) else { panic!() };
    assert_eq!((stale.stale, stale.term), (true, fresh.term));
    assert!(stale.workers.values().all(|worker| !worker.alive));
    let known = stale.workers[&NodeId(11)].processes.keys();
    assert!(known.eq(there.processes.keys()));
    assert!(world.is_complete(app));
}

#[test]
fn workers_and_app_masters_are_told_who_votes() {
    let mut world = Cluster::with_workers(3, 1, 4);
    let app = world.submit(spec("words", 1));
    world.run(SECOND);
    let voters = cluster(&mut world).voters;
    assert_eq!(voters.len(), 3);
    assert_eq!(*world.workers[&11].voters(), voters);
    assert_eq!(world.app_master(app).heard.as_ref().unwrap().voters, voters);
}

#[test]
fn a_worker_that_knows_only_a_follower_finds_the_leader() {
    let mut world = Cluster::new(3);
    let leader = world.leader().unwrap();
    let follower = (1..=3).find(|node| *node != leader).unwrap();
    world.known.insert(11, [NodeId(follower)].into());
    world.start_worker(11, 4, &[]);
    world.run(SECOND);
    let app = world.submit(spec("words", 1));
    world.run(SECOND);
    assert!(world.is_complete(app), "the leader, which had never heard the worker, has it work");
    assert_eq!(world.known[&11].len(), 3);
}

#[test]
fn a_late_copy_of_a_drain_does_not_undo_what_came_after_it() {
    let (mut world, _) = with_app(3, 4, 2);
    let first = world.request_id();
    let drains = Request::Drain { node: NodeId(11), drains: true };
    let leader = world.leader().unwrap();
    assert_eq!(world.ask(leader, first, drains.clone()), Some(Reply::Done));
    assert_eq!(drain(&mut world, 11, false), Reply::Done);
    assert_eq!(world.ask(leader, first, drains), Some(Reply::Done), "it was done");
    assert!(!world.state().drains.contains(&NodeId(11)), "the last order counts");
}

#[test]
fn a_late_copy_of_a_change_of_voters_does_not_undo_what_came_after_it() {
    let mut world = Cluster::new(3);
    let voters = |nodes: &[u64]| -> Request {
        let address = |node: &u64| (NodeId(*node), Address(format!("m{node}")));
        Request::Voters { voters: nodes.iter().map(address).collect() }
    };
    let leader = world.leader().unwrap();
    let other = (1..=3).find(|node| *node != leader).unwrap();
    let first = world.request_id();
    assert_eq!(world.ask(leader, first, voters(&[leader, other])), Some(Reply::Done));
    // It asks for its place when it starts.
    let third = (1..=3).find(|node| *node != leader && *node != other).unwrap();
    world.stop_master(third);
    world.start_master(third);
    world.run(SECOND);
    assert_eq!(world.command(voters(&[1, 2, 3])), Reply::Done);
    assert_eq!(world.ask(leader, first, voters(&[leader, other])), Some(Reply::Done));
    assert_eq!(cluster(&mut world).voters.len(), 3, "the last order counts");
    // Who asks through another node before it is done is told as well.
    let second = world.request_id();
    world.tell(leader, second, voters(&[leader, other]));
    assert_eq!(world.ask(leader, second, voters(&[leader, other])), Some(Reply::Done));
}

#[test]
fn of_the_requests_that_were_done_the_oldest_are_forgotten() {
    let (mut world, _) = with_app(2, 4, 1);
    for round in 0..REQUESTS_REMEMBERED as u64 + 10 {
        assert_eq!(drain(&mut world, 11, round % 2 == 0), Reply::Done);
    }
    assert_eq!(world.state().done.len(), REQUESTS_REMEMBERED);
}

#[test]
fn what_ran_on_a_worker_whose_process_is_gone_is_replaced_at_once() {
    let (mut world, app) = with_app(2, 4, 2);
    let leader = world.leader().unwrap();
    let lost = world.worker_of(executor(app, 1)).unwrap();
    let before = world.now;
    world.stop_worker(lost);
    let node = NodeId(lost);
    world.master_hears(
        leader,
        MasterInput::Gone { node, dialed: Time(before.0 - SECOND.as_nanos() as u64) },
    );
    world.run(millis(300));
    assert!(
        world.state().app(app).unwrap().executors().any(|(id, _)| id.0 == 1),
        "that was long before"
    );
    world.master_hears(leader, MasterInput::Gone { node, dialed: world.now });
    world.run(millis(900));
    assert!(world.now.since(before) < GRACE);
    assert!(world.is_complete(app), "its executors run elsewhere");
    assert!(world.notices.iter().any(|notice| notice.contains("nobody listens where it did")));
    world.start_worker(lost, 4, &[]);
    world.run(SECOND);
    assert!(cluster(&mut world).workers[&node].alive, "another life of it is welcome");
}

#[test]
fn a_worker_that_misses_reports_is_looked_for() {
    let (mut world, _) = with_app(2, 4, 2);
    let leader = world.leader().unwrap();
    world.known.insert(11, BTreeSet::new());
    world.master_hears(leader, MasterInput::Disconnected { node: NodeId(11) });
    world.run(millis(20));
    assert_eq!(world.known.remove(&11).unwrap().len(), 1, "its connection broke");
    world.known.insert(12, BTreeSet::new());
    world.run(SECOND * 3);
    assert_eq!(world.known[&12].len(), 1, "it was silent, and is told whom to report to");
    assert!(cluster(&mut world).workers[&NodeId(12)].alive);
}
