//! The sink: records to a topic, exactly once unless at least once was asked for.

mod account;
mod client;
mod command;
pub mod dead_letter;
mod mark;
mod output;
mod payload;
mod plain;
mod segment;
#[cfg(test)]
mod tests;
mod transactional;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use gear_core::api::Record;
use gear_core::api::sink::{Answered, Sink, SinkConnector, SinkContext, SinkTask, Waiting};
use gear_core::effect::IoError;
use gear_core::flow::push::Meta;
use gear_core::id::{Epoch, Token};
use gear_core::message::{ObjectRef, Pending};

use client::{Client, Fill};
use plain::Plain;
use transactional::Transactional;

pub use client::BACKOFF_MAX;
pub use command::{Command, Reply, SERVICE, Session, Values, decode, encode};
pub use mark::{Before, Mark};
pub use payload::{Field, Payload};
pub use segment::{Outgoing, Records, Stored};

use super::settings::{ClientSettings, SettingError};
use crate::faults::{Faults, NoFaults};

/// Bytes of records that are kept, sent and fetched together unless set: amortises a write to the
/// checkpoint store, where each is a file of its own that is synced, and is a small part of what a
/// task may hold. A little less than a power of two, to which a buffer grows.
pub const SEGMENT_BYTES: usize = 4 * 1_024 * 1_024 - 64 * 1_024;
/// Bytes of output that a task holds in memory unless set, beside the checkpoint store: what a fast
/// task puts out in an epoch of a second, and a small part of what a process may hold.
pub const MEMORY_BYTES_DEFAULT: usize = 64 * 1_024 * 1_024;
/// How long a batch of a transaction waits for more: it ends with all of them in any case. Records
/// without a key would stay with a partition for twice as long.
const IN_TRANSACTIONS: [(&str, &str); 2] =
    [("linger.ms", "50"), ("sticky.partitioning.linger.ms", "10")];
/// librdkafka's other name for `linger.ms`.
const LINGER_ALIAS: &str = "queue.buffering.max.ms";
/// What a producer is set to unless the job sets it.
const DEFAULTS: [(&str, &str); 7] = [
    // A broker that comes back is noticed at once: the library would wait for up to 10 s.
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "500"),
    // As Kafka's own clients do.
    ("partitioner", "murmur2_random"),
    ("linger.ms", "5"),
    ("batch.num.messages", "10000"),
    ("batch.size", "1000000"),
    ("queue.buffering.max.messages", "1000000"),
];
/// Settings that are the sink's own.
const OWN: [(&str, &str); 4] = [
    ("transactional.id", "it is made of the names of app, sink and task"),
    ("enable.idempotence", "without it records could be doubled and change places"),
    ("acks", "what fewer brokers have can be lost"),
    ("enable.gapless.guarantee", "it is implied"),
];

/// Records to `topic` of the cluster that these brokers, as `host:port,host:port`, are of.
///
/// A pair is a key and a value, anything else a value; text and bytes as they are, numbers in
/// decimal. A [`DeadLetter`](gear_core::api::DeadLetter) is its payload, with headers that
/// [`dead_letter`] names. [`sink_with`] fills records in any other way.
pub fn sink<T: Payload>(brokers: impl Into<String>, topic: impl Into<String>) -> KafkaSink<T> {
    sink_with(brokers, topic, |view, record: &mut Outgoing| T::fill(view, record))
}

/// Records to `topic`, each filled by a closure.
pub fn sink_with<T: Record>(
    brokers: impl Into<String>,
    topic: impl Into<String>,
    fill: impl for<'a> Fn(T::View<'a>, &mut Outgoing) + Send + Sync + 'static,
) -> KafkaSink<T> {
    KafkaSink {
        settings: ClientSettings::new(brokers),
        topic: topic.into(),
        transactional: true,
        choices: Choices {
            unsure: Unsure::Stop,
            memory: MEMORY_BYTES_DEFAULT,
            segment: SEGMENT_BYTES,
        },
        fill: Arc::new(fill),
        faults: PhantomData,
    }
}

