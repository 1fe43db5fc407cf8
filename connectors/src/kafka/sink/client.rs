//! What the two kinds of writer have in common: the topic they write to, the record at hand, and
//! how often they have asked in vain.

use std::sync::Arc;
use std::time::Duration;

use gear_core::api::Record;
use gear_core::api::sink::SinkContext;
use gear_core::effect::{Blob, IoError, IoErrorKind, IoRequest};
use gear_core::flow::push::Meta;
use gear_core::time::Time;

use super::command::{Command, Reply, SERVICE, Values, encode};
use super::segment::{Outgoing, append};
use crate::kafka::settings::ClientSettings;

/// Wait before what a broker did not do is asked again; doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Longest such wait: a broker that comes back is noticed at once, and one that does not is asked
/// twice a second.
pub const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// Requests in a row that were in vain before the user hears of it: about ten seconds.
const WARN_TRIES: u32 = 25;
/// Bytes of the largest batch unless the topic says: the client library's own limit.
const LIMIT_DEFAULT: u32 = 1_000_000;
/// What the client library takes as its limit for batches, in bytes.
const LIMITS: std::ops::RangeInclusive<u32> = 1_000..=1_000_000_000;
/// The client library's limit of a batch.
const MESSAGE_MAX: &str = "message.max.bytes";
/// What is to be a batch, in bytes.
const BATCH: &str = "batch.size";
/// KiB of records that the client library holds, whether they wait or are under way.
const QUEUE: &str = "queue.buffering.max.kbytes";
/// Halves of batches that it holds for each partition. A broker takes five requests of a producer
/// for a partition at a time, and while one more waits for that, the library's thread looks again
/// and again whether it may go: on two processors that took a third of them from the broker.
const HALF_BATCHES: u64 = 7;
/// Bytes that it holds of all partitions, unless one record takes more.
const QUEUE_BYTES_MAX: u64 = 128 * 1_024 * 1_024;

pub(super) type Fill<T> = dyn for<'a> Fn(<T as Record>::View<'a>, &mut Outgoing) + Send + Sync;

/// A topic, as the cluster describes it.
#[derive(Clone, Copy, Debug, Default)]
struct Topic {
    partitions: u32,
    limit: u32,
}

/// Where a task writes to.
pub(super) struct Client<T: Record> {
    pub(super) settings: ClientSettings,
    pub(super) topic: String,
    fill: Arc<Fill<T>>,
    described: Option<Topic>,
    record: Outgoing,
    /// Records that were not yet made a segment.
    pub(super) buffer: Vec<u8>,
    /// Requests in a row that were not carried out.
    tries: u32,
    /// Producers in a row that were lost.
    pub(super) losses: u32,
}

impl<T: Record> Client<T> {
    pub(super) fn new(settings: ClientSettings, topic: String, fill: Arc<Fill<T>>) -> Self {
        Self {
            settings,
            topic,
            fill,
            described: None,
            record: Outgoing::default(),
            buffer: Vec::new(),
            tries: 0,
            losses: 0,
        }
    }

    pub(super) const fn is_described(&self) -> bool {
        self.described.is_some()
    }

    pub(super) fn describe(&self) -> Command {
        Command::Describe { settings: self.values(), topic: self.topic.clone() }
    }

