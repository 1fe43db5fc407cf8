//! The thread that performs the sinks' I/O, in the order in which it was asked for; what is asked
//! of servers goes to threads of theirs.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use gear_connectors::os::IoPerformer;
use gear_connectors::services::Services;
use gear_core::effect::IoRequest;
use gear_core::id::{TaskId, Token};
use gear_core::message::Input;

use super::Inbox;

/// A request, and who gets the answer. Sinks bound what they have asked for.
pub(crate) struct IoWork {
    pub(crate) reply_to: Arc<Inbox>,
    pub(crate) task: TaskId,
    pub(crate) token: Token,
    pub(crate) request: IoRequest,
}

/// The thread and its queue.
pub(crate) struct IoDriver {
    work: Option<Sender<IoWork>>,
    thread: Option<JoinHandle<()>>,
}

impl IoDriver {
    pub(crate) fn start() -> std::io::Result<Self> {
        let (work, incoming) = channel();
        let thread =
            std::thread::Builder::new().name("gear-io".into()).spawn(move || serve(&incoming))?;
        Ok(Self { work: Some(work), thread: Some(thread) })
    }

    pub(crate) fn sender(&self) -> Sender<IoWork> {
        self.work.clone().expect("the driver runs until it is dropped")
    }
}

impl Drop for IoDriver {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed there.
            let _ = thread.join();
        }
    }
}

fn serve(incoming: &Receiver<IoWork>) {
    let mut performer = IoPerformer::default();
    let mut services = Services::default();
    while let Ok(IoWork { reply_to, task, token, request }) = incoming.recv() {
        match request {
            IoRequest::Call { service, command, body } => {
                let answer = move |result| reply_to.send(Input::IoDone { task, token, result });
                services.call(task, &service, command, body, Box::new(answer));
            }
            request => {
                let result = performer.perform(&request).map(|()| Vec::new());
                reply_to.send(Input::IoDone { task, token, result });
            }
        }
    }
}
