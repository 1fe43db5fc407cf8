//! How long a task could do nothing because what it sends to took nothing: tasks behind it, or
//! whatever its sink writes to.

use crate::time::{Duration, Time};

#[derive(Debug, Default)]
pub(super) struct Blocked {
    /// Times that are over.
    before: Duration,
    since: Option<Time>,
}

impl Blocked {
    /// It waits for room, or does no more.
    pub(super) fn note(&mut self, waits: bool, now: Time) {
        if waits {
            self.since.get_or_insert(now);
        } else if let Some(since) = self.since.take() {
            self.before += now.since(since);
        }
    }

    /// All of it until now.
    pub(super) fn until(&self, now: Time) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| now.since(since))
    }
}
