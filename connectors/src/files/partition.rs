//! The partitions of a file source: their names, and the positions in them.

use gear_core::api::FileInfo;
use gear_core::api::source::SourceContext;
use gear_core::effect::{IoError, IoErrorKind};
use gear_core::message::Partition;

/// The format of a position: version, flags, identity and offset, little endian.
const POSITION_VERSION: u8 = 1;
const POSITION_BYTES: usize = 18;

/// A part of a file that one task reads, and how far it is.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) path: String,
    /// The part owns every line that begins at `start` or later and before `end`.
    pub(crate) start: u64,
    /// Behind the last byte of the part; none if the file is followed.
    pub(crate) end: Option<u64>,
    /// Of the file whose lines these are; none until it has been seen.
    pub(crate) identity: Option<u64>,
    /// Where to go on; the beginning of a line if `begun`.
    pub(crate) offset: u64,
    /// The line that belongs to the part before this has been passed.
    pub(crate) begun: bool,
    pub(crate) done: bool,
    /// The file that has taken the name of a followed one, which has been read to its end.
    pub(crate) successor: Option<u64>,
}

/// The name of a part.
pub(crate) fn name(path: &str, start: u64, end: Option<u64>) -> String {
    end.map_or_else(|| format!("{path}#{start}-"), |end| format!("{path}#{start}-{end}"))
}

/// The names of all parts of a file.
pub(crate) fn split(path: &str, len: u64, split_bytes: u64, names: &mut Vec<String>) {
    let split_bytes = split_bytes.max(1);
    let mut start = 0;
    while start == 0 || start < len {
        let end = start.saturating_add(split_bytes).min(len);
        names.push(name(path, start, Some(end)));
        start = end.max(1);
    }
}

fn parse(name: &str) -> Option<(&str, u64, Option<u64>)> {
    let (path, range) = name.rsplit_once('#')?;
    let (start, end) = range.split_once('-')?;
    let end = if end.is_empty() { None } else { Some(end.parse().ok()?) };
    Some((path, start.parse().ok()?, end))
}

impl Part {
    /// A partition at its position, checked against the file as it is now.
    pub(crate) fn open(partition: &Partition, cx: &mut SourceContext<'_>) -> Result<Self, String> {
        let Some((path, start, end)) = parse(&partition.name) else {
            return Err(format!(
                "`{}` is no partition of a file source; give the changed source a new name, or \
                 start over with --fresh",
                partition.name
            ));
        };
        let mut part = Self {
            name: partition.name.clone(),
            path: path.to_owned(),
            start,
            end,
            identity: None,
            offset: start,
            begun: start == 0,
            done: partition.done,
            successor: None,
        };
        if let Some(position) = &partition.position {
            part.set_position(position)?;
        }
        if part.done {
            return Ok(part);
        }
        match cx.files.stat(path) {
            Ok(info) => part.check(&info)?,
            // It is looked at again before it is read.
            Err(error) if error.kind == IoErrorKind::Unavailable => {}
            Err(error) => return Err(gone(&error, part.offset)),
        }
        Ok(part)
    }

    fn set_position(&mut self, bytes: &[u8]) -> Result<(), String> {
        let fields = <&[u8; POSITION_BYTES]>::try_from(bytes).ok().and_then(|bytes| {
            let [version, flags, rest @ ..] = bytes;
            let (identity, offset) = rest.split_first_chunk()?;
            let offset = u64::from_le_bytes(*offset.first_chunk()?);
            (*version == POSITION_VERSION && *flags <= 1 && offset >= self.start)
                .then(|| (*flags == 1, u64::from_le_bytes(*identity), offset))
        });
        let Some((begun, identity, offset)) = fields else {
            return Err(format!(
                "the position in `{}` is damaged or of another version; restore the checkpoint \
                 store, or start over with --fresh",
                self.name
            ));
        };
        // No file was seen before that position was written.
        let unseen = offset == self.start && identity == 0;
        self.identity = (!unseen).then_some(identity);
        (self.begun, self.offset) = (begun, offset);
        Ok(())
    }

    /// The part with its position; `offset` is behind the current record.
    pub(crate) fn partition(&self, offset: u64) -> Partition {
        let mut position = Vec::with_capacity(POSITION_BYTES);
        position.extend_from_slice(&[POSITION_VERSION, u8::from(self.begun)]);
        position.extend_from_slice(&self.identity.unwrap_or(0).to_le_bytes());
        position.extend_from_slice(&offset.to_le_bytes());
        Partition { name: self.name.clone(), position: Some(position), done: self.done }
    }

    /// What the part knows a file by. One that is read as it was at the start may not change.
    pub(crate) const fn identity_of(&self, info: &FileInfo) -> u64 {
        if self.end.is_some() { info.identity ^ info.version } else { info.identity }
    }

    /// Refuses a file that is no longer the one of the position; the first one seen is that.
    pub(crate) fn check(&mut self, info: &FileInfo) -> Result<(), String> {
        let identity = self.identity_of(info);
        let (path, len) = (&self.path, info.len);
        if identity != *self.identity.get_or_insert(identity) {
            return Err(format!(
                "{path} was replaced by another file: what followed byte {} of the old one cannot \
                 be read; put the old file back under this name, or start over with --fresh",
                self.offset
            ));
        }
        let known = self.end.unwrap_or(0).max(self.offset);
        if len < known {
            return Err(format!(
                "{path} shrank: it has {len} bytes, and {known} were known; restore its content, \
                 or start over with --fresh"
            ));
        }
        Ok(())
    }

    /// Refuses a file that has bytes which cannot be read: lines would be missing without a word.
    pub(crate) fn check_readable(&self, at: u64) -> Result<(), String> {
        match self.end {
            Some(end) if at < end => Err(format!(
                "{} can be read up to byte {at} only, and it had {end} bytes at the start: it is \
                 still being written to; start again when its writer has closed it, or follow it",
                self.path
            )),
            _ => Ok(()),
        }
    }
}

/// A part cannot be read at the moment, or never.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It is worth asking again.
    Unavailable(IoError),
    /// What to tell the user.
    Failed(String),
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

/// What follows from an error: it is waited out, or the task fails.
pub(crate) fn stop(error: IoError, offset: u64) -> Stop {
    match error.kind {
        IoErrorKind::Unavailable => Stop::Unavailable(error),
        _ => Stop::Failed(gone(&error, offset)),
    }
}

/// What to tell the user of a file that cannot be read.
pub(crate) fn gone(error: &IoError, offset: u64) -> String {
    match error.kind {
        IoErrorKind::NotFound => format!(
            "{error}: it disappeared before its lines from byte {offset} on were read; put it \
             back, or start over with --fresh"
        ),
        IoErrorKind::Denied => {
            format!("{error}; give this user the right to read it and start again")
        }
        _ => format!("{error}; start again when it can be read"),
    }
}
