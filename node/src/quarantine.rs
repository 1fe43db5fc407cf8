//! Lists the records that were put aside, one line of JSON each.

use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use gear_core::checkpoint::Aside;
use gear_core::checkpoint::history::{Records, settle};
use gear_core::checkpoint::record::{FOLDER, Record, number_of};
use gear_core::checkpoint::retention::QUARANTINE;
use gear_core::effect::{StoreReply, StoreRequest};
use gear_core::flow::push::Quarantined;
use gear_core::task::decode_quarantine;
use object_store::ObjectStore;
use serde_json::json;

use crate::store::perform;

/// Writes what was put aside in committed epochs to a file in `folder`; none if nothing was.
pub(crate) fn export(store: &dyn ObjectStore, folder: &Path) -> Result<Option<PathBuf>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let entries = runtime.block_on(read(store))?;
    let target = folder.join("quarantine.jsonl");
    let failed = |error: std::io::Error| format!("{}: {error}", target.display());
    fs::create_dir_all(folder).map_err(failed)?;
    let mut file = BufWriter::new(fs::File::create(&target).map_err(failed)?);
    for entry in &entries {
        writeln!(file, "{}", line(entry)).map_err(failed)?;
    }
    file.flush().map_err(failed)?;
    Ok(Some(target))
}

async fn read(store: &dyn ObjectStore) -> Result<Vec<Quarantined>, String> {
    let names = match perform(store, StoreRequest::List { prefix: QUARANTINE.into() }).await {
        StoreReply::Names(names) => names,
        other => return Err(format!("they cannot be listed: {other:?}")),
    };
    let aside = aside(store).await?;
    let mut entries = Vec::new();
    for name in names.into_iter().filter(|name| aside.holds(name)) {
        match perform(store, StoreRequest::Get { name: name.clone() }).await {
            StoreReply::Bytes(bytes) => {
                let found = decode_quarantine(&bytes);
                entries.extend(found.map_err(|error| format!("{name} {error}"))?);
            }
            other => return Err(format!("{name} cannot be read: {other:?}")),
        }
    }
    Ok(entries)
}

/// What is in the quarantine of an app, as the last committed epoch in its folder says.
pub(crate) async fn aside(store: &dyn ObjectStore) -> Result<Aside, String> {
    let names = match perform(store, StoreRequest::List { prefix: FOLDER.into() }).await {
        StoreReply::Names(names) => names,
        other => return Err(format!("the commit log cannot be listed: {other:?}")),
    };
    let mut records = Records::new();
    for (number, name) in names.into_iter().filter_map(|name| Some((number_of(&name)?, name))) {
        match perform(store, StoreRequest::Get { name: name.clone() }).await {
            StoreReply::Bytes(bytes) => {
                records.insert(number, Record::decode(&bytes));
            }
            // Of an epoch that is no longer retained.
            StoreReply::Missing => {}
            other => return Err(format!("{name} cannot be read: {other:?}")),
        }
    }
    Ok(settle(&records).epochs.pop().map(|(_, last)| last.aside).unwrap_or_default())
}

/// A record that was put aside, as a line of a file says it.
pub(crate) fn line(entry: &Quarantined) -> serde_json::Value {
    json!({
        "operator": entry.operator,
        "partition": entry.partition,
        "position": entry.position,
        "error": entry.error,
        "record_type": entry.record,
        "event_time_us": entry.at.0,
        "bytes": String::from_utf8_lossy(&entry.bytes),
        "hex": hex(&entry.bytes),
        "cut": entry.cut,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
