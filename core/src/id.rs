//! Typed ids: a number never stands for two things.

use core::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($number:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
            Deserialize,
        )]
        pub struct $name(pub $number);

        impl $name {
            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id! {
    /// The number of a checkpoint; the first is 1.
    Epoch(u64), "epoch "
}
id! {
    /// Rises with each app master of an app; fences its predecessors in the commit log.
    AppTerm(u64), "term "
}
/// Rises with each roll-back of a task; fences its predecessors on the channels.
///
/// The upper half is the term of the app master that ordered it, so that two which both think they
/// lead never mean different tasks by one attempt.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Attempt(pub u64);

impl Attempt {
    /// What the app master of a term begins to count from.
    #[must_use]
    pub fn before(term: AppTerm) -> Self {
        let term = u32::try_from(term.0).unwrap_or(u32::MAX);
        Self(u64::from(term) << u32::BITS)
    }

    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Its number within the term.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attempt {}.{}", self.0 >> u32::BITS, self.count())
    }
}

id! {
    /// The number of a record in the commit log; the first is 1.
    LogNumber(u64), ""
}
id! {
    /// A node of the DAG, by its place in the graph.
    ProcessorId(u32), "p"
}
id! {
    /// One of the places where tasks run: a thread when embedded, a process on a cluster, where no
    /// two that an app ever has are called the same.
    ExecutorId(u32), "executor "
}
id! {
    /// Names an effect until its completion comes back.
    Token(u64), "token "
}

id! {
    /// A machine of the cluster, drawn once and kept in its data folder.
    NodeId(u64), "node "
}
id! {
    /// One life of a process: differs between any two starts of the same node or executor.
    Incarnation(u64), "incarnation "
}
id! {
    /// Rises with each election among the masters; at most one of them acts in each.
    MasterTerm(u64), "master term "
}
id! {
    /// An app that was submitted to a cluster.
    AppId(u64), "app "
}
id! {
    /// A connection of a process, unique in its life.
    ConnectionId(u64), "connection "
}

/// Names a client's request, however often it is sent.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RequestId {
    /// Who asks: drawn by the client.
    pub client: u64,
    /// The client's own count.
    pub number: u64,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {}/{}", self.client, self.number)
    }
}

/// One of a processor's parallel instances.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TaskId {
    /// The processor of which this is an instance.
    pub processor: ProcessorId,
    /// Its place among the processor's instances, from 0.
    pub index: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.processor, self.index)
    }
}

/// A stream between two tasks, in one direction, over one edge of the DAG.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ChannelId {
    /// The edge's place in the graph.
    pub edge: u32,
    /// The index of the sending task.
    pub from: u32,
    /// The index of the receiving task.
    pub to: u32,
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}[{}->{}]", self.edge, self.from, self.to)
    }
}
