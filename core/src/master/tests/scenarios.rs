//! One behaviour a test.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::world::{World, app_master, executor, spec};
use crate::control::{Address, AppOutcome, ProcessState, Reply, Request, Wish};
use crate::host::{Fault, Faults, NoFaults};
use crate::id::{AppId, AppTerm, Epoch, ExecutorId, NodeId};
use crate::limits::GRACE;
use crate::master::duties::{ENDED_APPS_KEPT, HEALTHY_AFTER, RESTARTS_MAX};
use crate::time::{Duration, millis, seconds};

const SECOND: Duration = seconds(1);

/// A cluster of one master and some workers with room for four each, and an app on it.
fn with_app(workers: u64, executors: u32) -> (World<NoFaults>, AppId) {
    let mut world = World::with_workers(1, workers, 4);
    let app = world.submit(spec("words", executors));
    world.run(SECOND);
    assert!(world.is_complete(app));
    (world, app)
}

fn why(reply: Reply) -> String {
    match reply {
        Reply::Refused { reason } => reason,
        reply => panic!("{reply:?}"),
    }
}

#[test]
fn an_app_gets_its_app_master_and_then_its_executors() {
    let (mut world, app) = with_app(3, 3);
    assert_eq!(world.launched[0], app_master(app, 1));
    let expected = vec![app_master(app, 1), executor(app, 1), executor(app, 2), executor(app, 3)];
    assert_eq!(world.running(app), expected);
    let heard = world.app_master(app).heard.clone().unwrap();
    let workers: BTreeSet<_> = heard.executors.values().map(|grant| grant.worker).collect();
    assert_eq!(workers.len(), 3, "spread");
    let running = |state: &ProcessState| matches!(state, ProcessState::Running { .. });
    assert!(heard.executors.values().all(|grant| running(&grant.state)));
    assert_eq!((heard.app_term, heard.wish), (AppTerm(1), Wish::Run));
    let token = world.app(app).submission().token;
    assert!(world.children.values().all(|child| child.order().token == token));
    // The nodes on which it runs have its binary.
    assert_eq!(world.state().binaries()[b"binary".as_slice()].len(), 3);
}

#[test]
fn a_repeated_submission_is_one_app() {
    let mut world = World::<NoFaults>::with_workers(3, 2, 4);
    let id = world.request_id();
    let first = world.leader().unwrap();
    let submit = Request::Submit(Box::new(spec("words", 1)));
    let reply = world.ask(first, id, submit.clone()).unwrap();
    assert_eq!(world.ask(first, id, submit.clone()), Some(reply.clone()));
    world.stop_master(first);
    world.run(5 * SECOND);
    let second = world.leader().unwrap();
    assert_eq!(world.ask(second, id, submit), Some(reply));
    assert_eq!(world.state().apps().count(), 1);
}

#[test]
fn the_seeded_bug_makes_a_second_app() {
    #[derive(Debug)]
    struct Forgetful;
    impl Faults for Forgetful {
        fn has(fault: Fault) -> bool {
            fault == Fault::ForgetRequestIds
        }
    }
    let mut world = World::<Forgetful>::with_workers(1, 2, 4);
    let id = world.request_id();
    let submit = Request::Submit(Box::new(spec("words", 1)));
    let first = world.ask(1, id, submit.clone());
    assert_ne!(world.ask(1, id, submit), first);
    assert_eq!(world.state().apps().count(), 2);
}

#[test]
fn says_why_a_submission_is_refused() {
    let (mut world, app) = with_app(1, 1);
    let mut refused = |spec| why(world.command(Request::Submit(Box::new(spec))));
    assert_eq!(
        refused(spec("words", 1)),
        format!("{app} is called `words` and runs: stop it, or take another name")
    );
    assert_eq!(refused(spec("other", 0)), "0 executors, 1 to 1024 can be");
    assert_eq!(refused(spec("", 1)), "an app needs a name of 1 to 128 bytes");
    let mut unknown = spec("other", 1);
    unknown.strategy = "magic".to_string();
    assert_eq!(
        refused(unknown),
        "no strategy is called `magic`; there are: spread, pack, locality"
    );
    let mut long = spec("other", 1);
    long.arguments = vec!["x".repeat(20_000)];
    assert!(refused(long).contains("put them in a file"));
    assert_eq!(world.command(Request::Wish { app, wish: Wish::Kill }), Reply::Done);
    world.submit(spec("words", 1));
}

