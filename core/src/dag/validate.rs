//! Whether a graph can run, and if not, everything that is wrong with it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::graph::{Edge, Graph, Kind, Partitioner, Processor};
use crate::id::ProcessorId;
use crate::limits::{KEY_GROUPS_MAX, PROCESSORS_MAX};

/// Longest uid in bytes: it is part of a file's name, of which most file systems take 255.
pub const UID_BYTES_MAX: usize = 128;

/// A reason why a graph cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// Processors feed each other.
    #[error(
        "the stream runs in a circle: {} -> {}; take out one of these edges, \
         or go through an external topic",
        .path.join(" -> "),
        .path.first().map_or("", String::as_str)
    )]
    Cycle {
        /// Each feeds the next, the last the first.
        path: Vec<String>,
    },
    /// An edge ends at a processor that the graph does not have.
    #[error(
        "edge {edge} from {from:?} to {to:?} has an end that is no processor of this graph; \
         add the processor or remove the edge"
    )]
    UnknownProcessor {
        /// The edge's place in the graph.
        edge: u32,
        /// Where it begins.
        from: String,
        /// Where it ends.
        to: String,
    },
    /// An edge begins at an output that its processor does not have.
    #[error(
        "edge {edge} to {to:?} begins at output {output} of {from:?}, which has {has}; \
         outputs count from 0"
    )]
    UnknownOutput {
        /// The edge's place in the graph.
        edge: u32,
        /// The writer.
        from: String,
        /// The reader.
        to: String,
        /// The output that was named.
        output: u32,
        /// How many there are.
        has: usize,
    },
    /// An edge ends at an input that its processor does not have.
    #[error(
        "edge {edge} from {from:?} ends at input {input} of {to:?}, which has {has}; \
         inputs count from 0"
    )]
    UnknownInput {
        /// The edge's place in the graph.
        edge: u32,
        /// The writer.
        from: String,
        /// The reader.
        to: String,
        /// The input that was named.
        input: u32,
        /// How many there are.
        has: usize,
    },
    /// A processor that would run as no task.
    #[error("{uid:?} has parallelism 0, so nothing would run it; set at least 1")]
    NoParallelism {
        /// The processor.
        uid: String,
    },
    /// A processor with tasks that no key belongs to.
    #[error(
        "{uid:?} has parallelism {parallelism}, but the app has {key_groups} key groups; \
         lower the parallelism, or raise the key groups of an app that has not run yet"
    )]
    TooParallel {
        /// The processor.
        uid: String,
        /// Its parallelism.
        parallelism: u32,
        /// The app's key groups.
        key_groups: u32,
    },
    /// A number of key groups that cannot be.
    #[error("{key_groups} key groups; set between 1 and {}", KEY_GROUPS_MAX)]
    KeyGroups {
        /// The number.
        key_groups: u32,
    },
    /// Two processors with one name.
    #[error("{count} processors have the uid {uid:?}; give each a name of its own")]
    DuplicateUid {
        /// The name.
        uid: String,
        /// How many have it.
        count: usize,
    },
    /// A processor without a name.
    #[error("processor {processor} ({operators}) has no uid; name it, its state is found by it")]
    EmptyUid {
        /// Its id.
        processor: ProcessorId,
        /// The names of its operators.
        operators: String,
    },
    /// A name with a character that an object's name may not have.
    #[error(
        "the uid {uid:?} has {found:?} in it; use letters, digits, '.', '_' and '-', \
         it becomes part of file names"
    )]
    UidCharacter {
        /// The name.
        uid: String,
        /// The first such character.
        found: char,
    },
    /// A name that hides files, or means a folder.
    #[error("the uid {uid:?} begins with a dot; begin with a letter or digit, it names files")]
    UidDot {
        /// The name.
        uid: String,
    },
    /// A name that no file could have.
    #[error("the uid {uid:?} has {} bytes; use at most {}", .uid.len(), UID_BYTES_MAX)]
    UidTooLong {
        /// The name.
        uid: String,
    },
    /// A processor to which no source's records come.
    #[error("no source reaches {uid:?}; connect what feeds it to a source, or remove it")]
    Unreachable {
        /// The processor.
        uid: String,
    },
    /// An operator or a sink with nothing to read.
    #[error("{kind} {uid:?} has no input; connect it to a stream, or remove it")]
    NoInput {
        /// The processor.
        uid: String,
        /// What it is.
        kind: Kind,
    },
    /// An input to which no edge leads.
    #[error("nothing feeds input {input:?} of {uid:?}; connect it to a stream, or remove it")]
    UnfedInput {
        /// The processor.
        uid: String,
        /// The port's name.
        input: String,
    },
    /// A source that reads a stream.
    #[error("source {uid:?} has an input; sources only begin streams, make it an operator")]
    SourceWithInput {
        /// The processor.
        uid: String,
    },
    /// A sink that writes a stream.
    #[error("sink {uid:?} has an output; sinks only end streams, make it an operator")]
    SinkWithOutput {
        /// The processor.
        uid: String,
    },
    /// An edge between ports of different types.
    #[error(
        "{from:?} writes {written} to {output:?}, but {to:?} reads {read} from {input:?}; \
         put a map between them, or change one of the types"
    )]
    TypeMismatch {
        /// The writer.
        from: String,
        /// The writer's port.
        output: String,
        /// The type of the writer's port.
        written: String,
        /// The reader.
        to: String,
        /// The reader's port.
        input: String,
        /// The type of the reader's port.
        read: String,
    },
    /// A forward edge between processors of different parallelism.
    #[error(
        "{from:?} runs as {from_tasks} tasks and {to:?} as {to_tasks}, but the edge between them \
         is forward, task by task; set the same parallelism, or rebalance"
    )]
    ForwardParallelism {
        /// The writer.
        from: String,
        /// The writer's parallelism.
        from_tasks: u32,
        /// The reader.
        to: String,
        /// The reader's parallelism.
        to_tasks: u32,
    },
    /// More processors than a graph may have; nothing else was checked.
    #[error("{count} processors; at most {} are possible, split the job", PROCESSORS_MAX)]
    TooManyProcessors {
        /// How many there are.
        count: usize,
    },
    /// A job that reads nothing.
    #[error("the job has no source; begin it with one")]
    NoSource,
    /// A job that writes nothing.
    #[error("the job has no sink, so nobody would see its results; end a stream in one")]
    NoSink,
}

