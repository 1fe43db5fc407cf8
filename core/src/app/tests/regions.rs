//! Regions of one deployment that come up, or go down, each for itself.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::world::plan;
use crate::app::{AppMaster, Failure, Outcome, Placement, Stage};
use crate::checkpoint::log::LogError;
use crate::control::Address;
use crate::effect::{Effect, Place, StoreReply, StoreRequest};
use crate::id::{AppTerm, Attempt, Epoch, ExecutorId, TaskId};
use crate::message::{Input, Message, TaskPhase, TaskReport};
use crate::time::Time;

type Objects = BTreeMap<String, Vec<u8>>;

/// An app master whose store answers at once, and what it has said to each executor.
struct Led {
    master: AppMaster,
    term: AppTerm,
    store: Objects,
    said: Vec<(ExecutorId, Message)>,
}

impl Led {
    /// The app master of a term, which finds these objects and is granted so many executors.
    fn new(term: AppTerm, store: Objects, executors: u32) -> Self {
        let mut plan = plan(term.0, 2);
        plan.term = Some(term);
        // Only its sources: each is a region.
        plan.processors.truncate(1);
        plan.placement = Placement::Executors { wanted: executors, channels: Vec::new() };
        let mut led = Self { master: AppMaster::new(plan), term, store, said: Vec::new() };
        led.hear(Input::Start);
        let granted = (0..executors).map(ExecutorId).collect();
        led.hear(Input::Executors { granted });
        led
    }

    /// The first app master, with executors that run nothing.
    fn first(executors: u32) -> Self {
        let mut led = Self::new(AppTerm(1), Objects::new(), executors);
        (0..executors).for_each(|executor| led.join(ExecutorId(executor), Vec::new()));
        led
    }

    /// Its successor, which hears from the executors that they run what this one has given them.
    fn successor(&self, executors: u32) -> Self {
        let mut led = Self::new(self.term.next(), self.store.clone(), executors);
        for executor in (0..executors).map(ExecutorId) {
            let (attempt, tasks) = self.given(executor);
            let report = |task| TaskReport {
                task,
                attempt,
                term: self.term,
                phase: TaskPhase::Running,
                restored: Epoch(0),
                passed: Epoch(0),
                heard: Epoch(0),
                stopped: false,
                finished: None,
            };
            led.join(executor, tasks.into_iter().map(report).collect());
        }
        led
    }

    fn join(&mut self, executor: ExecutorId, tasks: Vec<TaskReport>) {
        self.hear(Input::ExecutorUp { executor, address: Address::default() });
        self.hear_from(executor, Message::Report { term: self.term, tasks });
    }

    fn lose(&mut self, executor: ExecutorId) {
        self.hear(Input::ExecutorLost { executor, reason: "its node is lost".into() });
    }

    fn hear_from(&mut self, executor: ExecutorId, message: Message) {
        self.hear(Input::Message { from: Place::Executor(executor), message });
    }

    fn hear(&mut self, input: Input) {
        let mut ahead = VecDeque::from([input]);
        while let Some(input) = ahead.pop_front() {
            let mut effects = Vec::new();
            self.master.handle(Time::ZERO, input, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Store { token, request } => {
                        let reply = self.apply(request);
                        ahead.push_back(Input::Stored { token, reply });
                    }
                    Effect::Send { to: Place::Executor(to), message } => {
                        self.said.push((to, message));
                    }
                    _ => {}
                }
            }
        }
    }

    fn apply(&mut self, request: StoreRequest) -> StoreReply {
        match request {
            StoreRequest::Create { name, .. } if self.store.contains_key(&name) => {
                StoreReply::Exists
            }
            StoreRequest::Create { name, bytes } | StoreRequest::Put { name, bytes } => {
                self.store.insert(name, bytes.to_vec());
                StoreReply::Done
            }
            StoreRequest::Get { name } => self
                .store
                .get(&name)
                .map_or(StoreReply::Missing, |it| StoreReply::Bytes(it.clone())),
            StoreRequest::List { prefix } => {
                let names = self.store.keys().filter(|name| name.starts_with(prefix.as_str()));
                StoreReply::Names(names.map(ToString::to_string).collect())
            }
            StoreRequest::Delete { name } => {
                self.store.remove(&name);
                StoreReply::Done
            }
        }
    }

    /// The tasks that an executor was given last, and their attempt.
    fn given(&self, executor: ExecutorId) -> (Attempt, Vec<TaskId>) {
        let mut said = self.said.iter().rev().filter(|(to, _)| *to == executor);
        let given = said.find_map(|(_, message)| match message {
            Message::Deploy(it) if !it.tasks.is_empty() => {
                Some((it.attempt, it.tasks.iter().map(|task| task.task).collect()))
            }
            _ => None,
        });
        given.expect("it was given tasks")
    }

    /// How often any executor was given tasks.
    fn deployments(&self) -> usize {
        let gives =
            |message: &Message| matches!(message, Message::Deploy(it) if !it.tasks.is_empty());
        self.said.iter().filter(|(_, message)| gives(message)).count()
    }

    fn ready(&mut self, executor: ExecutorId) {
        let (attempt, tasks) = self.given(executor);
        for task in tasks {
            self.hear_from(executor, Message::Ready { task, attempt });
        }
    }

    fn runs(&self, executor: ExecutorId, attempt: Attempt) -> bool {
        self.said.contains(&(executor, Message::Run { term: self.term, attempt }))
    }
}

