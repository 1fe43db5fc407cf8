//! A model of what surrounds app masters: one store, a clock, tasks that obey, and faults.
//!
//! Whatever may not happen is asserted where it would happen.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::app::{AppMaster, AppPlan, Outcome, Placement, ProcessorPlan};
use crate::checkpoint::history::{History, Records, settle};
use crate::checkpoint::record::{Identity, Record, number_of};
use crate::effect::{Effect, Place, StoreReply, StoreRequest};
use crate::id::{AppTerm, Attempt, Epoch, ExecutorId, ProcessorId, TaskId, Token};
use crate::limits::EPOCHS_RETAINED;
use crate::message::{
    Deployment, EpochStart, Input, Message, ObjectRef, TaskDeployment, TaskSnapshot,
};
use crate::time::{Duration, Time, seconds};

/// Deadlines beyond are for those who have waited for long.
const FAR: Duration = seconds(60);

/// A small generator, so that a seed means the same run for ever.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    pub(super) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }
}

/// What a run has seen, to show that it was worth running.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) committed: u64,
    pub(super) superseded: u64,
    pub(super) finished: u64,
    pub(super) already_finished: u64,
    pub(super) stopped: u64,
    pub(super) recovered: u64,
    pub(super) crashes: u64,
    pub(super) ghosts: u64,
    pub(super) late_fences: u64,
    pub(super) deleted: u64,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) now: Time,
    pub(super) store: BTreeMap<String, Vec<u8>>,
    pub(super) nodes: Vec<Node>,
    requests: Vec<Request>,
    /// Percent of requests and answers that something happens to.
    pub(super) faults: usize,
    /// Percent of orders at which a task ends instead.
    pub(super) ends: usize,
    /// Tasks that do nothing, and sinks that say nothing.
    pub(super) mute: BTreeSet<TaskId>,
    /// Which term committed an epoch, as the executors were told.
    pub(super) committed: BTreeMap<Epoch, AppTerm>,
    /// Names that have been deleted.
    freed: BTreeSet<String>,
    pub(super) seen: Seen,
}

/// A request on its way to the store.
struct Request {
    node: usize,
    /// None if nobody waits for the answer any more.
    token: Option<Token>,
    request: StoreRequest,
}

/// An app master and its tasks.
pub(super) struct Node {
    pub(super) master: AppMaster,
    pub(super) alive: bool,
    inbox: Vec<Input>,
    tasks: BTreeMap<TaskId, Task>,
    sinks: BTreeSet<TaskId>,
    pub(super) deployed: Option<Deployment>,
    pub(super) notices: Vec<String>,
    pub(super) committed: Vec<Epoch>,
}

#[derive(Default)]
struct Task {
    uid: String,
    orders: VecDeque<EpochStart>,
    chains: BTreeMap<Epoch, Vec<ObjectRef>>,
    last: Epoch,
    finished: bool,
    snapshot: TaskSnapshot,
}

/// The processor that writes.
const SINK: ProcessorId = ProcessorId(2);

pub(super) fn plan(incarnation: u64, parallelism: u32) -> AppPlan {
    let identity = Identity { app: "words".into(), digest: 1, arguments: "--fast".into() };
    let processor = |id, uid: &str, parallelism| ProcessorPlan {
        id: ProcessorId(id),
        uid: uid.into(),
        parallelism,
        ..ProcessorPlan::default()
    };
    let mut source = processor(0, "read", 2);
    source.source = true;
    source.partitions = ["a", "b", "c"].map(ToString::to_string).into();
    let mut sink = processor(SINK.0, "out", parallelism);
    sink.sink = true;
    let mut plan = AppPlan::new(identity, incarnation);
    plan.processors = [source, processor(1, "count", parallelism), sink].into();
    let places = plan.tasks().map(|(task, _)| (task, ExecutorId(task.index % 2)));
    plan.placement = Placement::Fixed(places.collect());
    plan
}

impl World {
    pub(super) fn new(seed: u64, faults: usize) -> Self {
        Self {
            random: Random::new(seed),
            now: Time::ZERO,
            store: BTreeMap::new(),
            nodes: Vec::new(),
            requests: Vec::new(),
            faults,
            ends: 4,
            mute: BTreeSet::new(),
            committed: BTreeMap::new(),
            freed: BTreeSet::new(),
            seen: Seen::default(),
        }
    }

