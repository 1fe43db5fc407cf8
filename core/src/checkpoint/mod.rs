#![doc = include_str!("ALGORITHM.md")]

pub mod aside;
pub mod coordinator;
pub mod history;
pub mod log;
pub mod record;
pub mod recovery;
pub(crate) mod requests;
pub mod retention;
pub mod savepoint;

pub use aside::Aside;
pub use coordinator::Coordinator;
pub use log::{Log, LogError, LogEvent};
pub use record::{EpochRecord, Identity, Record, TaskKey};
pub use recovery::RecoveryError;
pub(crate) use requests::LANES;
pub use retention::Retention;
