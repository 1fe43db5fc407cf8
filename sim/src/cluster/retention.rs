//! Retention: brokers remove the oldest records of a topic, whether somebody has read them or not.

use std::collections::BTreeMap;

use gear_connectors::kafka::{TopicPartition, read_up_to};
use gear_core::message::Partition;

use super::brokers::Brokers;
use super::world::World;
use crate::random::Random;
use crate::workload::topics;

/// The rare state of a source whose position is gone.
pub(crate) const GONE: &str = "a source was told that its position is gone";
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
        let mut removed = Removed::default();
        let inputs = self.cluster().topics().into_iter().filter(|(it, _)| topics::is_input(it));
        let all = inputs.flat_map(|(topic, count)| (0..count).map(move |it| (topic.clone(), it)));
        for (topic, partition) in all {
            let (chosen, overtakes) = (random.permille(CHOSEN), random.permille(OVERTAKEN));
            let (whole, part) = (random.permille(WHOLE), random.below(1_000));
            if !chosen {
                continue;
            }
            let overtakes = overtakes && self.topics.passes;
            let of = TopicPartition { topic: topic.clone(), partition };
            let position = read.get(&of).copied().unwrap_or(0);
            let (any, unread) = self.cluster().with(&topic, partition, |log| {
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
                let unread: Vec<_> = unread.filter_map(|(_, record)| record.value).collect();
                let any = before > log.start();
                log.remove_before(before);
                (any, unread)
            });
            removed.any |= any;
            removed.unread |= !unread.is_empty();
            self.passed.entry(topic).or_default().extend(unread);
        }
        removed
    }
}

impl World<'_> {
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
