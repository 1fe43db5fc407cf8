//! Objects on HDFS: files that appear whole or not at all.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use gear_core::effect::{IoError, Notice};

use super::client::{Hdfs, waited_out};
use super::location::Location;
use super::trouble::Fault;

/// Where objects are written before they get their names, below the root.
const TEMPORARY: &str = ".tmp";
/// Age of a temporary file that no process is still writing to.
const TEMPORARY_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How long a request waits for what may pass: a name node that is started again answers after 5 s,
/// and who asks tries several times.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(8);

/// Whether an object was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there, durably.
    Done,
    /// One of that name was there before.
    Exists,
}

/// A folder of objects, each a file.
#[derive(Clone, Debug)]
pub struct Objects {
    hdfs: Hdfs,
    root: String,
    /// Tells temporary files of processes apart.
    own: u64,
    count: Arc<AtomicU64>,
    swept: Arc<AtomicBool>,
}

impl Objects {
    /// The folder of a URL; nobody is asked yet.
    ///
    /// # Errors
    /// [`IoError`], for the user.
    pub fn open(url: &str) -> Result<Self, IoError> {
        let at = Location::parse_folder(url)?;
        let hdfs = Hdfs::of(&at)?;
        // Keyed with entropy of the operating system.
        let mut own = std::hash::RandomState::new().build_hasher();
        own.write_u32(std::process::id());
        let root = at.path.trim_end_matches('/').to_owned();
        Ok(Self { hdfs, root, own: own.finish(), count: Arc::default(), swept: Arc::default() })
    }

    /// Creates an object if there is none of its name.
    ///
    /// # Errors
    /// [`Fault`]; whether it was created is then unknown, but it is there whole or not at all.
    pub async fn create(&self, name: &str, bytes: Bytes) -> Result<Created, Fault> {
        let path = self.path(name);
        self.run(|own| async move {
            // Most of those that exist are found without writing anything.
            if waited(&path, || own.is_there(&path)).await? {
                return Ok(Created::Exists);
            }
            own.write(&path, &bytes, false).await
        })
        .await
    }

