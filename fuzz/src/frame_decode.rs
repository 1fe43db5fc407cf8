//! Bytes from a connection as frames and their items, and what was taken encodes to the same.

use gear_core::wire::frame::{FrameError, HEADER_BYTES, decode, encode};
use gear_core::wire::item::{encode_item, item_of};

/// Where a frame has its checksum, behind the rest of its header.
const CRC_AT: usize = HEADER_BYTES - 4;

/// Decodes the bytes as they are, and as if their checksum were right.
pub fn run(bytes: &[u8]) {
    frames(bytes);
    if bytes.len() >= CRC_AT + 4 {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC_AT]), &bytes[CRC_AT + 4..]);
        let mut mended = bytes.to_vec();
        mended[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        frames(&mended);
    }
}

fn frames(mut bytes: &[u8]) {
    loop {
        let (header, payload, len) = match decode(bytes) {
            Ok(frame) => frame,
            Err(FrameError::Incomplete { need }) => {
                assert!(need > bytes.len(), "what is asked for is not there yet");
                return;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        };
        let mut again = Vec::new();
        encode(&header, payload, &mut again).expect("was a frame");
        assert_eq!(again, bytes[..len], "a frame has one encoding");

        if let Ok(item) = item_of(&header, payload, Vec::new()) {
            let mut again = Vec::new();
            encode_item(
                header.channel,
                header.attempt,
                header.number,
                header.epoch,
                &item,
                &mut again,
            )
            .expect("was an item");
            let (header_again, payload_again, _) = decode(&again).expect("was encoded");
            assert_eq!((header_again, payload_again), (header, payload));
        }
        bytes = &bytes[len..];
    }
}
