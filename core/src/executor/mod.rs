//! An executor: the tasks of one thread or process, and the channels among them.
//!
//! What flows between two of its own tasks is handed over at once; everything else is a message.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::dag::{Graph, Kind};
use crate::effect::{Effect, Level, Notice, Place};
use crate::flow::logic::{Factory, TaskInfo};
use crate::flow::outputs::{OutputEdge, Outputs};
use crate::host::figures::TaskFigures;
use crate::host::{Fault, Faults, NoFaults};
use crate::id::{AppTerm, Attempt, ChannelId, ExecutorId, TaskId};
use crate::message::{Deployment, Input, Item, Message};
use crate::task::{Figures, Task, TaskOptions, TaskParts, Turn, World};
use crate::time::Time;

/// What every executor of a job knows: the graph, and how its tasks are made.
#[derive(Clone)]
pub struct Program {
    /// The graph.
    pub graph: Graph,
    /// How the tasks of each processor are made, by processor.
    pub factories: Vec<Factory>,
    /// How tasks treat barriers and bad records.
    pub options: TaskOptions,
}

/// Bits of a token that a task counts itself; above them is its serial number in the executor.
const TASK_TOKEN_BITS: u32 = 40;

/// Why an executor runs nothing of an app master that has another graph: the same channel would
/// lead elsewhere.
const OTHER_GRAPH: &str = "the job described another graph in this process than in that of its app \
    master; its function has to describe the same streams whenever it is called with the same \
    arguments: let nothing in it depend on the machine, the time, the environment, chance, or the \
    order of a HashMap";

/// Where a channel leads.
#[derive(Clone, Copy, Debug)]
enum Route {
    Local { task: usize, input: usize },
    Remote(ExecutorId),
}

/// A task, and what the executor knows of it.
struct Deployed<F: Faults> {
    task: Task<F>,
    attempt: Attempt,
    /// The term of the app master that deployed it.
    term: AppTerm,
    /// Its number among all that this executor has ever had; the upper part of its tokens.
    serial: u64,
    /// By output slot.
    routes: Vec<Route>,
}

/// The tasks of one thread or process.
pub struct Executor<F: Faults = NoFaults> {
    id: ExecutorId,
    program: Arc<Program>,
    /// The highest term in which an app master has spoken: lower ones are fenced.
    term: AppTerm,
    /// Downstream first: what is nearest to its end is worked off before more is begun.
    tasks: Vec<Deployed<F>>,
    /// Tasks that there have been.
    serials: u64,
    /// The place of each task, by its serial number.
    places: BTreeMap<u64, usize>,
    /// The task and slot that send on a channel.
    senders: BTreeMap<ChannelId, (usize, usize)>,
    /// The task and input that receive on a channel.
    receivers: BTreeMap<ChannelId, (usize, usize)>,
    /// Where each task of the app runs, and the attempt since which it does.
    placement: BTreeMap<TaskId, (ExecutorId, Attempt)>,
    /// Items of a deployment that this executor has not got yet.
    early: Vec<(Attempt, ChannelId, Item)>,
    stopped: bool,
    /// Bytes that tasks may hold together; 0 for no limit.
    memory: usize,
    rounds: u32,
}

/// What a round over the tasks came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// There may be more to do at once.
    Busy,
    /// Nothing to do until a message comes, or until this time.
    Idle(Option<Time>),
}

/// Items for a deployment to come that are kept. A task sends nothing before `Run`, which is given
/// when every task of the region is ready, so there are none unless an app master errs.
const EARLY_MAX: usize = 1_024;
/// Rounds between two looks at the memory in use.
const MEMORY_ROUNDS: u32 = 64;

