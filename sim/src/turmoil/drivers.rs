//! The drivers of a simulated machine: its clocks, its disk, and what it asks of services that
//! outlive it.

use std::rc::Rc;

use gear_core::api::{FileInfo, Files};
use gear_core::effect::{IoError, IoErrorKind, IoRequest, StoreReply, StoreRequest};
use gear_core::host::process::{DiskReply, DiskRequest};
use gear_core::id::{AppId, TaskId, Token};
use gear_core::time::{Duration, Time, WallTime};
use gear_net::{Chopped, Clock, Disk, Io, Platform, Store};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::children::Family;
use super::shared::{Draws, Job, Shared};
use super::transport::Sockets;
use crate::cluster::clock::TRUE_RATE;
use crate::cluster::{FaultKind, LogState};
use crate::direct::Catch;
use crate::random::Random;

/// A simulated machine.
pub(crate) struct Simulated;

impl Platform for Simulated {
    type Transport = Chopped<Sockets>;
    type Disk = SimDisk;
    type Store = SimStore;
    type Io = SimIo;
    type Children = Family;
    type Clock = SimClock;
    type Files = SimFiles;
    type Guard = Catch;
}

/// How much longer a straggler takes.
const STRAGGLER: u64 = 100;
/// An operator has seen that a disk has failed within this time, in nanoseconds.
const OPERATOR: u64 = 2_000_000_000;
/// Nanoseconds of the timers' resolution.
const MILLI: u64 = 1_000_000;

/// Waits about so many nanoseconds: timers know whole milliseconds, and the rest is by chance.
pub(crate) async fn nap(nanos: u64, chance: u64) {
    let millis = (nanos + chance % MILLI) / MILLI;
    if millis > 0 {
        sleep(Duration::from_millis(millis)).await;
    }
}

/// The clocks of a machine.
pub(crate) struct SimClock {
    shared: Rc<Shared>,
    machine: usize,
    /// Nanoseconds that turns have taken and that have not passed yet.
    owed: std::cell::Cell<u64>,
}

impl SimClock {
    pub(crate) const fn new(shared: Rc<Shared>, machine: usize) -> Self {
        Self { shared, machine, owed: std::cell::Cell::new(0) }
    }

    fn clock(&self) -> crate::cluster::clock::Clock {
        let state = self.shared.state.borrow();
        let clock = state.machines.get(self.machine).map(|machine| machine.clock);
        clock.unwrap_or(crate::cluster::clock::Clock::new(Time::ZERO, 0, TRUE_RATE))
    }
}

impl Clock for SimClock {
    fn now(&self) -> Time {
        self.clock().local(self.shared.now())
    }

    fn wall(&self) -> WallTime {
        self.clock().wall(self.shared.now())
    }

    async fn breathe(&self) {
        let took = self.shared.state.borrow_mut().random.other.below(self.shared.setup.slow.turn);
        let owed = self.owed.get() + took + 1;
        if owed < MILLI {
            self.owed.set(owed);
            tokio::task::yield_now().await;
        } else {
            self.owed.set(owed % MILLI);
            sleep(Duration::from_millis(owed / MILLI)).await;
        }
    }
}

/// The disk of a machine's node.
pub(crate) struct SimDisk {
    shared: Rc<Shared>,
    machine: usize,
    /// Counts this life's writes.
    writes: u64,
}

impl SimDisk {
    pub(crate) const fn new(shared: Rc<Shared>, machine: usize) -> Self {
        Self { shared, machine, writes: 0 }
    }
}

impl Disk for SimDisk {
    async fn perform(&mut self, request: DiskRequest) -> DiskReply {
        if self.machine >= self.shared.setup.machines.len() {
            return DiskReply::Failed { reason: "clients have no disk".into() };
        }
        let (nanos, chance) = {
            let state = &mut *self.shared.state.borrow_mut();
            let slow = state.machines[self.machine].slow_disk_until > self.shared.now();
            let most = self.shared.setup.slow.disk * if slow { 50 } else { 1 };
            (state.random.disk.below(most), state.random.disk.next())
        };
        self.writes += 1;
        let token = Token(self.writes);
        let load = request == DiskRequest::Load;
        if let DiskRequest::Write { entries } = request {
            let mut state = self.shared.state.borrow_mut();
            state.machines[self.machine].disk.submit(token, entries);
        }
        nap(nanos, chance).await;
        let now = self.shared.now();
        let state = &mut *self.shared.state.borrow_mut();
        let machine = &mut state.machines[self.machine];
        if load {
            return machine.disk.load();
        }
        let full = machine.full_until > now;
        let reply = machine.disk.settle(token, full, &mut state.random.disk);
        if matches!(reply, DiskReply::Failed { .. })
            && let Some(node) = machine.node
        {
            let after = state.random.other.below(OPERATOR);
            let at = machine.full_until.max(now) + Duration::from_nanos(after);
            state.restarts.push((node, at));
        }
        if full {
            state.count(FaultKind::FillDisk);
        }
        reply
    }
}

/// Lets something be done where it outlives this machine, and waits for its answer.
async fn elsewhere<T: 'static>(
    shared: &Rc<Shared>,
    doing: impl Future<Output = T> + 'static,
) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    let job: Job = Box::pin(async move {
        // Whoever asked may be dead.
        let _ = answer.send(doing.await);
    });
    shared.jobs.send(job).ok()?;
    answered.await.ok()
}

