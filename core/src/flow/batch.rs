//! Batches: encoded records one behind the other, as they travel between tasks.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::api::record::{Malformed, Record};
use crate::flow::prefetch;
use crate::time::EventTime;

/// Encoded records. Each is preceded by its event time if the batch is timed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    count: u32,
    timed: bool,
}

impl Batch {
    /// An empty batch in a buffer that may have been used before.
    #[must_use]
    pub fn new(mut buffer: Vec<u8>, timed: bool) -> Self {
        buffer.clear();
        Self { bytes: buffer, count: 0, timed }
    }

    /// A batch of bytes that came from elsewhere: `count` records, which the reader checks.
    #[must_use]
    pub const fn from_parts(bytes: Vec<u8>, count: u32, timed: bool) -> Self {
        Self { bytes, count, timed }
    }

    /// Appends a record.
    #[inline(always)]
    pub fn push<T: Record>(&mut self, at: EventTime, view: &T::View<'_>) {
        if self.timed {
            self.bytes.extend_from_slice(&at.0.to_le_bytes());
        }
        T::encode(view, &mut self.bytes);
        self.count += 1;
    }

    /// Appends a record to a buffer that another core may have read before.
    #[inline(always)]
    pub(crate) fn push_ahead<T: Record>(&mut self, at: EventTime, view: &T::View<'_>) {
        self.push::<T>(at, view);
        prefetch::for_writing(&self.bytes);
    }

    /// Records in the batch.
    #[inline(always)]
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Bytes in the batch.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if it holds no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// True if each record carries its event time.
    #[must_use]
    pub const fn is_timed(&self) -> bool {
        self.timed
    }

    /// The encoded records.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The buffer, for the pool.
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Makes room for `bytes` more bytes.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// Bytes of memory that the batch holds.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.bytes.capacity()
    }

    /// Where the next record would begin, to come back to with [`Self::cut`].
    #[inline(always)]
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { len: self.bytes.len(), count: self.count }
    }

    /// Removes what was appended since `mark`.
    pub fn cut(&mut self, mark: Mark) {
        assert!(mark.len <= self.bytes.len() && mark.count <= self.count, "a mark of this batch");
        self.bytes.truncate(mark.len);
        self.count = mark.count;
    }

    /// The record at `offset` bytes, and where the next one begins: for running a record again of
    /// which an operator panicked.
    ///
    /// # Errors
    /// What to tell the user, if there is no record of this type.
    pub fn record_at<T: Record>(
        &self,
        offset: usize,
    ) -> Result<(EventTime, T::View<'_>, usize), String> {
        let mut reader = self.reader(offset);
        match reader.next::<T>() {
            Ok(Some((at, view))) => Ok((at, view, self.len() - reader.remaining())),
            Ok(None) => Err("panicked behind the last record".into()),
            Err(malformed) => Err(malformed.to_string()),
        }
    }

    /// Reads the records from `offset` bytes on.
    #[inline(always)]
    #[must_use]
    pub fn reader(&self, offset: usize) -> Reader<'_> {
        Reader { rest: self.bytes.get(offset..).unwrap_or(&[]), timed: self.timed }
    }
}

/// A place between two records of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Bytes before it.
    pub len: usize,
    /// Records before it.
    pub count: u32,
}

/// Takes records from a batch, one by one.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    timed: bool,
}

impl<'a> Reader<'a> {
    /// The next record, or none at the end.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are no record of this type.
    #[inline(always)]
    #[expect(clippy::should_implement_trait, reason = "generic in the record type")]
    pub fn next<T: Record>(&mut self) -> Result<Option<(EventTime, T::View<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let at = if self.timed { EventTime(i64::decode(&mut self.rest)?) } else { EventTime::MIN };
        Ok(Some((at, T::decode(&mut self.rest)?)))
    }

    /// Bytes not yet read.
    #[inline(always)]
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }
}
