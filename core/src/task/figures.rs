//! What people see of a task.

use crate::id::Epoch;
use crate::time::Duration;

/// Figures of a task, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Records that it took from its inputs, or read.
    pub records_in: u64,
    /// Records that a source has read since this task began.
    pub records_this_run: u64,
    /// Bytes of what it took from its inputs, or read since it began.
    pub bytes_in: u64,
    /// Records that it sent.
    pub records_out: u64,
    /// Bytes that it sent.
    pub bytes_out: u64,
    /// Bytes that wait at its inputs.
    pub queue_bytes: u64,
    /// Bytes that it may send at once, over the channel that has least; none if it sends nowhere.
    pub credit_bytes: Option<u64>,
    /// Time in which it could do nothing because what it sends to has no room.
    pub blocked: Duration,
    /// The last epoch of which all that it had to say was stored; 0 if none.
    pub epoch: Epoch,
    /// Time that this took, from the barrier.
    pub snapshot: Duration,
    /// Bytes that it stored for that.
    pub snapshot_bytes: u64,
    /// Records that it put aside.
    pub quarantined: u64,
    /// Records that came too late for their window.
    pub late: u64,
    /// Bytes of its state.
    pub state_bytes: u64,
    /// Its clock.
    pub clock: crate::time::EventTime,
    /// It has ended.
    pub ended: bool,
    /// It reads from outside.
    pub is_source: bool,
}
