//! What librdkafka has fetched, many records at once. Half of the time of a thread that asks for
//! one after the other goes into the asking, and the safe interface of `rdkafka` has nothing else.
//!
//! Each partition's own queue is forwarded to one that is polled here. The client's queue, which
//! [`BaseConsumer::poll`] serves, has everything else: statistics, and errors of no partition.
#![expect(unsafe_code, reason = "a few calls of librdkafka that `rdkafka` does not wrap")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::ptr::{self, null, null_mut};
use std::slice;
use std::time::Duration;

use rdkafka::bindings::{
    rd_kafka_consume_batch_queue, rd_kafka_header_get_all, rd_kafka_message_destroy,
    rd_kafka_message_errstr, rd_kafka_message_headers, rd_kafka_message_t,
    rd_kafka_message_timestamp, rd_kafka_queue_destroy, rd_kafka_queue_forward,
    rd_kafka_queue_get_partition, rd_kafka_queue_new, rd_kafka_queue_t, rd_kafka_resp_err_t,
    rd_kafka_timestamp_type_t, rd_kafka_topic_name,
};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode as Code;

const OK: rd_kafka_resp_err_t = rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
/// Records taken at once: librdkafka does not count them among those that it has fetched ahead, so
/// these are the most that there can be beyond its limit.
const CHUNK_RECORDS: usize = 256;

/// A consumer, and what it has fetched.
pub(super) struct Fetcher<C: ConsumerContext + 'static> {
    /// Taken and not given, from `given` on.
    chunk: Vec<*mut rd_kafka_message_t>,
    given: usize,
    /// Null until partitions are told.
    queue: *mut rd_kafka_queue_t,
    client: BaseConsumer<C>,
}

// SAFETY: librdkafka's queues and messages may be used from any thread, and these are their owner's
// only.
unsafe impl<C: ConsumerContext + 'static> Send for Fetcher<C> where BaseConsumer<C>: Send {}

impl<C: ConsumerContext + 'static> Drop for Fetcher<C> {
    fn drop(&mut self) {
        self.clear();
        if !self.queue.is_null() {
            // SAFETY: it is a queue of the client, which lives, and nobody uses it any more.
            unsafe { rd_kafka_queue_destroy(self.queue) };
        }
    }
}

impl<C: ConsumerContext + 'static> Fetcher<C> {
    pub(super) fn new(client: BaseConsumer<C>) -> Self {
        Self { chunk: Vec::with_capacity(CHUNK_RECORDS), given: 0, queue: null_mut(), client }
    }

    pub(super) fn client(&self) -> &BaseConsumer<C> {
        &self.client
    }

    /// From now on what is fetched of these partitions comes from [`Self::take`]: to be called
    /// once, before they are assigned, and they may be assigned once (librdkafka forwards a
    /// partition no more that was stopped).
    ///
    /// # Errors
    /// The name of a topic that cannot be one.
    pub(super) fn forward<'a>(
        &mut self,
        of: impl Iterator<Item = (&'a str, i32)>,
    ) -> Result<(), &'a str> {
        assert!(self.queue.is_null(), "a client is assigned partitions once");
        let client = self.client.client().native_ptr();
        // SAFETY: the client lives, and outlives the queue.
        self.queue = unsafe { rd_kafka_queue_new(client) };
        for (topic, partition) in of {
            let name = CString::new(topic).map_err(|_| topic)?;
            // SAFETY: the client lives, and the name for as long as the call. The partition's queue
            // is the caller's to destroy, and the one that it is forwarded to is kept by it.
            unsafe {
                let queue = rd_kafka_queue_get_partition(client, name.as_ptr(), partition);
                if queue.is_null() {
                    return Err(topic);
                }
                rd_kafka_queue_forward(queue, self.queue);
                rd_kafka_queue_destroy(queue);
            }
        }
        Ok(())
    }

    /// Gives what has been fetched, until it is all given or `each` breaks; waits so long for the
    /// first. The rest stays. True if all is given.
    pub(super) fn take(
        &mut self,
        timeout: Duration,
        mut each: impl FnMut(Fetched<'_>) -> ControlFlow<()>,
    ) -> bool {
        if self.given == self.chunk.len() {
            self.fill(timeout, 1);
        }
        loop {
            while let Some(message) = self.chunk.get(self.given) {
                self.given += 1;
                if each(Fetched { message: *message, lives: PhantomData }).is_break() {
                    return false;
                }
            }
            self.fill(Duration::ZERO, CHUNK_RECORDS);
            if self.chunk.is_empty() {
                return true;
            }
        }
    }

    /// Takes at most so many of what has been fetched, as soon as there are as many, and after this
    /// time in any case.
    fn fill(&mut self, timeout: Duration, most: usize) {
        self.clear();
        if self.queue.is_null() {
            return std::thread::sleep(timeout);
        }
        assert!(most <= self.chunk.capacity());
        let timeout = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the queue lives, and there is room for so many messages, of which the first are
        // there then and ours to destroy.
        unsafe {
            let begin = self.chunk.as_mut_ptr();
            let count = rd_kafka_consume_batch_queue(self.queue, timeout, begin, most);
            self.chunk.set_len(usize::try_from(count).unwrap_or(0).min(most));
        }
    }

    fn clear(&mut self) {
        for message in self.chunk.drain(..) {
            // SAFETY: it is ours, and whoever was given it has returned.
            unsafe { rd_kafka_message_destroy(message) };
        }
        self.given = 0;
    }
}