#[test]
fn what_no_worker_can_meet_waits_with_a_reason() {
    let mut world = World::<NoFaults>::with_workers(1, 1, 4);
    let mut zoned = spec("words", 1);
    zoned.labels.insert("zone".to_string(), "a".to_string());
    let app = world.submit(zoned);
    world.run(SECOND);
    let Reply::Apps { stale: false, apps } = world.command(Request::Apps) else { panic!() };
    assert_eq!(
        apps[0].waiting,
        "the app master needs 0 slots on a worker labelled zone=a: the only worker does not have \
         the label"
    );
    world.start_worker(12, 1, &[("zone", "a")]);
    world.run(SECOND);
    assert!(world.is_complete(app));
    assert_eq!(world.worker_of(executor(app, 1)), Some(12));
}

#[test]
fn executors_without_room_wait_and_the_app_master_is_told() {
    let mut world = World::<NoFaults>::with_workers(1, 1, 2);
    let app = world.submit(spec("words", 3));
    world.run(SECOND);
    assert_eq!(world.executors(app), [1, 2]);
    let heard = world.app_master(app).heard.clone().unwrap();
    assert_eq!(
        heard.waiting,
        "1 executor without a place, each needs 1 slot and 1 MiB: there is 1 worker, the freest \
         has 0 slots and 1022 MiB"
    );
    world.start_worker(12, 1, &[]);
    world.run(SECOND);
    assert!(world.is_complete(app));
}

#[test]
fn a_lost_workers_executors_are_replaced_elsewhere_with_new_ids() {
    let (mut world, app) = with_app(3, 3);
    let master = world.worker_of(app_master(app, 1)).unwrap();
    let lost = (11..14).find(|node| *node != master).unwrap();
    let on_it = world.children.keys().find(|(node, _)| *node == lost).unwrap().1;
    world.cut.insert(lost);
    world.run(GRACE - millis(500));
    assert_eq!(world.launched.len(), 4, "until the grace time is over it is only a delay");
    world.run(2 * SECOND);
    let replaced = executor(app, 4);
    assert_ne!(world.worker_of(replaced), Some(lost));
    assert!(world.worker_of(replaced).is_some());
    assert!(world.running(app).contains(&on_it), "nobody has told it yet");
    world.cut.clear();
    world.run(SECOND);
    assert!(!world.running(app).contains(&on_it), "what was given up is ended");
    assert!(world.is_complete(app));
    assert_eq!(world.app(app).term(), AppTerm(1));
}

#[test]
fn a_worker_that_starts_anew_has_lost_what_it_ran() {
    let (mut world, app) = with_app(1, 2);
    world.stop_worker(11);
    world.start_worker(11, 4, &[]);
    world.run(SECOND);
    assert!(world.is_complete(app), "at once, not after the grace time");
    assert_eq!(world.executors(app), [3, 4]);
    assert_eq!(world.app(app).term(), AppTerm(2));
}

#[test]
fn an_executor_that_ends_is_replaced_on_another_worker() {
    let (mut world, app) = with_app(2, 2);
    let before = world.worker_of(executor(app, 2)).unwrap();
    world.exit(executor(app, 2));
    world.run(millis(200));
    assert!(world.is_complete(app));
    assert_eq!(world.executors(app), [1, 3]);
    assert_ne!(world.worker_of(executor(app, 3)).unwrap(), before);
}

#[test]
fn executors_that_the_app_master_gives_up_are_ended_and_replaced() {
    let (mut world, app) = with_app(2, 2);
    world.app_master(app).report().lost = vec![ExecutorId(1), ExecutorId(99)];
    world.run(SECOND);
    assert_eq!(world.executors(app), [2, 3]);
    assert!(world.is_complete(app));
}

