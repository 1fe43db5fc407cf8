//! The file source: which partitions there are, and the reader of a task's.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use gear_core::api::source::{Advance, Source, SourceConnector, SourceContext};
use gear_core::api::{FileInfo, Files, Record};
use gear_core::effect::{IoError, IoErrorKind};
use gear_core::flow::push::Meta;
use gear_core::message::Partition;
use gear_core::time::{EventTime, Time};

use super::lines::{Found, Line, Lines};
use super::partition::{self, Part, Stop, gone, stop};
use super::{
    CHUNK_BYTES, FOLLOW_POLL, LINE_BYTES_MAX_DEFAULT, MALFORMED_BYTES_KEPT, SPLIT_BYTES_DEFAULT,
    UNAVAILABLE_MAX, UNAVAILABLE_POLL,
};
use crate::faults::{Fault, Faults, NoFaults};

/// Lines of files; made by [`super::source`] and [`super::bytes_source`].
///
/// A large file is split into ranges of bytes. A range owns every line that begins in it: each line
/// is read exactly once, whatever the size of the ranges. A line ends before `\n` (a `\r` before it
/// stays), or with the file.
pub struct FilesSource<L: Line + ?Sized = str, F: Faults = NoFaults> {
    patterns: Vec<String>,
    follow: bool,
    split_bytes: u64,
    line_bytes_max: usize,
    kind: PhantomData<fn() -> (*const L, F)>,
}

impl<L: Line + ?Sized, F: Faults> FilesSource<L, F> {
    pub(crate) const fn new(patterns: Vec<String>) -> Self {
        Self {
            patterns,
            follow: false,
            split_bytes: SPLIT_BYTES_DEFAULT,
            line_bytes_max: LINE_BYTES_MAX_DEFAULT,
            kind: PhantomData,
        }
    }

    /// Goes on for ever with what is appended, as `tail -F` does: when another file takes the name,
    /// the old one is read to its end and the new one from its beginning. What is appended to the
    /// old file after that is not read; a file that was replaced while the job did not run is an
    /// error. A line is read when its break is there.
    #[must_use]
    pub const fn follow(mut self) -> Self {
        self.follow = true;
        self
    }

    /// Bytes of a file that are one partition; at least 1. A followed file is not split.
    #[must_use]
    pub const fn split_bytes(mut self, bytes: u64) -> Self {
        self.split_bytes = bytes;
        self
    }

    /// Longest line in bytes; a longer one is put aside, cut.
    #[must_use]
    pub const fn line_bytes_max(mut self, bytes: usize) -> Self {
        self.line_bytes_max = bytes;
        self
    }

    /// Gives `Ref<[u8]>` and takes any encoding.
    #[must_use]
    pub fn bytes(self) -> FilesSource<[u8], F> {
        self.of_kind()
    }

    /// The same with other seeded bugs, for a simulator.
    #[must_use]
    pub fn with_faults<G: Faults>(self) -> FilesSource<L, G> {
        self.of_kind()
    }

    fn of_kind<M: Line + ?Sized, G: Faults>(self) -> FilesSource<M, G> {
        FilesSource {
            patterns: self.patterns,
            follow: self.follow,
            split_bytes: self.split_bytes,
            line_bytes_max: self.line_bytes_max,
            kind: PhantomData,
        }
    }

    /// All files, each once however many patterns name it.
    fn files(&self, files: &mut dyn Files) -> Result<Vec<FileInfo>, IoError> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for pattern in &self.patterns {
            let listed = files.list(pattern)?;
            found.extend(listed.into_iter().filter(|file| seen.insert(file.path.clone())));
        }
        Ok(found)
    }
}

impl<L: Line + ?Sized, F: Faults> fmt::Debug for FilesSource<L, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesSource").field("patterns", &self.patterns).finish_non_exhaustive()
    }
}

impl<L: Line + ?Sized, F: Faults> SourceConnector for FilesSource<L, F> {
    type Source = FilesReader<L, F>;

    fn partitions(&self, files: &mut dyn Files) -> Result<Vec<String>, IoError> {
        let mut names = Vec::new();
        for file in self.files(files)? {
            if self.follow {
                names.push(partition::name(&file.path, 0, None));
            } else {
                partition::split(&file.path, file.len, self.split_bytes, &mut names);
            }
        }
        Ok(names)
    }

