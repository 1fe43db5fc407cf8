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
use crate::host::{Faults, NoFaults};
use crate::id::{AppTerm, Attempt, ChannelId, ExecutorId, ProcessorId, TaskId};
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

/// Bits of a token that a task counts itself; above them is its place in the executor.
const TASK_TOKEN_BITS: u32 = 40;

/// Where a channel leads.
#[derive(Clone, Copy, Debug)]
enum Route {
    Local { task: usize, input: usize },
    Remote(ExecutorId),
}

/// The tasks of one thread or process.
pub struct Executor<F: Faults = NoFaults> {
    id: ExecutorId,
    program: Arc<Program>,
    attempt: Attempt,
    tasks: Vec<Task<F>>,
    /// Of each task, by output slot.
    routes: Vec<Vec<Route>>,
    /// The task and slot that send on a channel.
    senders: BTreeMap<ChannelId, (usize, usize)>,
    /// The task and input that receive on a channel.
    receivers: BTreeMap<ChannelId, (usize, usize)>,
    placement: BTreeMap<TaskId, ExecutorId>,
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

/// Items for a deployment to come that are kept.
const EARLY_MAX: usize = 65_536;
/// Rounds between two looks at the memory in use.
const MEMORY_ROUNDS: u32 = 64;

impl<F: Faults> Executor<F> {
    /// An executor without tasks. `memory` bounds the bytes that its tasks hold.
    #[must_use]
    pub const fn new(id: ExecutorId, program: Arc<Program>, memory: usize) -> Self {
        Self {
            id,
            program,
            attempt: Attempt(0),
            tasks: Vec::new(),
            routes: Vec::new(),
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
        self.tasks.iter_mut().map(|task| (task.id(), task.figures())).collect()
    }

    /// Hears something.
    pub fn handle(&mut self, input: Input, world: &mut World<'_>, fx: &mut Vec<Effect>) {
        match input {
            Input::Message { message, .. } => self.message(message, world, fx),
            Input::Stored { token, reply } => {
                let place = (token.0 >> TASK_TOKEN_BITS) as usize;
                if let Some(task) = place.checked_sub(1).and_then(|at| self.tasks.get_mut(at)) {
                    task.stored(token, reply, world.now, fx);
                }
            }
            Input::IoDone { task, token, result } => {
                if let Some(task) = self.tasks.iter_mut().find(|other| other.id() == task) {
                    task.io_done(token, result, world.now, fx);
                }
            }
            Input::Start | Input::Stop | Input::Timeout => {}
        }
    }

    fn message(&mut self, message: Message, world: &mut World<'_>, fx: &mut Vec<Effect>) {
        match message {
            Message::Deploy(deployment) => self.deploy(deployment),
            Message::Run => self.tasks.iter_mut().for_each(Task::run),
            Message::StartEpoch(start) => {
                self.tasks.iter_mut().for_each(|task| task.start_epoch(start));
            }
            Message::Committed { epoch } => {
                for task in &mut self.tasks {
                    task.committed(epoch, world, fx);
                }
            }
            Message::Shutdown => self.stopped = true,
            Message::Item { channel, attempt, item } => self.item(channel, attempt, item),
            Message::Credit { channel, attempt, bytes, buffer } => {
                if attempt == self.attempt
                    && let Some(&(task, slot)) = self.senders.get(&channel)
                {
                    self.tasks[task].credit(slot, bytes, buffer);
                }
            }
            _ => {}
        }
    }

    fn item(&mut self, channel: ChannelId, attempt: Attempt, item: Item) {
        if attempt == self.attempt {
            if let Some(&(task, input)) = self.receivers.get(&channel) {
                self.tasks[task].receive(input, item);
            }
        } else if attempt > self.attempt && self.early.len() < EARLY_MAX {
            self.early.push((attempt, channel, item));
        }
    }

    /// Makes the tasks of a deployment; a later attempt replaces those of an earlier one.
    fn deploy(&mut self, deployment: Deployment) {
        if deployment.attempt <= self.attempt {
            return;
        }
        self.attempt = deployment.attempt;
        self.placement = deployment.placement.into_iter().collect();
        self.tasks.clear();
        self.routes.clear();
        self.senders.clear();
        self.receivers.clear();
        let mut assigned = deployment.tasks;
        // Downstream first: what is nearest to its end is worked off before more is begun.
        let order = self.program.graph.topological_order().expect("the graph was validated");
        let rank = |processor: ProcessorId| order.iter().position(|other| *other == processor);
        assigned.sort_by_key(|task| (core::cmp::Reverse(rank(task.task.processor)), task.task));
        for (place, task) in assigned.into_iter().enumerate() {
            let parts =
                parts(&self.program, task.task, (deployment.term, deployment.key_groups), place);
            for (input, (channel, _)) in parts.inputs.iter().enumerate() {
                self.receivers.insert(*channel, (place, input));
            }
            self.tasks.push(Task::new(parts, task, deployment.epoch));
        }
        for place in 0..self.tasks.len() {
            let channels = self.tasks[place].output_channels().to_vec();
            let routes = channels.into_iter().enumerate();
            let routes = routes.map(|(slot, channel)| {
                self.senders.insert(channel, (place, slot));
                match self.receivers.get(&channel) {
                    Some(&(task, input)) => Route::Local { task, input },
                    None => Route::Remote(self.receiving(channel)),
                }
            });
            let routes = routes.collect();
            self.routes.push(routes);
        }
        for (attempt, channel, item) in core::mem::take(&mut self.early) {
            self.item(channel, attempt, item);
        }
    }

    /// The executor of the task that receives on a channel.
    fn receiving(&self, channel: ChannelId) -> ExecutorId {
        let processor = self.program.graph.edges[channel.edge as usize].to;
        self.placed(TaskId { processor, index: channel.to })
    }

    fn placed(&self, task: TaskId) -> ExecutorId {
        *self.placement.get(&task).expect("every task of a deployment is placed")
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
        self.tasks.get(place).map(|task| {
            let info = task.info();
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
        let mut turn = self.tasks[place].step(world, fx);
        while let Some((slot, item)) = self.tasks[place].take_ready() {
            match self.routes[place][slot] {
                Route::Local { task, input } => {
                    self.tasks[task].receive(input, item);
                    turn = Turn::Busy;
                }
                Route::Remote(to) => {
                    let channel = self.tasks[place].channel(slot);
                    let message = Message::Item { channel, attempt: self.attempt, item };
                    fx.push(Effect::Send { to: Place::Executor(to), message });
                    // There is room again for what it could not emit.
                    turn = Turn::Busy;
                }
            }
        }
        while let Some((channel, bytes, buffer)) = self.tasks[place].take_credit() {
            if let Some(&(task, slot)) = self.senders.get(&channel) {
                self.tasks[task].credit(slot, bytes, buffer);
                turn = Turn::Busy;
            } else {
                let processor = self.program.graph.edges[channel.edge as usize].from;
                let to = self.placed(TaskId { processor, index: channel.from });
                let attempt = self.attempt;
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
        let held: Vec<usize> = self.tasks.iter_mut().map(Task::allocated).collect();
        let total: usize = held.iter().sum();
        if total <= self.memory {
            return;
        }
        let largest = (0..held.len()).max_by_key(|place| held[*place]).unwrap_or(0);
        let info = self.tasks[largest].info();
        let reason = format!(
            "the memory budget of this executor, {} MiB, is used up: {} holds {} MiB; give the job \
             more with --memory, spread it over more tasks with --parallelism, or let its state \
             expire",
            self.memory >> 20,
            info.uid,
            held[largest] >> 20,
        );
        let task = info.task;
        self.stopped = true;
        fx.push(Effect::Notice(Notice { level: Level::Error, text: reason.clone() }));
        let message = Message::Failed { task, reason };
        fx.push(Effect::Send { to: Place::AppMaster, message });
    }
}

/// What a task of this program is made of.
fn parts(
    program: &Program,
    task: TaskId,
    (term, key_groups): (AppTerm, u32),
    place: usize,
) -> TaskParts {
    let graph = &program.graph;
    let processor = graph.processor(task.processor).expect("the task is of this graph");
    let info = TaskInfo {
        task,
        uid: processor.uid.clone(),
        parallelism: processor.parallelism,
        key_groups,
    };
    let outputs = outputs(graph, task);
    let factory = &program.factories[task.processor.0 as usize];
    TaskParts {
        logic: factory(&info, outputs),
        options: program.options,
        inputs: inputs(graph, task),
        is_sink: processor.kind == Kind::Sink,
        store_prefix: format!("{}-{}/t{:010}", info.uid, task.index, term.0),
        tokens: ((place as u64) + 1) << TASK_TOKEN_BITS,
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
