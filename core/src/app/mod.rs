//! The master of one app: it leads the app's commit log, its epochs, and its tasks' life.
//!
//! [`master`] hears and decides what concerns the whole app; `deploy` takes regions of tasks back
//! and brings them up again; `takeover` finds out what an earlier app master has left running;
//! `fleet` and `regions` hold what is known of executors and regions.

mod deploy;
mod epochs;
mod figures;
mod fleet;
pub mod master;
mod notices;
pub mod outcome;
pub mod plan;
mod regions;
mod replays;
pub mod reports;
mod savepoints;
mod takeover;
#[cfg(test)]
mod tests;

pub use fleet::{EXECUTORS_WAIT, REPLACEMENT_WAIT};
pub use master::{AppMaster, Timer};
pub use outcome::{Failure, OpenEpoch, Outcome, Stage, Status};
pub use plan::{AppPlan, Guarantee, Placement, ProcessorPlan};
pub use regions::{HEALTHY_AFTER, RETRY_BACKOFF_MAX, RETRY_BACKOFF_MIN, TASK_RETRIES_MAX};
pub use replays::{Gone, Leave, Left};
pub use savepoints::Made;
