//! One process on one thread: what happens becomes inputs, and effects are carried out in order.

use std::collections::BTreeMap;
use std::mem::take;
use std::rc::Rc;
use std::time::Duration;

use gear_core::control::{Address, ProcessId};
use gear_core::effect::{IoError, IoRequest, Level, Notice, StoreReply};
use gear_core::executor::Activity;
use gear_core::host::process::{
    ACCEPTED, DiskReply, DiskRequest, Process, ProcessEffect, ProcessInput,
};
use gear_core::id::{ConnectionId, TaskId, Token};
use gear_core::limits::RECORD_BYTES_MAX;
use gear_core::task::World;
use gear_core::time::Time;
use tokio::sync::mpsc::{
    Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel,
};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::timeout;

use crate::connection::{self, LINGER};
use crate::driver::{
    ChildEvents, Children, Clock, Connection, Drivers, Platform, Store, Transport,
};
use crate::handle::{Commands, Handle, Said};
use crate::outbox::Outbox;
use crate::pool::Pool;
use crate::requests;

/// The bounds of a loop.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of one read; also what each connection's buffer takes. The kernel is called
    /// seldom enough, and a buffer stays in the second-level cache.
    pub read_bytes: usize,
    /// Reads that wait for the process, of all connections together; then sockets are left alone.
    pub reads: usize,
    /// Bytes that may wait to be written to one connection; beyond, its peer does not read and the
    /// connection is closed. Above the largest record and the windows of a link's channels.
    pub outgoing_bytes: usize,
    /// Connections that may be open; further ones are closed as soon as they are accepted.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            read_bytes: 256 * 1_024,
            reads: 16,
            outgoing_bytes: 4 * RECORD_BYTES_MAX,
            connections: 4_096,
        }
    }
}

/// Inputs between two turns, so that neither peers nor the work at hand wait for each other.
const INPUTS_PER_TURN: usize = 64;
/// Time between two notices of connections whose peers could not show who they are.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(1);
/// Rounds in a row that a process may be told of a deadline and name one that has passed: more,
/// and it will never be content.
const DEADLINES_IN_A_ROW: u32 = 10_000;

/// What came over the sockets; bounded, so that a process that is busy is not flooded.
pub(crate) enum SocketEvent<T: Transport> {
    Accepted { halves: Connection<T> },
    Dialed { connection: ConnectionId, halves: Connection<T> },
    DialFailed { connection: ConnectionId, refused: bool },
    Received { connection: ConnectionId, bytes: Vec<u8> },
    Closed { connection: ConnectionId, refused: Option<String> },
}

/// Both ends of the sockets' queue.
type Ends<T> = (Sender<SocketEvent<T>>, Receiver<SocketEvent<T>>);

/// What the process has asked for is done: as many as it has asked for.
#[derive(Debug)]
pub(crate) enum Completion {
    Disk { token: Token, reply: DiskReply },
    Stored { token: Token, reply: StoreReply },
    Io { task: TaskId, token: Token, result: Result<Vec<u8>, IoError> },
    ChildRunning { process: ProcessId, address: Address },
    ChildExited { process: ProcessId, reason: String },
    Broken { connection: ConnectionId },
}

/// A connection of the process.
enum Open {
    Dialing(AbortHandle),
    There {
        outbox: Rc<Outbox>,
        reader: AbortHandle,
        writer: AbortHandle,
    },
    /// It has exceeded a limit; the process is about to hear of it.
    Broken,
}

/// Runs one process. It has to run where tasks that are not `Send` can be spawned: in tokio's
/// `LocalRuntime`, or in a `LocalSet` of a current-thread runtime.
///
/// Dropped, it ends everything that it has started, and its connections: as the end of a process
/// does. A panic in any of its tasks becomes its own.
pub struct EventLoop<P: Process, E: Platform> {
    process: P,
    drivers: Remaining<E>,
    limits: Limits,
    connections: BTreeMap<ConnectionId, Open>,
    accepted: u64,
    /// All but the writers.
    tasks: JoinSet<()>,
    /// Apart from the others, since they may outlast the process's will to live.
    writers: JoinSet<()>,
    events: Ends<E::Transport>,
    completions: (UnboundedSender<Completion>, UnboundedReceiver<Completion>),
    commands: Commands,
    disk: UnboundedSender<(Token, DiskRequest)>,
    io: BTreeMap<TaskId, UnboundedSender<(Token, IoRequest)>>,
    effects: Vec<ProcessEffect>,
    pool: Rc<Pool>,
    exit: Option<String>,
    deadlines: u32,
    /// Since when there is nothing to do; none while there is.
    idle_since: Option<Time>,
    /// True if the last wait was short.
    alert: bool,
    /// When a refused connection was told of last.
    refusal_at: Option<Time>,
    /// Connections that were closed before the process heard of anything on them.
    turned_away: u64,
}

