//! A disk that forgets what was not synced when the power goes.

use std::collections::BTreeMap;

use gear_core::effect::{IoError, IoErrorKind, IoRequest};

use crate::random::Random;

/// Files by name, what of them is durable, and which renames are settled.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: BTreeMap<u64, File>,
    next: u64,
    /// The names as a reader sees them now.
    names: BTreeMap<String, u64>,
    /// The names that would survive.
    durable: BTreeMap<String, u64>,
    /// Renames and removals that were performed and not yet answered: durable or not, by chance.
    unsettled: Vec<(u64, Change)>,
    changes: u64,
}

#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Change {
    Rename { from: String, to: String, file: u64 },
    Remove { path: String, file: u64 },
}

impl Disk {
    /// Performs a request. The number names it for [`Self::settle`].
    ///
    /// # Errors
    /// As a file system would refuse it.
    pub fn perform(&mut self, request: &IoRequest) -> Result<u64, IoError> {
        self.changes += 1;
        match request {
            IoRequest::Write { path, offset, bytes } => self.write(path, *offset, bytes)?,
            IoRequest::Sync { path } => {
                let file = self.names.get(path).copied().ok_or_else(|| missing(path))?;
                self.sync(path, file);
            }
            IoRequest::CopyPrefix { from, to, len, crc } => self.copy(from, to, *len, *crc)?,
            IoRequest::Publish { from, to } => self.publish(from, to)?,
            IoRequest::Remove { path } => {
                if let Some(file) = self.names.remove(path) {
                    let change = Change::Remove { path: path.clone(), file };
                    self.unsettled.push((self.changes, change));
                }
            }
            IoRequest::Print { .. } => {}
            IoRequest::Call { service, .. } => {
                let reason = "the simulator has no such server";
                return Err(error(service, reason, IoErrorKind::Other));
            }
        }
        Ok(self.changes)
    }

    /// The request is about to be answered: what it did is durable.
    pub fn settle(&mut self, change: u64) {
        let Some(place) = self.unsettled.iter().position(|(number, _)| *number == change) else {
            return;
        };
        let (_, change) = self.unsettled.remove(place);
        self.make_durable(&change);
    }

    fn make_durable(&mut self, change: &Change) {
        match change {
            Change::Rename { from, to, file } => {
                if self.durable.get(from) == Some(file) {
                    self.durable.remove(from);
                }
                self.durable.insert(to.clone(), *file);
            }
            Change::Remove { path, file } => {
                if self.durable.get(path) == Some(file) {
                    self.durable.remove(path);
                }
            }
        }
    }

    fn write(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        if offset == 0 {
            let number = self.create(path);
            self.file(number).bytes.extend_from_slice(bytes);
            return Ok(());
        }
        let number = self.names.get(path).copied().ok_or_else(|| missing(path))?;
        let file = self.file(number);
        let offset = offset as usize;
        if file.bytes.len() < offset {
            return Err(error(
                path,
                "is shorter than where it is to be written",
                IoErrorKind::Other,
            ));
        }
        file.bytes.truncate(offset);
        file.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn create(&mut self, path: &str) -> u64 {
        let number = self.next;
        self.next += 1;
        self.files.insert(number, File::default());
        self.names.insert(path.to_owned(), number);
        number
    }

    fn file(&mut self, number: u64) -> &mut File {
        self.files.get_mut(&number).expect("a name means a file")
    }

    fn sync(&mut self, path: &str, number: u64) {
        let file = self.file(number);
        file.synced.clone_from(&file.bytes);
        self.durable.insert(path.to_owned(), number);
    }

    fn copy(&mut self, from: &str, to: &str, len: u64, crc: u32) -> Result<(), IoError> {
        let number = self.names.get(from).copied().ok_or_else(|| missing(from))?;
        let prefix = self.file(number).bytes.get(..len as usize).map(<[u8]>::to_vec);
        let prefix = prefix.filter(|prefix| crc32c::crc32c(prefix) == crc);
        let Some(prefix) = prefix else {
            return Err(error(from, "is not what was written", IoErrorKind::Damaged));
        };
        let copy = self.create(to);
        self.file(copy).bytes = prefix;
        self.sync(to, copy);
        Ok(())
    }

    fn publish(&mut self, from: &str, to: &str) -> Result<(), IoError> {
        // Done before by somebody who may not have lived to make it durable: we do.
        let number = self.names.remove(from).or_else(|| self.names.get(to).copied());
        let number = number.ok_or_else(|| missing(from))?;
        self.names.insert(to.to_owned(), number);
        let change = Change::Rename { from: from.to_owned(), to: to.to_owned(), file: number };
        self.unsettled.push((self.changes, change));
        Ok(())
    }

    /// The power goes: of what was not synced a part survives, by chance. Gives what was lost.
    pub fn lose_power(&mut self, random: &mut Random) -> Lost {
        let mut lost = Lost::default();
        let kept = random.place(self.unsettled.len() + 1);
        let unsettled = std::mem::take(&mut self.unsettled);
        lost.renames = (unsettled.len() - kept) as u64;
        for (_, change) in &unsettled[..kept] {
            self.make_durable(change);
        }
        // A name that was never synced may have reached the disk all the same.
        for (path, number) in &self.names {
            if !self.durable.contains_key(path) && !self.durable.values().any(|it| it == number) {
                if random.permille(500) {
                    self.durable.insert(path.clone(), *number);
                } else {
                    lost.names += 1;
                }
            }
        }
        self.names.clone_from(&self.durable);
        for file in self.files.values_mut() {
            if file.bytes == file.synced {
                continue;
            }
            if file.bytes.starts_with(&file.synced) {
                let more = file.bytes.len() - file.synced.len();
                let kept = random.place(more + 1);
                lost.bytes += (more - kept) as u64;
                file.bytes.truncate(file.synced.len() + kept);
            } else {
                file.bytes.clone_from(&file.synced);
            }
            file.synced.clone_from(&file.bytes);
        }
        lost
    }

    /// The files below a folder, by name.
    pub fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let below = self.names.iter().filter(move |(path, _)| path.starts_with(folder));
        below.map(|(path, number)| (path.as_str(), self.files[number].bytes.as_slice()))
    }
}

