//! One app master at a time, without faults unless a test makes one.

use alloc::string::{String, ToString};

use super::world::{World, plan};
use crate::app::{AppPlan, Failure, Guarantee, Outcome, Stage};
use crate::checkpoint::record::object_name;
use crate::effect::Place;
use crate::id::{AppTerm, Attempt, Epoch, ExecutorId, LogNumber, ProcessorId, TaskId};
use crate::message::{Input, Message};
use crate::time::seconds;

fn task(processor: u32, index: u32) -> TaskId {
    TaskId { processor: ProcessorId(processor), index }
}

/// A world whose tasks never end by themselves.
fn endless() -> World {
    let mut world = World::new(1, 0);
    world.ends = 0;
    world
}

/// A world that an app master has left behind after so many epochs.
fn after_epochs(epochs: usize) -> World {
    let mut world = endless();
    let node = world.start(plan(1, 2));
    world.run_epochs(node, epochs);
    world.crash(node);
    world
}

fn failure(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed(failure) => failure.to_string(),
        other => panic!("{other:?}"),
    }
}

fn start_and_finish(world: &mut World, plan: AppPlan) -> Outcome {
    let node = world.start(plan);
    world.finish(node)
}

/// Flips a bit of the last record that is an epoch's.
fn damage_last_epoch(world: &mut World) -> LogNumber {
    let history = world.history();
    let (number, _) = history.epochs.last().expect("an epoch was committed");
    let bytes = world.store.get_mut(&object_name(*number)).expect("it is there");
    *bytes.last_mut().expect("it has bytes") ^= 1;
    *number
}

#[test]
fn an_app_whose_tasks_end_finishes_and_stays_finished() {
    let mut world = endless();
    world.ends = 100;
    let node = world.start(plan(1, 2));
    world.run_epochs(node, 1);
    assert_eq!(world.finish(node), Outcome::Finished { epoch: Epoch(1) });
    world.crash(node);
    let again = start_and_finish(&mut world, plan(2, 2));
    assert_eq!(again, Outcome::AlreadyFinished { epoch: Epoch(1) });
}

#[test]
fn without_an_interval_only_the_last_epoch_is_taken() {
    let mut world = endless();
    let mut plan = plan(1, 1);
    plan.epoch_interval = None;
    let node = world.start(plan);
    while world.step() {}
    assert_eq!(world.nodes[node].master.status(world.now).stage, Stage::Running);
    assert_eq!(world.nodes[node].master.next_timeout(), None);
    let finished = |processor, index| Input::Message {
        from: Place::Executor(ExecutorId(0)),
        message: Message::Finished {
            task: task(processor, index),
            attempt: Attempt::before(AppTerm(1)).next(),
            after: Epoch(0),
            snapshot: crate::message::TaskSnapshot::default(),
        },
    };
    for (processor, index) in [(0, 0), (0, 1), (1, 0), (2, 0)] {
        world.hear(node, finished(processor, index));
        world.hear(node, finished(processor, index));
    }
    assert_eq!(world.finish(node), Outcome::Finished { epoch: Epoch(1) });
}

#[test]
fn a_finished_app_whose_sinks_were_silent_commits_them_again() {
    let mut world = endless();
    world.ends = 100;
    let node = world.start(plan(1, 2));
    world.run_epochs(node, 1);
    assert_eq!(world.outcome(node), None, "the sinks' answers are still under way");
    world.crash(node);
    let node = world.start(plan(2, 1));
    assert_eq!(world.finish(node), Outcome::Finished { epoch: Epoch(1) });
    let deployed = world.nodes[node].deployed.as_ref().expect("it was deployed again");
    assert!(deployed.tasks.iter().all(|task| task.finished));
    world.crash(node);
    let again = start_and_finish(&mut world, plan(3, 1));
    assert_eq!(again, Outcome::AlreadyFinished { epoch: Epoch(1) });
}

