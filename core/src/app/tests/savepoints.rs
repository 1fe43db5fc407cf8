//! Savepoints are made of running apps, and apps begin from them, whatever dies meanwhile.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::world::{World, plan};
use crate::app::{Outcome, Stage};
use crate::checkpoint::record::{Record, object_name};
use crate::id::{AppTerm, Epoch, LogNumber};
use crate::limits::SAVEPOINT_DEADLINE;

/// A world whose tasks never end by themselves, and an app master that has committed.
fn running() -> (World, usize) {
    let mut world = World::new(7, 0);
    world.ends = 0;
    let node = world.start(plan(1, 2));
    world.run_epochs(node, 3);
    (world, node)
}

/// Runs until the savepoint is made, or not.
fn made(world: &mut World, node: usize) -> Result<Epoch, String> {
    for _ in 0..200_000 {
        let mut made = world.nodes[node].master.savepoints_made();
        if let Some((id, result)) = made.pop() {
            assert_eq!((id, made.len()), (5, 0));
            return result;
        }
        assert!(world.step(), "nothing can happen");
    }
    panic!("it does not end");
}

fn make(world: &mut World, node: usize, name: &str) -> Result<Epoch, String> {
    world.make_savepoint(node, 5, name);
    made(world, node)
}

/// The objects of a savepoint, as another app finds them in the store.
fn kept(world: &World, name: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = format!("savepoints/{name}/");
    let kept = world.store.iter().filter(|(object, _)| object.starts_with(&folder));
    kept.map(|(object, bytes)| (format!("/app-1/{object}"), bytes.clone())).collect()
}

/// A world in which a new app begins from these objects.
fn beginning(seed: u64, faults: usize, kept: BTreeMap<String, Vec<u8>>) -> World {
    let mut world = World::new(seed, faults);
    world.ends = 0;
    world.store = kept;
    world
}

fn from(incarnation: u64, name: &str) -> crate::app::AppPlan {
    let mut plan = plan(incarnation, 2);
    plan.term = Some(AppTerm(incarnation));
    plan.from = Some(format!("app-1/savepoints/{name}"));
    plan
}

#[test]
fn a_savepoint_is_a_copy_of_an_epoch_that_was_started_after_it_was_asked_for() {
    let (mut world, node) = running();
    let before = *world.nodes[node].committed.last().expect("it has committed");
    let epoch = make(&mut world, node, "one").expect("it is made");
    assert!(epoch > before);
    // The app goes on, and collects what it no longer needs.
    let committed = world.nodes[node].committed.len();
    world.run_epochs(node, committed + 20);
    let record = &world.store["savepoints/one/record"];
    let Ok(Record::Epoch(record)) = Record::decode(record) else { panic!("it is an epoch") };
    assert_eq!(record.epoch, epoch);
    let mut objects = 0;
    for object in record.state_objects() {
        assert!(world.store.contains_key(&format!("savepoints/one/{}", object.name)));
        objects += 1;
    }
    assert!(objects > 0);
    let gone = record.state_objects().filter(|object| !world.store.contains_key(&object.name));
    assert!(gone.count() > 0, "the app itself needs some of them no longer");
}

#[test]
fn what_cannot_be_a_savepoint_is_refused_with_the_reason() {
    let (mut world, node) = running();
    make(&mut world, node, "one").expect("it is made");
    let error = make(&mut world, node, "one").expect_err("it exists");
    assert_eq!(error, "there is a savepoint `one` already: take another name");
    for bad in ["", "..", "a/b", ".hidden", "x y", &"x".repeat(101)] {
        let error = make(&mut world, node, bad).expect_err("it is no name");
        assert!(error.contains("cannot be a savepoint's name"), "{error}");
    }
    world.make_savepoint(node, 5, "two");
    world.make_savepoint(node, 6, "three");
    let (id, busy) = world.nodes[node].master.savepoints_made().remove(0);
    assert_eq!(id, 6);
    assert!(busy.expect_err("one at a time").contains("another savepoint is being made"));
    made(&mut world, node).expect("the other one is made");
}

#[test]
fn a_savepoint_for_which_no_epoch_commits_is_given_up_in_time() {
    let (mut world, node) = running();
    let tasks: Vec<_> = plan(1, 2).tasks().map(|(task, _)| task).collect();
    world.mute.extend(tasks);
    let begin = world.now;
    let error = make(&mut world, node, "late").expect_err("nothing commits");
    assert!(error.contains("was not done within 300 s"), "{error}");
    assert!(world.now.since(begin) >= SAVEPOINT_DEADLINE);
    // Late answers to its requests are not taken for answers to those of the next.
    world.mute.clear();
    make(&mut world, node, "late").expect("it is made");
}

#[test]
fn an_app_that_ends_first_says_so() {
    let (mut world, node) = running();
    world.make_savepoint(node, 5, "never");
    world.hear(node, crate::message::Input::Stop);
    assert!(matches!(world.finish(node), Outcome::Stopped { .. }));
    match made(&mut world, node) {
        Ok(epoch) => assert!(world.store.contains_key("savepoints/never/record"), "{epoch}"),
        Err(error) => assert!(error.contains("the app has ended"), "{error}"),
    }
}

