//! Epochs are started and appended to the log, and the last one ends the app.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::master::{AppMaster, send};
use super::outcome::Outcome;
use crate::checkpoint::coordinator::{Collected, Ending, Step};
use crate::checkpoint::record::{Closed, EpochRecord, Record};
use crate::effect::Effect;
use crate::host::Faults;
use crate::message::Message;
use crate::time::Time;

impl<F: Faults> AppMaster<F> {
    pub(super) fn perform(&mut self, steps: Vec<Step>, out: &mut Vec<Effect>) {
        let term = self.log.term();
        for step in steps {
            match step {
                Step::Start(start) => {
                    for executor in self.source_executors() {
                        out.push(send(executor, Message::StartEpoch { term, start }));
                    }
                }
                Step::Append(collected) => self.append(collected, out),
                Step::Committed(epoch) => self.broadcast(&Message::Committed { term, epoch }, out),
                Step::Over(ending) => self.on_over(ending, out),
                Step::Aged(aged) => self.notice_age(&aged, out),
            }
        }
    }

    /// Somebody waits for the next epoch.
    pub(super) fn hurry_epoch(&mut self, now: Time, out: &mut Vec<Effect>) {
        if let Some(run) = &mut self.run {
            let mut steps = Vec::new();
            run.coordinator.hurry(now, &mut steps);
            self.perform(steps, out);
        }
    }

    fn append(&mut self, collected: Collected, out: &mut Vec<Effect>) {
        let key = |task| self.plan.key(task).expect("only tasks of the plan are collected");
        let run = self.run.as_mut().expect("only a deployed app appends");
        let mut aside = run.last.as_ref().map(|last| last.aside.clone()).unwrap_or_default();
        for snapshot in collected.tasks.values() {
            snapshot.quarantine.iter().for_each(|object| aside.put(&object.name));
            let taken = snapshot.replayed.iter().filter(|replayed| replayed.taken);
            taken.for_each(|replayed| aside.take_out(&replayed.object, collected.epoch));
        }
        self.replays.drop_with(collected.epoch, &mut aside);
        let mut output = BTreeMap::new();
        let tasks = collected.tasks.into_iter().map(|(task, mut snapshot)| {
            let key = key(task);
            let objects = core::mem::take(&mut snapshot.objects);
            if !objects.is_empty() {
                output.insert(key.clone(), objects);
            }
            (key, snapshot)
        });
        let tasks = tasks.collect();
        let record = Record::Epoch(EpochRecord {
            term: self.log.term(),
            epoch: collected.epoch,
            attempt: run.attempt,
            identity: self.plan.identity.clone(),
            dag_version: self.plan.dag_version,
            key_groups: run.key_groups,
            finished: collected.finished,
            stopped: collected.stopped,
            sinks_committed: collected.sinks_committed,
            floor: run.retention.next_floor(),
            tasks,
            aside,
            output,
        });
        self.write(record, out);
    }

    /// Appends a record to the log.
    pub(super) fn write(&mut self, record: Record, out: &mut Vec<Effect>) {
        let run = self.run.as_mut().expect("the log has been read");
        self.log.append(&record, out);
        run.writing = Some(record);
    }

    /// The last epoch is committed and visible.
    fn on_over(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        let has_sinks = self.plan.processors.iter().any(|processor| processor.sink);
        // Without sinks the epoch's own record says it all; a stopped app goes on later.
        if !ending.finished || !(has_sinks || self.is_only_sinks()) {
            return self.finish(ending, out);
        }
        let record = Record::Closed(Closed {
            term: self.log.term(),
            epoch: ending.epoch,
            identity: self.plan.identity.clone(),
        });
        let run = self.run.as_mut().expect("only a deployed app ends");
        run.closing = Some(ending);
        self.write(record, out);
    }

    fn is_only_sinks(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.only_sinks)
    }

    pub(super) fn finish(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        let epoch = ending.epoch;
        let outcome = if ending.finished {
            Outcome::Finished { epoch }
        } else {
            Outcome::Stopped { epoch: Some(epoch) }
        };
        self.end(outcome, out);
    }
}