    pub(super) fn start(&mut self, plan: AppPlan) -> usize {
        let sinks = plan.tasks().filter(|(_, processor)| processor.sink);
        let sinks = sinks.map(|(task, _)| task).collect();
        let named = |(task, processor): (TaskId, &ProcessorPlan)| {
            (task, Task { uid: processor.uid.clone(), ..Task::default() })
        };
        let tasks = plan.tasks().map(named).collect();
        self.nodes.push(Node {
            master: AppMaster::new(plan),
            alive: true,
            inbox: Vec::new(),
            tasks,
            sinks,
            deployed: None,
            notices: Vec::new(),
            committed: Vec::new(),
        });
        let node = self.nodes.len() - 1;
        self.hear(node, Input::Start);
        node
    }

    /// The process is gone; with faults, what it sent to the store may still arrive.
    pub(super) fn crash(&mut self, node: usize) {
        self.nodes[node].alive = false;
        self.nodes[node].inbox.clear();
        self.requests.retain(|request| request.node != node || self.faults > 0);
        for request in self.requests.iter_mut().filter(|request| request.node == node) {
            request.token = None;
        }
    }

    pub(super) fn alive(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].alive).collect()
    }

    pub(super) fn outcome(&self, node: usize) -> Option<&Outcome> {
        self.nodes[node].master.outcome()
    }

    /// Does one thing out of all that could happen next; false if nothing could.
    pub(super) fn step(&mut self) -> bool {
        let first = self.random.below(4);
        (0..4).any(|turn| match (first + turn) % 4 {
            0 => self.step_store(),
            1 => self.step_inbox(),
            2 => self.step_tasks(),
            _ => self.step_clock(),
        })
    }

    /// Lets one app master hear something, and does what it asks for, cut anywhere by a crash.
    pub(super) fn hear(&mut self, node: usize, input: Input) {
        let mut effects = Vec::new();
        let had_ended = self.outcome(node).is_some();
        self.nodes[node].master.handle(self.now, input, &mut effects);
        self.carry_out(node, had_ended, effects);
    }

    /// Asks an app master for a savepoint.
    pub(super) fn make_savepoint(&mut self, node: usize, id: u64, name: &str) {
        let mut effects = Vec::new();
        let had_ended = self.outcome(node).is_some();
        self.nodes[node].master.make_savepoint(self.now, id, name.into(), &mut effects);
        self.carry_out(node, had_ended, effects);
    }

    fn carry_out(&mut self, node: usize, had_ended: bool, mut effects: Vec<Effect>) {
        let cut = self.faults > 0 && self.random.below(400) == 0;
        let cut = if cut { self.random.below(effects.len() + 1) } else { effects.len() };
        let is_cut = cut < effects.len();
        for effect in effects.drain(..cut) {
            match effect {
                Effect::Send { to: Place::Executor(_), message } => self.obey(node, message),
                Effect::Store { token, request } => {
                    self.requests.push(Request { node, token: Some(token), request });
                }
                Effect::Notice(notice) => self.nodes[node].notices.push(notice.text),
                other => panic!("an app master does not ask for {other:?}"),
            }
        }
        if is_cut {
            self.seen.crashes += 1;
            self.crash(node);
        } else if !had_ended {
            self.note_outcome(node);
        }
    }

    fn note_outcome(&mut self, node: usize) {
        let outcome = self.nodes[node].master.outcome().cloned();
        match outcome {
            None => {}
            Some(Outcome::Finished { .. }) => self.seen.finished += 1,
            Some(Outcome::AlreadyFinished { .. }) => self.seen.already_finished += 1,
            Some(Outcome::Stopped { .. }) => self.seen.stopped += 1,
            Some(Outcome::Failed(failure)) => {
                let text = failure.to_string();
                let is_known = text.contains("taken over") || text.contains("store failed");
                assert!(is_known || self.faults == 0, "{text}");
                self.seen.superseded += u64::from(text.contains("taken over"));
            }
        }
    }

    fn step_store(&mut self) -> bool {
        if self.requests.is_empty() {
            return false;
        }
        let place = self.random.below(self.requests.len());
        let Request { node, token, request } = self.requests.swap_remove(place);
        let Some(token) = token else {
            // Ghosts take their time, so that numbers are freed before they land.
            if self.random.percent(3) {
                self.seen.ghosts += 1;
                self.apply(&request);
            } else {
                self.requests.push(Request { node, token: None, request });
            }
            return self.requests.iter().any(|request| request.token.is_some());
        };
        let reason = "lost".to_string();
        let retriable = self.random.percent(98);
        let failed = StoreReply::Failed { reason, retriable };
        let fault = self.random.percent(self.faults).then(|| self.random.below(3));
        let reply = match fault {
            // It takes effect, and the answer is lost.
            Some(0) => {
                self.apply(&request);
                failed
            }
            // It is given up, and takes effect at any time from now on.
            Some(1) => {
                self.requests.push(Request { node, token: None, request });
                failed
            }
            // The answer comes twice.
            Some(_) => {
                let reply = self.apply(&request);
                let stored = Input::Stored { token, reply: reply.clone() };
                self.nodes[node].inbox.push(stored);
                reply
            }
            None => self.apply(&request),
        };
        self.nodes[node].inbox.push(Input::Stored { token, reply });
        true
    }

    fn apply(&mut self, request: &StoreRequest) -> StoreReply {
        match request {
            StoreRequest::Create { name, .. } if self.store.contains_key(name) => {
                StoreReply::Exists
            }
            StoreRequest::Create { name, bytes } | StoreRequest::Put { name, bytes } => {
                let is_late = self.freed.contains(name)
                    && matches!(Record::decode(bytes), Ok(Record::Fence(_)));
                self.seen.late_fences += u64::from(is_late);
                self.store.insert(name.clone(), bytes.to_vec());
                self.check_store();
                StoreReply::Done
            }
            StoreRequest::Get { name } => match self.store.get(name) {
                Some(bytes) => StoreReply::Bytes(bytes.clone()),
                None => StoreReply::Missing,
            },
            StoreRequest::List { prefix } => {
                let names = self.store.keys().filter(|name| name.starts_with(prefix.as_str()));
                StoreReply::Names(names.cloned().collect())
            }
            StoreRequest::Delete { name } => {
                self.seen.deleted += u64::from(self.store.remove(name).is_some());
                self.freed.insert(name.clone());
                self.check_store();
                StoreReply::Done
            }
        }
    }

    pub(super) fn history(&self) -> History {
        let logged = self.store.iter().filter_map(|(name, bytes)| {
            number_of(name).map(|number| (number, Record::decode(bytes)))
        });
        settle(&logged.collect::<Records>())
    }

    /// What has been committed is there, with all that it names.
    fn check_store(&self) {
        let history = self.history();
        let last = history.epochs.last().map_or(Epoch(0), |(_, record)| record.epoch);
        let told = self.committed.keys().next_back().copied().unwrap_or_default();
        assert!(last >= told, "{told} was committed, the log ends with {last}");
        for (number, record) in history.epochs.iter().rev().take(EPOCHS_RETAINED) {
            for object in record.objects() {
                let is_there = self.store.contains_key(&object.name);
                assert!(is_there, "record {number} names {}, which is gone", object.name);
            }
        }
    }

    fn step_inbox(&mut self) -> bool {
        let waiting = |node: &usize| !self.nodes[*node].inbox.is_empty();
        let nodes: Vec<usize> = self.alive().into_iter().filter(waiting).collect();
        if nodes.is_empty() {
            return false;
        }
        let node = nodes[self.random.below(nodes.len())];
        let place = self.random.below(self.nodes[node].inbox.len());
        let input = self.nodes[node].inbox.swap_remove(place);
        let is_message = matches!(input, Input::Message { .. });
        if is_message && self.random.percent(self.faults) {
            self.nodes[node].inbox.push(input.clone());
        }
        self.hear(node, input);
        true
    }

    fn step_clock(&mut self) -> bool {
        let deadline = |node: usize| {
            let next = self.nodes[node].master.next_timeout();
            next.map(|(at, _)| (at, node))
        };
        let Some((at, node)) = self.alive().into_iter().filter_map(deadline).min() else {
            return false;
        };
        // The clock does not wait for the store, but it does not run away either.
        let busy = self.requests.iter().any(|request| request.token.is_some());
        if busy && self.random.percent(70) {
            return true;
        }
        if at > self.now + FAR {
            // It is the next only since everybody else is at work.
            self.now = self.now + seconds(1);
            return true;
        }
        self.now = self.now.max(at);
        self.hear(node, Input::Timeout);
        true
    }
}

