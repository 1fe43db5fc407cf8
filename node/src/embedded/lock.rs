//! One process at a time on a state folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::RunError;

/// How long a process that is about to end may still hold the folder.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Time between two looks.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Time between two looks of a process that took the folder over.
const HEIR_POLL: Duration = Duration::from_millis(200);

/// Holds a state folder until it is dropped, or the process is gone however it went.
pub(crate) struct StateLock {
    _file: Arc<File>,
}

impl StateLock {
    /// Takes the folder. One that another process holds is refused by that process's number, or
    /// with `take_over` used all the same: the commit log then fences the other off.
    pub(crate) fn take(folder: &Path, take_over: bool) -> Result<Self, RunError> {
        let unusable = |error: std::io::Error| RunError::StateFolder {
            folder: folder.into(),
            reason: error.to_string(),
        };
        std::fs::create_dir_all(folder).map_err(unusable)?;
        let path: PathBuf = folder.join("lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(unusable)?;
        let locked = if take_over { file.try_lock() } else { patiently(&file) };
        match locked {
            Ok(()) => {
                sign(&file).map_err(unusable)?;
                Ok(Self { _file: Arc::new(file) })
            }
            Err(TryLockError::WouldBlock) if take_over => {
                let file = Arc::new(file);
                inherit(Arc::downgrade(&file)).map_err(unusable)?;
                Ok(Self { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(unusable)?;
                Err(RunError::InUse { folder: folder.into(), holder })
            }
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }
}

/// Says who holds the folder.
fn sign(mut file: &File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())
}

/// Takes the lock when the process that was fenced off has gone, so that a third is refused.
fn inherit(file: Weak<File>) -> std::io::Result<()> {
    let wait = move || {
        while let Some(file) = file.upgrade() {
            match file.try_lock() {
                Ok(()) => {
                    // Whose lock it is is for people only.
                    let _ = sign(&file);
                    return;
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(_)) => return,
            }
            drop(file);
            std::thread::sleep(HEIR_POLL);
        }
    };
    std::thread::Builder::new().name("gear-lock".into()).spawn(wait).map(drop)
}

fn patiently(file: &File) -> Result<(), TryLockError> {
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(LOCK_POLL);
            }
            other => return other,
        }
    }
}
