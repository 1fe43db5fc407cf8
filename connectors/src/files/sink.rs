//! The file sink: output is staged, synced at each barrier, and renamed after the commit.
//!
//! A file lives through many epochs: it is closed at the barrier at which it is large or old
//! enough, and gets its visible name when that epoch has committed. The account of an epoch holds
//! the length and CRC32C of what the open file had at the barrier; recovery copies that prefix to a
//! new file, since the old one may still be written to by a process that does not know that it was
//! replaced.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use gear_core::api::Record;
use gear_core::api::sink::{Sink, SinkConnector, SinkContext, SinkTask};
use gear_core::effect::IoRequest;
use gear_core::flow::push::Meta;
use gear_core::id::{Attempt, Epoch};
use gear_core::message::Pending;
use gear_core::time::WallTime;

use super::account::{Account, Closed, Names, Open};
use super::{ROLL_AFTER_DEFAULT, ROLL_BYTES_DEFAULT, WRITE_BYTES};
use crate::faults::{Fault, Faults, NoFaults};
use crate::format::Format;
use crate::hdfs::Location;

/// Files that become visible with their epoch; made by [`super::sink`] and [`super::lines_sink`].
///
/// A file is called `<folder>/<prefix>-<task>-<epoch><suffix>`, after the epoch at which it was
/// closed. What is not yet visible is in `<folder>/.staged`.
pub struct FilesSink<T: Record, F: Faults = NoFaults> {
    names: Names,
    roll_bytes: u64,
    roll_after: Duration,
    format: Format<T>,
    faults: PhantomData<fn() -> F>,
}

impl<T: Record, F: Faults> FilesSink<T, F> {
    pub(crate) fn new(folder: String, format: Format<T>) -> Self {
        // A folder on HDFS has to be written as its files are listed.
        let folder = match Location::parse(&folder) {
            Ok(at) => at.url(&at.path),
            Err(_) => folder,
        };
        let trimmed = folder.trim_end_matches('/');
        let folder = if trimmed.is_empty() && !folder.is_empty() { "/" } else { trimmed };
        let names = Names {
            folder: if folder.is_empty() { ".".to_owned() } else { folder.to_owned() },
            prefix: "part".to_owned(),
            suffix: String::new(),
        };
        let (roll_bytes, roll_after) = (ROLL_BYTES_DEFAULT, ROLL_AFTER_DEFAULT);
        Self { names, roll_bytes, roll_after, format, faults: PhantomData }
    }

    /// What the names of the files begin with; `part` unless set. Two sinks with one folder need
    /// different prefixes.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.names.prefix = prefix.into();
        self
    }

    /// What the names of the files end with, as `.tsv`; nothing unless set.
    #[must_use]
    pub fn suffix(mut self, suffix: impl Into<String>) -> Self {
        self.names.suffix = suffix.into();
        self
    }

    /// Bytes from which on a file is closed at the next epoch.
    #[must_use]
    pub const fn roll_bytes(mut self, bytes: u64) -> Self {
        self.roll_bytes = bytes;
        self
    }

    /// Age in wall-clock time from which on a file is closed at the next epoch.
    #[must_use]
    pub const fn roll_after(mut self, age: Duration) -> Self {
        self.roll_after = age;
        self
    }

    /// The same with other seeded bugs, for a simulator.
    #[must_use]
    pub fn with_faults<G: Faults>(self) -> FilesSink<T, G> {
        let Self { names, roll_bytes, roll_after, format, .. } = self;
        FilesSink { names, roll_bytes, roll_after, format, faults: PhantomData }
    }
}

impl<T: Record, F: Faults> fmt::Debug for FilesSink<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesSink").field("names", &self.names).finish_non_exhaustive()
    }
}

impl<T: Record, F: Faults> SinkConnector for FilesSink<T, F> {
    type Sink = FilesWriter<T, F>;

    fn sink(&self, task: &SinkTask) -> FilesWriter<T, F> {
        FilesWriter {
            names: self.names.clone(),
            roll_bytes: self.roll_bytes,
            roll_after: self.roll_after,
            format: self.format.clone(),
            index: task.index,
            attempt: task.attempt,
            generation: 0,
            staged: 0,
            open: None,
            adopted: Vec::new(),
            closed: Vec::new(),
            superseded: Vec::new(),
            unsynced: false,
            buffer: Vec::new(),
            buffered: 0,
            faults: PhantomData,
        }
    }

    fn transactional(&self) -> bool {
        true
    }
}

/// Writes the files of one task.
pub struct FilesWriter<T: Record, F: Faults = NoFaults> {
    names: Names,
    roll_bytes: u64,
    roll_after: Duration,
    format: Format<T>,
    index: u32,
    /// In the names of staged files beside the generation, which two that start at one time share.
    attempt: Attempt,
    generation: u64,
    /// Staged files that were named since the start.
    staged: u64,
    /// The file that is written to; its length and checksum are of what was asked to be written.
    open: Option<Open>,
    /// Files of tasks that there are no more, to be closed at the next barrier.
    adopted: Vec<Closed>,
    /// Files that wait for their epoch's commit.
    closed: Vec<Closed>,
    /// Staged files that have been copied: to be removed when an account that does not name them
    /// has committed, with the epoch of that account once it is known.
    superseded: Vec<(Option<Epoch>, String)>,
    unsynced: bool,
    /// What was formatted and not yet asked to be written. Bytes behind `buffered` are those of a
    /// record whose format panicked.
    buffer: Vec<u8>,
    buffered: usize,
    faults: PhantomData<fn() -> F>,
}

