//! A process in its loop: watched, paused, and cut off between two effects.

use std::collections::BTreeSet;
use std::rc::Rc;

use gear_core::checkpoint::record::FOLDER;
use gear_core::control::{Address, Role};
use gear_core::effect::StoreRequest;
use gear_core::executor::Activity;
use gear_core::host::process::{Process, ProcessEffect, ProcessInput};
use gear_core::id::ConnectionId;
use gear_core::task::World;
use gear_core::time::Time;
use gear_net::{Chopped, Drivers, EventLoop, Limits, Listener, Transport};
use tokio::task::{JoinHandle, spawn_local};

use super::children::Family;
use super::drivers::{SimClock, SimDisk, SimFiles, SimIo, SimStore, Simulated};
use super::gate::{Gate, gated};
use super::shared::{Child, Doom, Hosted, Shared};
use super::transport::Sockets;
use crate::cluster::{FaultKind, LogState, Look, Subject};
use crate::direct::{Catch, catch};
use crate::trace::Trace;

/// What the loop takes for the process: it passes on what the process hears and wants, and notes
/// it.
struct Watched {
    shared: Rc<Shared>,
    process: usize,
    next_timeout: Option<Time>,
    /// Connections that it holds or dials.
    connections: BTreeSet<ConnectionId>,
}

impl Watched {
    /// Lets the process work, and cuts off what it wants where it dies.
    fn step(
        &mut self,
        local: Time,
        out: &mut Vec<ProcessEffect>,
        call: impl FnOnce(&mut dyn Subject, &mut Vec<ProcessEffect>) -> Activity,
    ) -> Activity {
        let subject = {
            let state = &mut *self.shared.state.borrow_mut();
            state.events += 1;
            state.processes[self.process].subject.take()
        };
        let Some(mut subject) = subject else { return self.nothing() };
        let result = catch(|| call(subject.as_mut(), out));
        self.next_timeout = subject.next_timeout();
        let look = subject.look(local);
        let now = self.shared.now();
        let dies = {
            let state = &mut *self.shared.state.borrow_mut();
            let hosted = &mut state.processes[self.process];
            hosted.subject = Some(subject);
            if let Err(panic) = &result {
                state.wrong(now, format!("process {} panicked: {panic}", self.process));
            }
            let hosted = &mut state.processes[self.process];
            let dies = spring(hosted, out);
            for effect in out.iter() {
                state.trace.effect(now, self.process, effect);
                match effect {
                    ProcessEffect::Dial { connection, .. } => {
                        self.connections.insert(*connection);
                    }
                    ProcessEffect::Close { connection } => {
                        self.connections.remove(connection);
                    }
                    // It waits for nobody any more.
                    ProcessEffect::Exit { .. } => self.connections.clear(),
                    _ => {}
                }
            }
            // Who dies here waits for nobody, and does not come to close what it wanted to.
            let connections = if dies.is_some() { 0 } else { self.connections.len() };
            state.watched(now, self.process, (connections, self.next_timeout), look);
            let asks = out.iter().any(appends);
            if asks {
                state.processes[self.process].log = LogState::Asked;
                state.ambush(self.process, FaultKind::AmbushAppMaster);
            }
            dies
        };
        if let Some(doom) = dies {
            self.doom(doom);
            return self.nothing();
        }
        result.unwrap_or_else(|_| self.nothing())
    }

    /// It dies here: nothing more is heard or wanted, until its loop is ended, too.
    fn doom(&mut self, doom: Doom) {
        self.shared.state.borrow_mut().seen("a process died between two effects of one step");
        match doom {
            Doom::Kill => self.shared.end(self.process, "it was killed"),
            Doom::Power(lasts) => {
                let machine = {
                    let state = &mut *self.shared.state.borrow_mut();
                    let machine = state.processes[self.process].machine;
                    state.doomed.push((machine, lasts));
                    machine
                };
                self.shared.end_all(machine);
            }
        }
    }

    fn role(&self) -> Option<Role> {
        self.shared.state.borrow().processes[self.process].role()
    }

    /// Notes something of a process. False if it is dead.
    fn notes(&mut self, note: impl FnOnce(&mut Trace, Time, usize)) -> bool {
        let state = &mut *self.shared.state.borrow_mut();
        let alive = state.processes[self.process].alive;
        if alive {
            note(&mut state.trace, self.shared.now(), self.process);
        } else {
            self.next_timeout = None;
        }
        alive
    }

    fn nothing(&mut self) -> Activity {
        self.next_timeout = None;
        Activity::Idle(None)
    }
}

/// Asks the store for a record of the commit log.
fn appends(effect: &ProcessEffect) -> bool {
    let ProcessEffect::Store { request: StoreRequest::Create { name, .. }, .. } = effect else {
        return false;
    };
    name.starts_with(FOLDER)
}

/// Counts the effects of a process that is doomed; those behind its death are taken off.
fn spring(hosted: &mut Hosted, out: &mut Vec<ProcessEffect>) -> Option<Doom> {
    let (left, doom) = hosted.trap.as_mut()?;
    let doom = *doom;
    if (out.len() as u64) < *left {
        *left -= out.len() as u64;
        return None;
    }
    out.truncate(*left as usize);
    hosted.trap = None;
    Some(doom)
}

