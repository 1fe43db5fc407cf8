//! What is kept of a run, whatever the scenario.

use std::collections::BTreeMap;

use gear_core::time::Duration;

/// What is to be kept of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Print every input and effect as it comes.
    pub print: bool,
    /// Keep them as text in the report.
    pub keep: bool,
}

/// Times that were measured.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// While nothing else was wrong than the loss from which they were measured.
    pub clean: Vec<Duration>,
    /// While something else was: another loss or fault, too few machines left to go on with.
    pub disturbed: Vec<Duration>,
}

impl Times {
    /// One more.
    pub fn add(&mut self, time: Duration, disturbed: bool) {
        if disturbed { &mut self.disturbed } else { &mut self.clean }.push(time);
    }

    /// Those of another.
    pub fn extend(&mut self, other: &Self) {
        self.clean.extend(&other.clean);
        self.disturbed.extend(&other.disturbed);
    }
}

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The scenario.
    pub scenario: &'static str,
    /// The seed.
    pub seed: u64,
    /// What was run, in a line.
    pub about: String,
    /// What is left out of what the seed means, as arguments of the command line.
    pub changes: String,
    /// Faults that fired, by kind.
    pub fired: BTreeMap<&'static str, u64>,
    /// Rare states that were reached.
    pub rare: BTreeMap<&'static str, u64>,
    /// Processes that were started in the place of others.
    pub recoveries: u64,
    /// Epochs that were committed.
    pub epochs: u64,
    /// Rows in the committed output.
    pub records: u64,
    /// Inputs and turns of machines.
    pub events: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// From the death of an executor to the first epoch that committed after the roll-back.
    pub outages: Times,
    /// The same where its machine lost its power.
    pub blackouts: Times,
    /// From the death of a leader to the next one that acted.
    pub elections: Times,
    /// The hash of the trace.
    pub hash: u64,
    /// The trace, if it was to be kept.
    pub trace: Vec<String>,
    /// What was wrong; empty if nothing was.
    pub violations: Vec<String>,
}

impl Report {
    /// The command that runs this seed again.
    #[must_use]
    pub fn command(&self) -> String {
        let Self { scenario, seed, changes, .. } = self;
        format!(
            "cargo run --release -p sim -- --scenario {scenario} --seed {seed}{changes} --trace -"
        )
    }
}

/// What many runs came to.
#[derive(Clone, Debug, Default)]
pub struct Ensemble {
    /// How many there were.
    pub seeds: u64,
    /// Faults that fired, by kind.
    pub fired: BTreeMap<&'static str, u64>,
    /// Rare states that were reached.
    pub rare: BTreeMap<&'static str, u64>,
    /// Processes that were started in the place of others.
    pub recoveries: u64,
    /// Epochs that were committed.
    pub epochs: u64,
    /// Rows in the committed output.
    pub records: u64,
    /// Inputs and turns of machines.
    pub events: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// From deaths of executors to new output.
    pub outages: Times,
    /// The same where their machines lost their power.
    pub blackouts: Times,
    /// From deaths of leaders to new ones.
    pub elections: Times,
    /// Seeds of which something was wrong, with what it was and how to see it again.
    pub failures: BTreeMap<u64, Failure>,
}

/// A run in which something was wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The command that runs it again.
    pub command: String,
    /// What was run.
    pub about: String,
    /// What was wrong.
    pub violations: Vec<String>,
    /// Inputs and turns until it showed.
    pub events: u64,
}

impl Ensemble {
    /// Adds a run. The order in which runs are added does not matter.
    pub fn add(&mut self, report: Report) {
        self.seeds += 1;
        for (sum, counts) in [(&mut self.fired, &report.fired), (&mut self.rare, &report.rare)] {
            for (what, count) in counts {
                *sum.entry(what).or_default() += count;
            }
        }
        self.recoveries += report.recoveries;
        self.epochs += report.epochs;
        self.records += report.records;
        self.events += report.events;
        self.simulated += report.simulated;
        self.outages.extend(&report.outages);
        self.blackouts.extend(&report.blackouts);
        self.elections.extend(&report.elections);
        if !report.violations.is_empty() {
            let command = report.command();
            let Report { seed, about, violations, events, .. } = report;
            self.failures.insert(seed, Failure { command, about, violations, events });
        }
    }

    /// Adds the runs of another.
    pub fn join(&mut self, other: Self) {
        self.seeds += other.seeds;
        for (sum, counts) in [(&mut self.fired, &other.fired), (&mut self.rare, &other.rare)] {
            for (what, count) in counts {
                *sum.entry(what).or_default() += count;
            }
        }
        self.recoveries += other.recoveries;
        self.epochs += other.epochs;
        self.records += other.records;
        self.events += other.events;
        self.simulated += other.simulated;
        self.outages.extend(&other.outages);
        self.blackouts.extend(&other.blackouts);
        self.elections.extend(&other.elections);
        self.failures.extend(other.failures);
    }
}

/// The median and the greatest of some times; none of none.
#[must_use]
pub fn spread(times: &[Duration]) -> Option<(Duration, Duration)> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    Some((*sorted.get(sorted.len() / 2)?, *sorted.last()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ensemble_does_not_depend_on_the_order() {
        let report = |seed: u64| Report {
            seed,
            fired: [("clog", seed)].into(),
            violations: if seed == 2 { vec!["wrong".into()] } else { Vec::new() },
            ..Report::default()
        };
        let mut one = Ensemble::default();
        (1..=3).for_each(|seed| one.add(report(seed)));
        let (mut two, mut rest) = (Ensemble::default(), Ensemble::default());
        two.add(report(3));
        rest.add(report(2));
        rest.add(report(1));
        two.join(rest);
        assert_eq!((one.seeds, one.fired["clog"]), (two.seeds, two.fired["clog"]));
        assert!(one.failures.keys().eq(two.failures.keys()));
    }

    #[test]
    fn the_spread_is_median_and_worst() {
        let times = [3, 1, 9].map(Duration::from_secs);
        assert_eq!(spread(&times), Some((times[0], times[2])));
        assert_eq!(spread(&[]), None);
    }
}
