//! Regions: the tasks that are joined by channels, which go back to an epoch together.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::id::TaskId;
use crate::time::{Duration, Time};

/// Times that a region is brought up again after a task of it has failed; then the app fails. Five
/// tries with growing waits outlast what passes by itself.
pub const TASK_RETRIES_MAX: u32 = 5;
/// A region that has run for this long has healed: its failures before count no more.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(30);
/// Wait before a region is brought up again after its first failure; doubles with each.
pub const RETRY_BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait before a region is brought up again.
pub const RETRY_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Tasks that are joined by channels, directly or through others.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub(super) tasks: BTreeSet<TaskId>,
    pub(super) state: State,
    /// Since when it has been in this state.
    since: Time,
    /// Failures of its tasks since it was healthy.
    failures: u32,
}

/// How a region is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has to be brought up, from the last committed epoch.
    Down {
        /// Not before this time; at once if there is none.
        not_before: Option<Time>,
        /// The tasks that were lost or have to go back with them.
        tasks: BTreeSet<TaskId>,
    },
    /// Its tasks restore their state.
    Deploying {
        /// Those that are not ready.
        unready: BTreeSet<TaskId>,
    },
    /// Its tasks run, or have ended.
    Running,
}

impl Region {
    fn new(tasks: BTreeSet<TaskId>) -> Self {
        let state = State::Down { not_before: None, tasks: tasks.clone() };
        Self { tasks, state, since: Time::ZERO, failures: 0 }
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.state, State::Down { .. })
    }

    pub(super) fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// Failures of its tasks since it was healthy.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// True if it is down and may be brought up.
    pub(super) fn is_due(&self) -> bool {
        matches!(self.state, State::Down { not_before: None, .. })
    }

    /// Until when it stays down.
    pub(super) fn not_before(&self) -> Option<Time> {
        match &self.state {
            State::Down { not_before, .. } => *not_before,
            _ => None,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Time) {
        if let State::Down { not_before, .. } = &mut self.state {
            *not_before = not_before.filter(|at| *at > now);
        }
    }

    pub(super) fn enter(&mut self, now: Time, state: State) {
        self.state = state;
        self.since = now;
    }

    /// A task of it has failed. Gives the wait before the next try; none if there is none.
    pub(super) fn fail(&mut self, now: Time) -> Option<Duration> {
        if self.is_running() && now.since(self.since) >= HEALTHY_AFTER {
            self.failures = 0;
        }
        self.failures += 1;
        let doublings = self.failures.min(16) - 1;
        let wait = RETRY_BACKOFF_MAX.min(RETRY_BACKOFF_MIN * (1 << doublings));
        (self.failures <= TASK_RETRIES_MAX).then_some(wait)
    }
}

/// The regions of an app, in the order of their first tasks.
pub(super) fn regions(
    tasks: impl Iterator<Item = TaskId>,
    channels: &[(TaskId, TaskId)],
) -> Vec<Region> {
    let mut neighbours: BTreeMap<TaskId, Vec<TaskId>> =
        tasks.map(|task| (task, Vec::new())).collect();
    for (one, other) in channels {
        for (task, neighbour) in [(one, other), (other, one)] {
            let known = neighbours.get_mut(task).expect("a channel joins tasks of the app");
            known.push(*neighbour);
        }
    }
    let mut found = Vec::new();
    while let Some((first, _)) = neighbours.first_key_value() {
        let mut region = BTreeSet::from([*first]);
        let mut ahead = Vec::from([*first]);
        while let Some(task) = ahead.pop() {
            for neighbour in neighbours.remove(&task).unwrap_or_default() {
                if region.insert(neighbour) {
                    ahead.push(neighbour);
                }
            }
        }
        found.push(Region::new(region));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ProcessorId;
    use crate::time::seconds;

    fn task(processor: u32, index: u32) -> TaskId {
        TaskId { processor: ProcessorId(processor), index }
    }

    #[test]
    fn what_is_joined_is_one_region() {
        let tasks: Vec<_> = (0..3).flat_map(|p| (0..3).map(move |i| task(p, i))).collect();
        let forward = (0..3).map(|index| (task(0, index), task(1, index)));
        let channels: Vec<_> = forward.chain([(task(1, 2), task(2, 0))]).collect();
        let found = regions(tasks.into_iter(), &channels);
        let sizes: Vec<_> = found.iter().map(|region| region.tasks.len()).collect();
        assert_eq!(sizes, [2, 2, 3, 1, 1]);
        assert!(found[2].tasks.contains(&task(2, 0)));
    }

    #[test]
    fn the_budget_of_retries_comes_back_with_health() {
        let mut region = regions([task(0, 0)].into_iter(), &[]).remove(0);
        for _ in 0..3 {
            let waits: Vec<_> = (0..TASK_RETRIES_MAX).map(|_| region.fail(Time::ZERO)).collect();
            assert!(waits.is_sorted() && waits.iter().all(Option::is_some), "{waits:?}");
            let mut lasting = region.clone();
            assert_eq!(lasting.fail(Time::ZERO), None);
            region.enter(Time::ZERO, State::Running);
            let mut later = region.clone();
            assert_eq!(later.fail(Time::ZERO + seconds(1)), None, "too short to be healthy");
            assert!(region.fail(Time::ZERO + HEALTHY_AFTER).is_some());
            region.failures = 0;
        }
    }
}
