//! A node's own disk: what its master may not forget, in an embedded store that survives a crash.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gear_core::host::process::{DiskReply, DiskRequest};
use redb::{Builder, Database, DatabaseError, ReadableTable as _, StorageError, TableDefinition};
use tokio::task::spawn_blocking;

#[cfg(test)]
mod tests;

/// The one table: names and bytes.
const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("disk");
/// Bytes of pages that are kept in memory: a master reads its disk once, at its start.
const CACHE_BYTES: usize = 4 * 1_024 * 1_024;

/// Why a node's disk cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// It is not what was written.
    #[error(
        "the masters' state in {} is damaged: {reason}; put an intact copy of the file back, or, \
         if this cluster has other masters, remove the file, start the node and have \
         it readmitted with `gear-node voters --readmit NODE`", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process has it open.
    #[error("the masters' state in {} is open in another process: end that one first",
            path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The operating system does not let us.
    #[error("the masters' state in {} cannot be used: {error}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

/// What is done between the first write and its answer.
type FirstWrite = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// A node's disk.
pub(crate) struct NodeDisk {
    database: Arc<Database>,
    path: PathBuf,
    first_write: Option<FirstWrite>,
    /// Why a request failed: what came of it is unknown, so nothing later may take effect.
    broken: Option<String>,
}

impl NodeDisk {
    /// Opens the file, or makes an empty one. All of it is read and checked, so that a file that
    /// has changed is refused and not believed.
    pub(crate) fn open(path: &Path) -> Result<Self, DiskError> {
        let damaged = |reason: String| DiskError::Damaged { path: path.into(), reason };
        // The store asserts in debug builds what it reports in others.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = Builder::new()
                .set_cache_size(CACHE_BYTES)
                .set_check_integrity_on_open(true)
                .create(path)?;
            Ok(database)
        }));
        let database = match opened {
            Ok(Ok(database)) => database,
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
                return Err(DiskError::InUse { path: path.into() });
            }
            Ok(Err(DatabaseError::Storage(StorageError::Io(error))))
                if error.kind() != io::ErrorKind::InvalidData
                    && error.kind() != io::ErrorKind::UnexpectedEof =>
            {
                return Err(DiskError::Unusable { path: path.into(), error });
            }
            Ok(Err(error)) => return Err(damaged(error.to_string())),
            Err(_) => return Err(damaged("its pages contradict each other".into())),
        };
        let disk = Self {
            database: Arc::new(database),
            path: path.into(),
            first_write: None,
            broken: None,
        };
        // Whatever stands there can be read: or it is better to know now.
        load(&disk.database).map_err(damaged)?;
        Ok(disk)
    }

    /// Has this done before the first write is answered: what is durable then has begun.
    pub(crate) fn on_first_write(
        mut self,
        done: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.first_write = Some(Box::new(done));
        self
    }
}

impl gear_net::Disk for NodeDisk {
    async fn perform(&mut self, request: DiskRequest) -> DiskReply {
        if let Some(reason) = &self.broken {
            let reason = format!("nothing is written after a failure: {reason}");
            return DiskReply::Failed { reason };
        }
        let database = Arc::clone(&self.database);
        let first = match request {
            DiskRequest::Load => None,
            DiskRequest::Write { .. } => self.first_write.take(),
        };
        // A write waits for the disk, and the loop's thread has others to serve.
        let performed = spawn_blocking(move || {
            let reply = match request {
                DiskRequest::Load => DiskReply::Loaded { entries: load(&database)? },
                DiskRequest::Write { entries } => {
                    write(&database, entries)?;
                    DiskReply::Written
                }
            };
            if let Some(first) = first {
                first().map_err(|error| error.to_string())?;
            }
            Ok(reply)
        });
        let reason = match performed.await {
            Ok(Ok(reply)) => return reply,
            Ok(Err(reason)) => reason,
            Err(error) => error.to_string(),
        };
        let reason = format!(
            "{}: {reason}; make room or mend the disk, then start the node again",
            self.path.display()
        );
        self.broken = Some(reason.clone());
        DiskReply::Failed { reason }
    }
}

fn load(database: &Database) -> Result<Vec<(String, Vec<u8>)>, String> {
    use redb::{ReadableDatabase as _, TableError};

    let text = |error: &dyn std::error::Error| error.to_string();
    let transaction = database.begin_read().map_err(|error| text(&error))?;
    let table = match transaction.open_table(TABLE) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(text(&error)),
    };
    let mut entries = Vec::new();
    for entry in table.iter().map_err(|error| text(&error))? {
        let (name, value) = entry.map_err(|error| text(&error))?;
        entries.push((name.value().to_owned(), value.value().to_owned()));
    }
    Ok(entries)
}

/// All or nothing, and durable when it is back: redb syncs each commit.
fn write(database: &Database, entries: Vec<(String, Option<Vec<u8>>)>) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let transaction = database.begin_write().map_err(|error| text(&error))?;
    {
        let mut table = transaction.open_table(TABLE).map_err(|error| text(&error))?;
        for (name, value) in entries {
            let changed = match value {
                Some(value) => table.insert(name.as_str(), value.as_slice()).map(drop),
                None => table.remove(name.as_str()).map(drop),
            };
            changed.map_err(|error| text(&error))?;
        }
    }
    transaction.commit().map_err(|error| text(&error))
}