impl<T: Record, F: Faults> fmt::Debug for FilesWriter<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesWriter")
            .field("index", &self.index)
            .field("open", &self.open)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl<T: Record, F: Faults> Sink for FilesWriter<T, F> {
    type In = T;

    fn open(&mut self, pending: &[Pending], cx: &mut SinkContext<'_>) -> Result<(), String> {
        let accounts = pending
            .iter()
            .map(|pending| Ok((pending.index, Account::decode(&pending.bytes)?)))
            .collect::<Result<Vec<_>, String>>()?;
        let before = accounts.iter().map(|(_, account)| account.generation.saturating_add(1));
        let wall = u64::try_from(cx.wall.0).unwrap_or(0);
        self.generation = before.max().unwrap_or(0).max(wall);
        for (index, account) in accounts {
            for Closed { staged, visible, .. } in account.closed {
                cx.io.submit(IoRequest::Publish { from: staged, to: visible });
            }
            if let Some(open) = account.open {
                let visible = account.names.visible(index, account.epoch);
                self.take_over(index, visible, open, cx);
            }
        }
        Ok(())
    }

    #[inline]
    fn write(
        &mut self,
        _: Meta,
        view: T::View<'_>,
        cx: &mut SinkContext<'_>,
    ) -> Result<(), String> {
        self.buffer.truncate(self.buffered);
        self.format.write(view, &mut self.buffer);
        self.buffered = self.buffer.len();
        if self.buffered >= WRITE_BYTES {
            self.flush(cx);
        }
        Ok(())
    }

    fn prepare(
        &mut self,
        epoch: Epoch,
        last: bool,
        cx: &mut SinkContext<'_>,
    ) -> Result<Vec<u8>, String> {
        self.flush(cx);
        if let Some(open) = &self.open
            && std::mem::take(&mut self.unsynced)
            && !F::has(Fault::LeaveOutSync)
        {
            cx.io.submit(IoRequest::Sync { path: open.staged.clone() });
        }
        let adopted = self.adopted.drain(..).map(|file| Closed { epoch, ..file });
        self.closed.extend(adopted);
        if let Some(open) = self.open.take_if(|open| {
            last || open.len >= self.roll_bytes || age(open.since, cx.wall) >= self.roll_after
        }) {
            let visible = self.names.visible(self.index, epoch);
            let Open { staged, len, crc, .. } = open;
            self.closed.push(Closed { epoch, staged, visible, len, crc });
        }
        self.superseded.iter_mut().for_each(|(since, _)| {
            since.get_or_insert(epoch);
        });
        let account = Account {
            epoch,
            names: self.names.clone(),
            generation: self.generation,
            closed: self.closed.clone(),
            open: self.open.clone(),
        };
        if F::has(Fault::PublishBeforeRecord) {
            self.commit(epoch, cx)?;
        }
        account.encode()
    }

    fn commit(&mut self, epoch: Epoch, cx: &mut SinkContext<'_>) -> Result<(), String> {
        self.closed.retain(|file| {
            if file.epoch > epoch {
                return true;
            }
            let (from, to) = (file.staged.clone(), file.visible.clone());
            cx.io.submit(IoRequest::Publish { from, to });
            false
        });
        self.superseded.retain(|(since, path)| {
            let gone = since.is_some_and(|since| since <= epoch);
            if gone {
                cx.io.submit(IoRequest::Remove { path: path.clone() });
            }
            !gone
        });
        Ok(())
    }
}

impl<T: Record, F: Faults> FilesWriter<T, F> {
    fn name_staged(&mut self) -> String {
        self.staged += 1;
        self.names.staged(self.index, (self.generation, self.attempt), self.staged)
    }

    /// Goes on with the file that was open in an account. That of another task is closed as it is,
    /// under a name which that task did not use.
    fn take_over(&mut self, index: u32, visible: String, open: Open, cx: &mut SinkContext<'_>) {
        let Open { staged: from, len, crc, since } = open;
        let staged = self.name_staged();
        cx.io.submit(IoRequest::CopyPrefix { from: from.clone(), to: staged.clone(), len, crc });
        if F::has(Fault::RemoveBeforeRecord) {
            cx.io.submit(IoRequest::Remove { path: from });
        } else {
            self.superseded.push((None, from));
        }
        if index == self.index && self.open.is_none() {
            self.open = Some(Open { staged, len, crc, since });
        } else {
            // The epoch is that of the next barrier.
            self.adopted.push(Closed { epoch: Epoch(0), staged, visible, len, crc });
        }
    }

    /// Asks for what is in the buffer to be written.
    fn flush(&mut self, cx: &mut SinkContext<'_>) {
        self.buffer.truncate(self.buffered);
        if self.buffer.is_empty() {
            return;
        }
        self.buffered = 0;
        // A record may carry the buffer a little over the limit, and must not make it grow anew.
        let empty = Vec::with_capacity(self.buffer.capacity().min(2 * WRITE_BYTES));
        let bytes = std::mem::replace(&mut self.buffer, empty);
        if self.open.is_none() {
            let staged = self.name_staged();
            self.open = Some(Open { staged, len: 0, crc: 0, since: cx.wall });
        }
        let open = self.open.as_mut().expect("it was opened above");
        let (path, offset) = (open.staged.clone(), open.len);
        open.crc = crc32c::crc32c_append(open.crc, &bytes);
        open.len += bytes.len() as u64;
        self.unsynced = true;
        cx.io.submit(IoRequest::Write { path, offset, bytes });
    }
}

fn age(since: WallTime, now: WallTime) -> Duration {
    Duration::from_micros(u64::try_from(now.0.saturating_sub(since.0)).unwrap_or(0))
}
