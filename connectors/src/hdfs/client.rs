//! The client of an HDFS, every call of which ends, on a runtime of its own.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt as _};
use gear_core::effect::{IoError, IoErrorKind, Level, Notice};
use hdfs_native::client::FileStatus;
use hdfs_native::file::{FileReader, FileWriter};
use hdfs_native::{Client, ClientBuilder, WriteOptions};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::timeout;

use super::configuration::{Configuration, Property};
use super::location::Location;
use super::patience::{Limits, Patience};
use super::trouble::{self, Fault};

/// Threads of the clients: sending and receiving for two tasks at a time, a third of a core each.
const THREADS: usize = 2;
/// Bytes that are written in one call: a slow pipeline takes them within its time.
const WRITE_BYTES: usize = 4 * 1_024 * 1_024;
/// Time between two questions whether a lease has been recovered: it takes 0.3 s at least.
const RECOVERY_PAUSE: Duration = Duration::from_millis(100);
/// How long it takes at most to hear which name node answers: one that does needs milliseconds.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// Of folders that are made: what Hadoop's shell gives them.
const FOLDER_PERMISSION: u32 = 0o755;
/// How often a call tries to reach a name node before it fails, and how it waits in between:
/// waiting longer is for those who call.
const RETRIES: [(&str, &str); 3] = [
    ("dfs.client.failover.max.attempts", "4"),
    ("dfs.client.failover.sleep.base.millis", "100"),
    ("dfs.client.failover.sleep.max.millis", "500"),
];

/// What tells the user.
pub(crate) type Tell = fn(Notice);

/// The clients of this process, by their HDFS, and the threads that they share.
struct Shared {
    runtime: Runtime,
    clients: BTreeMap<String, Hdfs>,
}

static SHARED: Mutex<Option<Shared>> = Mutex::new(None);

/// An HDFS.
#[derive(Clone, Debug)]
pub(crate) struct Hdfs {
    authority: Arc<str>,
    /// What clients of it are told besides, each to ask another name node first.
    orders: Arc<[Vec<Property>]>,
    /// The one that is asked. It goes on to the next name node only if one refuses: one that has
    /// gone silent it would ask for ever.
    client: Arc<Mutex<Arc<Client>>>,
    handle: Handle,
    limits: Limits,
}

/// What a writer is to do.
enum Drive {
    Write(Bytes),
    Sync,
    Close,
}

/// A file that is written to.
pub(crate) struct Writer {
    file: FileWriter,
    /// Bytes that were given to it.
    pub(crate) written: u64,
    /// Bytes of the last hsync.
    pub(crate) synced: u64,
}

impl Hdfs {
    /// The HDFS of a location; nobody is asked yet.
    pub(crate) fn of(location: &Location) -> Result<Self, IoError> {
        let other = |reason: String| IoError {
            path: location.authority.clone(),
            reason,
            kind: IoErrorKind::Other,
        };
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.is_none() {
            let runtime = Builder::new_multi_thread()
                .worker_threads(THREADS)
                .thread_name("gear-hdfs")
                .enable_all()
                .build();
            let runtime = runtime.map_err(|error| other(format!("no thread starts: {error}")))?;
            *shared = Some(Shared { runtime, clients: BTreeMap::new() });
        }
        let shared = shared.as_mut().expect("it was made above");
        if let Some(hdfs) = shared.clients.get(&location.authority) {
            return Ok(hdfs.clone());
        }
        let limits = Limits::from_environment().map_err(|error| other(error.to_string()))?;
        let handle = shared.runtime.handle().clone();
        let orders = Configuration::of_environment().clients(&location.authority);
        let orders: Arc<[_]> = orders.map_err(other)?.into();
        let authority: Arc<str> = location.authority.as_str().into();
        let client = build(&authority, &orders[0], &handle).map_err(|error| {
            other(format!("{error}; look at the configuration that HADOOP_CONF_DIR names"))
        })?;
        let client = Arc::new(Mutex::new(client));
        let hdfs = Self { authority, orders, client, handle, limits };
        shared.clients.insert(location.authority.clone(), hdfs.clone());
        Ok(hdfs)
    }

