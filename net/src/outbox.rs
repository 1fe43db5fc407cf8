//! What waits to be written to a connection: small pieces are joined while a write is under way,
//! so that writes grow under load and leave at once when there is none.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use gear_core::wire::frame::Framed;
use tokio::sync::Notify;

use crate::halves::FRAMES_MAX;

/// Bytes to which small pieces are joined: beyond, larger writes gain nothing.
const JOINED_BYTES: usize = 64 * 1_024;

/// What is written at once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    Bytes(Vec<u8>),
    /// At most [`FRAMES_MAX`].
    Frames(Vec<Framed>),
}

impl Chunk {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Frames(frames) => frames.iter().map(Framed::len).sum(),
        }
    }
}

/// The bytes on their way from a process to the task that writes them.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    chunks: RefCell<VecDeque<Chunk>>,
    /// Bytes in the chunks, and in the write under way.
    bytes: Cell<usize>,
    closing: Cell<bool>,
    changed: Notify,
    closed: Notify,
}

impl Outbox {
    /// Appends bytes, and says how many wait now. A buffer that is not needed is given back.
    pub(crate) fn push(&self, bytes: Vec<u8>) -> (usize, Option<Vec<u8>>) {
        let total = self.bytes.get() + bytes.len();
        self.bytes.set(total);
        let mut chunks = self.chunks.borrow_mut();
        let spare = match chunks.back_mut() {
            Some(Chunk::Bytes(last)) if last.len() + bytes.len() <= JOINED_BYTES => {
                last.extend_from_slice(&bytes);
                Some(bytes)
            }
            _ if bytes.is_empty() => Some(bytes),
            _ => {
                chunks.push_back(Chunk::Bytes(bytes));
                None
            }
        };
        self.changed.notify_one();
        (total, spare)
    }

    /// Appends a frame, and says how many bytes wait now.
    pub(crate) fn push_frame(&self, frame: Framed) -> usize {
        let total = self.bytes.get() + frame.len();
        self.bytes.set(total);
        let mut chunks = self.chunks.borrow_mut();
        match chunks.back_mut().filter(|last| last.len() < JOINED_BYTES) {
            Some(Chunk::Frames(frames)) if frames.len() < FRAMES_MAX => frames.push(frame),
            _ => chunks.push_back(Chunk::Frames(vec![frame])),
        }
        self.changed.notify_one();
        total
    }

    /// Nothing more will be pushed.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        self.changed.notify_one();
        self.closed.notify_one();
    }

    /// Waits for [`Self::close`].
    pub(crate) async fn closed(&self) {
        while !self.closing.get() {
            self.closed.notified().await;
        }
    }

    /// The next bytes to write, as many as are worth a write; none when it is closed and empty.
    /// The bytes taken before are written.
    pub(crate) async fn next(&self, written: usize) -> Option<Chunk> {
        self.bytes.set(self.bytes.get() - written);
        loop {
            if let Some(chunk) = self.chunks.borrow_mut().pop_front() {
                return Some(chunk);
            }
            if self.closing.get() {
                return None;
            }
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gear_core::wire::frame::HEADER_BYTES;

    use super::*;

    #[tokio::test]
    async fn small_pieces_are_joined_and_large_ones_go_alone() {
        let outbox = Outbox::default();
        for _ in 0..100 {
            outbox.push(vec![1; 1_000]);
        }
        assert_eq!(outbox.push(vec![2; 1_000_000]), (1_100_000, None));
        outbox.push(Vec::new());
        outbox.push(vec![3]);
        outbox.close();
        assert_eq!(sizes(&outbox).await, [65_000, 35_000, 1_000_000, 1]);
        assert_eq!(outbox.push(Vec::new()).0, 0, "all of it has been written");
    }

    #[tokio::test]
    async fn frames_are_joined_with_frames_and_keep_their_place() {
        let outbox = Outbox::default();
        let frame = |bytes: usize| Framed {
            head: [7; HEADER_BYTES],
            payload: Arc::new(vec![1; bytes - HEADER_BYTES]),
        };
        outbox.push(vec![1; 10]);
        (0..3).for_each(|_| _ = outbox.push_frame(frame(50_000)));
        outbox.push(vec![1; 10]);
        (0..6).for_each(|_| _ = outbox.push_frame(frame(100)));
        assert_eq!(outbox.push(vec![1; 10]).0, 150_630);
        outbox.close();
        assert_eq!(sizes(&outbox).await, [10, 100_000, 50_000, 10, 400, 200, 10]);
    }

    async fn sizes(outbox: &Outbox) -> Vec<usize> {
        let mut sizes = Vec::new();
        let mut written = 0;
        while let Some(chunk) = outbox.next(written).await {
            written = chunk.len();
            sizes.push(written);
        }
        sizes
    }
}
