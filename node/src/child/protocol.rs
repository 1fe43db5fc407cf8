//! What a worker and a child process say to each other, over the child's standard input.
//!
//! Each message is its length in four bytes, little endian, and as many bytes of postcard. Both
//! ends come from one build of Gear or from versions that the submission has found to fit.

use std::collections::BTreeMap;
use std::io;

use gear_core::control::{Address, LaunchOrder};
use gear_core::host::process::{Answer, Command};
use gear_core::id::{Incarnation, NodeId};
use gear_core::limits::MESSAGE_BYTES_MAX;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::wire::Wiring;

/// Set in the environment of a child process.
pub(crate) const CHILD: &str = "GEAR_CHILD";

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToChild {
    /// First, and once: what to be.
    Launch(Box<Launch>),
    /// Do this, and answer it.
    Command {
        /// Names it in its answer.
        id: u64,
        /// What is wanted.
        command: Command,
    },
}

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromChild {
    /// It listens.
    Running {
        /// Where.
        address: Address,
    },
    /// What came of a command.
    Answer {
        /// The command.
        id: u64,
        /// What came of it.
        answer: Box<Answer>,
    },
    /// It ends, or cannot begin.
    Ended {
        /// What a user should know of it.
        reason: String,
    },
}

/// All that a child is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// What its worker was ordered.
    pub(crate) order: LaunchOrder,
    /// The cluster.
    pub(crate) cluster: u64,
    /// This life of it.
    pub(crate) incarnation: Incarnation,
    /// The nodes of the masters.
    pub(crate) masters: BTreeMap<NodeId, Address>,
    /// The URL of the checkpoint store.
    pub(crate) checkpoints: String,
    /// The host at which it listens.
    pub(crate) bind: String,
    /// How it reaches others, and they reach it.
    pub(crate) wiring: Wiring,
    /// What is logged, as a filter.
    pub(crate) log: String,
}

/// Writes a message.
pub(crate) async fn write<M: Serialize>(
    to: &mut (impl AsyncWrite + Unpin),
    message: &M,
) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    bytes = postcard::to_extend(message, bytes).map_err(io::Error::other)?;
    let length = bytes.len() - 4;
    if length > MESSAGE_BYTES_MAX {
        let text = format!("a message of {length} bytes is longer than {MESSAGE_BYTES_MAX}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    to.write_all(&bytes).await
}

/// Reads a message; none if the other end is gone between two of them.
pub(crate) async fn read<M: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<M>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length) as usize;
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    if length > MESSAGE_BYTES_MAX {
        let text = format!("a message of {length} bytes is longer than {MESSAGE_BYTES_MAX}");
        return Err(invalid(text));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    let (message, rest) =
        postcard::take_from_bytes(&bytes).map_err(|error| invalid(error.to_string()))?;
    if rest.is_empty() {
        Ok(Some(message))
    } else {
        Err(invalid("a message has more to it".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> FromChild {
        FromChild::Running { address: Address("127.0.0.1:1".into()) }
    }

    #[tokio::test]
    async fn messages_come_whole_and_in_order() {
        let (mut here, mut there) = tokio::io::duplex(7);
        let writing = tokio::spawn(async move {
            write(&mut here, &said()).await.expect("it is heard");
            let ended = FromChild::Ended { reason: "x".repeat(10_000) };
            write(&mut here, &ended).await.expect("it is heard");
        });
        let first: Option<FromChild> = read(&mut there).await.expect("it is sound");
        assert!(matches!(first, Some(FromChild::Running { .. })));
        let second: Option<FromChild> = read(&mut there).await.expect("it is sound");
        assert!(matches!(second, Some(FromChild::Ended { reason }) if reason.len() == 10_000));
        writing.await.expect("it has no reason to fail");
        assert!(read::<FromChild>(&mut there).await.expect("it is over").is_none());
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused() {
        let mut sound = Vec::new();
        write(&mut sound, &said()).await.expect("a vector takes all");
        let mut longer = sound.clone();
        longer[0] += 1;
        longer.push(0);
        let cut = sound[..sound.len() - 1].to_vec();
        let huge = u32::MAX.to_le_bytes().to_vec();
        for bytes in [longer, cut, huge, vec![1, 0, 0, 0, 99]] {
            read::<FromChild>(&mut bytes.as_slice()).await.expect_err("it is no message");
        }
    }
}