    /// The settings of a producer; its batches are as large as the topic takes them, and as many
    /// wait as its partitions take.
    pub(super) fn values(&self) -> Values {
        let mut settings = self.settings.clone();
        if let Some(topic) = self.described {
            settings.set_default(MESSAGE_MAX, topic.limit.to_string());
            let number = |name| settings.get(name).and_then(|set: &str| set.parse::<u64>().ok());
            let (batch, most) = (number(BATCH), number(MESSAGE_MAX));
            settings.set_default(QUEUE, queue_kib(topic, batch, most).to_string());
            if batch.is_some_and(|batch| batch > topic.limit.into()) {
                // The library would wait for batches that it never makes.
                settings.set(BATCH, topic.limit.to_string());
            }
        }
        settings.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The topic is there, and has so many partitions.
    pub(super) fn hear(&mut self, partitions: u32, limit: Option<u32>) -> Result<(), String> {
        if partitions == 0 {
            return Err(format!(
                "the topic `{}` on {} has no partitions",
                self.topic,
                self.settings.brokers()
            ));
        }
        let own = self.settings.get(MESSAGE_MAX).and_then(|own| own.parse().ok());
        let limit = limit.unwrap_or(LIMIT_DEFAULT).min(own.unwrap_or(u32::MAX));
        let limit = limit.clamp(*LIMITS.start(), *LIMITS.end());
        self.described = Some(Topic { partitions, limit });
        Ok(())
    }

    /// Puts a record behind the others of the buffer, or aside.
    #[inline]
    pub(super) fn write(&mut self, meta: Meta, view: T::View<'_>, cx: &mut SinkContext<'_>) {
        let topic = self.described.unwrap_or(Topic { partitions: 0, limit: LIMIT_DEFAULT });
        self.record.clear(meta.at, topic.partitions);
        (self.fill)(view, &mut self.record);
        match self.record.check(topic.limit as usize) {
            Ok(()) => append(&mut self.buffer, &self.record),
            Err(reason) => cx.io.refuse(reason),
        }
    }

    /// The records of the buffer, as the content of a segment.
    pub(super) fn cut(&mut self) -> Option<Blob> {
        if self.buffer.is_empty() {
            return None;
        }
        if self.buffer.len() < self.buffer.capacity() / 2 {
            // Little output must not hold on to a large buffer.
            let bytes = self.buffer.as_slice().to_vec();
            self.buffer.clear();
            return Some(bytes.into());
        }
        let empty = Vec::with_capacity(self.buffer.capacity());
        Some(std::mem::replace(&mut self.buffer, empty).into())
    }

    /// Something was carried out.
    pub(super) const fn heard(&mut self) {
        self.tries = 0;
    }

    /// Nobody has carried out a request: when it is asked again.
    ///
    /// # Errors
    /// What the user should know, if that would be in vain.
    pub(super) fn unheard(
        &mut self,
        error: &IoError,
        cx: &mut SinkContext<'_>,
    ) -> Result<Time, String> {
        if error.kind != IoErrorKind::Unavailable {
            return Err(gear_core::api::sink::describe(error));
        }
        self.tries = self.tries.saturating_add(1);
        if self.tries == WARN_TRIES {
            cx.io.warn(format!("{error}: what is to go to the topic `{}` waits", self.topic));
        }
        Ok(cx.now + backoff(self.tries))
    }

    /// A producer was lost: when the next one is asked for.
    pub(super) fn lost(&mut self, reason: &str, cx: &mut SinkContext<'_>) -> Time {
        self.losses = self.losses.saturating_add(1);
        if self.losses == WARN_TRIES {
            let topic = &self.topic;
            cx.io.warn(format!("nothing comes through to the topic `{topic}`: {reason}"));
        }
        cx.now + backoff(self.losses)
    }
}

/// How much a producer holds for a topic, if so many bytes were set for a batch and as the most for
/// one.
fn queue_kib(topic: Topic, batch: Option<u64>, most: Option<u64>) -> u64 {
    let limit = u64::from(topic.limit);
    let batch = batch.unwrap_or(limit).min(limit);
    let all = (batch * HALF_BATCHES / 2).saturating_mul(topic.partitions.into());
    // The largest record has to fit in any case.
    let largest = most.unwrap_or(limit).clamp(limit, u64::from(*LIMITS.end()));
    all.min(QUEUE_BYTES_MAX).max(2 * largest).div_ceil(1_024)
}

fn backoff(tries: u32) -> Duration {
    BACKOFF_MAX.min(BACKOFF_MIN * (1 << tries.min(16)))
}

/// The request that carries a command.
pub(super) fn call(command: &Command, body: Blob) -> IoRequest {
    IoRequest::Call { service: SERVICE.to_owned(), command: encode(command), body }
}

/// An answer that does not fit what was asked.
pub(super) fn misfit(reply: &Reply) -> String {
    format!(
        "a producer answered {reply:?}, which is no answer to what was asked; this is a defect \
             of Gear: please report it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_holds_what_its_partitions_take_and_one_record_in_any_case() {
        let kib = |partitions, limit, batch| queue_kib(Topic { partitions, limit }, batch, None);
        assert_eq!(kib(1, 1_048_588, Some(1_000_000)), 3_418);
        assert_eq!(kib(4, 1_048_588, Some(1_000_000)), 13_672);
        assert_eq!(kib(1, 1_000_000, None), 3_418);
        assert_eq!(kib(1, 1_000_000, Some(u64::MAX)), 3_418);
        assert_eq!(kib(u32::MAX, 1_000_000, Some(1_000_000)), 131_072);
        assert_eq!(kib(1, 1_000_000_000, Some(1_000_000)), 1_953_125);
        assert_eq!(kib(1, 1_048_576, Some(1)), 2_048);
        let topic = Topic { partitions: 1, limit: 1_000_000 };
        assert_eq!(queue_kib(topic, None, Some(100_000_000)), 195_313);
    }
}
