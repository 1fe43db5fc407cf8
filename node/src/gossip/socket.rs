//! The sockets over which nodes gossip: UDP, every datagram sealed.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Deserializable as _, Serializable as _};
use tokio::net::UdpSocket;

use super::envelope::Sealer;

/// Bytes of the largest datagram that UDP carries.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Makes sockets that seal what they send.
pub(super) struct Sealed {
    sealer: Sealer,
    dropped: Arc<AtomicU64>,
}

impl Sealed {
    pub(super) fn new(sealer: Sealer, dropped: Arc<AtomicU64>) -> Self {
        Self { sealer, dropped }
    }
}

#[async_trait]
impl Transport for Sealed {
    async fn open(&self, at: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        Ok(Box::new(SealedSocket {
            socket: UdpSocket::bind(at).await?,
            sealer: self.sealer.clone(),
            dropped: Arc::clone(&self.dropped),
            buffer: vec![0; DATAGRAM_BYTES_MAX],
        }))
    }
}

struct SealedSocket {
    socket: UdpSocket,
    sealer: Sealer,
    dropped: Arc<AtomicU64>,
    buffer: Vec<u8>,
}

#[async_trait]
impl Socket for SealedSocket {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let sealed = self.sealer.seal(&message.serialize_to_vec());
        // The next round says it again; a socket that cannot send to one node can to others.
        if let Err(error) = self.socket.send_to(&sealed, to).await {
            tracing::debug!(target: "gear", "no gossip with {to}: {error}");
        }
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            let (bytes, from) = match self.socket.recv_from(&mut self.buffer).await {
                Ok(received) => received,
                Err(error) if passes(&error) => continue,
                Err(error) => return Err(error.into()),
            };
            let content = self.sealer.open(&self.buffer[..bytes]);
            match content.map(|mut content| ChitchatMessage::deserialize(&mut content)) {
                Some(Ok(message)) => return Ok((from, message)),
                Some(Err(_)) | None => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// What an earlier datagram has met, or what passes by itself.
fn passes(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::OutOfMemory
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    )
}
