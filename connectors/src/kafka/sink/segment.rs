//! Records on their way to a topic: how a job fills one, and how many make up a segment.
//!
//! A segment is what a sink keeps, sends and fetches as a whole. It begins with the version of its
//! format; a record in it is a byte of flags and what they say is there, each part behind its
//! length.

use std::fmt::{self, Display, Write as _};

use gear_core::api::Malformed;
use gear_core::api::record::{put_len, take, take_len};
use gear_core::time::EventTime;

use crate::kafka::record::{Header, Headers};

/// The version of the format.
const VERSION: u8 = 1;
const KEY: u8 = 1;
const VALUE: u8 = 2;
const TIMESTAMP: u8 = 4;
const PARTITION: u8 = 8;
const NAME: &str = "record of a segment";

/// Bytes that a record takes in a batch of its own besides its parts: 61 of the batch, 36 of the
/// record's lengths and numbers at their longest.
const OVERHEAD: usize = 61 + 36;
/// The same for each header: two lengths.
const HEADER_OVERHEAD: usize = 10;

/// A record that a job fills.
///
/// Without a partition it goes where Kafka's own clients put it: by the hash of its key (murmur2),
/// and anywhere if it has no key. Its time is the event time of the stream unless another is given.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<u8>,
    header_count: usize,
    timestamp: Option<EventTime>,
    partition: Option<u32>,
    partitions: u32,
    /// Buffers to be used again.
    spare: [Vec<u8>; 2],
}

impl Outgoing {
    /// The record's key.
    pub fn key(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        put(&mut self.key, &mut self.spare[0]).extend_from_slice(key.as_ref());
        self
    }

    /// The record's key: what `Display` shows.
    pub fn key_text(&mut self, key: impl Display) -> &mut Self {
        text(put(&mut self.key, &mut self.spare[0]), &key);
        self
    }

    /// The record's value. A record without one deletes its key in a compacted topic.
    pub fn value(&mut self, value: impl AsRef<[u8]>) -> &mut Self {
        put(&mut self.value, &mut self.spare[1]).extend_from_slice(value.as_ref());
        self
    }

    /// The record's value: what `Display` shows.
    pub fn value_text(&mut self, value: impl Display) -> &mut Self {
        text(put(&mut self.value, &mut self.spare[1]), &value);
        self
    }

    /// One more header.
    pub fn header(&mut self, name: &str, value: Option<&[u8]>) -> &mut Self {
        Headers::put(Header { name, value }, &mut self.headers);
        self.header_count += 1;
        self
    }

    /// The record's time.
    pub const fn timestamp(&mut self, at: EventTime) -> &mut Self {
        self.timestamp = Some(at);
        self
    }

    /// The partition that it goes to.
    pub const fn partition(&mut self, partition: u32) -> &mut Self {
        self.partition = Some(partition);
        self
    }

    /// How many partitions the topic had when the task began.
    #[must_use]
    pub const fn partitions(&self) -> u32 {
        self.partitions
    }

    pub(crate) fn key_buffer(&mut self) -> &mut Vec<u8> {
        put(&mut self.key, &mut self.spare[0])
    }

    pub(crate) fn value_buffer(&mut self) -> &mut Vec<u8> {
        put(&mut self.value, &mut self.spare[1])
    }

    /// Begins a record whose event time is this.
    pub(crate) fn clear(&mut self, at: EventTime, partitions: u32) {
        for (part, spare) in [&mut self.key, &mut self.value].into_iter().zip(&mut self.spare) {
            if let Some(mut buffer) = part.take() {
                buffer.clear();
                *spare = buffer;
            }
        }
        self.headers.clear();
        self.header_count = 0;
        // Kafka has no time before 1970 and none that is not set.
        self.timestamp = (at != EventTime::MAX && at.0 >= 0).then_some(at);
        self.partition = None;
        self.partitions = partitions;
    }

    /// Why the topic can never take it.
    pub(crate) fn check(&self, limit: usize) -> Result<(), String> {
        let parts = [&self.key, &self.value].into_iter().flatten().map(Vec::len).sum::<usize>();
        let headers = self.headers.len() + self.header_count * HEADER_OVERHEAD;
        let bytes = parts + headers + OVERHEAD;
        if bytes > limit {
            return Err(format!(
                "the record takes {bytes} bytes and the topic takes {limit}: raise the topic's \
                 max.message.bytes, or make the record smaller"
            ));
        }
        match self.partition {
            Some(partition) if partition >= self.partitions && self.partitions > 0 => Err(format!(
                "the record is to go to partition {partition}, and the topic has {}",
                self.partitions
            )),
            _ => Ok(()),
        }
    }
}

fn put<'a>(part: &'a mut Option<Vec<u8>>, spare: &mut Vec<u8>) -> &'a mut Vec<u8> {
    let buffer = part.get_or_insert_with(|| std::mem::take(spare));
    buffer.clear();
    buffer
}

fn text(buffer: &mut Vec<u8>, shown: &dyn Display) {
    struct Bytes<'a>(&'a mut Vec<u8>);
    impl fmt::Write for Bytes<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    // A `Vec` takes all that is written; only the record's own `Display` could refuse.
    let _ = write!(Bytes(buffer), "{shown}");
}

/// A record in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Milliseconds since 1970; none if the producer's clock counts.
    pub timestamp: Option<i64>,
    /// The partition that it goes to; none if its key decides.
    pub partition: Option<u32>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// Appends a record to a segment.
