//! How fused operators hand records on, and what happens when one of them panics.

use alloc::string::String;
use alloc::vec::Vec;

use crate::api::record::Record;
use crate::clock::PartitionClocks;
use crate::flow::outputs::Outputs;
use crate::time::EventTime;

/// What travels beside a record inside a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The record's event time; [`EventTime::MIN`] if it carries none.
    pub at: EventTime,
    /// The partition of the source, or the channel, from which it came.
    pub partition: u32,
}

/// The next operator of a fused chain, down to the tail that owns the task's [`Outputs`].
///
/// Composed by generics, so that a chain compiles to one loop.
pub trait Push<T: Record>: Send {
    /// Takes a record.
    fn push(&mut self, meta: Meta, view: T::View<'_>);

    /// Takes a record with a guard around every operator: used once, on a record of which the
    /// unguarded run panicked.
    fn push_guarded(&mut self, meta: Meta, view: T::View<'_>, guard: &mut dyn Guard);

    /// The task's outputs, at the end of the chain.
    fn outputs(&mut self) -> &mut Outputs;

    /// The generator of watermarks in this chain, if it has one.
    fn clocks(&mut self) -> Option<&mut PartitionClocks>;
}

/// Runs what may panic. The driver's, since catching a panic needs an operating system.
pub trait Guard {
    /// Runs `call` and gives the panic's message if it panicked.
    ///
    /// # Errors
    /// The message of the panic.
    fn run(&mut self, call: &mut dyn FnMut()) -> Result<(), String>;
}

/// A guard that lets panics through: where a panic is to be seen as one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unguarded;

impl Guard for Unguarded {
    fn run(&mut self, call: &mut dyn FnMut()) -> Result<(), String> {
        call();
        Ok(())
    }
}

/// Runs `call` under the guard and gives its result.
///
/// # Errors
/// The message of the panic.
pub fn guarded<R>(guard: &mut dyn Guard, call: impl FnOnce() -> R) -> Result<R, String> {
    let mut call = Some(call);
    let mut result = None;
    guard.run(&mut || {
        if let Some(call) = call.take() {
            result = Some(call());
        }
    })?;
    Ok(result.expect("a call that did not panic has a result"))
}

/// A record that was put aside, with what is needed to understand and to replay it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Quarantined {
    /// The operator whose input it is.
    pub operator: String,
    /// The source's partition, or the input channel, it came from.
    pub partition: String,
    /// Its position there, as the source prints it; empty inside the DAG.
    pub position: String,
    /// Its event time.
    pub at: EventTime,
    /// The record type of `bytes`.
    pub record: String,
    /// The encoded record, cut at [`crate::limits::QUARANTINED_BYTES_MAX`].
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// True if `bytes` was cut.
    pub cut: bool,
    /// What went wrong.
    pub error: String,
}
