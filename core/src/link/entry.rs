//! What a link says to its other side, apart from frames.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::{Attempt, ChannelId};
use crate::message::Message;

/// The first words on a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resume {
    /// The life of whoever says it.
    pub(crate) session: u64,
    /// The life of the other side, if it was met before.
    pub(crate) met: Option<u64>,
    /// What it has; of every channel.
    pub(crate) arrived: Arrived,
}

/// Everything up to these numbers has arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Arrived {
    /// The last message.
    pub(crate) messages: u64,
    /// The last frames: an acknowledgement names only channels on which something has come.
    pub(crate) channels: Vec<Acknowledge>,
}

/// Everything on a channel up to this number has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acknowledge {
    pub(crate) channel: ChannelId,
    pub(crate) attempt: Attempt,
    pub(crate) number: u64,
}

/// A message with its number.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    pub(crate) message: Message,
}

/// The same, as it is written.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct NumberedRef<'a> {
    pub(crate) number: u64,
    pub(crate) message: &'a Message,
}
