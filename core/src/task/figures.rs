//! What people see of a task.

use alloc::vec::Vec;

use super::input::Input;
use super::{Latency, Phase, Task};
use crate::api::ConnectorFigure;
use crate::effect::{Effect, Level, Notice};
use crate::host::Faults;
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
    /// Time in which it could do nothing because what it sends to took nothing.
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
    /// How long what sources read took to come to its inputs.
    pub latency: Latency,
    /// Bytes of its state.
    pub state_bytes: u64,
    /// Bytes of a sink's output of epochs that are not yet visible as a whole.
    pub output_bytes: u64,
    /// How long the oldest epoch has been committed whose output is not yet visible.
    pub output_age: Duration,
    /// Its clock.
    pub clock: crate::time::EventTime,
    /// It has ended.
    pub ended: bool,
    /// It reads from outside.
    pub is_source: bool,
}

/// Figures of its connector that a task tells: enough for a topic's partitions, and few enough for
/// a report.
const CONNECTOR_FIGURES_MAX: usize = 1_000;

impl<F: Faults> Task<F> {
    /// Tells the user what its connector has to say.
    pub(super) fn tell(&mut self, fx: &mut Vec<Effect>) {
        while let Some(said) = self.logic.notice() {
            let text = [self.info.uid.as_str(), ": ", &said].concat();
            fx.push(Effect::Notice(Notice { level: Level::Warning, text }));
        }
    }

    /// What its connector has to show.
    pub(crate) fn connector_figures(&self) -> Vec<ConnectorFigure> {
        let mut figures = self.logic.figures();
        figures.truncate(CONNECTOR_FIGURES_MAX);
        figures
    }

    /// Bytes of state, of the batches that wait at the inputs, and of the outputs' buffers.
    pub fn allocated(&mut self) -> usize {
        let queued = self.inputs.iter().map(Input::bytes).sum::<usize>();
        self.logic.state_bytes()
            + self.snapshots.allocated()
            + queued
            + self.logic.outputs().allocated()
            + self.io.bytes_outstanding()
            + self.logic.waiting().allocated
    }

    /// Figures for people.
    pub fn figures(&mut self) -> Figures {
        let (records_read, bytes_read) = self.logic.read();
        let (epoch, snapshot, snapshot_bytes) = self.snapshots.reported();
        let waiting = self.logic.waiting();
        Figures {
            records_in: if self.is_source { records_read } else { self.records_in },
            records_this_run: records_read.saturating_sub(self.records_before),
            bytes_in: if self.is_source { bytes_read } else { self.bytes_in },
            records_out: self.logic.outputs().sent(),
            bytes_out: self.logic.outputs().sent_bytes(),
            queue_bytes: self.inputs.iter().map(Input::bytes).sum::<usize>() as u64,
            credit_bytes: self.logic.outputs().least_credit(),
            blocked: self.blocked.until(self.now),
            epoch,
            snapshot,
            snapshot_bytes,
            quarantined: self.snapshots.quarantined(),
            late: self.logic.late(),
            latency: self.latency,
            state_bytes: self.logic.state_bytes() as u64,
            output_bytes: waiting.bytes,
            output_age: waiting.since.map_or(Duration::ZERO, |since| self.now.since(since)),
            clock: self.logic.outputs().clock(),
            ended: matches!(self.phase, Phase::Ended),
            is_source: self.is_source,
        }
    }
}
