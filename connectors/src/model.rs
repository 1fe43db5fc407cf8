//! A disk in memory that can crash, fill up and fail, the same way for the same seed.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};

use gear_core::api::{FileInfo, Files};
use gear_core::effect::{IoError, IoErrorKind, IoRequest};

use crate::kafka::CONSUMERS;
use crate::kafka::model::{ModelConsumers, ModelOffer};
use crate::random::{SplitMix, mix};

mod leases;

use leases::Leases;

/// Files in memory: what was synced, and what a crash may lose.
///
/// A crash keeps what was synced and a random part of the rest: a prefix of the bytes behind the
/// synced ones, in which some may have become zeros, and some of the names that were given or
/// taken away without a sync.
#[derive(Clone, Debug)]
pub struct ModelDisk {
    random: SplitMix,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    names: BTreeMap<String, u64>,
    synced_names: BTreeMap<String, u64>,
    /// What `stat` saw of a path: read on as from an open file, whoever has the name.
    opened: BTreeMap<String, u64>,
    printed: Vec<u8>,
    written: u64,
    capacity: u64,
    requests: u64,
    faults: BTreeMap<u64, IoErrorKind>,
    /// How many of the next requests are performed before one is whose answer is lost.
    loses_answer_in: Option<u64>,
    available: bool,
    /// Thousandths of each file that readers get.
    shown: u64,
    /// Of a thousand reads, those that come late; the others may give little.
    late: u64,
    leases: Option<Leases>,
    kafka: Option<ModelOffer>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Up to here both are the same.
    clean: usize,
}

