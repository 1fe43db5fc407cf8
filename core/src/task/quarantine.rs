//! Records that were put aside: the policy, and the object that holds an epoch's.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::flow::push::Quarantined;

/// What happens to a record that panics or does not decode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuarantinePolicy {
    /// It is put aside with its context, and the stream goes on.
    #[default]
    Keep,
    /// The job stops.
    Fail,
}

const MAGIC: &[u8; 6] = b"GQRN\x01\x00";

/// The content of a quarantine object.
///
/// # Panics
/// Never: plain data encodes.
#[must_use]
pub fn encode(entries: &[Quarantined]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(postcard::to_allocvec(entries).expect("plain data encodes"));
    bytes
}

/// The records in a quarantine object.
///
/// # Errors
/// A text, if the bytes are none.
pub fn decode(bytes: &[u8]) -> Result<Vec<Quarantined>, String> {
    let Some(content) = bytes.strip_prefix(MAGIC) else {
        return Err("is no quarantine object of this version".into());
    };
    postcard::from_bytes(content).map_err(|error| alloc::format!("is damaged: {error}"))
}

/// Why the job stops at this record.
pub(crate) fn refuse(entry: &Quarantined) -> String {
    let position = if entry.position.is_empty() { &entry.partition } else { &entry.position };
    alloc::format!(
        "a record at {position} could not be processed by {}: {}; mend the record or the operator, \
         or let such records be put aside with --on-bad-record keep",
        entry.operator,
        entry.error
    )
}
