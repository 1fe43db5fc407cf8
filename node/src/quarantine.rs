//! Lists the records that were put aside, one line of JSON each.

use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use gear_core::effect::{StoreReply, StoreRequest};
use gear_core::flow::push::Quarantined;
use gear_core::task::decode_quarantine;
use object_store::ObjectStore;
use serde_json::json;

use crate::report::Report;
use crate::store::perform;

/// Writes what was put aside in committed epochs to a file in `folder`; none if nothing was.
pub(crate) fn export(
    store: &dyn ObjectStore,
    report: &Report,
    folder: &Path,
) -> Result<Option<PathBuf>, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    let committed = report.committed.map_or(0, |epoch| epoch.0);
    let entries = runtime.block_on(read(store, committed))?;
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

async fn read(store: &dyn ObjectStore, committed: u64) -> Result<Vec<Quarantined>, String> {
    let names = match perform(store, StoreRequest::List { prefix: "quarantine/".into() }).await {
        StoreReply::Names(names) => names,
        other => return Err(format!("they cannot be listed: {other:?}")),
    };
    let mut entries = Vec::new();
    for name in names {
        let epoch = name.rsplit_once("-e").and_then(|(_, epoch)| epoch.parse::<u64>().ok());
        if epoch.is_none_or(|epoch| epoch > committed) {
            continue;
        }
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
