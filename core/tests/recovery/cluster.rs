//! A cluster in small: masters that grant, app masters, executors, links, one store and one disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use gear_core::app::{AppMaster, AppPlan, Gone, Leave, Outcome, Placement, ProcessorPlan};
use gear_core::checkpoint::Identity;
use gear_core::control::Address;
use gear_core::dag::Kind;
use gear_core::effect::{Effect, IoError, IoErrorKind, IoRequest, Place, StoreReply, StoreRequest};
use gear_core::executor::{Activity, Executor, Program};
use gear_core::flow::push::Guard;
use gear_core::host::Faults;
use gear_core::id::{AppTerm, ExecutorId, TaskId, Token};
use gear_core::message::{Input, Message};
use gear_core::task::{QuarantinePolicy, TaskOptions, World};
use gear_core::time::{Duration, Time, WallTime};

use crate::job::{NoFiles, Numbers, job};
use gear_core::dsl::Job;

/// A small generator, so that a seed means the same run for ever.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// Whoever runs the user's code here does not catch its panics.
pub(crate) struct Trusting;

impl Guard for Trusting {
    fn run(&mut self, call: &mut dyn FnMut()) -> Result<(), String> {
        call();
        Ok(())
    }
}

/// A process: an app master by its number, or an executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Master(usize),
    Executor(ExecutorId),
}

pub(crate) struct Node<F: Faults> {
    pub(crate) machine: Machine<F>,
    /// Answers of the store and what the masters say, heard in this order.
    inbox: VecDeque<Input>,
    /// When it is to have a turn; none if it waits for something.
    due: Option<Time>,
}

pub(crate) enum Machine<F: Faults> {
    Master(Box<AppMaster<F>>),
    /// With the app master that it heard last of all in the highest term.
    Executor(Box<Executor<F>>, Option<(AppTerm, usize)>),
}

pub(crate) struct Cluster<F: Faults> {
    pub(crate) random: Random,
    pub(crate) now: Time,
    numbers: Numbers,
    job: fn(Numbers) -> Job,
    pub(crate) wanted: u32,
    pub(crate) nodes: BTreeMap<Who, Node<F>>,
    /// Messages on their way, in order.
    links: BTreeMap<(Who, Who), VecDeque<Message>>,
    /// Links that are broken for good.
    cut: BTreeSet<(Who, Who)>,
    pub(crate) store: BTreeMap<String, Vec<u8>>,
    requests: Vec<(Who, Token, StoreRequest)>,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    io: BTreeMap<(Who, TaskId), VecDeque<(Token, IoRequest)>>,
    /// What the masters have granted.
    pub(crate) granted: BTreeSet<ExecutorId>,
    next: u32,
    /// App masters that there have been.
    pub(crate) masters: usize,
    /// New executors come up as soon as there are too few.
    pub(crate) replaces: bool,
    pub(crate) notices: Vec<String>,
    /// Per thousand I/O requests that fail.
    pub(crate) io_failures: usize,
    pub(crate) stop_wished: bool,
}

impl<F: Faults> Cluster<F> {
    pub(crate) fn new(seed: u64, wanted: u32, numbers: Numbers) -> Self {
        Self::of(job, seed, wanted, numbers)
    }

    /// A cluster that runs this job.
    pub(crate) fn of(job: fn(Numbers) -> Job, seed: u64, wanted: u32, numbers: Numbers) -> Self {
        let mut cluster = Self {
            job,
            random: Random(seed),
            now: Time::ZERO,
            numbers,
            wanted,
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            store: BTreeMap::new(),
            requests: Vec::new(),
            files: BTreeMap::new(),
            io: BTreeMap::new(),
            granted: BTreeSet::new(),
            next: 0,
            masters: 0,
            replaces: true,
            notices: Vec::new(),
            io_failures: 0,
            stop_wished: false,
        };
        cluster.start_master();
        cluster
    }

    fn plan(&self) -> AppPlan {
        let job = (self.job)(self.numbers);
        let identity = Identity { app: "app".into(), digest: 1, arguments: String::new() };
        let mut plan = AppPlan::new(identity, self.masters as u64);
        plan.term = Some(AppTerm(self.masters as u64));
        plan.epoch_interval = Some(Duration::from_millis(100));
        plan.key_groups = 16;
        for (id, processor) in job.graph.with_ids() {
            let source = job.sources.iter().find(|source| source.processor == id);
            let partitions = source.map(|source| source.connector.partitions(&mut NoFiles));
            plan.processors.push(ProcessorPlan {
                id,
                uid: processor.uid.clone(),
                parallelism: processor.parallelism,
                source: processor.kind == Kind::Source,
                sink: processor.kind == Kind::Sink,
                partitions: partitions.map(|names| names.expect("known")).unwrap_or_default(),
                discovers: false,
            });
        }
        let channels = job.graph.joined_tasks().collect();
        plan.placement = Placement::Executors { wanted: self.wanted, channels };
        plan
    }

