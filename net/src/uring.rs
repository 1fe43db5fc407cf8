//! TCP over io_uring: connections are made as over epoll, and carried by the ring.
//!
//! It runs inside a [`Runtime`](crate::runtime::Runtime) that has chosen io_uring. The kernel holds
//! the buffers of reads and writes under way; a read that nobody waits for any more takes what
//! comes next with it, so a half keeps the one it has begun until both halves are gone.

use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use gear_core::control::Address;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;

use crate::driver::{Connection, Listener, ReadHalf, Transport, WriteHalf};
use crate::tcp::{Tcp, TcpAccepting};

/// TCP over io_uring; addresses and options are those of [`Tcp`].
#[derive(Clone, Debug, Default)]
pub struct Uring {
    tcp: Tcp,
}

impl Uring {
    /// Connects, listens and advertises as this one does.
    #[must_use]
    pub const fn new(tcp: Tcp) -> Self {
        Self { tcp }
    }
}

impl Transport for Uring {
    type Listener = UringAccepting;
    type Read = UringRead;
    type Write = UringWrite;

    async fn listen(&self, at: &Address) -> io::Result<UringAccepting> {
        Ok(UringAccepting(self.tcp.listen(at).await?))
    }

    async fn dial(&self, to: &Address) -> io::Result<Connection<Self>> {
        halves(self.tcp.connect(to).await?)
    }
}

/// A listener whose connections the ring carries.
#[derive(Debug)]
pub struct UringAccepting(TcpAccepting);

impl Listener<Uring> for UringAccepting {
    fn address(&self) -> Address {
        self.0.address()
    }

    async fn accept(&mut self) -> io::Result<Connection<Uring>> {
        halves(self.0.accept_stream().await?)
    }
}

fn halves(stream: tokio::net::TcpStream) -> io::Result<Connection<Uring>> {
    let stream = stream.into_std()?;
    // A read of a socket that does not block fails instead of waiting in the ring.
    stream.set_nonblocking(false)?;
    let socket = Rc::new(Socket(TcpStream::from_std(stream)));
    let read = UringRead { socket: Rc::clone(&socket), begun: None };
    Ok((read, UringWrite { socket, begun: None }))
}

/// A socket for as long as one of its halves is there.
struct Socket(TcpStream);

impl Drop for Socket {
    fn drop(&mut self) {
        // A read in the ring holds the socket open; this ends it. One that is over already is
        // what is wanted.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// An operation in the ring, which has the buffer.
type Begun = Pin<Box<dyn Future<Output = (io::Result<usize>, Vec<u8>)>>>;

/// What comes in.
pub struct UringRead {
    socket: Rc<Socket>,
    begun: Option<Begun>,
}

impl ReadHalf for UringRead {
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        let begun = self.begun.get_or_insert_with(|| {
            let socket = Rc::clone(&self.socket);
            let mut taken = std::mem::take(buffer);
            if taken.len() == taken.capacity() {
                taken.reserve(1);
            }
            Box::pin(async move {
                let held = taken.len();
                let (result, slice) = socket.0.read(taken.slice(held..)).await;
                (result, slice.into_inner())
            })
        });
        let (result, taken) = ready!(begun.as_mut().poll(context));
        self.begun = None;
        *buffer = taken;
        Poll::Ready(result)
    }
}

/// What goes out.
pub struct UringWrite {
    socket: Rc<Socket>,
    begun: Option<Begun>,
}

impl WriteHalf for UringWrite {
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        from: usize,
    ) -> Poll<io::Result<usize>> {
        if self.begun.is_none() && from >= buffer.len() {
            return Poll::Ready(Ok(0));
        }
        let begun = self.begun.get_or_insert_with(|| {
            let socket = Rc::clone(&self.socket);
            let taken = std::mem::take(buffer);
            Box::pin(async move {
                let (result, slice) = socket.0.write(taken.slice(from..)).submit().await;
                (result, slice.into_inner())
            })
        });
        let (result, taken) = ready!(begun.as_mut().poll(context));
        self.begun = None;
        *buffer = taken;
        Poll::Ready(result)
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written has left for the kernel, which sends it first.
        Poll::Ready(self.socket.0.shutdown(Shutdown::Write))
    }
}
