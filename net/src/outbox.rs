//! What waits to be written to a connection: small pieces are joined while a write is under way,
//! so that writes grow under load and leave at once when there is none.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use tokio::sync::Notify;

/// Bytes to which small pieces are joined: beyond, larger writes gain nothing.
const JOINED_BYTES: usize = 64 * 1_024;

/// The bytes on their way from a process to the task that writes them.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    chunks: RefCell<VecDeque<Vec<u8>>>,
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
            Some(last) if last.len() + bytes.len() <= JOINED_BYTES => {
                last.extend_from_slice(&bytes);
                Some(bytes)
            }
            _ if bytes.is_empty() => Some(bytes),
            _ => {
                chunks.push_back(bytes);
                None
            }
        };
        self.changed.notify_one();
        (total, spare)
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
    pub(crate) async fn next(&self, written: usize) -> Option<Vec<u8>> {
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
        let mut sizes = Vec::new();
        let mut written = 0;
        while let Some(chunk) = outbox.next(written).await {
            written = chunk.len();
            sizes.push(written);
        }
        assert_eq!(sizes, [65_000, 35_000, 1_000_000, 1]);
        assert_eq!(outbox.push(Vec::new()).0, 0, "all of it has been written");
    }
}
