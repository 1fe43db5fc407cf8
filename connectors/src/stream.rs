//! Lines of a stream that cannot be read again: a thread reads, the source takes.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use gear_core::api::Ref;
use gear_core::api::source::{Advance, Source, SourceContext};
use gear_core::flow::push::Meta;
use gear_core::message::Partition;
use gear_core::time::EventTime;

use crate::files::Line;
use crate::files::lines::{Found, Lines};
use crate::files::{LINE_BYTES_MAX_DEFAULT, MALFORMED_BYTES_KEPT};

/// Bytes that the thread reads at once.
const BLOCK_BYTES: usize = 64 * 1_024;
/// Blocks that wait for the source; then the thread waits: 512 KiB, and at most 8 longest lines.
const QUEUE_BLOCKS: usize = 8;
/// Time until the source asks again when the queue was empty: well below what people notice, and
/// too rare to be seen in an idle job's use of the processor.
const POLL: Duration = Duration::from_millis(5);

/// Opens the stream; called on the reading thread, so it may wait.
pub(crate) type Open = Arc<dyn Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync>;

/// What the thread hands over, with the place of its first byte in the stream.
#[derive(Debug)]
enum Block {
    Lines(Vec<u8>, u64),
    TooLong(Vec<u8>, u64),
    Failed(String),
}

/// The lines of standard input or of a connection, as `Ref<str>`.
pub struct LineStream {
    what: String,
    open: Open,
    blocks: Option<Receiver<Block>>,
    partitions: Vec<Partition>,
    lines: Lines,
    base: u64,
    read: u64,
}

impl std::fmt::Debug for LineStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineStream").field("what", &self.what).finish_non_exhaustive()
    }
}

impl LineStream {
    /// `what` names the stream for the user.
    pub(crate) const fn new(what: String, open: Open) -> Self {
        Self {
            what,
            open,
            blocks: None,
            partitions: Vec::new(),
            lines: Lines::new(),
            base: 0,
            read: 0,
        }
    }

    fn malformed(&self, at: u64, mut bytes: Vec<u8>, reason: String) -> Advance {
        bytes.truncate(MALFORMED_BYTES_KEPT);
        Advance::Malformed { partition: 0, position: format!("{}:{at}", self.what), bytes, reason }
    }

    #[cold]
    fn without_line(
        &mut self,
        found: Found,
        cx: &mut SourceContext<'_>,
    ) -> Result<Advance, String> {
        if found == Found::NotUtf8 {
            let at = self.base + self.lines.line_start() as u64;
            let line = self.lines.line().to_vec();
            return Ok(self.malformed(at, line, "the line is not UTF-8".to_owned()));
        }
        self.read += self.lines.consumed() as u64;
        let buffer = self.lines.take();
        self.lines.put::<str>(buffer, 0);
        let Some(blocks) = &self.blocks else { return Ok(Advance::End) };
        match blocks.try_recv() {
            Ok(Block::Lines(bytes, base)) => {
                self.base = base;
                self.lines.put::<str>(bytes, u64::MAX);
                self.advance(cx)
            }
            Ok(Block::TooLong(bytes, at)) => {
                self.read += bytes.len() as u64;
                let reason = format!("the line is longer than {LINE_BYTES_MAX_DEFAULT} bytes");
                Ok(self.malformed(at, bytes, reason))
            }
            Ok(Block::Failed(reason)) => {
                self.blocks = None;
                Err(format!(
                    "{}: {reason}; it cannot be read again, so what came since the last epoch is \
                     lost: start again to go on with what follows",
                    self.what
                ))
            }
            Err(TryRecvError::Empty) => Ok(Advance::Wait(cx.now + POLL)),
            Err(TryRecvError::Disconnected) => {
                self.blocks = None;
                self.partitions.iter_mut().for_each(|partition| partition.done = true);
                Ok(Advance::PartitionEnd(0))
            }
        }
    }
}

impl Source for LineStream {
    type Out = Ref<str>;

    fn open(&mut self, partitions: &[Partition], _: &mut SourceContext<'_>) -> Result<(), String> {
        self.partitions = partitions.to_vec();
        if partitions.iter().all(|partition| partition.done) {
            return Ok(());
        }
        let (sender, receiver) = sync_channel(QUEUE_BLOCKS);
        self.blocks = Some(receiver);
        let open = Arc::clone(&self.open);
        let thread = thread::Builder::new().name(format!("read {}", self.what));
        let spawned = thread.spawn(move || {
            let result = open().and_then(|stream| pump(stream, &sender));
            if let Err(error) = result {
                // Nobody listens any more if the source has gone.
                let _ = sender.send(Block::Failed(error.to_string()));
            }
        });
        spawned.map(drop).map_err(|error| format!("{}: no thread to read it: {error}", self.what))
    }

