//! An executor whose regions are deployed again, in part.

use std::collections::BTreeMap;
use std::sync::Arc;

use gear_core::effect::{Effect, Place, StoreReply, StoreRequest};
use gear_core::executor::{Executor, Program};
use gear_core::host::NoFaults;
use gear_core::id::{AppTerm, Attempt, ChannelId, Epoch, ExecutorId, ProcessorId, TaskId, Token};
use gear_core::message::{
    Deployment, Input, Item, Message, Partition, TaskDeployment, TaskPhase, TaskReport,
};
use gear_core::task::{QuarantinePolicy, TaskOptions, World};
use gear_core::time::{Time, WallTime};

use crate::cluster::Trusting;
use crate::job::{NoFiles, Numbers, job};

const HERE: ExecutorId = ExecutorId(0);
const ELSEWHERE: ExecutorId = ExecutorId(1);

struct Rig {
    executor: Executor<NoFaults>,
    fx: Vec<Effect>,
    /// The digest of the app master's graph.
    graph: Option<u64>,
}

fn task(processor: u32, index: u32) -> TaskId {
    TaskId { processor: ProcessorId(processor), index }
}

fn attempt(number: u64) -> Attempt {
    Attempt(Attempt::before(AppTerm(1)).0 + number)
}

impl Rig {
    fn new() -> Self {
        let job = job(Numbers { partitions: 2, len: 1_000 });
        let options = TaskOptions { align: true, quarantine: QuarantinePolicy::Keep };
        let program = Program { graph: job.graph, factories: job.factories, options };
        let graph = Some(program.graph.digest());
        Self { executor: Executor::new(HERE, Arc::new(program), 0), fx: Vec::new(), graph }
    }

