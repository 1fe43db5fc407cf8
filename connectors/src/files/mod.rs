//! Files: lines out of files, folders and globs, and files that become visible with their epoch.

mod account;
pub(crate) mod lines;
mod partition;
mod sink;
#[cfg(test)]
mod sink_tests;
mod source;
#[cfg(test)]
mod source_tests;

pub use account::{Written, written};
pub use lines::Line;
pub use sink::{FilesSink, FilesWriter};
pub use source::{FilesReader, FilesSource};

use gear_core::api::Record;

use crate::format::Format;

/// Bytes of a file that are one partition unless set: enough of them to share out among tasks, few
/// enough that a position for each fits into an epoch's record.
pub const SPLIT_BYTES_DEFAULT: u64 = 32 * 1_024 * 1_024;
/// Longest line unless set, in bytes: a file without line breaks must not fill the memory.
pub const LINE_BYTES_MAX_DEFAULT: usize = 1_024 * 1_024;
/// Bytes of a bad line that are put aside with it: what the core keeps of one.
pub const MALFORMED_BYTES_KEPT: usize = gear_core::limits::QUARANTINED_BYTES_MAX;
/// Bytes read at once: amortises the call, and stays in the second-level cache (1 MiB a core).
pub const CHUNK_BYTES: usize = 256 * 1_024;
/// Time between two looks at followed files that have nothing new.
pub const FOLLOW_POLL: std::time::Duration = std::time::Duration::from_millis(200);
/// Time between two tries to read files that cannot be reached.
pub const UNAVAILABLE_POLL: std::time::Duration = std::time::Duration::from_millis(100);
/// How long files may be out of reach before their task fails: longer than a name node needs to
/// come back, so that the job goes on by itself.
pub const UNAVAILABLE_MAX: std::time::Duration = std::time::Duration::from_secs(300);
/// Bytes that a sink gathers before it asks for a write: amortises the request.
pub const WRITE_BYTES: usize = 256 * 1_024;
/// Bytes at which a sink's file is closed unless set.
pub const ROLL_BYTES_DEFAULT: u64 = 128 * 1_024 * 1_024;
/// Age at which a sink's file is closed unless set, so that slow output is seen at last.
pub const ROLL_AFTER_DEFAULT: std::time::Duration = std::time::Duration::from_secs(3_600);

/// The lines of files, as `Ref<str>` without their `\n`; a line that is not UTF-8 is put aside.
///
/// Each pattern is a file, a folder (with all that is below it) or a glob.
pub fn source<P: Into<String>>(patterns: impl IntoIterator<Item = P>) -> FilesSource<str> {
    FilesSource::new(patterns.into_iter().map(Into::into).collect())
}

/// The lines of files, as `Ref<[u8]>` without their `\n`, whatever their encoding.
pub fn bytes_source<P: Into<String>>(patterns: impl IntoIterator<Item = P>) -> FilesSource<[u8]> {
    FilesSource::new(patterns.into_iter().map(Into::into).collect())
}

/// Files in `folder`, each visible when the epoch that closed it has committed.
///
/// `format` appends a record's bytes, its line break included.
pub fn sink<T: Record>(
    folder: impl Into<String>,
    format: impl for<'a> Fn(T::View<'a>, &mut Vec<u8>) + Send + Sync + 'static,
) -> FilesSink<T> {
    FilesSink::new(folder.into(), Format::new(format))
}

/// Files in `folder` with a line for each record, as `Display` shows it.
pub fn lines_sink<T: Record>(folder: impl Into<String>) -> FilesSink<T>
where
    for<'a> T::View<'a>: std::fmt::Display,
{
    FilesSink::new(folder.into(), Format::display())
}