#[test]
#[should_panic(expected = "executor 1 of app 1 has a second life")]
fn the_seeded_bug_reuses_the_id() {
    #[derive(Debug)]
    struct Thrifty;
    impl Faults for Thrifty {
        fn has(fault: Fault) -> bool {
            fault == Fault::ReuseExecutorIds
        }
    }
    let mut world = World::<Thrifty>::with_workers(1, 2, 4);
    let app = world.submit(spec("words", 1));
    world.run(SECOND);
    world.exit(executor(app, 1));
    world.run(SECOND);
}

#[test]
fn an_app_master_that_ends_gets_a_successor_and_executors_go_on() {
    let (mut world, app) = with_app(2, 2);
    world.exit(app_master(app, 1));
    world.run(millis(400));
    assert!(world.is_complete(app));
    let expected = vec![app_master(app, 2), executor(app, 1), executor(app, 2)];
    assert_eq!(world.running(app), expected);
    assert_eq!(world.launched.len(), 4);
}

#[test]
fn an_app_master_that_is_not_heard_gets_a_successor() {
    let (mut world, app) = with_app(2, 2);
    world.app_master(app).silent = true;
    world.run(GRACE - millis(300));
    assert_eq!(world.app(app).term(), AppTerm(1));
    world.run(SECOND);
    assert_eq!(world.app(app).term(), AppTerm(2));
    assert!(world.is_complete(app));
    assert_eq!(world.executors(app), [1, 2]);
}

#[test]
fn a_zombies_outcome_is_refused() {
    let (mut world, app) = with_app(2, 1);
    let zombie = world.worker_of(app_master(app, 1)).unwrap();
    let elsewhere = world.worker_of(executor(app, 1)).unwrap();
    assert_ne!(zombie, elsewhere, "spread");
    world.cut.insert(zombie);
    world.run(GRACE + SECOND);
    assert_eq!(world.app(app).term(), AppTerm(2));
    let old = world.children.get_mut(&(zombie, app_master(app, 1))).unwrap();
    old.report().outcome = Some(AppOutcome::Finished);
    world.cut.clear();
    world.run(SECOND);
    assert_eq!(world.app(app).outcome(), None);
    assert!(!world.running(app).contains(&app_master(app, 1)));
    assert!(world.is_complete(app));

    world.app_master(app).report().outcome = Some(AppOutcome::Finished);
    world.app_master(app).report().committed = Epoch(9);
    world.run(SECOND);
    assert_eq!(world.app(app).outcome(), Some(&AppOutcome::Finished));
    assert_eq!(world.app(app).committed.0, Epoch(9));
    assert_eq!(world.running(app), [], "nothing of it is left");
}

#[test]
fn a_wish_to_stop_is_the_app_masters_to_fulfil() {
    let (mut world, app) = with_app(1, 1);
    assert_eq!(world.command(Request::Wish { app, wish: Wish::Stop }), Reply::Done);
    world.run(SECOND);
    assert_eq!(world.app(app).outcome(), Some(&AppOutcome::Stopped));
    assert_eq!(world.running(app), []);
    assert_eq!(world.command(Request::Wish { app, wish: Wish::Stop }), Reply::Done, "again");
    let late = world.command(Request::Wish { app, wish: Wish::Kill });
    assert_eq!(why(late), format!("{app} has ended already"));
    let nobody = world.command(Request::Wish { app: AppId(9), wish: Wish::Kill });
    assert_eq!(why(nobody), "there is no app 9, or it ended long ago");
}

#[test]
fn a_wish_to_kill_ends_everything_at_once() {
    let (mut world, app) = with_app(2, 3);
    assert_eq!(world.command(Request::Wish { app, wish: Wish::Kill }), Reply::Done);
    assert_eq!(world.app(app).outcome(), Some(&AppOutcome::Killed));
    assert_eq!(world.running(app), []);
}

#[test]
fn what_never_ran_is_stopped_without_an_app_master() {
    let mut world = World::<NoFaults>::new(1);
    let app = world.submit(spec("words", 1));
    assert_eq!(world.command(Request::Wish { app, wish: Wish::Stop }), Reply::Done);
    assert_eq!(world.app(app).outcome(), Some(&AppOutcome::Stopped));
}