impl ModelDisk {
    /// An empty disk.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            random: SplitMix(seed),
            files: BTreeMap::new(),
            next_file: 1,
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            opened: BTreeMap::new(),
            printed: Vec::new(),
            written: 0,
            capacity: u64::MAX,
            requests: 0,
            faults: BTreeMap::new(),
            loses_answer_in: None,
            available: true,
            shown: 1_000,
            late: 0,
            leases: None,
            kafka: None,
        }
    }

    /// An empty HDFS, with the driver of one process: a crash is that of the process.
    ///
    /// Names are durable when they are answered. A file that is open has a lease; its bytes cannot
    /// be read until it is closed, or until somebody recovers the lease, which leaves what was
    /// synced and a random part of what followed. The writer that is fenced by that takes more
    /// bytes, but no sync succeeds.
    #[must_use]
    pub fn hdfs(seed: u64) -> Self {
        Self { leases: Some(Leases::new()), ..Self::new(seed) }
    }

    /// Whoever reads files here can read this cluster too.
    pub fn offer_kafka(&mut self, consumers: ModelConsumers) {
        self.kafka = Some(ModelOffer::new(consumers));
    }

    /// Puts a whole, synced file there; one of that name is replaced and has another identity.
    pub fn put(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        let id = self.create(path);
        self.files.insert(id, Content { now: bytes.into(), ..Content::default() });
        self.sync(path, id);
    }

    /// Appends to a file, synced; makes it if there is none.
    pub fn append(&mut self, path: &str, bytes: &[u8]) {
        let id = self.names.get(path).copied().unwrap_or_else(|| self.create(path));
        self.files.entry(id).or_default().now.extend_from_slice(bytes);
        self.sync(path, id);
    }

    /// Cuts a file, synced.
    pub fn truncate(&mut self, path: &str, len: usize) {
        if let Some(&id) = self.names.get(path)
            && let Some(content) = self.files.get_mut(&id)
        {
            content.now.truncate(len);
            content.clean = content.clean.min(len);
            self.sync(path, id);
        }
    }

    /// Takes a file away, durably.
    pub fn remove(&mut self, path: &str) {
        self.names.remove(path);
        self.synced_names.remove(path);
    }

    /// Gives a file another name, durably.
    pub fn rename(&mut self, from: &str, to: &str) {
        if let Some(id) = self.names.remove(from) {
            self.names.insert(to.to_owned(), id);
            self.synced_names.remove(from);
            self.sync(to, id);
        }
    }

    /// The content of a file.
    #[must_use]
    pub fn content(&self, path: &str) -> Option<&[u8]> {
        Some(&self.files.get(self.names.get(path)?)?.now)
    }

    /// The names of all files, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// What was printed.
    #[must_use]
    pub fn printed(&self) -> &[u8] {
        &self.printed
    }

    /// Requests that were performed, or failed.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// After this many more bytes the disk is full; what fits of a write is written.
    pub const fn set_room(&mut self, bytes: u64) {
        self.capacity = self.written.saturating_add(bytes);
    }

    /// The `nth` request from the beginning (from 1) fails, without having had an effect.
    pub fn fail_at(&mut self, nth: u64, kind: IoErrorKind) {
        self.faults.insert(nth, kind);
    }

    /// One request is performed, after this many others, and fails all the same: its answer is
    /// lost.
    pub const fn lose_answer_in(&mut self, requests: u64) {
        self.loses_answer_in = Some(requests);
    }

    /// Whether anybody answers.
    pub const fn set_available(&mut self, available: bool) {
        self.available = available;
    }

    /// Readers get so many thousandths of each file; what follows is on its way to them.
    pub fn show(&mut self, permille: u64) {
        self.shown = permille.min(1_000);
    }

    /// Of a thousand reads so many come late: whoever asks is told to come back. Of the others some
    /// give a part of what was asked for.
    pub const fn read_late(&mut self, permille: u64) {
        self.late = permille;
    }

    /// True if it is an HDFS.
    #[must_use]
    pub const fn is_hdfs(&self) -> bool {
        self.leases.is_some()
    }

    /// The process that performs now: a crash starts the next one.
    ///
    /// # Panics
    /// If this is no HDFS: an operating system takes a process's files away with it.
    #[must_use]
    pub fn process(&self) -> u64 {
        self.leases.as_ref().expect("it is an HDFS").process
    }

    /// Performs a request of a process that others believe to be gone.
    ///
    /// # Errors
    /// As [`Self::perform`].
    ///
    /// # Panics
    /// As [`Self::process`].
    pub fn perform_as(&mut self, process: u64, request: &IoRequest) -> Result<(), IoError> {
        let leases = self.leases.as_mut().expect("it is an HDFS");
        let now = std::mem::replace(&mut leases.process, process);
        let result = self.perform(request);
        self.leases.as_mut().expect("it was one above").process = now;
        result
    }

    /// Loses some of what was not synced.
    pub fn crash(&mut self) {
        if let Some(leases) = &mut self.leases {
            leases.process += 1;
            self.opened.clear();
            return;
        }
        let paths: BTreeSet<String> =
            self.names.keys().chain(self.synced_names.keys()).cloned().collect();
        for path in paths {
            let (now, synced) = (self.names.get(&path), self.synced_names.get(&path));
            if now != synced && self.random.below(2) == 0 {
                match synced {
                    Some(id) => self.names.insert(path, *id),
                    None => self.names.remove(&path),
                };
            }
        }
        self.synced_names = self.names.clone();
        self.opened.clear();
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.files.retain(|id, _| named.contains(id));
        for content in self.files.values_mut() {
            content.crash(&mut self.random);
        }
    }

    /// Performs a request of a sink.
    ///
    /// # Errors
    /// What a real disk would say, or what [`Self::fail_at`] and [`Self::set_room`] asked for.
    pub fn perform(&mut self, request: &IoRequest) -> Result<(), IoError> {
        self.requests += 1;
        if let Some(kind) = self.faults.remove(&self.requests) {
            return Err(error("model", "a fault of the model", kind));
        }
        if !self.available {
            return Err(error("model", "nobody answers", IoErrorKind::Unavailable));
        }
        let result = match self.leases {
            None => self.perform_locally(request),
            Some(_) => self.perform_remotely(request),
        };
        if let Some(requests) = self.loses_answer_in.take() {
            let Some(fewer) = requests.checked_sub(1) else {
                result?;
                return Err(error("model", "the answer is lost", IoErrorKind::Unavailable));
            };
            self.loses_answer_in = Some(fewer);
        }
        result
    }

    fn perform_locally(&mut self, request: &IoRequest) -> Result<(), IoError> {
        match request {
            IoRequest::Write { path, offset, bytes } => self.write(path, *offset, bytes),
            IoRequest::Sync { path } => {
                let id = self.id(path)?;
                self.sync(path, id);
                Ok(())
            }
            IoRequest::CopyPrefix { from, to, len, crc } => {
                let content = self.content(from).ok_or_else(|| missing(from))?;
                let prefix = usize::try_from(*len).ok().and_then(|len| content.get(..len));
                let prefix = prefix.filter(|prefix| crc32c::crc32c(prefix) == *crc);
                let Some(prefix) = prefix.map(<[u8]>::to_vec) else {
                    return Err(error(from, "not what was written", IoErrorKind::Damaged));
                };
                self.write(to, 0, &prefix)?;
                let id = self.id(to)?;
                self.sync(to, id);
                Ok(())
            }
            IoRequest::Publish { from, to } => self.publish(from, to),
            IoRequest::Remove { path } => {
                self.names.remove(path);
                Ok(())
            }
            IoRequest::Print { bytes } => {
                self.printed.extend_from_slice(bytes);
                Ok(())
            }
            IoRequest::Call { service, .. } => {
                Err(error(service, "a disk is no server", IoErrorKind::Other))
            }
        }
    }

    fn check_available(&self, path: &str) -> Result<(), IoError> {
        if self.available {
            return Ok(());
        }
        Err(error(path, "nobody answers", IoErrorKind::Unavailable))
    }

    fn create(&mut self, path: &str) -> u64 {
        let id = self.next_file;
        self.next_file += 1;
        self.files.insert(id, Content::default());
        self.names.insert(path.to_owned(), id);
        id
    }

    fn id(&self, path: &str) -> Result<u64, IoError> {
        self.names.get(path).copied().ok_or_else(|| missing(path))
    }

    fn sync(&mut self, path: &str, id: u64) {
        if let Some(content) = self.files.get_mut(&id) {
            content.sync();
        }
        self.synced_names.insert(path.to_owned(), id);
    }

    fn write(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        let id = match self.names.get(path) {
            None if offset == 0 => self.create(path),
            _ => self.id(path)?,
        };
        let room = usize::try_from(self.capacity - self.written).unwrap_or(usize::MAX);
        let fits = bytes.len().min(room);
        self.written += fits as u64;
        let content = self.files.entry(id).or_default();
        if offset == 0 {
            content.now.clear();
            content.clean = 0;
        }
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        if from > content.now.len() {
            return Err(error(path, "the file is shorter", IoErrorKind::Damaged));
        }
        let overlap = fits.min(content.now.len() - from);
        content.now[from..from + overlap].copy_from_slice(&bytes[..overlap]);
        content.now.extend_from_slice(&bytes[overlap..fits]);
        content.clean = content.clean.min(from);
        if fits < bytes.len() {
            return Err(error(path, "no space left on the device", IoErrorKind::Full));
        }
        Ok(())
    }

    fn publish(&mut self, from: &str, to: &str) -> Result<(), IoError> {
        match (self.names.get(from).copied(), self.names.get(to).copied()) {
            (None, Some(_)) => Ok(()),
            (None, None) => Err(missing(from)),
            (Some(from_id), Some(to_id)) if from_id != to_id => {
                Err(error(to, "a file of this name exists", IoErrorKind::Other))
            }
            (Some(id), _) => {
                self.names.remove(from);
                self.synced_names.remove(from);
                self.names.insert(to.to_owned(), id);
                // The name is durable and the content is what was synced: a sink that forgets to
                // sync loses it in a crash.
                self.synced_names.insert(to.to_owned(), id);
                Ok(())
            }
        }
    }

    fn info(&self, path: &str, id: u64) -> FileInfo {
        let is_open = self.leases.as_ref().is_some_and(|leases| leases.is_open(id));
        let len = self.files.get(&id).map_or(0, |content| {
            let known = if is_open { &content.synced } else { &content.now };
            known.len() as u64
        });
        FileInfo { path: path.to_owned(), len, identity: mix(id), version: 0 }
    }
}