/// The tasks: they do what they are told, at any time later.
impl World {
    fn obey(&mut self, node: usize, message: Message) {
        match message {
            Message::Deploy(deployment) => self.deploy(node, deployment),
            Message::StartEpoch { start, .. } => {
                for task in self.nodes[node].tasks.values_mut() {
                    if task.orders.back().is_none_or(|last| last.epoch < start.epoch) {
                        task.orders.push_back(start);
                    }
                }
            }
            Message::Committed { epoch, .. } => self.committed(node, epoch),
            Message::Run { .. } | Message::Shutdown { .. } => {}
            other => panic!("not a message to an executor: {other:?}"),
        }
    }

    fn deploy(&mut self, node: usize, deployment: Deployment) {
        let term = self.nodes[node].master.status(self.now).term;
        let told = self.committed.iter().filter(|(_, by)| **by < term).map(|(epoch, _)| *epoch);
        let told = told.max().unwrap_or_default();
        assert!(told <= deployment.epoch, "{told} was committed and is not gone on from");
        self.seen.recovered += u64::from(deployment.epoch > Epoch(0));
        let attempt = deployment.attempt;
        let ready = |task: &TaskDeployment| Message::Ready { task: task.task, attempt };
        let messages: Vec<Message> = deployment.tasks.iter().map(ready).collect();
        for restored in &deployment.tasks {
            let output = restored.pending.iter().flat_map(|account| &account.objects);
            for object in restored.restore.iter().flatten().chain(output.clone()) {
                let is_there = self.store.contains_key(&object.name);
                assert!(is_there, "{} has to be restored and is gone", object.name);
            }
            let tasks = &mut self.nodes[node].tasks;
            let task = tasks.get_mut(&restored.task).expect("it is in the plan");
            task.last = deployment.epoch;
            task.snapshot.partitions = restored.partitions.clone();
            task.snapshot.objects = output.cloned().collect();
            if let [chain] = restored.restore.as_slice() {
                task.chains.insert(deployment.epoch, chain.clone());
                task.snapshot.chain = chain.clone();
            }
            if restored.finished {
                task.snapshot.chain.clear();
                task.orders.push_front(EpochStart { epoch: Epoch(0), base: None, stop: false });
            }
        }
        self.nodes[node].deployed = Some(deployment);
        self.tell(node, messages);
    }

