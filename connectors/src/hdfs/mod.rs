//! Files on HDFS: the machines of [`crate::files`], and a driver for paths
//! `hdfs://host:port/...`.
//!
//! `hdfs://nameservice/...` and `hdfs:///...` are understood through the configuration in
//! `HADOOP_CONF_DIR`; the user is `HADOOP_USER_NAME`, or who the ticket of Kerberos says.
//!
//! The argument for exactly once is that of [`crate::files::FilesSink`]. Of HDFS it needs this: a
//! `Sync` is an hsync, and only an hsync or a close that succeeds proves that the file is still
//! the writer's; whoever reads a file that was open recovers its lease first, which fences its
//! writer; and a rename without overwriting whose answer was lost is resolved by a look.

#[cfg(feature = "hdfs")]
mod client;
#[cfg(feature = "hdfs")]
mod configuration;
#[cfg(feature = "hdfs")]
mod files;
mod location;
#[cfg(feature = "hdfs")]
mod objects;
#[cfg(feature = "hdfs")]
mod patience;
#[cfg(feature = "hdfs")]
mod performer;
mod trouble;

use std::time::Duration;

use gear_core::api::Record;

use crate::files::{FilesSink, FilesSource};

#[cfg(feature = "hdfs")]
pub use files::HdfsFiles;
#[cfg(feature = "hdfs")]
pub use objects::{Created, Objects};
#[cfg(feature = "hdfs")]
pub use patience::{LimitError, Limits};
#[cfg(feature = "hdfs")]
pub use performer::HdfsPerformer;

pub use location::{Location, is_hdfs};
pub use trouble::Fault;

/// Bytes of a file that are one partition unless set: a block of HDFS as it comes, so that a task
/// asks one server for the whole of it.
pub const SPLIT_BYTES_DEFAULT: u64 = 128 * 1_024 * 1_024;
/// Bytes at which a sink's file is closed unless set: two blocks, for a name node remembers every
/// file and a close takes two round trips and the report of a block.
pub const ROLL_BYTES_DEFAULT: u64 = 256 * 1_024 * 1_024;
/// Longest time of one call unless set. A writer may hang for ever when a server of its pipeline
/// dies; a slow server answers within seconds.
pub const CALL_MAX_DEFAULT: Duration = Duration::from_secs(20);
/// How long what may pass is waited for unless set: a name node that comes back is in safe mode
/// for minutes.
pub const WAIT_MAX_DEFAULT: Duration = Duration::from_secs(300);
/// How long a start waits at most: an address may be misspelt, and somebody looks on.
pub const START_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long the thread of an executor waits at most for an answer: it has to be heard of by others
/// three times in the grace time of 3 s.
pub const BLOCK_MAX: Duration = Duration::from_millis(500);
/// Bytes that are read ahead of each file: what two round trips bring.
pub const AHEAD_BYTES: usize = 1_024 * 1_024;
/// Files of a task that are open at once; more of them are closed, which is as good for those that
/// wait for their commit.
pub const OPEN_FILES_MAX: usize = 16;
/// Files that are read at once.
pub const OPEN_READS_MAX: usize = 16;

/// The lines of files on HDFS, as `Ref<str>` without their `\n`; a line that is not UTF-8 is put
/// aside.
///
/// Each pattern is a file, a folder (with all that is below it, but for names that begin with `.`
/// or `_`, which Hadoop hides) or a glob as Hadoop's shell takes it. A file that somebody still
/// writes to is refused, or can be followed; a followed file may only grow.
pub fn source<P: Into<String>>(patterns: impl IntoIterator<Item = P>) -> FilesSource<str> {
    crate::files::source(patterns).split_bytes(SPLIT_BYTES_DEFAULT)
}

/// The lines of files on HDFS, as `Ref<[u8]>` without their `\n`, whatever their encoding.
pub fn bytes_source<P: Into<String>>(patterns: impl IntoIterator<Item = P>) -> FilesSource<[u8]> {
    crate::files::bytes_source(patterns).split_bytes(SPLIT_BYTES_DEFAULT)
}

/// Files in `folder`, as `hdfs://host:port/out`, each visible when the epoch that closed it has
/// committed.
///
/// `format` appends a record's bytes, its line break included.
pub fn sink<T: Record>(
    folder: impl Into<String>,
    format: impl for<'a> Fn(T::View<'a>, &mut Vec<u8>) + Send + Sync + 'static,
) -> FilesSink<T> {
    crate::files::sink(folder, format).roll_bytes(ROLL_BYTES_DEFAULT)
}

/// Files in `folder` with a line for each record, as `Display` shows it.
pub fn lines_sink<T: Record>(folder: impl Into<String>) -> FilesSink<T>
where
    for<'a> T::View<'a>: std::fmt::Display,
{
    crate::files::lines_sink(folder).roll_bytes(ROLL_BYTES_DEFAULT)
}