impl Content {
    fn sync(&mut self) {
        self.synced.truncate(self.clean);
        self.synced.extend_from_slice(&self.now[self.clean..]);
        self.clean = self.now.len();
    }

    fn crash(&mut self, random: &mut SplitMix) {
        let grown = self.now.len() > self.synced.len() && self.clean == self.synced.len();
        if grown {
            let unsynced = (self.now.len() - self.clean) as u64;
            let kept = self.clean + random.below(unsynced + 1) as usize;
            self.now.truncate(kept);
            if random.below(4) == 0 && kept > self.clean {
                // The length reached the disk before the bytes did.
                let zeros = self.clean + random.below((kept - self.clean) as u64) as usize;
                self.now[zeros..].fill(0);
            }
        } else if self.clean < self.synced.len() && random.below(2) == 0 {
            self.now.clone_from(&self.synced);
        }
        self.clean = self.clean.min(self.now.len());
        self.sync();
    }
}

fn error(path: &str, reason: &str, kind: IoErrorKind) -> IoError {
    IoError { path: path.to_owned(), reason: reason.to_owned(), kind }
}

fn missing(path: &str) -> IoError {
    error(path, "no such file", IoErrorKind::NotFound)
}

impl Files for ModelDisk {
    fn list(&mut self, pattern: &str) -> Result<Vec<FileInfo>, IoError> {
        let folder = format!("{}/", pattern.trim_end_matches('/'));
        let glob = glob::Pattern::new(pattern).ok();
        let matches = |path: &str| {
            path == pattern
                || path.starts_with(&folder)
                || glob.as_ref().is_some_and(|glob| glob.matches(path))
        };
        let found = self.names.iter().filter(|(path, _)| matches(path));
        let found: Vec<_> = found.map(|(path, id)| self.info(path, *id)).collect();
        if found.is_empty() { Err(missing(pattern)) } else { Ok(found) }
    }

