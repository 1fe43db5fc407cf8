//! The Kafka source: what a job says of it, which partitions there are, and the reader of a task's.

mod decide;
mod part;
mod position;
mod reader;
#[cfg(test)]
mod reader_tests;
mod shape;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use gear_core::api::{Files, SourceConnector};
use gear_core::effect::{IoError, IoErrorKind};
use gear_core::time::{Duration, EventTime, WallTime};

pub(crate) use position::place;
pub use position::read_up_to;
pub use reader::KafkaReader;
pub use shape::{Bytes, Shape, Text, Whole};

use super::error::KafkaError;
use super::port::{CONSUMERS, Consumers};
use super::settings::{ClientSettings, SettingError};
use crate::faults::{Faults, NoFaults};

/// Time between two looks for new partitions unless set: they are made by hand, a few times a year.
pub const DISCOVER_EVERY_DEFAULT: Duration = Duration::from_secs(30);
/// KiB of records that a consumer fetches ahead: a tenth of a second at 320 MB/s. Each task that
/// reads has one consumer, so this times the tasks is what reading takes of a process's memory.
pub const FETCHED_AHEAD_KIB: u32 = 32 * 1_024;
/// Milliseconds between two reports of where partitions end, of a source that goes on for ever: for
/// people, who look once in a few seconds.
const REPORT_EVERY_MS: u32 = 2_000;
/// The same of one that reads to the end: it waits for a report at its end.
const REPORT_AT_END_MS: u32 = 100;

/// Settings that the source decides on.
const OWN: [(&str, &str); 8] = [
    ("auto.offset.reset", "`when_gone` says what becomes of a position that is no longer there"),
    ("enable.auto.commit", "the positions are in the epochs of the job"),
    ("enable.auto.offset.store", "the positions are in the epochs of the job"),
    ("enable.partition.eof", "`until_end` reads to the end"),
    ("group.instance.id", "the partitions are shared out by the job, and no group is joined"),
    ("group.protocol", "the partitions are shared out by the job, and no group is joined"),
    ("isolation.level", "`read_uncommitted` changes it"),
    ("statistics.interval.ms", "the source needs it for its own figures"),
];

/// Where a source begins in partitions of which no epoch has a position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first record there is.
    #[default]
    Earliest,
    /// With the first record that is written after the job has started.
    Latest,
    /// In each partition with the first record whose timestamp is at or after this time; all that
    /// follow it are read, whatever their timestamps. Where there is none, with the first one that
    /// comes.
    At(EventTime),
    /// At these offsets, by topic and partition; with the first record where none is given.
    Offsets(BTreeMap<(String, u32), u64>),
}

impl Start {
    /// [`Self::At`] of a time on the wall.
    #[must_use]
    pub const fn at(time: WallTime) -> Self {
        Self::At(EventTime(time.0))
    }
}

impl From<SystemTime> for Start {
    /// [`Self::At`] of a time on the wall, to the microsecond.
    fn from(time: SystemTime) -> Self {
        let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self::At(EventTime(match time.duration_since(UNIX_EPOCH) {
            Ok(since) => micros(since),
            Err(before) => -micros(before.duration()),
        }))
    }
}

/// What to do when the record at a position is no longer there: retention has removed it, or the
/// topic was made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenGone {
    /// The job fails and says what can be done.
    #[default]
    Fail,
    /// Goes on with the first record there is, and says how many offsets were passed.
    Earliest,
    /// Goes on behind the last record there is, and says how many offsets were passed.
    Latest,
}

/// The records of these topics, as [`Message`](super::Message)s; the brokers as
/// `host:port,host:port`.
///
/// Positions are in the job's epochs, and no consumer group is used. The timestamps of the records
/// are their event times, so that `watermarks` needs no `event_time` before it.
pub fn source<T: Into<String>>(
    brokers: impl Into<String>,
    topics: impl IntoIterator<Item = T>,
) -> KafkaSource<Whole> {
    let mut topics: Vec<String> = topics.into_iter().map(Into::into).collect();
    topics.sort();
    topics.dedup();
    let plan = Plan {
        topics,
        settings: ClientSettings::new(brokers),
        start: Start::default(),
        when_gone: WhenGone::default(),
        until_end: false,
        committed: true,
        discover_every: DISCOVER_EVERY_DEFAULT,
    };
    KafkaSource { plan, kind: PhantomData }
}

/// What a source reads, and how.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) topics: Vec<String>,
    settings: ClientSettings,
    pub(super) start: Start,
    pub(super) when_gone: WhenGone,
    pub(super) until_end: bool,
    committed: bool,
    pub(super) discover_every: Duration,
}

/// Topics of Kafka; made by [`source`].
pub struct KafkaSource<S: Shape = Whole, F: Faults = NoFaults> {
    plan: Plan,
    kind: PhantomData<fn() -> (S, F)>,
}

impl<S: Shape, F: Faults> KafkaSource<S, F> {
    /// Where to begin; with the first record unless set. An epoch's positions come before it.
    #[must_use]
    pub fn from(mut self, start: Start) -> Self {
        self.plan.start = start;
        self
    }

