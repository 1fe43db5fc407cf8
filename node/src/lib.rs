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
//!
//! The features `avro`, `csv` and `protobuf` add formats of records to JSON, which is always there.
//!
//! The feature `server` adds what the program `gear-node` is made of: REST, gossip, command line
//! and all that a cluster's nodes need and its jobs do not.

#[cfg(feature = "server")]
pub mod api;
#[cfg(feature = "server")]
pub mod binaries;
pub mod child;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod client;
mod command;
#[cfg(feature = "server")]
mod disk;
mod drivers;
mod embedded;
#[cfg(feature = "server")]
pub mod gossip;
#[cfg(feature = "server")]
mod logs;
#[cfg(feature = "server")]
pub mod metrics;
mod options;
mod progress;
mod quarantine;
mod report;
#[cfg(feature = "server")]
pub mod security;
#[cfg(feature = "server")]
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
    #[cfg(feature = "avro")]
    pub use gear_connectors::formats::avro;
    #[cfg(feature = "csv")]
    pub use gear_connectors::formats::csv;
    pub use gear_connectors::formats::json;
    #[cfg(feature = "protobuf")]
    pub use gear_connectors::formats::protobuf;
    pub use gear_connectors::{
        blackhole, collect, files, generate, hdfs, kafka, socket, stdin, stdout,
    };
    pub use gear_core::api::{
        DeadLetter, Key, ListState, MapState, Operator, OperatorContext, Owned, Process,
        ProcessContext, Record, Ref, States, ValueState,
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
