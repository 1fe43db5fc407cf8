//! What changed between two graphs of one job, matched by uid: for a restart with changed code.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::graph::{Edge, Graph, Kind, Partitioner, Port, Processor};

/// What turns one graph into another. Lists are in the order of the uids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphDiff {
    /// The key groups before and after, if they differ; state cannot follow such a change.
    pub key_groups: Option<(u32, u32)>,
    /// Uids that only the new graph has: their state starts empty.
    pub added: Vec<String>,
    /// Uids that only the old graph has: nobody takes up their state.
    pub removed: Vec<String>,
    /// What differs in processors that both have.
    pub changed: Vec<ProcessorChange>,
    /// Streams that only the new graph has.
    pub edges_added: Vec<NamedEdge>,
    /// Streams that only the old graph has.
    pub edges_removed: Vec<NamedEdge>,
    /// Streams between the same ports that are partitioned or timed differently.
    pub edges_changed: Vec<EdgeChange>,
}

/// What differs in a processor that both graphs have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessorChange {
    /// The processor.
    pub uid: String,
    /// Kinds before and after.
    pub kind: Option<(Kind, Kind)>,
    /// Tasks before and after.
    pub parallelism: Option<(u32, u32)>,
    /// Fused operators before and after.
    pub operators: Option<(Vec<String>, Vec<String>)>,
    /// Inputs before and after.
    pub inputs: Option<(Vec<Port>, Vec<Port>)>,
    /// Outputs before and after.
    pub outputs: Option<(Vec<Port>, Vec<Port>)>,
}

/// A stream by the names of its ends. A port that does not exist has its number as its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamedEdge {
    /// The uid of the writer.
    pub from: String,
    /// The writer's port.
    pub output: String,
    /// The uid of the reader.
    pub to: String,
    /// The reader's port.
    pub input: String,
}

/// How a stream travels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Travel {
    /// Which task gets which record.
    pub partitioner: Partitioner,
    /// True if records carry their event times.
    pub timed: bool,
}

/// A stream that travels differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeChange {
    /// The stream.
    pub edge: NamedEdge,
    /// How it travelled.
    pub before: Travel,
    /// How it travels.
    pub after: Travel,
}

