//! The drivers of connectors' I/O on the operating system's files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use gear_core::api::{FileInfo, Files};
use gear_core::effect::{IoError, IoErrorKind, IoRequest};

use crate::random::mix;

/// Files that are kept open: far below the usual limit of 1,024 a process, for several executors.
pub const OPEN_FILES_MAX: usize = 64;
/// Bytes copied at once when a file's prefix is kept.
const COPY_BYTES: usize = 256 * 1_024;
/// Most files that one pattern may stand for: their positions have to fit into an epoch's record.
pub const LISTED_FILES_MAX: usize = 1_000_000;

/// The operating system's files, for sources.
///
/// `read_at` reads the file that the last `stat` of its path saw, also when another has taken its
/// name since; if that one is no longer open, it is not found.
#[derive(Debug, Default)]
pub struct OsFiles {
    open: Handles,
    /// What `stat` last saw, at most [`LISTED_FILES_MAX`] by what a source lists.
    seen: BTreeMap<String, u64>,
    #[cfg(feature = "kafka")]
    kafka: crate::kafka::driver::Offer,
}

/// Performs what sinks ask for, in the order in which it is called.
#[derive(Debug, Default)]
pub struct IoPerformer {
    open: Handles,
    /// Staged files whose names are known to be durable: their folder need not be synced again at
    /// every barrier.
    named: BTreeSet<String>,
}

/// Open files by path; the one that was not used for longest makes room.
#[derive(Debug, Default)]
struct Handles {
    files: BTreeMap<String, (File, u64)>,
    uses: u64,
}

impl Handles {
    fn get(&mut self, path: &str, open: impl FnOnce() -> io::Result<File>) -> io::Result<&File> {
        self.uses += 1;
        if !self.files.contains_key(path) {
            let file = open()?;
            self.insert(path, file);
        }
        let entry = self.files.get_mut(path).expect("it is there or was put there");
        entry.1 = self.uses;
        Ok(&entry.0)
    }

    fn insert(&mut self, path: &str, file: File) {
        if self.files.len() >= OPEN_FILES_MAX {
            let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(path) = oldest.map(|(path, _)| path.clone()) {
                self.files.remove(&path);
            }
        }
        self.files.insert(path.to_owned(), (file, self.uses));
    }

    fn forget(&mut self, path: &str) {
        self.files.remove(path);
    }
}

impl Files for OsFiles {
    fn list(&mut self, pattern: &str) -> Result<Vec<FileInfo>, IoError> {
        let mut paths = Vec::new();
        match fs::metadata(pattern) {
            Ok(metadata) if metadata.is_dir() => walk(Path::new(pattern), &mut paths)?,
            Ok(_) => paths.push(PathBuf::from(pattern)),
            Err(error) if !is_glob(pattern) => return Err(failed(pattern, &error)),
            Err(_) => expand(pattern, &mut paths)?,
        }
        paths.sort();
        paths.dedup();
        paths.iter().map(|path| info(utf8(path)?)).collect()
    }

    fn stat(&mut self, path: &str) -> Result<FileInfo, IoError> {
        let info = info(path)?;
        let stale = self.open.files.get(path).is_some_and(|(file, _)| {
            file.metadata().map(|metadata| identity(&metadata)).ok() != Some(info.identity)
        });
        if stale {
            self.open.forget(path);
        }
        match self.seen.get_mut(path) {
            Some(seen) => *seen = info.identity,
            None => {
                self.seen.insert(path.to_owned(), info.identity);
            }
        }
        Ok(info)
    }

    fn read_at(&mut self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        let seen = self.seen.get(path);
        let file = self.open.get(path, || {
            let file = File::open(path)?;
            let same = seen.is_none_or(|seen| {
                file.metadata().is_ok_and(|metadata| identity(&metadata) == *seen)
            });
            if same { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
        });
        let file = file.map_err(|error| failed(path, &error))?;
        loop {
            match file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(|error| failed(path, &error)),
            }
        }
    }

    #[cfg(feature = "kafka")]
    fn service(&mut self, kind: &str) -> Option<&mut dyn std::any::Any> {
        (kind == crate::kafka::CONSUMERS).then(|| self.kafka.consumers())
    }
}

fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// All regular files below a folder.
fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), IoError> {
    let failed = |error: &io::Error| failed(&folder.to_string_lossy(), error);
    for entry in fs::read_dir(folder).map_err(|error| failed(&error))? {
        let entry = entry.map_err(|error| failed(&error))?;
        let kind = entry.file_type().map_err(|error| failed(&error))?;
        // A link to a folder is not followed, since it may lead back here.
        if kind.is_dir() {
            walk(&entry.path(), paths)?;
        } else if kind.is_file() || entry.path().is_file() {
            push(entry.path(), paths)?;
        }
    }
    Ok(())
}