    pub(crate) const fn limits(&self) -> Limits {
        self.limits
    }

    /// The client's threads.
    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a call on the client's threads, which ends within the limit; one that is not waited
    /// for ends too.
    async fn call<T, F>(&self, what: &'static str, limit: Duration, call: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Future<Output = hdfs_native::Result<T>> + Send + 'static,
    {
        let call = self.handle.spawn(async move { timeout(limit, call).await });
        match call.await {
            Ok(Ok(result)) => result.map_err(trouble::of),
            Ok(Err(_)) => Err(Fault::Late { what, limit }),
            Err(error) => Err(Fault::Other(format!("the client of HDFS failed: {error}"))),
        }
    }

    /// Asks a name node what may be asked twice: another one too, if the first does not answer.
    async fn ask<T, F, A>(&self, what: &'static str, ask: A) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Future<Output = hdfs_native::Result<T>> + Send + 'static,
        A: Fn(Arc<Client>) -> F,
    {
        let first = self.client();
        match self.ask_once(what, &ask).await {
            Err(Fault::Late { .. }) if !Arc::ptr_eq(&first, &self.client()) => {
                self.ask_once(what, ask).await
            }
            result => result,
        }
    }

    /// Asks a name node what may be asked only once before somebody has looked.
    async fn ask_once<T, F>(
        &self,
        what: &'static str,
        ask: impl FnOnce(Arc<Client>) -> F,
    ) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Future<Output = hdfs_native::Result<T>> + Send + 'static,
    {
        let client = self.client();
        let result = self.call(what, self.limits.call, ask(Arc::clone(&client))).await;
        if matches!(result, Err(Fault::Late { .. })) {
            self.leave(&client).await;
        }
        result
    }

    fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Leaves a client that asks a silent name node, if another name node answers.
    async fn leave(&self, client: &Arc<Client>) {
        if self.orders.len() < 2 {
            return;
        }
        // Each begins with another one, and the client may stand at any.
        let mut looks: FuturesUnordered<_> = self
            .orders
            .iter()
            .filter_map(|order| build(&self.authority, order, &self.handle).ok())
            .map(|next| async move {
                let asked = Arc::clone(&next);
                let root = async move { asked.get_file_info("/").await };
                let limit = LOOK_MAX.min(self.limits.call);
                (next, self.call("what is the root", limit, root).await)
            })
            .collect();
        while let Some((next, look)) = looks.next().await {
            if look.is_ok_and(|root| root.isdir) {
                let mut current = self.client.lock().unwrap_or_else(PoisonError::into_inner);
                // Somebody else may have seen to it.
                if Arc::ptr_eq(&current, client) {
                    *current = next;
                }
                return;
            }
        }
    }

    /// Begins something whose result is waited for later.
    pub(crate) fn begin<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Pending<T> {
        let (sender, receiver) = sync_channel(1);
        self.handle.spawn(async move {
            // Who does not wait any more does not mind.
            let _ = sender.send(call.await);
        });
        Pending(receiver)
    }

    /// What is there under a name.
    pub(crate) async fn stat(&self, path: &str) -> Result<FileStatus, Fault> {
        self.ask("what is this file", |client| {
            let path = path.to_owned();
            async move { client.get_file_info(&path).await }
        })
        .await
    }

    /// All that is in a folder, and below it.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<FileStatus>, Fault> {
        self.ask("list this folder", |client| {
            let path = path.to_owned();
            async move { client.list_status(&path, true).await }
        })
        .await
    }

    /// What matches a pattern.
    pub(crate) async fn glob(&self, pattern: &str) -> Result<Vec<FileStatus>, Fault> {
        self.ask("list what matches", |client| {
            let pattern = pattern.to_owned();
            async move { client.glob_status(&pattern).await }
        })
        .await
    }

    /// A file to be read, as it is now.
    pub(crate) async fn open(&self, path: &str) -> Result<FileReader, Fault> {
        self.ask("open this file", |client| {
            let path = path.to_owned();
            async move { client.read(&path).await }
        })
        .await
    }

    /// The bytes of a file's range, which has to be in the file.
    pub(crate) fn read(&self, file: &FileReader, range: Range<u64>) -> Result<Pieces, Fault> {
        let outside = || Fault::Other("a file is shorter than it was said to be".to_owned());
        let from = usize::try_from(range.start).map_err(|_| outside())?;
        let to = usize::try_from(range.end).map_err(|_| outside())?;
        if to > file.file_length() || from > to {
            return Err(outside());
        }
        let stream = Box::pin(file.read_range_stream(from, to - from));
        Ok(Pieces { stream, limit: self.limits.call })
    }

    /// An empty file with the folders above it; one of that name is replaced if that is wished,
    /// and its writer fenced.
    pub(crate) async fn create(&self, path: &str, overwrite: bool) -> Result<Writer, Fault> {
        let created = self.ask("make this file", |client| {
            let path = path.to_owned();
            let options = WriteOptions::default().overwrite(overwrite);
            async move { client.create(&path, options).await }
        });
        Ok(Writer { file: created.await?, written: 0, synced: 0 })
    }

    /// Appends bytes, which may wait in the writer. After a fault the writer is of no use.
    pub(crate) async fn write(
        &self,
        mut writer: Writer,
        bytes: &Bytes,
    ) -> (Option<Writer>, Result<(), Fault>) {
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(WRITE_BYTES));
            let len = piece.len() as u64;
            match self.drive(writer, Drive::Write(piece)).await {
                (Some(driven), Ok(())) => writer = driven,
                failed => return failed,
            }
            writer.written += len;
        }
        (Some(writer), Ok(()))
    }

    /// Makes durable what was written; only then is it known that nobody else has the file.
    pub(crate) async fn sync(&self, writer: Writer) -> (Option<Writer>, Result<(), Fault>) {
        let (mut writer, result) = self.drive(writer, Drive::Sync).await;
        if let (Some(writer), Ok(())) = (&mut writer, &result) {
            writer.synced = writer.written;
        }
        (writer, result)
    }

    /// Ends a file.
    pub(crate) async fn close(&self, writer: Writer) -> Result<(), Fault> {
        self.drive(writer, Drive::Close).await.1
    }

    /// A call of a writer, on the client's threads; the writer is lost if it panics.
    async fn drive(&self, mut writer: Writer, drive: Drive) -> (Option<Writer>, Result<(), Fault>) {
        let limit = self.limits.call;
        let what = match &drive {
            Drive::Write(_) => "write",
            Drive::Sync => "hsync",
            Drive::Close => "close the file",
        };
        let driven = self.handle.spawn(async move {
            let file = &mut writer.file;
            let call = async move {
                match drive {
                    Drive::Write(bytes) => file.write_bytes(bytes).await.map(drop),
                    Drive::Sync => file.hsync().await,
                    Drive::Close => file.close().await,
                }
            };
            let result = timeout(limit, call).await;
            (writer, result)
        });
        match driven.await {
            Ok((writer, Ok(result))) => (Some(writer), result.map_err(trouble::of)),
            Ok((writer, Err(_))) => (Some(writer), Err(Fault::Late { what, limit })),
            Err(error) => (None, Err(Fault::Other(format!("the client of HDFS failed: {error}")))),
        }
    }

    /// Ends all writing to a file, whoever does it: then it can be read and renamed.
    pub(crate) async fn recover(&self, path: &str) -> Result<(), Fault> {
        let began = Instant::now();
        let limit = self.limits.call;
        loop {
            let recovered = self.ask("recover the lease", |client| {
                let path = path.to_owned();
                async move { client.recover_lease(&path).await }
            });
            if recovered.await? {
                return Ok(());
            }
            if began.elapsed() > limit {
                return Err(Fault::Late { what: "recover the lease", limit });
            }
            tokio::time::sleep(RECOVERY_PAUSE).await;
        }
    }

    /// Renames a file.
    pub(crate) async fn rename(&self, from: &str, to: &str, overwrite: bool) -> Result<(), Fault> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.ask_once("rename this file", |client| async move {
            client.rename(&from, &to, overwrite).await
        })
        .await
    }

    /// Removes a file; a missing one is no fault.
    pub(crate) async fn remove(&self, path: &str) -> Result<(), Fault> {
        let removed = self.ask("remove this file", |client| {
            let path = path.to_owned();
            async move { client.delete(&path, false).await }
        });
        match removed.await {
            Ok(_) | Err(Fault::Missing) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Makes the folders above a file.
    pub(crate) async fn make_parent(&self, path: &str) -> Result<(), Fault> {
        let parent = path.rsplit_once('/').map_or("/", |(parent, _)| parent);
        self.ask("make this folder", |client| {
            let parent = parent.to_owned();
            async move { client.mkdirs(&parent, FOLDER_PERMISSION, true).await }
        })
        .await
    }
}

/// A client that knows nothing yet, and is told this.
fn build(authority: &str, order: &[Property], handle: &Handle) -> hdfs_native::Result<Arc<Client>> {
    let retries = RETRIES.map(|(name, value)| (name.to_owned(), value.to_owned()));
    ClientBuilder::new()
        // Without a host, it is the one that the configuration names.
        .with_url(format!("{authority}/"))
        .with_config(order.iter().cloned().chain(retries))
        .with_io_runtime(handle.clone())
        .build()
        .map(Arc::new)
}

/// The bytes of a file's range, as they come.
pub(crate) struct Pieces {
    stream: Pin<Box<dyn Stream<Item = hdfs_native::Result<Bytes>> + Send>>,
    limit: Duration,
}

impl Pieces {
    /// The next bytes; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        match timeout(self.limit, self.stream.next()).await {
            Ok(next) => next.transpose().map_err(trouble::of),
            Err(_) => Err(Fault::Late { what: "read on", limit: self.limit }),
        }
    }
}

