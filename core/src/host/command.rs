//! What somebody on the same machine may want of a process, and what comes of it.

use alloc::boxed::Box;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::figures::{AppFigures, ProcessFigures};
use crate::app::Left;
use crate::control::{Reply, Request};
use crate::id::{Epoch, RequestId};

/// Something that is wanted of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Of a node: have the leader of the masters do this, wherever it is.
    Request {
        /// Names it however often it is asked.
        id: RequestId,
        /// What is wanted.
        request: Request,
    },
    /// Of an app master: commit an epoch and keep a copy of it under this name.
    Savepoint {
        /// The name, a single part of a path.
        name: String,
    },
    /// Of an app master or an executor: how it is doing.
    Status,
    /// Of a node: empty the data folder of its master, which is lost, and have it ask for its place
    /// among the voters with a new one.
    Readmit,
    /// Of an app master: give the records that were put aside to the operators that have refused
    /// them. Each counts once, however often this is asked.
    Replay,
    /// Of an app master: forget the records that were put aside.
    Drop,
}

/// What came of a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// What the masters say.
    Reply(Reply),
    /// The savepoint is there, whole.
    Savepoint {
        /// The epoch of which it is a copy.
        epoch: Epoch,
    },
    /// How an app is doing, as its app master sees it.
    Status(Box<AppFigures>),
    /// How an executor is doing.
    Figures(Box<ProcessFigures>),
    /// This has left the quarantine, or was given again and has not.
    Left(Left),
    /// It cannot be done.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}
