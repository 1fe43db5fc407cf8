//! What the loop asks of the machine that it runs on.
//!
//! Nothing here has to be `Send`: a loop and all that it starts live on one thread.

use std::future::Future;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};
use std::time::Duration;

use gear_core::api::Files;
use gear_core::control::{Address, LaunchOrder, ProcessId};
use gear_core::effect::{IoError, IoRequest, Notice, StoreReply, StoreRequest};
use gear_core::flow::push::Guard;
use gear_core::host::process::{DiskReply, DiskRequest};
use gear_core::id::TaskId;
use gear_core::time::{Time, WallTime};
use tokio::sync::mpsc::UnboundedSender;

use crate::event_loop::Completion;

/// The two halves of a connection, each of which can be used while the other waits.
///
/// Both dropped, the connection is over; what was written before a shutdown of the second half
/// still arrives.
pub type Connection<T> = (<T as Transport>::Read, <T as Transport>::Write);

/// Connections of bytes: reliable and in order while they last. `net::conformance` is what every
/// transport has to pass.
pub trait Transport: Clone + 'static {
    /// What accepts connections.
    type Listener: Listener<Self>;
    /// What comes in. Dropped with unread bytes, it may reset the connection.
    type Read: ReadHalf;
    /// What goes out.
    type Write: WriteHalf;

    /// Listens at an address; the transport says which forms it knows.
    ///
    /// # Errors
    /// As the operating system says it: the address is taken, or none of this machine.
    fn listen(&self, at: &Address) -> impl Future<Output = io::Result<Self::Listener>>;

    /// Connects. The caller gives up after a time of its own by dropping the future.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`] only if the host is there and nobody listens: who
    /// hears that takes the process for gone.
    fn dial(&self, to: &Address) -> impl Future<Output = io::Result<Connection<Self>>>;
}

/// The half of a connection out of which bytes come. [`halves`](crate::halves) has what reads it.
pub trait ReadHalf: 'static {
    /// Reads behind what a buffer holds, as much as is there and fits in its capacity; 0 is the
    /// end.
    ///
    /// A call that is not ready is repeated with the same buffer, which the kernel may have until
    /// then: it is empty meanwhile.
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>>;
}

/// The half of a connection into which bytes go. [`halves`](crate::halves) has what writes to it.
pub trait WriteHalf: 'static {
    /// Writes what a buffer holds from a position on, or a part of that; gives how much.
    ///
    /// A call that is not ready is repeated with the same buffer and position; the kernel may have
    /// the buffer until then, which is empty meanwhile.
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        from: usize,
    ) -> Poll<io::Result<usize>>;

    /// Writes what these hold, one behind the other, or a part of that; gives how much. None of
    /// them is empty, and the next call may have others. None if this half has to own what it
    /// writes.
    fn poll_write_parts(
        &mut self,
        _context: &mut Context<'_>,
        _parts: &[IoSlice<'_>],
    ) -> Option<Poll<io::Result<usize>>> {
        None
    }

    /// Says to the peer that nothing more comes, behind what was written.
    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// What accepts the connections of a [`Transport`].
pub trait Listener<T: Transport>: 'static {
    /// Where it listens, as others have to dial it.
    fn address(&self) -> Address;

    /// The next connection. Dropping the future loses none.
    ///
    /// # Errors
    /// As the operating system says it; the listener goes on.
    fn accept(&mut self) -> impl Future<Output = io::Result<Connection<T>>>;
}

/// A process's own disk: a small map from names to bytes.
pub trait Disk: 'static {
    /// Performs a request; the next comes after its answer.
    fn perform(&mut self, request: DiskRequest) -> impl Future<Output = DiskReply>;
}

/// The checkpoint store.
pub trait Store: Clone + 'static {
    /// Performs a request, many at once in any order.
    fn perform(&self, request: StoreRequest) -> impl Future<Output = StoreReply>;
}

/// What performs the connectors' requests.
pub trait Io: Clone + 'static {
    /// Performs a request of a task; the task's next comes after its answer.
    ///
    /// # Errors
    /// What the connector is to hear.
    fn perform(
        &self,
        task: TaskId,
        request: IoRequest,
    ) -> impl Future<Output = Result<Vec<u8>, IoError>>;
}

/// What launches and ends a process's children.
pub trait Children: 'static {
    /// Launches a child; says through `events` when it listens, and when it is gone or could not
    /// be launched.
    fn spawn(&mut self, order: LaunchOrder, events: ChildEvents);

    /// Ends a child at once; the end is said like any other. An unknown one is no error.
    fn kill(&mut self, process: ProcessId);
}

/// Through which [`Children`] say how a child is doing.
#[derive(Clone, Debug)]
pub struct ChildEvents(pub(crate) UnboundedSender<Completion>);

impl ChildEvents {
    /// The child listens.
    pub fn running(&self, process: ProcessId, address: Address) {
        // A parent that is gone does not listen any more.
        let _ = self.0.send(Completion::ChildRunning { process, address });
    }

    /// The child is gone, or could not be launched.
    pub fn exited(&self, process: ProcessId, reason: String) {
        let _ = self.0.send(Completion::ChildExited { process, reason });
    }
}

/// The machine's clocks.
pub trait Clock: 'static {
    /// The monotonic time.
    fn now(&self) -> Time;

    /// The wall-clock time.
    fn wall(&self) -> WallTime;

    /// Comes between two turns of a process that is busy: lets every other task of the thread run
    /// and sockets be served. Where turns take no time, as in a simulation, it has to let some
    /// pass, or a process that is busy for ever stops the world.
    fn breathe(&self) -> impl Future<Output = ()>;

    /// A thread whose last wait was shorter than this looks again and again for as long before it
    /// sleeps: to be woken costs both sides more. Nothing where a look takes no time.
    fn alert(&self) -> Duration {
        Duration::ZERO
    }

    /// Waits at least so long.
    fn sleep(&self, span: Duration) -> impl Future<Output = ()> {
        tokio::time::sleep(span)
    }
}

/// The types of a machine's drivers.
pub trait Platform: 'static {
    /// Connections.
    type Transport: Transport;
    /// The process's own disk.
    type Disk: Disk;
    /// The checkpoint store.
    type Store: Store;
    /// Connectors' requests.
    type Io: Io;
    /// Child processes.
    type Children: Children;
    /// The clocks.
    type Clock: Clock;
    /// Files that sources read.
    type Files: Files;
    /// What catches the panics of the user's code.
    type Guard: Guard;
}

/// A machine's drivers, as one process uses them.
pub struct Drivers<E: Platform> {
    /// Connections.
    pub transport: E::Transport,
    /// The process's own disk.
    pub disk: E::Disk,
    /// The checkpoint store.
    pub store: E::Store,
    /// Connectors' requests.
    pub io: E::Io,
    /// Child processes.
    pub children: E::Children,
    /// The clocks.
    pub clock: E::Clock,
    /// Files that sources read.
    pub files: E::Files,
    /// What catches the panics of the user's code.
    pub guard: E::Guard,
    /// Tells the user.
    pub notice: Box<dyn FnMut(Notice)>,
}
