//! The drivers of a process that has sockets and a folder.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use gear_connectors::os::OsFiles;
use gear_core::control::{LaunchOrder, ProcessId};
use gear_core::effect::{IoError, IoRequest, StoreReply, StoreRequest};
use gear_core::host::process::{DiskReply, DiskRequest};
use gear_core::id::TaskId;
use gear_net::clock::SystemClock;
use gear_net::{ChildEvents, Children, Disk, Drivers, Io, Platform, Store, Transport};
use gear_node::CatchPanic;

pub(crate) struct Machine<T>(PhantomData<T>);

impl<T: Transport> Platform for Machine<T> {
    type Transport = T;
    type Disk = None;
    type Store = Folder;
    type Io = None;
    type Children = None;
    type Clock = SystemClock;
    type Files = OsFiles;
    type Guard = CatchPanic;
}

pub(crate) fn drivers<T: Transport>(transport: T, store: &Path) -> Drivers<Machine<T>> {
    Drivers {
        transport,
        disk: None,
        store: Folder(store.into()),
        io: None,
        children: None,
        clock: SystemClock::default(),
        files: OsFiles::default(),
        guard: CatchPanic::new(),
        notice: Box::new(|notice| eprintln!("{}", notice.text)),
    }
}

/// What no process of these jobs asks for.
#[derive(Clone)]
pub(crate) struct None;

impl Disk for None {
    async fn perform(&mut self, _: DiskRequest) -> DiskReply {
        DiskReply::Loaded { entries: Vec::new() }
    }
}

impl Io for None {
    async fn perform(&self, _: TaskId, request: IoRequest) -> Result<Vec<u8>, IoError> {
        panic!("nobody writes files: {request:?}")
    }
}

impl Children for None {
    fn spawn(&mut self, order: LaunchOrder, _: ChildEvents) {
        panic!("there are no workers for {}", order.process)
    }

    fn kill(&mut self, _: ProcessId) {}
}

/// A checkpoint store in a folder, durable when it answers.
#[derive(Clone)]
pub(crate) struct Folder(PathBuf);

impl Store for Folder {
    async fn perform(&self, request: StoreRequest) -> StoreReply {
        let folder = self.0.clone();
        tokio::task::spawn_blocking(move || perform(&folder, request)).await.unwrap()
    }
}

fn perform(folder: &Path, request: StoreRequest) -> StoreReply {
    match request {
        StoreRequest::Put { name, bytes } => {
            let path = there(folder, &name);
            let mut file = File::create(path).unwrap();
            file.write_all(&bytes).unwrap();
            file.sync_all().unwrap();
            StoreReply::Done
        }
        StoreRequest::Create { name, bytes } => {
            let path = there(folder, &name);
            match OpenOptions::new().write(true).create_new(true).open(path) {
                Ok(mut file) => {
                    file.write_all(&bytes).unwrap();
                    file.sync_all().unwrap();
                    StoreReply::Done
                }
                Err(_) => StoreReply::Exists,
            }
        }
        StoreRequest::Get { name } => match fs::read(folder.join(name)) {
            Ok(bytes) => StoreReply::Bytes(bytes),
            Err(_) => StoreReply::Missing,
        },
        StoreRequest::List { prefix } => {
            let mut names = Vec::new();
            list(folder, &folder.join(prefix), &mut names);
            names.sort();
            StoreReply::Names(names)
        }
        StoreRequest::Delete { name } => match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => panic!("{error}"),
            _ => StoreReply::Done,
        },
    }
}

fn there(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

fn list(folder: &Path, at: &Path, names: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(at) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(folder, &path, names);
        } else {
            names.push(path.strip_prefix(folder).unwrap().to_string_lossy().into_owned());
        }
    }
}
