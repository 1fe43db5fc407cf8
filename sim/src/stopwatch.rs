//! How long an app is without new output after an executor was lost, and the masters without a
//! leader. A time that belongs to one loss alone says how fast the engine is; a time in which
//! anything else was wrong is kept apart, and not left out.

use gear_core::id::AppId;
use gear_core::time::Time;

use crate::report::Times;

/// What is measured between two moments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stopwatch {
    outage: Option<Outage>,
    leaderless: Option<Sample>,
    /// Until when some fault lasts.
    troubled_until: Time,
    /// From deaths of executors to epochs.
    pub(crate) outages: Times,
    /// The same of those whose machines lost their power: nobody says that they are gone.
    pub(crate) blackouts: Times,
    /// From deaths of leaders to new ones.
    pub(crate) elections: Times,
    /// Processes that were started in the place of others.
    pub(crate) recoveries: u64,
}

/// Something that has begun.
#[derive(Clone, Copy, Debug)]
struct Sample {
    since: Time,
    disturbed: bool,
}

/// An executor of an app has died.
#[derive(Clone, Copy, Debug)]
struct Outage {
    app: AppId,
    sample: Sample,
    /// Its machine has lost its power.
    dark: bool,
    /// Its tasks have been rolled back since.
    rolled: bool,
}

impl Stopwatch {
    /// Something goes wrong, and lasts until then.
    pub(crate) fn disturb(&mut self, until: Time) {
        self.troubled_until = self.troubled_until.max(until);
        if let Some(outage) = &mut self.outage {
            outage.sample.disturbed = true;
        }
        if let Some(sample) = &mut self.leaderless {
            sample.disturbed = true;
        }
    }

    /// What lasted is over.
    pub(crate) fn heal(&mut self, now: Time) {
        self.troubled_until = now;
    }

    /// An executor of an app has died that had something to do: by itself, or since its machine
    /// lost its power.
    pub(crate) fn executor_died(&mut self, now: Time, app: AppId, (dark, troubled): (bool, bool)) {
        let sample = self.begin(now, troubled);
        self.outage.get_or_insert(Outage { app, sample, dark, rolled: false });
    }

    /// The leader has died.
    pub(crate) fn leader_died(&mut self, now: Time, troubled: bool) {
        let sample = self.begin(now, troubled);
        self.leaderless.get_or_insert(sample);
    }

    fn begin(&self, now: Time, troubled: bool) -> Sample {
        Sample { since: now, disturbed: troubled || now < self.troubled_until }
    }

    /// A leader acts.
    pub(crate) fn leader_acts(&mut self, now: Time) {
        if let Some(sample) = self.leaderless.take() {
            self.elections.add(now.since(sample.since), sample.disturbed);
        }
    }

    /// The tasks of an app run again.
    pub(crate) fn rolled(&mut self, app: AppId) {
        if let Some(outage) = self.outage.as_mut().filter(|outage| outage.app == app) {
            outage.rolled = true;
        }
    }

    /// An epoch of an app has committed, or the app has ended: all of its output is there.
    pub(crate) fn output(&mut self, now: Time, app: AppId, ended: bool) {
        let done = |outage: &mut Outage| outage.app == app && (outage.rolled || ended);
        if let Some(Outage { sample, dark, .. }) = self.outage.take_if(done) {
            let times = if dark { &mut self.blackouts } else { &mut self.outages };
            times.add(now.since(sample.since), sample.disturbed);
        }
    }
}

#[cfg(test)]
mod tests {
    use gear_core::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_disturbed_is_kept_apart() {
        let mut watch = Stopwatch::default();
        watch.executor_died(at(1), AppId(1), (false, false));
        watch.output(at(2), AppId(1), false);
        watch.rolled(AppId(1));
        watch.output(at(3), AppId(2), false);
        watch.output(at(4), AppId(1), false);
        assert_eq!(watch.outages.clean, [Duration::from_secs(3)]);
        watch.executor_died(at(5), AppId(1), (false, false));
        watch.disturb(at(9));
        watch.output(at(6), AppId(1), true);
        watch.leader_died(at(8), false);
        watch.leader_acts(at(9));
        assert_eq!(watch.outages.disturbed, [Duration::from_secs(1)]);
        assert_eq!(watch.elections.disturbed, [Duration::from_secs(1)]);
        watch.heal(at(9));
        watch.executor_died(at(9), AppId(1), (true, false));
        watch.output(at(11), AppId(1), true);
        assert_eq!(watch.blackouts.clean, [Duration::from_secs(2)]);
        watch.leader_died(at(9), false);
        watch.leader_acts(at(11));
        assert_eq!(watch.elections.clean, [Duration::from_secs(2)]);
    }
}
