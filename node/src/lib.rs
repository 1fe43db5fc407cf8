//! The library that a Gear job is written with.
//!
//! A job is a function that describes streams; [`main`] gives it a command line and runs it:
//!
//! ```no_run
//! use gear_node::prelude::*;
//!
//! fn main() -> std::process::ExitCode {
//!     gear_node::main("shout", job)
//! }
//!
//! fn job(app: &mut App) -> Result<()> {
//!     app.source("lines", stdin::lines())
//!         .map("shout", |line: &str| line.to_uppercase())
//!         .sink("out", stdout::lines::<String>());
//!     Ok(())
//! }
//! ```

pub mod api;
pub mod binaries;
pub mod child;
pub mod cli;
pub mod client;
mod command;
mod disk;
mod drivers;
mod embedded;
pub mod gossip;
mod logs;
pub mod metrics;
mod options;
mod progress;
mod quarantine;
mod report;
pub mod security;
pub mod server;
pub mod store;
pub mod testing;
mod wire;

pub use command::{NoOptions, Result, build, main, main_with};
pub use embedded::{CatchPanic, RunError, run};
pub use gear_connectors as connectors;
pub use gear_core as core;
pub use options::{BadRecord, Explain, GuaranteeOption, RuntimeOptions};
pub use report::Report;

pub(crate) use embedded::notice as embedded_notice;

/// What a job's author needs, in one line.
pub mod prelude {
    pub use gear_connectors::{blackhole, collect, files, generate, socket, stdin, stdout};
    pub use gear_core::api::{
        Key, ListState, MapState, Operator, OperatorContext, Owned, Process, ProcessContext,
        Record, Ref, States, ValueState,
    };
    pub use gear_core::clock::Watermarks;
    pub use gear_core::dag::Partitioner;
    pub use gear_core::dsl::{Flow, GraphBuilder, Sliding, Stream, Tumbling};
    pub use gear_core::flow::window::Window;
    pub use gear_core::time::{Duration, EventTime, WallTime, hours, millis, minutes, seconds};

    pub use crate::{NoOptions, Result};

    /// A job that is being described; `O` are its own options.
    pub type App<O = NoOptions> = gear_core::dsl::App<O>;
}

/// A random number, not 0: what nobody else has drawn.
///
/// # Panics
/// If the operating system has no entropy to give: no two nodes could be told apart then.
pub(crate) fn draw() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system gives entropy");
    u64::from_le_bytes(bytes).max(1)
}
