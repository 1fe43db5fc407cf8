//! Objects of the checkpoint store as records of the commit log.

use gear_core::checkpoint::record::{Record, number_of, object_name};

/// Decodes the bytes as they are, and as the content of a whole record; and as a record's name.
pub fn run(bytes: &[u8]) {
    record(bytes);
    if let Ok(content) = postcard::from_bytes::<Record>(bytes) {
        record(&content.encode());
    }
    if let Ok(name) = core::str::from_utf8(bytes)
        && let Some(number) = number_of(name)
    {
        assert_eq!(number_of(&object_name(number)), Some(number));
    }
}

fn record(bytes: &[u8]) {
    match Record::decode(bytes) {
        Ok(record) => {
            let _ = (record.term(), record.identity());
            assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