/// Something in a graph that runs, but that its author has hardly meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphWarning {
    /// An output that no edge takes up.
    #[error("nobody reads output {output:?} of {uid:?}: its records are dropped; end it in a sink")]
    UnreadOutput {
        /// The processor.
        uid: String,
        /// The port's name.
        output: String,
    },
    /// A source or an operator that writes nothing.
    #[error("{kind} {uid:?} has no output, so it works for nobody; end it in a sink, or remove it")]
    NoOutput {
        /// The processor.
        uid: String,
        /// What it is.
        kind: Kind,
    },
    /// Tasks to which no channel leads.
    #[error(
        "{uid:?} runs as {parallelism} tasks, but only the first gets records, since all its \
         inputs are global; set its parallelism to 1"
    )]
    IdleTasks {
        /// The processor.
        uid: String,
        /// Its parallelism.
        parallelism: u32,
    },
}

/// Checks whether a graph can run.
///
/// # Errors
/// Everything that is wrong with it: first the graph, then each processor, then each edge.
pub fn validate(graph: &Graph) -> Result<(), Vec<GraphError>> {
    if graph.processors.len() > PROCESSORS_MAX {
        return Err(alloc::vec![GraphError::TooManyProcessors { count: graph.processors.len() }]);
    }
    let mut errors = Vec::new();
    check_whole(graph, &mut errors);
    check_uids(graph, &mut errors);
    for (id, processor) in graph.with_ids() {
        check_processor(graph, id, processor, &mut errors);
    }
    check_reachable(graph, &mut errors);
    for (number, edge) in (0..).zip(&graph.edges) {
        check_edge(graph, number, edge, &mut errors);
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// What an author should look at in a graph that can run.
#[must_use]
pub fn warnings(graph: &Graph) -> Vec<GraphWarning> {
    let mut warnings = Vec::new();
    for (id, processor) in graph.with_ids() {
        let uid = graph.name_of(id);
        if processor.kind != Kind::Sink && processor.outputs.is_empty() {
            warnings.push(GraphWarning::NoOutput { uid: uid.clone(), kind: processor.kind });
        }
        let read: BTreeSet<u32> = graph.outputs_of(id).map(|(_, edge)| edge.output).collect();
        for (_, port) in (0..).zip(&processor.outputs).filter(|(port, _)| !read.contains(port)) {
            let output = port.name.clone();
            warnings.push(GraphWarning::UnreadOutput { uid: uid.clone(), output });
        }
        let mut inputs = graph.inputs_of(id).map(|(_, edge)| &edge.partitioner).peekable();
        let parallelism = processor.parallelism;
        if parallelism > 1
            && inputs.peek().is_some()
            && inputs.all(|partitioner| *partitioner == Partitioner::Global)
        {
            warnings.push(GraphWarning::IdleTasks { uid, parallelism });
        }
    }
    warnings
}

fn check_whole(graph: &Graph, errors: &mut Vec<GraphError>) {
    if !(1..=KEY_GROUPS_MAX).contains(&graph.key_groups) {
        errors.push(GraphError::KeyGroups { key_groups: graph.key_groups });
    }
    if !graph.processors.iter().any(|processor| processor.kind == Kind::Source) {
        errors.push(GraphError::NoSource);
    }
    if !graph.processors.iter().any(|processor| processor.kind == Kind::Sink) {
        errors.push(GraphError::NoSink);
    }
    for cycle in graph.cycles() {
        let path = cycle.0.into_iter().map(|id| graph.name_of(id)).collect();
        errors.push(GraphError::Cycle { path });
    }
}

fn check_uids(graph: &Graph, errors: &mut Vec<GraphError>) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (processor, Processor { uid, operators, .. }) in graph.with_ids() {
        if uid.is_empty() {
            errors.push(GraphError::EmptyUid { processor, operators: operators.join(", ") });
            continue;
        }
        *counts.entry(uid).or_default() += 1;
        if let Some(found) = uid.chars().find(|c| !is_uid_character(*c)) {
            errors.push(GraphError::UidCharacter { uid: uid.clone(), found });
        }
        if uid.starts_with('.') {
            errors.push(GraphError::UidDot { uid: uid.clone() });
        }
        if uid.len() > UID_BYTES_MAX {
            errors.push(GraphError::UidTooLong { uid: uid.clone() });
        }
    }
    for (uid, count) in counts.into_iter().filter(|(_, count)| *count > 1) {
        errors.push(GraphError::DuplicateUid { uid: uid.into(), count });
    }
}

fn is_uid_character(c: char) -> bool {
    c.is_alphabetic() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-')
}

fn check_processor(
    graph: &Graph,
    id: ProcessorId,
    processor: &Processor,
    errors: &mut Vec<GraphError>,
) {
    let uid = graph.name_of(id);
    let parallelism = processor.parallelism;
    if parallelism == 0 {
        errors.push(GraphError::NoParallelism { uid: uid.clone() });
    } else if parallelism > graph.key_groups {
        let key_groups = graph.key_groups;
        errors.push(GraphError::TooParallel { uid: uid.clone(), parallelism, key_groups });
    }
    let fed: BTreeSet<u32> = graph.inputs_of(id).map(|(_, edge)| edge.input).collect();
    if processor.kind == Kind::Source {
        if !processor.inputs.is_empty() || !fed.is_empty() {
            errors.push(GraphError::SourceWithInput { uid: uid.clone() });
        }
    } else if processor.inputs.is_empty() || fed.is_empty() {
        errors.push(GraphError::NoInput { uid: uid.clone(), kind: processor.kind });
    } else {
        for (_, port) in (0..).zip(&processor.inputs).filter(|(port, _)| !fed.contains(port)) {
            let input = port.name.clone();
            errors.push(GraphError::UnfedInput { uid: uid.clone(), input });
        }
    }
    let writes = !processor.outputs.is_empty() || graph.outputs_of(id).next().is_some();
    if processor.kind == Kind::Sink && writes {
        errors.push(GraphError::SinkWithOutput { uid });
    }
}

fn check_reachable(graph: &Graph, errors: &mut Vec<GraphError>) {
    let mut reached: BTreeSet<ProcessorId> = graph
        .with_ids()
        .filter(|(_, processor)| processor.kind == Kind::Source)
        .map(|(id, _)| id)
        .collect();
    let mut next: Vec<ProcessorId> = reached.iter().copied().collect();
    while let Some(id) = next.pop() {
        for (_, edge) in graph.outputs_of(id) {
            if reached.insert(edge.to) {
                next.push(edge.to);
            }
        }
    }
    for (id, _) in graph.with_ids() {
        // One that nothing feeds has its own error, which says more.
        if !reached.contains(&id) && graph.inputs_of(id).next().is_some() {
            errors.push(GraphError::Unreachable { uid: graph.name_of(id) });
        }
    }
}

fn check_edge(graph: &Graph, number: u32, edge: &Edge, errors: &mut Vec<GraphError>) {
    let (from, to) = (graph.name_of(edge.from), graph.name_of(edge.to));
    let (Some(writer), Some(reader)) = (graph.processor(edge.from), graph.processor(edge.to))
    else {
        errors.push(GraphError::UnknownProcessor { edge: number, from, to });
        return;
    };
    let output = writer.outputs.get(edge.output as usize);
    if output.is_none() && writer.kind != Kind::Sink {
        errors.push(GraphError::UnknownOutput {
            edge: number,
            from: from.clone(),
            to: to.clone(),
            output: edge.output,
            has: writer.outputs.len(),
        });
    }
    let input = reader.inputs.get(edge.input as usize);
    if input.is_none() && reader.kind != Kind::Source {
        errors.push(GraphError::UnknownInput {
            edge: number,
            from: from.clone(),
            to: to.clone(),
            input: edge.input,
            has: reader.inputs.len(),
        });
    }
    if let (Some(output), Some(input)) = (output, input)
        && output.record != input.record
    {
        errors.push(GraphError::TypeMismatch {
            from: from.clone(),
            output: output.name.clone(),
            written: output.record.clone(),
            to: to.clone(),
            input: input.name.clone(),
            read: input.record.clone(),
        });
    }
    let (from_tasks, to_tasks) = (writer.parallelism, reader.parallelism);
    if edge.partitioner == Partitioner::Forward && from_tasks != to_tasks {
        errors.push(GraphError::ForwardParallelism { from, from_tasks, to, to_tasks });
    }
}
