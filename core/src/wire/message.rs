//! Control messages: postcard behind a version, a kind and a checksum.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | version |
//! | 2..4 | kind: what the rest is an encoding of |
//! | 4..8 | CRC32C over the four bytes before it and the rest |
//! | 8.. | postcard |
//!
//! A message is as long as what carries it says.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use crc32c::{crc32c, crc32c_append};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version that is written.
pub const VERSION: u16 = 1;
/// The versions that are read: this, and the one before it as soon as there is one.
pub const VERSIONS_READ: RangeInclusive<u16> = 1..=VERSION;
/// Bytes before the content.
pub const HEADER_BYTES: usize = 8;

/// Why bytes are not the message that was expected, or a value could not be made one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// There are fewer bytes than a header has.
    #[error("a message of {len} bytes, {HEADER_BYTES} at least are needed; it was cut off")]
    TooShort {
        /// Bytes that there are.
        len: usize,
    },
    /// A version that this build does not know.
    #[error(
        "the message has version {found}, this build reads {} to {}; \
         upgrade the nodes one version at a time",
        VERSIONS_READ.start(),
        VERSIONS_READ.end()
    )]
    Version {
        /// The version.
        found: u16,
    },
    /// A message of another kind.
    #[error("a message of kind {found} came where {expected} belongs; close the connection")]
    Kind {
        /// The kind that was expected.
        expected: u16,
        /// The kind of the message.
        found: u16,
    },
    /// The bytes are not those that were written.
    #[error(
        "the message's checksum is {found:#010x}, its bytes give {computed:#010x}: it was damaged \
         or cut off; ask for it again"
    )]
    Checksum {
        /// What the message says.
        found: u32,
        /// What its bytes say.
        computed: u32,
    },
    /// The content is no value of the expected type.
    #[error("the content of a message of kind {kind} is not one: {reason}; run the same build")]
    Content {
        /// The kind of the message.
        kind: u16,
        /// What postcard says.
        reason: postcard::Error,
    },
}

/// A value as a message.
///
/// # Errors
/// [`MessageError::Content`] if the type cannot be encoded: a sequence of unknown length, say.
pub fn encode_message<T: Serialize + ?Sized>(
    kind: u16,
    value: &T,
) -> Result<Vec<u8>, MessageError> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    let mut bytes = postcard::to_extend(value, bytes)
        .map_err(|reason| MessageError::Content { kind, reason })?;
    let crc = checksum(&bytes);
    bytes[4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    Ok(bytes)
}

/// The kind of a message, which says as what to decode it.
///
/// # Errors
/// As [`decode_message`], but the content is not looked at.
pub fn message_kind(bytes: &[u8]) -> Result<u16, MessageError> {
    let Some((&[v0, v1, k0, k1, c0, c1, c2, c3], _)) = bytes.split_first_chunk::<HEADER_BYTES>()
    else {
        return Err(MessageError::TooShort { len: bytes.len() });
    };
    let version = u16::from_le_bytes([v0, v1]);
    if !VERSIONS_READ.contains(&version) {
        return Err(MessageError::Version { found: version });
    }
    let (found, computed) = (u32::from_le_bytes([c0, c1, c2, c3]), checksum(bytes));
    if found != computed {
        return Err(MessageError::Checksum { found, computed });
    }
    Ok(u16::from_le_bytes([k0, k1]))
}

/// The value of a message of this kind.
///
/// # Errors
/// [`MessageError`] if the bytes are no message, one of another version or kind, damaged, or not
/// an encoding of a `T` from its first byte to its last.
pub fn decode_message<T: DeserializeOwned>(kind: u16, bytes: &[u8]) -> Result<T, MessageError> {
    let found = message_kind(bytes)?;
    if found != kind {
        return Err(MessageError::Kind { expected: kind, found });
    }
    let content = |reason| MessageError::Content { kind, reason };
    let (value, rest) = postcard::take_from_bytes(&bytes[HEADER_BYTES..]).map_err(content)?;
    if !rest.is_empty() {
        return Err(content(postcard::Error::DeserializeBadEncoding));
    }
    Ok(value)
}

