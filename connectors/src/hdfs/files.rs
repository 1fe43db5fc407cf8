//! Files on HDFS, for sources.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use gear_core::api::{FileInfo, Files};
use gear_core::effect::{IoError, IoErrorKind, Level, Notice};
use hdfs_native::client::FileStatus;
use tokio::sync::Notify;

use super::client::{Hdfs, Pending, Tell, waited_out};
use super::location::Location;
use super::trouble::Fault;
use super::{AHEAD_BYTES, BLOCK_MAX, OPEN_READS_MAX};
use crate::os::LISTED_FILES_MAX;
use crate::random::mix;

/// How long it is believed what a file was: a large one is not asked for at every chunk.
const SEEN_MAX: Duration = Duration::from_secs(1);
/// Time between two notices that files cannot be reached.
const NOTICE_INTERVAL: Duration = Duration::from_secs(10);

/// Files on HDFS. Each that is read is read ahead, by the threads of the client; a caller waits a
/// moment for what is not yet there, and is told to come back.
pub struct HdfsFiles {
    tell: Tell,
    reads: BTreeMap<String, Read>,
    seen: BTreeMap<String, (FileInfo, Instant)>,
    asked: BTreeMap<String, Pending<Result<FileStatus, Fault>>>,
    uses: u64,
    noticed: Option<Instant>,
}

impl std::fmt::Debug for HdfsFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HdfsFiles").field("reads", &self.reads.keys()).finish_non_exhaustive()
    }
}

impl HdfsFiles {
    /// Files of which the user is told through `tell`.
    #[must_use]
    pub const fn new(tell: Tell) -> Self {
        Self {
            tell,
            reads: BTreeMap::new(),
            seen: BTreeMap::new(),
            asked: BTreeMap::new(),
            uses: 0,
            noticed: None,
        }
    }

    /// The error of a fault; the user hears of one that is waited out, now and then.
    fn failed(&mut self, url: &str, fault: &Fault) -> IoError {
        let error = fault.error(url);
        let due = self.noticed.is_none_or(|at| at.elapsed() > NOTICE_INTERVAL);
        if error.kind == IoErrorKind::Unavailable && due {
            self.noticed = Some(Instant::now());
            let text = format!("{error}; it is tried again");
            (self.tell)(Notice { level: Level::Warning, text });
        }
        error
    }
}

impl Files for HdfsFiles {
    fn list(&mut self, pattern: &str) -> Result<Vec<FileInfo>, IoError> {
        let at = Location::parse(pattern)?;
        let hdfs = Hdfs::of(&at)?;
        let (own, tell, subject) = (hdfs.clone(), self.tell, at.authority.clone());
        let path = at.path.clone();
        let pending = hdfs.begin(async move {
            let attempt = || find(&own, &path);
            waited_out(&subject, own.limits().start(), tell, || false, attempt).await
        });
        // It ends by itself: every try does, and so does the wait.
        let found = loop {
            match pending.wait(hdfs.limits().call) {
                Ok(None) => {}
                Ok(Some(found)) => break found,
                Err(fault) => break Err(fault),
            }
        };
        let mut found = match found {
            Err(Fault::Missing) => Vec::new(),
            found => found.map_err(|fault| fault.error(pattern))?,
        };
        if found.is_empty() {
            return Err(IoError {
                path: pattern.to_owned(),
                reason: "there is no such file, and none that matches; names that begin with `.` \
                         or `_` are passed over"
                    .to_owned(),
                kind: IoErrorKind::NotFound,
            });
        }
        if found.len() > LISTED_FILES_MAX {
            return Err(IoError {
                path: pattern.to_owned(),
                reason: format!("there are more than {LISTED_FILES_MAX} files; name fewer at once"),
                kind: IoErrorKind::Other,
            });
        }
        found.sort_by(|one, other| one.path.cmp(&other.path));
        found.dedup_by(|one, other| one.path == other.path);
        Ok(found.iter().map(|file| info(&at.url(&file.path), file)).collect())
    }

    fn stat(&mut self, path: &str) -> Result<FileInfo, IoError> {
        let reading = self.reads.contains_key(path);
        if let Some((info, at)) = self.seen.get(path)
            && reading
            && at.elapsed() < SEEN_MAX
        {
            return Ok(info.clone());
        }
        let at = Location::parse(path)?;
        let hdfs = Hdfs::of(&at)?;
        // Others of this thread have waited once for an answer that did not come.
        let (pending, patience) = match self.asked.remove(path) {
            Some(pending) => (pending, Duration::ZERO),
            None => {
                let own = hdfs.clone();
                (hdfs.begin(async move { own.stat(&at.path).await }), BLOCK_MAX)
            }
        };
        let status = match pending.wait(patience) {
            Ok(Some(status)) => status,
            Ok(None) => {
                self.asked.insert(path.to_owned(), pending);
                Err(Fault::Late { what: "what is this file", limit: BLOCK_MAX })
            }
            Err(fault) => Err(fault),
        };
        let status = status.map_err(|fault| self.failed(path, &fault))?;
        if status.isdir {
            return Err(Fault::Missing.error(path));
        }
        let info = info(path, &status);
        if self.seen.len() >= OPEN_READS_MAX {
            self.seen.retain(|_, (_, at)| at.elapsed() < SEEN_MAX);
        }
        self.seen.insert(path.to_owned(), (info.clone(), Instant::now()));
        Ok(info)
    }

