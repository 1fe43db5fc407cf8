//! What outlives the machines: each app's checkpoint store, and the file system that its
//! connectors read and write.

use std::any::Any;

use gear_connectors::model::ModelDisk;
use gear_core::api::{FileInfo, Files};
use gear_core::checkpoint::record::FOLDER;
use gear_core::control::AppSpec;
use gear_core::effect::{IoError, IoErrorKind, IoRequest, StoreReply, StoreRequest};
use gear_core::host::process::ProcessInput;
use gear_core::id::{AppId, TaskId, Token};
use gear_core::time::Time;

use super::brokers::Brokers;
use super::fault::FaultKind;
use super::hosted::LogState;
use super::remote::Performed;
use super::world::{Event, World};
use crate::direct::Store;
use crate::oracle::commits::Commits;

/// What an app has outside of the machines.
pub(crate) struct AppServices {
    /// The app's name.
    pub(crate) name: String,
    /// Its folder in the checkpoint store.
    pub(crate) state: String,
    /// Its checkpoint store.
    pub(crate) store: Store,
    /// What was seen of its commit log.
    pub(crate) commits: Commits,
    /// The file system.
    pub(crate) disk: ModelDisk,
    /// Its Kafka.
    pub(crate) brokers: Option<Brokers>,
}

/// There are no files to read.
pub(crate) struct NoFiles;

impl Files for NoFiles {
    fn list(&mut self, pattern: &str) -> Result<Vec<FileInfo>, IoError> {
        Err(no_file(pattern))
    }

    fn stat(&mut self, path: &str) -> Result<FileInfo, IoError> {
        Err(no_file(path))
    }

    fn read_at(&mut self, path: &str, _: u64, _: &mut [u8]) -> Result<usize, IoError> {
        Err(no_file(path))
    }
}

fn no_file(path: &str) -> IoError {
    let reason = "there is no such file".into();
    IoError { path: path.into(), reason, kind: IoErrorKind::NotFound }
}

/// Files whose readers read little at once.
pub(crate) struct Paced<'a> {
    /// The files.
    pub(crate) disk: &'a mut ModelDisk,
    /// Records that a source reads in a turn.
    pub(crate) records: usize,
}

impl Files for Paced<'_> {
    fn list(&mut self, pattern: &str) -> Result<Vec<FileInfo>, IoError> {
        self.disk.list(pattern)
    }

    fn stat(&mut self, path: &str) -> Result<FileInfo, IoError> {
        self.disk.stat(path)
    }

    fn read_at(&mut self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        self.disk.read_at(path, offset, buffer)
    }

    fn records_per_turn(&self) -> usize {
        self.records
    }

    fn service(&mut self, kind: &str) -> Option<&mut dyn Any> {
        self.disk.service(kind)
    }
}

/// How much longer a straggler takes.
const STRAGGLER: u64 = 100;

