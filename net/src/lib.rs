//! What drives a process of the engine: one loop over sockets, a disk, a store and children, each
//! behind a trait, so that the loop that production runs is the one that the simulator runs.
//!
//! The loop is deterministic as far as its drivers are: it draws no entropy, walks no map whose
//! order is not its keys', and takes what is ready in an order of its own.

#![deny(unsafe_code)]

mod chopped;
pub mod clock;
pub mod conformance;
mod connection;
mod driver;
pub mod either;
mod event_loop;
pub mod halves;
mod handle;
mod outbox;
mod pool;
mod requests;
pub mod runtime;
pub mod tcp;
mod timer;
pub mod tls;
pub mod uring;

pub use chopped::{Chopped, ChoppedListener, ChoppedRead, ChoppedWrite};
pub use driver::{
    ChildEvents, Children, Clock, Connection, Disk, Drivers, Io, Listener, Platform, ReadHalf,
    Store, Transport, WriteHalf,
};
pub use event_loop::{EventLoop, Limits};
pub use handle::Handle;
