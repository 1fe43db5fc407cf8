//! A machine of toy drivers around the operating system's sockets.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use gear_core::api::{FileInfo, Files};
use gear_core::control::{AppSpec, LaunchOrder, ProcessId, Role};
use gear_core::effect::{IoError, IoErrorKind, IoRequest, Notice, StoreReply, StoreRequest};
use gear_core::flow::push::Unguarded;
use gear_core::host::process::{DiskReply, DiskRequest};
use gear_core::id::{AppId, ExecutorId, TaskId};
use gear_core::time::{Time, WallTime};
use gear_net::tcp::Tcp;
use gear_net::{ChildEvents, Children, Clock, Disk, Drivers, Io, Platform, Store};
use tokio::time::sleep;

use crate::anywhere;

/// What a test sees of a machine.
#[derive(Clone, Default)]
pub(crate) struct Machine {
    pub(crate) notices: Rc<RefCell<Vec<Notice>>>,
    disk: Rc<RefCell<BTreeMap<String, Vec<u8>>>>,
}

pub(crate) struct Toy;

impl Platform for Toy {
    type Transport = Tcp;
    type Disk = MapDisk;
    type Store = NoStore;
    type Io = SlowIo;
    type Children = Babies;
    type Clock = Real;
    type Files = NoFiles;
    type Guard = Unguarded;
}

pub(crate) fn drivers(machine: &Machine) -> Drivers<Toy> {
    let notices = Rc::clone(&machine.notices);
    Drivers {
        transport: Tcp::new(),
        disk: MapDisk(Rc::clone(&machine.disk)),
        store: NoStore,
        io: SlowIo,
        children: Babies::default(),
        clock: Real(Instant::now()),
        files: NoFiles,
        guard: Unguarded,
        notice: Box::new(move |notice| notices.borrow_mut().push(notice)),
    }
}

/// The first takes longest, so that order is not by chance.
fn wait(number: usize) -> Duration {
    Duration::from_millis(if number == 0 { 20 } else { 0 })
}

pub(crate) struct MapDisk(Rc<RefCell<BTreeMap<String, Vec<u8>>>>);

impl Disk for MapDisk {
    async fn perform(&mut self, request: DiskRequest) -> DiskReply {
        let entries = self.0.borrow().len();
        sleep(wait(entries)).await;
        let mut map = self.0.borrow_mut();
        match request {
            DiskRequest::Load => DiskReply::Loaded { entries: map.clone().into_iter().collect() },
            DiskRequest::Write { entries } => {
                for (name, value) in entries {
                    match value {
                        Some(value) => map.insert(name, value),
                        None => map.remove(&name),
                    };
                }
                DiskReply::Written
            }
        }
    }
}

#[derive(Clone)]
pub(crate) struct NoStore;

impl Store for NoStore {
    async fn perform(&self, request: StoreRequest) -> StoreReply {
        let panics = matches!(&request, StoreRequest::Get { name } if name == "panic");
        assert!(!panics, "the store is on fire");
        StoreReply::Missing
    }
}

#[derive(Clone)]
pub(crate) struct SlowIo;

impl Io for SlowIo {
    async fn perform(&self, _: TaskId, request: IoRequest) -> Result<Vec<u8>, IoError> {
        let IoRequest::Remove { path } = request else { return Ok(Vec::new()) };
        sleep(wait(path.parse().expect("paths are numbers"))).await;
        Ok(Vec::new())
    }
}

pub(crate) fn order() -> LaunchOrder {
    let process = ProcessId { app: AppId(1), role: Role::Executor(ExecutorId(1)) };
    LaunchOrder { process, spec: AppSpec::default(), token: 0 }
}

#[derive(Default)]
pub(crate) struct Babies(Vec<(ProcessId, ChildEvents)>);

impl Children for Babies {
    fn spawn(&mut self, order: LaunchOrder, events: ChildEvents) {
        events.running(order.process, anywhere());
        self.0.push((order.process, events));
    }

    fn kill(&mut self, process: ProcessId) {
        for (_, events) in self.0.iter().filter(|(child, _)| *child == process) {
            events.exited(process, "killed".into());
        }
    }
}

pub(crate) struct Real(Instant);

impl Clock for Real {
    fn now(&self) -> Time {
        Time::ZERO + self.0.elapsed()
    }

    fn wall(&self) -> WallTime {
        WallTime(0)
    }

    async fn breathe(&self) {
        tokio::task::yield_now().await;
    }
}

pub(crate) struct NoFiles;

impl NoFiles {
    fn none(path: &str) -> IoError {
        IoError { path: path.into(), reason: "no file".into(), kind: IoErrorKind::NotFound }
    }
}

impl Files for NoFiles {
    fn list(&mut self, pattern: &str) -> Result<Vec<FileInfo>, IoError> {
        Err(Self::none(pattern))
    }

    fn stat(&mut self, path: &str) -> Result<FileInfo, IoError> {
        Err(Self::none(path))
    }

    fn read_at(&mut self, path: &str, _: u64, _: &mut [u8]) -> Result<usize, IoError> {
        Err(Self::none(path))
    }
}
