//! How long records are on their way.

use hdrhistogram::Histogram;

use crate::{Windows, finish, intended, nanos, number, sample};

/// A minute: who is later than that has stopped.
const LATE_NANOS_MAX: u64 = 60_000_000_000;

/// Notes how late records are after the time at which they should have been sent, so that waiting
/// in front of a slow engine counts too, and ends the process when every window is measured.
#[derive(Clone, Debug)]
pub struct Latency {
    windows: Windows,
    records: u64,
    began: u64,
    is_warm: bool,
    measured: u64,
    /// Of the window, in nanoseconds.
    seen: Histogram<u64>,
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Latency {
    /// Nothing has come yet.
    ///
    /// # Panics
    /// Never: the bounds and the precision are valid.
    #[must_use]
    pub fn new() -> Self {
        Self {
            windows: Windows::from_environment(),
            records: 0,
            began: 0,
            is_warm: false,
            measured: 0,
            seen: Histogram::new_with_bounds(1, LATE_NANOS_MAX, 3).expect("these are valid"),
        }
    }

    /// Takes the next record of all.
    ///
    /// # Panics
    /// If records were lost, repeated or reordered.
    pub fn take(&mut self, record: &[u8]) {
        assert_eq!(number(record), self.records, "the record after number {}", self.records);
        self.records += 1;
        let now = nanos();
        if self.began == 0 {
            self.began = now;
        }
        self.seen.saturating_record(now.saturating_sub(intended(record)).max(1));
        let length = if self.is_warm { self.windows.window } else { self.windows.warm };
        if u128::from(now - self.began) < length.as_nanos() {
            return;
        }
        if self.is_warm {
            for (work, quantile) in
                [("latency-p50", 0.5), ("latency-p99", 0.99), ("latency-p99.9", 0.999)]
            {
                sample(work, self.seen.value_at_quantile(quantile) as f64 / 1e3, "us");
            }
            self.measured += 1;
            if self.measured == self.windows.count {
                finish();
            }
        }
        self.is_warm = true;
        self.began = now;
        self.seen.reset();
    }
}