    fn committed(&mut self, node: usize, epoch: Epoch) {
        let term = self.nodes[node].master.status(self.now).term;
        if self.nodes[node].committed.contains(&epoch) {
            // The other executor is told.
            return;
        }
        let recovered = self.nodes[node].deployed.as_ref().map(|deployed| deployed.epoch);
        let before = self.nodes[node].committed.last().copied().or(recovered);
        if recovered != Some(epoch) {
            assert_eq!(before.map(Epoch::next), Some(epoch), "epochs are committed in order");
            let by = *self.committed.entry(epoch).or_insert(term);
            assert_eq!(by, term, "{epoch} is committed once");
            self.seen.committed += 1;
        }
        for other in &self.nodes {
            let Some(deployed) = &other.deployed else { continue };
            let is_later = other.master.status(self.now).term > term;
            assert!(!is_later || epoch <= deployed.epoch, "a zombie committed {epoch}");
        }
        self.check_store();
        self.nodes[node].committed.push(epoch);
        let sinks = self.nodes[node].sinks.clone();
        let speaking = sinks.difference(&self.mute);
        let attempt = self.attempt(node);
        let visible = speaking.map(|task| Message::SinkCommitted { task: *task, attempt, epoch });
        let visible = visible.collect();
        self.tell(node, visible);
    }