/// The way to a service that outlives the machines, or back: it takes so many nanoseconds at most,
/// and a straggler, of which there are so many in a thousand, far longer.
async fn travel(
    shared: &Shared,
    (most, permille, kind): (u64, u64, FaultKind),
    draw: impl FnOnce(&mut Draws) -> &mut Random,
) {
    let (nanos, chance) = {
        let state = &mut *shared.state.borrow_mut();
        let random = draw(&mut state.random);
        let straggles = random.permille(permille);
        let most = most * if straggles { STRAGGLER } else { 1 };
        let drawn = (random.below(most), random.next());
        if straggles {
            state.count(kind);
        }
        drawn
    };
    nap(nanos, chance).await;
}

/// The checkpoint store of an app.
#[derive(Clone)]
pub(crate) struct SimStore {
    shared: Rc<Shared>,
    app: AppId,
    process: usize,
}

impl SimStore {
    pub(crate) const fn new(shared: Rc<Shared>, app: AppId, process: usize) -> Self {
        Self { shared, app, process }
    }

    async fn travel(&self) {
        let (most, rate) = (self.shared.setup.slow.store, self.shared.rates().store_stragglers);
        let way = (most, rate, FaultKind::StoreStragglers);
        travel(&self.shared, way, |random| &mut random.store).await;
    }

    fn reach(&self, request: &StoreRequest) -> StoreReply {
        let failed = |reason: &str| StoreReply::Failed { reason: reason.into(), retriable: true };
        let rates = self.shared.rates();
        let now = self.shared.now();
        let state = &mut *self.shared.state.borrow_mut();
        if state.store_down_until > now {
            return failed("the store cannot be reached");
        }
        if state.random.store.permille(rates.store_errors) {
            state.count(FaultKind::StoreErrors);
            return failed("the store is busy");
        }
        let Some(services) = state.services.get_mut(&self.app) else {
            return failed("no such app was ever launched");
        };
        let before = (services.commits.epochs(), services.commits.given_up());
        let reply = services.store.perform(request);
        if let Err(violation) = services.commits.observe(request, &reply, &services.store) {
            state.wrong(now, format!("{}: {violation}", self.app));
            return reply;
        }
        let (epochs, given_up) = (services.commits.epochs(), services.commits.given_up());
        if given_up > before.1 {
            state.seen("an epoch was given up, and a later one committed");
        }
        if epochs > before.0 {
            state.processes[self.process].log = LogState::Appended;
            state.committed(now, self.app);
        }
        if !state.processes[self.process].alive {
            state.seen("the store did what a dead process had asked for");
        }
        if state.random.store.permille(rates.store_lost_replies) {
            state.count(FaultKind::StoreLostReplies);
            return failed("the store's answer was lost");
        }
        reply
    }
}

impl Store for SimStore {
    async fn perform(&self, request: StoreRequest) -> StoreReply {
        let this = self.clone();
        let reply = elsewhere(&self.shared, async move {
            this.travel().await;
            let reply = this.reach(&request);
            this.travel().await;
            reply
        });
        let gone = || StoreReply::Failed { reason: "the run has ended".into(), retriable: true };
        reply.await.unwrap_or_else(gone)
    }
}

/// The file system of an app's connectors.
#[derive(Clone)]
pub(crate) struct SimIo {
    shared: Rc<Shared>,
    app: AppId,
    process: usize,
}

impl SimIo {
    pub(crate) const fn new(shared: Rc<Shared>, app: AppId, process: usize) -> Self {
        Self { shared, app, process }
    }

    async fn travel(&self) {
        let (most, rate) = (self.shared.setup.slow.io, self.shared.rates().slow_io);
        let way = (most, rate, FaultKind::SlowIo);
        travel(&self.shared, way, |random| &mut random.io).await;
    }

    fn reach(&self, request: &IoRequest) -> Result<(), IoError> {
        let state = &mut *self.shared.state.borrow_mut();
        if !state.processes[self.process].alive {
            if !state.random.io.permille(self.shared.setup.rates.zombie_io) {
                return Ok(());
            }
            state.count(FaultKind::ZombieIo);
        }
        match state.services.get_mut(&self.app) {
            Some(services) => services.disk.perform(request),
            None => Err(no_file("there is no such app")),
        }
    }
}

impl Io for SimIo {
    async fn perform(&self, _: TaskId, request: IoRequest) -> Result<Vec<u8>, IoError> {
        let this = self.clone();
        let result = elsewhere(&self.shared, async move {
            this.travel().await;
            let result = this.reach(&request).map(|()| Vec::new());
            this.travel().await;
            result
        });
        result.await.unwrap_or_else(|| Err(no_file("the run has ended")))
    }
}

/// The files that an app's sources read.
pub(crate) struct SimFiles {
    shared: Rc<Shared>,
    app: AppId,
}

impl SimFiles {
    pub(crate) const fn new(shared: Rc<Shared>, app: AppId) -> Self {
        Self { shared, app }
    }

    fn with<T>(
        &mut self,
        path: &str,
        read: impl FnOnce(&mut dyn Files) -> Result<T, IoError>,
    ) -> Result<T, IoError> {
        let mut state = self.shared.state.borrow_mut();
        let services = state.services.get_mut(&self.app).ok_or_else(|| no_file(path))?;
        read(&mut services.disk)
    }
}

impl Files for SimFiles {
    fn list(&mut self, pattern: &str) -> Result<Vec<FileInfo>, IoError> {
        self.with(pattern, |files| files.list(pattern))
    }

    fn stat(&mut self, path: &str) -> Result<FileInfo, IoError> {
        self.with(path, |files| files.stat(path))
    }

    fn read_at(&mut self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        self.with(path, |files| files.read_at(path, offset, buffer))
    }

    fn records_per_turn(&self) -> usize {
        self.shared.state.borrow().records_per_turn
    }
}

fn no_file(path: &str) -> IoError {
    let reason = "there is no such file".into();
    IoError { path: path.into(), reason, kind: IoErrorKind::NotFound }
}