#[test]
fn a_stopped_app_goes_on_from_its_last_epoch() {
    let mut world = endless();
    let node = world.start(plan(1, 2));
    world.run_epochs(node, 2);
    world.hear(node, Input::Stop);
    let Outcome::Stopped { epoch: Some(epoch) } = world.finish(node) else {
        panic!("{:?}", world.outcome(node));
    };
    assert!(epoch > Epoch(2));
    world.crash(node);
    let node = world.start(plan(2, 3));
    world.run_epochs(node, 1);
    let status = world.nodes[node].master.status(world.now);
    assert_eq!((status.recovered, status.term), (Some(epoch), AppTerm(2)));
    assert_eq!(world.nodes[node].committed, [epoch.next()]);
    assert!(world.nodes[node].notices[0].contains("goes on from epoch"));
}

#[test]
fn a_stop_before_the_tasks_run_ends_at_once() {
    let mut world = endless();
    let node = world.start(plan(1, 2));
    world.hear(node, Input::Stop);
    assert_eq!(world.outcome(node), Some(&Outcome::Stopped { epoch: None }));
    assert!(world.nodes[node].master.next_timeout().is_none());
}

#[test]
fn another_jobs_state_is_refused_and_its_app_master_goes_on() {
    let mut world = endless();
    let running = world.start(plan(1, 2));
    world.run_epochs(running, 1);
    let mut other = plan(2, 2);
    other.identity.digest = 2;
    other.identity.arguments = "--slow".into();
    let node = world.start(other);
    let text = failure(&world.finish(node));
    assert!(text.contains("--fast") && text.contains("--slow"), "{text}");
    let before = world.nodes[running].committed.len();
    world.run_epochs(running, before + 3);
    assert_eq!(world.outcome(running), None);
}

#[test]
fn a_successor_ends_its_predecessor_by_name() {
    let mut world = endless();
    let zombie = world.start(plan(1, 2));
    world.run_epochs(zombie, 2);
    let node = world.start(plan(2, 2));
    world.run_epochs(node, 3);
    let text = failure(&world.finish(zombie));
    // Two or more: it fences again when the zombie has freed the number of its first fence.
    let successor = world.nodes[node].master.status(world.now).term;
    assert!(successor >= AppTerm(2), "{successor}");
    assert!(text.contains("taken over") && text.contains(&successor.to_string()), "{text}");
}

#[test]
fn a_granted_term_that_is_not_the_highest_has_lost() {
    let mut world = after_epochs(1);
    let mut late = plan(2, 2);
    late.term = Some(AppTerm(1));
    assert!(failure(&start_and_finish(&mut world, late)).contains("taken over"));
}

#[test]
fn behind_a_damaged_record_sinks_may_be_further() {
    let mut world = after_epochs(3);
    let damaged = damage_last_epoch(&mut world);
    world.committed.clear();
    let outcome = start_and_finish(&mut world, plan(2, 2));
    let text = failure(&outcome);
    assert!(text.contains(&object_name(damaged)) && text.contains("--fall-back"), "{text}");
    // The choice is the user's.
    let mut plan = plan(3, 2);
    plan.fall_back = true;
    let node = world.start(plan);
    while world.nodes[node].deployed.is_none() {
        assert!(world.step());
    }
    assert!(world.nodes[node].notices[0].contains("passed over"));
}

#[test]
fn without_transactional_sinks_the_epoch_before_a_damaged_record_is_used() {
    let mut world = endless();
    let without_sinks = |incarnation| {
        let mut plan = plan(incarnation, 2);
        plan.processors[2].sink = false;
        plan.guarantee = Guarantee::AtLeastOnce;
        plan
    };
    let node = world.start(without_sinks(1));
    world.run_epochs(node, 3);
    world.crash(node);
    let whole = world.history().epochs.last().map(|(_, record)| record.epoch);
    // The epoch is lost, which is what the user is told.
    world.committed.clear();
    damage_last_epoch(&mut world);
    let node = world.start(without_sinks(2));
    world.run_epochs(node, 1);
    assert_eq!(world.nodes[node].committed.last().copied(), whole);
    assert!(world.nodes[node].notices[0].contains("passed over"));
}