    /// A new app master; whoever leads now is left behind.
    pub(crate) fn start_master(&mut self) -> Who {
        self.masters += 1;
        let who = Who::Master(self.masters);
        let machine = Machine::Master(Box::new(AppMaster::new(self.plan())));
        let mut inbox = VecDeque::from([Input::Start]);
        inbox.push_back(Input::Executors { granted: self.granted.clone() });
        for executor in &self.granted {
            inbox.push_back(self.link_of(*executor));
        }
        if self.stop_wished {
            inbox.push_back(Input::Stop);
        }
        self.nodes.insert(who, Node { machine, inbox, due: None });
        who
    }

    fn link_of(&self, executor: ExecutorId) -> Input {
        if self.nodes.contains_key(&Who::Executor(executor)) {
            Input::ExecutorUp { executor, address: Address(executor.to_string()) }
        } else {
            Input::ExecutorLost { executor, reason: "its process is gone".into() }
        }
    }

    pub(crate) fn leader(&self) -> Who {
        Who::Master(self.masters)
    }

    pub(crate) fn master(&self) -> &AppMaster<F> {
        match &self.nodes[&self.leader()].machine {
            Machine::Master(master) => master,
            Machine::Executor(..) => unreachable!("it is an app master"),
        }
    }

    /// Asks the app master that leads for what is in the quarantine to leave it.
    pub(crate) fn leave_quarantine(&mut self, id: u64, leave: Leave) {
        let (now, who) = (self.now, self.leader());
        let mut fx = Vec::new();
        let Some(node) = self.nodes.get_mut(&who) else { return };
        if let Machine::Master(master) = &mut node.machine {
            master.leave_quarantine(now, id, leave, &mut fx);
        }
        self.perform(who, fx);
    }

    /// What has come of it.
    pub(crate) fn gone(&mut self) -> Vec<Gone> {
        let who = self.leader();
        match self.nodes.get_mut(&who).map(|node| &mut node.machine) {
            Some(Machine::Master(master)) => master.gone(),
            _ => Vec::new(),
        }
    }

    /// The executors that run and are granted.
    pub(crate) fn executors(&self) -> Vec<ExecutorId> {
        let runs = |id: &ExecutorId| self.nodes.contains_key(&Who::Executor(*id));
        self.granted.iter().copied().filter(runs).collect()
    }

    pub(crate) fn launch(&mut self) {
        let id = ExecutorId(self.next);
        self.next += 1;
        let options = TaskOptions { align: true, quarantine: QuarantinePolicy::Keep };
        let job = (self.job)(self.numbers);
        let program = Program { graph: job.graph, factories: job.factories, options };
        let executor = Executor::new(id, Arc::new(program), 0);
        let machine = Machine::Executor(Box::new(executor), None);
        self.nodes.insert(Who::Executor(id), Node { machine, inbox: VecDeque::new(), due: None });
        self.granted.insert(id);
        self.tell(Input::Executors { granted: self.granted.clone() });
        self.tell(self.link_of(id));
    }

    fn tell(&mut self, input: Input) {
        let leader = self.leader();
        if let Some(node) = self.nodes.get_mut(&leader) {
            node.inbox.push_back(input);
        }
    }

    /// The process is gone; what it has asked store and disk for may still be done, or may not.
    pub(crate) fn kill(&mut self, who: Who) {
        self.nodes.remove(&who);
        let keeps: Vec<bool> = self.requests.iter().map(|_| self.random.below(2) == 0).collect();
        let mut keeps = keeps.into_iter();
        self.requests.retain(|(from, ..)| keeps.next() == Some(true) || *from != who);
        for ((from, _), queue) in &mut self.io {
            if *from == who {
                queue.truncate(self.random.below(queue.len() + 1));
            }
        }
        self.links.retain(|(from, to), _| *from != who && *to != who);
        if let Who::Executor(executor) = who {
            self.lose(executor);
        }
    }

    /// The masters and the app master take an executor for lost; its process may go on.
    pub(crate) fn lose(&mut self, executor: ExecutorId) {
        self.granted.remove(&executor);
        let who = Who::Executor(executor);
        for master in (1..=self.masters).map(Who::Master) {
            self.cut.insert((who, master));
            self.cut.insert((master, who));
        }
        self.tell(Input::Executors { granted: self.granted.clone() });
        self.tell(Input::ExecutorLost { executor, reason: "nothing is heard of it".into() });
    }

