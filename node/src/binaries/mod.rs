//! Jobs' binaries, each under the hash of its content: what was not what it is called is not run.

mod elf;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

pub use elf::ElfError;

#[cfg(test)]
mod tests;

/// Most bytes of a binary: debug builds with all their symbols stay below.
pub const BINARY_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a hash.
const HASH_BYTES: usize = 32;
/// Bytes that are read at once.
const READ_BYTES: usize = 128 * 1_024;

/// Why a binary cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// What names it is no hash.
    #[error("a binary is named by the {HASH_BYTES} bytes of its SHA-256, not by {0} bytes")]
    Name(usize),
    /// It is too long.
    #[error("the binary has more than {BINARY_BYTES_MAX} bytes: strip its symbols")]
    TooLong,
    /// The operating system does not let us.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// There is no room for it.
    #[error("{}: {error}; make room on this node's disk and submit again", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// It is not what it is called.
    #[error("the binary {wanted} is damaged: its content is that of {found}; submit it again")]
    Damaged {
        /// What it is called.
        wanted: String,
        /// What it is.
        found: String,
    },
    /// It cannot be run on this machine.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// Nobody has it.
    #[error("the binary {name} is not on this node, and cannot be fetched: {reason}")]
    Missing {
        /// The binary.
        name: String,
        /// Why not.
        reason: String,
    },
}

impl BinaryError {
    /// What the operating system said of a file.
    fn of(path: &Path, error: io::Error) -> Self {
        let path = path.into();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path, error },
            _ => Self::Io { path, error },
        }
    }
}

/// Where binaries come from that are not here.
#[async_trait]
pub trait BinarySource: Send + Sync + 'static {
    /// Writes the binary of this name, from a node that has it.
    ///
    /// # Errors
    /// Why it cannot be had, for the user.
    async fn fetch(&self, name: &str, into: &mut Upload) -> Result<(), String>;
}

/// A binary whose content was found to be what it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    bytes: u64,
    changed: SystemTime,
    inode: u64,
}

struct Shared {
    folder: PathBuf,
    source: OnceLock<Arc<dyn BinarySource>>,
    /// Files that need not be read again while they are as they were.
    seen: Mutex<BTreeMap<String, Seen>>,
    uploads: AtomicU64,
    /// One fetch at a time: several processes of one app start together.
    fetching: tokio::sync::Mutex<()>,
}

/// The binaries of a node.
#[derive(Clone)]
pub struct Binaries(Arc<Shared>);

impl Binaries {
    /// The binaries in a folder, which is there. What an upload has left that was cut short is
    /// removed.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(".upload-") {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self(Arc::new(Shared {
            folder,
            source: OnceLock::new(),
            seen: Mutex::default(),
            uploads: AtomicU64::new(0),
            fetching: tokio::sync::Mutex::default(),
        })))
    }

    /// Has binaries that are not here fetched from there, from now on.
    pub fn set_source(&self, source: Arc<dyn BinarySource>) {
        // The first one stays: there is one per node.
        let _ = self.0.source.set(source);
    }

    /// What a binary is called by people: its hash in hexadecimal digits.
    #[must_use]
    pub fn name(hash: &[u8]) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The path under which a binary of this name stands here; none if it does not, or the name is
    /// none of a binary.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if name.len() != 2 * HASH_BYTES || !name.bytes().all(digits) {
            return None;
        }
        let path = self.0.folder.join(name);
        path.is_file().then_some(path)
    }

    /// Begins to take a binary.
    ///
    /// # Errors
    /// If there is no place for it.
    pub fn upload(&self) -> Result<Upload, BinaryError> {
        let number = self.0.uploads.fetch_add(1, Ordering::Relaxed);
        let path = self.0.folder.join(format!(".upload-{number}"));
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o755).open(&path);
        let file = file.map_err(|error| BinaryError::of(&path, error))?;
        let binaries = self.clone();
        Ok(Upload { binaries, path, file: Some(file), hasher: Sha256::new(), bytes: 0 })
    }

    /// The path of a binary by its hash, read and found to be what it is called; fetched if it is
    /// not here.
    ///
    /// # Errors
    /// [`BinaryError`], for the user.
    pub async fn get(&self, hash: &[u8]) -> Result<PathBuf, BinaryError> {
        if hash.len() != HASH_BYTES {
            return Err(BinaryError::Name(hash.len()));
        }
        let name = Self::name(hash);
        let _alone = self.0.fetching.lock().await;
        if self.path(&name).is_none() {
            self.fetch(&name).await?;
        }
        let (this, wanted) = (self.clone(), name.clone());
        let checking = tokio::task::spawn_blocking(move || this.check(&wanted));
        checking.await.map_err(|error| {
            let error = io::Error::other(error);
            BinaryError::Io { path: self.0.folder.join(name), error }
        })?
    }

    async fn fetch(&self, name: &str) -> Result<(), BinaryError> {
        let missing = |reason: String| BinaryError::Missing { name: name.into(), reason };
        let source = self.0.source.get();
        let source = source.ok_or_else(|| missing("no other node is known to have it".into()))?;
        let mut upload = self.upload()?;
        source.fetch(name, &mut upload).await.map_err(missing)?;
        let found = Self::name(&upload.finish()?);
        if found == name {
            Ok(())
        } else {
            Err(BinaryError::Damaged { wanted: name.into(), found })
        }
    }

    /// Reads a binary unless it is as it was when it was read last.
    fn check(&self, name: &str) -> Result<PathBuf, BinaryError> {
        let path = self.0.folder.join(name);
        let failed = |error: io::Error| BinaryError::Io { path: path.clone(), error };
        let mut file = File::open(&path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        let changed = about.modified().map_err(failed)?;
        let seen = Seen { bytes: about.len(), changed, inode: about.ino() };
        let known = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        if known == Some(seen) {
            return Ok(path);
        }
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                bytes => hasher.update(&buffer[..bytes]),
            }
        }
        let found = Self::name(&hasher.finalize());
        if found != name {
            // It would stand in the way of an intact one.
            fs::remove_file(&path).map_err(failed)?;
            return Err(BinaryError::Damaged { wanted: name.into(), found });
        }
        elf::check(&path)?;
        let mut seen_ones = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen_ones.insert(name.into(), seen);
        Ok(path)
    }
}

/// A binary that is being taken; dropped before it is finished, nothing of it stays.
pub struct Upload {
    binaries: Binaries,
    path: PathBuf,
    file: Option<File>,
    hasher: Sha256,
    bytes: u64,
}

impl Upload {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// If they are too many, or there is no room for them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BinaryError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > BINARY_BYTES_MAX {
            return Err(BinaryError::TooLong);
        }
        self.hasher.update(bytes);
        let file = self.file.as_mut().expect("it is there until the end");
        file.write_all(bytes).map_err(|error| BinaryError::of(&self.path, error))
    }

    /// That was all of it: checks it, and keeps it under its hash, which it gives.
    ///
    /// # Errors
    /// If it cannot be run on this machine, or not be kept.
    pub fn finish(mut self) -> Result<Vec<u8>, BinaryError> {
        let path = self.path.clone();
        let failed = |error: io::Error| BinaryError::of(&path, error);
        if let Some(file) = self.file.take() {
            file.sync_all().map_err(failed)?;
        }
        elf::check(&path)?;
        let hash = std::mem::take(&mut self.hasher).finalize().to_vec();
        let folder: &Path = &self.binaries.0.folder;
        let kept = folder.join(Binaries::name(&hash));
        fs::rename(&path, kept).map_err(failed)?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(hash)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // A finished one has another name by now.
        let _ = fs::remove_file(&self.path);
    }
}
