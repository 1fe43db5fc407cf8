//! What every process of a cluster is to its driver: a node, an app master, an executor.
//!
//! A driver owns the sockets, the disk, the clock and the children; a process decides. The same
//! processes run over simulated and over real ones.

use alloc::string::String;
use alloc::vec::Vec;

pub use super::command::{Answer, Command};
use crate::control::{Address, LaunchOrder, ProcessId};
use crate::effect::{IoError, IoRequest, Notice, StoreReply, StoreRequest};
use crate::executor::Activity;
use crate::id::{ConnectionId, NodeId, TaskId, Token};
use crate::task::World;
use crate::time::Time;
use crate::wire::frame::Framed;

/// Connections that others have dialled have this bit; the driver numbers them. Those that a
/// process dials it numbers itself, without the bit.
pub const ACCEPTED: u64 = 1 << 63;

/// What a process hears.
#[derive(Clone, Debug, PartialEq)]
pub enum ProcessInput {
    /// Begin.
    Start,
    /// Somebody has connected.
    Accepted {
        /// The new connection.
        connection: ConnectionId,
    },
    /// A connection that was asked for is there.
    Dialed {
        /// The connection.
        connection: ConnectionId,
    },
    /// A connection that was asked for could not be made: it is over.
    DialFailed {
        /// The connection.
        connection: ConnectionId,
        /// True if the host is there and nobody listens: the process is gone.
        refused: bool,
    },
    /// Bytes came over a connection: as many as came at once, cut anywhere.
    Received {
        /// The connection.
        connection: ConnectionId,
        /// The bytes, never none.
        bytes: Vec<u8>,
    },
    /// A connection is over, by whatever reason: nothing more comes or goes.
    Closed {
        /// The connection.
        connection: ConnectionId,
    },
    /// The checkpoint store answered.
    Stored {
        /// The request's token.
        token: Token,
        /// The answer.
        reply: StoreReply,
    },
    /// A connector's request was performed.
    IoDone {
        /// The task that asked.
        task: TaskId,
        /// The request's token.
        token: Token,
        /// How it ended.
        result: Result<Vec<u8>, IoError>,
    },
    /// The process's own disk answered.
    Disk {
        /// The request's token.
        token: Token,
        /// The answer.
        reply: DiskReply,
    },
    /// A child process listens.
    ChildRunning {
        /// The child.
        process: ProcessId,
        /// Where it listens.
        address: Address,
    },
    /// A child process is gone, or could not be launched.
    ChildExited {
        /// The child.
        process: ProcessId,
        /// What a user should know of it.
        reason: String,
    },
    /// Somebody on this machine wants something of the process; answered by exactly one
    /// [`ProcessEffect::Answer`], unless the process ends before.
    Command {
        /// Names the command in its answer; no two of a process's life have the same.
        id: u64,
        /// What is wanted.
        command: Command,
    },
    /// It was found out where a node listens.
    Known {
        /// The node.
        node: NodeId,
        /// Where.
        address: Address,
    },
    /// The deadline that `next_timeout` gave has come.
    Timeout,
}

/// What a process wants done, in this order. The gaps between two effects are where it may die.
#[derive(Clone, Debug, PartialEq)]
pub enum ProcessEffect {
    /// Connect; answered by `Dialed` or `DialFailed`.
    Dial {
        /// The new connection.
        connection: ConnectionId,
        /// Where to.
        to: Address,
    },
    /// Send bytes behind those that were sent before; lost if the connection is over.
    Write {
        /// The connection.
        connection: ConnectionId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The same with a frame, which need not be copied for it.
    WriteFrame {
        /// The connection.
        connection: ConnectionId,
        /// The frame.
        frame: Framed,
    },
    /// Let a connection go. Nothing more is heard of it.
    Close {
        /// The connection.
        connection: ConnectionId,
    },
    /// Do this on the checkpoint store; answered by `Stored`.
    Store {
        /// Names the request in its answer.
        token: Token,
        /// What to do.
        request: StoreRequest,
    },
    /// Do this for a connector; answered by `IoDone`. Requests of one task are performed in order.
    Io {
        /// The task whose connector asks.
        task: TaskId,
        /// Names the request in its answer.
        token: Token,
        /// What to do.
        request: IoRequest,
    },
    /// Do this on the process's own disk; answered by `Disk`, in order.
    Disk {
        /// Names the request in its answer.
        token: Token,
        /// What to do.
        request: DiskRequest,
    },
    /// Launch a child process; answered by `ChildRunning` or `ChildExited`.
    Spawn {
        /// The child, and all that it is told.
        order: LaunchOrder,
    },
    /// End a child process at once; answered by `ChildExited`.
    Kill {
        /// The child.
        process: ProcessId,
    },
    /// What came of a command.
    Answer {
        /// The command.
        id: u64,
        /// What came of it.
        answer: Answer,
    },
    /// Tell the user.
    Notice(Notice),
    /// End this process: it has nothing left to do, or must not go on.
    Exit {
        /// What its parent should know.
        reason: String,
    },
}

/// A request to a process's own disk: a small map from names to bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskRequest {
    /// Read everything.
    Load,
    /// Change all of these or none; durable when answered. A value of none removes the entry.
    Write {
        /// The entries.
        entries: Vec<(String, Option<Vec<u8>>)>,
    },
}

/// The answer to a [`DiskRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskReply {
    /// Everything, by name, in order.
    Loaded {
        /// The entries.
        entries: Vec<(String, Vec<u8>)>,
    },
    /// The write is durable.
    Written,
    /// It failed; whether it took effect is unknown, and nothing later takes effect either.
    Failed {
        /// What the disk said.
        reason: String,
    },
}

/// A process, as its driver sees it.
pub trait Process {
    /// Hears something.
    fn handle(&mut self, world: &mut World<'_>, input: ProcessInput, out: &mut Vec<ProcessEffect>);

    /// Does a part of the work that is at hand, if it is one that has any: an executor. A turn is
    /// due after every `handle`, again while there is more, and at the time that the last one gave.
    fn turn(&mut self, world: &mut World<'_>, out: &mut Vec<ProcessEffect>) -> Activity;

    /// When [`ProcessInput::Timeout`] is due.
    fn next_timeout(&self) -> Option<Time>;

    /// The buffer of bytes that it was given and has read, for the driver to read into again.
    fn take_spent(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// Connections that others have opened and that were closed before they were let in: who was
    /// refused, was not understood, or said nothing.
    fn turned_away(&self) -> u64 {
        0
    }

    /// Gets the buffer of bytes that the driver has written, to be filled again.
    fn give_spent(&mut self, _buffer: Vec<u8>) {}
}