    fn tell(&mut self, node: usize, messages: Vec<Message>) {
        let from = Place::Executor(ExecutorId(0));
        let inbox = &mut self.nodes[node].inbox;
        inbox.extend(messages.into_iter().map(|message| Input::Message { from, message }));
    }

    fn attempt(&self, node: usize) -> Attempt {
        self.nodes[node].deployed.as_ref().map(|deployed| deployed.attempt).unwrap_or_default()
    }

    fn step_tasks(&mut self) -> bool {
        let mut ready = Vec::new();
        for node in self.alive() {
            let tasks = &self.nodes[node].tasks;
            let is_source = |task: &TaskId| task.processor == ProcessorId(0);
            let mut sources = tasks.iter().filter(|(task, _)| is_source(task));
            // Streams end with their sources.
            let has_end = sources.all(|(_, task)| task.finished);
            let acts = |task: &Task| !task.finished && (has_end || !task.orders.is_empty());
            let acting = tasks.iter().filter(|(_, task)| acts(task));
            let acting = acting.filter(|(task, _)| !self.mute.contains(task));
            ready.extend(acting.map(|(task, _)| (node, *task)));
        }
        if ready.is_empty() {
            return false;
        }
        let (node, id) = ready[self.random.below(ready.len())];
        self.step_task(node, id);
        true
    }

    fn step_task(&mut self, node: usize, id: TaskId) {
        let term = self.nodes[node].master.status(self.now).term;
        let attempt = self.attempt(node);
        let ends = self.random.percent(self.ends);
        let is_full = self.random.percent(30);
        let task = self.nodes[node].tasks.get_mut(&id).expect("it is ready");
        let order = task.orders.pop_front().filter(|start| !ends && start.epoch > Epoch(0));
        let Some(start) = order else {
            task.finished = true;
            let (after, snapshot) = (task.last, task.snapshot.clone());
            let message = Message::Finished { task: id, attempt, after, snapshot };
            return self.tell(node, [message].into());
        };
        let epoch = start.epoch;
        let (uid, count) = (&task.uid, attempt.count());
        let name = format!("state/{uid}-{}/t{}-a{count}-e{}", id.index, term.0, epoch.0);
        let base = start.base.and_then(|base| task.chains.get(&base)).filter(|_| !is_full);
        let mut chain = base.cloned().unwrap_or_default();
        chain.push(ObjectRef { name: name.clone(), len: 0, crc: 0 });
        task.chains.insert(epoch, chain.clone());
        task.last = epoch;
        task.snapshot.chain = chain;
        task.snapshot.records += 1;
        // A sink's output waits for two epochs before nothing needs it any more.
        if id.processor == SINK && epoch.0.is_multiple_of(2) {
            let output = name.replacen("state/", "output/", 1) + "-1";
            task.snapshot.objects = [ObjectRef { name: output.clone(), len: 0, crc: 0 }].into();
            task.snapshot.pending = [1].into();
            self.store.insert(output, Vec::new());
        }
        let snapshot = task.snapshot.clone();
        self.store.insert(name, Vec::new());
        self.tell(node, [Message::Snapshot { task: id, attempt, epoch, snapshot }].into());
    }

    /// Runs until an app master has its outcome.
    pub(super) fn finish(&mut self, node: usize) -> Outcome {
        for _ in 0..200_000 {
            if let Some(outcome) = self.outcome(node) {
                return outcome.clone();
            }
            assert!(self.step(), "nothing can happen: {:?}", self.nodes[node].master);
        }
        panic!("the app does not end: {:?}", self.nodes[node].master.status(self.now));
    }

    /// Runs until an app master has told its executors of so many epochs, or has ended.
    pub(super) fn run_epochs(&mut self, node: usize, epochs: usize) {
        for _ in 0..200_000 {
            let is_there = self.nodes[node].committed.len() >= epochs;
            if is_there || self.outcome(node).is_some() {
                return;
            }
            assert!(self.step(), "nothing can happen: {:?}", self.nodes[node].master);
        }
        panic!("no epoch commits: {:?}", self.nodes[node].master.status(self.now));
    }
}
