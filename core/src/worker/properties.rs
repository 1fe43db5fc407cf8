//! Any orders in any order, any children: a worker against what it should have done.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::tests::{config, executor, orders};
use super::{Worker, WorkerEffect, WorkerInput};
use crate::control::{Address, ProcessId, ProcessState};
use crate::host::{Fault, Faults, NoFaults};
use crate::limits::HEARTBEAT_INTERVAL;
use crate::time::{Duration, Time};

const PROCESSES: u32 = 4;

#[derive(Clone, Debug)]
enum Event {
    Orders { term: u64, number: u64, named: BTreeSet<u32> },
    Running(u32),
    Exited(u32),
    Wait(u64),
}

fn any_event() -> impl Strategy<Value = Event> {
    let named = prop::collection::btree_set(0..PROCESSES, 0..4);
    prop_oneof![
        4 => (1..4_u64, 1..6_u64, named)
            .prop_map(|(term, number, named)| Event::Orders { term, number, named }),
        2 => (0..PROCESSES).prop_map(Event::Running),
        2 => (0..PROCESSES).prop_map(Event::Exited),
        2 => (0..8_000_u64).prop_map(Event::Wait),
    ]
}

/// What is known from outside.
#[derive(Default)]
struct World {
    now: Time,
    heard: (u64, u64),
    /// What the highest orders named.
    named: BTreeSet<ProcessId>,
    /// What was launched and has not ended.
    alive: BTreeSet<ProcessId>,
    /// What has ended while it was ordered, or was told to end.
    gone: BTreeSet<ProcessId>,
    told: BTreeSet<ProcessId>,
    reports: u64,
}

impl World {
    fn input(&mut self, event: &Event) -> Option<WorkerInput> {
        match event {
            Event::Orders { term, number, named } => {
                let named: Vec<_> = named.iter().copied().map(executor).collect();
                if (*term, *number) >= self.heard {
                    self.heard = (*term, *number);
                    self.named = named.iter().copied().collect();
                    let named = &self.named;
                    self.gone.retain(|process| named.contains(process));
                }
                Some(orders(*term, *number, &named))
            }
            Event::Running(id) => {
                let process = executor(*id);
                let address = Address("child:1".to_string());
                let input = WorkerInput::ChildRunning { process, address };
                self.alive.contains(&process).then_some(input)
            }
            Event::Exited(id) => {
                let process = executor(*id);
                let exited = WorkerInput::ChildExited { process, reason: "gone".to_string() };
                self.told.remove(&process);
                self.alive.remove(&process).then(|| {
                    self.gone.insert(process);
                    exited
                })
            }
            Event::Wait(_) => Some(WorkerInput::Timeout),
        }
    }

    fn check(&mut self, worker: &Worker<impl Faults>, effects: &[WorkerEffect]) {
        for effect in effects {
            match effect {
                WorkerEffect::Spawn(order) => {
                    assert!(self.named.contains(&order.process), "only what is ordered runs");
                    assert!(!self.gone.contains(&order.process), "nothing has a second life");
                    assert!(self.alive.insert(order.process), "it runs once");
                }
                WorkerEffect::Kill(process) => {
                    assert!(self.alive.contains(process), "what has ended is left alone");
                    let first = self.told.insert(*process);
                    assert!(!first || !self.named.contains(process), "what is ordered stays");
                }
                WorkerEffect::Report(report) => {
                    self.reports += 1;
                    assert_eq!(report.number, self.reports);
                    self.check_report(&report.processes);
                }
                WorkerEffect::Notice(_) => {}
            }
        }
        let (at, _) = worker.next_timeout().unwrap();
        assert!(at > self.now, "every deadline that has come was met");
        assert!(at <= self.now + HEARTBEAT_INTERVAL, "the next report is never far");
        let told: BTreeSet<_> = self.alive.difference(&self.named).copied().collect();
        assert!(told.is_subset(&self.told), "nothing else runs on");
        let missing: Vec<_> = self.named.difference(&self.alive).collect();
        assert!(missing.iter().all(|process| self.gone.contains(process)), "what is ordered runs");
    }

    fn check_report(&self, processes: &BTreeMap<ProcessId, ProcessState>) {
        for process in &self.alive {
            let exited = matches!(processes[process], ProcessState::Exited { .. });
            assert!(!exited, "what is there is not reported gone");
        }
        for process in &self.gone {
            let exited = matches!(processes[process], ProcessState::Exited { .. });
            assert!(exited, "what has ended is reported");
        }
        assert_eq!(processes.len(), self.alive.len() + self.gone.len());
    }
}

fn run<F: Faults>(events: &[Event]) {
    let mut worker = Worker::<F>::new(config());
    let mut world = World::default();
    let mut effects = Vec::new();
    worker.handle(world.now, WorkerInput::Start, &mut effects);
    world.check(&worker, &effects);
    for event in events {
        if let Event::Wait(wait) = event {
            let until = world.now + Duration::from_millis(*wait);
            while let Some((at, _)) = worker.next_timeout().filter(|(at, _)| *at <= until) {
                world.now = at;
                effects.clear();
                worker.handle(world.now, WorkerInput::Timeout, &mut effects);
                world.check(&worker, &effects);
            }
            world.now = until;
        } else if let Some(input) = world.input(event) {
            effects.clear();
            worker.handle(world.now, input, &mut effects);
            world.check(&worker, &effects);
        }
    }
}

proptest! {
    #[test]
    fn runs_what_the_highest_orders_name(
        events in prop::collection::vec(any_event(), 0..60),
    ) {
        run::<NoFaults>(&events);
    }
}

#[test]
#[should_panic(expected = "what is ordered stays")]
fn the_check_sees_a_worker_that_follows_old_orders() {
    struct Broken;
    impl Faults for Broken {
        fn has(fault: Fault) -> bool {
            fault == Fault::AcceptOldTermOrders
        }
    }
    let events = [
        Event::Orders { term: 2, number: 1, named: [1].into() },
        Event::Orders { term: 1, number: 1, named: [].into() },
    ];
    run::<NoFaults>(&events);
    run::<Broken>(&events);
}
