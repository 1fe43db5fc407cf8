//! Bytes from a connection as control messages.

use gear_core::checkpoint::record::{EpochRecord, Identity};
use gear_core::dag::Graph;
use gear_core::message::{EpochStart, Partition, TaskSnapshot};
use gear_core::wire::message::{decode_message, encode_message, message_kind};

/// Decodes the bytes as they are, and as the content of a whole message.
pub fn run(bytes: &[u8]) {
    message(bytes);
    // The header of a message without content, its checksum mended.
    let mut mended = encode_message(3, &()).expect("nothing encodes");
    let header = mended.len();
    mended.extend_from_slice(bytes);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&mended[..4]), &mended[header..]);
    mended[4..8].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(message_kind(&mended), Ok(3), "the checksum is mended");
    message(&mended);
}

fn message(bytes: &[u8]) {
    let kind = match message_kind(bytes) {
        Ok(kind) => kind,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(decode_message::<()>(kind.wrapping_add(1), bytes).is_err(), "of another kind");
    macro_rules! round_trip {
        ($($type:ty),* $(,)?) => {$(
            if let Ok(value) = decode_message::<$type>(kind, bytes) {
                let again = encode_message(kind, &value).expect("was decoded");
                let again = decode_message::<$type>(kind, &again).expect("was encoded");
                assert_eq!(again, value);
            }
        )*};
    }
    round_trip!((), String, Vec<u64>, EpochStart, TaskSnapshot, Partition, Graph, EpochRecord);
    round_trip!(Identity);
}