fn expand(pattern: &str, paths: &mut Vec<PathBuf>) -> Result<(), IoError> {
    let wrong = |reason: String, kind| IoError { path: pattern.to_owned(), reason, kind };
    let found = glob::glob(pattern).map_err(|error| {
        wrong(
            format!("the pattern is wrong: {error}; quote special characters as `[*]`"),
            IoErrorKind::Other,
        )
    })?;
    for path in found {
        let path = path.map_err(|error| failed(&error.path().to_string_lossy(), error.error()))?;
        if path.is_dir() {
            walk(&path, paths)?;
        } else if path.is_file() {
            push(path, paths)?;
        }
    }
    if paths.is_empty() {
        let folder = std::env::current_dir().unwrap_or_default();
        let reason = format!(
            "no file matches the pattern; check it, and whether it is meant to begin at {}, where \
             this process runs",
            folder.display()
        );
        return Err(wrong(reason, IoErrorKind::NotFound));
    }
    Ok(())
}

fn push(path: PathBuf, paths: &mut Vec<PathBuf>) -> Result<(), IoError> {
    if paths.len() >= LISTED_FILES_MAX {
        return Err(IoError {
            path: path.to_string_lossy().into_owned(),
            reason: format!("there are more than {LISTED_FILES_MAX} files; name fewer at once"),
            kind: IoErrorKind::Other,
        });
    }
    paths.push(path);
    Ok(())
}

fn utf8(path: &Path) -> Result<&str, IoError> {
    path.to_str().ok_or_else(|| IoError {
        path: path.to_string_lossy().into_owned(),
        reason: "the file's name is not UTF-8; rename it".to_owned(),
        kind: IoErrorKind::Other,
    })
}

fn info(path: &str) -> Result<FileInfo, IoError> {
    let metadata = fs::metadata(path).map_err(|error| failed(path, &error))?;
    if !metadata.is_file() {
        return Err(IoError {
            path: path.to_owned(),
            reason: "it is not a regular file, so it has no positions to return to; read it as \
                     standard input instead"
                .to_owned(),
            kind: IoErrorKind::Other,
        });
    }
    let (len, identity) = (metadata.len(), identity(&metadata));
    Ok(FileInfo { path: path.to_owned(), len, identity, version: 0 })
}

/// Device and inode, and when it was created: an inode is soon used again.
fn identity(metadata: &Metadata) -> u64 {
    let created = metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let created = created.map_or(0, |span| span.as_nanos() as u64);
    mix(mix(mix(metadata.dev()) ^ metadata.ino()) ^ created)
}

fn failed(path: &str, error: &io::Error) -> IoError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => IoErrorKind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => IoErrorKind::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => IoErrorKind::Full,
        _ => IoErrorKind::Other,
    };
    let mut reason = error.to_string();
    if kind == IoErrorKind::NotFound
        && Path::new(path).is_relative()
        && let Ok(folder) = std::env::current_dir()
    {
        // On a cluster this is not the folder of whoever wrote the path.
        reason.push_str(&format!(" in {}, where this process runs", folder.display()));
    }
    IoError { path: path.to_owned(), reason, kind }
}

fn damaged(path: &str, reason: String) -> IoError {
    IoError { path: path.to_owned(), reason, kind: IoErrorKind::Damaged }
}

/// Performs one request without keeping files open.
///
/// # Errors
/// [`IoError`]; whether the request took effect is then unknown.
pub fn perform(request: &IoRequest) -> Result<(), IoError> {
    IoPerformer::default().perform(request)
}