#[test]
fn a_region_that_is_ready_does_not_wait_for_one_that_has_gone_down() {
    let [stays, goes, comes] = [0, 1, 2].map(ExecutorId);
    let mut led = Led::first(2);
    let (first, _) = led.given(stays);
    assert_eq!(first, led.given(goes).0, "they were deployed together");
    led.ready(stays);
    assert!(!led.runs(stays, first), "one of the attempt is not ready");
    led.lose(goes);
    assert!(led.runs(stays, first), "nobody is left for whom it could wait");
    led.hear(Input::Executors { granted: [stays, comes].into() });
    led.join(comes, Vec::new());
    led.ready(comes);
    let (second, _) = led.given(comes);
    assert!(second > first && led.runs(comes, second));
    assert_eq!(led.master.status(Time::ZERO).stage, Stage::Running);
}

#[test]
fn an_app_master_that_was_fenced_takes_nothing_back() {
    let mut led = Led::first(2);
    (0..2).for_each(|executor| led.ready(ExecutorId(executor)));
    let successor = led.successor(2);
    assert_eq!(successor.deployments(), 0, "all of it runs and is taken over");
    led.store = successor.store;
    let before = led.deployments();
    led.lose(ExecutorId(1));
    led.hear(Input::Executors { granted: [ExecutorId(0), ExecutorId(2)].into() });
    led.join(ExecutorId(2), Vec::new());
    assert_eq!(led.deployments(), before);
    let outcome = led.master.outcome();
    let superseded = Some(&Outcome::Failed(Failure::Log(LogError::Superseded {
        app: plan(1, 2).identity.app,
        ours: AppTerm(1),
        theirs: AppTerm(2),
    })));
    assert_eq!(outcome, superseded);
}

#[test]
fn behind_a_record_that_cannot_be_read_nothing_is_taken_over() {
    let mut led = Led::first(2);
    (0..2).for_each(|executor| led.ready(ExecutorId(executor)));
    let before = led.successor(2);
    let mut last = led.store.last_entry().expect("there is a log");
    last.get_mut().truncate(20);
    let after = led.successor(2);
    assert_eq!(before.deployments(), 0);
    assert_eq!(after.deployments(), 2);
}

#[test]
fn what_an_app_master_was_about_to_take_back_is_not_taken_over() {
    let mut led = Led::first(2);
    (0..2).for_each(|executor| led.ready(ExecutorId(executor)));
    let before = led.successor(2);
    // Cut off from the first app master, and not from the second.
    led.lose(ExecutorId(1));
    led.hear(Input::Executors { granted: [ExecutorId(0), ExecutorId(2)].into() });
    led.join(ExecutorId(2), Vec::new());
    let (taken_back, _) = led.given(ExecutorId(2));
    let after = led.successor(2);
    assert_eq!(before.deployments(), 0);
    for executor in [0, 1].map(ExecutorId) {
        assert!(after.given(executor).0 > taken_back, "what was deployed together goes together");
    }
}
