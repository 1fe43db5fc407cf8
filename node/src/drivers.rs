//! The drivers of a job's process: clock, files, the checkpoint store and connectors' requests.

use std::sync::Arc;

use gear_connectors::schemes::{AnyFiles, IoEnd, IoThreads};
use gear_core::control::{LaunchOrder, ProcessId};
use gear_core::effect::{IoError, IoErrorKind, IoRequest, Notice, StoreReply, StoreRequest};
use gear_core::host::process::{DiskReply, DiskRequest};
use gear_core::id::TaskId;
use gear_net::clock::SystemClock;
use gear_net::{ChildEvents, Children, Disk, Drivers, Io, Platform, Store};
use object_store::ObjectStore;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::embedded::CatchPanic;
use crate::store::CheckpointStore;
use crate::wire::Wire;

/// The machine of a job's process.
pub(crate) struct JobMachine;

impl Platform for JobMachine {
    type Transport = Wire;
    type Disk = Nothing;
    type Store = RemoteStore;
    type Io = IoThread;
    type Children = Nothing;
    type Clock = SystemClock;
    type Files = AnyFiles;
    type Guard = CatchPanic;
}

/// The drivers of a job's process.
pub(crate) fn of_job(transport: Wire, store: RemoteStore, io: IoThread) -> Drivers<JobMachine> {
    Drivers {
        transport,
        disk: Nothing,
        store,
        io,
        children: Nothing,
        clock: SystemClock::default(),
        files: AnyFiles::new(notice),
        guard: CatchPanic::new(),
        notice: Box::new(notice),
    }
}

pub(crate) fn notice(notice: Notice) {
    crate::embedded::notice(notice.level, &notice.text);
}

/// The checkpoint store of an app, which another runtime serves, so that no task waits for it.
#[derive(Clone)]
pub(crate) struct RemoteStore {
    runtime: Handle,
    /// The app's folder.
    own: Arc<dyn ObjectStore>,
    /// The folders of all apps, of which a savepoint may be read.
    all: Arc<dyn ObjectStore>,
}

impl RemoteStore {
    /// Of the app whose folder is called so.
    pub(crate) fn new(runtime: Handle, store: &CheckpointStore, state: &str) -> Self {
        Self { runtime, own: store.app(state), all: store.apps() }
    }
}

impl Store for RemoteStore {
    async fn perform(&self, request: StoreRequest) -> StoreReply {
        let (objects, request) = match request {
            StoreRequest::Get { name } => match name.strip_prefix('/') {
                Some(name) => (Arc::clone(&self.all), StoreRequest::Get { name: name.into() }),
                None => (Arc::clone(&self.own), StoreRequest::Get { name }),
            },
            request => (Arc::clone(&self.own), request),
        };
        let performing = self
            .runtime
            .spawn(async move { crate::store::perform(objects.as_ref(), request).await });
        performing.await.unwrap_or_else(|error| StoreReply::Failed {
            reason: format!("a request of the checkpoint store has ended: {error}"),
            retriable: true,
        })
    }
}

/// The threads that perform connectors' requests, those of one task in the order in which they
/// come.
#[derive(Clone)]
pub(crate) struct IoThread {
    threads: IoThreads,
    /// Behind the threads: they end when all that could ask them are gone.
    _end: Arc<IoEnd>,
}

impl IoThread {
    /// Starts the threads.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (end, threads) = IoThreads::start(notice)?;
        Ok(Self { threads, _end: Arc::new(end) })
    }
}

impl Io for IoThread {
    async fn perform(&self, task: TaskId, request: IoRequest) -> Result<Vec<u8>, IoError> {
        let (asker, done) = oneshot::channel();
        let gone = || IoError {
            path: "the thread that performs requests".into(),
            reason: "it has ended; this is a defect of Gear: please report it".into(),
            kind: IoErrorKind::Other,
        };
        // Who does not wait any more does not mind.
        let answer = Box::new(move |result| drop(asker.send(result)));
        self.threads.perform(task, request, answer).map_err(|_| gone())?;
        done.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// What a process has that it never asks for.
#[derive(Clone, Copy)]
pub(crate) struct Nothing;

const NEVER: &str = "this process has none; this is a defect of Gear: please report it";

impl Disk for Nothing {
    async fn perform(&mut self, _: DiskRequest) -> DiskReply {
        DiskReply::Failed { reason: format!("a disk: {NEVER}") }
    }
}

impl Store for Nothing {
    async fn perform(&self, _: StoreRequest) -> StoreReply {
        let reason = format!("a checkpoint store: {NEVER}");
        StoreReply::Failed { reason, retriable: false }
    }
}

impl Io for Nothing {
    async fn perform(&self, _: TaskId, _: IoRequest) -> Result<Vec<u8>, IoError> {
        let (path, reason) = ("connectors".into(), NEVER.into());
        Err(IoError { path, reason, kind: IoErrorKind::Other })
    }
}

impl Children for Nothing {
    fn spawn(&mut self, order: LaunchOrder, events: ChildEvents) {
        events.exited(order.process, format!("children: {NEVER}"));
    }

    fn kill(&mut self, _: ProcessId) {}
}