impl Process for Watched {
    fn handle(&mut self, world: &mut World<'_>, input: ProcessInput, out: &mut Vec<ProcessEffect>) {
        if !self.notes(|trace, now, process| trace.input(now, process, &input)) {
            return;
        }
        match &input {
            ProcessInput::Stored { .. } => {
                self.shared.state.borrow_mut().processes[self.process].log = LogState::Quiet;
            }
            ProcessInput::Accepted { connection } => {
                self.connections.insert(*connection);
            }
            ProcessInput::Closed { connection } | ProcessInput::DialFailed { connection, .. } => {
                self.connections.remove(connection);
            }
            _ => {}
        }
        let local = world.now;
        self.step(local, out, |subject, out| {
            subject.handle(world, input, out);
            Activity::Idle(None)
        });
    }

    fn turn(&mut self, world: &mut World<'_>, out: &mut Vec<ProcessEffect>) -> Activity {
        // Nobody else has any.
        let works = matches!(self.role(), Some(Role::Executor(_)));
        if !works || !self.notes(|trace, now, process| trace.turn(now, process)) {
            return Activity::Idle(None);
        }
        let local = world.now;
        self.step(local, out, |subject, out| subject.turn(world, out))
    }

    fn next_timeout(&self) -> Option<Time> {
        self.next_timeout
    }
}

/// The sockets of a machine's processes, as the seed chops them.
pub(crate) fn sockets(shared: &Rc<Shared>, machine: usize, process: usize) -> Chopped<Sockets> {
    let percent = shared.setup.rates.chop.div_ceil(10) as usize;
    if percent > 0 {
        shared.state.borrow_mut().count(FaultKind::Chop);
    }
    let seed = crate::random::mix(shared.setup.seed ^ (process as u64) << 20);
    Chopped::new(Sockets::new(Rc::clone(shared), machine), seed, percent)
}

/// Reserves the number of a process that is about to begin.
pub(crate) fn reserve(shared: &Shared, machine: usize, child: Option<Child>) -> usize {
    let mut state = shared.state.borrow_mut();
    state.processes.push(Hosted {
        machine,
        child,
        subject: None,
        alive: false,
        look: Look::Nothing,
        gate: Rc::new(Gate::default()),
        abort: None,
        trap: None,
        log: LogState::Quiet,
    });
    state.processes.len() - 1
}

/// Begins a process; its end gives its reason.
pub(crate) fn begin(
    shared: &Rc<Shared>,
    process: usize,
    subject: Box<dyn Subject>,
    transport: Chopped<Sockets>,
    listener: <Chopped<Sockets> as Transport>::Listener,
) -> JoinHandle<String> {
    let (machine, app, gate) = {
        let now = shared.now();
        let state = &mut *shared.state.borrow_mut();
        let hosted = &mut state.processes[process];
        hosted.subject = Some(subject);
        hosted.alive = true;
        let (machine, app) = (hosted.machine, hosted.app());
        let gate = Rc::clone(&hosted.gate);
        state.trace.note(now, "a process starts", &[process as u64, machine as u64]);
        let Address(at) = listener.address();
        state.trace.write(now, || format!("process {process} listens at {at}"));
        (machine, app, gate)
    };
    let noticing = Rc::clone(shared);
    let drivers: Drivers<Simulated> = Drivers {
        transport,
        disk: SimDisk::new(Rc::clone(shared), machine),
        store: SimStore::new(Rc::clone(shared), app, process),
        io: SimIo::new(Rc::clone(shared), app, process),
        children: Family::new(Rc::clone(shared), machine, process),
        clock: SimClock::new(Rc::clone(shared), machine),
        files: SimFiles::new(Rc::clone(shared), app),
        guard: Catch,
        notice: Box::new(move |notice| {
            let now = noticing.now();
            let text = &notice.text;
            let line = || format!("process {process} says: {text}");
            noticing.state.borrow_mut().trace.write(now, line);
        }),
    };
    let watched = Watched {
        shared: Rc::clone(shared),
        process,
        next_timeout: None,
        connections: BTreeSet::new(),
    };
    let running = EventLoop::new(watched, listener, drivers, Limits::default()).run();
    let handle = spawn_local(gated(gate, running));
    shared.state.borrow_mut().processes[process].abort = Some(handle.abort_handle());
    handle
}

/// Waits for the end of a process, and gives its reason.
pub(crate) async fn ended(shared: &Shared, process: usize, running: JoinHandle<String>) -> String {
    let reason = match running.await {
        Ok(reason) => reason,
        Err(error) if error.is_panic() => {
            let now = shared.now();
            let what = format!("the loop of process {process} panicked");
            shared.state.borrow_mut().wrong(now, what);
            std::panic::resume_unwind(error.into_panic());
        }
        Err(_) => "it was killed".into(),
    };
    shared.end(process, &reason);
    reason
}