impl GraphDiff {
    /// True if the graphs do the same. The order of processors and edges does not matter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What turns `old` into `new`. Of processors with the same uid, which no valid graph has, the last
/// counts.
#[must_use]
pub fn diff(old: &Graph, new: &Graph) -> GraphDiff {
    let (before, after) = (by_uid(old), by_uid(new));
    let only = |these: &BTreeMap<&str, _>, those: &BTreeMap<&str, _>| -> Vec<String> {
        these.keys().filter(|uid| !those.contains_key(*uid)).map(|uid| String::from(*uid)).collect()
    };
    let mut result = GraphDiff {
        key_groups: differ(&old.key_groups, &new.key_groups),
        added: only(&after, &before),
        removed: only(&before, &after),
        changed: before.iter().filter_map(|(uid, was)| change(was, after.get(uid)?)).collect(),
        ..GraphDiff::default()
    };
    diff_edges(by_ends(old), by_ends(new), &mut result);
    result
}

fn by_uid(graph: &Graph) -> BTreeMap<&str, &Processor> {
    graph.processors.iter().map(|processor| (processor.uid.as_str(), processor)).collect()
}

fn differ<T: Clone + PartialEq>(was: &T, is: &T) -> Option<(T, T)> {
    (was != is).then(|| (was.clone(), is.clone()))
}

fn change(was: &Processor, is: &Processor) -> Option<ProcessorChange> {
    (was != is).then(|| ProcessorChange {
        uid: was.uid.clone(),
        kind: differ(&was.kind, &is.kind),
        parallelism: differ(&was.parallelism, &is.parallelism),
        operators: differ(&was.operators, &is.operators),
        inputs: differ(&was.inputs, &is.inputs),
        outputs: differ(&was.outputs, &is.outputs),
    })
}

/// The streams by their ends; several between the same ports are possible.
fn by_ends(graph: &Graph) -> BTreeMap<NamedEdge, Vec<Travel>> {
    let mut edges: BTreeMap<NamedEdge, Vec<Travel>> = BTreeMap::new();
    for edge in &graph.edges {
        let travel = Travel { partitioner: edge.partitioner.clone(), timed: edge.timed };
        edges.entry(named(graph, edge)).or_default().push(travel);
    }
    edges.values_mut().for_each(|travels| travels.sort());
    edges
}

fn named(graph: &Graph, edge: &Edge) -> NamedEdge {
    let port = |ports: Option<&Vec<Port>>, port: u32| {
        ports
            .and_then(|ports| ports.get(port as usize))
            .map_or_else(|| alloc::format!("{port}"), |port| port.name.clone())
    };
    NamedEdge {
        from: graph.name_of(edge.from),
        output: port(graph.processor(edge.from).map(|writer| &writer.outputs), edge.output),
        to: graph.name_of(edge.to),
        input: port(graph.processor(edge.to).map(|reader| &reader.inputs), edge.input),
    }
}

fn diff_edges(
    mut before: BTreeMap<NamedEdge, Vec<Travel>>,
    after: BTreeMap<NamedEdge, Vec<Travel>>,
    result: &mut GraphDiff,
) {
    for (edge, mut is) in after {
        let mut was = before.remove(&edge).unwrap_or_default();
        is.retain(|travel| match was.iter().position(|other| other == travel) {
            Some(same) => {
                was.remove(same);
                false
            }
            None => true,
        });
        let pairs = was.len().min(is.len());
        for (before, after) in was.drain(..pairs).zip(is.drain(..pairs)) {
            result.edges_changed.push(EdgeChange { edge: edge.clone(), before, after });
        }
        result.edges_removed.extend(was.iter().map(|_| edge.clone()));
        result.edges_added.extend(is.iter().map(|_| edge.clone()));
    }
    for (edge, was) in before {
        result.edges_removed.extend(was.iter().map(|_| edge.clone()));
    }
    result.edges_removed.sort();
}

impl fmt::Display for NamedEdge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} -> {}.{}", self.from, self.output, self.to, self.input)
    }
}

impl fmt::Display for Travel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.partitioner, if self.timed { ", timed" } else { "" })
    }
}

struct Ports<'a>(&'a [Port]);

impl fmt::Display for Ports<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (at, port) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}: {}", port.name, port.record)?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for ProcessorChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uid = &self.uid;
        if let Some((was, is)) = &self.kind {
            writeln!(f, "~ {uid}: kind {was} -> {is}")?;
        }
        if let Some((was, is)) = self.parallelism {
            writeln!(f, "~ {uid}: parallelism {was} -> {is}")?;
        }
        if let Some((was, is)) = &self.operators {
            writeln!(f, "~ {uid}: operators {} -> {}", was.join(" > "), is.join(" > "))?;
        }
        if let Some((was, is)) = &self.inputs {
            writeln!(f, "~ {uid}: inputs {} -> {}", Ports(was), Ports(is))?;
        }
        if let Some((was, is)) = &self.outputs {
            writeln!(f, "~ {uid}: outputs {} -> {}", Ports(was), Ports(is))?;
        }
        Ok(())
    }
}

impl fmt::Display for GraphDiff {
    /// One line for each difference: `+` is new, `-` is gone, `~` has changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "nothing has changed");
        }
        if let Some((was, is)) = self.key_groups {
            writeln!(f, "~ key groups {was} -> {is}")?;
        }
        self.added.iter().try_for_each(|uid| writeln!(f, "+ {uid}"))?;
        self.removed.iter().try_for_each(|uid| writeln!(f, "- {uid}"))?;
        self.changed.iter().try_for_each(|change| write!(f, "{change}"))?;
        self.edges_added.iter().try_for_each(|edge| writeln!(f, "+ {edge}"))?;
        self.edges_removed.iter().try_for_each(|edge| writeln!(f, "- {edge}"))?;
        self.edges_changed.iter().try_for_each(|EdgeChange { edge, before, after }| {
            writeln!(f, "~ {edge}: {before} -> {after}")
        })
    }
}
