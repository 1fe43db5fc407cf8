//! What people see of an app, as far as its app master knows.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use super::master::{AppMaster, Run};
use super::regions::{Region, State};
use crate::checkpoint::record::EpochRecord;
use crate::control::AppOutcome;
use crate::host::Faults;
use crate::host::figures::{
    AppFigures, AuditFigures, EpochFigures, OpenFigures, ProcessFigures, ProcessorFigures,
    ProcessorKind, RegionFigures, RegionState,
};
use crate::id::{AppId, ExecutorId, TaskId};
use crate::time::{EventTime, Time};

/// Committed epochs that are shown: two minutes of them, at one a second.
const EPOCHS_SHOWN: usize = 120;

impl Run {
    /// The oldest epoch in flight is committed with this record.
    pub(super) fn note_epoch(&mut self, now: Time, record: &EpochRecord) {
        let duration = self.coordinator.oldest(now).map(|aged| aged.age).unwrap_or_default();
        // An object is named after the epoch for which it was written.
        let suffix = format!("-e{:010}", record.epoch.0);
        let written = record.state_objects().filter(|object| object.name.ends_with(&*suffix));
        let bytes = written.map(|object| object.len).sum();
        if self.epochs.len() >= EPOCHS_SHOWN {
            self.epochs.pop_front();
        }
        self.epochs.push_back(EpochFigures { epoch: record.epoch, duration, bytes });
    }
}

impl<F: Faults> AppMaster<F> {
    /// How the app is doing; the executors are those that have said how they are.
    pub(crate) fn figures(
        &self,
        now: Time,
        app: AppId,
        executors: &BTreeMap<ExecutorId, ProcessFigures>,
    ) -> AppFigures {
        let status = self.status(now);
        let processors = self.plan.processors.iter().map(|processor| ProcessorFigures {
            id: processor.id,
            uid: processor.uid.clone(),
            parallelism: processor.parallelism,
            kind: match (processor.source, processor.sink) {
                (true, _) => ProcessorKind::Source,
                (_, true) => ProcessorKind::Sink,
                _ => ProcessorKind::Operator,
            },
        });
        AppFigures {
            app,
            term: status.term,
            stage: status.stage,
            recovered: status.recovered.unwrap_or_default(),
            committed: status.committed.unwrap_or_default(),
            in_flight: status.in_flight as u64,
            open: status.oldest.map(|open| OpenFigures {
                epoch: open.epoch,
                age: open.age,
                waiting: open.waiting,
            }),
            epochs: self.run.iter().flat_map(|run| run.epochs.iter().copied()).collect(),
            records: status.records,
            quarantined: status.quarantined,
            recoveries: status.roll_backs,
            restarts: 0,
            regions: self.regions.iter().map(Region::figures).collect(),
            min_clock: self.min_clock(executors),
            placement: self.placement.clone(),
            processors: processors.collect(),
            executors: BTreeMap::new(),
            links: BTreeMap::new(),
            audit: AuditFigures::default(),
            waiting: String::new(),
            outcome: self.outcome().map(AppOutcome::from),
        }
    }

    /// The lowest clock of a task that runs, as the executors have said it last.
    fn min_clock(
        &self,
        executors: &BTreeMap<ExecutorId, ProcessFigures>,
    ) -> Option<(EventTime, TaskId)> {
        let tasks = executors.values().flat_map(|figures| &figures.tasks);
        let current = tasks.filter(|(task, figures)| {
            !figures.ended && self.attempts.get(task) == Some(&figures.attempt)
        });
        current.map(|(task, figures)| (figures.watermark, *task)).min()
    }
}

impl Region {
    fn figures(&self) -> RegionFigures {
        let state = match self.state {
            State::Down { .. } => RegionState::Down,
            State::Deploying { .. } => RegionState::Deploying,
            State::Running => RegionState::Running,
        };
        RegionFigures { tasks: self.tasks.clone(), state, failures: self.failures() }
    }
}
