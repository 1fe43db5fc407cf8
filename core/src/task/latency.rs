//! How long what sources read takes to come to a task: measured by the barriers, which travel
//! behind the records of their epoch through the same queues, so that no record has to be stamped.

use serde::{Deserialize, Serialize};

use crate::time::{Duration, WallTime};

/// Buckets that have an upper bound.
const BOUNDED: usize = 16;

/// The upper bounds of the buckets, in microseconds: from what an exchange between two threads
/// takes to what a stream does that is held up.
pub const LATENCY_BOUNDS: [u64; BOUNDED] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000, 60_000_000,
];

/// Times from a source's barrier to a task's input, by how long they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// How many there were up to each of [`LATENCY_BOUNDS`], and above the one before it.
    pub counts: [u64; BOUNDED],
    /// How many were longer than all of these.
    pub longer: u64,
    /// All of them together.
    pub sum: Duration,
}

impl Latency {
    /// A barrier has come: `born` by the clock of the machine where it was, `now` by this one's.
    /// Clocks that differ make it wrong by that much, but never negative.
    pub(crate) fn observe(&mut self, born: WallTime, now: WallTime) {
        let micros = u64::try_from(now.0.saturating_sub(born.0)).unwrap_or(0);
        match LATENCY_BOUNDS.iter().position(|bound| micros <= *bound) {
            Some(bucket) => self.counts[bucket] += 1,
            None => self.longer += 1,
        }
        self.sum = self.sum.saturating_add(Duration::from_micros(micros));
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.longer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_one_bucket() {
        let mut latency = Latency::default();
        for micros in [0, 100, 101, 60_000_000, 60_000_001] {
            latency.observe(WallTime(1_000), WallTime(1_000 + micros));
        }
        // The clock of the source is ahead.
        latency.observe(WallTime(i64::MAX), WallTime(i64::MIN));
        assert_eq!((latency.counts[0], latency.counts[1], latency.counts[15]), (3, 1, 1));
        assert_eq!((latency.longer, latency.count()), (1, 6));
        assert_eq!(latency.sum, Duration::from_micros(120_000_202));
    }
}
