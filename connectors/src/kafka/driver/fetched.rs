//! What librdkafka has fetched, all that there is at once: its queue is locked once for that, and
//! not once for each record. Half of the time of a thread that asks for one record after the other
//! goes into the asking, and the safe interface of `rdkafka` has nothing else.
//!
//! Each partition's own queue is forwarded to one that is polled here. The client's queue, which
//! [`BaseConsumer::poll`] serves, has everything else: statistics, and errors of no partition.
#![expect(unsafe_code, reason = "a few calls of librdkafka that `rdkafka` does not wrap")]

use std::any::Any;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{null, null_mut};
use std::slice;
use std::time::Duration;

use rdkafka::bindings::{
    rd_kafka_consume_callback_queue, rd_kafka_header_get_all, rd_kafka_message_errstr,
    rd_kafka_message_headers, rd_kafka_message_t, rd_kafka_message_timestamp,
    rd_kafka_queue_destroy, rd_kafka_queue_forward, rd_kafka_queue_get_partition,
    rd_kafka_queue_new, rd_kafka_queue_t, rd_kafka_resp_err_t, rd_kafka_t,
    rd_kafka_timestamp_type_t, rd_kafka_topic_name, rd_kafka_yield,
};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode as Code;

const OK: rd_kafka_resp_err_t = rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;

/// A consumer, and the queue of what it has fetched.
pub(super) struct Fetcher<C: ConsumerContext + 'static> {
    /// Null until partitions are told. It goes before the client does.
    queue: *mut rd_kafka_queue_t,
    client: BaseConsumer<C>,
}

// SAFETY: librdkafka's queues may be used from any thread, and this one is its owner's only.
unsafe impl<C: ConsumerContext + 'static> Send for Fetcher<C> {}

impl<C: ConsumerContext + 'static> Drop for Fetcher<C> {
    fn drop(&mut self) {
        if !self.queue.is_null() {
            // SAFETY: it is a queue of the client, which lives, and nobody uses it any more.
            unsafe { rd_kafka_queue_destroy(self.queue) };
        }
    }
}

impl<C: ConsumerContext + 'static> Fetcher<C> {
    pub(super) fn new(client: BaseConsumer<C>) -> Self {
        Self { queue: null_mut(), client }
    }

    pub(super) fn client(&self) -> &BaseConsumer<C> {
        &self.client
    }

    /// From now on what is fetched of these partitions comes from [`Self::take`]: to be called once,
    /// before they are assigned. False if the name of a topic cannot be one.
    pub(super) fn forward<'a>(&mut self, of: impl Iterator<Item = (&'a str, i32)>) -> bool {
        assert!(self.queue.is_null(), "a client is assigned partitions once");
        let client = self.client.client().native_ptr();
        // SAFETY: the client lives, and outlives the queue.
        self.queue = unsafe { rd_kafka_queue_new(client) };
        for (topic, partition) in of {
            let Ok(topic) = CString::new(topic) else { return false };
            // SAFETY: the client lives, and the name for as long as the call. The partition's queue
            // is the caller's to destroy, and the one that it is forwarded to is kept by it.
            unsafe {
                let queue = rd_kafka_queue_get_partition(client, topic.as_ptr(), partition);
                if queue.is_null() {
                    return false;
                }
                rd_kafka_queue_forward(queue, self.queue);
                rd_kafka_queue_destroy(queue);
            }
        }
        true
    }

    /// Gives what has been fetched, until it is all given or `each` breaks; waits so long for the
    /// first. The rest stays. True if there was anything.
    pub(super) fn take(
        &self,
        timeout: Duration,
        mut each: impl FnMut(Fetched<'_>) -> ControlFlow<()>,
    ) -> bool {
        if self.queue.is_null() {
            std::thread::sleep(timeout);
            return false;
        }
        let client = self.client.client().native_ptr();
        let mut taking = Taking { client, each: &mut each, any: false, broken: false, panic: None };
        let wait = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the queue lives, and what the callback is given lives until the call returns,
        // which it does on this thread.
        unsafe {
            let taking = (&raw mut taking).cast();
            rd_kafka_consume_callback_queue(self.queue, wait, Some(give), taking);
        }
        if let Some(panic) = taking.panic {
            resume_unwind(panic);
        }
        taking.any
    }
}

/// What [`give`] works on.
struct Taking<'a> {
    client: *mut rd_kafka_t,
    each: &'a mut dyn FnMut(Fetched<'_>) -> ControlFlow<()>,
    any: bool,
    broken: bool,
    panic: Option<Box<dyn Any + Send>>,
}

/// Called by librdkafka for each record.
unsafe extern "C" fn give(message: *mut rd_kafka_message_t, taking: *mut c_void) {
    // SAFETY: it is what `take` has given, and nobody else has it now.
    let taking = unsafe { &mut *taking.cast::<Taking<'_>>() };
    assert!(!taking.broken, "nothing is given after a break");
    taking.any = true;
    // SAFETY: librdkafka gives a message that lives until this returns.
    let fetched = Fetched(unsafe { &*message });
    // A panic must not get into frames that are not Rust's.
    match catch_unwind(AssertUnwindSafe(|| (taking.each)(fetched))) {
        Ok(ControlFlow::Continue(())) => return,
        Ok(ControlFlow::Break(())) => {}
        Err(panic) => taking.panic = Some(panic),
    }
    taking.broken = true;
    // SAFETY: the client lives; this is for callbacks.
    unsafe { rd_kafka_yield(taking.client) };
}

/// A record that was fetched, or why there is none.
#[derive(Clone, Copy)]
pub(super) struct Fetched<'a>(&'a rd_kafka_message_t);

impl<'a> Fetched<'a> {
    /// Why this is no record, and what was said with that.
    pub(super) fn error(&self) -> Option<(Code, String)> {
        if self.0.err == OK {
            return None;
        }
        // SAFETY: the message lives, and so does what it says.
        let said = unsafe { text(rd_kafka_message_errstr(self.0)) };
        Some((self.0.err.into(), said.to_string_lossy().into_owned()))
    }

    /// Its topic as a number: as long as the client lives, another one's is another.
    #[inline]
    pub(super) fn topic_number(&self) -> usize {
        self.0.rkt.addr()
    }

    pub(super) fn topic(&self) -> &'a CStr {
        if self.0.rkt.is_null() {
            return c"";
        }
        // SAFETY: the message keeps its topic.
        unsafe { text(rd_kafka_topic_name(self.0.rkt)) }
    }

    #[inline]
    pub(super) fn partition(&self) -> i32 {
        self.0.partition
    }

    #[inline]
    pub(super) fn offset(&self) -> i64 {
        self.0.offset
    }

    /// Milliseconds since 1970.
    #[inline]
    pub(super) fn timestamp(&self) -> Option<i64> {
        let mut kind = rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message lives.
        let timestamp = unsafe { rd_kafka_message_timestamp(self.0, &raw mut kind) };
        let is_known = kind != rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        is_known.then_some(timestamp).filter(|timestamp| *timestamp >= 0)
    }

    #[inline]
    pub(super) fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: a record's key is so long, and lives as long as the record.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    #[inline]
    pub(super) fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: likewise.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    /// Gives the headers in their order, by name and value.
    #[inline]
    pub(super) fn headers(&self, mut each: impl FnMut(&'a CStr, Option<&'a [u8]>)) {
        let mut headers = null_mut();
        // SAFETY: the message lives.
        if unsafe { rd_kafka_message_headers(self.0, &raw mut headers) } != OK {
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