    /// What to do when the record at a position is no longer there; the job fails unless set.
    #[must_use]
    pub const fn when_gone(mut self, choice: WhenGone) -> Self {
        self.plan.when_gone = choice;
        self
    }

    /// Reads to where the partitions end when the job starts, and ends.
    #[must_use]
    pub const fn until_end(mut self) -> Self {
        self.plan.until_end = true;
        self
    }

    /// Reads records of transactions that are open or were aborted, too.
    #[must_use]
    pub const fn read_uncommitted(mut self) -> Self {
        self.plan.committed = false;
        self
    }

    /// Time between two looks for new partitions, which are read from their first record on. One
    /// that turns up while the job runs is read by the task that has found it; after the next start
    /// they are shared out anew.
    #[must_use]
    pub const fn discover_every(mut self, interval: Duration) -> Self {
        self.plan.discover_every = interval;
        self
    }

    /// Any setting of librdkafka, such as `security.protocol`; its value is shown nowhere.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.plan.settings.set(name, value);
        self
    }

    /// All settings of librdkafka that a consumer of this source has.
    ///
    /// # Errors
    /// A setting that the source decides on was set.
    pub fn settings(&self) -> Result<ClientSettings, SettingError> {
        self.plan.settings()
    }

    /// Gives the values alone, as `Ref<[u8]>`; a record without one is put aside.
    #[must_use]
    pub fn bytes(self) -> KafkaSource<Bytes, F> {
        KafkaSource { plan: self.plan, kind: PhantomData }
    }

    /// Gives the values alone, as `Ref<str>`; one that is not UTF-8 is put aside, and a record
    /// without a value too.
    #[must_use]
    pub fn text(self) -> KafkaSource<Text, F> {
        KafkaSource { plan: self.plan, kind: PhantomData }
    }

    /// The same with other seeded bugs, for a simulator.
    #[must_use]
    pub fn with_faults<G: Faults>(self) -> KafkaSource<S, G> {
        KafkaSource { plan: self.plan, kind: PhantomData }
    }
}

impl<S: Shape, F: Faults> fmt::Debug for KafkaSource<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Plan {
    /// All settings of the client.
    ///
    /// # Errors
    /// One that the source decides on is set.
    pub(super) fn settings(&self) -> Result<ClientSettings, SettingError> {
        self.settings.refuse(&OWN)?;
        let mut all = self.settings.clone();
        let report = if self.until_end { REPORT_AT_END_MS } else { REPORT_EVERY_MS };
        all.set("enable.auto.commit", "false");
        all.set("enable.auto.offset.store", "false");
        all.set("auto.offset.reset", "error");
        all.set(
            "isolation.level",
            if self.committed { "read_committed" } else { "read_uncommitted" },
        );
        all.set("statistics.interval.ms", report.to_string());
        // Without one a consumer refuses every assignment.
        all.set_default("group.id", "gear");
        all.set_default("client.id", "gear");
        // Its own defaults leave a queue that was full alone for a second, and a broker that came
        // back for ten.
        all.set_default("fetch.queue.backoff.ms", "10");
        all.set_default("reconnect.backoff.ms", "50");
        all.set_default("reconnect.backoff.max.ms", "500");
        all.set_default("queued.max.messages.kbytes", FETCHED_AHEAD_KIB.to_string());
        Ok(all)
    }

    fn partitions(&self, files: &mut dyn Files) -> Result<Vec<String>, KafkaError> {
        if self.topics.is_empty() {
            return Err(KafkaError::NoTopic);
        }
        let settings = self.settings()?;
        let counts = consumers(files)?.partitions(&settings, &self.topics)?;
        let mut names = Vec::new();
        for (topic, count) in self.topics.iter().zip(counts) {
            position::names(topic, count, !self.until_end, &mut names);
        }
        Ok(names)
    }
}

/// The consumers of this process.
pub(super) fn consumers(files: &mut dyn Files) -> Result<&mut Box<dyn Consumers>, KafkaError> {
    let service = files.service(CONSUMERS);
    let consumers = service.and_then(|service| service.downcast_mut());
    consumers.ok_or(KafkaError::NotBuiltIn)
}

impl<S: Shape, F: Faults> SourceConnector for KafkaSource<S, F> {
    type Source = KafkaReader<S, F>;

    fn partitions(&self, files: &mut dyn Files) -> Result<Vec<String>, IoError> {
        self.plan.partitions(files).map_err(|error| {
            let kind = match error {
                KafkaError::UnknownTopic { .. } => IoErrorKind::NotFound,
                KafkaError::Refused { .. } => IoErrorKind::Denied,
                _ => IoErrorKind::Other,
            };
            let path = format!("kafka:{}", self.plan.topics.join(","));
            IoError { path, reason: error.to_string(), kind }
        })
    }

    fn source(&self) -> KafkaReader<S, F> {
        KafkaReader::new(Arc::new(self.plan.clone()))
    }

    fn discovers(&self) -> bool {
        !self.plan.until_end
    }
}
