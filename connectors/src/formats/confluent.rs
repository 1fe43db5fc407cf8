//! The frame that Confluent's serializers put around a value: a zero byte, and the number of the
//! schema that it was written with.
//!
//! There is no registry here: a job is given the schemas of the numbers that it expects, and
//! refuses others.

use super::Error;

/// The first byte of a frame.
const MAGIC: u8 = 0;
/// Bytes before the value.
const HEADER_BYTES: usize = 5;

/// The number of a value's schema, and the value.
///
/// # Errors
/// [`Error::NotFramed`].
///
/// ```
/// use gear_connectors::formats::confluent;
///
/// assert_eq!(confluent::open(b"\0\0\0\0\x07value"), Ok((7, &b"value"[..])));
/// ```
pub fn open(bytes: &[u8]) -> Result<(u32, &[u8]), Error> {
    match bytes.split_first_chunk::<HEADER_BYTES>() {
        Some(([MAGIC, id @ ..], value)) => Ok((u32::from_be_bytes(*id), value)),
        _ => Err(Error::NotFramed),
    }
}

/// Appends what stands before a value that is written with the schema of this number.
pub fn begin(schema: u32, out: &mut Vec<u8>) {
    out.push(MAGIC);
    out.extend_from_slice(&schema.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_is_opened() {
        for id in [0, 7, u32::MAX] {
            let mut bytes = Vec::new();
            begin(id, &mut bytes);
            bytes.push(42);
            assert_eq!(open(&bytes), Ok((id, &[42][..])));
            (0..HEADER_BYTES)
                .for_each(|len| assert_eq!(open(&bytes[..len]), Err(Error::NotFramed)));
            bytes[0] = 1;
            assert_eq!(open(&bytes), Err(Error::NotFramed));
        }
    }
}
