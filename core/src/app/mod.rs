//! The master of one app: it leads the app's commit log, its epochs, and its tasks' life.

pub mod master;
pub mod outcome;
pub mod plan;
pub mod reports;
#[cfg(test)]
mod tests;

pub use master::{AppMaster, Timer};
pub use outcome::{Failure, OpenEpoch, Outcome, Stage, Status};
pub use plan::{AppPlan, Guarantee, ProcessorPlan};
