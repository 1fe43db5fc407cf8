//! Where a partition is gone on with, from what its log has and from what an epoch knows of it.

use super::position::{Mark, Progress};
use super::{Start, WhenGone};
use crate::faults::{Fault, Faults};
use crate::kafka::port::{NO_TIMESTAMP, TopicPartition};

/// What is known of a partition that is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing: it begins as the job says.
    Nothing,
    /// It was found while the job ran: it begins with its first record.
    Found,
    /// It has been read up to here.
    Read(Progress),
    /// The record that was read last is another one now.
    Replaced(Progress),
}

/// What the log of a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The first offset.
    pub(super) low: u64,
    /// Behind the last offset that may be read.
    pub(super) high: u64,
    /// The first record at or after the time at which the job is to begin.
    pub(super) at: Option<u64>,
}

/// How a partition is gone on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// Up to here it counts as read.
    pub(super) progress: Progress,
    /// Where to fetch from: not behind `progress.next`.
    pub(super) from: u64,
    /// What the first record that is fetched has to be, if it is at this offset.
    pub(super) verify: Option<Mark>,
    /// What to tell the user.
    pub(super) notice: Option<String>,
}

/// Why a partition cannot be gone on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// The broker has less than was read: it may not know yet what it has.
    Shrunk(String),
    /// For good.
    Lost(String),
}

/// The first millisecond that is not before this time: Kafka's timestamps have no finer one.
pub(super) const fn millis_from(micros: i64) -> i64 {
    micros.div_euclid(1_000) + (micros.rem_euclid(1_000) != 0) as i64
}

/// The time at which a job begins, as a broker is asked for it. Before 1970 there is no record,
/// and what is below 0 has a meaning of its own.
pub(super) fn start_millis(start: &Start) -> Option<i64> {
    match start {
        Start::At(at) => Some(millis_from(at.0).max(0)),
        _ => None,
    }
}

/// What the job has chosen, but for bugs that are seeded.
pub(super) fn chosen<F: Faults>(choice: WhenGone) -> WhenGone {
    match choice {
        _ if F::has(Fault::LatestWhenGone) => WhenGone::Latest,
        WhenGone::Latest if F::has(Fault::EarliestForLatest) => WhenGone::Earliest,
        WhenGone::Fail if F::has(Fault::EarliestForFail) => WhenGone::Earliest,
        choice => choice,
    }
}

/// Decides how a partition is gone on with; `patient` as long as a broker that has less than was
/// read may still find it.
pub(super) fn decide(
    partition: &TopicPartition,
    known: &Known,
    start: &Start,
    when_gone: WhenGone,
    bounds: Bounds,
    patient: bool,
) -> Result<Decision, Gone> {
    let Bounds { low, high, .. } = bounds;
    let at = |next, not_before| Progress { next, not_before, ..Progress::default() };
    let progress = match (known, start) {
        (Known::Read(progress) | Known::Replaced(progress), _) => progress.clone(),
        (Known::Found, _) | (Known::Nothing, Start::Earliest) => at(low, None),
        (Known::Nothing, Start::Latest) => at(high, None),
        (Known::Nothing, Start::At(_)) => match bounds.at {
            Some(found) => at(found, None),
            None => at(high, start_millis(start)),
        },
        (Known::Nothing, Start::Offsets(offsets)) => {
            let key = (partition.topic.clone(), partition.partition);
            at(offsets.get(&key).copied().unwrap_or(low), None)
        }
    };
    let next = progress.next;
    let replaced = matches!(known, Known::Replaced(_));
    if !replaced && next > high && patient {
        return Err(Gone::Shrunk(shrunk(partition, next, high)));
    }
    if replaced || next > high || next < low {
        let what = if replaced {
            anew(partition, next)
        } else if next < low {
            let count = low - next;
            format!(
                "partition {} of `{}` was read up to offset {next}, and its first record is at \
                 {low} now: retention has removed up to {count} records that were not read",
                partition.partition, partition.topic
            )
        } else {
            shrunk(partition, next, high)
        };
        return gone(&progress, when_gone, bounds, what);
    }
    // The record before is still there: that it is the same one shows that the log is.
    let verify = progress.last.filter(|last| last.offset >= low);
    let from = verify.map_or(next, |last| last.offset);
    Ok(Decision { progress, from, verify, notice: None })
}

/// The log was put in the place of the one that was read.
fn anew(partition: &TopicPartition, next: u64) -> String {
    format!(
        "partition {} of `{}` was read up to offset {next}, and holds another record before it \
         now: the topic was deleted and made again, or a broker has lost what it had acknowledged",
        partition.partition, partition.topic
    )
}

fn shrunk(partition: &TopicPartition, next: u64, high: u64) -> String {
    format!(
        "partition {} of `{}` was read up to offset {next}, and ends at {high} now: the topic was \
         deleted and made again, or a broker has lost what it had acknowledged",
        partition.partition, partition.topic
    )
}

fn gone(
    progress: &Progress,
    when_gone: WhenGone,
    bounds: Bounds,
    what: String,
) -> Result<Decision, Gone> {
    let (next, place) = match when_gone {
        WhenGone::Fail => {
            return Err(Gone::Lost(format!(
                "{what}. Choose: `when_gone(WhenGone::Earliest)` goes on with the first record \
                 there is, `when_gone(WhenGone::Latest)` behind the last one, and --fresh begins \
                 anew without the state of the job"
            )));
        }
        WhenGone::Earliest => (bounds.low, "the first record there is"),
        WhenGone::Latest => (bounds.high, "the end"),
    };
    let passed = next.saturating_sub(progress.next);
    let notice = format!("{what}. It goes on with {place}, at {next}: {passed} offsets are passed");
    let progress = Progress { next, last: None, ..progress.clone() };
    Ok(Decision { progress, from: next, verify: None, notice: Some(notice) })
}

