//! How a sink turns a record into bytes.

use std::fmt::{self, Display};
use std::io::Write as _;
use std::sync::Arc;

use gear_core::api::Record;

type Call<T> = dyn for<'a> Fn(<T as Record>::View<'a>, &mut Vec<u8>) + Send + Sync;

/// Appends a record's bytes to a buffer, its line break included.
pub struct Format<T: Record>(Arc<Call<T>>);

impl<T: Record> Format<T> {
    /// A format that a closure writes.
    pub fn new(call: impl for<'a> Fn(T::View<'a>, &mut Vec<u8>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }

    /// What `Display` shows, as a line.
    #[must_use]
    pub fn display() -> Self
    where
        for<'a> T::View<'a>: Display,
    {
        Self::new(|view, out: &mut Vec<u8>| {
            // A `Vec` takes all that is written; only the record's own `Display` could refuse.
            let _ = writeln!(out, "{view}");
        })
    }

    #[inline]
    pub(crate) fn write(&self, view: T::View<'_>, out: &mut Vec<u8>) {
        (self.0)(view, out);
    }
}

impl<T: Record> Clone for Format<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Record> fmt::Debug for Format<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Format")
    }
}
