//! The graph as plain data, and the questions that its readers ask of it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::id::{ChannelId, ProcessorId, TaskId};

/// A job's graph. Processors and edges are named by their places in the lists.
///
/// A graph may come from anywhere: its methods answer for every content, and
/// [`validate`](super::validate::validate) says whether it can run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    /// The job's name.
    pub name: String,
    /// Groups into which keys are divided, fixed with the app's first epoch.
    pub key_groups: u32,
    /// The nodes.
    pub processors: Vec<Processor>,
    /// The streams between them.
    pub edges: Vec<Edge>,
}

/// A node of the graph: operators that are fused, run by tasks that do the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processor {
    /// The stable name: of its state, and across versions of the job.
    pub uid: String,
    /// What it does with streams.
    pub kind: Kind,
    /// The names of the fused operators, in the order in which records pass them.
    pub operators: Vec<String>,
    /// Tasks that it runs as.
    pub parallelism: u32,
    /// What it reads.
    pub inputs: Vec<Port>,
    /// What it writes.
    pub outputs: Vec<Port>,
}

/// What a processor does with streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Begins them.
    Source,
    /// Reads and writes them.
    Operator,
    /// Ends them.
    Sink,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Source => "source",
            Self::Operator => "operator",
            Self::Sink => "sink",
        })
    }
}

/// Where an edge begins or ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// Its name, for people.
    pub name: String,
    /// The name of the record type.
    pub record: String,
}

/// A stream from an output of a processor to an input of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The processor that writes it.
    pub from: ProcessorId,
    /// The place of the port among the writer's outputs.
    pub output: u32,
    /// The processor that reads it.
    pub to: ProcessorId,
    /// The place of the port among the reader's inputs.
    pub input: u32,
    /// Which task gets which record.
    pub partitioner: Partitioner,
    /// True if each record travels with its event time.
    pub timed: bool,
}

/// Which task gets which record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Partitioner {
    /// The one of the same index; both sides have the same parallelism.
    Forward,
    /// The one to which the key's group belongs.
    Hash,
    /// One after the other.
    Rebalance,
    /// Every one.
    Broadcast,
    /// The first.
    Global,
    /// As the function of this name says.
    Custom(String),
}

impl fmt::Display for Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward => f.write_str("forward"),
            Self::Hash => f.write_str("hash"),
            Self::Rebalance => f.write_str("rebalance"),
            Self::Broadcast => f.write_str("broadcast"),
            Self::Global => f.write_str("global"),
            Self::Custom(name) => write!(f, "custom {name}"),
        }
    }
}

/// Processors that feed each other: each the next, the last the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle(pub Vec<ProcessorId>);

/// Precedes the encoding in the digest, so that another layout never gives an old digest.
const DIGEST_VERSION: u8 = 1;

impl Graph {
    /// The processor of this id.
    #[must_use]
    pub fn processor(&self, id: ProcessorId) -> Option<&Processor> {
        self.processors.get(id.0 as usize)
    }

    /// Every processor with its id.
    pub fn with_ids(&self) -> impl Iterator<Item = (ProcessorId, &Processor)> {
        (0..).map(ProcessorId).zip(&self.processors)
    }

    /// The id of the processor with this uid.
    #[must_use]
    pub fn find(&self, uid: &str) -> Option<ProcessorId> {
        self.with_ids().find(|(_, processor)| processor.uid == uid).map(|(id, _)| id)
    }

    /// What to call a processor in a sentence: its uid, or its id if it has none.
    #[must_use]
    pub fn name_of(&self, id: ProcessorId) -> String {
        match self.processor(id) {
            Some(processor) if !processor.uid.is_empty() => processor.uid.clone(),
            _ => alloc::format!("#{}", id.0),
        }
    }

    /// The edge at this place, which is the `edge` of its channels' ids.
    #[must_use]
    pub fn edge(&self, edge: u32) -> Option<&Edge> {
        self.edges.get(edge as usize)
    }

    /// The edges that a processor reads, each with its place in the graph.
    pub fn inputs_of(&self, id: ProcessorId) -> impl Iterator<Item = (u32, &Edge)> {
        (0..).zip(&self.edges).filter(move |(_, edge)| edge.to == id)
    }

    /// The edges that a processor writes, each with its place in the graph.
    pub fn outputs_of(&self, id: ProcessorId) -> impl Iterator<Item = (u32, &Edge)> {
        (0..).zip(&self.edges).filter(move |(_, edge)| edge.from == id)
    }

