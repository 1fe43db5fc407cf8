use alloc::string::ToString;
use alloc::vec;

use super::*;
use crate::control::{AppSpec, Role};
use crate::id::{AppId, AppTerm, ExecutorId};

const MASTER: NodeId = NodeId(9);

pub(super) fn config() -> WorkerConfig {
    WorkerConfig {
        node: NodeId(1),
        incarnation: Incarnation(7),
        address: Address("one:1".to_string()),
        capacity: Resources { slots: 4, memory: 1 << 30 },
        labels: [("zone".to_string(), "a".to_string())].into(),
    }
}

pub(super) fn executor(id: u32) -> ProcessId {
    ProcessId { app: AppId(1), role: Role::Executor(ExecutorId(id)) }
}

pub(super) fn order(process: ProcessId) -> LaunchOrder {
    LaunchOrder { process, spec: AppSpec::default(), token: 3 }
}

pub(super) fn orders(term: u64, number: u64, processes: &[ProcessId]) -> WorkerInput {
    let orders = WorkerOrders {
        term: MasterTerm(term),
        number,
        incarnation: config().incarnation,
        launch: processes.iter().copied().map(order).collect(),
        voters: BTreeMap::new(),
    };
    WorkerInput::Orders { from: MASTER, orders }
}

struct Bench<F: Faults = NoFaults> {
    worker: Worker<F>,
    now: Time,
    effects: Vec<WorkerEffect>,
}

impl<F: Faults> Bench<F> {
    fn started() -> Self {
        let mut bench = Self { worker: Worker::new(config()), now: Time(0), effects: vec![] };
        bench.hear(WorkerInput::Start);
        bench
    }

    fn hear(&mut self, input: WorkerInput) {
        self.effects.clear();
        self.worker.handle(self.now, input, &mut self.effects);
    }

    fn running(&mut self, process: ProcessId) {
        let address = Address("child:1".to_string());
        self.hear(WorkerInput::ChildRunning { process, address });
    }

    fn exited(&mut self, process: ProcessId) {
        self.hear(WorkerInput::ChildExited { process, reason: "signal 9".to_string() });
    }

    /// Goes to the next deadline.
    fn wait(&mut self) -> Timer {
        let (at, timer) = self.worker.next_timeout().unwrap();
        self.now = at;
        self.hear(WorkerInput::Timeout);
        timer
    }

    /// The report among the effects, which comes last.
    fn reported(&self) -> Option<&WorkerReport> {
        let Some(WorkerEffect::Report(report)) = self.effects.last() else { return None };
        Some(report)
    }

    fn states(&self) -> Vec<(ProcessId, &'static str)> {
        let report = self.reported().unwrap();
        let states = report.processes.iter().map(|(process, state)| match state {
            ProcessState::Starting => (*process, "starting"),
            ProcessState::Running { .. } => (*process, "running"),
            ProcessState::Exited { .. } => (*process, "exited"),
        });
        states.collect()
    }

    fn spawned(&self) -> Vec<ProcessId> {
        let spawned = self.effects.iter().filter_map(|effect| match effect {
            WorkerEffect::Spawn(order) => Some(order.process),
            _ => None,
        });
        spawned.collect()
    }

    fn killed(&self) -> Vec<ProcessId> {
        let killed = self.effects.iter().filter_map(|effect| match effect {
            WorkerEffect::Kill(process) => Some(*process),
            _ => None,
        });
        killed.collect()
    }
}

#[test]
fn reports_at_start_at_changes_and_every_interval() {
    let mut bench = Bench::<NoFaults>::started();
    let first = bench.reported().unwrap();
    assert_eq!((first.worker, first.incarnation, first.number), (NodeId(1), Incarnation(7), 1));
    assert_eq!((first.capacity.slots, first.labels.len()), (4, 1));
    assert_eq!(bench.wait(), Timer::Report);
    assert_eq!(bench.now, Time::ZERO + HEARTBEAT_INTERVAL);
    assert_eq!(bench.reported().unwrap().number, 2);

    bench.hear(orders(1, 1, &[executor(1)]));
    assert_eq!(bench.spawned(), [executor(1)]);
    assert_eq!(bench.states(), [(executor(1), "starting")]);
    bench.running(executor(1));
    assert_eq!(bench.states(), [(executor(1), "running")]);
    bench.hear(orders(1, 1, &[executor(1)]));
    assert!(bench.effects.is_empty(), "nothing new");
    assert_eq!(bench.worker.leader(), Some((MASTER, MasterTerm(1))));
}

#[test]
fn runs_exactly_what_its_orders_name() {
    let mut bench = Bench::<NoFaults>::started();
    let first = ProcessId { app: AppId(1), role: Role::AppMaster(AppTerm(1)) };
    let second = ProcessId { app: AppId(1), role: Role::AppMaster(AppTerm(2)) };
    bench.hear(orders(1, 1, &[first, executor(1)]));
    assert_eq!(bench.spawned(), [first, executor(1)]);
    bench.hear(orders(1, 2, &[second, executor(1)]));
    assert_eq!((bench.spawned(), bench.killed()), (vec![second], vec![first]));
    assert_eq!(bench.states().len(), 3, "what is told to end still takes its place");
    bench.exited(first);
    bench.hear(orders(1, 3, &[second, executor(1)]));
    assert_eq!(bench.states(), [(second, "starting"), (executor(1), "starting")]);
}

