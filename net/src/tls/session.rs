//! The halves of a secured connection, which share its keys.

use std::cell::RefCell;
use std::io::{self, BufRead as _, ErrorKind, Write as _};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use rustls::Connection;

use super::error::failed;
use crate::driver::{ReadHalf, WriteHalf};

/// Bytes that are read from the connection at once: eight records of TLS.
const READ_BYTES: usize = 8 * RECORD_BYTES;
/// Bytes that are enciphered before they are written: a write of 64 KiB and what TLS adds.
const WRITE_BYTES: usize = 64 * 1_024;
/// The largest record of TLS on the wire.
const RECORD_BYTES: usize = 16 * 1_024 + 256 + 5;

/// Which half waits.
#[derive(Clone, Copy)]
enum Side {
    Reader,
    Writer,
}

/// A connection and its keys.
pub(super) struct Session<R, W> {
    tls: Connection,
    read: R,
    write: W,
    /// What has come, and how much of it is deciphered.
    came: (Vec<u8>, usize),
    /// What is to leave, and how much of it has.
    leaves: (Vec<u8>, usize),
    /// True while the connection has the buffer of what leaves.
    writes: bool,
    /// Bytes that the writer has handed over, and that have not all left.
    accepted: usize,
    /// Bytes that were handed over before the handshake was done.
    early: usize,
    closing: bool,
    /// Nothing more comes.
    ended: bool,
    /// Why nothing more goes either way.
    broken: Option<(ErrorKind, String)>,
    /// Who waits for the handshake, since only one of both is woken by the connection.
    waiting: [Option<Waker>; 2],
}

impl<R: ReadHalf, W: WriteHalf> Session<R, W> {
    /// The halves of a connection over which nothing was said yet.
    pub(super) fn split(
        mut tls: Connection,
        (read, write): (R, W),
    ) -> (TlsRead<R, W>, TlsWrite<R, W>) {
        // The writer hands over a bounded piece, and waits until it has left.
        tls.set_buffer_limit(None);
        let session = Rc::new(RefCell::new(Self {
            tls,
            read,
            write,
            came: (Vec::new(), 0),
            leaves: (Vec::new(), 0),
            writes: false,
            accepted: 0,
            early: 0,
            closing: false,
            ended: false,
            broken: None,
            waiting: [None, None],
        }));
        (TlsRead { session: Rc::clone(&session) }, TlsWrite { session })
    }

    /// Remembers why the connection is of no use any more, for both halves.
    fn breaks(&mut self, error: io::Error) -> io::Error {
        self.broken = Some((error.kind(), error.to_string()));
        self.wake();
        error
    }

    fn check(&self) -> io::Result<()> {
        match &self.broken {
            None => Ok(()),
            Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
        }
    }

    fn wake(&mut self) {
        self.waiting.iter_mut().filter_map(Option::take).for_each(Waker::wake);
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>, side: Side) -> Poll<io::Result<()>> {
        self.check()?;
        if !self.tls.is_handshaking() {
            return Poll::Ready(Ok(()));
        }
        self.waiting[side as usize] = Some(context.waker().clone());
        while self.tls.is_handshaking() {
            ready!(self.poll_flush(context))?;
            if !self.tls.is_handshaking() {
                break;
            }
            if self.came.1 == self.came.0.len() && ready!(self.poll_fill(context))? == 0 {
                self.ended = true;
                let text = "the peer has gone before it had shown who it is; its log says why";
                let error = io::Error::new(ErrorKind::UnexpectedEof, text);
                return Poll::Ready(Err(self.breaks(error)));
            }
            self.decipher(context)?;
        }
        // What the last step has to say leaves with the first bytes, or now.
        self.wake();
        self.poll_flush(context)
    }

