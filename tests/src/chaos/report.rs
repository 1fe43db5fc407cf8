//! What came of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sim::Difference;

use super::plan::Fault;
use super::watch::Watched;

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// How long it took.
    pub took: Duration,
    /// How often each fault happened.
    pub fired: BTreeMap<Fault, u64>,
    /// Faults of the plan that had nobody to hit.
    pub skipped: u64,
    /// Processes of the job that took the place of others.
    pub restarts: u64,
    /// The last committed epoch.
    pub committed: u64,
    /// What the app masters said of themselves.
    pub watched: Watched,
    /// How the output differs from the model's.
    pub difference: Difference,
    /// What else is wrong.
    pub failures: Vec<String>,
    /// Where the logs are, if they are kept.
    pub kept: Option<PathBuf>,
}

impl Report {
    /// True if nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.failures.is_empty() && self.difference == Difference::default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (fault, times) in &self.fired {
            writeln!(f, "{fault:<40} {times:>8}")?;
        }
        let rows = [
            ("faults without anybody to hit", self.skipped),
            ("processes replaced", self.restarts),
            ("regions taken back", self.watched.recoveries),
            ("connections of links made anew", self.watched.reconnects),
            ("last committed epoch", self.committed),
            ("lines lost", self.difference.lost),
            ("lines doubled", self.difference.doubled),
            ("seconds", self.took.as_secs()),
        ];
        for (what, value) in rows {
            writeln!(f, "{what:<40} {value:>8}")?;
        }
        for wrong in self.failures.iter().chain(&self.difference.told) {
            writeln!(f, "WRONG: {wrong}")?;
        }
        if let Some(kept) = &self.kept {
            writeln!(f, "logs, data and output are kept in {}", kept.display())?;
        }
        let seed = self.seed;
        write!(f, "the same plan again: cargo run -p gear-tests --bin chaos -- --seed {seed}")
    }
}