    #[inline]
    fn advance(&mut self, cx: &mut SourceContext<'_>) -> Result<Advance, String> {
        match self.lines.advance::<str>(usize::MAX) {
            Found::Line => Ok(Advance::Record),
            found => self.without_line(found, cx),
        }
    }

    #[inline]
    fn current(&self) -> (Meta, &str) {
        (Meta { at: EventTime::MIN, partition: 0 }, str::view(&self.lines))
    }

    fn positions(&self) -> Vec<Partition> {
        self.partitions.clone()
    }

    fn bytes_read(&self) -> u64 {
        self.read + self.lines.consumed() as u64
    }
}

/// Reads to the end of the stream and hands over whole lines.
fn pump(mut stream: Box<dyn Read + Send>, blocks: &SyncSender<Block>) -> io::Result<()> {
    let mut buffer = Vec::new();
    let mut at = 0;
    // Inside a line that is too long and whose beginning was handed over.
    let mut passing = false;
    loop {
        let from = buffer.len();
        buffer.resize(from + BLOCK_BYTES, 0);
        let read = match stream.read(&mut buffer[from..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                buffer.truncate(from);
                continue;
            }
            other => other?,
        };
        buffer.truncate(from + read);
        if passing {
            let newline = memchr::memchr(b'\n', &buffer);
            let passed = newline.map_or(buffer.len(), |newline| newline + 1);
            at += passed as u64;
            buffer.drain(..passed);
            passing = newline.is_none() && read > 0;
        }
        let whole = match memchr::memrchr(b'\n', &buffer) {
            _ if read == 0 => buffer.len(),
            Some(newline) => newline + 1,
            None if buffer.len() > LINE_BYTES_MAX_DEFAULT => {
                passing = true;
                let start = at;
                at += buffer.len() as u64;
                if blocks.send(Block::TooLong(std::mem::take(&mut buffer), start)).is_err() {
                    return Ok(());
                }
                continue;
            }
            None => 0,
        };
        if whole > 0 {
            let rest = buffer.split_off(whole);
            let block = Block::Lines(std::mem::replace(&mut buffer, rest), at);
            at += whole as u64;
            if blocks.send(block).is_err() {
                return Ok(());
            }
        }
        if read == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use gear_core::time::{Time, WallTime};

    use super::*;
    use crate::model::ModelDisk;

    /// All lines, and all that was put aside.
    pub(crate) fn read_all(source: &mut LineStream) -> Result<(Vec<String>, Vec<String>), String> {
        let mut disk = ModelDisk::new(0);
        let mut cx = SourceContext { now: Time::ZERO, wall: WallTime(0), files: &mut disk };
        let partition = Partition { name: "it".to_owned(), position: None, done: false };
        source.open(&[partition], &mut cx)?;
        let (mut lines, mut malformed) = (Vec::new(), Vec::new());
        loop {
            match source.advance(&mut cx)? {
                Advance::Record => lines.push(source.current().1.to_owned()),
                Advance::Malformed { position, .. } => malformed.push(position),
                Advance::Wait(_) => thread::yield_now(),
                Advance::NewPartition(_) | Advance::PartitionEnd(_) => {}
                Advance::End => return Ok((lines, malformed)),
            }
        }
    }

    #[test]
    fn lines_of_a_stream() {
        let mut text = b"one\n\ntwo\r\n\xff\n".to_vec();
        text.extend(vec![b'x'; LINE_BYTES_MAX_DEFAULT + 3 * BLOCK_BYTES]);
        text.extend(b"\nlast");
        let long = text.len() as u64;
        let open: Open = Arc::new(move || Ok(Box::new(io::Cursor::new(text.clone()))));
        let mut source = LineStream::new("it".to_owned(), open);
        let (lines, malformed) = read_all(&mut source).unwrap();
        assert_eq!(lines, ["one", "", "two\r", "last"]);
        assert_eq!(malformed, ["it:10", "it:12"]);
        assert!(source.bytes_read() <= long && source.positions()[0].done);
    }

    #[test]
    fn a_failure_is_told() {
        let open: Open = Arc::new(|| Err(io::Error::other("no such host")));
        let error = read_all(&mut LineStream::new("tcp:x".to_owned(), open)).unwrap_err();
        assert!(error.starts_with("tcp:x: no such host"), "{error}");
    }
}