    /// Writes what is enciphered.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let (leaves, left) = &mut self.leaves;
            if !self.writes && *left == leaves.len() {
                leaves.clear();
                *left = 0;
                while self.tls.wants_write() {
                    self.tls.write_tls(leaves)?;
                }
                if leaves.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
            self.writes = true;
            let written = ready!(self.write.poll_write(context, leaves, *left));
            self.writes = false;
            match written {
                Ok(0) => return Poll::Ready(Err(self.breaks(ErrorKind::WriteZero.into()))),
                Ok(count) => *left += count,
                Err(error) => return Poll::Ready(Err(self.breaks(error))),
            }
        }
    }

    /// Lets leave what no writer waits for: what it had handed over before the handshake was done,
    /// or an answer to a change of keys.
    fn flush_beside(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let (leaves, left) = &self.leaves;
        let leaving = self.writes || *left < leaves.len() || self.tls.wants_write();
        if self.accepted == 0 && leaving && self.poll_flush(context)?.is_ready() {
            // Who shuts the connection down waits for the same.
            self.wake();
        }
        Ok(())
    }

    /// Reads more, once all that had come is deciphered.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (came, taken) = &mut self.came;
        // While the connection has the buffer, both are as they were left here.
        if *taken > 0 {
            came.clear();
            *taken = 0;
        }
        if came.capacity() == 0 && !self.ended {
            came.reserve_exact(READ_BYTES);
        }
        self.read.poll_read(context, came)
    }

    /// Deciphers a part of what has come.
    fn decipher(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let (came, taken) = &mut self.came;
        let mut rest = &came[*taken..];
        let before = rest.len();
        self.tls.read_tls(&mut rest)?;
        *taken += before - rest.len();
        if let Err(error) = self.tls.process_new_packets() {
            // The peer is told why if it still listens; if not, the connection's end says enough.
            let _ = self.poll_flush(context);
            return Err(self.breaks(failed(&error)));
        }
        Ok(())
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        match ready!(self.poll_handshake(context, Side::Reader)) {
            // It has gone, as it may at any time.
            Err(_) if self.ended => return Poll::Ready(Ok(0)),
            shaken => shaken?,
        }
        self.flush_beside(context)?;
        if buffer.len() == buffer.capacity() {
            buffer.reserve(1);
        }
        let held = buffer.len();
        loop {
            match self.tls.reader().fill_buf() {
                // The peer has said that it is its end.
                Ok([]) => return Poll::Ready(Ok(buffer.len() - held)),
                Ok(plain) => {
                    let count = plain.len().min(buffer.capacity() - buffer.len());
                    buffer.extend_from_slice(&plain[..count]);
                    self.tls.reader().consume(count);
                    // Nothing more is deciphered before all of this is taken.
                    if buffer.len() < buffer.capacity() {
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(self.breaks(error))),
            }
            let count = buffer.len() - held;
            if buffer.len() == buffer.capacity() {
                return Poll::Ready(Ok(count));
            }
            if self.came.1 < self.came.0.len() {
                self.decipher(context)?;
                self.flush_beside(context)?;
            } else if count > 0 {
                return Poll::Ready(Ok(count));
            } else if self.ended || ready!(self.poll_fill(context))? == 0 {
                // A peer that is killed does not say that it ends. Whoever cuts a connection gains
                // nothing by it: links know what they have missed.
                self.ended = true;
                return Poll::Ready(Ok(0));
            }
        }
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        buffer: &[u8],
        from: usize,
    ) -> Poll<io::Result<usize>> {
        let piece = &buffer[from..];
        match self.poll_handshake(context, Side::Writer) {
            Poll::Ready(shaken) => shaken?,
            // As a socket does, it takes a little of what the peer does not read yet; it leaves
            // with the end of the handshake, which whoever reads brings on.
            Poll::Pending if self.tls.is_handshaking() && self.early < WRITE_BYTES => {
                let piece = &piece[..piece.len().min(WRITE_BYTES - self.early)];
                let taken = self.tls.writer().write(piece)?;
                self.early += taken;
                // The socket wakes whoever has asked it last, which now is a writer that may have
                // nothing more to say: the reader has to ask again.
                if let Some(reader) = self.waiting[Side::Reader as usize].take() {
                    reader.wake();
                }
                return Poll::Ready(Ok(taken));
            }
            Poll::Pending => return Poll::Pending,
        }
        if self.accepted == 0 {
            let piece = &piece[..piece.len().min(WRITE_BYTES)];
            self.accepted = self.tls.writer().write(piece)?;
        }
        ready!(self.poll_flush(context))?;
        Poll::Ready(Ok(std::mem::take(&mut self.accepted)))
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_handshake(context, Side::Writer))?;
        if !self.closing {
            self.closing = true;
            self.tls.send_close_notify();
        }
        self.waiting[Side::Writer as usize] = Some(context.waker().clone());
        ready!(self.poll_flush(context))?;
        self.write.poll_shutdown(context)
    }
}

/// What comes in, deciphered.
pub struct TlsRead<R: ReadHalf, W: WriteHalf> {
    session: Rc<RefCell<Session<R, W>>>,
}

impl<R: ReadHalf, W: WriteHalf> ReadHalf for TlsRead<R, W> {
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        self.session.borrow_mut().poll_read(context, buffer)
    }
}

impl<R: ReadHalf, W: WriteHalf> Drop for TlsRead<R, W> {
    fn drop(&mut self) {
        // The other half may wait for a handshake of which only this one would have been told.
        self.session.borrow_mut().wake();
    }
}

/// What goes out, enciphered.
pub struct TlsWrite<R: ReadHalf, W: WriteHalf> {
    session: Rc<RefCell<Session<R, W>>>,
}

impl<R: ReadHalf, W: WriteHalf> WriteHalf for TlsWrite<R, W> {
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        from: usize,
    ) -> Poll<io::Result<usize>> {
        self.session.borrow_mut().poll_write(context, buffer, from)
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.borrow_mut().poll_shutdown(context)
    }
}

impl<R: ReadHalf, W: WriteHalf> Drop for TlsWrite<R, W> {
    fn drop(&mut self) {
        self.session.borrow_mut().wake();
    }
}
