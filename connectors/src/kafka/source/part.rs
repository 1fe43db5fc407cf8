//! A partition of a task, and what is known of it.

use gear_core::time::Time;

use super::decide::{Bounds, Known};
use super::position::{Mark, Position, Progress};
use crate::kafka::error::KafkaError;
use crate::kafka::port::{Fetch, Found, TopicPartition};

/// A partition of the task.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) partition: TopicPartition,
    pub(super) state: State,
    pub(super) done: bool,
    /// What the first record that comes has to be.
    pub(super) verify: Option<Mark>,
    /// Where the partition ends, as far as it is known.
    pub(super) end: Option<u64>,
    /// Since when its cluster does not know it, or has less of it than was read.
    pub(super) missing_since: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It stands for those that turn up, of which this is the next number.
    Later(u32),
    /// It waits for what its log has.
    Asking(Known),
    /// It is read.
    Reading(Progress),
}

impl Part {
    pub(super) const fn new(
        name: String,
        partition: TopicPartition,
        state: State,
        done: bool,
    ) -> Self {
        Self { name, partition, state, done, verify: None, end: None, missing_since: None }
    }

    /// What is fetched of it in a new round.
    pub(super) fn fetch(&self, number: u32) -> Option<Fetch> {
        let State::Reading(progress) = &self.state else { return None };
        if self.done {
            return None;
        }
        let offset = self.verify.map_or(progress.next, |last| last.offset);
        Some(Fetch { number, partition: self.partition.clone(), offset })
    }

    pub(super) fn position(&self, at_hand: Option<Progress>) -> Option<Position> {
        match (&self.state, at_hand) {
            (_, Some(progress)) => Some(Position::At(progress)),
            (State::Later(next), None) => Some(Position::Later(*next)),
            (State::Asking(Known::Nothing), None) => None,
            (State::Asking(Known::Found), None) => Some(Position::Earliest),
            (State::Asking(Known::Read(progress) | Known::Replaced(progress)), None)
            | (State::Reading(progress), None) => Some(Position::At(progress.clone())),
        }
    }
}

/// What the log of a partition holds, as far as all of the question was answered.
pub(super) fn bounds(
    high: Option<Found>,
    low: Option<Found>,
    at: Option<Found>,
) -> Option<Result<Bounds, KafkaError>> {
    let found = || -> Result<Option<Bounds>, KafkaError> {
        let (Some(high), Some(low)) = (high.transpose()?, low.transpose()?) else {
            return Ok(None);
        };
        let at = at.transpose()?.flatten();
        // An empty log may be told as one without a place.
        let high = high.or(low);
        let Some(high) = high else { return Ok(None) };
        Ok(Some(Bounds { low: low.unwrap_or(high), high, at }))
    };
    found().transpose()
}
