//! What can be wrong with what comes over a link, and why a link ends.

use alloc::boxed::Box;

use crate::id::{Attempt, ChannelId};
use crate::limits::{CHANNEL_WINDOW_BYTES_MAX, LINK_ENTRIES_MAX, LINK_MESSAGE_BYTES_MAX};
use crate::wire::item::ItemError;
use crate::wire::message::MessageError;
use crate::wire::stream::StreamError;

/// Why what came over a connection cannot be used: the connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The bytes are no entries.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A message is none.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A frame is no item.
    #[error(transparent)]
    Item(#[from] ItemError),
    /// Something that does not belong here: a link begins with what has arrived before.
    #[error("a message of kind {kind} came where it does not belong; close the connection")]
    Unexpected {
        /// Its kind; 0 for a frame.
        kind: u16,
    },
    /// Frames are missing.
    #[error("frame {found} of {channel}, {attempt}, came where {expected} belongs: some are lost")]
    Gap {
        /// The channel.
        channel: ChannelId,
        /// The attempt.
        attempt: Attempt,
        /// The number that would have been next.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// Messages are missing.
    #[error("message {found} came where {expected} belongs: some are lost")]
    MessageGap {
        /// The number that would have been next.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// The peer says that it has what was never written, or no longer what it had.
    #[error("{found} is acknowledged, but {known} was, and {written} was written: not this peer")]
    Acknowledged {
        /// What was acknowledged before.
        known: u64,
        /// What it says that it has.
        found: u64,
        /// The highest number that was written.
        written: u64,
    },
    /// More credit than any window.
    #[error(
        "{bytes} bytes of credit came for {channel}, more than a window of \
         {CHANNEL_WINDOW_BYTES_MAX} bytes allows"
    )]
    Credit {
        /// The channel.
        channel: ChannelId,
        /// The credit that came.
        bytes: u64,
    },
}

impl LinkError {
    /// True if another connection cannot mend it.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Gap { .. }
                | Self::MessageGap { .. }
                | Self::Acknowledged { .. }
                | Self::Credit { .. }
        )
    }
}

/// Why a link has ended. The peer is lost for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LostReason {
    /// Nothing was heard for the grace time.
    #[error("it was not heard for the grace time")]
    Silent,
    /// Nobody listens where it was, or it does not let this process in.
    #[error("it refused the connection: it is gone, or has given this process up")]
    Refused,
    /// It has said goodbye.
    #[error("it has ended the link")]
    Goodbye,
    /// One of the two was started again: what it was told before is gone.
    #[error("it met session {found:016x} where the link was with {known:016x}: a later life")]
    AnotherLife {
        /// The life with which the link began.
        known: u64,
        /// The life that was met.
        found: u64,
    },
    /// It does not acknowledge what is sent.
    #[error(
        "it does not acknowledge what it is sent: more than {LINK_ENTRIES_MAX} frames and messages \
         or {LINK_MESSAGE_BYTES_MAX} bytes of messages wait"
    )]
    Overflow,
    /// Something that had to be sent is too large, or cannot be encoded.
    #[error("what had to be sent to it cannot be: {0}")]
    Unsendable(Box<StreamError>),
    /// What it sends cannot be used, and another connection does not mend it.
    #[error("what it sends cannot be used: {0}")]
    Broken(Box<LinkError>),
}