impl IoPerformer {
    /// Performs one request.
    ///
    /// # Errors
    /// [`IoError`]; whether the request took effect is then unknown.
    pub fn perform(&mut self, request: &IoRequest) -> Result<(), IoError> {
        match request {
            IoRequest::Write { path, offset, bytes } => self.write(path, *offset, bytes),
            IoRequest::Sync { path } => self.sync(path),
            IoRequest::CopyPrefix { from, to, len, crc } => {
                self.forget(to);
                let result = copy_prefix(from, to, *len, *crc);
                result.and_then(|()| sync_parent(to))
            }
            IoRequest::Publish { from, to } => {
                self.forget(from);
                publish(from, to)
            }
            IoRequest::Remove { path } => {
                self.forget(path);
                match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(failed(path, &error))
                    }
                    _ => Ok(()),
                }
            }
            IoRequest::Print { bytes } => {
                let mut out = io::stdout().lock();
                let result = out.write_all(bytes).and_then(|()| out.flush());
                result.map_err(|error| failed("standard output", &error))
            }
            IoRequest::Call { service, .. } => Err(crate::services::missing(service)),
        }
    }

    fn write(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        if offset == 0 {
            self.forget(path);
            let file = create(path)?;
            self.open.insert(path, file);
        }
        let file = self.open.get(path, || OpenOptions::new().write(true).read(true).open(path));
        let file = file.map_err(|error| failed(path, &error))?;
        if offset > 0 {
            let len = file.metadata().map_err(|error| failed(path, &error))?.len();
            if len < offset {
                let reason = format!("the file has {len} bytes, and {offset} were written");
                return Err(damaged(path, reason));
            }
        }
        file.write_all_at(bytes, offset).map_err(|error| failed(path, &error))
    }

    fn sync(&mut self, path: &str) -> Result<(), IoError> {
        let file = self.open.get(path, || OpenOptions::new().write(true).open(path));
        let result = file.and_then(File::sync_data);
        result.map_err(|error| failed(path, &error))?;
        if !self.named.contains(path) {
            sync_parent(path)?;
            self.named.insert(path.to_owned());
        }
        Ok(())
    }

    /// The name stands for another file from now on, or for none.
    fn forget(&mut self, path: &str) {
        self.open.forget(path);
        self.named.remove(path);
    }
}

/// An empty file, and the folders above it.
fn create(path: &str) -> Result<File, IoError> {
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
    let file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_parent(path)?;
            open()
        }
        other => other,
    };
    file.map_err(|error| failed(path, &error))
}

/// Makes the folders above a file, durably.
fn create_parent(path: &str) -> Result<(), IoError> {
    let parent = parent(path);
    let missing: Vec<&Path> = parent.ancestors().take_while(|it| !it.exists()).collect();
    fs::create_dir_all(parent).map_err(|error| failed(&parent.to_string_lossy(), &error))?;
    for folder in missing {
        if let Some(above) = folder.to_str() {
            sync_parent(above)?;
        }
    }
    Ok(())
}

fn parent(path: &str) -> &Path {
    match Path::new(path).parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn sync_parent(path: &str) -> Result<(), IoError> {
    let folder = parent(path);
    let result = File::open(folder).and_then(|folder| folder.sync_all());
    result.map_err(|error| failed(&folder.to_string_lossy(), &error))
}

fn copy_prefix(from: &str, to: &str, len: u64, crc: u32) -> Result<(), IoError> {
    let source = File::open(from).map_err(|error| failed(from, &error))?;
    let mut source = source.take(len);
    let mut target = create(to)?;
    let mut buffer = vec![0; COPY_BYTES];
    let (mut found, mut copied) = (0, 0);
    loop {
        let read = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(from, &error)),
        };
        target.write_all(&buffer[..read]).map_err(|error| failed(to, &error))?;
        found = crc32c::crc32c_append(found, &buffer[..read]);
        copied += read as u64;
    }
    if copied != len || found != crc {
        let reason = format!("the first {len} bytes are not those that were written");
        return Err(damaged(from, reason));
    }
    target.sync_all().map_err(|error| failed(to, &error))
}

fn publish(from: &str, to: &str) -> Result<(), IoError> {
    let source = match fs::symlink_metadata(from) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Done before, unless the visible file is missing too.
            fs::symlink_metadata(to).map_err(|_| failed(from, &error))?;
            return sync_parent(to);
        }
        Err(error) => return Err(failed(from, &error)),
    };
    // A rename would replace a file of that name, which is somebody else's; a link does not.
    match fs::hard_link(from, to) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let target = fs::symlink_metadata(to).map_err(|error| failed(to, &error))?;
            if (target.dev(), target.ino()) != (source.dev(), source.ino()) {
                let reason = "a file of this name exists that this job did not write; move it away";
                return Err(IoError {
                    path: to.to_owned(),
                    reason: reason.to_owned(),
                    kind: IoErrorKind::Other,
                });
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_parent(to)?;
            fs::hard_link(from, to).map_err(|error| failed(to, &error))?;
        }
        // A file system without hard links.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
            ) && !Path::new(to).exists() =>
        {
            fs::rename(from, to).map_err(|error| failed(to, &error))?;
        }
        Err(error) => return Err(failed(to, &error)),
    }
    sync_parent(to)?;
    match fs::remove_file(from) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(from, &error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
