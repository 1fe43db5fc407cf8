//! The job as its author wrote it, operator by operator, for an interpreter that shares no code
//! with the engine: the reference model of the simulator.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::flow::window::Windows;
use crate::time::EventTime;

/// A step over one record: gets its event time and its bytes, and emits to ports; or says why the
/// record is put aside.
pub type ModelStep = Arc<
    dyn Fn(EventTime, &[u8], &mut dyn FnMut(u32, EventTime, Vec<u8>)) -> Result<(), String>
        + Send
        + Sync,
>;

/// Every operator of a job, in the order in which they were named.
#[derive(Clone, Default)]
pub struct Model {
    /// The operators; inputs come before those that read them.
    pub nodes: Vec<ModelNode>,
}

/// One operator.
#[derive(Clone)]
pub struct ModelNode {
    /// Its name.
    pub name: String,
    /// What it reads: an earlier node, and the port of it.
    pub inputs: Vec<(usize, u32)>,
    /// The type of the records that it reads; empty for a source.
    pub reads: String,
    /// What it does.
    pub op: ModelOp,
    /// The port on which it emits what it puts aside, each as a [`crate::api::DeadLetter`].
    pub dead_letters: Option<u32>,
}

/// What an operator does.
#[derive(Clone)]
pub enum ModelOp {
    /// Reads from outside.
    Source,
    /// Any number of records for each, without state. A panic or an error emits nothing.
    Step(ModelStep),
    /// A value for each key, emitted at the end or at each record.
    Aggregate {
        /// The value's making.
        aggregate: ModelAggregate,
        /// Emitted after each record instead of at the end.
        updates: Arc<core::sync::atomic::AtomicBool>,
    },
    /// The first record of each key.
    Distinct {
        /// The encoded key of a record.
        key: Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>,
    },
    /// A value for each key and window. Port 1 carries what came too late.
    Window {
        /// The value's making.
        aggregate: ModelAggregate,
        /// The windows.
        windows: Windows,
    },
    /// Passes everything on.
    Union,
    /// An operator written by hand: the model knows nothing of it.
    Opaque,
    /// Writes to the outside.
    Sink,
}

/// How the records of a key become a value, on encoded records.
#[derive(Clone)]
pub struct ModelAggregate {
    /// The encoded key of a record.
    pub key: Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>,
    /// The encoded value of the first record.
    pub first: Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>,
    /// The encoded value with another record added.
    pub add: Arc<dyn Fn(&[u8], &[u8]) -> Vec<u8> + Send + Sync>,
}