/// Of a message that has a whole header.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c_append(crc32c(&bytes[..4]), &bytes[HEADER_BYTES..])
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::id::Epoch;
    use crate::message::{EpochStart, ObjectRef, Partition, Pending, TaskSnapshot};
    use crate::time::EventTime;

    fn snapshot() -> TaskSnapshot {
        TaskSnapshot {
            finished: true,
            partitions: vec![Partition {
                name: String::from("a/0"),
                position: Some(vec![1, 2]),
                done: false,
            }],
            chain: vec![ObjectRef { name: String::from("7/count-0"), len: 9, crc: 8 }],
            watermark: EventTime(-5),
            ..TaskSnapshot::default()
        }
    }

    #[test]
    fn the_layout_is_what_it_was() {
        let start = EpochStart { epoch: Epoch(300), base: Some(Epoch(2)), stop: true };
        let bytes = encode_message(0x0102, &start).expect("it encodes");
        assert_eq!(bytes[..4], [1, 0, 2, 1]);
        assert_eq!(bytes[8..], [0xac, 2, 1, 2, 1]);
        assert_eq!(bytes[4..8], crc32c(&[1, 0, 2, 1, 0xac, 2, 1, 2, 1]).to_le_bytes());
        assert_eq!(message_kind(&bytes), Ok(0x0102));
        assert_eq!(decode_message(0x0102, &bytes), Ok(start));
    }

    #[test]
    fn what_is_something_else_is_refused_by_name() {
        let bytes = encode_message(3, &snapshot()).expect("it encodes");
        assert_eq!(decode_message(3, &bytes), Ok(snapshot()));
        let kind = MessageError::Kind { expected: 4, found: 3 };
        assert_eq!(decode_message::<TaskSnapshot>(4, &bytes), Err(kind));
        let mut newer = bytes.clone();
        newer[0] = 2;
        let version = MessageError::Version { found: 2 };
        assert_eq!(decode_message::<TaskSnapshot>(3, &newer), Err(version));
        let trailing = decode_message::<bool>(3, &bytes);
        assert!(matches!(trailing, Err(MessageError::Content { kind: 3, .. })), "{trailing:?}");
        let short = decode_message::<bool>(3, &bytes[..7]);
        assert_eq!(short, Err(MessageError::TooShort { len: 7 }));
    }

    #[test]
    fn a_length_in_the_content_is_not_trusted() {
        // A list of 2^63 numbers, in ten bytes.
        let claim = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1];
        let mut bytes = vec![1, 0, 3, 0, 0, 0, 0, 0];
        bytes.extend(claim);
        let crc = checksum(&bytes);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        assert!(decode_message::<Vec<u64>>(3, &bytes).is_err());
        assert!(decode_message::<String>(3, &bytes).is_err());
        assert!(decode_message::<Pending>(3, &bytes).is_err());
    }

    proptest! {
        #[test]
        fn no_part_and_no_damage_is_accepted(
            name in ".{0,40}",
            numbers: Vec<u64>,
            flips in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        ) {
            let value = (name, numbers);
            let bytes = encode_message(9, &value).expect("it encodes");
            prop_assert_eq!(decode_message::<(String, Vec<u64>)>(9, &bytes), Ok(value));
            for cut in 0..bytes.len() {
                prop_assert!(decode_message::<(String, Vec<u64>)>(9, &bytes[..cut]).is_err());
            }
            let mut damaged = bytes.clone();
            let flips: alloc::collections::BTreeSet<_> =
                flips.iter().map(|flip| flip.index(bytes.len() * 8)).collect();
            for bit in flips {
                damaged[bit / 8] ^= 1 << (bit % 8);
            }
            prop_assert!(decode_message::<(String, Vec<u64>)>(9, &damaged).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(content in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(decode_message::<TaskSnapshot>(1, &content).is_err());
            let mut bytes = vec![1, 0, 1, 0, 0, 0, 0, 0];
            bytes.extend(content);
            let crc = checksum(&bytes);
            bytes[4..8].copy_from_slice(&crc.to_le_bytes());
            let _ = decode_message::<TaskSnapshot>(1, &bytes);
        }
    }
}