impl World<'_> {
    /// A process of an app is launched: the app has a store and files from now on.
    pub(crate) fn serve(&mut self, app: AppId, spec: &AppSpec) {
        if let Err(violation) = self.watch.updates.launched(app, spec) {
            self.wrong(violation);
        }
        let before = self.services.iter().find(|(_, it)| it.state == spec.state);
        let home = *before.filter(|_| !spec.state.is_empty()).map_or(&app, |(home, _)| home);
        let home = *self.homes.entry(app).or_insert(home);
        if !self.services.contains_key(&home) {
            self.grow_later(home);
        }
        let (disk, work, seed) = (&self.files, self.work, self.setup.seed);
        let (fed, down) = (self.fed, self.brokers_down_until > self.now);
        self.services.entry(home).or_insert_with(|| {
            let (mut disk, brokers) = (disk.clone(), work.brokers());
            if let Some(brokers) = &brokers {
                brokers.offer(&mut disk, seed ^ home.0);
                brokers.cluster().show(fed);
                brokers.cluster().set_down(down);
            }
            if disk.is_hdfs() {
                disk.show(fed);
            }
            AppServices {
                name: spec.name.clone(),
                state: spec.state.clone(),
                store: Store::default(),
                commits: Commits::with_gaps(),
                disk,
                brokers,
            }
        });
    }

    /// The app whose services an app has.
    pub(crate) fn home(&self, app: AppId) -> AppId {
        self.homes.get(&app).copied().unwrap_or(app)
    }

    /// A process asks the checkpoint store of its app.
    pub(crate) fn ask_store(&mut self, process: usize, token: Token, request: StoreRequest) {
        let app = self.processes[process].app();
        if matches!(&request, StoreRequest::Create { name, .. } if name.starts_with(FOLDER)) {
            self.processes[process].log = LogState::Asked;
            self.ambush(process, FaultKind::AmbushAppMaster);
        }
        let at = self.store_time();
        self.push(at, Event::Store { process, app, token, request });
    }

    fn store_time(&mut self) -> Time {
        let straggles = !self.calm && self.random.store.permille(self.setup.rates.store_stragglers);
        if straggles {
            self.count(FaultKind::StoreStragglers);
        }
        let most = self.setup.slow.store * if straggles { STRAGGLER } else { 1 };
        if straggles {
            self.stopwatch.disturb(Time(self.now.0 + most));
        }
        Time(self.now.0 + 1 + self.random.store.below(most))
    }

    /// A request reaches the store; it does what the dead have asked for, too.
    pub(crate) fn store(
        &mut self,
        process: usize,
        app: AppId,
        token: Token,
        request: &StoreRequest,
    ) {
        let failed = |reason: &str| StoreReply::Failed { reason: reason.into(), retriable: true };
        let rates = if self.calm { super::setup::Rates::default() } else { self.setup.rates };
        if self.store_down_until > self.now {
            let at = self.store_time();
            let reply = failed("the store cannot be reached");
            self.push(at, Event::Hear { process, input: ProcessInput::Stored { token, reply } });
            return;
        }
        let reply = if self.random.store.permille(rates.store_errors) {
            self.count(FaultKind::StoreErrors);
            self.stopwatch.disturb(self.now);
            failed("the store is busy")
        } else {
            let home = self.home(app);
            let Some(services) = self.services.get_mut(&home) else { return };
            let before = (services.commits.epochs(), services.commits.given_up());
            let reply = services.store.perform(request);
            if let Err(violation) = services.commits.observe(request, &reply, &services.store) {
                self.wrong(format!("{app}: {violation}"));
                return;
            }
            let (epochs, given_up) = (services.commits.epochs(), services.commits.given_up());
            if given_up > before.1 {
                self.seen("an epoch was given up, and a later one committed");
            }
            if epochs > before.0 {
                self.processes[process].log = LogState::Appended;
                self.committed(app);
            }
            if !self.processes[process].alive {
                self.seen("the store did what a dead process had asked for");
            }
            if self.random.store.permille(rates.store_lost_replies) {
                self.count(FaultKind::StoreLostReplies);
                self.stopwatch.disturb(self.now);
                failed("the store's answer was lost")
            } else {
                reply
            }
        };
        let at = self.store_time();
        self.push(at, Event::Hear { process, input: ProcessInput::Stored { token, reply } });
    }

    /// A process asks the connectors' file system.
    pub(crate) fn ask_io(
        &mut self,
        process: usize,
        (task, token): (TaskId, Token),
        request: IoRequest,
    ) {
        let slow = !self.calm && self.random.io.permille(self.setup.rates.slow_io);
        if slow {
            self.count(FaultKind::SlowIo);
        }
        let most = self.setup.slow.io * if slow { STRAGGLER } else { 1 };
        if slow {
            self.stopwatch.disturb(Time(self.now.0 + most));
        }
        let perform = Time(self.now.0 + 1 + self.random.io.below(most));
        let answer = Time(self.now.0 + 1 + self.random.io.below(most));
        let hosted = &mut self.processes[process];
        let last = hosted.io_at.entry(task).or_default();
        last.0 = last.0.max(perform);
        last.1 = last.1.max(answer).max(last.0);
        let (perform, answer) = *last;
        let app = hosted.app();
        self.push(perform, Event::Io { process, app, task, token, request, answer });
    }

    /// The file system performs a request. What a dead process has asked for is performed up to
    /// some point, in order.
    pub(crate) fn io(
        &mut self,
        process: usize,
        app: AppId,
        (task, token): (TaskId, Token),
        request: &IoRequest,
        answer: Time,
    ) {
        if !self.processes[process].alive {
            // The last of them is lost with what follows it.
            let lives = self.processes[process]
                .zombie_io
                .remove(&task)
                .unwrap_or_else(|| self.random.io.permille(self.setup.rates.zombie_io));
            let goes_on = lives && self.random.io.permille(800);
            self.processes[process].zombie_io.insert(task, goes_on);
            if !lives {
                return;
            }
            self.count(FaultKind::ZombieIo);
        }
        let home = self.home(app);
        let Some(services) = self.services.get_mut(&home) else { return };
        let is_hdfs = services.disk.is_hdfs();
        let result = match request {
            _ if is_hdfs => match self.perform_remotely((process, task), home, request) {
                Performed::Answered(result) => result,
                Performed::Later(at) => {
                    let (request, answer) = (request.clone(), answer.max(at));
                    self.push(at, Event::Io { process, app, task, token, request, answer });
                    return;
                }
            },
            IoRequest::Call { service, command, body } => {
                self.call(process, home, service, (command, body))
            }
            _ => services.disk.perform(request).map(|()| Vec::new()),
        };
        self.push(
            answer,
            Event::Hear { process, input: ProcessInput::IoDone { task, token, result } },
        );
    }
}
