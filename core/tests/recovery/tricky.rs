//! Cases that chance meets rarely.

use gear_core::app::{Outcome, Stage, TASK_RETRIES_MAX};
use gear_core::host::NoFaults;
use gear_core::id::Epoch;
use gear_core::message::Input;

use crate::cluster::{Cluster, Who};
use crate::job::{Numbers, expected, visible};

const NUMBERS: Numbers = Numbers { partitions: 3, len: 80 };

/// A cluster that has committed some epochs.
fn running(wanted: u32) -> Cluster<NoFaults> {
    let mut cluster = Cluster::new(7, wanted, NUMBERS);
    cluster.until_committed(2);
    assert_eq!(cluster.master().status(cluster.now).stage, Stage::Running);
    cluster
}

fn finishes(mut cluster: Cluster<NoFaults>) {
    cluster.replaces = true;
    let outcome = cluster.finish();
    assert!(matches!(outcome, Outcome::Finished { .. }), "{outcome:?}");
    assert_eq!(visible(&cluster.files), expected(NUMBERS));
}

fn roll_backs(cluster: &Cluster<NoFaults>) -> u64 {
    cluster.master().status(cluster.now).roll_backs
}

fn says(cluster: &Cluster<NoFaults>, text: &str) -> bool {
    cluster.notices.iter().any(|notice| notice.contains(text))
}

#[test]
fn only_the_regions_that_lost_a_task_go_back() {
    let mut cluster = running(4);
    // Two of the three pairs of a source and its sink, and all that is counted by key.
    let first = cluster.executors()[0];
    cluster.kill(Who::Executor(first));
    cluster.until("a roll-back", |it| roll_backs(it) > 0);
    let after = roll_backs(&cluster);
    assert!((2..4).contains(&after), "{after}: {:?}", cluster.notices);
    finishes(cluster);
}

#[test]
fn those_that_are_left_take_the_tasks_if_nobody_comes() {
    let mut cluster = running(3);
    cluster.replaces = false;
    let all = cluster.executors();
    cluster.kill(Who::Executor(all[1]));
    cluster.kill(Who::Executor(all[2]));
    cluster.until("a roll-back", |it| roll_backs(it) > 0);
    let before = cluster.committed();
    cluster.until_committed(1);
    assert!(cluster.committed() > before && cluster.executors().len() == 1);
    finishes(cluster);
}

#[test]
fn an_executor_that_is_lost_during_recovery_is_recovered_from_too() {
    let mut cluster = running(3);
    for _ in 0..4 {
        cluster.until("somebody", |it| it.executors().len() == 3);
        cluster.until("recovery", |it| {
            let stage = it.master().status(it.now).stage;
            stage == Stage::Deploying || roll_backs(it) == 0
        });
        let all = cluster.executors();
        cluster.kill(Who::Executor(all[0]));
        let before = roll_backs(&cluster);
        cluster.until("a roll-back", |it| roll_backs(it) > before || it.executors().len() == 3);
    }
    finishes(cluster);
}

#[test]
fn all_executors_may_go_at_once() {
    let mut cluster = running(3);
    for executor in cluster.executors() {
        cluster.kill(Who::Executor(executor));
    }
    finishes(cluster);
}

#[test]
fn tasks_go_on_without_their_app_master_and_are_taken_over() {
    let mut cluster = running(3);
    let leader = cluster.leader();
    cluster.kill(leader);
    cluster.start_master();
    cluster.until("running", |it| it.master().status(it.now).stage == Stage::Running);
    assert!(says(&cluster, "4 of 4 regions run and are taken over"), "{:?}", cluster.notices);
    assert_eq!(roll_backs(&cluster), 0);
    finishes(cluster);
}

#[test]
fn what_is_lost_with_an_app_master_goes_back_and_the_rest_is_taken_over() {
    let mut cluster = running(4);
    // Some regions are of an attempt that has committed, so that a part can go back.
    let leader = cluster.leader();
    let all = cluster.executors();
    cluster.kill(leader);
    cluster.kill(Who::Executor(all[0]));
    cluster.start_master();
    cluster.until("running", |it| it.master().status(it.now).stage == Stage::Running);
    let taken =
        (1..4).any(|taken| says(&cluster, &format!("{taken} of 4 regions run and are taken over")));
    assert!(taken, "{:?}", cluster.notices);
    finishes(cluster);
}

#[test]
fn a_task_that_keeps_failing_ends_the_app_with_its_reason() {
    let mut cluster = running(2);
    cluster.io_failures = 1_000;
    let Outcome::Failed(failure) = cluster.finish() else { panic!("its disk is full") };
    assert!(failure.to_string().contains("the disk is full"), "{failure}");
    let tries = cluster.notices.iter().filter(|notice| notice.contains("has failed")).count();
    assert!(tries >= TASK_RETRIES_MAX as usize, "{tries}");
}

#[test]
fn a_task_that_fails_for_a_while_is_tried_again() {
    let mut cluster = running(2);
    cluster.io_failures = 1_000;
    cluster.until("a failure", |it| says(it, "has failed"));
    cluster.io_failures = 0;
    finishes(cluster);
}

#[test]
fn a_stop_that_meets_a_loss_is_carried_out_behind_it() {
    let mut cluster = running(3);
    let all = cluster.executors();
    let leader = cluster.leader();
    cluster.hear(leader, Input::Stop);
    cluster.kill(Who::Executor(all[1]));
    let Outcome::Stopped { epoch: Some(epoch) } = cluster.finish() else { panic!("it was asked") };
    assert!(epoch > Epoch(2));
    for executor in cluster.executors() {
        cluster.kill(Who::Executor(executor));
    }
    cluster.start_master();
    finishes(cluster);
}

#[test]
fn a_stop_is_not_forgotten_with_the_app_master() {
    let mut cluster = running(3);
    let leader = cluster.leader();
    cluster.stop_wished = true;
    cluster.hear(leader, Input::Stop);
    for _ in 0..200 {
        cluster.step();
    }
    cluster.kill(leader);
    cluster.start_master();
    let outcome = cluster.finish();
    assert!(matches!(outcome, Outcome::Stopped { epoch: Some(_) }), "{outcome:?}");
}

#[test]
fn an_app_that_nobody_runs_stops_at_once() {
    let mut cluster = running(2);
    for executor in cluster.executors() {
        cluster.kill(Who::Executor(executor));
    }
    let leader = cluster.leader();
    cluster.kill(leader);
    cluster.replaces = false;
    cluster.stop_wished = true;
    cluster.start_master();
    let outcome = cluster.finish();
    assert!(matches!(outcome, Outcome::Stopped { epoch: Some(_) }), "{outcome:?}");
}