    fn stat(&mut self, path: &str) -> Result<FileInfo, IoError> {
        self.check_available(path)?;
        let id = self.id(path)?;
        self.opened.insert(path.to_owned(), id);
        Ok(self.info(path, id))
    }

    fn read_at(&mut self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        self.check_available(path)?;
        let id = self.opened.get(path).or_else(|| self.names.get(path));
        if id.is_some_and(|id| self.leases.as_ref().is_some_and(|it| it.is_open(*id))) {
            return Ok(0);
        }
        let content = id.and_then(|id| self.files.get(id)).ok_or_else(|| missing(path))?;
        let shown = (content.now.len() as u64 * self.shown / 1_000) as usize;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.now.len());
        let is_late = self.late > 0 && self.random.below(1_000) < self.late;
        if is_late || from >= shown && from < content.now.len() {
            return Err(error(path, "it has not come yet", IoErrorKind::Unavailable));
        }
        let rest = &content.now[from..shown.max(from)];
        let mut len = rest.len().min(buffer.len());
        if self.late > 0 && len > 1 && self.random.below(2) == 0 {
            len = 1 + self.random.below(len as u64) as usize;
        }
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn service(&mut self, kind: &str) -> Option<&mut dyn Any> {
        let kafka = self.kafka.as_mut().filter(|_| kind == CONSUMERS)?;
        Some(kafka.consumers())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &str, offset: u64, bytes: &[u8]) -> IoRequest {
        IoRequest::Write { path: path.to_owned(), offset, bytes: bytes.to_vec() }
    }

    #[test]
    fn a_crash_keeps_what_was_synced() {
        let mut lost = false;
        for seed in 0..200 {
            let mut disk = ModelDisk::new(seed);
            disk.perform(&write("f/a", 0, b"synced")).unwrap();
            disk.perform(&IoRequest::Sync { path: "f/a".to_owned() }).unwrap();
            disk.perform(&write("f/a", 6, b"unsynced")).unwrap();
            disk.perform(&write("f/b", 0, b"x")).unwrap();
            disk.crash();
            assert!(disk.content("f/a").unwrap().starts_with(b"synced"));
            lost |= disk.content("f/a").unwrap() == b"synced" && disk.content("f/b").is_none();
        }
        assert!(lost, "what is not synced can be lost");
    }

    #[test]
    fn a_full_disk_and_a_fault_are_errors() {
        let mut disk = ModelDisk::new(1);
        disk.set_room(3);
        let full = disk.perform(&write("a", 0, b"1234")).unwrap_err();
        assert_eq!((full.kind, disk.content("a")), (IoErrorKind::Full, Some(&b"123"[..])));
        disk.set_room(100);
        disk.fail_at(2, IoErrorKind::Denied);
        assert_eq!(disk.perform(&write("a", 3, b"4")).unwrap_err().kind, IoErrorKind::Denied);
        disk.perform(&write("a", 3, b"4")).unwrap();
        assert_eq!(disk.content("a"), Some(&b"1234"[..]));
    }
}
