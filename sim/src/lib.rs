//! Simulators: the core's machines and whole jobs under crashes, delays and lost writes, judged by
//! an independent model where a reader of the committed output stands.
//!
//! Everything in a run follows from one seed: no clock, no entropy, no map with a random order.

pub mod cluster;
pub mod direct;
pub mod model;
pub mod oracle;
mod random;
pub mod report;
pub mod scenario;
pub mod shrink;
mod stopwatch;
pub mod sweep;
mod trace;
pub mod turmoil;
mod user;
pub mod workload;

pub use cluster::{FaultKind, Faults};
pub use random::Random;
pub use user::{Cluster, Difference, Lines, Replay, Seeds, compare, modelled};
