//! Reading files, behind a trait: the operating system's in production, a model in a simulator.

use alloc::string::String;
use alloc::vec::Vec;
use core::any::Any;

use crate::effect::IoError;

/// What a source may read.
pub trait Files {
    /// The files that a path, a folder or a glob stands for, in order of their names.
    ///
    /// # Errors
    /// [`IoError`] if there is none, or if it cannot be listed.
    fn list(&mut self, pattern: &str) -> Result<Vec<FileInfo>, IoError>;

    /// What a file is now.
    ///
    /// # Errors
    /// [`IoError`] if it is gone or may not be read; [`crate::effect::IoErrorKind::Unavailable`] if
    /// it is worth asking again.
    fn stat(&mut self, path: &str) -> Result<FileInfo, IoError>;

    /// Reads at most `buffer.len()` bytes at `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// [`IoError`] if it is gone or cannot be read; [`crate::effect::IoErrorKind::Unavailable`] if
    /// it is worth asking again.
    fn read_at(&mut self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError>;

    /// The most records that a source reads before others get their turn. A simulator spreads an
    /// input over time with it.
    fn records_per_turn(&self) -> usize {
        usize::MAX
    }

    /// What the driver has beside files, by the name and with the type that a connector gives it:
    /// clients of other systems, of which the core need not know any.
    fn service(&mut self, kind: &str) -> Option<&mut dyn Any> {
        let _ = kind;
        None
    }
}

/// A file, as a position names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its path.
    pub path: String,
    /// Its length in bytes.
    pub len: u64,
    /// What stays the same while the file grows and changes when another takes its name.
    pub identity: u64,
    /// For a file that is read as it was at the start: changes with the file's content where no
    /// identity can be told; always 0 elsewhere.
    pub version: u64,
}
