//! The thread that performs requests on the checkpoint store, several at a time.

use std::sync::Arc;
use std::thread::JoinHandle;

use gear_core::effect::StoreRequest;
use gear_core::id::Token;
use gear_core::message::Input;
use object_store::ObjectStore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Inbox;
use crate::store::perform;

/// A request, and who gets the answer.
pub(crate) struct Request {
    pub(crate) reply_to: Arc<Inbox>,
    pub(crate) token: Token,
    pub(crate) request: StoreRequest,
}

/// A store and the thread that serves it.
pub(crate) struct StoreDriver {
    requests: Option<UnboundedSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl StoreDriver {
    pub(crate) fn start(store: Arc<dyn ObjectStore>) -> std::io::Result<Self> {
        let (requests, incoming) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new()
            .name("gear-store".into())
            .spawn(move || runtime.block_on(serve(store, incoming)))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    pub(crate) fn sender(&self) -> UnboundedSender<Request> {
        self.requests.clone().expect("the driver runs until it is dropped")
    }
}

impl Drop for StoreDriver {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed there.
            let _ = thread.join();
        }
    }
}

async fn serve(store: Arc<dyn ObjectStore>, mut incoming: UnboundedReceiver<Request>) {
    let mut running = tokio::task::JoinSet::new();
    while let Some(Request { reply_to, token, request }) = incoming.recv().await {
        let store = Arc::clone(&store);
        running.spawn(async move {
            let reply = perform(store.as_ref(), request).await;
            reply_to.send(Input::Stored { token, reply });
        });
        while running.try_join_next().is_some() {}
    }
    while running.join_next().await.is_some() {}
}
