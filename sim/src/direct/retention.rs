//! Retention meets what the job reads, and what the job says of it.

use gear_connectors::kafka::WhenGone;
use gear_core::host::Faults;

use super::world::World;
use crate::cluster::FaultKind;
use crate::oracle::gone::names_choices;

impl<F: Faults> World<'_, F> {
    /// Retention meets what the job reads, at a rate.
    pub(super) fn remove_oldest(&mut self) {
        let Some(brokers) = &mut self.brokers else { return };
        if !self.removals.permille(self.config.faults.retention) {
            return;
        }
        let read = self.commits.partitions();
        let removed = brokers.remove_oldest(read, 1_000, &mut self.removals);
        if let Some(state) = removed.state() {
            self.count(FaultKind::Retention.name());
            self.seen(state);
        }
    }

    /// The user is told something.
    pub(super) fn told(&mut self, text: &str) {
        let Some(brokers) = &mut self.brokers else { return };
        match brokers.told(text) {
            Ok(None) => {}
            Ok(Some(state)) => self.seen(state),
            Err(violation) => self.violations.push(violation),
        }
    }

    /// True if the job ends for this reason since it has chosen so.
    pub(super) fn has_chosen_to_fail(&self, reason: &str) -> bool {
        let chosen = self.config.topics.map(|topics| topics.when_gone);
        chosen == Some(WhenGone::Fail) && names_choices(reason)
    }
}