/// What an epoch keeps of a record that was read.
pub(super) fn mark(offset: u64, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Mark {
    let crc = crc32c::crc32c(key.unwrap_or_default());
    let crc = crc32c::crc32c_append(crc, value.unwrap_or_default());
    Mark { offset, timestamp, crc }
}

/// A timestamp as an event time in microseconds.
#[inline]
pub(super) const fn micros(millis: i64) -> Option<i64> {
    if millis == NO_TIMESTAMP { None } else { Some(millis.saturating_mul(1_000)) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use gear_core::time::EventTime;

    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition { topic: "events".to_owned(), partition: 3 }
    }

    fn decided(
        known: &Known,
        start: &Start,
        when_gone: WhenGone,
        (low, high, at): (u64, u64, Option<u64>),
    ) -> Result<(u64, u64, Option<String>), Gone> {
        let bounds = Bounds { low, high, at };
        let decision = decide(&partition(), known, start, when_gone, bounds, false)?;
        Ok((decision.from, decision.progress.next, decision.notice))
    }

    fn read(next: u64) -> Known {
        let last = next.checked_sub(1).map(|offset| mark(offset, 5, None, Some(b"v")));
        Known::Read(Progress { next, last, ..Progress::default() })
    }

    #[test]
    fn a_partition_begins_where_the_job_says() {
        let begin = |start: &Start, bounds| {
            decided(&Known::Nothing, start, WhenGone::Fail, bounds).map(|(from, next, _)| {
                assert_eq!(from, next);
                from
            })
        };
        assert_eq!(begin(&Start::Earliest, (4, 9, None)), Ok(4));
        assert_eq!(begin(&Start::Latest, (4, 9, None)), Ok(9));
        assert_eq!(begin(&Start::At(EventTime(1)), (4, 9, Some(6))), Ok(6));
        assert_eq!(begin(&Start::At(EventTime(1)), (4, 9, None)), Ok(9));
        let offsets = Start::Offsets([(("events".to_owned(), 3), 7)].into());
        assert_eq!(begin(&offsets, (4, 9, None)), Ok(7));
        assert_eq!(begin(&Start::Offsets(BTreeMap::new()), (4, 9, None)), Ok(4));
        assert!(matches!(begin(&offsets, (4, 6, None)), Err(Gone::Lost(_))));
        let found = decided(&Known::Found, &Start::Latest, WhenGone::Fail, (0, 9, None));
        assert_eq!(found, Ok((0, 0, None)));
    }

    #[test]
    fn a_position_is_gone_on_from_with_the_record_before_it() {
        let at = |next, low, high| {
            decided(&read(next), &Start::Latest, WhenGone::Fail, (low, high, None))
        };
        assert_eq!(at(7, 4, 9), Ok((6, 7, None)));
        assert_eq!(at(9, 4, 9), Ok((8, 9, None)));
        // The record before it is what retention has removed last.
        assert_eq!(at(4, 4, 9), Ok((4, 4, None)));
        assert_eq!(at(0, 0, 9), Ok((0, 0, None)));
    }

    #[test]
    fn what_is_gone_is_told_with_the_choice_or_passed_and_counted() {
        let gone =
            |when_gone, known: &Known, bounds| decided(known, &Start::Latest, when_gone, bounds);
        let Err(Gone::Lost(said)) = gone(WhenGone::Fail, &read(3), (8, 10, None)) else {
            panic!("it is lost")
        };
        for part in ["`events`", "partition 3", "5 records", "Earliest", "Latest", "--fresh"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let (from, next, notice) = gone(WhenGone::Earliest, &read(3), (8, 10, None)).unwrap();
        assert!(notice.unwrap().contains("at 8: 5 offsets are passed"));
        assert_eq!((from, next), (8, 8));
        let (from, _, notice) = gone(WhenGone::Latest, &read(3), (8, 10, None)).unwrap();
        assert!(notice.unwrap().contains("at 10: 7 offsets are passed"));
        assert_eq!(from, 10);
        let (from, _, notice) = gone(WhenGone::Earliest, &read(12), (0, 2, None)).unwrap();
        assert!(notice.unwrap().contains("ends at 2 now"));
        assert_eq!(from, 0);
        let Known::Read(progress) = read(5) else { unreachable!("it was read") };
        let (from, _, notice) =
            gone(WhenGone::Earliest, &Known::Replaced(progress), (0, 9, None)).unwrap();
        assert!(notice.unwrap().contains("made again"));
        assert_eq!(from, 0);
        let bounds = Bounds { low: 0, high: 2, at: None };
        let waits = decide(&partition(), &read(12), &Start::Latest, WhenGone::Latest, bounds, true);
        assert!(matches!(waits, Err(Gone::Shrunk(_))), "a broker may not know yet what it has");
    }

    #[test]
    fn a_time_between_two_milliseconds_is_the_later_one() {
        assert_eq!(
            [-1_001, -1_000, -999, 0, 1, 999, 1_000, 1_001].map(millis_from),
            [-1, -1, 0, 0, 1, 1, 1, 2]
        );
        assert_eq!(start_millis(&Start::At(EventTime::MIN)), Some(0));
    }
}