    /// Does one thing out of all that could happen next; false if nothing could.
    pub(crate) fn step(&mut self) -> bool {
        let lacks = self.replaces && self.granted.len() < self.wanted as usize;
        if lacks && self.random.below(8) == 0 {
            self.launch();
        }
        let first = self.random.below(5);
        let happens = (0..5).any(|turn| match (first + turn) % 5 {
            0 => self.step_inbox(),
            1 => self.step_link(),
            2 => self.step_store(),
            3 => self.step_io(),
            _ => self.step_clock(),
        });
        if !happens && lacks {
            self.launch();
        }
        happens || lacks
    }

    fn step_inbox(&mut self) -> bool {
        let waiting: Vec<Who> =
            self.nodes.iter().filter(|(_, node)| !node.inbox.is_empty()).map(|it| *it.0).collect();
        if waiting.is_empty() {
            return false;
        }
        let who = waiting[self.random.below(waiting.len())];
        let input = self.nodes.get_mut(&who).and_then(|node| node.inbox.pop_front());
        self.hear(who, input.expect("it waits"));
        true
    }

    fn step_link(&mut self) -> bool {
        self.links.retain(|_, queue| !queue.is_empty());
        if self.links.is_empty() {
            return false;
        }
        let place = self.random.below(self.links.len());
        let (&(from, to), queue) = self.links.iter_mut().nth(place).expect("it is there");
        let message = queue.pop_front().expect("it is not empty");
        let place = match from {
            Who::Master(_) => Place::AppMaster,
            Who::Executor(id) => Place::Executor(id),
        };
        if let (Who::Master(number), Message::TakeOver { term }) = (from, &message)
            && let Some(Node { machine: Machine::Executor(_, heard), .. }) = self.nodes.get_mut(&to)
            && heard.is_none_or(|(before, _)| before <= *term)
        {
            *heard = Some((*term, number));
        }
        self.hear(to, Input::Message { from: place, message });
        true
    }