    fn read_at(&mut self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        self.uses += 1;
        let goes_on = self.reads.get(path).is_some_and(|read| read.reaches(offset));
        if !goes_on {
            let at = Location::parse(path)?;
            let hdfs = Hdfs::of(&at)?;
            if self.reads.len() >= OPEN_READS_MAX && !self.reads.contains_key(path) {
                let oldest = self.reads.iter().min_by_key(|(_, read)| read.used);
                if let Some(oldest) = oldest.map(|(path, _)| path.clone()) {
                    self.reads.remove(&oldest);
                }
            }
            self.reads.insert(path.to_owned(), Read::begin(&hdfs, at.path, offset));
        }
        let uses = self.uses;
        let read = self.reads.get_mut(path).expect("it is there or was put there");
        read.used = uses;
        match read.take(offset, buffer) {
            Ok(0) => {
                // There may be more of it the next time.
                self.reads.remove(path);
                Ok(0)
            }
            Ok(len) => Ok(len),
            Err(fault) => {
                if !matches!(fault, Fault::Late { limit, .. } if limit == BLOCK_MAX) {
                    self.reads.remove(path);
                }
                Err(self.failed(path, &fault))
            }
        }
    }
}

/// The files that a path, a folder or a pattern stands for.
async fn find(hdfs: &Hdfs, pattern: &str) -> Result<Vec<FileStatus>, Fault> {
    let matching = match hdfs.stat(pattern).await {
        Ok(status) => vec![status],
        Err(Fault::Missing) if pattern.contains(['*', '?', '[', '{']) => {
            let name = pattern.rsplit('/').next().unwrap_or_default();
            let mut found = hdfs.glob(pattern).await?;
            found.retain(|file| is_hidden(name) || !is_hidden(&file.path));
            found
        }
        Err(fault) => return Err(fault),
    };
    let mut files = Vec::new();
    for status in matching {
        if !status.isdir {
            files.push(status);
            continue;
        }
        let below = status.path.trim_end_matches('/').len();
        let found = hdfs.list(&status.path).await?;
        let shown = found.into_iter().filter(|it| !it.isdir && !is_hidden(&it.path[below..]));
        files.extend(shown);
    }
    Ok(files)
}

/// True if Hadoop passes over it.
fn is_hidden(path: &str) -> bool {
    path.split('/').any(|name| name.starts_with(['.', '_']))
}

fn info(url: &str, status: &FileStatus) -> FileInfo {
    FileInfo {
        path: url.to_owned(),
        len: status.length as u64,
        // The number of a file is not told; this one is not 0, which stands for no file.
        identity: mix(u64::from(crc32c::crc32c(url.as_bytes())) + 1),
        version: mix(status.modification_time),
    }
}

/// A file that is read ahead.
struct Read {
    pipe: Arc<Pipe>,
    /// Where `pieces` begin in the file.
    base: u64,
    /// What has come and not been passed: a reader goes back to the beginning of a line.
    pieces: VecDeque<Bytes>,
    held: u64,
    used: u64,
    /// How long the next bytes are waited for: not at all after they have been waited for in vain.
    patience: Duration,
}

impl Drop for Read {
    fn drop(&mut self) {
        self.pipe.state().ended = true;
        self.pipe.room.notify_one();
    }
}

impl Read {
    fn begin(hdfs: &Hdfs, path: String, offset: u64) -> Self {
        let pipe = Arc::new(Pipe::default());
        let (own, filled) = (hdfs.clone(), Arc::clone(&pipe));
        hdfs.handle().spawn(async move {
            let result = fill(&own, &path, offset, &filled).await;
            filled.end(result);
        });
        Self { pipe, base: offset, pieces: VecDeque::new(), held: 0, used: 0, patience: BLOCK_MAX }
    }

    const fn reaches(&self, offset: u64) -> bool {
        offset >= self.base && offset <= self.base + self.held
    }