/// What to do with output of which it cannot be known whether it is in the topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unsure {
    /// Stop and say so.
    #[default]
    Stop,
    /// Produce it: it may be there twice.
    Produce,
    /// Do not: it may be missing.
    Skip,
}

/// What a user can choose of how a transactional sink works.
#[derive(Clone, Copy, Debug)]
struct Choices {
    unsure: Unsure,
    memory: usize,
    segment: usize,
}

/// Records to a topic; made by [`sink`] and [`sink_with`].
///
/// Unless [`Self::at_least_once`] is said, an epoch's output appears in a transaction after the
/// epoch has committed, to readers that read committed records only; in several, if brokers take
/// long or one that holds much of it is lost. Each task has a transactional id,
/// `gear.<app>.<sink>.<task>`, and commits an offset of a group of that name with it.
pub struct KafkaSink<T: Record, F: Faults = NoFaults> {
    settings: ClientSettings,
    topic: String,
    transactional: bool,
    choices: Choices,
    fill: Arc<Fill<T>>,
    faults: PhantomData<fn() -> F>,
}

impl<T: Record, F: Faults> KafkaSink<T, F> {
    /// Sends records as they come, without transactions: after a failure some are there twice, and
    /// readers see them before their epoch has committed.
    #[must_use]
    pub const fn at_least_once(mut self) -> Self {
        self.transactional = false;
        self
    }

    /// A setting of the client library, by librdkafka's name for it: TLS, SASL, compression.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.set(name, value);
        self
    }

    /// What to do when the broker has forgotten whether an epoch was produced: after seven days of
    /// standstill, unless the cluster is set otherwise.
    #[must_use]
    pub const fn when_unsure(mut self, unsure: Unsure) -> Self {
        self.choices.unsure = unsure;
        self
    }

    /// Bytes of output that a task holds in memory, and three segments more that are on their way
    /// to the checkpoint store; what does not fit waits there alone.
    ///
    /// While the output of a committed epoch is being produced, a task takes records as long as all
    /// that waits fits into this, and beyond that half as much as it has sent: the job goes no
    /// faster than the brokers.
    #[must_use]
    pub const fn memory_bytes(mut self, bytes: usize) -> Self {
        self.choices.memory = bytes;
        self
    }

    /// Bytes of output that make up an object of the checkpoint store, and that are sent as one.
    #[must_use]
    pub const fn segment_bytes(mut self, bytes: usize) -> Self {
        self.choices.segment = bytes;
        self
    }

    /// All settings of librdkafka that a producer of this sink has, but for the transactional id
    /// and what the topic decides on: the largest batch, and how much waits for the brokers.
    ///
    /// # Errors
    /// A setting that the sink decides on was set.
    pub fn settings(&self) -> Result<ClientSettings, SettingError> {
        self.check()?;
        Ok(self.with_defaults())
    }

    fn with_defaults(&self) -> ClientSettings {
        let mut all = self.settings.clone();
        let is_set = all.get(LINGER_ALIAS).is_some();
        let transactional = self.transactional.then_some(IN_TRANSACTIONS).into_iter().flatten();
        for (name, value) in transactional.chain(DEFAULTS) {
            if name != "linger.ms" || !is_set {
                all.set_default(name, value);
            }
        }
        all
    }

    /// The same with other seeded bugs, for a simulator.
    #[must_use]
    pub fn with_faults<G: Faults>(self) -> KafkaSink<T, G> {
        KafkaSink {
            settings: self.settings,
            topic: self.topic,
            transactional: self.transactional,
            choices: self.choices,
            fill: self.fill,
            faults: PhantomData,
        }
    }

    fn check(&self) -> Result<(), SettingError> {
        self.settings.refuse(&OWN)
    }
}

impl<T: Record, F: Faults> fmt::Debug for KafkaSink<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSink")
            .field("settings", &self.settings)
            .field("topic", &self.topic)
            .field("transactional", &self.transactional)
            .finish_non_exhaustive()
    }
}