    pub(crate) fn hear(&mut self, who: Who, input: Input) {
        let mut fx = Vec::new();
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&who) else { return };
        match &mut node.machine {
            Machine::Master(master) => master.handle(now, input, &mut fx),
            Machine::Executor(executor, _) => {
                let wall = WallTime((now.0 / 1_000) as i64);
                let (mut files, mut guard) = (NoFiles, Trusting);
                let mut world = World { now, wall, files: &mut files, guard: &mut guard };
                executor.handle(input, &mut world, &mut fx);
                node.due = Some(now);
            }
        }
        let ends = matches!(&node.machine, Machine::Executor(it, _) if it.is_stopped());
        self.perform(who, fx);
        if ends {
            self.kill(who);
        }
    }

    fn turn(&mut self, who: Who) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&who) else { return };
        let Machine::Executor(executor, _) = &mut node.machine else { return };
        if executor.is_stopped() {
            node.due = None;
            return;
        }
        let mut fx = Vec::new();
        let wall = WallTime((now.0 / 1_000) as i64);
        let (mut files, mut guard) = (NoFiles, Trusting);
        let mut world = World { now, wall, files: &mut files, guard: &mut guard };
        node.due = match executor.run(&mut world, &mut fx) {
            Activity::Busy => Some(now),
            Activity::Idle(until) => until,
        };
        self.perform(who, fx);
    }

    fn perform(&mut self, who: Who, fx: Vec<Effect>) {
        for effect in fx {
            match effect {
                Effect::Send { to, message } => {
                    let to = match (to, &self.nodes[&who].machine) {
                        (Place::Executor(id), _) => Who::Executor(id),
                        (_, Machine::Executor(_, Some((_, master)))) => Who::Master(*master),
                        _ => continue,
                    };
                    if self.nodes.contains_key(&to) && !self.cut.contains(&(who, to)) {
                        self.links.entry((who, to)).or_default().push_back(message);
                    }
                }
                Effect::Store { token, request } => self.requests.push((who, token, request)),
                Effect::Io { task, token, request } => {
                    self.io.entry((who, task)).or_default().push_back((token, request));
                }
                Effect::Notice(notice) => self.notices.push(notice.text),
            }
        }
    }

    fn step_store(&mut self) -> bool {
        if self.requests.is_empty() {
            return false;
        }
        let place = self.random.below(self.requests.len());
        if !self.nodes.contains_key(&self.requests[place].0) && self.random.below(20) > 0 {
            // What the dead have asked for takes its time.
            return self.requests.iter().any(|(who, ..)| self.nodes.contains_key(who));
        }
        let (who, token, request) = self.requests.swap_remove(place);
        let reply = self.stored(request);
        if let Some(node) = self.nodes.get_mut(&who) {
            node.inbox.push_back(Input::Stored { token, reply });
        }
        true
    }

    fn stored(&mut self, request: StoreRequest) -> StoreReply {
        match request {
            StoreRequest::Put { name, bytes } => {
                self.store.insert(name, bytes.to_vec());
                StoreReply::Done
            }
            StoreRequest::Create { name, .. } if self.store.contains_key(&name) => {
                StoreReply::Exists
            }
            StoreRequest::Create { name, bytes } => {
                self.store.insert(name, bytes.to_vec());
                StoreReply::Done
            }
            StoreRequest::Get { name } => {
                self.store.get(&name).cloned().map_or(StoreReply::Missing, StoreReply::Bytes)
            }
            StoreRequest::List { prefix } => {
                let names = self.store.keys().filter(|name| name.starts_with(&prefix));
                StoreReply::Names(names.cloned().collect())
            }
            StoreRequest::Delete { name } => {
                self.store.remove(&name);
                StoreReply::Done
            }
        }
    }

    fn step_io(&mut self) -> bool {
        self.io.retain(|_, queue| !queue.is_empty());
        if self.io.is_empty() {
            return false;
        }
        let place = self.random.below(self.io.len());
        let (&(who, task), queue) = self.io.iter_mut().nth(place).expect("it is there");
        let (token, request) = queue.pop_front().expect("it is not empty");
        let fails = self.nodes.contains_key(&who) && self.random.below(1_000) < self.io_failures;
        let result = if fails {
            let reason = "the disk is full".to_owned();
            Err(IoError { path: "disk".into(), reason, kind: IoErrorKind::Full })
        } else {
            self.write(request).map(|()| Vec::new())
        };
        if let Some(node) = self.nodes.get_mut(&who) {
            node.inbox.push_back(Input::IoDone { task, token, result });
        }
        true
    }

    fn write(&mut self, request: IoRequest) -> Result<(), IoError> {
        match request {
            IoRequest::Write { path, bytes, .. } => {
                self.files.insert(path, bytes);
            }
            IoRequest::Publish { from, to } => match self.files.remove(&from) {
                Some(bytes) => {
                    self.files.insert(to, bytes);
                }
                None if self.files.contains_key(&to) => {}
                None => {
                    let reason = "there is no such file".to_owned();
                    return Err(IoError { path: from, reason, kind: IoErrorKind::NotFound });
                }
            },
            IoRequest::Sync { .. } => {}
            other => panic!("the sink of this job does not ask for {other:?}"),
        }
        Ok(())
    }

    fn step_clock(&mut self) -> bool {
        let deadline = |(who, node): (&Who, &Node<F>)| match &node.machine {
            Machine::Master(master) => master.next_timeout().map(|(at, _)| (at, *who)),
            Machine::Executor(..) => node.due.map(|at| (at, *who)),
        };
        let mut due: Vec<(Time, Who)> = self.nodes.iter().filter_map(deadline).collect();
        due.sort_unstable();
        let Some(&(first, _)) = due.first() else { return false };
        // The clock does not wait for anybody, but it does not run away either.
        let waits = self.nodes.values().any(|node| !node.inbox.is_empty());
        let waits = waits || !self.links.is_empty() || !self.requests.is_empty();
        if first > self.now && waits && self.random.below(10) > 0 {
            return true;
        }
        self.now = self.now.max(first);
        due.retain(|(at, _)| *at <= self.now);
        let (_, who) = due[self.random.below(due.len())];
        match who {
            Who::Master(_) => self.hear(who, Input::Timeout),
            Who::Executor(_) => self.turn(who),
        }
        true
    }

    /// Runs until something is so.
    pub(crate) fn until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        for _ in 0..400_000 {
            if is_so(self) {
                return;
            }
            assert!(self.step(), "nothing can happen, and not {what}: {:?}", self.status());
        }
        panic!("not {what}: {:?}", self.status());
    }

    fn status(&self) -> impl std::fmt::Debug + '_ {
        let last = self.notices.len().saturating_sub(12);
        (self.now, self.master().status(self.now), &self.notices[last..])
    }

    pub(crate) fn committed(&self) -> u64 {
        self.master().status(self.now).committed.map_or(0, |epoch| epoch.0)
    }

    pub(crate) fn until_committed(&mut self, more: u64) {
        let wanted = self.committed() + more;
        self.until("committed", |it| it.committed() >= wanted || it.master().outcome().is_some());
    }

    pub(crate) fn finish(&mut self) -> Outcome {
        self.until("an outcome", |it| it.master().outcome().is_some());
        self.master().outcome().cloned().expect("it was just seen")
    }
}
