//! The threads that perform the sinks' I/O, for each task in the order in which it was asked for.

use std::sync::Arc;

use gear_connectors::schemes::{IoEnd, IoThreads};
use gear_core::effect::IoRequest;
use gear_core::id::{TaskId, Token};
use gear_core::message::Input;

use super::Inbox;
use crate::drivers::notice;

/// A request, and who gets the answer. Sinks bound what they have asked for.
pub(crate) struct IoWork {
    pub(crate) reply_to: Arc<Inbox>,
    pub(crate) task: TaskId,
    pub(crate) token: Token,
    pub(crate) request: IoRequest,
}

/// The way to the threads.
#[derive(Clone)]
pub(crate) struct IoSender(IoThreads);

impl IoSender {
    pub(crate) fn send(&self, work: IoWork) {
        let IoWork { reply_to, task, token, request } = work;
        let answer = move |result| reply_to.send(Input::IoDone { task, token, result });
        // The threads go only when the process ends.
        let _ = self.0.perform(task, request, Box::new(answer));
    }
}

/// The threads.
pub(crate) struct IoDriver {
    threads: IoThreads,
    /// Behind the way to them: they end when nobody can ask any more.
    _end: IoEnd,
}

impl IoDriver {
    pub(crate) fn start() -> std::io::Result<Self> {
        let (end, threads) = IoThreads::start(notice)?;
        Ok(Self { threads, _end: end })
    }

    pub(crate) fn sender(&self) -> IoSender {
        IoSender(self.threads.clone())
    }
}