impl<T: Record, F: Faults> SinkConnector for KafkaSink<T, F> {
    type Sink = KafkaWriter<T, F>;

    fn sink(&self, task: &SinkTask) -> KafkaWriter<T, F> {
        let fill = Arc::clone(&self.fill);
        let client = Client::new(self.with_defaults(), self.topic.clone(), fill);
        let writer = if self.transactional {
            let SinkTask { app, name, index, .. } = task;
            let id = format!("gear.{app}.{name}.{index}");
            Writer::Transactional(Transactional::new(client, self.choices, id, task.attempt))
        } else {
            Writer::Plain(Plain::new(client, task.attempt))
        };
        KafkaWriter { writer, refused: self.check().err() }
    }

    fn transactional(&self) -> bool {
        self.transactional
    }
}

/// Writes the records of one task.
pub struct KafkaWriter<T: Record, F: Faults = NoFaults> {
    writer: Writer<T, F>,
    /// A setting that nobody may set.
    refused: Option<SettingError>,
}

enum Writer<T: Record, F: Faults> {
    Transactional(Transactional<T, F>),
    Plain(Plain<T>),
}

impl<T: Record, F: Faults> fmt::Debug for KafkaWriter<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaWriter").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

impl<T: Record, F: Faults> Sink for KafkaWriter<T, F> {
    type In = T;

    fn open(&mut self, pending: &[Pending], cx: &mut SinkContext<'_>) -> Result<(), String> {
        if let Some(error) = &self.refused {
            return Err(error.to_string());
        }
        match &mut self.writer {
            Writer::Transactional(writer) => writer.open(pending, cx),
            Writer::Plain(writer) => {
                writer.open(cx);
                Ok(())
            }
        }
    }

    fn is_open(&self) -> bool {
        match &self.writer {
            Writer::Transactional(writer) => writer.is_open(),
            Writer::Plain(writer) => writer.is_open(),
        }
    }

    fn has_room(&self) -> bool {
        match &self.writer {
            Writer::Transactional(writer) => writer.has_room(),
            Writer::Plain(writer) => writer.has_room(),
        }
    }

    #[inline]
    fn write(
        &mut self,
        meta: Meta,
        view: T::View<'_>,
        cx: &mut SinkContext<'_>,
    ) -> Result<(), String> {
        match &mut self.writer {
            Writer::Transactional(writer) => writer.write(meta, view, cx),
            Writer::Plain(writer) => writer.write(meta, view, cx),
        }
        Ok(())
    }

    fn idle(&mut self, cx: &mut SinkContext<'_>) {
        if let Writer::Plain(writer) = &mut self.writer {
            writer.idle(cx);
        }
    }

    fn prepare(
        &mut self,
        epoch: Epoch,
        _: bool,
        cx: &mut SinkContext<'_>,
    ) -> Result<Vec<u8>, String> {
        match &mut self.writer {
            Writer::Transactional(writer) => writer.prepare(epoch, cx),
            Writer::Plain(writer) => {
                writer.prepare(cx);
                Ok(Vec::new())
            }
        }
    }

    fn objects(&self) -> Vec<ObjectRef> {
        match &self.writer {
            Writer::Transactional(writer) => writer.objects(),
            Writer::Plain(_) => Vec::new(),
        }
    }

    fn answered(
        &mut self,
        token: Token,
        result: Result<Vec<u8>, IoError>,
        cx: &mut SinkContext<'_>,
    ) -> Result<Answered, String> {
        match &mut self.writer {
            Writer::Transactional(writer) => writer.answered(token, result, cx),
            Writer::Plain(writer) => writer.answered(token, result, cx),
        }
    }

    fn waiting(&self) -> Waiting {
        match &self.writer {
            Writer::Transactional(writer) => writer.waiting(),
            Writer::Plain(writer) => writer.waiting(),
        }
    }

    fn commit(&mut self, epoch: Epoch, cx: &mut SinkContext<'_>) -> Result<(), String> {
        if let Writer::Transactional(writer) = &mut self.writer {
            writer.commit(epoch, cx);
        }
        Ok(())
    }
}
