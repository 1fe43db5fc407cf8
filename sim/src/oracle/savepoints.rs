//! A savepoint of which somebody was told is there, whole, however the app goes on.

use gear_core::checkpoint::Record;
use gear_core::checkpoint::savepoint::FOLDER;
use gear_core::id::Epoch;

use crate::direct::Store;

/// A savepoint of this name was made of an epoch.
///
/// # Errors
/// The rule that is broken.
pub fn judge(name: &str, epoch: Epoch, store: &Store) -> Result<(), String> {
    let folder = format!("{FOLDER}{name}/");
    let wrong = |what: String| Err(format!("savepoints: `{name}` of {epoch} {what}"));
    let Some(bytes) = store.get(&[&folder, "record"].concat()) else {
        return wrong("has no record".into());
    };
    let record = match Record::decode(bytes) {
        Ok(Record::Epoch(record)) if record.epoch == epoch => record,
        other => return wrong(format!("has another record: {other:?}")),
    };
    let quarantine = record.tasks.values().flat_map(|task| &task.quarantine);
    for object in record.objects().chain(quarantine) {
        match store.get(&[&*folder, &object.name].concat()) {
            None => return wrong(format!("lacks {}", object.name)),
            Some(bytes) if crc32c::crc32c(bytes) != object.crc => {
                return wrong(format!("holds another {}", object.name));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gear_core::effect::StoreRequest;

    use super::*;

    #[test]
    fn a_savepoint_without_its_record_is_seen() {
        let mut store = Store::default();
        assert!(judge("a", Epoch(1), &store).is_err());
        let name = format!("{FOLDER}a/record");
        store.perform(&StoreRequest::Create { name, bytes: vec![1].into() });
        assert!(judge("a", Epoch(1), &store).is_err(), "it is no record");
    }
}