#[test]
fn what_has_ended_is_reported_until_no_order_names_it() {
    let mut bench = Bench::<NoFaults>::started();
    bench.hear(orders(1, 1, &[executor(1)]));
    bench.exited(executor(1));
    assert_eq!(bench.states(), [(executor(1), "exited")]);
    bench.hear(orders(1, 2, &[executor(1)]));
    assert_eq!(bench.spawned(), [], "an executor has one life");
    bench.running(executor(1));
    bench.exited(executor(1));
    assert!(bench.effects.is_empty());
    bench.wait();
    assert_eq!(bench.states(), [(executor(1), "exited")]);
    bench.hear(orders(1, 3, &[]));
    assert_eq!(bench.states(), []);
}

#[test]
fn what_was_told_to_end_is_not_launched_again() {
    let mut bench = Bench::<NoFaults>::started();
    bench.hear(orders(1, 1, &[executor(1)]));
    bench.hear(orders(1, 2, &[]));
    bench.hear(orders(1, 3, &[executor(1)]));
    bench.exited(executor(1));
    assert_eq!(bench.states(), [(executor(1), "exited")]);
    bench.hear(orders(1, 3, &[executor(1)]));
    assert_eq!(bench.spawned(), []);
}

#[test]
fn refuses_old_orders_and_those_for_another_life() {
    let mut bench = Bench::<NoFaults>::started();
    bench.hear(orders(2, 5, &[executor(1)]));
    for (term, number) in [(1, 9), (2, 4)] {
        bench.hear(orders(term, number, &[]));
        assert!(bench.effects.is_empty(), "{term} {number}");
    }
    let WorkerInput::Orders { from, mut orders } = orders(3, 1, &[]) else { unreachable!() };
    orders.incarnation = Incarnation(6);
    bench.hear(WorkerInput::Orders { from, orders: orders.clone() });
    assert!(bench.effects.is_empty());
    orders.incarnation = Incarnation(7);
    bench.hear(WorkerInput::Orders { from, orders });
    assert_eq!(bench.killed(), [executor(1)]);
}

#[test]
fn the_seeded_bug_follows_old_orders() {
    struct Broken;
    impl Faults for Broken {
        fn has(fault: Fault) -> bool {
            fault == Fault::AcceptOldTermOrders
        }
    }
    let mut bench = Bench::<Broken>::started();
    bench.hear(orders(2, 5, &[executor(1)]));
    bench.hear(orders(1, 1, &[]));
    assert_eq!(bench.killed(), [executor(1)]);
}

#[test]
fn without_masters_everything_goes_on() {
    let mut bench = Bench::<NoFaults>::started();
    bench.hear(orders(1, 1, &[executor(1), executor(2)]));
    bench.running(executor(1));
    for _ in 0..1_000 {
        assert_eq!(bench.wait(), Timer::Report);
        assert_eq!(bench.effects.len(), 1, "only the report");
        assert_eq!(bench.states(), [(executor(1), "running"), (executor(2), "starting")]);
    }
}

#[test]
fn what_does_not_end_is_spoken_of_and_told_again() {
    let mut bench = Bench::<NoFaults>::started();
    bench.hear(orders(1, 1, &[executor(1)]));
    bench.hear(orders(1, 2, &[]));
    assert_eq!(bench.killed(), [executor(1)]);
    let told = bench.now;
    bench.wait();
    while bench.now < told + KILL_PATIENCE {
        assert_eq!(bench.killed(), []);
        bench.wait();
        assert_eq!(bench.states(), [(executor(1), "starting")], "it is still there");
    }
    assert_eq!(bench.now, told + KILL_PATIENCE);
    assert_eq!(bench.killed(), [executor(1)]);
    let notice = bench.effects.iter().find_map(|effect| match effect {
        WorkerEffect::Notice(notice) => Some(notice.text.as_str()),
        _ => None,
    });
    assert_eq!(notice, Some("executor 1 of app 1 was told to end and has not for 5 s: once more"));
    bench.exited(executor(1));
    assert_eq!(bench.states(), [(executor(1), "exited")]);
    bench.hear(orders(1, 3, &[]));
    assert_eq!(bench.states(), []);
    assert_eq!(bench.killed(), [], "it has ended by now");
}

#[test]
fn runs_no_more_than_the_limit() {
    let mut bench = Bench::<NoFaults>::started();
    let most = PROCESSES_PER_WORKER_MAX as usize;
    let all: Vec<_> = (0..=PROCESSES_PER_WORKER_MAX).map(executor).collect();
    bench.hear(orders(1, 1, &all));
    assert_eq!((bench.spawned().len(), bench.states().len()), (most, most));
    let warnings = |bench: &Bench| {
        let is_notice = |effect: &&WorkerEffect| matches!(effect, WorkerEffect::Notice(_));
        bench.effects.iter().filter(is_notice).count()
    };
    assert_eq!(warnings(&bench), 1);
    bench.hear(orders(1, 1, &all));
    assert_eq!(warnings(&bench), 0, "once is enough");
    bench.exited(executor(0));
    bench.hear(orders(1, 2, &all[1..]));
    assert_eq!(bench.spawned(), all[most..]);
}
