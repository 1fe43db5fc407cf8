//! Records a second.

use crate::{Windows, finish, nanos, number, sample};

/// The clock is read once in so many records.
const LOOK_EVERY: u64 = 1024;

/// Counts what reaches a sink, and ends the process when every window is measured.
#[derive(Clone, Debug)]
pub struct Throughput {
    work: &'static str,
    windows: Windows,
    records: u64,
    /// The number of records at the beginning of the window.
    before: u64,
    /// When the window began; zero before the first record.
    began: u64,
    is_warm: bool,
    measured: u64,
}

impl Throughput {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(work: &'static str) -> Self {
        let windows = Windows::from_environment();
        Self { work, windows, records: 0, before: 0, began: 0, is_warm: false, measured: 0 }
    }

    /// Takes the next record of all.
    ///
    /// # Panics
    /// If records were lost, repeated or reordered.
    #[inline]
    pub fn take(&mut self, record: &[u8]) {
        assert_eq!(number(record), self.records, "the record after number {}", self.records);
        self.count();
    }

    /// Counts a record.
    #[inline]
    pub fn count(&mut self) {
        if self.records.is_multiple_of(LOOK_EVERY) {
            self.look();
        }
        self.records += 1;
    }

    #[cold]
    fn look(&mut self) {
        let now = nanos();
        if self.began == 0 {
            self.began = now;
            return;
        }
        let length = if self.is_warm { self.windows.window } else { self.windows.warm };
        let passed = now - self.began;
        if u128::from(passed) < length.as_nanos() {
            return;
        }
        if self.is_warm {
            let rate = (self.records - self.before) as f64 / passed as f64 * 1e3;
            sample(self.work, rate, "M_records/s");
            self.measured += 1;
            if self.measured == self.windows.count {
                finish();
            }
        }
        self.is_warm = true;
        self.began = now;
        self.before = self.records;
    }
}
