//! The model of an HDFS: open files, and who holds them.

use std::collections::{BTreeMap, BTreeSet};

use gear_core::effect::{IoError, IoErrorKind, IoRequest};

use super::{ModelDisk, error, missing};

/// Which files are open, and who writes to them.
#[derive(Clone, Debug)]
pub(super) struct Leases {
    /// The process that performs.
    pub(super) process: u64,
    /// Files that have been neither closed nor recovered.
    open: BTreeSet<u64>,
    /// The files that processes write to, by their paths. That one of them is no longer open is
    /// what its writer does not know.
    writers: BTreeMap<(u64, String), u64>,
}

impl Leases {
    pub(super) const fn new() -> Self {
        Self { process: 0, open: BTreeSet::new(), writers: BTreeMap::new() }
    }

    pub(super) fn is_open(&self, file: u64) -> bool {
        self.open.contains(&file)
    }

    fn key(&self, path: &str) -> (u64, String) {
        (self.process, path.to_owned())
    }

    fn writer(&self, path: &str) -> Option<u64> {
        self.writers.get(&self.key(path)).copied()
    }
}

fn given_up(path: &str) -> IoError {
    error(path, "writing to it was given up", IoErrorKind::Unavailable)
}

impl ModelDisk {
    fn leases(&mut self) -> &mut Leases {
        self.leases.as_mut().expect("only an HDFS performs so")
    }

    /// What the driver of an HDFS does, and what comes of it.
    pub(super) fn perform_remotely(&mut self, request: &IoRequest) -> Result<(), IoError> {
        match request {
            IoRequest::Write { path, offset, bytes } => self.append_to(path, *offset, bytes),
            IoRequest::Sync { path } => {
                let id = self.leases().writer(path).ok_or_else(|| given_up(path))?;
                if !self.leases().is_open(id) {
                    // Another has taken the file over.
                    let key = self.leases().key(path);
                    self.leases().writers.remove(&key);
                    return Err(given_up(path));
                }
                self.files.entry(id).or_default().sync();
                Ok(())
            }
            IoRequest::CopyPrefix { from, to, len, crc } => {
                let id = self.id(from)?;
                self.recover(id);
                let content = self.files.get(&id).map(|content| content.now.as_slice());
                let prefix = usize::try_from(*len).ok().and_then(|len| content?.get(..len));
                let prefix = prefix.filter(|prefix| crc32c::crc32c(prefix) == *crc);
                let Some(prefix) = prefix.map(<[u8]>::to_vec) else {
                    return Err(error(from, "not what was written", IoErrorKind::Damaged));
                };
                self.append_to(to, 0, &prefix)?;
                let id = self.id(to)?;
                self.files.entry(id).or_default().sync();
                Ok(())
            }
            IoRequest::Publish { from, to } => self.close_and_publish(from, to),
            IoRequest::Remove { path } => {
                let key = self.leases().key(path);
                self.leases().writers.remove(&key);
                if let Some(id) = self.names.remove(path) {
                    self.leases().open.remove(&id);
                }
                Ok(())
            }
            IoRequest::Print { .. } | IoRequest::Call { .. } => self.perform_locally(request),
        }
    }

    fn append_to(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        if offset == 0 {
            // In the place of one of that name, whose writer is fenced.
            if let Some(id) = self.names.get(path).copied() {
                self.leases().open.remove(&id);
            }
            let id = self.create(path);
            let key = self.leases().key(path);
            self.leases().open.insert(id);
            self.leases().writers.insert(key, id);
        }
        let id = self.leases().writer(path).ok_or_else(|| given_up(path))?;
        if !self.leases().is_open(id) {
            // What is handed over waits in the writer: it is not yet known to be fenced.
            return Ok(());
        }
        let content = self.files.entry(id).or_default();
        if content.now.len() as u64 != offset {
            return Err(error(path, "another length was written", IoErrorKind::Damaged));
        }
        content.now.extend_from_slice(bytes);
        Ok(())
    }

    /// Ends all writing to a file that is open.
    fn recover(&mut self, id: u64) {
        if !self.leases().open.remove(&id) {
            return;
        }
        let Some(content) = self.files.get_mut(&id) else { return };
        let tail = (content.now.len() - content.synced.len()) as u64;
        let kept = content.synced.len() + self.random.below(tail + 1) as usize;
        content.now.truncate(kept);
        content.sync();
    }