#[test]
fn what_fails_again_and_again_is_given_up_with_a_reason() {
    let mut world = World::<NoFaults>::with_workers(1, 2, 4);
    world.crash = true;
    let app = world.submit(spec("words", 1));
    world.run(20 * SECOND);
    let tries = world.launched.len();
    assert!(tries > 7, "{tries}: the first come quickly");
    let Reply::Apps { apps, .. } = world.command(Request::Apps) else { panic!() };
    assert!(apps[0].waiting.contains("failures in a row, the last time: signal 9"));
    assert_eq!(apps[0].outcome, None);
    world.run(60 * SECOND);
    for term in 1..=u64::from(RESTARTS_MAX) + 1 {
        assert!(world.launched.contains(&app_master(app, term)), "term {term}");
    }
    assert!(!world.launched.contains(&app_master(app, u64::from(RESTARTS_MAX) + 2)));
    let reason = "its app master has failed 17 times in a row without running for 5 s, the last \
                  time: signal 9";
    let expected = AppOutcome::Failed { reason: reason.to_string() };
    assert_eq!(world.app(app).outcome(), Some(&expected));
    assert!(world.notices.iter().any(|notice| notice.contains("is given up")));
}

#[test]
fn the_retry_budget_resets_with_health() {
    let (mut world, app) = with_app(2, 1);
    let mut last = 1;
    for round in 0..3 * RESTARTS_MAX {
        world.exit(executor(app, last));
        world.run(HEALTHY_AFTER + SECOND);
        assert!(world.is_complete(app), "round {round}");
        last = world.executors(app)[0];
    }
    assert_eq!(world.app(app).outcome(), None);
    let (_, assignment) = world.app(app).executors().next().unwrap();
    assert_eq!(assignment.failures, 0);
}

#[test]
fn a_new_leader_gives_everybody_the_whole_grace_time() {
    let mut world = World::<NoFaults>::with_workers(3, 2, 4);
    let app = world.submit(spec("words", 2));
    world.run(SECOND);
    assert!(world.is_complete(app));
    let launched = world.launched.len();
    let first = world.leader().unwrap();
    world.stop_master(first);
    world.run(3 * SECOND);
    let second = world.leader().unwrap();
    assert_ne!(first, second);
    world.run(10 * SECOND);
    assert!(world.is_complete(app));
    assert_eq!(world.launched.len(), launched, "nothing was started anew");
    // It sees a loss that happens under it.
    world.exit(executor(app, 1));
    world.run(SECOND);
    assert!(world.is_complete(app));
}

#[test]
fn who_is_lost_with_the_leader_is_replaced_after_one_grace_time() {
    let mut world = World::<NoFaults>::with_workers(3, 3, 4);
    let app = world.submit(spec("words", 2));
    world.run(SECOND);
    let first = world.leader().unwrap();
    let gone = world.worker_of(executor(app, 1)).unwrap();
    world.stop_master(first);
    world.stop_worker(gone);
    world.run(GRACE - millis(300));
    let is_assigned = |world: &World<NoFaults>| {
        world.app(app).executors().any(|(executor, _)| executor == ExecutorId(1))
    };
    assert!(is_assigned(&world), "a silence is not a failure");
    // The next leader has heard the worker itself, while it did not lead yet.
    world.run(SECOND);
    assert!(!is_assigned(&world));
    assert!(world.is_complete(app));
}

#[test]
fn all_masters_may_be_away_for_long() {
    let mut world = World::<NoFaults>::with_workers(3, 2, 4);
    let app = world.submit(spec("words", 2));
    world.run(SECOND);
    let launched = world.launched.len();
    for master in 1..=3 {
        world.stop_master(master);
    }
    world.run(30 * SECOND);
    for master in 1..=3 {
        world.start_master(master);
    }
    world.run(15 * SECOND);
    assert!(world.is_complete(app));
    assert_eq!(world.launched.len(), launched);
}

