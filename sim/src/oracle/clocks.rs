//! A task's clock never falls within an attempt, and no record is late that was on time for the
//! model.

use std::collections::BTreeMap;

use gear_core::time::EventTime;

use crate::cluster::TaskLook;

/// What was seen of the tasks' clocks.
#[derive(Clone, Debug, Default)]
pub struct Clocks {
    seen: BTreeMap<(usize, gear_core::id::TaskId), TaskLook>,
}

impl Clocks {
    /// A task of a process, by its number. `punctual` if no record may be late.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn observe(
        &mut self,
        process: usize,
        now: &TaskLook,
        punctual: bool,
    ) -> Result<(), String> {
        let task = now.task;
        let before = self.seen.insert((process, task), now.clone());
        if let Some(before) = before.filter(|before| before.attempt == now.attempt)
            && now.clock < before.clock
        {
            let (from, to) = (before.clock, now.clock);
            return Err(format!("clocks: the clock of {task} fell from {from} to {to}"));
        }
        if punctual && now.late > 0 {
            let late = now.late;
            return Err(format!("clocks: {late} records came too late for {task}, and none is"));
        }
        Ok(())
    }

    /// The lowest clock of the tasks seen last.
    #[must_use]
    pub fn lowest(&self) -> Option<EventTime> {
        self.seen.values().map(|look| look.clock).min()
    }
}

#[cfg(test)]
mod tests {
    use gear_core::id::Attempt;

    use super::*;

    fn look(clock: i64, attempt: u64, late: u64) -> TaskLook {
        let (attempt, clock) = (Attempt(attempt), EventTime(clock));
        TaskLook { attempt, clock, late, ..TaskLook::default() }
    }

    #[test]
    fn a_clock_falls_with_a_new_attempt_only() {
        let mut clocks = Clocks::default();
        clocks.observe(1, &look(5, 1, 0), true).unwrap();
        clocks.observe(1, &look(3, 2, 0), true).unwrap();
        assert_eq!(clocks.lowest(), Some(EventTime(3)));
        assert!(clocks.observe(1, &look(2, 2, 0), true).is_err());
    }

    #[test]
    fn a_record_that_is_late_for_nobody_is_not_counted_late() {
        let mut clocks = Clocks::default();
        clocks.observe(1, &look(5, 1, 1), false).unwrap();
        assert!(clocks.observe(1, &look(5, 1, 1), true).is_err());
    }
}
