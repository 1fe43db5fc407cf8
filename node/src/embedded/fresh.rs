//! Starting over: what the commit log names is removed, and nothing else.

use std::sync::Arc;

use gear_connectors::files;
use gear_connectors::schemes::{AnyFiles, AnyPerformer};
use gear_core::checkpoint::record::Record;
use gear_core::effect::{IoRequest, StoreReply, StoreRequest};
use object_store::ObjectStore;

use crate::drivers::notice;
use crate::store::perform;

/// Removes the job's epochs, the objects and the output that they name, and the log itself.
pub(crate) fn remove(store: &dyn ObjectStore) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let (log, accounts) = runtime.block_on(read(store))?;
    remove_output(&accounts)?;
    runtime.block_on(remove_epochs(store, log))
}

/// The names of the log's records, and the accounts of the output that they name.
async fn read(store: &dyn ObjectStore) -> Result<(Vec<String>, Vec<Vec<u8>>), String> {
    let log = names(store, "log/").await?;
    let mut accounts = Vec::new();
    for name in &log {
        let request = StoreRequest::Get { name: name.clone() };
        let StoreReply::Bytes(bytes) = perform(store, request).await else {
            return Err(format!("{name} cannot be read"));
        };
        // A record that does not decode names nothing; its own object goes with the log.
        if let Ok(Record::Epoch(record)) = Record::decode(&bytes) {
            let pending = record.tasks.into_values().map(|snapshot| snapshot.pending);
            accounts.extend(pending.filter(|account| !account.is_empty()));
        }
    }
    Ok((log, accounts))
}

/// Removes the output, on this thread: some drivers have threads of their own that it waits for.
fn remove_output(accounts: &[Vec<u8>]) -> Result<(), String> {
    let accounts = accounts.iter().map(Vec::as_slice);
    let written = files::written(accounts, &mut AnyFiles::new(notice));
    let written = written.map_err(|error| error.to_string())?;
    let output = written.visible.into_iter().chain(written.staged);
    let mut performer = AnyPerformer::new(notice, Arc::default());
    for path in output {
        let request = IoRequest::Remove { path };
        performer.perform(&request).map_err(|error| error.to_string())?;
    }
    Ok(())
}

async fn remove_epochs(store: &dyn ObjectStore, mut log: Vec<String>) -> Result<(), String> {
    for prefix in ["state/", "output/", "quarantine/"] {
        delete(store, names(store, prefix).await?).await?;
    }
    // Last, and the oldest record last of all: a crash on the way leaves a log that can be read.
    log.reverse();
    delete(store, log).await
}

async fn names(store: &dyn ObjectStore, prefix: &str) -> Result<Vec<String>, String> {
    match perform(store, StoreRequest::List { prefix: prefix.into() }).await {
        StoreReply::Names(names) => Ok(names),
        other => Err(format!("{prefix} cannot be listed: {other:?}")),
    }
}

async fn delete(store: &dyn ObjectStore, names: Vec<String>) -> Result<(), String> {
    for name in names {
        match perform(store, StoreRequest::Delete { name: name.clone() }).await {
            StoreReply::Done => {}
            other => return Err(format!("{name} cannot be removed: {other:?}")),
        }
    }
    Ok(())
}
