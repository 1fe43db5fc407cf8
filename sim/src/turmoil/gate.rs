//! What lets a process stand still, as a stopped process of an operating system does: its sockets
//! and timers go on without it, and it finds everything at once when it goes on.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Open, or shut for a while.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    shut: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Gate {
    /// Nothing passes from now on.
    pub(crate) fn shut(&self) {
        self.shut.set(true);
    }

    /// Lets pass again.
    pub(crate) fn open(&self) {
        self.shut.set(false);
        if let Some(waiting) = self.waiting.borrow_mut().take() {
            waiting.wake();
        }
    }

    /// True if nothing passes.
    pub(crate) fn is_shut(&self) -> bool {
        self.shut.get()
    }
}

/// Runs something that stands still while the gate is shut.
pub(crate) async fn gated<T>(gate: Rc<Gate>, inner: impl Future<Output = T>) -> T {
    let mut inner = pin!(inner);
    poll_fn(|context| {
        if gate.is_shut() {
            *gate.waiting.borrow_mut() = Some(context.waker().clone());
            return Poll::Pending;
        }
        inner.as_mut().poll(context)
    })
    .await
}
