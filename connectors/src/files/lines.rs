//! One reused buffer of whole lines, and the lines in it.

use gear_core::api::Ref;
use gear_core::api::record::Record;

/// What a line is given as: `str` if it has to be UTF-8, `[u8]` if not.
pub trait Line: sealed::Sealed + 'static {
    /// The record of a line.
    type Out: Record;
    /// True if a line has to be UTF-8.
    const IS_TEXT: bool;
    /// The line at this place of the buffer.
    #[doc(hidden)]
    fn view(buffer: &Lines) -> <Self::Out as Record>::View<'_>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for str {}
    impl Sealed for [u8] {}
}

impl Line for str {
    type Out = Ref<Self>;
    const IS_TEXT: bool = true;

    #[inline]
    fn view(buffer: &Lines) -> &Self {
        let Lines { line: (from, to), .. } = *buffer;
        match &buffer.content {
            Content::Text(text) => text.get(from..to).unwrap_or_default(),
            // Only after a line of this chunk was no UTF-8; this one was looked at.
            Content::Raw(bytes) => {
                bytes.get(from..to).and_then(|line| Self::from_utf8(line).ok()).unwrap_or_default()
            }
        }
    }
}

impl Line for [u8] {
    type Out = Ref<[u8]>;
    const IS_TEXT: bool = false;

    #[inline]
    fn view(buffer: &Lines) -> &[u8] {
        buffer.line()
    }
}

/// Bytes of a file that end with a line.
#[derive(Debug)]
pub struct Lines {
    content: Content,
    /// The current line, without its break.
    line: (usize, usize),
    /// Where the next line begins.
    next: usize,
    /// Lines that begin at or behind this are not ours.
    owned: usize,
    /// Bytes of the file in the buffer: one less than its length if the last line has no break.
    len: usize,
}

/// A chunk is checked as a whole, which is several times as fast as line by line.
#[derive(Debug)]
enum Content {
    Text(String),
    Raw(Vec<u8>),
}

/// What [`Lines::advance`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Line,
    TooLong,
    NotUtf8,
    Nothing,
}

impl Lines {
    pub(crate) const fn new() -> Self {
        Self { content: Content::Raw(Vec::new()), line: (0, 0), next: 0, owned: 0, len: 0 }
    }

    /// Moves to the next line.
    #[inline]
    pub(crate) fn advance<L: Line + ?Sized>(&mut self, line_bytes_max: usize) -> Found {
        if self.next >= self.owned {
            return Found::Nothing;
        }
        let (bytes, checked) = match &self.content {
            Content::Text(text) => (text.as_bytes(), true),
            Content::Raw(bytes) => (bytes.as_slice(), !L::IS_TEXT),
        };
        let from = self.next;
        let rest = bytes.get(from..).unwrap_or_default();
        let to = from + memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        self.line = (from, to);
        self.next = to + 1;
        if to - from > line_bytes_max {
            return Found::TooLong;
        }
        if !checked && str::from_utf8(&bytes[from..to]).is_err() {
            return Found::NotUtf8;
        }
        Found::Line
    }

    /// The bytes of the current line.
    #[inline]
    pub(crate) fn line(&self) -> &[u8] {
        let (from, to) = self.line;
        self.bytes().get(from..to).unwrap_or_default()
    }

    /// Where the current line begins, in bytes from the beginning of the buffer.
    pub(crate) const fn line_start(&self) -> usize {
        self.line.0
    }

    /// Bytes from the beginning of the buffer up to the next line.
    pub(crate) fn consumed(&self) -> usize {
        self.next.min(self.len)
    }

    /// Bytes from the beginning of the buffer up to the end of the lines that are ours.
    pub(crate) const fn owned(&self) -> usize {
        self.owned
    }

    /// The empty buffer, to be filled.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let content = std::mem::replace(&mut self.content, Content::Raw(Vec::new()));
        (self.line, self.next, self.owned, self.len) = ((0, 0), 0, 0, 0);
        let mut bytes = match content {
            Content::Text(text) => text.into_bytes(),
            Content::Raw(bytes) => bytes,
        };
        bytes.clear();
        bytes
    }

    /// Puts the buffer back with whole lines in it, of which those that begin before `owned` are
    /// ours; only the last may lack its break.
    pub(crate) fn put<L: Line + ?Sized>(&mut self, mut bytes: Vec<u8>, owned: u64) {
        self.len = bytes.len();
        if bytes.last().is_some_and(|last| *last != b'\n') {
            bytes.push(b'\n');
        }
        self.owned = usize::try_from(owned).unwrap_or(usize::MAX).min(self.len);
        self.content = if L::IS_TEXT {
            String::from_utf8(bytes)
                .map_or_else(|error| Content::Raw(error.into_bytes()), Content::Text)
        } else {
            Content::Raw(bytes)
        };
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Text(text) => text.as_bytes(),
            Content::Raw(bytes) => bytes,
        }
    }
}