    fn close_and_publish(&mut self, from: &str, to: &str) -> Result<(), IoError> {
        let key = self.leases().key(from);
        let own = self.leases().writers.remove(&key);
        let Some(id) = self.names.get(from).copied() else {
            return if self.names.contains_key(to) { Ok(()) } else { Err(missing(from)) };
        };
        if own == Some(id) && self.leases().open.remove(&id) {
            self.files.entry(id).or_default().sync();
        }
        self.recover(id);
        if self.names.contains_key(to) {
            return Err(error(to, "a file of this name exists", IoErrorKind::Other));
        }
        self.names.remove(from);
        self.names.insert(to.to_owned(), id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gear_core::api::Files as _;

    use super::*;

    fn write(path: &str, offset: u64, bytes: &[u8]) -> IoRequest {
        IoRequest::Write { path: path.to_owned(), offset, bytes: bytes.to_vec() }
    }

    fn sync(path: &str) -> IoRequest {
        IoRequest::Sync { path: path.to_owned() }
    }

    fn copy(from: &str, to: &str, bytes: &[u8]) -> IoRequest {
        let (len, crc) = (bytes.len() as u64, crc32c::crc32c(bytes));
        IoRequest::CopyPrefix { from: from.to_owned(), to: to.to_owned(), len, crc }
    }

    fn publish(from: &str, to: &str) -> IoRequest {
        IoRequest::Publish { from: from.to_owned(), to: to.to_owned() }
    }

    #[test]
    fn an_open_file_cannot_be_read_and_a_recovered_one_may_have_a_tail() {
        let mut lengths = BTreeSet::new();
        for seed in 0..50 {
            let mut disk = ModelDisk::hdfs(seed);
            disk.perform(&write("a", 0, b"synced")).unwrap();
            disk.perform(&sync("a")).unwrap();
            disk.perform(&write("a", 6, b"tail")).unwrap();
            assert_eq!(disk.stat("a").unwrap().len, 6);
            assert_eq!(disk.read_at("a", 0, &mut [0; 10]).unwrap(), 0);
            disk.crash();
            disk.perform(&copy("a", "b", b"synced")).unwrap();
            lengths.insert(disk.stat("a").unwrap().len);
            assert!(disk.read_at("a", 0, &mut [0; 10]).unwrap() >= 6);
        }
        assert_eq!(lengths, (6..=10).collect());
    }

    #[test]
    fn a_writer_that_was_fenced_hears_of_it_with_its_next_sync() {
        let mut disk = ModelDisk::hdfs(1);
        disk.perform(&write("a", 0, b"synced")).unwrap();
        disk.perform(&sync("a")).unwrap();
        let zombie = disk.process();
        disk.crash();
        disk.perform(&copy("a", "b", b"synced")).unwrap();
        disk.perform_as(zombie, &write("a", 6, b"more")).unwrap();
        let error = disk.perform_as(zombie, &sync("a")).unwrap_err();
        assert_eq!(error.kind, IoErrorKind::Unavailable);
        assert_eq!(disk.content("a"), Some(&b"synced"[..]));
        disk.perform(&publish("b", "c")).unwrap();
        assert_eq!(disk.perform_as(zombie, &publish("b", "c")), Ok(()));
    }

    #[test]
    fn an_answer_can_be_lost_and_nobody_may_answer() {
        let mut disk = ModelDisk::hdfs(1);
        disk.perform(&write("a", 0, b"x")).unwrap();
        disk.lose_answer_in(0);
        let lost = disk.perform(&publish("a", "b")).unwrap_err();
        assert_eq!((lost.kind, disk.content("b")), (IoErrorKind::Unavailable, Some(&b"x"[..])));
        disk.perform(&publish("a", "b")).unwrap();
        disk.set_available(false);
        assert_eq!(disk.stat("b").unwrap_err().kind, IoErrorKind::Unavailable);
        assert!(disk.perform(&sync("b")).is_err());
        disk.set_available(true);
        assert_eq!(disk.stat("b").unwrap().len, 1);
    }
}
