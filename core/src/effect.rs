//! What machines ask the world to do, as plain data.
//!
//! The driver owns the list, performs it in order, and answers every token. The gaps between two
//! effects are where a simulator cuts.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use crate::id::{ExecutorId, TaskId, Token};
use crate::message::Message;

/// Something a machine wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Deliver a message; messages between the same two places keep their order.
    Send {
        /// Where to.
        to: Place,
        /// What.
        message: Message,
    },
    /// Do this on the checkpoint store and answer with [`crate::message::Input::Stored`].
    Store {
        /// Names the request in its answer.
        token: Token,
        /// What to do.
        request: StoreRequest,
    },
    /// Do this for a connector and answer with [`crate::message::Input::IoDone`]. Requests of one
    /// task are performed in order.
    Io {
        /// The task whose connector asks.
        task: TaskId,
        /// Names the request in its answer.
        token: Token,
        /// What to do.
        request: IoRequest,
    },
    /// Tell the user.
    Notice(Notice),
}

/// A party to the messages inside an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The app's coordinator.
    AppMaster,
    /// One of the app's executors.
    Executor(ExecutorId),
}

/// The content of an object, shared: an object may be large, and whoever asks for it to be stored
/// keeps it until that has succeeded.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob(Arc<Vec<u8>>);

impl Default for Blob {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(bytes))
    }
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// A request to the checkpoint store. Names are relative to the app's folder, separated by `/`;
/// one that begins with `/` is of the store as a whole, in which an app's folder is named by
/// [`crate::control::AppSpec::state`], and is only read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreRequest {
    /// Write an object whose name is used by no one else; durable when answered.
    Put {
        /// The object.
        name: String,
        /// Its content.
        bytes: Blob,
    },
    /// Write an object if none of that name exists; durable when answered.
    Create {
        /// The object.
        name: String,
        /// Its content.
        bytes: Blob,
    },
    /// Read an object whole.
    Get {
        /// The object.
        name: String,
    },
    /// The names of all objects below a prefix, in order.
    List {
        /// A folder, with its closing `/`.
        prefix: String,
    },
    /// Remove an object; a missing one is no error.
    Delete {
        /// The object.
        name: String,
    },
}

/// The answer to a [`StoreRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreReply {
    /// Put, Create and Delete: done and durable.
    Done,
    /// Create: an object of that name exists.
    Exists,
    /// Get: there is none.
    Missing,
    /// Get: the content.
    Bytes(Vec<u8>),
    /// List: the names, in order.
    Names(Vec<String>),
    /// The request failed; whether it took effect is unknown.
    Failed {
        /// What the store said.
        reason: String,
        /// True if the same request may succeed later.
        retriable: bool,
    },
}

/// A request of a sink: to the file system it writes to, whose paths are as the connector gave
/// them, or to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IoRequest {
    /// Append bytes at `offset` of a file (created with its folders when `offset` is 0, then
    /// emptied if it exists); refused if the file is shorter.
    Write {
        /// The file.
        path: String,
        /// Where the bytes go.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Make everything written to the file, and its name, durable.
    Sync {
        /// The file.
        path: String,
    },
    /// Make a new file of the first `len` bytes of `from`, synced; refused if their CRC32C is not
    /// `crc`.
    CopyPrefix {
        /// The file to copy.
        from: String,
        /// The new file.
        to: String,
        /// Bytes to keep.
        len: u64,
        /// Their CRC32C.
        crc: u32,
    },
    /// Give a synced file its visible name, durably. If `from` is missing and `to` exists, it was
    /// done before and is done.
    Publish {
        /// The staged file.
        from: String,
        /// The visible name.
        to: String,
    },
    /// Remove a file; a missing one is no error.
    Remove {
        /// The file.
        path: String,
    },
    /// Write to the process's standard output.
    Print {
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Ask a server; the answer has bytes, which mean something to the connector only.
    Call {
        /// What kind of server, by the name under which the driver knows how to talk to it.
        service: String,
        /// What to do there, as the connector encoded it.
        command: Vec<u8>,
        /// What it is to be done with: shared, since it may be large and asked for again.
        body: Blob,
    },
}

/// Why an I/O request or a read failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct IoError {
    /// The file, folder or address.
    pub path: String,
    /// What to tell the user.
    pub reason: String,
    /// What kind of failure, for decisions.
    pub kind: IoErrorKind,
}

/// What kind of failure an [`IoError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoErrorKind {
    /// There is no such file.
    NotFound,
    /// The process may not.
    Denied,
    /// The disk is full or the quota used up.
    Full,
    /// The content is not what was written.
    Damaged,
    /// Who has it does not answer, or not yet: the same request may succeed later.
    Unavailable,
    /// Anything else.
    Other,
}

/// Something the user should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How loud.
    pub level: Level,
    /// A sentence.
    pub text: String,
}

/// How loud a [`Notice`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Goes on as planned.
    Info,
    /// Goes on, but somebody should look.
    Warning,
    /// Cannot go on.
    Error,
}
