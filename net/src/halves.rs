//! Reading and writing the halves of a connection, and halves made of tokio's.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

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

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
