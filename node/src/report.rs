//! How a run ended, for people and for programs.

use std::path::PathBuf;
use std::time::Duration;

use gear_core::app::{Outcome, Status};
use gear_core::id::{Epoch, TaskId};
use gear_core::task::Figures;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// How the app ended; never a failure.
    pub outcome: Outcome,
    /// Records that its sources have read since it first started.
    pub records: u64,
    /// Records that its sources have read in this run.
    pub records_this_run: u64,
    /// Bytes that its sources have read in this run.
    pub bytes_this_run: u64,
    /// How long this run took.
    pub took: Duration,
    /// The epoch from which this run went on.
    pub recovered: Option<Epoch>,
    /// The last epoch that has committed.
    pub committed: Option<Epoch>,
    /// Records that were put aside since the app first started.
    pub quarantined: u64,
    /// Records that came too late for their windows, in this run.
    pub late: u64,
    /// Calls of the user's code that took too long.
    pub slow_calls: u64,
    /// The figures of each task at the end, with its processor's name.
    pub tasks: Vec<(String, TaskId, Figures)>,
    /// The job's state folder.
    pub state: PathBuf,
    /// Where the records that were put aside are listed, if that was asked for.
    pub quarantine_file: Option<PathBuf>,
}

impl Report {
    pub(crate) fn new(
        outcome: Outcome,
        status: &Status,
        took: Duration,
        tasks: Vec<(String, TaskId, Figures)>,
        slow_calls: u64,
    ) -> Self {
        let sources = || tasks.iter().map(|(_, _, figures)| figures).filter(|f| f.is_source);
        let records = sources().map(|figures| figures.records_in).sum();
        Self {
            records,
            records_this_run: sources().map(|figures| figures.records_this_run).sum(),
            bytes_this_run: sources().map(|figures| figures.bytes_in).sum(),
            took,
            recovered: status.recovered,
            committed: status.committed.or(match outcome {
                Outcome::AlreadyFinished { epoch } => Some(epoch),
                _ => None,
            }),
            quarantined: status.quarantined,
            late: tasks.iter().map(|(_, _, figures)| figures.late).sum(),
            slow_calls,
            outcome,
            tasks,
            state: PathBuf::new(),
            quarantine_file: None,
        }
    }

    /// The run in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        if let Outcome::AlreadyFinished { epoch } = self.outcome {
            return format!(
                "finished before, at {epoch}: nothing was read and nothing changed; --fresh starts \
                 over"
            );
        }
        let seconds = self.took.as_secs_f64();
        let rate = self.records_this_run as f64 / seconds.max(1e-9);
        let committed = self.committed.map_or(0, |epoch| epoch.0);
        let how = match self.outcome {
            Outcome::Stopped { .. } => "stopped",
            _ => "finished",
        };
        let more = match self.recovered {
            Some(epoch) => format!(" ({} in this run, from {epoch})", self.records_this_run),
            None => String::new(),
        };
        let mut line = format!(
            "{how}: {} records{more}, {seconds:.2} s, {rate:.0} records/s, {committed} epochs \
             committed, {} quarantined",
            self.records, self.quarantined
        );
        for (count, what) in [(self.late, "late"), (self.slow_calls, "slow calls")] {
            if count > 0 {
                line.push_str(&format!(", {count} {what}"));
            }
        }
        line
    }
}
