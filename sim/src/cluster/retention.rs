//! Retention: brokers remove the oldest records of a topic, whether somebody has read them or not.

use std::collections::BTreeMap;

use gear_connectors::kafka::model::Log;
use gear_connectors::kafka::{TopicPartition, WhenGone, read_up_to};
use gear_core::id::AppId;
use gear_core::message::Partition;

use super::brokers::Brokers;
use super::world::World;
use crate::oracle::gone::Said;
use crate::random::Random;
use crate::workload::topics::{self, Met};

/// The rare states of a source whose position is gone, by what the job has chosen.
const FAILED: &str = "a job failed whose position is gone";
const WENT_ON: &str = "a source whose position is gone went on with the first record";
const SKIPPED: &str = "a source whose position is gone went on at the end";
/// The rare state of retention that is faster than the job.
const UNREAD: &str = "retention removed what no epoch had read";
/// Of a thousand partitions, those of which something is removed.
const CHOSEN: u64 = 700;
/// Of a thousand of these, those of which retention removes what was not read, if it may.
const OVERTAKEN: u64 = 500;
/// Of a thousand removals, those that remove all that they can.
const WHOLE: u64 = 500;

/// The rare state of retention that is slower than the job.
const READ: &str = "retention removed only what an epoch had read";

/// What retention has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Something.
    pub(crate) any: bool,
    /// Records that no epoch had read.
    pub(crate) unread: bool,
}

impl Removed {
    /// The rare state that this is, if something was removed.
    pub(crate) fn state(self) -> Option<&'static str> {
        self.any.then_some(if self.unread { UNREAD } else { READ })
    }
}

impl Brokers {
    /// Removes the oldest records of some partitions of the input, of which an epoch has read those
    /// given and so many thousandths have been shown.
    pub(crate) fn remove_oldest(
        &mut self,
        read: &[Partition],
        shown: u64,
        random: &mut Random,
    ) -> Removed {
        let read: BTreeMap<TopicPartition, u64> = read.iter().filter_map(read_up_to).collect();
        let cluster = self.cluster().clone();
        let mut removed = Removed::default();
        let inputs = cluster.topics().into_iter().filter(|(it, _)| topics::is_input(it));
        let all = inputs.flat_map(|(topic, count)| (0..count).map(move |it| (topic.clone(), it)));
        for (topic, partition) in all {
            let (chosen, overtakes) = (random.permille(CHOSEN), random.permille(OVERTAKEN));
            let (whole, part) = (random.permille(WHOLE), random.below(1_000));
            if !chosen {
                continue;
            }
            let overtakes = overtakes && self.topics.overtaken;
            let of = TopicPartition { topic: topic.clone(), partition };
            let position = read.get(&of).copied().unwrap_or(0);
            let met = self.overtaken.entry(of).or_insert_with(|| Met {
                records: cluster.with(&topic, partition, records),
                ..Met::default()
            });
            let (any, unread) = cluster.with(&topic, partition, |log| {
                let last = if overtakes {
                    // What is on its way to its readers is too young.
                    log.stable().min(log.end() * shown / 1_000).max(position)
                } else {
                    position
                };
                let first = log.start().min(last);
                let before = if whole { last } else { first + (last - first) * part / 1_000 };
                let from = position.max(log.start());
                let there = log.read(from, usize::MAX, true).unwrap_or_default();
                let unread = there.records.into_iter().take_while(|(offset, _)| *offset < before);
                let unread: Vec<u64> = unread.map(|(offset, _)| offset).collect();
                let any = before > log.start();
                log.remove_before(before);
                (any, unread)
            });
            removed.any |= any;
            removed.unread |= !unread.is_empty();
            met.unread.extend(unread);
        }
        removed
    }

    /// The user is told something. Gives the rare state if it is that a position is gone.
    ///
    /// # Errors
    /// That it is not what the job has chosen.
    pub(crate) fn told(&mut self, text: &str) -> Result<Option<&'static str>, String> {
        let Some(said) = Said::parse(text) else { return Ok(None) };
        let said = said?;
        let Said { of, read, next } = &said;
        let bounds = self.cluster().bounds(&of.topic, of.partition);
        said.judge(self.topics.when_gone, bounds)?;
        let told = next.map(|next| (*read, next));
        self.overtaken.entry(of.clone()).or_default().told.extend(told);
        Ok(Some(match self.topics.when_gone {
            WhenGone::Fail => FAILED,
            WhenGone::Earliest => WENT_ON,
            WhenGone::Latest => SKIPPED,
        }))
    }
}

/// What readers of committed records see in a log.
fn records(log: &mut Log) -> Vec<(u64, Vec<u8>)> {
    let read = log.read(log.start(), usize::MAX, true).unwrap_or_default();
    let records = read.records.into_iter();
    records.map(|(offset, record)| (offset, record.value.unwrap_or_default())).collect()
}

impl World<'_> {
    /// An app tells the user something.
    pub(crate) fn app_told(&mut self, app: AppId, text: &str) {
        let home = self.home(app);
        let services = self.services.get_mut(&home);
        let Some(brokers) = services.and_then(|services| services.brokers.as_mut()) else { return };
        match brokers.told(text) {
            Ok(None) => {}
            Ok(Some(state)) => {
                if brokers.topics.when_gone == WhenGone::Fail {
                    self.watch.updates.outcomes.may_fail(app);
                }
                self.seen(state);
            }
            Err(violation) => self.wrong(format!("{app}: {violation}")),
        }
    }

    /// Retention meets the topics of an app; false if there was nothing to remove.
    pub(crate) fn retain(&mut self, random: &mut Random) -> bool {
        let homes: Vec<_> = self.services.keys().copied().collect();
        if homes.is_empty() {
            return false;
        }
        let home = homes[random.place(homes.len())];
        let services = self.services.get_mut(&home).expect("it was just listed");
        let Some(brokers) = &mut services.brokers else { return false };
        let removed = brokers.remove_oldest(services.commits.partitions(), self.fed, random);
        self.trace.write(self.now, || format!("of {home} retention has {removed:?}"));
        if let Some(state) = removed.state() {
            self.seen(state);
        }
        removed.any
    }
}