    fn source(&self) -> FilesReader<L, F> {
        FilesReader {
            parts: Vec::new(),
            part: 0,
            base: 0,
            lines: Lines::new(),
            line_bytes_max: self.line_bytes_max,
            read: 0,
            unavailable_since: None,
            kind: PhantomData,
        }
    }

    fn discovers(&self) -> bool {
        self.follow
    }

    fn total_bytes(&self, files: &mut dyn Files) -> Option<u64> {
        if self.follow {
            return None;
        }
        Some(self.files(files).ok()?.iter().map(|file| file.len).sum())
    }
}

/// Reads the partitions of one task: whole ones one after the other, followed ones in turn.
pub struct FilesReader<L: Line + ?Sized = str, F: Faults = NoFaults> {
    parts: Vec<Part>,
    /// The part whose lines are in the buffer.
    part: usize,
    /// Where the buffer begins in the file.
    base: u64,
    lines: Lines,
    line_bytes_max: usize,
    /// Bytes of the lines that were in the buffer before.
    read: u64,
    /// Since when nothing could be read.
    unavailable_since: Option<Time>,
    kind: PhantomData<fn() -> (*const L, F)>,
}

impl<L: Line + ?Sized, F: Faults> fmt::Debug for FilesReader<L, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesReader").field("parts", &self.parts).finish_non_exhaustive()
    }
}

/// How a look at the rest of a part ended.
enum Fill {
    /// There are lines in the buffer.
    Lines,
    /// There is nothing more at the moment.
    Nothing,
    /// There is a line longer than the limit, which has been passed.
    Passed(Advance),
}

impl<L: Line + ?Sized, F: Faults> Source for FilesReader<L, F> {
    type Out = L::Out;

    fn open(&mut self, partitions: &[Partition], cx: &mut SourceContext<'_>) -> Result<(), String> {
        self.parts = partitions.iter().map(|it| Part::open(it, cx)).collect::<Result<_, _>>()?;
        self.part = 0;
        Ok(())
    }

    #[inline]
    fn advance(&mut self, cx: &mut SourceContext<'_>) -> Result<Advance, String> {
        match self.lines.advance::<L>(self.line_bytes_max) {
            Found::Line => Ok(Advance::Record),
            found => self.without_line(found, cx),
        }
    }

    #[inline]
    fn current(&self) -> (Meta, <L::Out as Record>::View<'_>) {
        (Meta { at: EventTime::MIN, partition: self.part as u32 }, L::view(&self.lines))
    }

    fn positions(&self) -> Vec<Partition> {
        let is_ahead = F::has(Fault::PositionOfReadAhead);
        let read = if is_ahead { self.lines.owned() } else { self.lines.consumed() };
        let offset = |number| {
            let part: &Part = &self.parts[number];
            if number == self.part { part.offset + read as u64 } else { part.offset }
        };
        let parts = self.parts.iter().enumerate();
        parts.map(|(number, part)| part.partition(offset(number))).collect()
    }

    fn bytes_read(&self) -> u64 {
        self.read + self.lines.consumed() as u64
    }
}

impl<L: Line + ?Sized, F: Faults> FilesReader<L, F> {
    #[cold]
    fn without_line(
        &mut self,
        found: Found,
        cx: &mut SourceContext<'_>,
    ) -> Result<Advance, String> {
        match found {
            Found::Line => Ok(Advance::Record),
            Found::NotUtf8 => Ok(self.malformed("the line is not UTF-8".to_owned())),
            Found::TooLong => Ok(self.malformed(self.too_long())),
            Found::Nothing => self.refill(cx),
        }
    }

    fn too_long(&self) -> String {
        format!("the line is longer than {} bytes", self.line_bytes_max)
    }

    /// Puts the current line aside.
    fn malformed(&self, reason: String) -> Advance {
        let at = self.base + self.lines.line_start() as u64;
        let line = self.lines.line();
        self.malformed_at(at, line[..line.len().min(MALFORMED_BYTES_KEPT)].to_vec(), reason)
    }

