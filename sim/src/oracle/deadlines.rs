//! Whoever waits for somebody else has a deadline.

use gear_core::time::{Duration, Time};

/// The longest that a process may want to wait before it looks around: a few of the longest waits
/// that the engine knows.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// A process holds or dials so many connections, and wants to be woken at a time of its own clock.
///
/// # Errors
/// The rule that is broken.
pub fn judge(connections: usize, next: Option<Time>, now: Time) -> Result<(), String> {
    if connections == 0 {
        return Ok(());
    }
    match next {
        None => Err(format!("deadlines: it waits on {connections} connections without an end")),
        Some(at) if at.since(now) > WAIT_MAX => {
            let span = at.since(now);
            Err(format!("deadlines: it waits on {connections} connections for {span:?}"))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_without_an_end_is_seen() {
        assert!(judge(0, None, Time(5)).is_ok());
        assert!(judge(2, Some(Time(9)), Time(5)).is_ok());
        assert!(judge(1, None, Time(5)).is_err());
        assert!(judge(1, Some(Time::MAX), Time(5)).is_err());
    }
}