#[test]
fn a_lost_operator_is_refused_unless_its_state_may_go() {
    let mut world = after_epochs(1);
    let renamed = |incarnation| {
        let mut plan = plan(incarnation, 2);
        plan.processors[1].uid = "tally".into();
        plan
    };
    let text = failure(&start_and_finish(&mut world, renamed(2)));
    assert!(text.contains("`count`") && text.contains("--drop-state"), "{text}");
    let mut plan = renamed(3);
    plan.drop_state = true;
    let node = world.start(plan);
    world.run_epochs(node, 1);
    let deployed = world.nodes[node].deployed.as_ref().expect("it runs");
    for restored in &deployed.tasks {
        assert_eq!(restored.restore.is_empty(), restored.task.processor == ProcessorId(1));
    }
}

#[test]
fn key_groups_are_fixed_with_the_first_epoch() {
    let mut world = after_epochs(1);
    let mut plan = plan(2, 2);
    plan.key_groups = 64;
    let node = world.start(plan);
    world.run_epochs(node, 1);
    let deployed = world.nodes[node].deployed.as_ref().expect("it runs");
    assert_eq!(deployed.key_groups, 1_024);
    assert!(world.nodes[node].notices.iter().any(|text| text.contains("1024, not 64")));
}

#[test]
fn a_task_that_fails_ends_the_app_with_the_name_of_its_processor() {
    let mut world = endless();
    let node = world.start(plan(1, 2));
    world.run_epochs(node, 1);
    let from = Place::Executor(ExecutorId(1));
    let attempt = Attempt::before(AppTerm(1)).next();
    let message = Message::Failed { task: task(1, 1), attempt, reason: "out of memory".into() };
    world.hear(node, Input::Message { from, message });
    let expected = Failure::Task { uid: "count".into(), index: 1, reason: "out of memory".into() };
    assert_eq!(world.outcome(node), Some(&Outcome::Failed(expected)));
}

#[test]
fn an_old_epoch_names_the_tasks_it_waits_for() {
    let mut world = endless();
    world.mute = [task(1, 1)].into();
    let node = world.start(plan(1, 2));
    while world.step() {}
    let status = world.nodes[node].master.status(world.now);
    let oldest = status.oldest.expect("an epoch is open");
    assert_eq!(oldest.waiting, [task(1, 1)]);
    assert!(oldest.age >= seconds(10));
    assert_eq!(status.in_flight, crate::limits::EPOCHS_UNCOMMITTED_MAX);
    let aged = world.nodes[node].notices.iter().filter(|text| text.contains("`count`[1]"));
    assert_eq!(aged.count(), 1);
    // It never fails the app.
    world.mute.clear();
    world.run_epochs(node, 6);
    assert_eq!(world.outcome(node), None);
}

#[test]
fn objects_that_no_record_names_go_when_a_successor_begins() {
    let mut world = after_epochs(2);
    world.store.insert("state/count-0/t1-e99".into(), [].into());
    world.store.insert("state/readme".into(), [].into());
    world.store.insert("output/count-0/t1-a1-e99-7".into(), [].into());
    let node = world.start(plan(2, 2));
    world.run_epochs(node, 1);
    assert!(!world.store.contains_key("state/count-0/t1-e99"));
    assert!(!world.store.contains_key("output/count-0/t1-a1-e99-7"));
    assert!(world.store.contains_key("state/readme"));
}

#[test]
fn the_store_stays_small_and_keeps_its_fences() {
    let mut world = after_epochs(50);
    let node = world.start(plan(2, 2));
    world.run_epochs(node, 50);
    for _ in 0..200 {
        world.step();
    }
    let logged = world.store.keys().filter(|name| name.starts_with("log/")).count();
    assert!((4..10).contains(&logged), "{logged} records");
    assert!(world.store.contains_key(&object_name(LogNumber(1))), "the first fence");
    let state = world.store.keys().filter(|name| name.starts_with("state/")).count();
    assert!(state < 200, "{state} state objects");
    let output = world.store.keys().filter(|name| name.starts_with("output/")).count();
    assert!((1..60).contains(&output), "{output} objects with output");
}
