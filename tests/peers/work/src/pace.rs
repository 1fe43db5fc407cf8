//! When records should be sent.

use std::thread;
use std::time::Duration;

use crate::{RATE, nanos};

/// How long a source without anything to send gives up its core.
const PAUSE: Duration = Duration::from_micros(20);

/// The schedule of a source: whatever happens, record n is due n / [`RATE`] after the beginning.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// Zero before the first question.
    began: u64,
    sent: u64,
}

impl Pace {
    /// The number and time of the next record, if it is due.
    pub fn due(&mut self) -> Option<(u64, u64)> {
        let now = nanos();
        if self.began == 0 {
            self.began = now;
        }
        let intended = self.began + self.sent * 1_000_000_000 / RATE;
        (intended <= now).then(|| {
            self.sent += 1;
            (self.sent - 1, intended)
        })
    }

    /// The number and time of the next record, when it is due.
    pub fn wait(&mut self) -> (u64, u64) {
        loop {
            if let Some(due) = self.due() {
                return due;
            }
            thread::sleep(PAUSE);
        }
    }
}
