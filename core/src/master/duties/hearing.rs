//! Whom a master hears while another one leads: should it take office, the grace time of those who
//! are gone already has begun when they fell silent, and not with its office.

use alloc::collections::BTreeMap;

use super::workers::WORKERS_MAX;
use crate::id::NodeId;
use crate::limits::{DIAL_BACKOFF_MAX, DIAL_TIMEOUT, GRACE, LEADER_LEASE};
use crate::time::{Duration, Time};

/// Nobody is lost to a new leader before it has been in office for so long: whatever kept it from
/// hearing a leader may have kept it from hearing workers, and they dial again within this time.
const OFFICE_PATIENCE: Duration =
    Duration::from_nanos((DIAL_TIMEOUT.as_nanos() + DIAL_BACKOFF_MAX.as_nanos()) as u64);

/// What a master remembers of whom it hears.
#[derive(Clone, Debug, Default)]
pub(in crate::master) struct Hearing {
    /// Since when it could hear.
    since: Time,
    /// When it last did anything.
    ran: Time,
    /// When it last knew of a leader.
    in_touch: Time,
    /// When each worker was heard last.
    pub(super) workers: BTreeMap<NodeId, Time>,
}

impl Hearing {
    /// Time has passed. Who was held up, or cut off from every leader, judges nobody's silence by
    /// it.
    pub(in crate::master) fn wake(&mut self, now: Time, in_touch: bool) {
        if in_touch {
            self.in_touch = now;
        }
        if now.since(self.ran) > LEADER_LEASE || now.since(self.in_touch) > GRACE {
            self.since = now;
        }
        self.ran = now;
    }

    /// A worker is heard.
    pub(in crate::master) fn heard(&mut self, now: Time, worker: NodeId) {
        if self.workers.len() >= WORKERS_MAX && !self.workers.contains_key(&worker) {
            self.workers.retain(|_, at| now.since(*at) < GRACE);
        }
        if self.workers.len() < WORKERS_MAX || self.workers.contains_key(&worker) {
            self.workers.insert(worker, now);
        }
    }

    /// From when on silence counts for a master that takes office now.
    pub(super) fn counts_since(&self, now: Time) -> Time {
        let patience = GRACE.saturating_sub(OFFICE_PATIENCE);
        let least = Duration::from_nanos(now.0).saturating_sub(patience);
        self.since.max(Time::ZERO + least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::seconds;

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    /// A master that runs every 100 ms, up to a time, and knows of a leader until another.
    fn hearing(until: u64, leader_until: u64) -> Hearing {
        let mut hearing = Hearing::default();
        for now in (10_000..=until).step_by(100) {
            hearing.wake(at(now), now <= leader_until);
        }
        hearing
    }

    #[test]
    fn silence_before_the_office_counts_and_leaves_time_to_dial() {
        let now = at(21_200);
        let since = hearing(21_200, 20_000).counts_since(now);
        assert_eq!(since + GRACE, now + OFFICE_PATIENCE);
    }

    #[test]
    fn who_was_cut_off_or_held_up_gives_the_whole_grace_time() {
        let now = at(30_000);
        assert_eq!(hearing(30_000, 20_000).counts_since(now), now);
        let mut paused = hearing(20_000, 20_000);
        paused.wake(now, true);
        assert_eq!(paused.counts_since(now), now);
        assert_eq!(hearing(10_000, 10_000).counts_since(at(10_000) + seconds(1)), at(10_000));
    }
}
