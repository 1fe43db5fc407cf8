//! What a task tells an app master that did not deploy it.

use super::{Phase, Task};
use crate::host::Faults;
use crate::id::{AppTerm, Epoch};
use crate::message::{TaskPhase, TaskReport};

impl<F: Faults> Task<F> {
    /// The epoch from which it has begun.
    #[must_use]
    pub const fn restored(&self) -> Epoch {
        self.restored
    }

    /// How it is doing, for an app master that did not deploy it. `term` is that of the one that
    /// did.
    #[must_use]
    pub fn report(&self, term: AppTerm) -> TaskReport {
        let passed = self.snapshots.last_epoch();
        let asked = self.asked.back().map(|start| start.epoch);
        let aligned = self.inputs.iter().filter_map(|input| input.aligned.back());
        let aligned = aligned.map(|(start, _)| start.epoch).max();
        TaskReport {
            task: self.info.task,
            attempt: self.info.attempt,
            term,
            phase: match &self.phase {
                Phase::Restoring { .. } => TaskPhase::Restoring,
                Phase::Ready => TaskPhase::Ready,
                Phase::Running | Phase::Ending => TaskPhase::Running,
                Phase::Ended => TaskPhase::Ended,
                Phase::Failed => TaskPhase::Failed { reason: self.failure.clone() },
            },
            restored: self.restored,
            passed,
            heard: passed.max(asked.unwrap_or_default()).max(aligned.unwrap_or_default()),
            stopped: self.stopped || self.asked.iter().any(|start| start.stop),
            finished: self.snapshots.finished().cloned(),
        }
    }
}