#[test]
fn an_app_begins_from_a_savepoint_and_then_from_its_own_log() {
    let (mut old, node) = running();
    let epoch = make(&mut old, node, "one").expect("it is made");
    let mut world = beginning(8, 0, kept(&old, "one"));
    let node = world.start(from(1, "one"));
    world.run_epochs(node, 2);
    let status = world.nodes[node].master.status(world.now);
    assert_eq!((status.stage, status.recovered), (Stage::Running, Some(epoch)));
    let deployed = world.nodes[node].deployed.as_ref().expect("it runs");
    assert_eq!(deployed.epoch, epoch);
    let restored = deployed.tasks.iter().flat_map(|task| task.restore.iter().flatten());
    assert!(restored.clone().count() > 0);
    for object in restored {
        assert!(world.store.contains_key(&object.name), "{} is its own", object.name);
    }
    let last = status.committed.expect("it has committed");
    world.crash(node);
    // The savepoint may go: the app has what it needs.
    world.store.retain(|name, _| !name.starts_with('/'));
    let node = world.start(from(2, "one"));
    world.run_epochs(node, 1);
    let recovered = world.nodes[node].master.status(world.now).recovered;
    assert!(recovered >= Some(last), "it goes on from its own");
}

#[test]
fn what_an_app_cannot_begin_from_is_refused_with_the_reason() {
    let (mut old, node) = running();
    make(&mut old, node, "one").expect("it is made");
    let whole = kept(&old, "one");
    let failure = |store: BTreeMap<String, Vec<u8>>, plan| {
        let mut world = beginning(9, 0, store);
        let node = world.start(plan);
        let Outcome::Failed(failure) = world.finish(node) else { panic!("it cannot begin") };
        let epochs = world.history().epochs.len();
        assert_eq!(epochs, 0, "nothing is written to the log");
        failure.to_string()
    };
    let missing = failure(whole.clone(), from(1, "two"));
    assert!(missing.contains("no savepoint in `app-1/savepoints/two`"), "{missing}");
    let mut cut = whole.clone();
    cut.remove("/app-1/savepoints/one/record");
    let unfinished = failure(cut, from(1, "one"));
    assert!(unfinished.contains("or it was not finished"), "{unfinished}");
    let object = whole.keys().find(|name| name.contains("/state/")).expect("it has state").clone();
    let mut damaged = whole.clone();
    damaged.insert(object.clone(), b"rubbish".to_vec());
    let text = failure(damaged, from(1, "one"));
    assert!(text.contains("it is not what was written"), "{text}");
    let mut lost = whole.clone();
    lost.remove(&object);
    assert!(failure(lost, from(1, "one")).contains("it is gone"));
    let mut other = from(1, "one");
    other.processors[1].uid = "renamed".to_string();
    let text = failure(whole, other);
    assert!(text.contains("`count`"), "{text}");
}

/// Makes a savepoint and begins from it while everything is delayed, repeated, lost and cut.
fn hurt(seed: u64) -> (u64, u64) {
    let mut world = World::new(seed, 12);
    world.ends = 0;
    let mut incarnation = 0;
    let mut made = 0;
    let mut term = |world: &mut World| {
        incarnation += 1;
        let mut plan = plan(incarnation, 2);
        plan.term = Some(AppTerm(incarnation));
        world.start(plan)
    };
    let mut node = term(&mut world);
    for step in 0..6_000 {
        if !world.nodes[node].alive || world.outcome(node).is_some() {
            world.crash(node);
            node = term(&mut world);
        }
        if step % 500 == 499 {
            world.make_savepoint(node, 5, &format!("s{}", step / 1_000));
        }
        for (_, result) in world.nodes[node].master.savepoints_made() {
            made += u64::from(result.is_ok());
        }
        world.step();
    }
    // Whatever bears a record is whole, and an app begins from it.
    let mut begun = 0;
    for number in 0..6 {
        let name = format!("s{number}");
        let Some(record) = world.store.get(&format!("savepoints/{name}/record")) else { continue };
        let Ok(Record::Epoch(record)) = Record::decode(record) else { panic!("it is whole") };
        let mut new = beginning(seed + 1_000, 12, kept(&world, &name));
        let mut lives = 1;
        let mut node = new.start(from(lives, &name));
        for _ in 0..200_000 {
            if new.nodes[node].alive && new.nodes[node].committed.len() >= 2 {
                break;
            }
            if !new.nodes[node].alive || new.outcome(node).is_some() {
                new.crash(node);
                lives += 1;
                node = new.start(from(lives, &name));
            }
            new.step();
        }
        let recovered = new.nodes[node].master.status(new.now).recovered;
        assert!(recovered >= Some(record.epoch), "seed {seed}: {recovered:?}");
        let first = new.history().epochs.first().map(|(_, first)| first.epoch);
        assert!(first >= Some(record.epoch), "it did not begin from nothing");
        assert!(!new.store.contains_key(&object_name(LogNumber(0))));
        begun += 1;
    }
    (made, begun)
}

#[test]
fn savepoints_outlast_crashes_at_every_step() {
    let (mut made, mut begun) = (0, 0);
    for seed in 0..40 {
        let (its_made, its_begun) = hurt(seed);
        made += its_made;
        begun += its_begun;
    }
    assert!(made > 40 && begun > 40, "{made} made, {begun} begun from");
}