    /// The tasks of an edge's two ends that a channel connects: (sender's index, receiver's index).
    ///
    /// Every one to every one, but `Forward` (to the one of the same index) and `Global` (to the
    /// first). Nothing if a processor is missing.
    pub fn channels_of_edge(&self, edge: &Edge) -> impl Iterator<Item = (u32, u32)> + use<> {
        let parallelism = |id| self.processor(id).map_or(0, |processor| processor.parallelism);
        let (senders, receivers) = (parallelism(edge.from), parallelism(edge.to));
        let forward = edge.partitioner == Partitioner::Forward;
        let global = edge.partitioner == Partitioner::Global;
        (0..senders).flat_map(move |from| {
            let to = match (forward, global) {
                (true, _) => from.min(receivers)..from.saturating_add(1).min(receivers),
                (_, true) => 0..receivers.min(1),
                _ => 0..receivers,
            };
            to.map(move |to| (from, to))
        })
    }

    /// Every channel, in the order of the edges.
    pub fn channels(&self) -> impl Iterator<Item = ChannelId> {
        (0..).zip(&self.edges).flat_map(|(number, edge)| {
            self.channels_of_edge(edge).map(move |(from, to)| ChannelId { edge: number, from, to })
        })
    }

    /// Every two tasks that a channel joins, as (sender, receiver).
    pub fn joined_tasks(&self) -> impl Iterator<Item = (TaskId, TaskId)> {
        self.edges.iter().flat_map(|edge| {
            self.channels_of_edge(edge).map(|(from, to)| {
                let from = TaskId { processor: edge.from, index: from };
                (from, TaskId { processor: edge.to, index: to })
            })
        })
    }

    /// Every task, processor by processor.
    pub fn tasks(&self) -> impl Iterator<Item = TaskId> {
        self.with_ids().flat_map(|(id, processor)| {
            (0..processor.parallelism).map(move |index| TaskId { processor: id, index })
        })
    }

    /// The processors, each behind those that feed it; of several orders the one with the lowest
    /// ids first. Edges with an unknown end do not count.
    ///
    /// # Errors
    /// A [`Cycle`] if processors feed each other.
    pub fn topological_order(&self) -> Result<Vec<ProcessorId>, Cycle> {
        self.order_without(&BTreeSet::new())
    }

    /// Cycles that have no processor in common: at least one if there is any.
    #[must_use]
    pub fn cycles(&self) -> Vec<Cycle> {
        let mut skipped = BTreeSet::new();
        let mut cycles = Vec::new();
        while let Err(cycle) = self.order_without(&skipped) {
            skipped.extend(cycle.0.iter().copied());
            cycles.push(cycle);
        }
        cycles
    }

    fn order_without(&self, skipped: &BTreeSet<ProcessorId>) -> Result<Vec<ProcessorId>, Cycle> {
        let known = |id| self.processor(id).is_some() && !skipped.contains(&id);
        let mut waits_for: BTreeMap<ProcessorId, usize> =
            self.with_ids().filter(|(id, _)| known(*id)).map(|(id, _)| (id, 0)).collect();
        let mut readers: BTreeMap<ProcessorId, Vec<ProcessorId>> = BTreeMap::new();
        for edge in self.edges.iter().filter(|edge| known(edge.from) && known(edge.to)) {
            readers.entry(edge.from).or_default().push(edge.to);
            *waits_for.entry(edge.to).or_default() += 1;
        }
        let mut ready: BTreeSet<ProcessorId> =
            waits_for.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
        let mut order = Vec::with_capacity(waits_for.len());
        while let Some(id) = ready.pop_first() {
            waits_for.remove(&id);
            order.push(id);
            for reader in readers.get(&id).into_iter().flatten() {
                if let Some(count) = waits_for.get_mut(reader) {
                    *count -= 1;
                    if *count == 0 {
                        ready.insert(*reader);
                    }
                }
            }
        }
        if waits_for.is_empty() { Ok(order) } else { Err(self.cycle_among(&waits_for)) }
    }

    /// A cycle among processors that each wait for another one of them.
    fn cycle_among(&self, waiting: &BTreeMap<ProcessorId, usize>) -> Cycle {
        let mut feeder = BTreeMap::new();
        for edge in &self.edges {
            if waiting.contains_key(&edge.from) && waiting.contains_key(&edge.to) {
                feeder.entry(edge.to).or_insert(edge.from);
            }
        }
        // Up the stream until a processor comes again: since each has a feeder, one does.
        let mut path: Vec<ProcessorId> = Vec::new();
        let mut at = waiting.keys().next().copied();
        while let Some(id) = at {
            if let Some(first) = path.iter().position(|seen| *seen == id) {
                path.drain(..first);
                break;
            }
            path.push(id);
            at = feeder.get(&id).copied();
        }
        path.reverse();
        let lowest = path.iter().enumerate().min_by_key(|(_, id)| **id).map_or(0, |(at, _)| at);
        path.rotate_left(lowest);
        Cycle(path)
    }

    /// Equal for equal graphs, on every machine and in every process: xxh3 over the encoding.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut bytes = alloc::vec![DIGEST_VERSION];
        bytes.extend(postcard::to_allocvec(self).expect("lists and numbers always encode"));
        xxh3_64(&bytes)
    }
}
