//! What the source asks of a client of Kafka: everything that decides stays with the source.

use super::error::KafkaError;
use super::settings::ClientSettings;

/// The name under which a driver offers a `Box<dyn Consumers>` as
/// [`service`](gear_core::api::Files::service).
pub const CONSUMERS: &str = "kafka consumers";

/// Makes consumers.
pub trait Consumers: Send + Sync {
    /// How many partitions each of these topics has. Waits for the cluster, for a time of its own.
    ///
    /// # Errors
    /// [`KafkaError`], for the user.
    fn partitions(
        &mut self,
        settings: &ClientSettings,
        topics: &[String],
    ) -> Result<Vec<u32>, KafkaError>;

    /// A consumer, which finds its cluster by itself and in the background.
    ///
    /// # Errors
    /// [`KafkaError`], if its settings are wrong.
    fn consumer(&mut self, settings: &ClientSettings) -> Result<Box<dyn Consumer>, KafkaError>;
}

/// A client that reads. No call waits; dropped, it ends in the background.
pub trait Consumer: Send {
    /// Asks for something. Requests are carried out in their order.
    fn ask(&mut self, request: Request);

    /// What has come, if anything has.
    fn poll(&mut self) -> Option<Event>;

    /// Takes back a batch that has been read, so that its memory is used again.
    fn give_back(&mut self, batch: Batch);
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: u32,
}

/// What is asked of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// How many partitions these topics have: answered by [`Event::Topics`].
    Topics(Vec<String>),
    /// Offsets, found in this order: answered by [`Event::Offsets`].
    Offsets(Vec<(Place, Vec<TopicPartition>)>),
    /// To read these, and nothing else, from now on: answered by batches.
    Fetch {
        /// Repeated in what comes of it, so that what comes of an earlier one is told apart.
        round: u64,
        /// What is read.
        from: Vec<Fetch>,
        /// An [`Event::Reached`] is wanted.
        ends: bool,
    },
    /// Not to read this one any more.
    Stop {
        /// The number of the request that it belongs to.
        round: u64,
        /// The partition's number.
        number: u32,
    },
}

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first record that there still is.
    Earliest,
    /// Behind the last record of which it is known that it stays.
    Latest,
    /// The first record with this timestamp or a later one, in milliseconds since 1970.
    At(i64),
}

/// A partition that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The number by which what comes of it names it.
    pub number: u32,
    /// The partition.
    pub partition: TopicPartition,
    /// Where to begin.
    pub offset: u64,
}

/// Where a place is: an offset; none if there is no such record.
pub type Found = Result<Option<u64>, KafkaError>;

/// What comes of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// How many partitions each of the topics has.
    Topics(Vec<Result<u32, KafkaError>>),
    /// The offsets asked for, in the order of the question.
    Offsets(Vec<Vec<Found>>),
    /// Records.
    Batch(Batch),
    /// All that a partition has before this offset has been given, and all that it had then was
    /// before it.
    Reached {
        /// Of the request.
        round: u64,
        /// Of the partition.
        number: u32,
        /// The offset: behind the last record, or behind what ends a transaction.
        offset: u64,
    },
    /// Where partitions end now, by their numbers.
    Ends {
        /// Of the request.
        round: u64,
        /// The number of a partition, and the offset behind its last record.
        ends: Vec<(u32, u64)>,
    },
    /// A partition is not read, since there is no such offset in it, or no such partition.
    OutOfRange {
        /// Of the request.
        round: u64,
    },
    /// Something is wrong with which the client goes on trying.
    Trouble(KafkaError),
    /// Something is wrong for good: nothing more comes.
    Failed(KafkaError),
}

/// Records of several partitions, each partition's in the order of its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Of the request.
    pub round: u64,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// A record of a batch. Its parts stand one behind the other in the batch's bytes: key, value,
/// headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The partition's number in the request.
    pub number: u32,
    /// Its place in the partition.
    pub offset: u64,
    /// Milliseconds since 1970; [`NO_TIMESTAMP`] if it has none.
    pub timestamp: i64,
    begin: u32,
    key: u32,
    value: u32,
    headers: u32,
}

/// The timestamp of a record that has none.
pub const NO_TIMESTAMP: i64 = -1;
/// The length of what is not there.
const NONE: u32 = u32::MAX;
/// The length of headers that cannot be read.
const BROKEN: u32 = u32::MAX - 1;

/// The parts of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers, encoded; none if they are no text.
    pub headers: Option<&'a [u8]>,
}

impl Batch {
    /// Empties it for another round.
    pub fn clear(&mut self, round: u64) {
        self.round = round;
        self.bytes.clear();
        self.entries.clear();
    }

    /// Appends a record; `headers` appends its encoded headers and gives false if they are no
    /// text.
    ///
    /// # Panics
    /// If it is larger than [`Self::RECORD_BYTES_MAX`], which no broker and no client accepts.
    #[inline]
    pub fn push(
        &mut self,
        (number, offset, timestamp): (u32, u64, i64),
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl FnOnce(&mut Vec<u8>) -> bool,
    ) {
        let begin = self.bytes.len();
        let len = |part: Option<&[u8]>| part.map_or(NONE, |part| part.len() as u32);
        let (key_len, value_len) = (len(key), len(value));
        self.bytes.extend_from_slice(key.unwrap_or_default());
        self.bytes.extend_from_slice(value.unwrap_or_default());
        let from = self.bytes.len();
        let headers = if headers(&mut self.bytes) {
            (self.bytes.len() - from) as u32
        } else {
            self.bytes.truncate(from);
            BROKEN
        };
        assert!(
            self.bytes.len() - begin <= Self::RECORD_BYTES_MAX && begin < BROKEN as usize,
            "a batch is handed over before it is so large"
        );
        let begin = begin as u32;
        let (key, value) = (key_len, value_len);
        self.entries.push(Entry { number, offset, timestamp, begin, key, value, headers });
    }

    /// Largest record in bytes: Kafka's own lengths have 32 bits with a sign.
    pub const RECORD_BYTES_MAX: usize = i32::MAX as usize;

    /// Bytes of its records.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that it has room for.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Its records.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The parts of a record that is in it.
    #[inline]
    #[must_use]
    pub fn parts(&self, entry: &Entry) -> Parts<'_> {
        let mut at = entry.begin as usize;
        let mut take = |len: u32| {
            let from = at;
            at += if len >= BROKEN { 0 } else { len as usize };
            (len < BROKEN).then(|| &self.bytes[from..at])
        };
        Parts { key: take(entry.key), value: take(entry.value), headers: take(entry.headers) }
    }
}
