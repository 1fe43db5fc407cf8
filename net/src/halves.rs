//! Reading and writing the halves of a connection, and halves made of tokio's.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use gear_core::wire::frame::Framed;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::driver::{ReadHalf, WriteHalf};

/// Reads behind what the buffer holds; 0 is the end.
///
/// # Errors
/// As the connection says it: nothing more comes.
pub async fn read<R: ReadHalf>(half: &mut R, buffer: &mut Vec<u8>) -> io::Result<usize> {
    poll_fn(|context| half.poll_read(context, buffer)).await
}

/// Writes all that the buffer holds, which is as before when that has gone well.
///
/// # Errors
/// As the connection says it: nothing more goes.
pub async fn write_all<W: WriteHalf>(half: &mut W, buffer: &mut Vec<u8>) -> io::Result<()> {
    let (len, mut written) = (buffer.len(), 0);
    while written < len {
        match poll_fn(|context| half.poll_write(context, buffer, written)).await? {
            0 => return Err(ErrorKind::WriteZero.into()),
            count => written += count,
        }
    }
    Ok(())
}

/// Frames that are written at once, at most.
pub(crate) const FRAMES_MAX: usize = 4;

/// Writes whole frames: from where they are, or from `spare` for a half that has to own what it
/// writes.
///
/// # Errors
/// As the connection says it: nothing more goes.
pub(crate) async fn write_frames<W: WriteHalf>(
    half: &mut W,
    frames: &[Framed],
    spare: &mut Vec<u8>,
) -> io::Result<()> {
    let len: usize = frames.iter().map(Framed::len).sum();
    let mut written = 0;
    while written < len {
        let mut parts = [IoSlice::new(&[]); 2 * FRAMES_MAX];
        let count = behind(frames, written, &mut parts);
        let wrote = poll_fn(|context| match half.poll_write_parts(context, &parts[..count]) {
            Some(poll) => poll.map(Some),
            None => Poll::Ready(None),
        });
        match wrote.await {
            None => {
                spare.clear();
                frames.iter().for_each(|frame| frame.append_to(spare));
                return write_all(half, spare).await;
            }
            Some(Ok(0)) => return Err(ErrorKind::WriteZero.into()),
            Some(Ok(count)) => written += count,
            Some(Err(error)) => return Err(error),
        }
    }
    Ok(())
}

/// What is left behind the first bytes, in pieces of which none is empty; gives how many.
fn behind<'a>(frames: &'a [Framed], bytes: usize, parts: &mut [IoSlice<'a>]) -> usize {
    let (mut skip, mut count) = (bytes, 0);
    for frame in frames {
        let rest = frame.behind(skip);
        skip = skip.saturating_sub(frame.len());
        for part in rest.into_iter().filter(|part| !part.is_empty()) {
            parts[count] = IoSlice::new(part);
            count += 1;
        }
    }
    count
}

/// Says that nothing more will be written, once everything has left.
///
/// # Errors
/// As the connection says it.
pub async fn shutdown<W: WriteHalf>(half: &mut W) -> io::Result<()> {
    poll_fn(|context| half.poll_shutdown(context)).await
}

/// A reading half of tokio's kind.
#[derive(Debug)]
pub struct TokioRead<R>(pub R);

impl<R: AsyncRead + Unpin + 'static> ReadHalf for TokioRead<R> {
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        // The future keeps nothing between two polls.
        pin!(self.0.read_buf(buffer)).poll(context)
    }
}

/// A writing half of tokio's kind.
#[derive(Debug)]
pub struct TokioWrite<W>(pub W);

impl<W: AsyncWrite + Unpin + 'static> WriteHalf for TokioWrite<W> {
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        from: usize,
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, &buffer[from..])
    }

    fn poll_write_parts(
        &mut self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Option<Poll<io::Result<usize>>> {
        Some(Pin::new(&mut self.0).poll_write_vectored(context, parts))
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
