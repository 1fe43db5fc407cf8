//! A transport that cuts what goes through it in pieces, so that nobody relies on where a read or
//! a write happens to end.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll};

use gear_core::control::Address;

use crate::driver::{Connection, Listener, ReadHalf, Transport, WriteHalf};

/// Numbers that follow from a seed (splitmix64).
#[derive(Clone, Debug)]
struct Random(Rc<Cell<u64>>);

impl Random {
    fn below(&self, bound: usize) -> usize {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        ((u128::from(bits) * bound as u128) >> 64) as usize
    }

    /// Where to cut, if at all: most cuts leave few bytes, where headers are.
    fn cut(&self, len: usize) -> usize {
        match self.below(4) {
            0 => len,
            1 => self.below(len) + 1,
            _ => self.below(len.min(16)) + 1,
        }
    }
}

/// Another transport, whose reads and writes take a random part of the bytes and sometimes wait
/// for no reason. The pieces follow from the seed.
#[derive(Clone, Debug)]
pub struct Chopped<T> {
    inner: T,
    random: Random,
    /// Of a hundred reads or writes, those that are cut.
    percent: usize,
}

impl<T: Transport> Chopped<T> {
    /// Cuts so many of a hundred reads and writes of a transport.
    #[must_use]
    pub fn new(inner: T, seed: u64, percent: usize) -> Self {
        Self { inner, random: Random(Rc::new(Cell::new(seed))), percent }
    }

    fn chop(&self, (read, write): Connection<T>) -> Connection<Self> {
        let (random, percent) = (&self.random, self.percent);
        (
            ChoppedRead { inner: read, random: random.clone(), percent, begun: None },
            ChoppedWrite { inner: write, random: random.clone(), percent, begun: None },
        )
    }
}

impl<T: Transport> Transport for Chopped<T> {
    type Listener = ChoppedListener<T>;
    type Read = ChoppedRead<T::Read>;
    type Write = ChoppedWrite<T::Write>;

    async fn listen(&self, at: &Address) -> io::Result<Self::Listener> {
        Ok(ChoppedListener { inner: self.inner.listen(at).await?, transport: self.clone() })
    }

    async fn dial(&self, to: &Address) -> io::Result<Connection<Self>> {
        Ok(self.chop(self.inner.dial(to).await?))
    }
}

/// The listener of a [`Chopped`] transport.
#[derive(Debug)]
pub struct ChoppedListener<T: Transport> {
    inner: T::Listener,
    transport: Chopped<T>,
}

impl<T: Transport> Listener<Chopped<T>> for ChoppedListener<T> {
    fn address(&self) -> Address {
        self.inner.address()
    }

    async fn accept(&mut self) -> io::Result<Connection<Chopped<T>>> {
        Ok(self.transport.chop(self.inner.accept().await?))
    }
}

/// A read or a write under way: it has to be repeated as it was begun.
#[derive(Debug)]
enum Begun {
    Whole,
    /// With a buffer of its own.
    Piece(Vec<u8>),
}

/// What comes in over a [`Chopped`] transport.
#[derive(Debug)]
pub struct ChoppedRead<R> {
    inner: R,
    random: Random,
    percent: usize,
    begun: Option<Begun>,
}

impl<R: ReadHalf> ReadHalf for ChoppedRead<R> {
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        if self.begun.is_none() {
            let room = buffer.capacity() - buffer.len();
            self.begun = Some(if room == 0 || self.random.below(100) >= self.percent {
                Begun::Whole
            } else if self.random.below(8) == 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            } else {
                Begun::Piece(Vec::with_capacity(self.random.cut(room)))
            });
        }
        let poll = match &mut self.begun {
            Some(Begun::Piece(piece)) => {
                let poll = self.inner.poll_read(context, piece);
                if poll.is_ready() {
                    buffer.append(piece);
                }
                poll
            }
            Some(Begun::Whole) | None => self.inner.poll_read(context, buffer),
        };
        if poll.is_ready() {
            self.begun = None;
        }
        poll
    }
}

/// What goes out over a [`Chopped`] transport.
#[derive(Debug)]
pub struct ChoppedWrite<W> {
    inner: W,
    random: Random,
    percent: usize,
    begun: Option<Begun>,
}

impl<W: WriteHalf> WriteHalf for ChoppedWrite<W> {
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        from: usize,
    ) -> Poll<io::Result<usize>> {
        if self.begun.is_none() {
            let rest = buffer.len() - from;
            self.begun = Some(if rest == 0 || self.random.below(100) >= self.percent {
                Begun::Whole
            } else if self.random.below(8) == 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            } else {
                Begun::Piece(buffer[from..from + self.random.cut(rest)].to_vec())
            });
        }
        let poll = match &mut self.begun {
            Some(Begun::Piece(piece)) => self.inner.poll_write(context, piece, 0),
            Some(Begun::Whole) | None => self.inner.poll_write(context, buffer, from),
        };
        if poll.is_ready() {
            self.begun = None;
        }
        poll
    }

    fn poll_write_parts(
        &mut self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Option<Poll<io::Result<usize>>> {
        let Some(first) = parts.first().filter(|_| self.random.below(100) < self.percent) else {
            return self.inner.poll_write_parts(context, parts);
        };
        if self.random.below(8) == 0 {
            context.waker().wake_by_ref();
            return Some(Poll::Pending);
        }
        let piece = IoSlice::new(&first[..self.random.cut(first.len())]);
        self.inner.poll_write_parts(context, &[piece])
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_shutdown(context)
    }
}