/// What a loss of power took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Bytes that were written and not synced.
    pub bytes: u64,
    /// Files that were created and never synced.
    pub names: u64,
    /// Renames and removals that were not yet answered.
    pub renames: u64,
}

fn missing(path: &str) -> IoError {
    error(path, "there is no such file", IoErrorKind::NotFound)
}

fn error(path: &str, reason: &str, kind: IoErrorKind) -> IoError {
    IoError { path: path.to_owned(), reason: reason.to_owned(), kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &str, offset: u64, bytes: &[u8]) -> IoRequest {
        IoRequest::Write { path: path.into(), offset, bytes: bytes.into() }
    }

    #[test]
    fn what_is_synced_and_settled_survives_and_nothing_else_has_to() {
        let mut lost = Lost::default();
        for seed in 0..50 {
            let mut disk = Disk::default();
            disk.perform(&write("a", 0, b"one")).unwrap();
            disk.perform(&IoRequest::Sync { path: "a".into() }).unwrap();
            disk.perform(&write("a", 3, b"two")).unwrap();
            disk.perform(&write("b", 0, b"never synced")).unwrap();
            let publish = IoRequest::Publish { from: "a".into(), to: "out/a".into() };
            let change = disk.perform(&publish).unwrap();
            if seed % 2 == 0 {
                disk.settle(change);
            }
            let this = disk.lose_power(&mut Random::new(seed));
            lost.bytes += this.bytes;
            lost.names += this.names;
            lost.renames += this.renames;
            let name = if disk.below("out/").next().is_some() { "out/a" } else { "a" };
            assert!(seed % 2 == 1 || name == "out/a", "a settled rename survives");
            let (_, bytes) = disk.below(name).next().expect("a synced file survives");
            assert!(bytes.starts_with(b"one") && b"onetwo".starts_with(bytes));
        }
        assert!(lost.bytes > 0 && lost.names > 0 && lost.renames > 0, "{lost:?}");
    }

    #[test]
    fn a_copy_is_checked_and_a_publication_can_be_repeated() {
        let mut disk = Disk::default();
        disk.perform(&write("a", 0, b"onetwo")).unwrap();
        let copy = |crc| IoRequest::CopyPrefix { from: "a".into(), to: "b".into(), len: 3, crc };
        assert_eq!(disk.perform(&copy(1)).unwrap_err().kind, IoErrorKind::Damaged);
        disk.perform(&copy(crc32c::crc32c(b"one"))).unwrap();
        let publish = IoRequest::Publish { from: "b".into(), to: "out/b".into() };
        disk.perform(&publish).unwrap();
        disk.perform(&publish).unwrap();
        assert_eq!(disk.below("out/").collect::<Vec<_>>(), [("out/b", b"one".as_slice())]);
        assert!(disk.perform(&IoRequest::Sync { path: "gone".into() }).is_err());
    }
}
