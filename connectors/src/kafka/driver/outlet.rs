//! A producer that keeps librdkafka's handle of its topic. By name every record costs a copy of
//! the name and a search for the topic under a lock, and the safe interface of `rdkafka` has
//! nothing else.
#![expect(unsafe_code, reason = "a few calls of librdkafka that `rdkafka` does not wrap")]

use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};
use std::time::Duration;

use rdkafka::bindings::rd_kafka_vtype_t::{
    RD_KAFKA_VTYPE_END, RD_KAFKA_VTYPE_KEY, RD_KAFKA_VTYPE_MSGFLAGS, RD_KAFKA_VTYPE_PARTITION,
    RD_KAFKA_VTYPE_RKT, RD_KAFKA_VTYPE_TIMESTAMP, RD_KAFKA_VTYPE_VALUE,
};
use rdkafka::bindings::{
    RD_KAFKA_MSG_F_COPY, rd_kafka_flush, rd_kafka_producev, rd_kafka_resp_err_t,
    rd_kafka_topic_destroy, rd_kafka_topic_new, rd_kafka_topic_t,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{
    BaseProducer, BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext,
};

use crate::kafka::sink::Stored;

const OK: rd_kafka_resp_err_t = rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
/// Events that are taken at once.
const EVENTS_MAX: u32 = 10_000;
/// The library chooses.
const ANY_PARTITION: i32 = -1;

/// A producer, and the topic that it writes to.
pub(super) struct Outlet<C: ProducerContext<NoCustomPartitioner> + 'static> {
    name: String,
    /// Null until it is written to, and if there can be no topic of that name.
    topic: *mut rd_kafka_topic_t,
    client: BaseProducer<C, NoCustomPartitioner>,
}

// SAFETY: librdkafka's topics may be used from any thread, and this one is its owner's only.
unsafe impl<C: ProducerContext<NoCustomPartitioner> + 'static> Send for Outlet<C> where
    BaseProducer<C, NoCustomPartitioner>: Send
{
}

impl<C: ProducerContext<NoCustomPartitioner> + 'static> Drop for Outlet<C> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<C: ProducerContext<NoCustomPartitioner> + 'static> Outlet<C> {
    pub(super) const fn new(client: BaseProducer<C, NoCustomPartitioner>) -> Self {
        Self { name: String::new(), topic: null_mut(), client }
    }

    pub(super) const fn producer(&self) -> &BaseProducer<C, NoCustomPartitioner> {
        &self.client
    }

    /// Lets go of the records that the cluster has, and hears what else the library tells; false if
    /// there was nothing. A poll without a timeout takes one event, and each batch is one.
    pub(super) fn reap(&self) -> bool {
        let mut left = self.client.in_flight_count();
        for count in 0..EVENTS_MAX {
            self.client.poll(Duration::ZERO);
            let now = self.client.in_flight_count();
            if now == left {
                return count > 0;
            }
            left = now;
        }
        true
    }

    /// Sends what there is without waiting for more, and waits for a millisecond until the cluster
    /// has it and [`Self::reap`] has let go of it.
    pub(super) fn hurry(&self) {
        // SAFETY: the client lives. That it takes longer is no news.
        unsafe { rd_kafka_flush(self.client.client().native_ptr(), 1) };
    }

    /// Another topic than before.
    fn enter(&mut self, name: &str) {
        self.leave();
        name.clone_into(&mut self.name);
        let Ok(name) = CString::new(name) else { return };
        // SAFETY: the client lives, and outlives the topic; the name lives for as long as the call.
        self.topic = unsafe {
            rd_kafka_topic_new(self.client.client().native_ptr(), name.as_ptr(), null_mut())
        };
    }

    fn leave(&mut self) {
        if !self.topic.is_null() {
            // SAFETY: it is ours, of a client that lives. Messages keep it for themselves.
            unsafe { rd_kafka_topic_destroy(self.topic) };
            self.topic = null_mut();
        }
    }
}

impl<C: ProducerContext<NoCustomPartitioner, DeliveryOpaque = ()> + 'static> Outlet<C> {
    /// Puts a record into the queue.
    ///
    /// # Errors
    /// Why it is not there.
    #[inline]
    pub(super) fn put(&mut self, topic: &str, record: &Stored<'_>) -> Result<(), Code> {
        let partition = record.partition.and_then(|number| i32::try_from(number).ok());
        if !record.headers.is_empty() {
            return self.put_with_headers(topic, partition, record);
        }
        if self.topic.is_null() || self.name != topic {
            self.enter(topic);
            if self.topic.is_null() {
                return Err(Code::InvalidTopic);
            }
        }
        let (key, key_len) = begin(record.key);
        let (value, value_len) = begin(record.value);
        // SAFETY: client and topic live, what follows each name is of the type that it wants, and
        // key and value are copied before the call returns.
        let done = unsafe {
            rd_kafka_producev(
                self.client.client().native_ptr(),
                RD_KAFKA_VTYPE_RKT,
                self.topic,
                RD_KAFKA_VTYPE_PARTITION,
                partition.unwrap_or(ANY_PARTITION),
                RD_KAFKA_VTYPE_MSGFLAGS,
                RD_KAFKA_MSG_F_COPY,
                RD_KAFKA_VTYPE_VALUE,
                value,
                value_len,
                RD_KAFKA_VTYPE_KEY,
                key,
                key_len,
                RD_KAFKA_VTYPE_TIMESTAMP,
                record.timestamp.unwrap_or(0),
                RD_KAFKA_VTYPE_END,
            )
        };
        if done == OK { Ok(()) } else { Err(done.into()) }
    }

    fn put_with_headers(
        &self,
        topic: &str,
        partition: Option<i32>,
        record: &Stored<'_>,
    ) -> Result<(), Code> {
        let mut headers = OwnedHeaders::new();
        for header in record.headers.iter() {
            headers = headers.insert(Header { key: header.name, value: header.value });
        }
        let mut sent: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(headers);
        (sent.key, sent.payload, sent.timestamp) = (record.key, record.value, record.timestamp);
        sent.partition = partition;
        let code = |error: KafkaError| error.rdkafka_error_code().unwrap_or(Code::Unknown);
        self.client.send(sent).map_err(|(error, _)| code(error))
    }
}

/// Where bytes begin, and how many they are.
fn begin(bytes: Option<&[u8]>) -> (*const c_void, usize) {
    bytes.map_or((null(), 0), |bytes| (bytes.as_ptr().cast(), bytes.len()))
}
