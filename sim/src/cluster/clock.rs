//! The clocks of a machine: one that never goes back but may go wrong by a tenth, and a calendar
//! that may jump.

use gear_core::time::{Time, WallTime};

/// A machine's clocks since its boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The true time of the boot.
    boot: u64,
    /// What the clock showed then.
    shown: u64,
    /// Millionths of the true speed.
    rate: u64,
    /// Microseconds that the calendar is ahead.
    ahead: i64,
}

/// The true speed.
pub(crate) const TRUE_RATE: u64 = 1_000_000;

impl Clock {
    /// A clock that shows `shown` nanoseconds at the true time `boot`.
    pub(crate) const fn new(boot: Time, shown: u64, rate: u64) -> Self {
        Self { boot: boot.0, shown, rate, ahead: 0 }
    }

    /// What it shows at a true time.
    pub(crate) const fn local(&self, at: Time) -> Time {
        let passed = at.0.saturating_sub(self.boot);
        Time(self.shown + (passed as u128 * self.rate as u128 / TRUE_RATE as u128) as u64)
    }

    /// The first true time at which it shows a time.
    pub(crate) const fn global(&self, at: Time) -> Time {
        let passed = at.0.saturating_sub(self.shown) as u128;
        let nanos = (passed * TRUE_RATE as u128).div_ceil(self.rate as u128);
        Time(if nanos > u64::MAX as u128 / 2 { u64::MAX } else { self.boot + nanos as u64 })
    }

    /// What the calendar shows at a true time.
    pub(crate) const fn wall(&self, at: Time) -> WallTime {
        WallTime((at.0 / 1_000) as i64 + self.ahead)
    }

    /// The calendar jumps.
    pub(crate) const fn jump(&mut self, micros: i64) {
        self.ahead = self.ahead.saturating_add(micros);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_has_come_when_the_clock_shows_it_and_not_before() {
        for rate in [900_000, 999_999, 1_000_000, 1_099_999] {
            let clock = Clock::new(Time(77), 1_000, rate);
            for shown in [1_000, 1_001, 54_321, 9_999_999_999] {
                let at = clock.global(Time(shown));
                assert!(clock.local(at) >= Time(shown), "rate {rate}");
                assert!(at.0 == 77 || clock.local(Time(at.0 - 1)) < Time(shown), "rate {rate}");
            }
            assert_eq!(clock.global(Time::MAX), Time::MAX);
        }
    }
}