impl<F: Faults> Executor<F> {
    /// An executor without tasks. `memory` bounds the bytes that its tasks hold.
    #[must_use]
    pub const fn new(id: ExecutorId, program: Arc<Program>, memory: usize) -> Self {
        Self {
            id,
            program,
            term: AppTerm(0),
            tasks: Vec::new(),
            serials: 0,
            places: BTreeMap::new(),
            senders: BTreeMap::new(),
            receivers: BTreeMap::new(),
            placement: BTreeMap::new(),
            early: Vec::new(),
            stopped: false,
            memory,
            rounds: 0,
        }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> ExecutorId {
        self.id
    }

    /// True after [`Message::Shutdown`].
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The figures of each task, with its processor's name.
    pub fn figures(&mut self) -> Vec<(TaskId, Figures)> {
        self.tasks.iter_mut().map(|there| (there.task.id(), there.task.figures())).collect()
    }

    /// All that people see of the tasks.
    pub fn task_figures(&mut self) -> BTreeMap<TaskId, TaskFigures> {
        let figures = self.tasks.iter_mut().map(|there| {
            let figures = there.task.figures();
            let connector = there.task.connector_figures();
            let info = there.task.info();
            (info.task, TaskFigures::new(info.uid.clone(), there.attempt, figures, connector))
        });
        figures.collect()
    }

    /// Its tasks, in the order of [`Self::figures`].
    pub fn tasks(&self) -> impl Iterator<Item = &Task<F>> {
        self.tasks.iter().map(|there| &there.task)
    }

    /// Hears something.
    pub fn handle(&mut self, input: Input, world: &mut World<'_>, fx: &mut Vec<Effect>) {
        if self.stopped {
            return;
        }
        match input {
            Input::Message { message, .. } => self.message(message, world, fx),
            Input::Stored { token, reply } => {
                if let Some(&place) = self.places.get(&(token.0 >> TASK_TOKEN_BITS)) {
                    self.tasks[place].task.stored(token, reply, world, fx);
                }
            }
            Input::IoDone { token, result, .. } => {
                if let Some(&place) = self.places.get(&(token.0 >> TASK_TOKEN_BITS)) {
                    self.tasks[place].task.io_done(token, result, world, fx);
                }
            }
            Input::Start
            | Input::Executors { .. }
            | Input::ExecutorUp { .. }
            | Input::ExecutorLost { .. }
            | Input::Stop
            | Input::Timeout => {}
        }
    }

    /// What came over a channel is not what was sent: the task that reads it cannot go on.
    pub fn fail_channel(&mut self, channel: ChannelId, reason: &str, fx: &mut Vec<Effect>) {
        if let Some(&(task, _)) = self.receivers.get(&channel) {
            self.tasks[task].task.fail(reason.into(), fx);
        }
    }

    fn message(&mut self, message: Message, world: &mut World<'_>, fx: &mut Vec<Effect>) {
        if let Some(term) = term_of(&message) {
            if term < self.term && !F::has(Fault::AcceptOldAppTerm) {
                return;
            }
            self.term = self.term.max(term);
        }
        match message {
            Message::Deploy(deployment) => self.deploy(deployment, fx),
            Message::Run { attempt, .. } => {
                let started = self.tasks.iter_mut().filter(|there| there.attempt == attempt);
                started.for_each(|there| there.task.run());
            }
            Message::StartEpoch { start, .. } => {
                self.tasks.iter_mut().for_each(|there| there.task.start_epoch(start));
            }
            Message::Committed { epoch, .. } => {
                for there in &mut self.tasks {
                    there.task.committed(epoch, world, fx);
                }
            }
            Message::Replay { task, attempt, objects, .. } => {
                let mut tasks = self.tasks.iter_mut();
                let is_it =
                    |there: &&mut Deployed<F>| there.task.id() == task && there.attempt == attempt;
                if let Some(there) = tasks.find(is_it) {
                    there.task.replay(objects, fx);
                }
            }
            Message::TakeOver { term } => {
                let tasks = self.tasks.iter().map(|there| there.task.report(there.term)).collect();
                let message = Message::Report { term, tasks };
                fx.push(Effect::Send { to: Place::AppMaster, message });
            }
            Message::Shutdown { .. } => self.stopped = true,
            Message::Item { channel, attempt, item } => self.item(channel, attempt, item, fx),
            Message::Credit { channel, attempt, bytes, buffer } => {
                if let Some(&(task, slot)) = self.senders.get(&channel)
                    && self.tasks[task].attempt == attempt
                {
                    self.tasks[task].task.credit(slot, bytes, buffer);
                }
            }
            _ => {}
        }
    }

    fn item(&mut self, channel: ChannelId, attempt: Attempt, item: Item, fx: &mut Vec<Effect>) {
        if let Some(&(task, input)) = self.receivers.get(&channel)
            && self.tasks[task].attempt == attempt
        {
            self.tasks[task].task.receive(input, item);
            return;
        }
        let receiver = self.receiver(channel);
        let known = self.placement.get(&receiver).map(|(_, attempt)| *attempt);
        if known.is_some_and(|known| attempt <= known) {
            return;
        }
        if self.early.len() < EARLY_MAX {
            self.early.push((attempt, channel, item));
            return;
        }
        let reason = format!(
            "more than {EARLY_MAX} items came for {receiver} before it was deployed; this is a \
             defect of Gear: please report it"
        );
        self.stop(receiver, attempt, reason, fx);
    }

    /// Makes the tasks of a deployment, in the place of those of an earlier attempt.
    fn deploy(&mut self, deployment: Deployment, fx: &mut Vec<Effect>) {
        let attempt = deployment.attempt;
        let is_over = |(task, _): &(TaskId, ExecutorId)| match self.placement.get(task) {
            Some((_, known)) if F::has(Fault::ReuseAttemptOnRollBack) => *known > attempt,
            Some((_, known)) => *known >= attempt,
            None => false,
        };
        if deployment.placement.iter().any(is_over) {
            return;
        }
        if deployment.graph.is_some_and(|graph| graph != self.program.graph.digest())
            && let Some((task, _)) = deployment.placement.first()
        {
            return self.stop(*task, attempt, OTHER_GRAPH.into(), fx);
        }
        let placed = deployment.placement.iter();
        let placed: BTreeMap<_, _> = placed.map(|(task, at)| (*task, (*at, attempt))).collect();
        self.tasks.retain(|there| !placed.contains_key(&there.task.id()));
        self.placement.extend(placed);
        for task in deployment.tasks {
            self.serials += 1;
            let parts = parts(
                &self.program,
                task.task,
                (deployment.term, attempt, deployment.key_groups),
                self.serials << TASK_TOKEN_BITS,
            );
            self.tasks.push(Deployed {
                task: Task::new(parts, task, deployment.epoch),
                attempt,
                term: deployment.term,
                serial: self.serials,
                routes: Vec::new(),
            });
        }
        let order = self.program.graph.topological_order().expect("the graph was validated");
        let rank: BTreeMap<_, _> =
            order.into_iter().enumerate().map(|(rank, processor)| (processor, rank)).collect();
        self.tasks.sort_by_key(|there| {
            let task = there.task.id();
            (core::cmp::Reverse(rank.get(&task.processor).copied()), task)
        });
        self.connect();
        for (attempt, channel, item) in core::mem::take(&mut self.early) {
            self.item(channel, attempt, item, fx);
        }
    }

    /// Notes which place sends and receives on each channel.
    fn connect(&mut self) {
        self.places.clear();
        self.senders.clear();
        self.receivers.clear();
        for (place, there) in self.tasks.iter().enumerate() {
            self.places.insert(there.serial, place);
            for (input, (channel, _)) in
                inputs(&self.program.graph, there.task.id()).iter().enumerate()
            {
                self.receivers.insert(*channel, (place, input));
            }
        }
        for place in 0..self.tasks.len() {
            let channels = self.tasks[place].task.output_channels().to_vec();
            let attempt = self.tasks[place].attempt;
            let routes = channels.into_iter().enumerate().map(|(slot, channel)| {
                self.senders.insert(channel, (place, slot));
                match self.receivers.get(&channel) {
                    Some(&(task, input)) if self.tasks[task].attempt == attempt => {
                        Route::Local { task, input }
                    }
                    _ => Route::Remote(self.placed(self.receiver(channel))),
                }
            });
            self.tasks[place].routes = routes.collect();
        }
    }

    /// The task that receives on a channel.
    fn receiver(&self, channel: ChannelId) -> TaskId {
        let processor = self.program.graph.edges[channel.edge as usize].to;
        TaskId { processor, index: channel.to }
    }

    fn placed(&self, task: TaskId) -> ExecutorId {
        self.placement.get(&task).expect("every task of a region is placed").0
    }

    /// Gives each task a turn.
    pub fn run(&mut self, world: &mut World<'_>, fx: &mut Vec<Effect>) -> Activity {
        let mut until: Option<Time> = None;
        let mut busy = false;
        for place in 0..self.tasks.len() {
            match self.turn(place, world, fx) {
                Turn::Busy => busy = true,
                Turn::Waits(Some(at)) => until = Some(until.map_or(at, |until| until.min(at))),
                Turn::Waits(None) => {}
            }
        }
        self.end_round(fx);
        if busy { Activity::Busy } else { Activity::Idle(until) }
    }

    /// Looks at the memory in use, now and then; for a driver that gives the turns itself.
    pub fn end_round(&mut self, fx: &mut Vec<Effect>) {
        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds.is_multiple_of(MEMORY_ROUNDS) {
            self.check_memory(fx);
        }
    }

    /// The tasks, by place: for a driver that names the one whose turn takes too long.
    #[must_use]
    pub fn task_name(&self, place: usize) -> Option<String> {
        self.tasks.get(place).map(|there| {
            let info = there.task.info();
            format!("{}[{}]", info.uid, info.task.index)
        })
    }

    /// How many tasks there are.
    #[must_use]
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// One task's turn.
    pub fn turn(&mut self, place: usize, world: &mut World<'_>, fx: &mut Vec<Effect>) -> Turn {
        let mut turn = self.tasks[place].task.step(world, fx);
        let attempt = self.tasks[place].attempt;
        while let Some((slot, item)) = self.tasks[place].task.take_ready() {
            match self.tasks[place].routes[slot] {
                Route::Local { task, input } => {
                    self.tasks[task].task.receive(input, item);
                    turn = Turn::Busy;
                }
                Route::Remote(to) => {
                    let channel = self.tasks[place].task.channel(slot);
                    let message = Message::Item { channel, attempt, item };
                    fx.push(Effect::Send { to: Place::Executor(to), message });
                    // There is room again for what it could not emit.
                    turn = Turn::Busy;
                }
            }
        }
        while let Some((channel, bytes, buffer)) = self.tasks[place].task.take_credit() {
            if let Some(&(task, slot)) = self.senders.get(&channel)
                && self.tasks[task].attempt == attempt
            {
                self.tasks[task].task.credit(slot, bytes, buffer);
                turn = Turn::Busy;
            } else {
                let processor = self.program.graph.edges[channel.edge as usize].from;
                let to = self.placed(TaskId { processor, index: channel.from });
                let message = Message::Credit { channel, attempt, bytes, buffer };
                fx.push(Effect::Send { to: Place::Executor(to), message });
            }
        }
        turn
    }

    fn check_memory(&mut self, fx: &mut Vec<Effect>) {
        if self.memory == 0 || self.stopped {
            return;
        }
        let held: Vec<usize> = self.tasks.iter_mut().map(|there| there.task.allocated()).collect();
        let total: usize = held.iter().sum();
        if total <= self.memory {
            return;
        }
        let largest = (0..held.len()).max_by_key(|place| held[*place]).unwrap_or(0);
        let info = self.tasks[largest].task.info();
        let reason = format!(
            "the memory budget of this executor, {} MiB, is used up: {} holds {} MiB; give the job \
             more with --memory, spread it over more tasks with --parallelism, or let its state \
             expire",
            self.memory >> 20,
            info.uid,
            held[largest] >> 20,
        );
        self.stop(info.task, info.attempt, reason, fx);
    }

    /// The executor cannot go on.
    fn stop(&mut self, task: TaskId, attempt: Attempt, reason: String, fx: &mut Vec<Effect>) {
        if core::mem::replace(&mut self.stopped, true) {
            return;
        }
        fx.push(Effect::Notice(Notice { level: Level::Error, text: reason.clone() }));
        let message = Message::Failed { task, attempt, reason };
        fx.push(Effect::Send { to: Place::AppMaster, message });
    }
}

/// The term of the app master that says this; none if an executor does.
fn term_of(message: &Message) -> Option<AppTerm> {
    match message {
        Message::Deploy(deployment) => Some(deployment.term),
        Message::Run { term, .. }
        | Message::StartEpoch { term, .. }
        | Message::Committed { term, .. }
        | Message::Replay { term, .. }
        | Message::TakeOver { term }
        | Message::Shutdown { term } => Some(*term),
        Message::Ready { .. }
        | Message::Report { .. }
        | Message::Snapshot { .. }
        | Message::Finished { .. }
        | Message::SinkCommitted { .. }
        | Message::Failed { .. }
        | Message::Replayed { .. }
        | Message::PeerLost { .. }
        | Message::Figures(_)
        | Message::Credit { .. }
        | Message::Item { .. } => None,
    }
}

/// What a task of this program is made of.
fn parts(
    program: &Program,
    task: TaskId,
    (term, attempt, key_groups): (AppTerm, Attempt, u32),
    tokens: u64,
) -> TaskParts {
    let graph = &program.graph;
    let processor = graph.processor(task.processor).expect("the task is of this graph");
    let info = TaskInfo {
        app: graph.name.clone(),
        task,
        uid: processor.uid.clone(),
        parallelism: processor.parallelism,
        key_groups,
        attempt,
    };
    let outputs = outputs(graph, task);
    let factory = &program.factories[task.processor.0 as usize];
    TaskParts {
        logic: factory(&info, outputs),
        options: program.options,
        inputs: inputs(graph, task),
        is_sink: processor.kind == Kind::Sink,
        store_prefix: format!("{}-{}/t{:010}-a{}", info.uid, task.index, term.0, attempt.count()),
        tokens,
        info,
    }
}

fn channels(graph: &Graph, number: usize) -> impl Iterator<Item = ChannelId> {
    let channels = graph.channels_of_edge(&graph.edges[number]);
    channels.map(move |(from, to)| ChannelId { edge: number as u32, from, to })
}

fn inputs(graph: &Graph, task: TaskId) -> Vec<(ChannelId, u32)> {
    let mut inputs = Vec::new();
    for (number, edge) in graph.edges.iter().enumerate() {
        if edge.to != task.processor {
            continue;
        }
        let channels = channels(graph, number).filter(|channel| channel.to == task.index);
        inputs.extend(channels.map(|channel| (channel, edge.input)));
    }
    inputs
}

fn outputs(graph: &Graph, task: TaskId) -> Outputs {
    let ports = graph.processor(task.processor).map_or(0, |processor| processor.outputs.len());
    let mut by_port: Vec<(bool, Vec<OutputEdge>)> = Vec::new();
    by_port.resize_with(ports, || (false, Vec::new()));
    for (number, edge) in graph.edges.iter().enumerate() {
        if edge.from != task.processor {
            continue;
        }
        let channels = channels(graph, number).filter(|channel| channel.from == task.index);
        let channels: Vec<ChannelId> = channels.collect();
        let (timed, edges) = &mut by_port[edge.output as usize];
        *timed |= edge.timed;
        edges.push(OutputEdge { partitioner: edge.partitioner.clone(), channels });
    }
    Outputs::new(by_port)
}
