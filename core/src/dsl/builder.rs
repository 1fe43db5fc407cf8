//! What grows while a job is described: processors, edges, and the model.

use alloc::collections::BTreeSet;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;

use crate::dag::{Edge, Graph, GraphError, Kind, Partitioner, Port, Processor};
use crate::dsl::app::{SinkInfo, SourceInfo};
use crate::dsl::model::{Model, ModelNode, ModelOp};
use crate::flow::logic::Factory;
use crate::id::ProcessorId;

/// A mistake in a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// Two operators have one name.
    #[error(
        "two operators are named {0}: the name is the identity of an operator's state, so give \
         each its own"
    )]
    DuplicateName(String),
    /// A window over records without event time.
    #[error(
        "{0} is a window over records that have no event time: say .watermarks(...) behind the \
         source"
    )]
    WindowWithoutTime(String),
    /// Watermarks that are not assigned at a source.
    #[error(
        "watermarks are assigned behind a source, where the partitions are known: move \
         .watermarks(...) up, before any key, split or union (near {0})"
    )]
    WatermarksFarFromSource(String),
    /// A window without length.
    #[error("{0} has windows of no length or no slide: give it at least one microsecond")]
    EmptyWindow(String),
    /// Dead letters of no operator, or of one whose are taken already.
    #[error(
        "there are no dead letters to be had at {0}: say .dead_letters() once, directly behind the \
         operator that refuses records, before any fork, split or union"
    )]
    NoDeadLetters(String),
    /// The graph is not a valid one.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

pub(crate) type Shared = Rc<RefCell<Builder>>;

#[derive(Default)]
pub(crate) struct Builder {
    pub(crate) parallelism: u32,
    slots: Vec<Option<(Processor, Factory)>>,
    edges: Vec<DraftEdge>,
    pub(crate) sources: Vec<SourceInfo>,
    pub(crate) sinks: Vec<SinkInfo>,
    pub(crate) model: Model,
    pub(crate) errors: Vec<JobError>,
    names: BTreeSet<String>,
}

/// How records come to a processor.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    pub(crate) from: ProcessorId,
    pub(crate) output: u32,
    pub(crate) connect: Connect,
}

/// How an edge chooses among its channels, as far as the author said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Connect {
    /// Forward where the parallelism is equal, else in turn.
    Auto,
    Chosen(Partitioner),
}

#[derive(Debug)]
struct DraftEdge {
    upstream: Upstream,
    to: ProcessorId,
    timed: bool,
}

/// A processor that is being described.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) id: ProcessorId,
    pub(crate) uid: String,
    pub(crate) kind: Kind,
    pub(crate) operators: Vec<String>,
    pub(crate) input: Option<Port>,
    pub(crate) extra: Vec<Port>,
    pub(crate) upstream: Vec<Upstream>,
    /// The operators of the chain whose dead letters have a port.
    pub(crate) dead_letters: Vec<(String, u32)>,
    pub(crate) parallelism: Option<u32>,
    pub(crate) timed: bool,
    /// Where the model's stream is.
    pub(crate) node: (usize, u32),
}

impl Builder {
    pub(crate) fn new(parallelism: u32) -> Self {
        Self { parallelism, ..Self::default() }
    }

    /// Claims a name for an operator.
    pub(crate) fn claim(&mut self, name: &str) {
        if !self.names.insert(name.to_string()) {
            self.errors.push(JobError::DuplicateName(name.to_string()));
        }
    }

    /// A name that nobody has, for a processor that its author did not name.
    pub(crate) fn invent(&mut self, wish: &str) -> String {
        let mut name = wish.to_string();
        let mut number = 1;
        while !self.names.insert(name.clone()) {
            number += 1;
            name = alloc::format!("{wish}-{number}");
        }
        name
    }

    pub(crate) fn reserve(&mut self) -> ProcessorId {
        self.slots.push(None);
        ProcessorId(self.slots.len() as u32 - 1)
    }

    pub(crate) fn node(
        &mut self,
        name: &str,
        inputs: Vec<(usize, u32)>,
        reads: String,
        op: ModelOp,
    ) -> (usize, u32) {
        let node = ModelNode { name: name.to_string(), inputs, reads, op, dead_letters: None };
        self.model.nodes.push(node);
        (self.model.nodes.len() - 1, 0)
    }

    /// Completes a processor.
    pub(crate) fn finish(&mut self, draft: Draft, outputs: Vec<Port>, factory: Factory) {
        let Draft { id, uid, kind, operators, input, upstream, parallelism, timed, .. } = draft;
        let parallelism = parallelism.unwrap_or(self.parallelism);
        for upstream in upstream {
            self.edges.push(DraftEdge { upstream, to: id, timed });
        }
        let inputs = input.into_iter().collect();
        let processor = Processor { uid, kind, operators, parallelism, inputs, outputs };
        self.slots[id.0 as usize] = Some((processor, factory));
    }

    /// The graph and the makers of its tasks. A processor that was begun and has no reader is left
    /// out.
    pub(crate) fn graph(self, name: &str, key_groups: u32) -> (Graph, Vec<Factory>) {
        let mut numbers = Vec::new();
        let mut processors = Vec::new();
        let mut factories = Vec::new();
        for slot in self.slots {
            numbers.push(slot.is_some().then_some(ProcessorId(processors.len() as u32)));
            if let Some((processor, factory)) = slot {
                processors.push(processor);
                factories.push(factory);
            }
        }
        let number = |id: ProcessorId| numbers[id.0 as usize];
        let mut edges = Vec::new();
        for DraftEdge { upstream, to, timed } in self.edges {
            let (Some(from), Some(to)) = (number(upstream.from), number(to)) else { continue };
            let parallelism = |id: ProcessorId| processors[id.0 as usize].parallelism;
            let partitioner = match upstream.connect {
                Connect::Chosen(partitioner) => partitioner,
                Connect::Auto if parallelism(from) == parallelism(to) => Partitioner::Forward,
                Connect::Auto => Partitioner::Rebalance,
            };
            let output = upstream.output;
            edges.push(Edge { from, output, to, input: 0, partitioner, timed });
        }
        (Graph { name: name.to_string(), key_groups, processors, edges }, factories)
    }

    /// The final number of a processor, once it is known which ones are left out.
    pub(crate) fn final_number(&self, id: ProcessorId) -> ProcessorId {
        let before = self.slots[..id.0 as usize].iter().filter(|slot| slot.is_some()).count();
        ProcessorId(before as u32)
    }
}

/// Makes a factory of a function.
pub(crate) fn factory(
    make: impl Fn(
        &crate::flow::logic::TaskInfo,
        crate::flow::outputs::Outputs,
    ) -> alloc::boxed::Box<dyn crate::flow::logic::Logic>
    + Send
    + Sync
    + 'static,
) -> Factory {
    Arc::new(make)
}
