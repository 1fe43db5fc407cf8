//! Partitions of the input that turn up while apps run that go on for ever: they are watched until
//! all there is has gone through.

use gear_core::id::AppId;
use gear_core::time::{Duration, Time};

use super::subject::Output;
use super::world::{Event, World};

/// Time until the next partition turns up, at most, in nanoseconds.
const GROWS_WITHIN: u64 = 3_000_000_000;
/// For so long apps go on when all is there: what comes twice comes late.
const GOES_ON: Duration = Duration::from_secs(1);
/// The rare state of input that gets more partitions.
const TURNED_UP: &str = "a partition turned up";

impl World<'_> {
    /// If the input of an app grows, it does after a while.
    pub(crate) fn grow_later(&mut self, home: AppId) {
        if self.work.goes_on() {
            let at = Time(self.now.0 + 1 + self.random.growth.below(GROWS_WITHIN));
            self.push(at, Event::Grow { home });
        }
    }

    /// One more partition turns up.
    pub(crate) fn grow(&mut self, home: AppId) {
        let services = self.services.get(&home);
        let Some(brokers) = services.and_then(|it| it.brokers.as_ref()) else { return };
        if self.work.grow(brokers.cluster(), &mut self.random.growth) {
            self.trace.write(self.now, || format!("a partition turns up for {home}"));
            self.seen(TURNED_UP);
            self.grow_later(home);
        }
    }

    /// True if an app that goes on for ever has come to the end of all there is.
    pub(crate) fn is_through(&self, app: AppId) -> bool {
        let services = self.services.get(&self.home(app)).filter(|_| self.work.goes_on());
        let Some(services) = services else { return false };
        self.work.is_through(&Output {
            app: &services.name,
            outcome: None,
            disk: &services.disk,
            topics: services.brokers.as_ref(),
            commits: &services.commits,
            store: &services.store,
        })
    }

    /// Apps that are through go on for a while.
    pub(crate) fn go_on(&mut self) {
        if self.work.goes_on() {
            self.run_until(self.now + GOES_ON, |_| false);
        }
    }
}