    fn with<R>(
        &mut self,
        act: impl FnOnce(&mut Executor<NoFaults>, &mut World<'_>, &mut Vec<Effect>) -> R,
    ) -> R {
        let (mut files, mut guard) = (NoFiles, Trusting);
        let (now, wall) = (Time::ZERO, WallTime(0));
        let mut world = World { now, wall, files: &mut files, guard: &mut guard };
        act(&mut self.executor, &mut world, &mut self.fx)
    }

    fn say(&mut self, message: Message) {
        let input = Input::Message { from: Place::AppMaster, message };
        self.with(|executor, world, fx| executor.handle(input, world, fx));
    }

    /// Deploys the plain source of an index, with its sink, here or elsewhere.
    fn deploy(&mut self, term: u64, number: u64, index: u32, (source, sink): (bool, bool)) {
        let place = |is_here| if is_here { HERE } else { ELSEWHERE };
        let placement = vec![(task(0, index), place(source)), (task(1, index), place(sink))];
        let partition = Partition { name: format!("numbers-{index}"), position: None, done: false };
        let new = |task: TaskId| TaskDeployment {
            task,
            finished: false,
            partitions: Vec::from_iter((task.processor.0 == 0).then(|| partition.clone())),
            restore: Vec::new(),
            pending: Vec::new(),
            records: 0,
            quarantined: 0,
        };
        let here = placement.iter().filter(|(_, place)| *place == HERE);
        self.say(Message::Deploy(Deployment {
            term: AppTerm(term),
            attempt: attempt(number),
            epoch: Epoch(0),
            key_groups: 16,
            graph: self.graph,
            tasks: here.map(|(task, _)| new(*task)).collect(),
            placement,
            addresses: BTreeMap::new(),
        }));
    }

    fn turns(&mut self) -> Vec<Effect> {
        for _ in 0..20 {
            self.with(|executor, world, fx| executor.run(world, fx));
        }
        std::mem::take(&mut self.fx)
    }

    fn report(&mut self, term: u64) -> Option<Vec<TaskReport>> {
        self.fx.clear();
        self.say(Message::TakeOver { term: AppTerm(term) });
        match self.fx.pop() {
            Some(Effect::Send { message: Message::Report { tasks, .. }, .. }) => Some(tasks),
            _ => None,
        }
    }

    fn run(&mut self, number: u64) {
        self.turns();
        self.say(Message::Run { term: AppTerm(1), attempt: attempt(number) });
    }
}

fn attempts(reports: &[TaskReport]) -> Vec<(TaskId, Attempt)> {
    let mut attempts: Vec<_> = reports.iter().map(|it| (it.task, it.attempt)).collect();
    attempts.sort_unstable();
    attempts
}

#[test]
fn a_region_is_replaced_and_the_others_go_on() {
    let mut rig = Rig::new();
    rig.deploy(1, 1, 0, (true, true));
    rig.deploy(1, 1, 1, (true, true));
    rig.run(1);
    rig.deploy(1, 2, 0, (false, true));
    let reports = rig.report(1).expect("it was asked");
    let expected = [(task(0, 1), attempt(1)), (task(1, 0), attempt(2)), (task(1, 1), attempt(1))];
    assert_eq!(attempts(&reports), expected);
    let runs = |report: &&TaskReport| report.phase == TaskPhase::Running;
    assert_eq!(reports.iter().filter(runs).count(), 2);
    // What was overtaken changes nothing.
    rig.deploy(1, 1, 0, (true, true));
    assert_eq!(attempts(&rig.report(1).expect("it was asked")), expected);
    rig.deploy(1, 3, 0, (false, false));
    assert_eq!(attempts(&rig.report(1).expect("it was asked")).len(), 2);
}

#[test]
fn only_the_tasks_of_an_attempt_are_let_run() {
    let mut rig = Rig::new();
    rig.deploy(1, 1, 0, (true, true));
    rig.deploy(1, 2, 1, (true, true));
    rig.run(2);
    let reports = rig.report(1).expect("it was asked");
    for report in reports {
        let runs = report.phase == TaskPhase::Running;
        assert_eq!(runs, report.attempt == attempt(2), "{report:?}");
    }
}

#[test]
fn an_app_master_of_a_lower_term_is_refused() {
    let mut rig = Rig::new();
    rig.deploy(1, 1, 0, (true, true));
    assert!(rig.report(3).is_some());
    assert!(rig.report(2).is_none());
    rig.deploy(2, 9, 0, (false, false));
    rig.say(Message::Shutdown { term: AppTerm(2) });
    assert!(!rig.executor.is_stopped());
    assert_eq!(rig.report(3).expect("it was asked").len(), 2);
    rig.say(Message::Shutdown { term: AppTerm(3) });
    assert!(rig.executor.is_stopped());
}

#[test]
fn an_app_master_with_another_graph_is_told_so_and_nothing_runs() {
    let mut rig = Rig::new();
    rig.graph = Some(7);
    rig.deploy(1, 1, 0, (true, true));
    let told = rig.fx.iter().find_map(|effect| match effect {
        Effect::Send { to: Place::AppMaster, message: Message::Failed { attempt, reason, .. } } => {
            Some((*attempt, reason.clone()))
        }
        _ => None,
    });
    let (of, reason) = told.expect("the app master hears of it");
    assert_eq!(of, attempt(1));
    assert!(reason.contains("another graph") && reason.contains("HashMap"), "{reason}");
    assert!(rig.executor.is_stopped() && rig.executor.task_count() == 0);
}

#[test]
fn items_and_credits_of_another_attempt_are_nobodys() {
    let mut rig = Rig::new();
    rig.deploy(1, 1, 0, (true, false));
    rig.run(1);
    let channel = ChannelId { edge: 0, from: 0, to: 0 };
    let sent = |fx: Vec<Effect>| {
        let is_item =
            |effect: &&Effect| matches!(effect, Effect::Send { message: Message::Item { .. }, .. });
        fx.iter().filter(is_item).count()
    };
    assert!(sent(rig.turns()) > 0);
    rig.deploy(1, 2, 0, (true, false));
    rig.run(2);
    // It would be more credit than the window.
    let buffer = Vec::new();
    rig.say(Message::Credit { channel, attempt: attempt(1), bytes: 1 << 30, buffer });
    assert!(sent(rig.turns()) > 0);
    // The end of its stream would end the sink.
    rig.deploy(1, 3, 0, (false, true));
    rig.run(3);
    let item = |number| Message::Item { channel, attempt: attempt(number), item: Item::End };
    rig.say(item(2));
    rig.turns();
    let phase = |rig: &mut Rig| rig.report(1).expect("it was asked")[0].phase.clone();
    assert_eq!(phase(&mut rig), TaskPhase::Running);
    rig.say(item(3));
    rig.turns();
    assert_eq!(phase(&mut rig), TaskPhase::Ended);
}

#[test]
fn answers_to_an_earlier_attempt_are_nobodys() {
    let mut rig = Rig::new();
    rig.deploy(1, 1, 0, (false, true));
    let before = store_tokens(&mut rig, 1);
    rig.deploy(1, 2, 0, (false, true));
    let after = store_tokens(&mut rig, 2);
    assert!(before.iter().all(|token| !after.contains(token)), "{before:?} {after:?}");
    for token in before {
        let reply = StoreReply::Failed { reason: "late".into(), retriable: false };
        rig.with(|executor, world, fx| {
            executor.handle(Input::Stored { token, reply }, world, fx);
        });
    }
    let reports = rig.report(1).expect("it was asked");
    assert!(!matches!(reports[0].phase, TaskPhase::Failed { .. }), "{reports:?}");
}

/// The tokens of what a sink's task has asked the disk or the store for at its end.
fn store_tokens(rig: &mut Rig, number: u64) -> Vec<Token> {
    rig.run(number);
    let channel = ChannelId { edge: 0, from: 0, to: 0 };
    let mut batch = gear_core::flow::batch::Batch::default();
    batch.push::<u64>(gear_core::time::EventTime::MIN, &7);
    for item in [Item::Batch(batch), Item::End] {
        rig.say(Message::Item { channel, attempt: attempt(number), item });
    }
    let tokens = rig.turns().into_iter().filter_map(|effect| match effect {
        Effect::Store { token, request: StoreRequest::Put { .. } } => Some(token),
        Effect::Io { token, .. } => Some(token),
        _ => None,
    });
    let tokens: Vec<_> = tokens.collect();
    assert!(!tokens.is_empty());
    tokens
}