    fn malformed_at(&self, at: u64, bytes: Vec<u8>, reason: String) -> Advance {
        let position = format!("{}:{at}", self.parts[self.part].path);
        Advance::Malformed { partition: self.part as u32, position, bytes, reason }
    }

    /// Gets lines into the empty buffer, from this part or the next that has some.
    fn refill(&mut self, cx: &mut SourceContext<'_>) -> Result<Advance, String> {
        let consumed = self.lines.consumed() as u64;
        self.read += consumed;
        if let Some(part) = self.parts.get_mut(self.part) {
            part.offset += consumed;
        }
        let mut buffer = self.lines.take();
        let count = self.parts.len();
        // A followed part gives way to the next one after each chunk.
        let mut number = self.part;
        for step in 0..=count {
            if step > 0 || self.parts.get(number).is_some_and(|part| part.end.is_none()) {
                number = if number + 1 < count { number + 1 } else { 0 };
            }
            if self.parts.get(number).is_none_or(|part| part.done) {
                continue;
            }
            self.part = number;
            let filled = match self.fill(&mut buffer, cx) {
                Err(Stop::Failed(reason)) => return Err(reason),
                Err(Stop::Unavailable(_)) if F::has(Fault::CutLines) && !buffer.is_empty() => {
                    Fill::Lines
                }
                Err(Stop::Unavailable(error)) => {
                    // The line is begun again when there is more of it.
                    buffer.clear();
                    self.lines.put::<L>(buffer, 0);
                    return self.wait_out(&error, cx.now);
                }
                Ok(filled) => filled,
            };
            self.unavailable_since = None;
            match filled {
                Fill::Lines => {
                    let part = &self.parts[number];
                    self.base = part.offset;
                    let owned = part.end.unwrap_or(u64::MAX).saturating_sub(part.offset);
                    self.lines.put::<L>(buffer, owned);
                    return match self.lines.advance::<L>(self.line_bytes_max) {
                        Found::Line => Ok(Advance::Record),
                        found => self.without_line(found, cx),
                    };
                }
                Fill::Passed(advance) => {
                    buffer.clear();
                    self.lines.put::<L>(buffer, 0);
                    return Ok(advance);
                }
                Fill::Nothing => buffer.clear(),
            }
            if self.parts[number].end.is_some() {
                self.parts[number].done = true;
                self.lines.put::<L>(buffer, 0);
                return Ok(Advance::PartitionEnd(number as u32));
            }
        }
        self.lines.put::<L>(buffer, 0);
        let following = self.parts.iter().any(|part| !part.done);
        Ok(if following { Advance::Wait(cx.now + FOLLOW_POLL) } else { Advance::End })
    }

    /// Waits for files that cannot be reached, up to a bound.
    fn wait_out(&mut self, error: &IoError, now: Time) -> Result<Advance, String> {
        let since = *self.unavailable_since.get_or_insert(now);
        if now.since(since) < UNAVAILABLE_MAX {
            return Ok(Advance::Wait(now + UNAVAILABLE_POLL));
        }
        let offset = self.parts.get(self.part).map_or(0, |part| part.offset);
        Err(gone(error, offset))
    }

    /// Reads from the part's offset until there is a whole line.
    fn fill(&mut self, buffer: &mut Vec<u8>, cx: &mut SourceContext<'_>) -> Result<Fill, Stop> {
        let number = self.part;
        let part = &mut self.parts[number];
        if let Some(identity) = part.successor.take() {
            (part.identity, part.offset) = (Some(identity), 0);
        } else if part.end.is_some() || part.identity.is_none() {
            let info = cx.files.stat(&part.path).map_err(|error| stop(error, part.offset))?;
            part.check(&info)?;
        }
        if !part.begun && !self.begin(buffer, cx)? {
            return Ok(Fill::Nothing);
        }
        let part = &mut self.parts[number];
        if part.end.is_some_and(|end| part.offset >= end) {
            return Ok(Fill::Nothing);
        }
        loop {
            let from = buffer.len();
            let ended = append(part, part.offset + from as u64, buffer, cx)?;
            if let Some(newline) = memchr::memrchr(b'\n', &buffer[from..]) {
                buffer.truncate(from + newline + 1);
                return Ok(Fill::Lines);
            }
            if ended {
                return Self::at_end(part, buffer, cx);
            }
            if buffer.len() > self.line_bytes_max {
                let passed = self.pass_line(buffer, cx)?;
                return Ok(passed.map_or(Fill::Nothing, Fill::Passed));
            }
        }
    }