    /// The bytes at an offset that it reaches; 0 at the end.
    fn take(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, Fault> {
        while self.base < offset {
            let Some(first) = self.pieces.front_mut() else { break };
            let passed = (offset - self.base).min(first.len() as u64);
            first.advance(passed as usize);
            self.base += passed;
            self.held -= passed;
            if first.is_empty() {
                self.pieces.pop_front();
            }
        }
        let wanted = buffer.len() as u64;
        while self.held < wanted {
            let needed = self.held == 0;
            let next = self.pipe.next(needed.then_some(self.patience));
            self.patience = if next.is_err() { Duration::ZERO } else { BLOCK_MAX };
            match next? {
                Some(piece) => {
                    self.held += piece.len() as u64;
                    self.pieces.push_back(piece);
                }
                None => break,
            }
        }
        let mut filled = 0;
        for piece in &self.pieces {
            let len = piece.len().min(buffer.len() - filled);
            buffer[filled..filled + len].copy_from_slice(&piece[..len]);
            filled += len;
        }
        Ok(filled)
    }
}

/// What was read ahead.
#[derive(Default)]
struct Pipe {
    state: Mutex<PipeState>,
    ready: Condvar,
    room: Notify,
}

#[derive(Default)]
struct PipeState {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    result: Option<Result<(), Fault>>,
    /// Nobody reads any more.
    ended: bool,
}

impl Pipe {
    fn state(&self) -> std::sync::MutexGuard<'_, PipeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next bytes, waited for if they are needed; none if there are none now, or at the end.
    fn next(&self, patience: Option<Duration>) -> Result<Option<Bytes>, Fault> {
        let began = Instant::now();
        let mut state = self.state();
        loop {
            if let Some(piece) = state.pieces.pop_front() {
                state.bytes -= piece.len();
                drop(state);
                self.room.notify_one();
                return Ok(Some(piece));
            }
            if let Some(result) = &state.result {
                let Some(_) = patience else { return Ok(None) };
                return result.clone().map(|()| None);
            }
            let Some(patience) = patience else { return Ok(None) };
            let Some(left) = patience.checked_sub(began.elapsed()).filter(|it| !it.is_zero())
            else {
                return Err(Fault::Late { what: "read on", limit: BLOCK_MAX });
            };
            let waited = self.ready.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Hands bytes over when there is room; false if nobody wants them.
    async fn put(&self, piece: Bytes) -> bool {
        loop {
            {
                let mut state = self.state();
                if state.ended {
                    return false;
                }
                if state.bytes < AHEAD_BYTES {
                    state.bytes += piece.len();
                    state.pieces.push_back(piece);
                    drop(state);
                    self.ready.notify_one();
                    return true;
                }
            }
            self.room.notified().await;
        }
    }

    fn end(&self, result: Result<(), Fault>) {
        self.state().result = Some(result);
        self.ready.notify_one();
    }
}

/// Reads a file from an offset to what is its end now.
async fn fill(hdfs: &Hdfs, path: &str, offset: u64, pipe: &Pipe) -> Result<(), Fault> {
    let file = hdfs.open(path).await?;
    let end = file.file_length() as u64;
    if offset >= end {
        return Ok(());
    }
    let mut pieces = hdfs.read(&file, offset..end)?;
    while let Some(piece) = pieces.next().await? {
        if !piece.is_empty() && !pipe.put(piece).await {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn read(pieces: &[&'static str], result: Result<(), Fault>) -> Read {
        let pipe = Arc::new(Pipe::default());
        {
            let mut state = pipe.state();
            for text in pieces {
                state.bytes += text.len();
                state.pieces.push_back(piece(text));
            }
            state.result = Some(result);
        }
        Read { pipe, base: 10, pieces: VecDeque::new(), held: 0, used: 0, patience: BLOCK_MAX }
    }

    #[test]
    fn a_reader_may_go_back_to_the_beginning_of_a_line() {
        let mut read = read(&["abc", "def", "ghi"], Ok(()));
        let mut buffer = [0; 5];
        assert_eq!((read.take(10, &mut buffer).unwrap(), &buffer), (5, b"abcde"));
        assert!(read.reaches(12) && read.reaches(16) && !read.reaches(17) && !read.reaches(9));
        assert_eq!((read.take(12, &mut buffer).unwrap(), &buffer), (5, b"cdefg"));
        assert_eq!((read.take(17, &mut buffer).unwrap(), &buffer[..2]), (2, &b"hi"[..]));
        assert_eq!(read.take(19, &mut buffer).unwrap(), 0);
        assert!(!read.reaches(12));
    }

    #[test]
    fn a_fault_comes_behind_the_bytes_before_it() {
        let mut read = read(&["ab"], Err(Fault::Checksum));
        let mut buffer = [0; 5];
        assert_eq!(read.take(10, &mut buffer).unwrap(), 2);
        assert_eq!(read.take(12, &mut buffer), Err(Fault::Checksum));
    }

    #[test]
    fn who_waits_too_long_comes_back() {
        let pipe = Pipe::default();
        let late = pipe.next(Some(Duration::from_millis(1))).unwrap_err();
        assert!(late.may_pass() && !late.spares_the_writer());
        assert_eq!(pipe.next(None), Ok(None));
    }

    #[test]
    fn names_that_hadoop_hides_are_passed_over() {
        assert!(is_hidden("/.staged/part-0") && is_hidden("/a/_temporary/b"));
        assert!(!is_hidden("/a.txt/b_c"));
    }
}
