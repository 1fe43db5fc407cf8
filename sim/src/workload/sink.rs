//! A transactional sink over files: staged, synced at the barrier, given its visible name once
//! the epoch has committed. Recovery keeps the known prefix of the file that was open.
//!
//! Staged names hold the number of the process and of the attempt, so that one that is thought dead
//! writes to files of its own; visible names follow from the staged ones.

use gear_core::api::Record;
use gear_core::api::sink::{Sink, SinkConnector, SinkContext, SinkTask};
use gear_core::effect::IoRequest;
use gear_core::flow::push::Meta;
use gear_core::id::Epoch;
use gear_core::message::Pending;

use super::{Row, encode};

/// The folder of the files that nobody reads yet.
const STAGE: &str = "stage/";
/// The folder of the committed files.
pub const OUT: &str = "out/";
/// Bytes that the sink keeps before it asks for a write.
const BUFFER_BYTES: usize = 256;

/// A sink as a job names it.
#[derive(Clone, Copy, Debug)]
pub struct Files {
    /// The number of the process.
    pub process: u64,
    /// Bytes from which on a file is closed at the barrier.
    pub roll: u64,
}

impl SinkConnector for Files {
    type Sink = FileWriter;

    fn sink(&self, task: &SinkTask) -> FileWriter {
        FileWriter {
            prefix: format!("{}-{}-{}-{}", task.name, task.index, self.process, task.attempt.0),
            roll: self.roll,
            files: 0,
            open: None,
            closed: Vec::new(),
            obsolete: Vec::new(),
            prepared: None,
        }
    }

    fn transactional(&self) -> bool {
        true
    }
}

/// Writes the rows of one task.
#[derive(Debug)]
pub struct FileWriter {
    prefix: String,
    roll: u64,
    files: u64,
    open: Option<Open>,
    /// Files that are whole and not yet visible, each with the epoch that closed it.
    closed: Vec<(Epoch, String)>,
    /// Files of an earlier process that were copied: needed until an epoch of ours has committed.
    obsolete: Vec<String>,
    /// The first epoch that does not need them.
    prepared: Option<Epoch>,
}

#[derive(Debug)]
struct Open {
    name: String,
    written: u64,
    buffer: Vec<u8>,
    crc: u32,
}

impl Open {
    fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn flush(&mut self, cx: &mut SinkContext<'_>) {
        if self.buffer.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.buffer);
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        let offset = self.written;
        self.written += bytes.len() as u64;
        cx.io.submit(IoRequest::Write { path: staged(&self.name), offset, bytes });
    }
}

fn staged(name: &str) -> String {
    format!("{STAGE}{name}")
}

fn publish(name: &str, cx: &mut SinkContext<'_>) {
    cx.io.submit(IoRequest::Publish { from: staged(name), to: format!("{OUT}{name}") });
}

impl FileWriter {
    fn next_name(&mut self) -> String {
        self.files += 1;
        format!("{}-{}", self.prefix, self.files)
    }

    /// Takes over a file that was open in the restored epoch.
    fn adopt(&mut self, name: &str, len: u64, crc: u32, cx: &mut SinkContext<'_>) {
        let copy = self.next_name();
        let (from, to) = (staged(name), staged(&copy));
        cx.io.submit(IoRequest::CopyPrefix { from: from.clone(), to, len, crc });
        self.obsolete.push(from);
        if self.open.is_none() {
            self.open = Some(Open { name: copy, written: len, buffer: Vec::new(), crc });
        } else {
            self.closed.push((Epoch(0), copy));
        }
    }
}

impl Sink for FileWriter {
    type In = Row;

    fn open(&mut self, pending: &[Pending], cx: &mut SinkContext<'_>) -> Result<(), String> {
        for pending in pending {
            let bytes = &mut pending.bytes.as_slice();
            let account = Account::decode(bytes).map_err(|malformed| malformed.to_string())?;
            for name in account.0 {
                publish(&name, cx);
            }
            if let Some((name, len, crc)) = account.1 {
                self.adopt(&name, len, crc, cx);
            }
        }
        Ok(())
    }

    fn write(&mut self, _: Meta, row: Row, cx: &mut SinkContext<'_>) -> Result<(), String> {
        if self.open.is_none() {
            let name = self.next_name();
            self.open = Some(Open { name, written: 0, buffer: Vec::new(), crc: 0 });
        }
        let open = self.open.as_mut().expect("it was just opened");
        put(&encode(&row), &mut open.buffer);
        if open.buffer.len() >= BUFFER_BYTES {
            open.flush(cx);
        }
        Ok(())
    }

    fn idle(&mut self, cx: &mut SinkContext<'_>) {
        if let Some(open) = &mut self.open {
            open.flush(cx);
        }
    }

    fn prepare(
        &mut self,
        epoch: Epoch,
        last: bool,
        cx: &mut SinkContext<'_>,
    ) -> Result<Vec<u8>, String> {
        for (closed_by, _) in &mut self.closed {
            if *closed_by == Epoch(0) {
                *closed_by = epoch;
            }
        }
        if let Some(mut open) = self.open.take() {
            open.flush(cx);
            cx.io.submit(IoRequest::Sync { path: staged(&open.name) });
            if last || open.len() >= self.roll {
                self.closed.push((epoch, open.name));
            } else {
                self.open = Some(open);
            }
        }
        self.prepared.get_or_insert(epoch);
        let open = self.open.as_ref().map(|open| (open.name.clone(), open.written, open.crc));
        let closed = self.closed.iter().map(|(_, name)| name.clone()).collect();
        let mut bytes = Vec::new();
        Account::encode(&(closed, open), &mut bytes);
        Ok(bytes)
    }

    fn commit(&mut self, epoch: Epoch, cx: &mut SinkContext<'_>) -> Result<(), String> {
        let is_due = |(by, _): &mut (Epoch, String)| *by > Epoch(0) && *by <= epoch;
        for (_, name) in self.closed.extract_if(.., is_due) {
            publish(&name, cx);
        }
        if self.prepared.is_some_and(|prepared| prepared <= epoch) {
            for path in self.obsolete.drain(..) {
                cx.io.submit(IoRequest::Remove { path });
            }
        }
        Ok(())
    }
}

/// Files that are whole, and the one that is open with its length and checksum.
type Account = (Vec<String>, Option<(String, u64, u32)>);

/// Appends a row to what a file holds.
pub(super) fn put(row: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(row.len() as u32).to_le_bytes());
    out.extend_from_slice(row);
}

/// The rows in a committed file, encoded.
///
/// # Errors
/// If the file is torn.
pub fn rows(mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut rows = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        let len = u32::from_le_bytes(*len) as usize;
        let row = rest.get(..len).ok_or("a committed file ends within a row")?;
        rows.push(row.to_vec());
        bytes = &rest[len..];
    }
    if bytes.is_empty() { Ok(rows) } else { Err("a committed file ends within a length".into()) }
}
