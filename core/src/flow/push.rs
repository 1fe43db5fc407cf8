//! How fused operators hand records on, and what happens when one of them panics.

use alloc::string::String;
use alloc::vec::Vec;

use crate::api::record::{Record, type_name};
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

    /// Gives a record that was put aside to the operator of its name, from here on down.
    fn enter(&mut self, entry: &Quarantined, guard: &mut dyn Guard) -> Entered;

    /// The task's outputs, at the end of the chain.
    fn outputs(&mut self) -> &mut Outputs;

    /// The generator of watermarks in this chain, if it has one.
    fn clocks(&mut self) -> Option<&mut PartitionClocks>;
}

/// The partition of a record that comes out of the quarantine: it says nothing of how far any has
/// been read.
pub const REPLAYED: u32 = u32::MAX;

/// Whether a record that was put aside has reached its operator again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// The operator has taken it, or refused it again.
    Taken,
    /// There is no operator of that name.
    Missing,
    /// The operator reads another type of records.
    Changed,
    /// Its key belongs to another task.
    Elsewhere,
    /// It never was a record: the source could not read it.
    Unread,
}

/// The record of an entry; none if it is of another type.
pub(crate) fn view_of<T: Record>(entry: &Quarantined) -> Option<T::View<'_>> {
    if entry.record != type_name::<T>() {
        return None;
    }
    let mut input = entry.bytes.as_slice();
    let view = T::decode(&mut input).ok()?;
    input.is_empty().then_some(view)
}

/// Gives an entry to the stage that has refused it.
#[cold]
pub(crate) fn enter_here<T: Record>(
    stage: &mut impl Push<T>,
    entry: &Quarantined,
    guard: &mut dyn Guard,
) -> Entered {
    let Some(view) = view_of::<T>(entry) else { return Entered::Changed };
    stage.outputs().begin_record();
    stage.push_guarded(Meta { at: entry.at, partition: REPLAYED }, view, guard);
    Entered::Taken
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
