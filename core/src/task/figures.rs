//! What people see of a task.

/// Figures of a task, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Records that it took from its inputs, or read.
    pub records_in: u64,
    /// Records that a source has read since this task began.
    pub records_this_run: u64,
    /// Bytes that a source has read since this task began.
    pub bytes_in: u64,
    /// Records that it sent.
    pub records_out: u64,
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
