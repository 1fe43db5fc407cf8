//! The records of the commit log, and their encoding.
//!
//! An object of the log is a magic, the version of the format (u16), the CRC32C of the body (u32)
//! and the body in postcard; the header's integers are little endian.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::aside::Aside;
use crate::id::{AppTerm, Attempt, Epoch, LogNumber};
use crate::limits::LOG_NUMBER_MAX;
use crate::message::{ObjectRef, TaskSnapshot};

/// The first bytes of every record.
const MAGIC: [u8; 6] = *b"GEARCL";
/// The version of the format that is written.
pub const VERSION: u16 = 4;
/// The version before, which is read too: it has no attempts.
const BEFORE: u16 = 3;
/// Magic, version and checksum.
const HEADER_BYTES: usize = MAGIC.len() + 2 + 4;
/// The folder of the log in the store.
pub const FOLDER: &str = "log/";

/// Whose state a folder holds: a job with other arguments is another job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The name of the app.
    pub app: String,
    /// The digest of the job's arguments; decides alone.
    pub digest: u64,
    /// The arguments as a person wrote them, to be shown.
    pub arguments: String,
}

impl Identity {
    /// True if both mean the same job.
    #[must_use]
    pub fn same_job(&self, other: &Self) -> bool {
        self.app == other.app && self.digest == other.digest
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` with the arguments `{}`", self.app, self.arguments)
    }
}

/// One record of the commit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Records of lower terms behind this one are void.
    Fence(Fence),
    /// This epoch is committed.
    Epoch(EpochRecord),
    /// The app has finished, and all it has to say is visible.
    Closed(Closed),
    /// Tasks are about to run in another attempt.
    Attempt(AttemptRecord),
}

/// What an app master writes before it reads the log and acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The app master's term.
    pub term: AppTerm,
    /// Tells its fence from that of another app master that chose the same term.
    pub incarnation: u64,
    /// Whose log this is.
    pub identity: Identity,
}

/// A committed epoch: everything that a later app master needs to go on from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The term of the app master that committed it.
    pub term: AppTerm,
    /// The epoch.
    pub epoch: Epoch,
    /// The highest attempt of the tasks that took part.
    pub attempt: Attempt,
    /// Whose log this is.
    pub identity: Identity,
    /// The version of the DAG that ran.
    pub dag_version: u64,
    /// Key groups of the app, fixed with its first epoch.
    pub key_groups: u32,
    /// Every task had finished: nothing follows this epoch.
    pub finished: bool,
    /// The user had asked for a stop: the app goes on from here when it is started again.
    pub stopped: bool,
    /// Highest epoch that all sinks were known to have made visible; 0 if none.
    pub sinks_committed: Epoch,
    /// Records of lower numbers may have been collected: whatever is found there counts nothing.
    pub floor: LogNumber,
    /// What each task has to say.
    #[serde(with = "recorded")]
    pub tasks: BTreeMap<TaskKey, TaskSnapshot>,
    /// What is in the quarantine.
    pub aside: Aside,
    /// The objects that sinks' accounts need, of the tasks that have any.
    pub output: BTreeMap<TaskKey, Vec<ObjectRef>>,
}

impl EpochRecord {
    /// The objects of its tasks' state, in the order of the tasks.
    pub fn state_objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.tasks.values().flat_map(|task| &task.chain)
    }

    /// The objects of its tasks' state and of their output.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.state_objects().chain(self.output.values().flatten())
    }
}

/// Says that every sink has made visible what the finished app's last epoch holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// The term of the app master that saw it.
    pub term: AppTerm,
    /// The last epoch.
    pub epoch: Epoch,
    /// Whose log this is.
    pub identity: Identity,
}

/// What an app master writes before it deploys tasks: from here on no app master takes any of them
/// over that runs in an earlier attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The term of the app master that deploys them.
    pub term: AppTerm,
    /// The attempt; they may come to run in a later one of the same term.
    pub attempt: Attempt,
    /// Whose log this is.
    pub identity: Identity,
    /// The tasks.
    pub tasks: BTreeSet<TaskKey>,
}

/// A task as the log names it: operators are matched by uid over restarts and rescales.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskKey {
    /// The processor's stable name.
    pub uid: String,
    /// Its place among the processor's instances, from 0.
    pub index: u32,
    /// How many instances there were.
    pub parallelism: u32,
}

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It does not begin like a record.
    #[error("it is no record of a commit log, or it has been cut off")]
    Foreign,
    /// Written by a version that this one cannot read.
    #[error(
        "it has format version {found}, and this program reads versions {BEFORE} and {VERSION}: \
         start the version of the job that wrote it"
    )]
    Version {
        /// The version found.
        found: u16,
    },
    /// The checksum does not match.
    #[error("its checksum does not match its content")]
    Checksum,
    /// The checksum matches but the body cannot be read.
    #[error("its body cannot be read although its checksum matches")]
    Malformed,
}

/// The tasks of an epoch as the log has them: what they have taken out of the quarantine stands in
/// [`EpochRecord::aside`], and what output they have in the store in [`EpochRecord::output`].
mod recorded {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::TaskKey;
    use crate::id::Attempt;
    use crate::message::{ObjectRef, Partition, TaskSnapshot};
    use crate::time::EventTime;

    /// By value or by reference: both are encoded alike.
    #[derive(Serialize, Deserialize)]
    struct Recorded<P, O, B> {
        attempt: Attempt,
        finished: bool,
        partitions: P,
        chain: O,
        pending: B,
        watermark: EventTime,
        quarantine: O,
        quarantined: u64,
        records: u64,
    }

    type Owned = Recorded<Vec<Partition>, Vec<ObjectRef>, serde_bytes::ByteBuf>;

    pub(super) fn serialize<S: Serializer>(
        tasks: &BTreeMap<TaskKey, TaskSnapshot>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(tasks.iter().map(|(key, task)| {
            let recorded = Recorded {
                attempt: task.attempt,
                finished: task.finished,
                partitions: &task.partitions,
                chain: &task.chain,
                pending: serde_bytes::Bytes::new(&task.pending),
                watermark: task.watermark,
                quarantine: &task.quarantine,
                quarantined: task.quarantined,
                records: task.records,
            };
            (key, recorded)
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<TaskKey, TaskSnapshot>, D::Error> {
        let tasks = BTreeMap::<TaskKey, Owned>::deserialize(deserializer)?;
        let tasks = tasks.into_iter().map(|(key, task)| {
            let snapshot = TaskSnapshot {
                attempt: task.attempt,
                finished: task.finished,
                partitions: task.partitions,
                chain: task.chain,
                pending: task.pending.into_vec(),
                objects: Vec::new(),
                watermark: task.watermark,
                quarantine: task.quarantine,
                quarantined: task.quarantined,
                records: task.records,
                replayed: Vec::new(),
            };
            (key, snapshot)
        });
        Ok(tasks.collect())
    }
}

impl Record {
    /// The term of the app master that wrote it.
    #[must_use]
    pub fn term(&self) -> AppTerm {
        match self {
            Self::Fence(fence) => fence.term,
            Self::Epoch(epoch) => epoch.term,
            Self::Closed(closed) => closed.term,
            Self::Attempt(record) => record.term,
        }
    }

    /// Whose log it belongs to.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        match self {
            Self::Fence(fence) => &fence.identity,
            Self::Epoch(epoch) => &epoch.identity,
            Self::Closed(closed) => &closed.identity,
            Self::Attempt(record) => &record.identity,
        }
    }

    /// The bytes of its object.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let body = postcard::to_allocvec(self).expect("a record holds nothing postcard refuses");
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        assert_eq!(bytes.len(), HEADER_BYTES + body.len());
        bytes
    }

    /// The record that these bytes hold.
    ///
    /// # Errors
    /// [`RecordError`] if they are damaged or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(RecordError::Foreign)?;
        let (version, rest) = rest.split_first_chunk::<2>().ok_or(RecordError::Foreign)?;
        let version = u16::from_le_bytes(*version);
        if version != VERSION && version != BEFORE {
            return Err(RecordError::Version { found: version });
        }
        let (crc, body) = rest.split_first_chunk::<4>().ok_or(RecordError::Foreign)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(RecordError::Checksum);
        }
        let (record, rest): (Self, _) =
            postcard::take_from_bytes(body).map_err(|_| RecordError::Malformed)?;
        if rest.is_empty() && record.is_believable() {
            Ok(record)
        } else {
            Err(RecordError::Malformed)
        }
    }

    /// True if one can count on from its numbers.
    fn is_believable(&self) -> bool {
        let epoch = match self {
            Self::Fence(_) | Self::Attempt(_) => Epoch(0),
            Self::Epoch(record) => {
                let EpochRecord { sinks_committed, floor, .. } = record;
                if sinks_committed.0.max(floor.0) > LOG_NUMBER_MAX {
                    return false;
                }
                record.epoch
            }
            Self::Closed(closed) => closed.epoch,
        };
        self.term().0.max(epoch.0) <= LOG_NUMBER_MAX
    }
}

/// The name of a record's object in the store.
#[must_use]
pub fn object_name(number: LogNumber) -> String {
    format!("{FOLDER}{:010}", number.0)
}

/// The number of the record that an object of the store holds; none if it holds none.
#[must_use]
pub fn number_of(name: &str) -> Option<LogNumber> {
    let digits = name.strip_prefix(FOLDER)?;
    let plain = digits.len() >= 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = if plain { digits.parse().ok().map(LogNumber)? } else { return None };
    // A number has one name, or a record could exist twice.
    (number.0 <= LOG_NUMBER_MAX && object_name(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn sample() -> Record {
        let key = TaskKey { uid: "count".into(), index: 1, parallelism: 2 };
        let object = ObjectRef { name: "state/count-1/t2-e7".into(), len: 9, crc: 3 };
        let snapshot = TaskSnapshot { chain: vec![object], records: 5, ..TaskSnapshot::default() };
        Record::Epoch(EpochRecord {
            term: AppTerm(2),
            epoch: Epoch(7),
            key_groups: 1_024,
            tasks: BTreeMap::from([(key, snapshot)]),
            ..EpochRecord::default()
        })
    }

    #[test]
    fn numbers_from_which_one_cannot_count_on_are_refused() {
        let Record::Epoch(believable) = sample() else { unreachable!("it is an epoch") };
        let max = u64::MAX;
        for record in [
            EpochRecord { term: AppTerm(max), ..believable.clone() },
            EpochRecord { epoch: Epoch(max), ..believable.clone() },
            EpochRecord { floor: LogNumber(max), ..believable.clone() },
            EpochRecord { sinks_committed: Epoch(max), ..believable },
        ] {
            let bytes = Record::Epoch(record).encode();
            assert_eq!(Record::decode(&bytes), Err(RecordError::Malformed));
        }
        assert_eq!(number_of(&object_name(LogNumber(max))), None);
    }

    #[test]
    fn a_record_comes_back() {
        assert_eq!(Record::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn a_record_of_the_version_before_is_read() {
        let mut bytes = sample().encode();
        bytes[MAGIC.len()..][..2].copy_from_slice(&BEFORE.to_le_bytes());
        assert_eq!(Record::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let whole = sample().encode();
        for len in 0..whole.len() {
            assert!(Record::decode(&whole[..len]).is_err(), "cut at {len}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::decode(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn bytes_behind_the_body_are_refused_though_the_checksum_matches() {
        let mut body = postcard::to_allocvec(&sample()).expect("encodes");
        body.push(0);
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        assert_eq!(Record::decode(&bytes), Err(RecordError::Malformed));
    }

    #[test]
    fn another_version_is_refused_by_its_number() {
        let mut bytes = sample().encode();
        bytes[MAGIC.len()] = 9;
        assert_eq!(Record::decode(&bytes), Err(RecordError::Version { found: 9 }));
    }

    #[test]
    fn names_and_numbers_belong_together() {
        assert_eq!(object_name(LogNumber(12)), "log/0000000012");
        for number in [1, 12, 9_999_999_999, 10_000_000_000, LOG_NUMBER_MAX] {
            assert_eq!(number_of(&object_name(LogNumber(number))), Some(LogNumber(number)));
        }
        for name in ["log/12", "log/00000000012", "log/000000001x", "log/", "state/0000000012"] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }
}