pub(crate) fn append(segment: &mut Vec<u8>, record: &Outgoing) {
    if segment.is_empty() {
        segment.push(VERSION);
    }
    let flag = |there: bool, flag: u8| if there { flag } else { 0 };
    let parts = flag(record.key.is_some(), KEY) | flag(record.value.is_some(), VALUE);
    let times = flag(record.timestamp.is_some(), TIMESTAMP);
    segment.push(parts | times | flag(record.partition.is_some(), PARTITION));
    if let Some(EventTime(micros)) = record.timestamp {
        segment.extend_from_slice(&micros.div_euclid(1_000).to_le_bytes());
    }
    if let Some(partition) = record.partition {
        segment.extend_from_slice(&partition.to_le_bytes());
    }
    for part in [&record.key, &record.value].into_iter().flatten() {
        put_len(part.len(), segment);
        segment.extend_from_slice(part);
    }
    put_len(record.headers.len(), segment);
    segment.extend_from_slice(&record.headers);
}

/// The records of a segment, one after the other.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Records<'a> {
    /// Those from `at` on, which is 0 or an earlier [`Self::position`].
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are no segment of this version.
    pub fn new(segment: &'a [u8], at: usize) -> Result<Self, Malformed> {
        if segment.first() != Some(&VERSION) {
            return Err(Malformed::new(NAME));
        }
        let rest = segment.get(at.max(1)..).ok_or_else(|| Malformed::new(NAME))?;
        Ok(Self { rest, len: segment.len() })
    }

    /// Behind the last record that was taken.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.len - self.rest.len()
    }

    /// The next record.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are none.
    pub fn take_next(&mut self) -> Result<Option<Stored<'a>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let input = &mut self.rest;
        let flags = take(input, 1, NAME)?[0];
        if flags >= PARTITION << 1 {
            return Err(Malformed::new(NAME));
        }
        let mut timestamp = None;
        if flags & TIMESTAMP != 0 {
            let bytes = take(input, 8, NAME)?.first_chunk().copied();
            timestamp = bytes.map(i64::from_le_bytes);
        }
        let mut partition = None;
        if flags & PARTITION != 0 {
            let bytes = take(input, 4, NAME)?.first_chunk().copied();
            partition = bytes.map(u32::from_le_bytes);
        }
        let mut part = |flag: u8| {
            (flags & flag != 0)
                .then(|| {
                    let len = take_len(input, NAME)?;
                    take(input, len, NAME)
                })
                .transpose()
        };
        let (key, value) = (part(KEY)?, part(VALUE)?);
        let len = take_len(input, NAME)?;
        let headers = Headers::decode(take(input, len, NAME)?)?;
        Ok(Some(Stored { key, value, timestamp, partition, headers }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(key: Option<&str>, value: Option<&str>) -> Outgoing {
        let mut record = Outgoing::default();
        record.clear(EventTime(-1), 4);
        if let Some(key) = key {
            record.key(key);
        }
        if let Some(value) = value {
            record.value(value);
        }
        record
    }

    proptest! {
        #[test]
        fn what_is_appended_is_read_back_and_no_cut_of_it_panics(
            records in proptest::collection::vec(
                (".{0,9}", proptest::option::of(".{0,40}"), any::<Option<u32>>(), any::<bool>()),
                1..20,
            ),
        ) {
            let mut segment = Vec::new();
            let mut record = Outgoing::default();
            for (key, value, partition, header) in &records {
                record.clear(EventTime(7_999), 4);
                record.key(key);
                if let Some(value) = value {
                    record.value_text(value);
                }
                if let Some(partition) = partition {
                    record.partition(*partition);
                }
                if *header {
                    record.header(key, None).header("x", Some(b"y"));
                }
                append(&mut segment, &record);
            }
            let mut read = Records::new(&segment, 0).unwrap();
            let mut positions = vec![0];
            for (key, value, partition, header) in &records {
                let found = read.take_next().unwrap().unwrap();
                prop_assert_eq!(found.key, Some(key.as_bytes()));
                prop_assert_eq!(found.value, value.as_ref().map(String::as_bytes));
                prop_assert_eq!((found.timestamp, found.partition), (Some(7), *partition));
                prop_assert_eq!(found.headers.iter().count(), usize::from(*header) * 2);
                positions.push(read.position());
            }
            prop_assert_eq!(read.take_next().unwrap(), None);
            let again = Records::new(&segment, positions[1]).unwrap().take_next().unwrap();
            prop_assert_eq!(again.is_some(), records.len() > 1);
            for cut in 0..segment.len() {
                let Ok(mut read) = Records::new(&segment[..cut], 0) else { continue };
                while let Ok(Some(_)) = read.take_next() {}
            }
        }
    }

    #[test]
    fn a_record_that_the_topic_never_takes_is_told_before() {
        let mut large = record(Some("key"), Some(&"x".repeat(900)));
        assert_eq!(large.check(1_000), Ok(()));
        large.header("name", Some(b"value"));
        assert!(large.check(1_000).unwrap_err().contains("max.message.bytes"));
        let mut astray = record(None, Some("x"));
        astray.partition(4);
        assert!(astray.check(1_000).unwrap_err().contains("partition 4, and the topic has 4"));
        astray.partition(3);
        assert_eq!(astray.check(1_000), Ok(()));
    }

    #[test]
    fn a_key_that_is_given_twice_is_the_last_one() {
        let mut segment = Vec::new();
        append(&mut segment, record(Some("a"), None).key("b").key_text(7));
        let read = Records::new(&segment, 0).unwrap().take_next().unwrap().unwrap();
        assert_eq!((read.key, read.value, read.timestamp), (Some(&b"7"[..]), None, None));
    }
}
