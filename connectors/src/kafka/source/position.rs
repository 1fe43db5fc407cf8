//! The partitions of a Kafka source by name, and the positions in them as an epoch keeps them.

use gear_core::api::source::{growing, grows};
use gear_core::message::Partition;
use serde::{Deserialize, Serialize};

use crate::kafka::port::TopicPartition;
use crate::versioned;

/// What a position begins with.
const TAG: u8 = b'K';
const VERSION: u8 = 1;

/// A partition of the source, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A partition of a topic: `events#3`.
    One(TopicPartition),
    /// Those of a topic that turn up later, from this one on: `events#4+`.
    Later { topic: String, from: u32 },
}

/// The name of a partition.
pub(super) fn name(topic: &str, partition: u32) -> String {
    format!("{topic}#{partition}")
}

/// The names of all partitions of a topic, and of those that may turn up.
pub(super) fn names(topic: &str, count: u32, more: bool, out: &mut Vec<String>) {
    out.extend((0..count).map(|partition| name(topic, partition)));
    if more {
        out.push(growing(topic, count));
    }
}

/// A record's place, as people see it: `events#3:17`.
pub(super) fn printed(partition: &str, offset: u64) -> String {
    format!("{partition}:{offset}")
}

/// What [`printed`] has made of a partition and an offset; none of what other sources print.
pub(crate) fn place(partition: &str, position: &str) -> Option<(TopicPartition, u64)> {
    let offset = position.strip_prefix(partition)?.strip_prefix(':')?.parse().ok()?;
    match Named::parse(partition) {
        Ok(Named::One(of)) => Some((of, offset)),
        _ => None,
    }
}

impl Named {
    /// Reads a name.
    ///
    /// # Errors
    /// That it is none of this source, for the user.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        if let Some((topic, from)) = grows(name) {
            return Ok(Self::Later { topic: topic.to_owned(), from });
        }
        let parts = name.rsplit_once('#');
        let found = parts.and_then(|(topic, partition)| {
            Some(TopicPartition { topic: topic.to_owned(), partition: partition.parse().ok()? })
        });
        found.map(Self::One).ok_or_else(|| {
            format!(
                "`{name}` is no partition of a Kafka source; give the changed source a new name, \
                 or start over with --fresh"
            )
        })
    }
}

/// How far a partition has been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Position {
    /// Nothing has been read, and the first record there is to be the first one.
    Earliest,
    /// Read up to here.
    At(Progress),
    /// The number of the topic's next partition.
    Later(u32),
}

/// Up to which offset a partition has been read, as an epoch of the job says; none if nothing of it
/// was, or if it is no partition of a Kafka source.
#[must_use]
pub fn read_up_to(partition: &Partition) -> Option<(TopicPartition, u64)> {
    let position = Position::decode(&partition.name, partition.position.as_deref()?).ok()?;
    match (Named::parse(&partition.name).ok()?, position) {
        (Named::One(of), Position::At(progress)) => Some((of, progress.next)),
        _ => None,
    }
}

/// How far a partition of a topic has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// The offset of the next record.
    pub(super) next: u64,
    /// Where to stop, if it does.
    pub(super) end: Option<u64>,
    /// Records before this time, in milliseconds, are passed until one is not.
    pub(super) not_before: Option<i64>,
    /// The record that was read last.
    pub(super) last: Option<Mark>,
}

/// What tells a record from another at its offset: a topic that was made anew gives other records
/// the same offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Its offset.
    pub(super) offset: u64,
    /// Its timestamp.
    pub(super) timestamp: i64,
    /// Of its key and its value, CRC32C.
    pub(super) crc: u32,
}

impl Position {
    /// As an epoch keeps it.
    pub(super) fn encode(&self) -> Vec<u8> {
        versioned::encode(TAG, VERSION, self).expect("numbers are encoded into memory")
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// What is wrong with it, for the user.
    pub(super) fn decode(name: &str, bytes: &[u8]) -> Result<Self, String> {
        let what = format!("the position in `{name}`");
        let position: Self = versioned::decode(TAG, VERSION, &what, bytes)?;
        let sound = match &position {
            Self::Earliest | Self::Later(_) => true,
            // Offsets have 63 bits.
            Self::At(at) => {
                let largest = i64::MAX as u64;
                at.next <= largest && at.last.is_none_or(|last| last.offset < at.next)
            }
        };
        if sound { Ok(position) } else { Err(format!("{what}: it contradicts itself")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn positions() -> impl Strategy<Value = Position> {
        let mark = (0_u64..1 << 60, any::<i64>(), any::<u32>());
        let mark = mark.prop_map(|(offset, timestamp, crc)| Mark { offset, timestamp, crc });
        let at = (0_u64..1 << 40, any::<Option<u64>>(), any::<Option<i64>>());
        let at = (at, proptest::option::of(mark)).prop_map(|((more, end, not_before), last)| {
            let next = more + last.map_or(0, |last| last.offset + 1);
            Position::At(Progress { next, end, not_before, last })
        });
        prop_oneof![Just(Position::Earliest), any::<u32>().prop_map(Position::Later), at]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(position in positions(), flipped: (usize, u8)) {
            let bytes = position.encode();
            prop_assert_eq!(&Position::decode("t#0", &bytes), &Ok(position));
            for cut in 0..bytes.len() {
                Position::decode("t#0", &bytes[..cut]).unwrap_err();
            }
            let mut damaged = bytes;
            let at = flipped.0 % damaged.len();
            damaged[at] ^= flipped.1;
            // Whatever it makes of them, it does not panic.
            let _ = Position::decode("t#0", &damaged);
        }
    }

    #[test]
    fn an_epoch_says_how_far_a_partition_was_read() {
        let of = |name: &str, position: Option<Position>| {
            let position = position.map(|position| position.encode());
            read_up_to(&Partition { name: name.to_owned(), position, done: false })
        };
        let at = || Position::At(Progress { next: 7, ..Progress::default() });
        let partition = TopicPartition { topic: "t".to_owned(), partition: 2 };
        assert_eq!(of("t#2", Some(at())), Some((partition, 7)));
        assert_eq!(of("t#2", None), None);
        assert_eq!(of("t#2", Some(Position::Earliest)), None);
        assert_eq!(of("t#2+", Some(Position::Later(3))), None);
        assert_eq!(of("/a/file", Some(at())), None);
    }

    #[test]
    fn names_are_read_back_and_others_refused() {
        let mut all = Vec::new();
        names("a.b", 2, true, &mut all);
        assert_eq!(all, ["a.b#0", "a.b#1", "a.b#2+"]);
        let one = |partition| Named::One(TopicPartition { topic: "a.b".to_owned(), partition });
        let later = Named::Later { topic: "a.b".to_owned(), from: 2 };
        let read: Vec<_> = all.iter().map(|name| Named::parse(name).unwrap()).collect();
        assert_eq!(read, [one(0), one(1), later]);
        for wrong in ["a", "a#", "a#x", "a#-1", "/f#0-12", "a#4294967296"] {
            let error = Named::parse(wrong).unwrap_err();
            assert!(error.contains("no partition of a Kafka source"), "{error}");
        }
    }
}
