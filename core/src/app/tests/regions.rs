//! Regions of one deployment that come up, or go down, each for itself.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::world::plan;
use crate::app::{AppMaster, Placement, Stage};
use crate::control::Address;
use crate::effect::{Effect, Place, StoreReply, StoreRequest};
use crate::id::{AppTerm, Attempt, ExecutorId, TaskId};
use crate::message::{Input, Message};
use crate::time::Time;

const TERM: AppTerm = AppTerm(1);

/// An app master whose store answers at once, and what it has said to each executor.
struct Led {
    master: AppMaster,
    store: BTreeMap<String, Vec<u8>>,
    said: Vec<(ExecutorId, Message)>,
}

impl Led {
    fn new(executors: u32) -> Self {
        let mut plan = plan(1, 2);
        plan.term = Some(TERM);
        // Only its sources: each is a region.
        plan.processors.truncate(1);
        plan.placement = Placement::Executors { wanted: executors, channels: Vec::new() };
        let (store, said) = (BTreeMap::new(), Vec::new());
        let mut led = Self { master: AppMaster::new(plan), store, said };
        led.hear(Input::Start);
        let granted = (0..executors).map(ExecutorId).collect();
        led.hear(Input::Executors { granted });
        (0..executors).for_each(|executor| led.join(ExecutorId(executor)));
        led
    }

    fn join(&mut self, executor: ExecutorId) {
        self.hear(Input::ExecutorUp { executor, address: Address::default() });
        self.hear_from(executor, Message::Report { term: TERM, tasks: Vec::new() });
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

    fn ready(&mut self, executor: ExecutorId) {
        let (attempt, tasks) = self.given(executor);
        for task in tasks {
            self.hear_from(executor, Message::Ready { task, attempt });
        }
    }

    fn runs(&self, executor: ExecutorId, attempt: Attempt) -> bool {
        self.said.contains(&(executor, Message::Run { term: TERM, attempt }))
    }
}

#[test]
fn a_region_that_is_ready_does_not_wait_for_one_that_has_gone_down() {
    let [stays, goes, comes] = [0, 1, 2].map(ExecutorId);
    let mut led = Led::new(2);
    let (first, _) = led.given(stays);
    assert_eq!(first, led.given(goes).0, "they were deployed together");
    led.ready(stays);
    assert!(!led.runs(stays, first), "one of the attempt is not ready");
    led.hear(Input::ExecutorLost { executor: goes, reason: "its node is lost".into() });
    assert!(led.runs(stays, first), "nobody is left for whom it could wait");
    led.hear(Input::Executors { granted: [stays, comes].into() });
    led.join(comes);
    led.ready(comes);
    let (second, _) = led.given(comes);
    assert!(second > first && led.runs(comes, second));
    assert_eq!(led.master.status(Time::ZERO).stage, Stage::Running);
}
