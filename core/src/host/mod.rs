//! What is the same wherever an app runs: in threads, on a cluster, in a simulator.

mod app;
pub mod command;
mod control;
mod executor;
mod fault;
pub mod figures;
mod links;
mod node;
pub mod process;
mod requests;
mod sockets;
#[cfg(test)]
mod tests;

pub use app::{AppConfig, AppProcess};
pub use executor::{ExecutorConfig, ExecutorProcess};
pub use fault::{Fault, Faults, NoFaults};
pub use node::{NodeConfig, NodeProcess};