    /// The file has ended, with an unfinished line in the buffer or with nothing.
    fn at_end(part: &mut Part, buffer: &[u8], cx: &mut SourceContext<'_>) -> Result<Fill, Stop> {
        let info = match cx.files.stat(&part.path) {
            // Between two files of a rotation there may be none.
            Err(error) if error.kind == IoErrorKind::NotFound && part.end.is_none() => {
                return Ok(Fill::Nothing);
            }
            other => other.map_err(|error| stop(error, part.offset))?,
        };
        if part.end.is_none() && part.identity.is_some_and(|seen| seen != info.identity) {
            part.successor = Some(info.identity);
            // No one will finish the last line of the old file.
            return Ok(if buffer.is_empty() { Fill::Nothing } else { Fill::Lines });
        }
        part.check(&info)?;
        part.check_readable(part.offset + buffer.len() as u64)?;
        let whole = part.end.is_some() && !buffer.is_empty();
        Ok(if whole { Fill::Lines } else { Fill::Nothing })
    }

    /// Passes the line that the part before owns; false if that reaches to the end of the part.
    fn begin(&mut self, buffer: &mut Vec<u8>, cx: &mut SourceContext<'_>) -> Result<bool, Stop> {
        let part = &mut self.parts[self.part];
        let end = part.end.unwrap_or(u64::MAX);
        // The byte before the part tells whether a line begins with it.
        let mut at = part.start.saturating_sub(1);
        while at + 1 < end {
            buffer.clear();
            let ended = append(part, at, buffer, cx)?;
            if let Some(newline) = memchr::memchr(b'\n', buffer) {
                let offset = at + newline as u64 + 1;
                self.read += offset.min(end) - part.start.min(offset);
                part.offset = offset;
                part.begun = true;
                buffer.clear();
                return Ok(offset < end);
            }
            if ended {
                let info = cx.files.stat(&part.path).map_err(|error| stop(error, at))?;
                part.check(&info)?;
                part.check_readable(at)?;
                break;
            }
            at += buffer.len() as u64;
        }
        buffer.clear();
        self.read += end.saturating_sub(part.start);
        Ok(false)
    }

    /// Passes a line of which more than the longest is in the buffer, keeping its beginning; none
    /// if the line has no end yet.
    fn pass_line(
        &mut self,
        buffer: &mut Vec<u8>,
        cx: &mut SourceContext<'_>,
    ) -> Result<Option<Advance>, Stop> {
        let part = &mut self.parts[self.part];
        let start = part.offset;
        let mut at = start + buffer.len() as u64;
        let kept = buffer[..buffer.len().min(MALFORMED_BYTES_KEPT)].to_vec();
        loop {
            buffer.clear();
            let ended = append(part, at, buffer, cx)?;
            if let Some(newline) = memchr::memchr(b'\n', buffer) {
                at += newline as u64 + 1;
                break;
            }
            at += buffer.len() as u64;
            if ended {
                if part.end.is_none() {
                    return Ok(None);
                }
                part.check_readable(at)?;
                break;
            }
        }
        part.offset = at;
        self.read += at - start;
        Ok(Some(self.malformed_at(start, kept, self.too_long())))
    }
}

/// Appends the bytes at `offset` to the buffer; true if there are none.
fn append(
    part: &Part,
    offset: u64,
    buffer: &mut Vec<u8>,
    cx: &mut SourceContext<'_>,
) -> Result<bool, Stop> {
    let from = buffer.len();
    buffer.resize(from + CHUNK_BYTES, 0);
    let result = cx.files.read_at(&part.path, offset, &mut buffer[from..]);
    let read = match result {
        Ok(read) => read.min(CHUNK_BYTES),
        Err(error) if error.kind == IoErrorKind::NotFound && part.end.is_none() => 0,
        Err(error) => return Err(stop(error, offset)),
    };
    buffer.truncate(from + read);
    Ok(read == 0)
}
