//! Partitions of the input that turn up while a job runs that goes on for ever: it is watched until
//! all of them have gone through.

use gear_core::host::Faults;
use gear_core::time::{Duration, Time};

use super::process::built;
use super::world::{Event, World};

/// Time until the next partition turns up, at most, in nanoseconds.
const GROWS_WITHIN: u64 = 200_000_000;
/// Time between two looks whether all is there.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// For so long it goes on when all is there: what comes twice comes late.
const GOES_ON: Duration = Duration::from_millis(300);

impl<F: Faults> World<'_, F> {
    /// If the input of the job grows, it does from now on.
    pub(super) fn begin_growth(&mut self) {
        if self.config.topics.is_some_and(|topics| topics.grows) {
            self.grow_later();
            self.at(self.now + LOOK_EVERY, 0, Event::Look);
        }
    }

    fn grow_later(&mut self) {
        let at = Time(self.now.0 + 1 + self.additions.below(GROWS_WITHIN));
        self.at(at, 0, Event::Grow);
    }

    /// One more partition turns up.
    pub(super) fn grow(&mut self) {
        let (Some(brokers), Some(topics)) = (&self.brokers, &self.config.topics) else { return };
        let sources = self.config.sources.as_slice();
        if topics.grow(brokers.cluster(), sources, &mut self.additions) {
            self.count("a partition turned up");
            self.grow_later();
        }
    }

    /// All is there, or it is looked again.
    pub(super) fn look_whether_through(&mut self) {
        let (Some(brokers), Some(topics)) = (&self.brokers, &self.config.topics) else { return };
        let built = built(self.config, 0);
        let input = (self.config.sources.as_slice(), &built);
        if topics.is_through(brokers.input(), input, (&self.commits, &self.store)) {
            self.at(self.now + GOES_ON, 0, Event::Leave);
        } else {
            self.at(self.now + LOOK_EVERY, 0, Event::Look);
        }
    }
}
