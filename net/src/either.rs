//! One of two transports, chosen when the process starts.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use gear_core::control::Address;

use crate::driver::{Connection, Listener, ReadHalf, Transport, WriteHalf};

/// One of two: transports, their listeners, their halves.
#[derive(Clone, Debug)]
pub enum Either<A, B> {
    /// The first.
    A(A),
    /// The second.
    B(B),
}

impl<A: Transport, B: Transport> Either<A, B> {
    fn a((read, write): Connection<A>) -> Connection<Self> {
        (Either::A(read), Either::A(write))
    }

    fn b((read, write): Connection<B>) -> Connection<Self> {
        (Either::B(read), Either::B(write))
    }
}

impl<A: Transport, B: Transport> Transport for Either<A, B> {
    type Listener = Either<A::Listener, B::Listener>;
    type Read = Either<A::Read, B::Read>;
    type Write = Either<A::Write, B::Write>;

    async fn listen(&self, at: &Address) -> io::Result<Self::Listener> {
        Ok(match self {
            Self::A(a) => Either::A(a.listen(at).await?),
            Self::B(b) => Either::B(b.listen(at).await?),
        })
    }

    async fn dial(&self, to: &Address) -> io::Result<Connection<Self>> {
        Ok(match self {
            Self::A(a) => Self::a(a.dial(to).await?),
            Self::B(b) => Self::b(b.dial(to).await?),
        })
    }
}

impl<A, B> Listener<Either<A, B>> for Either<A::Listener, B::Listener>
where
    A: Transport,
    B: Transport,
{
    fn address(&self) -> Address {
        match self {
            Self::A(a) => a.address(),
            Self::B(b) => b.address(),
        }
    }

    async fn accept(&mut self) -> io::Result<Connection<Either<A, B>>> {
        Ok(match self {
            Self::A(a) => Either::<A, B>::a(a.accept().await?),
            Self::B(b) => Either::<A, B>::b(b.accept().await?),
        })
    }
}

impl<A: ReadHalf, B: ReadHalf> ReadHalf for Either<A, B> {
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::A(a) => a.poll_read(context, buffer),
            Self::B(b) => b.poll_read(context, buffer),
        }
    }
}

impl<A: WriteHalf, B: WriteHalf> WriteHalf for Either<A, B> {
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        from: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::A(a) => a.poll_write(context, buffer, from),
            Self::B(b) => b.poll_write(context, buffer, from),
        }
    }

    fn poll_write_parts(
        &mut self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Option<Poll<io::Result<usize>>> {
        match self {
            Self::A(a) => a.poll_write_parts(context, parts),
            Self::B(b) => b.poll_write_parts(context, parts),
        }
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::A(a) => a.poll_shutdown(context),
            Self::B(b) => b.poll_shutdown(context),
        }
    }
}
