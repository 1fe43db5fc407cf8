//! What an app master tells the user in the course of things.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::master::{AppMaster, notice};
use crate::checkpoint::coordinator::Aged;
use crate::checkpoint::record::EpochRecord;
use crate::effect::{Effect, Level};
use crate::host::Faults;

/// Tasks that a notice names before it only counts.
const NAMED_MAX: usize = 5;

impl<F: Faults> AppMaster<F> {
    pub(super) fn notice_start(&self, record: Option<&EpochRecord>, out: &mut Vec<Effect>) {
        let app = &self.plan.identity.app;
        let text = match record {
            None => format!("`{app}` starts fresh"),
            Some(record) if record.finished => format!(
                "`{app}` had finished before with {}: its sinks make sure that all is visible",
                record.epoch
            ),
            Some(record) => format!("`{app}` goes on from {}", record.epoch),
        };
        notice(Level::Info, text, out);
        let groups = record.map_or(self.plan.key_groups, |record| record.key_groups);
        if groups != self.plan.key_groups {
            let asked = self.plan.key_groups;
            let text = format!(
                "key groups are fixed with the first epoch: `{app}` keeps {groups}, not {asked}"
            );
            notice(Level::Warning, text, out);
        }
    }

    pub(super) fn notice_age(&self, aged: &Aged, out: &mut Vec<Effect>) {
        let mut names: Vec<String> = aged
            .waiting
            .iter()
            .take(NAMED_MAX)
            .copied()
            .map(|task| {
                let uid = self.uid(task).unwrap_or_default();
                format!("`{uid}`[{}]", task.index)
            })
            .collect();
        let more = aged.waiting.len() - names.len();
        if more > 0 {
            names.push(format!("{more} more"));
        }
        let whom = if names.is_empty() { "the checkpoint store".into() } else { names.join(", ") };
        let (epoch, age) = (aged.epoch, aged.age.as_secs_f32());
        let text = format!("{epoch} is {age:.1} s old and waits for {whom}");
        notice(Level::Warning, text, out);
    }
}
