//! Buffers that circulate: what has been read or written is filled again, so that the memory stays
//! in the cache and none is asked for.

use std::cell::RefCell;

/// Empty buffers that are kept of each kind: as many as are under way at once while a process is
/// busy. More would only push each other out of the cache.
const KEPT_MAX: usize = 8;
/// Bytes for which a buffer of its own is not worth it: they are copied, and it goes on being read
/// into.
const FEW_BYTES: usize = 4 * 1_024;

/// The buffers of a loop.
#[derive(Debug)]
pub(crate) struct Pool {
    read_bytes: usize,
    reads: RefCell<Vec<Vec<u8>>>,
    written: RefCell<Vec<Vec<u8>>>,
}

impl Pool {
    /// Reads take so many bytes at most.
    pub(crate) const fn new(read_bytes: usize) -> Self {
        Self { read_bytes, reads: RefCell::new(Vec::new()), written: RefCell::new(Vec::new()) }
    }

    /// An empty buffer to read into; the one that was used last is the first.
    pub(crate) fn take_read(&self) -> Vec<u8> {
        let kept = self.reads.borrow_mut().pop();
        kept.unwrap_or_else(|| Vec::with_capacity(self.read_bytes))
    }

    /// What was read, to be handed over; the buffer can be read into again.
    pub(crate) fn hand_over(&self, buffer: &mut Vec<u8>) -> Vec<u8> {
        if buffer.len() > FEW_BYTES {
            return std::mem::replace(buffer, self.take_read());
        }
        let bytes = buffer.as_slice().to_vec();
        buffer.clear();
        bytes
    }

    /// Takes a buffer that was handed over and has been read.
    pub(crate) fn give_read(&self, mut buffer: Vec<u8>) {
        let mut reads = self.reads.borrow_mut();
        if buffer.capacity() >= self.read_bytes && reads.len() < KEPT_MAX {
            buffer.clear();
            reads.push(buffer);
        }
    }

    /// Takes a buffer whose bytes have been written.
    pub(crate) fn give_written(&self, buffer: Vec<u8>) {
        let mut written = self.written.borrow_mut();
        if written.len() < KEPT_MAX {
            written.push(buffer);
        }
    }

    /// A buffer whose bytes have been written.
    pub(crate) fn take_written(&self) -> Option<Vec<u8>> {
        self.written.borrow_mut().pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_few_bytes_do_not_take_one_along() {
        let pool = Pool::new(100_000);
        let mut buffer = pool.take_read();
        let place = buffer.as_ptr();
        buffer.extend_from_slice(b"few");
        assert_eq!(pool.hand_over(&mut buffer), b"few");
        assert_eq!((buffer.as_ptr(), buffer.len()), (place, 0));
        buffer.resize(50_000, 1);
        let much = pool.hand_over(&mut buffer);
        assert_eq!((much.as_ptr(), much.len(), buffer.len()), (place, 50_000, 0));
        pool.give_read(much);
        pool.give_read(b"few".to_vec());
        let again = pool.take_read();
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        for _ in 0..100 {
            pool.give_read(Vec::with_capacity(100_000));
            pool.give_written(vec![1]);
        }
        assert_eq!(pool.reads.borrow().len(), KEPT_MAX);
        let mut written = 0;
        while pool.take_written().is_some() {
            written += 1;
        }
        assert_eq!(written, KEPT_MAX);
    }
}
