//! A graph for people: as text, and as a drawing for Graphviz.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use super::graph::{Edge, Graph, Processor};
use crate::id::ProcessorId;

/// The graph as lines: each processor behind those that feed it, with what it reads below it.
#[must_use]
pub fn explain_text(graph: &Graph) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{}: {} processors, {} edges, {} tasks, {} key groups",
        graph.name,
        graph.processors.len(),
        graph.edges.len(),
        graph.processors.iter().map(|processor| u64::from(processor.parallelism)).sum::<u64>(),
        graph.key_groups,
    );
    let uids = graph.processors.iter().map(|processor| processor.uid.chars().count());
    let width = uids.max().unwrap_or(0);
    for (id, processor) in in_order(graph) {
        let name = graph.name_of(id);
        let line = alloc::format!(
            "  {:<8}  {name:<width$}  x{}  {}",
            processor.kind,
            processor.parallelism,
            operators(processor),
        );
        let _ = writeln!(out, "{}", line.trim_end());
        for (_, edge) in graph.inputs_of(id) {
            let _ = writeln!(out, "      <- {}", stream(graph, edge));
        }
    }
    out
}

/// The graph in Graphviz's language: `dot -Tsvg` draws it.
#[must_use]
pub fn explain_dot(graph: &Graph) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "digraph \"{}\" {{", escaped(&graph.name));
    let _ = writeln!(out, "  rankdir=LR;");
    let _ = writeln!(out, "  node [shape=box];");
    for (id, processor) in in_order(graph) {
        let mut label = escaped(&graph.name_of(id));
        let _ = write!(label, "\\n{} x{}", processor.kind, processor.parallelism);
        if fused(processor) {
            let _ = write!(label, "\\n{}", escaped(&processor.operators.join(" > ")));
        }
        let _ = writeln!(out, "  p{} [label=\"{label}\"];", id.0);
    }
    for edge in &graph.edges {
        // Graphviz would make up a node for an unknown end.
        if graph.processor(edge.from).is_none() || graph.processor(edge.to).is_none() {
            continue;
        }
        let mut label = escaped(&alloc::format!("{}", edge.partitioner));
        if let Some(record) = record(graph, edge) {
            let _ = write!(label, "\\n{}", escaped(record));
        }
        let _ = writeln!(out, "  p{} -> p{} [label=\"{label}\"];", edge.from.0, edge.to.0);
    }
    out.push_str("}\n");
    out
}

/// The processors in topological order, or as they stand if they feed each other.
fn in_order(graph: &Graph) -> Vec<(ProcessorId, &Processor)> {
    match graph.topological_order() {
        Ok(order) => order.into_iter().filter_map(|id| Some((id, graph.processor(id)?))).collect(),
        Err(_) => graph.with_ids().collect(),
    }
}

/// True if the operators say more than the processor's own name.
fn fused(processor: &Processor) -> bool {
    !processor.operators.is_empty() && processor.operators != [processor.uid.as_str()]
}

fn operators(processor: &Processor) -> String {
    if fused(processor) { processor.operators.join(" > ") } else { String::new() }
}

fn record<'a>(graph: &'a Graph, edge: &Edge) -> Option<&'a str> {
    let port = graph.processor(edge.from)?.outputs.get(edge.output as usize)?;
    Some(&port.record)
}

fn stream(graph: &Graph, edge: &Edge) -> String {
    let mut out = graph.name_of(edge.from);
    let port = graph
        .processor(edge.from)
        .and_then(|processor| processor.outputs.get(edge.output as usize));
    match port {
        Some(port) => {
            let _ = write!(out, ".{}: {} by {}", port.name, port.record, edge.partitioner);
        }
        None => {
            let _ = write!(out, ".{}: ? by {}", edge.output, edge.partitioner);
        }
    }
    if edge.timed {
        out.push_str(", timed");
    }
    out
}

/// A text as part of a quoted label. Graphviz reads backslashes, quotes and HTML entities in it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '&' => out.push_str("&amp;"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