    /// Writes an object, in the place of one of that name.
    ///
    /// # Errors
    /// [`Fault`]; the object is then the old one or the new one.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Fault> {
        let path = self.path(name);
        self.run(|own| async move { own.write(&path, &bytes, true).await.map(drop) }).await
    }

    /// Reads an object.
    ///
    /// # Errors
    /// [`Fault::Missing`] if there is none.
    pub async fn get(&self, name: &str) -> Result<Bytes, Fault> {
        let path = self.path(name);
        self.run(|own| async move {
            let (hdfs, path) = (&own.hdfs, &path);
            let read = || async move {
                let file = hdfs.open(path).await?;
                let len = file.file_length();
                let mut content = Vec::with_capacity(len);
                let mut pieces = hdfs.read(&file, 0..len as u64)?;
                while let Some(bytes) = pieces.next().await? {
                    content.extend_from_slice(&bytes);
                }
                Ok(Bytes::from(content))
            };
            waited(path, read).await
        })
        .await
    }

    /// The names of all objects in a folder and below it, with their lengths and when they were
    /// written, in milliseconds since 1970.
    ///
    /// # Errors
    /// [`Fault`]; a folder that is missing has none.
    pub async fn list(&self, folder: &str) -> Result<Vec<(String, u64, u64)>, Fault> {
        let path = self.path(folder);
        self.run(|own| async move {
            let listed = || async {
                match own.hdfs.list(&path).await {
                    Err(Fault::Missing) => Ok(Vec::new()),
                    other => other,
                }
            };
            let listed = waited(&path, listed).await?;
            let below = format!("{}/", own.root);
            let temporary = format!("{below}{TEMPORARY}/");
            let files = listed.into_iter().filter(|file| {
                !file.isdir && file.path != path && !file.path.starts_with(&temporary)
            });
            let names = files.filter_map(|file| {
                let name = file.path.strip_prefix(&below)?.to_owned();
                Some((name, file.length as u64, file.modification_time))
            });
            Ok(names.collect())
        })
        .await
    }

    /// Removes an object; a missing one is no fault.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn remove(&self, name: &str) -> Result<(), Fault> {
        let path = self.path(name);
        self.run(|own| async move { waited(&path, || own.hdfs.remove(&path)).await }).await
    }

    /// Removes what writes have left that a crash cut short, a day ago or longer.
    async fn sweep(&self) -> Result<(), Fault> {
        let found = self.hdfs.list(&format!("{}/{TEMPORARY}", self.root)).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let is_old =
            |written| now.saturating_sub(Duration::from_millis(written)) > TEMPORARY_AGE_MAX;
        for file in found.into_iter().filter(|it| !it.isdir && is_old(it.modification_time)) {
            self.hdfs.remove(&file.path).await?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{}", self.root, name.trim_end_matches('/'))
    }

    /// Runs on the client's threads, which have the timers that it needs.
    async fn run<T, F>(&self, call: impl FnOnce(Self) -> F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let running = self.hdfs.handle().spawn(call(self.clone()));
        running.await.unwrap_or_else(|error| {
            Err(Fault::Other(format!("the client of HDFS failed: {error}")))
        })
    }

    /// Writes a file under a name that nobody else uses, durably, and gives it its own.
    async fn write(&self, path: &str, bytes: &Bytes, overwrite: bool) -> Result<Created, Fault> {
        if !self.swept.swap(true, Ordering::Relaxed) {
            let own = self.clone();
            // What it misses, the next process sweeps.
            self.hdfs.handle().spawn(async move { own.sweep().await });
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let temporary = format!("{}/{TEMPORARY}/{:016x}-{number}", self.root, self.own);
        // Both may be tried again: nobody else has a file of this name.
        let named = match waited(path, || self.write_to(&temporary, bytes)).await {
            Ok(()) => waited(path, || self.name(&temporary, path, overwrite)).await,
            Err(fault) => Err(fault),
        };
        if !matches!(named, Ok(Created::Done)) {
            // What stays is swept one day.
            let _ = self.hdfs.remove(&temporary).await;
        }
        named
    }

    async fn write_to(&self, path: &str, bytes: &Bytes) -> Result<(), Fault> {
        let lost = || Fault::Transfer("the writer was lost".to_owned());
        let writer = self.hdfs.create(path, true).await?;
        let (writer, written) = self.hdfs.write(writer, bytes).await;
        written?;
        // A file that is closed is on the data nodes, but it may not be on their disks.
        let (writer, synced) = self.hdfs.sync(writer.ok_or_else(lost)?).await;
        synced?;
        self.hdfs.close(writer.ok_or_else(lost)?).await
    }

    /// Renames. If the temporary file is missing, that was done before and its answer was lost, for
    /// nobody else has the file; or the folder above the object is missing.
    async fn name(&self, from: &str, to: &str, overwrite: bool) -> Result<Created, Fault> {
        for _ in 0..2 {
            match self.hdfs.rename(from, to, overwrite).await {
                Ok(()) => return Ok(Created::Done),
                Err(Fault::Exists(_)) if self.is_there(from).await? => return Ok(Created::Exists),
                Err(Fault::Exists(_)) => return Ok(Created::Done),
                Err(Fault::Missing) if !self.is_there(from).await? => {
                    let done = self.is_there(to).await?;
                    return if done { Ok(Created::Done) } else { Err(Fault::Missing) };
                }
                Err(Fault::Missing) => self.hdfs.make_parent(to).await?,
                Err(fault) => return Err(fault),
            }
        }
        Err(Fault::Missing)
    }

    async fn is_there(&self, path: &str) -> Result<bool, Fault> {
        match self.hdfs.stat(path).await {
            Ok(_) => Ok(true),
            Err(Fault::Missing) => Ok(false),
            Err(fault) => Err(fault),
        }
    }
}

/// Tries again what may pass, for a while.
async fn waited<T, F: Future<Output = Result<T, Fault>>>(
    path: &str,
    attempt: impl FnMut() -> F,
) -> Result<T, Fault> {
    waited_out(path, REQUEST_WAIT_MAX, silently, || false, attempt).await
}

/// Who asks for objects tells the user.
fn silently(_: Notice) {}
