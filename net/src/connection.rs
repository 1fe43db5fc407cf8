//! The two tasks of a connection: one reads, one writes.

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use gear_core::id::ConnectionId;
use tokio::sync::mpsc::{Sender, UnboundedSender};
use tokio::time::{sleep, timeout};

use crate::driver::{ReadHalf, WriteHalf};
use crate::event_loop::{Completion, SocketEvent};
use crate::halves;
use crate::outbox::{Chunk, Outbox};
use crate::pool::Pool;

/// How long a connection that was let go may take to deliver what had been written.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// Hands over what comes, one piece a time, until the connection is over.
pub(crate) async fn read<R: ReadHalf, T: crate::Transport>(
    mut half: R,
    connection: ConnectionId,
    pool: Rc<Pool>,
    events: Sender<SocketEvent<T>>,
) {
    let mut buffer = pool.take_read();
    let refused = loop {
        match halves::read(&mut half, &mut buffer).await {
            Ok(0) => break None,
            // That connections break is no news; that a peer is none of this cluster is.
            Err(error) => {
                break (error.kind() == ErrorKind::InvalidData).then(|| error.to_string());
            }
            Ok(_) => {}
        }
        let bytes = pool.hand_over(&mut buffer);
        if events.send(SocketEvent::Received { connection, bytes }).await.is_err() {
            return;
        }
    };
    // A loop that is gone needs not to be told.
    let _ = events.send(SocketEvent::Closed { connection, refused }).await;
}

/// Writes what the outbox gives, until it is closed and empty.
pub(crate) async fn write<W: WriteHalf>(
    mut half: W,
    (connection, outbox): (ConnectionId, Rc<Outbox>),
    pool: Rc<Pool>,
    completions: UnboundedSender<Completion>,
) {
    let (mut written, mut spare) = (0, Vec::new());
    while let Some(mut chunk) = outbox.next(written).await {
        written = chunk.len();
        let done = match &mut chunk {
            Chunk::Bytes(bytes) => halves::write_all(&mut half, bytes).await,
            Chunk::Frames(frames) => halves::write_frames(&mut half, frames, &mut spare).await,
        };
        if done.is_err() {
            // What the peer said last may still be unread, so the reader ends the connection; it
            // has this long.
            sleep(LINGER).await;
            let _ = completions.send(Completion::Broken { connection });
            return;
        }
        if let Chunk::Bytes(bytes) = chunk {
            pool.give_written(bytes);
        }
    }
    // A peer that is gone already has all that it will ever get.
    let _ = halves::shutdown(&mut half).await;
}

/// Lets a writer end: at once, or as long as it may linger.
pub(crate) async fn lingering(writing: impl Future<Output = ()>, closed: Rc<Outbox>) {
    tokio::pin!(writing);
    tokio::select! {
        biased;
        () = &mut writing => return,
        () = closed.closed() => {}
    }
    let _ = timeout(LINGER, writing).await;
}