#[test]
fn a_leader_that_was_held_up_judges_nobody_by_it() {
    let (mut world, app) = with_app(2, 2);
    let launched = world.launched.len();
    // Nobody moves, and the master is the first to wake.
    world.now = world.now + 10 * GRACE;
    world.run(SECOND);
    assert!(world.is_complete(app));
    assert_eq!(world.launched.len(), launched);
}

#[test]
fn a_minority_answers_old_news_and_takes_nothing() {
    let mut world = World::<NoFaults>::with_workers(3, 1, 4);
    let app = world.submit(spec("words", 1));
    world.run(SECOND);
    let leader = world.leader().unwrap();
    world.cut.insert(leader);
    let id = world.request_id();
    let late = world.ask(leader, id, Request::Submit(Box::new(spec("late", 1))));
    assert!(!matches!(late, Some(Reply::Submitted { .. })), "{late:?}");
    world.run(5 * SECOND);
    let id = world.request_id();
    let Some(Reply::Apps { stale: true, apps }) = world.ask(leader, id, Request::Apps) else {
        panic!("it does not lead");
    };
    assert_eq!(apps[0].app, app);
    let id = world.request_id();
    let wish = Request::Wish { app, wish: Wish::Kill };
    let reply = world.ask(leader, id, wish);
    assert_eq!(reply, Some(Reply::NotLeader { leader: None }));
    let second = world.leader().unwrap();
    let follower = (1..=3).find(|node| *node != leader && *node != second).unwrap();
    let id = world.request_id();
    let reply = world.ask(follower, id, Request::Submit(Box::new(spec("late", 1))));
    assert_eq!(reply, Some(Reply::NotLeader { leader: Some(NodeId(second)) }));
}

/// What a leader does with a submission of which it can convince nobody.
fn convinces_nobody<F: Faults + core::fmt::Debug>() {
    let mut world = World::<F>::with_workers(3, 1, 4);
    let leader = world.leader().unwrap();
    world.cut.extend((1..=3).filter(|node| *node != leader));
    let id = world.request_id();
    world.ask(leader, id, Request::Submit(Box::new(spec("words", 1))));
    assert_eq!(world.launched, []);
}

#[test]
fn nothing_is_ordered_before_a_majority_has_it() {
    convinces_nobody::<NoFaults>();
}

#[test]
#[should_panic(expected = "which it may forget")]
fn the_seeded_bug_acts_before() {
    #[derive(Debug)]
    struct Hasty;
    impl Faults for Hasty {
        fn has(fault: Fault) -> bool {
            fault == Fault::ActOnUnacknowledged
        }
    }
    convinces_nobody::<Hasty>();
}

#[test]
fn only_the_newest_of_the_ended_apps_are_remembered() {
    let mut world = World::<NoFaults>::new(1);
    let kept = ENDED_APPS_KEPT as u64;
    for round in 0..=kept {
        let name = format!("app-{round}");
        let app = world.submit(spec(&name, 1));
        assert_eq!(world.command(Request::Wish { app, wish: Wish::Kill }), Reply::Done);
    }
    world.run(SECOND);
    let known: Vec<_> = world.state().apps().map(|(app, _)| app.0).collect();
    assert_eq!(known, (2..=kept + 1).collect::<Vec<_>>());
    assert_eq!(world.submit(spec("new", 1)), AppId(kept + 2), "no id is given twice");
}

#[test]
fn the_voters_change_by_command() {
    let mut world = World::<NoFaults>::new(3);
    let voters = |nodes: &[u64]| -> BTreeMap<_, _> {
        let address = |node| Address(format!("m{node}"));
        nodes.iter().map(|node| (NodeId(*node), address(*node))).collect()
    };
    let leader = world.leader().unwrap();
    let two = voters(&[leader, if leader == 3 { 2 } else { 3 }]);
    assert_eq!(world.command(Request::Voters { voters: two.clone() }), Reply::Done);
    assert_eq!(world.command(Request::Voters { voters: two }), Reply::Done, "again");
    let reason = why(world.command(Request::Voters { voters: voters(&[]) }));
    assert!(reason.contains("0 voters"), "{reason}");
}
