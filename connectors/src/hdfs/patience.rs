//! How long one call may take, and how long what may pass is waited for.

use std::time::Duration;

use super::{CALL_MAX_DEFAULT, START_WAIT_MAX, WAIT_MAX_DEFAULT};

/// The first wait: a name node that was busy answers the next time.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest wait: what has come back is noticed so soon.
const PAUSE_MAX: Duration = Duration::from_secs(2);

const CALL_VARIABLE: &str = "GEAR_HDFS_CALL_SECONDS";
const WAIT_VARIABLE: &str = "GEAR_HDFS_WAIT_SECONDS";

/// A limit that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}={value} is no time: write a number of seconds of at least 1, such as 20")]
pub struct LimitError {
    variable: &'static str,
    value: String,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One call.
    pub call: Duration,
    /// What may pass.
    pub wait: Duration,
}

impl Limits {
    /// Those of the environment: `GEAR_HDFS_CALL_SECONDS` and `GEAR_HDFS_WAIT_SECONDS`.
    ///
    /// # Errors
    /// [`LimitError`] if one is no time.
    pub fn from_environment() -> Result<Self, LimitError> {
        Self::from(|variable| std::env::var_os(variable).map(|it| it.to_string_lossy().into()))
    }

    fn from(value: impl Fn(&str) -> Option<String>) -> Result<Self, LimitError> {
        let seconds = |variable, default| match value(variable) {
            None => Ok(default),
            Some(value) => match value.parse() {
                Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
                _ => Err(LimitError { variable, value }),
            },
        };
        Ok(Self {
            call: seconds(CALL_VARIABLE, CALL_MAX_DEFAULT)?,
            wait: seconds(WAIT_VARIABLE, WAIT_MAX_DEFAULT)?,
        })
    }

    /// How long a start waits.
    #[must_use]
    pub fn start(&self) -> Duration {
        self.wait.min(START_WAIT_MAX)
    }
}

/// The waits between tries of one request.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    total: Duration,
    pause: Duration,
    waits: u32,
}

impl Patience {
    pub(crate) const fn new(total: Duration) -> Self {
        Self { total, pause: PAUSE_MIN, waits: 0 }
    }

    /// How long to wait before the next try, `since` the first one; none if it was tried for long
    /// enough.
    pub(crate) fn pause(&mut self, since: Duration) -> Option<Duration> {
        let left = self.total.checked_sub(since).filter(|left| !left.is_zero())?;
        let pause = self.pause.min(left);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.waits += 1;
        Some(pause)
    }

    /// True once, before it gets long: the user is to hear of it.
    pub(crate) const fn is_to_be_told(&self) -> bool {
        self.waits == 3
    }

    /// True if the user has heard of it.
    pub(crate) const fn was_told(&self) -> bool {
        self.waits >= 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_end_with_the_total() {
        let total = Duration::from_secs(10);
        let mut patience = Patience::new(total);
        let (mut since, mut waits, mut told) = (Duration::ZERO, Vec::new(), 0);
        while let Some(pause) = patience.pause(since) {
            told += u32::from(patience.is_to_be_told());
            waits.push(pause.as_millis());
            since += pause;
        }
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000, 900]);
        assert_eq!((since, told, patience.was_told()), (total, 1, true));
    }

    #[test]
    fn calls_that_take_the_whole_time_leave_none_to_wait() {
        let mut patience = Patience::new(Duration::from_secs(1));
        assert_eq!(patience.pause(Duration::from_secs(1)), None);
        assert!(!patience.was_told());
    }

    #[test]
    fn limits_come_from_the_environment_and_are_checked() {
        let none = Limits::from(|_| None).unwrap();
        assert_eq!(none, Limits { call: CALL_MAX_DEFAULT, wait: WAIT_MAX_DEFAULT });
        assert_eq!(none.start(), START_WAIT_MAX);
        let set = Limits::from(|name| (name == WAIT_VARIABLE).then(|| "5".to_owned())).unwrap();
        assert_eq!((set.wait.as_secs(), set.start().as_secs()), (5, 5));
        for wrong in ["0", "", "-1", "5s"] {
            let error = Limits::from(|_| Some(wrong.to_owned())).unwrap_err().to_string();
            assert!(error.contains(CALL_VARIABLE) && error.contains("seconds"), "{error}");
        }
    }
}