/// A result that is still to come.
#[derive(Debug)]
pub(crate) struct Pending<T>(Receiver<T>);

impl<T> Pending<T> {
    /// Waits for it on any thread; none if it has not come by then.
    pub(crate) fn wait(&self, limit: Duration) -> Result<Option<T>, Fault> {
        match self.0.recv_timeout(limit) {
            Ok(result) => Ok(Some(result)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(Fault::Other("the client of HDFS has ended".to_owned()))
            }
        }
    }
}

/// Tries again what may pass, until the time is over or `ended` says that nobody waits for it.
pub(crate) async fn waited_out<T, F: Future<Output = Result<T, Fault>>>(
    subject: &str,
    total: Duration,
    tell: Tell,
    ended: impl Fn() -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Fault> {
    let began = Instant::now();
    let mut patience = Patience::new(total);
    loop {
        let fault = match attempt().await {
            Err(fault) if fault.may_pass() && !ended() => fault,
            result => {
                if patience.was_told() && result.is_ok() {
                    let text =
                        format!("{subject} is back after {:.1} s", began.elapsed().as_secs_f32());
                    tell(Notice { level: Level::Info, text });
                }
                return result;
            }
        };
        let Some(pause) = patience.pause(began.elapsed()) else { return Err(fault) };
        if patience.is_to_be_told() {
            let text =
                format!("{}; waiting for it up to {} s", fault.error(subject), total.as_secs());
            tell(Notice { level: Level::Warning, text });
        }
        tokio::time::sleep(pause).await;
    }
}
