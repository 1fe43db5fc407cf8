//! The graph of a job: as data, with its checks, its drawing, and what changed between two of them.

pub mod diff;
pub mod explain;
pub mod graph;
pub mod validate;

pub use diff::{GraphDiff, diff};
pub use explain::{explain_dot, explain_text};
pub use graph::{Cycle, Edge, Graph, Kind, Partitioner, Port, Processor};
pub use validate::{GraphError, GraphWarning, validate, warnings};

#[cfg(test)]
mod tests;