/// The drivers but the disk, which a task of its own has.
struct Remaining<E: Platform> {
    transport: E::Transport,
    store: E::Store,
    io: E::Io,
    children: E::Children,
    clock: E::Clock,
    files: E::Files,
    guard: E::Guard,
    notice: Box<dyn FnMut(Notice)>,
}

impl<P: Process, E: Platform> EventLoop<P, E> {
    /// A loop over a process that has not begun.
    #[must_use]
    pub fn new(
        process: P,
        listener: <E::Transport as Transport>::Listener,
        drivers: Drivers<E>,
        limits: Limits,
    ) -> Self {
        let Drivers { transport, disk, store, io, children, clock, files, guard, notice } = drivers;
        let events = channel(limits.reads);
        let completions = unbounded_channel();
        let (disk_requests, requested) = unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn_local(requests::disk(disk, requested, completions.0.clone()));
        tasks.spawn_local(requests::accept::<E::Transport>(listener, events.0.clone()));
        Self {
            process,
            drivers: Remaining { transport, store, io, children, clock, files, guard, notice },
            limits,
            connections: BTreeMap::new(),
            accepted: 0,
            tasks,
            writers: JoinSet::new(),
            events,
            completions,
            commands: Commands::new(),
            disk: disk_requests,
            io: BTreeMap::new(),
            effects: Vec::new(),
            pool: Rc::new(Pool::new(limits.read_bytes)),
            exit: None,
            deadlines: 0,
            idle_since: None,
            alert: false,
            refusal_at: None,
            turned_away: 0,
        }
    }

