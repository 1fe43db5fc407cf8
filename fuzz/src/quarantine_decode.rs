//! Objects of the checkpoint store as records that were put aside.

use gear_core::flow::push::Quarantined;
use gear_core::task::decode_quarantine;

/// With what an object of this version begins.
const MAGIC: &[u8] = b"GQRN\x01\x00";

/// Decodes the bytes as they are, and as the content of an object.
pub fn run(bytes: &[u8]) {
    let _ = decode_quarantine(bytes);
    let content = |content: &[u8]| decode_quarantine(&[MAGIC, content].concat());
    if let Ok(entries) = content(bytes) {
        let again: Vec<Quarantined> =
            content(&postcard::to_allocvec(&entries).expect("plain data")).expect("was encoded");
        assert_eq!(again, entries);
    }
}