/// A record that was fetched, or why there is none.
///
/// librdkafka keeps more behind a message than it shows, and writes there: hence no reference.
#[derive(Clone, Copy)]
pub(super) struct Fetched<'a> {
    message: *mut rd_kafka_message_t,
    lives: PhantomData<&'a rd_kafka_message_t>,
}

impl<'a> Fetched<'a> {
    /// What librdkafka shows of it.
    #[inline]
    fn shown(&self) -> rd_kafka_message_t {
        // SAFETY: the message lives, and nobody writes to this part of it.
        unsafe { ptr::read(self.message) }
    }

    /// Why this is no record, and what was said with that.
    pub(super) fn error(&self) -> Option<(Code, String)> {
        let err = self.shown().err;
        if err == OK {
            return None;
        }
        // SAFETY: the message lives, and so does what it says.
        let said = unsafe { text(rd_kafka_message_errstr(self.message)) };
        Some((err.into(), said.to_string_lossy().into_owned()))
    }

    /// Its topic as a number: as long as the client lives, another one's is another.
    #[inline]
    pub(super) fn topic_number(&self) -> usize {
        self.shown().rkt.addr()
    }

    pub(super) fn topic(&self) -> &'a CStr {
        let topic = self.shown().rkt;
        if topic.is_null() {
            return c"";
        }
        // SAFETY: the message keeps its topic.
        unsafe { text(rd_kafka_topic_name(topic)) }
    }

    #[inline]
    pub(super) fn partition(&self) -> i32 {
        self.shown().partition
    }

    #[inline]
    pub(super) fn offset(&self) -> i64 {
        self.shown().offset
    }

    /// Milliseconds since 1970.
    #[inline]
    pub(super) fn timestamp(&self) -> Option<i64> {
        let mut kind = rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message lives.
        let timestamp = unsafe { rd_kafka_message_timestamp(self.message, &raw mut kind) };
        let is_known = kind != rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        is_known.then_some(timestamp)
    }

    #[inline]
    pub(super) fn key(&self) -> Option<&'a [u8]> {
        let shown = self.shown();
        // SAFETY: a record's key is so long, and lives as long as the record.
        unsafe { bytes(shown.key, shown.key_len) }
    }

    #[inline]
    pub(super) fn value(&self) -> Option<&'a [u8]> {
        let shown = self.shown();
        // SAFETY: likewise.
        unsafe { bytes(shown.payload, shown.len) }
    }

    /// Gives the headers in their order, by name and value.
    #[inline]
    pub(super) fn headers(&self, mut each: impl FnMut(&'a CStr, Option<&'a [u8]>)) {
        let mut headers = null_mut();
        // SAFETY: the message lives.
        if unsafe { rd_kafka_message_headers(self.message, &raw mut headers) } != OK {
            return;
        }
        for place in 0.. {
            let (mut name, mut value, mut len) = (null(), null(), 0);
            // SAFETY: the headers live as long as their message, and so do the parts of each.
            let found = unsafe {
                let (name, value) = (&raw mut name, &raw mut value);
                rd_kafka_header_get_all(headers, place, name, value, &raw mut len)
            };
            if found != OK {
                return;
            }
            // SAFETY: likewise.
            unsafe { each(text(name), bytes(value, len)) };
        }
    }
}

/// Bytes that may not be there.
///
/// # Safety
/// `begin` has to be null, or so many bytes that live as long.
unsafe fn bytes<'a>(begin: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller says.
    (!begin.is_null()).then(|| unsafe { slice::from_raw_parts(begin.cast(), len) })
}

/// Text of librdkafka's.
///
/// # Safety
/// `begin` has to be null, or end with a null and live as long.
unsafe fn text<'a>(begin: *const c_char) -> &'a CStr {
    // SAFETY: as the caller says.
    if begin.is_null() { c"" } else { unsafe { CStr::from_ptr(begin) } }
}
