//! The tasks that perform what a process asks of its disk, its connectors and others.

use gear_core::control::Address;
use gear_core::effect::IoRequest;
use gear_core::host::process::DiskRequest;
use gear_core::id::{ConnectionId, TaskId, Token};
use gear_core::limits::DIAL_TIMEOUT;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::sync::mpsc::{Sender, UnboundedReceiver, UnboundedSender};
use tokio::time::{sleep, timeout};

use crate::driver::{Disk, Io, Listener, Transport};
use crate::event_loop::{Completion, SocketEvent};

/// Wait before a listener that failed is asked again: what it lacks, as file descriptors, others
/// have to let go first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Performs the requests of a disk, in order.
pub(crate) async fn disk<D: Disk>(
    mut disk: D,
    mut requests: UnboundedReceiver<(Token, DiskRequest)>,
    completions: UnboundedSender<Completion>,
) {
    while let Some((token, request)) = requests.recv().await {
        let reply = disk.perform(request).await;
        if completions.send(Completion::Disk { token, reply }).is_err() {
            return;
        }
    }
}

/// Performs the requests of one task's connector, in order.
pub(crate) async fn io<I: Io>(
    io: I,
    task: TaskId,
    mut requests: UnboundedReceiver<(Token, IoRequest)>,
    completions: UnboundedSender<Completion>,
) {
    while let Some((token, request)) = requests.recv().await {
        let result = io.perform(task, request).await;
        if completions.send(Completion::Io { task, token, result }).is_err() {
            return;
        }
    }
}

/// Dials once.
pub(crate) async fn dial<T: Transport>(
    transport: T,
    connection: ConnectionId,
    to: Address,
    events: Sender<SocketEvent<T>>,
) {
    let event = match timeout(DIAL_TIMEOUT, transport.dial(&to)).await {
        Ok(Ok(halves)) => SocketEvent::Dialed { connection, halves },
        Ok(Err(error)) => {
            let refused = error.kind() == ErrorKind::ConnectionRefused;
            SocketEvent::DialFailed { connection, refused }
        }
        Err(_) => SocketEvent::DialFailed { connection, refused: false },
    };
    // A loop that is gone has no use for it.
    let _ = events.send(event).await;
}

/// Accepts connections for as long as the loop lives.
pub(crate) async fn accept<T: Transport>(
    mut listener: T::Listener,
    events: Sender<SocketEvent<T>>,
) {
    loop {
        match listener.accept().await {
            Ok(halves) => {
                if events.send(SocketEvent::Accepted { halves }).await.is_err() {
                    return;
                }
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}