    /// Through which others, on any thread, have the process do something.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.commands.handle()
    }

    /// Runs the process until it wants to end, and gives its reason. What it has written by then
    /// is delivered, if that does not take long.
    pub async fn run(mut self) -> String {
        self.hear(ProcessInput::Start);
        while self.exit.is_none() {
            self.hear_what_is_ready();
            if self.exit.is_some() {
                break;
            }
            let activity = self.turn();
            if self.exit.is_some() {
                break;
            }
            let until = match activity {
                Activity::Busy => Time::ZERO,
                Activity::Idle(until) => {
                    let turn = until.unwrap_or(Time::MAX);
                    turn.min(self.process.next_timeout().unwrap_or(Time::MAX))
                }
            };
            let now = self.drivers.clock.now();
            if until <= now {
                self.idle_since = None;
                self.drivers.clock.breathe().await;
            } else if self.is_alert(now) {
                // Whoever else wants this core has it.
                std::thread::yield_now();
                self.drivers.clock.breathe().await;
            } else {
                self.wait(now, until).await;
                self.idle_since = None;
                self.alert = self.drivers.clock.now().since(now) < self.drivers.clock.alert();
            }
        }
        self.flush().await;
        self.exit.unwrap_or_default()
    }

    /// Whether what comes is to find this thread awake.
    fn is_alert(&mut self, now: Time) -> bool {
        let since = *self.idle_since.get_or_insert(now);
        self.alert &= now.since(since) < self.drivers.clock.alert();
        self.alert
    }

    /// Lets the process hear what has happened, completions first, and its deadline.
    fn hear_what_is_ready(&mut self) {
        while let Some(joined) = self.tasks.try_join_next() {
            check(joined);
        }
        while let Some(joined) = self.writers.try_join_next() {
            check(joined);
        }
        for _ in 0..INPUTS_PER_TURN {
            if self.exit.is_some() {
                return;
            }
            if let Ok(completion) = self.completions.1.try_recv() {
                self.complete(completion);
            } else if let Ok(event) = self.events.1.try_recv() {
                self.idle_since = None;
                self.socket(event);
            } else if let Some(said) = self.commands.try_next() {
                self.said(said);
            } else {
                break;
            }
        }
        let now = self.drivers.clock.now();
        if self.exit.is_none() && self.process.next_timeout().is_some_and(|at| at <= now) {
            self.hear(ProcessInput::Timeout);
            self.deadlines += 1;
            let deadlines = self.deadlines;
            assert!(deadlines < DEADLINES_IN_A_ROW, "a process's deadline stays in the past");
        } else {
            self.deadlines = 0;
        }
    }

    /// Waits for the next thing to happen, at most until a time.
    async fn wait(&mut self, now: Time, until: Time) {
        tokio::select! {
            biased;
            Some(joined) = self.tasks.join_next() => check(joined),
            Some(joined) = self.writers.join_next() => check(joined),
            Some(completion) = self.completions.1.recv() => self.complete(completion),
            Some(event) = self.events.1.recv() => self.socket(event),
            said = self.commands.next() => self.said(said),
            () = self.drivers.clock.sleep(until.since(now)), if until < Time::MAX => {}
        }
    }

    /// Ends all connections, what was written first.
    async fn flush(&mut self) {
        self.tasks.abort_all();
        for open in take(&mut self.connections).into_values() {
            if let Open::There { outbox, .. } = open {
                outbox.close();
            }
        }
        let writers = &mut self.writers;
        let flushed = async {
            while let Some(joined) = writers.join_next().await {
                check(joined);
            }
        };
        // A writer lingers that long by itself.
        let _ = timeout(LINGER * 2, flushed).await;
    }

    fn hear(&mut self, input: ProcessInput) {
        let mut world = World {
            now: self.drivers.clock.now(),
            wall: self.drivers.clock.wall(),
            files: &mut self.drivers.files,
            guard: &mut self.drivers.guard,
        };
        self.process.handle(&mut world, input, &mut self.effects);
        self.commands.note_turned_away(self.process.turned_away() + self.turned_away);
        self.perform();
    }

    fn turn(&mut self) -> Activity {
        while let Some(buffer) = self.pool.take_written() {
            self.process.give_spent(buffer);
        }
        let mut world = World {
            now: self.drivers.clock.now(),
            wall: self.drivers.clock.wall(),
            files: &mut self.drivers.files,
            guard: &mut self.drivers.guard,
        };
        let activity = self.process.turn(&mut world, &mut self.effects);
        self.perform();
        activity
    }

    fn complete(&mut self, completion: Completion) {
        let input = match completion {
            Completion::Disk { token, reply } => ProcessInput::Disk { token, reply },
            Completion::Stored { token, reply } => ProcessInput::Stored { token, reply },
            Completion::Io { task, token, result } => ProcessInput::IoDone { task, token, result },
            Completion::ChildRunning { process, address } => {
                ProcessInput::ChildRunning { process, address }
            }
            Completion::ChildExited { process, reason } => {
                ProcessInput::ChildExited { process, reason }
            }
            Completion::Broken { connection } => {
                if !self.forget(connection) {
                    return;
                }
                ProcessInput::Closed { connection }
            }
        };
        self.hear(input);
    }

    fn said(&mut self, said: Said) {
        if let Some(input) = self.commands.take(said) {
            self.hear(input);
        }
    }

    /// The end of a connection. True if the process still had it.
    fn forget(&mut self, connection: ConnectionId) -> bool {
        match self.connections.remove(&connection) {
            None => false,
            Some(Open::Dialing(dial)) => {
                dial.abort();
                true
            }
            Some(Open::There { reader, writer, .. }) => {
                reader.abort();
                writer.abort();
                true
            }
            Some(Open::Broken) => true,
        }
    }

    fn socket(&mut self, event: SocketEvent<E::Transport>) {
        match event {
            SocketEvent::Accepted { halves } => {
                if self.connections.len() >= self.limits.connections {
                    self.turned_away += 1;
                    let most = self.limits.connections;
                    self.warn(format!("more than {most} connections: one more is refused"));
                    return;
                }
                let connection = ConnectionId(ACCEPTED | self.accepted);
                self.accepted += 1;
                self.open(connection, halves);
                self.hear(ProcessInput::Accepted { connection });
            }
            SocketEvent::Dialed { connection, halves } => {
                if matches!(self.connections.get(&connection), Some(Open::Dialing(_))) {
                    self.open(connection, halves);
                    self.hear(ProcessInput::Dialed { connection });
                }
            }
            SocketEvent::DialFailed { connection, refused } => {
                if self.forget(connection) {
                    self.hear(ProcessInput::DialFailed { connection, refused });
                }
            }
            SocketEvent::Received { connection, bytes } => {
                if matches!(self.connections.get(&connection), Some(Open::There { .. })) {
                    self.hear(ProcessInput::Received { connection, bytes });
                    if let Some(buffer) = self.process.take_spent() {
                        self.pool.give_read(buffer);
                    }
                }
            }
            SocketEvent::Closed { connection, refused } => {
                if let Some(reason) = refused {
                    self.turned_away += u64::from(connection.0 & ACCEPTED != 0);
                    self.refused(&reason);
                }
                if self.forget(connection) {
                    self.hear(ProcessInput::Closed { connection });
                }
            }
        }
    }

    /// A peer could not show who it is. Whoever tries it again and again fills no log.
    fn refused(&mut self, reason: &str) {
        let now = self.drivers.clock.now();
        if self.refusal_at.is_none_or(|before| now.since(before) >= REFUSAL_INTERVAL) {
            self.refusal_at = Some(now);
            self.warn(format!("a connection is refused: {reason}"));
        }
    }

    fn open(&mut self, connection: ConnectionId, halves: Connection<E::Transport>) {
        let outbox = Rc::new(Outbox::default());
        let (events, pool) = (self.events.0.clone(), &self.pool);
        let reading = connection::read(halves.0, connection, Rc::clone(pool), events);
        let completions = self.completions.0.clone();
        let there = (connection, Rc::clone(&outbox));
        let writing = connection::write(halves.1, there, Rc::clone(pool), completions);
        let open = Open::There {
            reader: self.tasks.spawn_local(reading),
            writer: self.writers.spawn_local(connection::lingering(writing, Rc::clone(&outbox))),
            outbox,
        };
        self.connections.insert(connection, open);
    }

    fn warn(&mut self, text: String) {
        (self.drivers.notice)(Notice { level: Level::Warning, text });
    }

    /// Carries out what the process wants, in order.
    fn perform(&mut self) {
        let mut effects = take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                ProcessEffect::Dial { connection, to } => self.dial(connection, to),
                ProcessEffect::Write { connection, bytes } => {
                    self.write(connection, |outbox, pool| {
                        let (waiting, spare) = outbox.push(bytes);
                        spare.into_iter().for_each(|buffer| pool.give_written(buffer));
                        waiting
                    });
                }
                ProcessEffect::WriteFrame { connection, frame } => {
                    self.write(connection, |outbox, _| outbox.push_frame(frame));
                }
                ProcessEffect::Close { connection } => self.close(connection),
                ProcessEffect::Store { token, request } => {
                    let (store, done) = (self.drivers.store.clone(), self.completions.0.clone());
                    self.tasks.spawn_local(async move {
                        let reply = store.perform(request).await;
                        // A loop that is gone does not listen.
                        let _ = done.send(Completion::Stored { token, reply });
                    });
                }
                ProcessEffect::Io { task, token, request } => self.ask_io(task, token, request),
                ProcessEffect::Disk { token, request } => {
                    self.disk.send((token, request)).expect("the disk's task lives as long");
                }
                ProcessEffect::Spawn { order } => {
                    let events = ChildEvents(self.completions.0.clone());
                    self.drivers.children.spawn(order, events);
                }
                ProcessEffect::Kill { process } => self.drivers.children.kill(process),
                ProcessEffect::Answer { id, answer } => self.commands.answer(id, answer),
                ProcessEffect::Notice(notice) => (self.drivers.notice)(notice),
                ProcessEffect::Exit { reason } => {
                    self.exit = Some(reason);
                    break;
                }
            }
        }
        self.effects = effects;
    }

    fn dial(&mut self, connection: ConnectionId, to: Address) {
        assert!(connection.0 & ACCEPTED == 0, "the loop numbers what it accepts");
        let (transport, events) = (self.drivers.transport.clone(), self.events.0.clone());
        let dialing = requests::dial(transport, connection, to, events);
        let dialing = Open::Dialing(self.tasks.spawn_local(dialing));
        let before = self.connections.insert(connection, dialing);
        assert!(before.is_none(), "{connection} is dialled twice");
    }

    /// Puts something into the outbox of a connection, unless that is over.
    fn write(&mut self, connection: ConnectionId, push: impl FnOnce(&Outbox, &Pool) -> usize) {
        let Some(open) = self.connections.get_mut(&connection) else { return };
        let Open::There { outbox, reader, writer } = open else { return };
        let most = self.limits.outgoing_bytes;
        if push(outbox, &self.pool) <= most {
            return;
        }
        reader.abort();
        writer.abort();
        *open = Open::Broken;
        let completion = Completion::Broken { connection };
        self.completions.0.send(completion).expect("the loop has the other end");
        self.warn(format!(
            "{connection} is closed: its peer does not read, and more than the {most} bytes of \
             Limits::outgoing_bytes wait to be written"
        ));
    }

    /// Lets a connection go; what was written is still delivered if the peer reads it soon.
    fn close(&mut self, connection: ConnectionId) {
        match self.connections.remove(&connection) {
            Some(Open::Dialing(dial)) => dial.abort(),
            Some(Open::There { outbox, reader, .. }) => {
                reader.abort();
                outbox.close();
            }
            Some(Open::Broken) | None => {}
        }
    }

    fn ask_io(&mut self, task: TaskId, token: Token, request: IoRequest) {
        let (tasks, io, done) = (&mut self.tasks, &self.drivers.io, &self.completions.0);
        let queue = self.io.entry(task).or_insert_with(|| {
            let (queue, requested) = unbounded_channel();
            tasks.spawn_local(requests::io(io.clone(), task, requested, done.clone()));
            queue
        });
        queue.send((token, request)).expect("the task of a queue lives as long");
    }
}

/// A task has ended: a panic in it is a panic of the loop.
fn check(joined: Result<(), JoinError>) {
    match joined {
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Ok(()) | Err(_) => {}
    }
}
