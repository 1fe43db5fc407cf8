//! What masters say to each other.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::id::{Incarnation, MasterTerm};
use crate::time::Time;

/// The kind of an encoded state with its voters, in [`crate::wire::message`]'s sense.
pub(super) const KIND_BODY: u16 = 0x5101;
/// The kind of an encoded update.
pub(super) const KIND_DELTA: u16 = 0x5102;

/// Highest term and number that are believed: no cluster ever comes near, and counting on from
/// them does not overflow.
pub const TERM_MAX: u64 = u64::MAX / 2;

/// A message between masters. May be lost, come twice, late and out of order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuorumMessage {
    /// The cluster of the sender: masters of another hear nothing.
    pub cluster: u64,
    /// The sender's data folder: what another folder of the same node says counts for that.
    pub folder: Incarnation,
    /// What is said.
    pub content: QuorumContent,
}

/// How new a replicated state is: who wrote it, and which update was the last.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    // The order of the fields is the order of the derived comparison.
    /// The term of the leader that wrote it.
    pub term: MasterTerm,
    /// The leader's number of the last update in it; the write-back at its take-over is 1.
    pub number: u64,
}

/// What a [`QuorumMessage`] says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum QuorumContent {
    /// Would you vote for me in this term? Changes nothing.
    PreVote {
        /// The term.
        term: MasterTerm,
    },
    /// I would.
    PreVoteGranted {
        /// The term.
        term: MasterTerm,
    },
    /// Promise me this term, and tell your state.
    Vote {
        /// The term.
        term: MasterTerm,
        /// The candidate's state: nobody need send one that is not newer.
        position: Position,
    },
    /// The term is promised, on disk: lower ones are refused from now on.
    Promised {
        /// The term.
        term: MasterTerm,
        /// How new the voter's state was after the promise.
        position: Position,
        /// The state with its voters, encoded; none if it is not newer than the candidate's.
        body: Option<ByteBuf>,
    },
    /// No: this much is promised already, or the leader of it lives.
    Refused {
        /// The highest term that was promised.
        term: MasterTerm,
    },
    /// From the leader: updates, or none to say that it lives.
    Append {
        /// The leader's term.
        term: MasterTerm,
        /// The leader's clock as it sent this, for its lease.
        sent: Time,
        /// The number of the first update.
        first: u64,
        /// The updates, encoded, numbered without gaps.
        deltas: Vec<ByteBuf>,
    },
    /// From the leader: everything, in place of whatever an older term has left.
    Whole {
        /// The leader's term.
        term: MasterTerm,
        /// The leader's clock as it sent this, for its lease.
        sent: Time,
        /// The number of the last update in it.
        number: u64,
        /// The state with its voters, encoded.
        body: ByteBuf,
    },
    /// To the leader: what has come from it.
    Acknowledged {
        /// The leader's term.
        term: MasterTerm,
        /// The `sent` of the latest message from it.
        sent: Time,
        /// The number of the last update of its term that was taken in, 0 if none was.
        received: u64,
        /// The number of the last update of its term that is on disk, 0 if none is.
        stored: u64,
    },
    /// From a master that does not vote: here I am.
    Apply {
        /// True if its operator has said that it takes the place of its lost folder.
        readmit: bool,
    },
}
