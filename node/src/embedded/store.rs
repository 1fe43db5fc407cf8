//! The checkpoint store: performs requests on an object store, several at a time.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use gear_core::effect::{Blob, StoreReply, StoreRequest};
use gear_core::id::Token;
use gear_core::message::Input;
use object_store::local::LocalFileSystem;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Inbox;

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
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
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

/// A store in a local folder, whose writes are durable when they are answered.
pub(crate) fn local(folder: &Path) -> Result<Arc<dyn ObjectStore>, Error> {
    Ok(Arc::new(LocalFileSystem::new_with_prefix(folder)?.with_fsync(true)))
}

/// Removes what writes have left that a kill cut short: the store writes an object as `NAME#1` and
/// then gives it its name. Only for a process that has the folder to itself.
pub(crate) fn sweep(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_digits = |end: &str| !end.is_empty() && end.bytes().all(|it| it.is_ascii_digit());
        let is_cut = || name.to_str()?.rsplit_once('#').map(|(_, end)| is_digits(end));
        if entry.file_type()?.is_dir() {
            sweep(&entry.path())?;
        } else if is_cut() == Some(true) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Performs one request.
pub(crate) async fn perform(store: &dyn ObjectStore, request: StoreRequest) -> StoreReply {
    match request {
        StoreRequest::Put { name, bytes } => put(store, &name, bytes, PutMode::Overwrite).await,
        StoreRequest::Create { name, bytes } => put(store, &name, bytes, PutMode::Create).await,
        StoreRequest::Get { name } => match get(store, &name).await {
            Ok(bytes) => StoreReply::Bytes(bytes),
            Err(Error::NotFound { .. }) => StoreReply::Missing,
            Err(error) => failed(&error),
        },
        StoreRequest::List { prefix } => match list(store, &prefix).await {
            Ok(names) => StoreReply::Names(names),
            Err(error) => failed(&error),
        },
        StoreRequest::Delete { name } => match store.delete(&name.into()).await {
            Ok(()) | Err(Error::NotFound { .. }) => StoreReply::Done,
            Err(error) => failed(&error),
        },
    }
}

async fn put(store: &dyn ObjectStore, name: &str, bytes: Blob, mode: PutMode) -> StoreReply {
    let options = PutOptions { mode, ..PutOptions::default() };
    match store.put_opts(&name.into(), PutPayload::from(Bytes::from_owner(bytes)), options).await {
        Ok(_) => StoreReply::Done,
        Err(Error::AlreadyExists { .. }) => StoreReply::Exists,
        Err(error) => failed(&error),
    }
}

async fn get(store: &dyn ObjectStore, name: &str) -> Result<Vec<u8>, Error> {
    Ok(store.get(&name.into()).await?.bytes().await?.to_vec())
}

async fn list(store: &dyn ObjectStore, prefix: &str) -> Result<Vec<String>, Error> {
    let found: Vec<_> = store.list(Some(&prefix.into())).try_collect().await?;
    let mut names: Vec<String> =
        found.into_iter().map(|object| object.location.to_string()).collect();
    names.sort();
    Ok(names)
}

fn failed(error: &Error) -> StoreReply {
    // What the user may not do, and what the store cannot, will not be better the next time.
    let retriable = !matches!(
        error,
        Error::NotSupported { .. }
            | Error::NotImplemented { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::InvalidPath { .. }
    );
    StoreReply::Failed { reason: describe(error), retriable }
}

/// The error and what caused it, in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
