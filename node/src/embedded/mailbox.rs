//! How the threads of a process hear from each other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

/// Many senders, one receiver, which sleeps while there is nothing.
///
/// What is in it is bounded by what is sent: credit bounds the batches, and every other message
/// answers one of ours or is one of a few.
pub(crate) struct Mailbox<T> {
    queue: Mutex<Vec<T>>,
    len: AtomicUsize,
    sleeping: AtomicBool,
    receiver: OnceLock<Thread>,
}

impl<T> Mailbox<T> {
    pub(crate) fn new() -> Self {
        Self {
            queue: Mutex::new(Vec::new()),
            len: AtomicUsize::new(0),
            sleeping: AtomicBool::new(false),
            receiver: OnceLock::new(),
        }
    }

    /// The calling thread is the one that receives.
    pub(crate) fn receive_here(&self) {
        self.receiver.get_or_init(std::thread::current);
    }

    pub(crate) fn send(&self, message: T) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push(message);
        self.len.store(queue.len(), Ordering::SeqCst);
        drop(queue);
        if self.sleeping.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.receiver.get()
        {
            thread.unpark();
        }
    }

    /// True if something waits.
    pub(crate) fn has_mail(&self) -> bool {
        self.len.load(Ordering::SeqCst) > 0
    }

    /// Swaps what waits into `into`, which is empty.
    pub(crate) fn take(&self, into: &mut Vec<T>) {
        if !self.has_mail() {
            return;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *queue, into);
        self.len.store(0, Ordering::SeqCst);
    }

    /// Sleeps until something comes, or so long.
    pub(crate) fn sleep(&self, at_most: Duration) {
        self.sleeping.store(true, Ordering::SeqCst);
        // A sender that came before the line above did not see it: look again.
        if !self.has_mail() {
            std::thread::park_timeout(at_most);
        }
        self.sleeping.store(false, Ordering::SeqCst);
    }
}
