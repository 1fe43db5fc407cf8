//! Frames: what flows on channels, with a header that says where it belongs.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | [`MAGIC`] |
//! | 1 | version |
//! | 2 | kind |
//! | 3 | flags: 1 if the records are timed |
//! | 4..8, 8..12, 12..16 | channel: edge, sender's index, receiver's index |
//! | 16..24 | attempt of the sending task |
//! | 24..32 | frame number on the channel |
//! | 32..40 | epoch in which it was sent |
//! | 40..44 | records in the payload |
//! | 44..48 | bytes of the payload |
//! | 48..52 | CRC32C over all of the above and the payload |
//! | 52.. | payload |

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use crc32c::{crc32c, crc32c_append};

use crate::id::{Attempt, ChannelId, Epoch};
use crate::limits::{BATCH_BYTES, RECORD_BYTES_MAX};

/// The first byte of every frame: anything else is no frame, or was read from a wrong place.
pub const MAGIC: u8 = b'G';
/// The version that is written.
pub const VERSION: u8 = 1;
/// The versions that are read: this, and the one before it as soon as there is one.
pub const VERSIONS_READ: RangeInclusive<u8> = 1..=VERSION;
/// Bytes of a header.
pub const HEADER_BYTES: usize = 52;
/// Most bytes of a payload: a batch that was almost full when the largest record came.
pub const PAYLOAD_BYTES_MAX: usize = RECORD_BYTES_MAX + BATCH_BYTES;
/// Most bytes of a payload that is no batch: a barrier's.
pub const CONTROL_BYTES_MAX: usize = 64;

/// Where the checksum stands in the header: it covers what is before it, and the payload.
const CRC_AT: usize = 48;
const FLAG_TIMED: u8 = 1;

const _: () = assert!(CRC_AT + 4 == HEADER_BYTES);
const _: () = assert!(PAYLOAD_BYTES_MAX <= u32::MAX as usize - HEADER_BYTES);

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Records.
    Batch = 1,
    /// A watermark.
    Watermark = 2,
    /// The sender holds no clock for now.
    Idle = 3,
    /// The end of an epoch.
    Barrier = 4,
    /// The end of the stream.
    End = 5,
}

impl FrameKind {
    const fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Batch,
            2 => Self::Watermark,
            3 => Self::Idle,
            4 => Self::Barrier,
            5 => Self::End,
            _ => return None,
        })
    }

    const fn payload_bytes_max(self) -> usize {
        if matches!(self, Self::Batch) { PAYLOAD_BYTES_MAX } else { CONTROL_BYTES_MAX }
    }
}

/// Where a frame belongs, and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What it carries.
    pub kind: FrameKind,
    /// True if each record is preceded by its event time.
    pub timed: bool,
    /// The channel.
    pub channel: ChannelId,
    /// The attempt of the sending task.
    pub attempt: Attempt,
    /// Its number on the channel.
    pub number: u64,
    /// The epoch in which it was sent.
    pub epoch: Epoch,
    /// Records in the payload.
    pub count: u32,
}

/// A frame on its way to a connection. Who has sent it keeps the payload too, until it has arrived:
/// so it is written from where it is, and copied by the kernel only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed {
    /// The header, encoded.
    pub head: [u8; HEADER_BYTES],
    /// What follows it.
    pub payload: Arc<Vec<u8>>,
}

impl Framed {
    /// Bytes of header and payload.
    #[must_use]
    pub fn len(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// Never: a frame has a header.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The rest behind the first bytes: of the header, and of the payload.
    #[must_use]
    pub fn behind(&self, bytes: usize) -> [&[u8]; 2] {
        let head = self.head.get(bytes..).unwrap_or(&[]);
        let payload = self.payload.get(bytes.saturating_sub(HEADER_BYTES)..).unwrap_or(&[]);
        [head, payload]
    }

    /// The whole frame in one piece, behind what `out` holds.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.len());
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&self.payload);
    }
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// No error: the frame goes on behind these bytes.
    #[error("the frame is not whole yet; read on to {need} bytes and decode again")]
    Incomplete {
        /// Bytes, counted from the beginning of the frame, without which nothing more can be said.
        need: usize,
    },
    /// The bytes begin with something else.
    #[error("a frame begins with byte {MAGIC:#04x}, not {found:#04x}; close the connection")]
    NoFrame {
        /// The byte in its place.
        found: u8,
    },
    /// A version that this build does not know.
    #[error(
        "the frame has version {found}, this build reads {} to {}; \
         upgrade the nodes one version at a time",
        VERSIONS_READ.start(),
        VERSIONS_READ.end()
    )]
    Version {
        /// The version.
        found: u8,
    },
    /// A kind that the version does not have.
    #[error("no frame has the kind {found}; close the connection, the peer is not sound")]
    Kind {
        /// The kind.
        found: u8,
    },
    /// A flag that the version does not have.
    #[error("no frame has the flags {found:#04x}; close the connection, the peer is not sound")]
    Flags {
        /// The flags.
        found: u8,
    },
    /// More bytes than any frame of its kind has.
    #[error(
        "a payload of {len} bytes, at most {max} are possible in a {kind:?} frame; \
         make the records smaller"
    )]
    TooLong {
        /// What the frame carries.
        kind: FrameKind,
        /// The length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The bytes are not those that were written.
    #[error(
        "the frame's checksum is {found:#010x}, its bytes give {computed:#010x}: they were damaged \
         on the way; reconnect, the sender still has them"
    )]
    Checksum {
        /// What the frame says.
        found: u32,
        /// What its bytes say.
        computed: u32,
    },
}

/// Appends a frame. Nothing is appended if it fails.
///
/// # Errors
/// [`FrameError::TooLong`] if the payload has more bytes than a frame of its kind may have.
pub fn encode(header: &FrameHeader, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    let (bytes, _) = encode_header(header, payload)?;
    out.reserve(HEADER_BYTES + payload.len());
    out.extend_from_slice(&bytes);
    out.extend_from_slice(payload);
    Ok(())
}

/// The header of a frame with this payload, as bytes, and the checksum in it: for those who keep
/// the two apart.
///
/// # Errors
/// As [`encode`].
pub fn encode_header(
    header: &FrameHeader,
    payload: &[u8],
) -> Result<([u8; HEADER_BYTES], u32), FrameError> {
    check_len(header.kind, payload.len())?;
    let mut bytes = [0; HEADER_BYTES];
    bytes[0] = MAGIC;
    bytes[1] = VERSION;
    bytes[2] = header.kind as u8;
    bytes[3] = if header.timed { FLAG_TIMED } else { 0 };
    bytes[4..8].copy_from_slice(&header.channel.edge.to_le_bytes());
    bytes[8..12].copy_from_slice(&header.channel.from.to_le_bytes());
    bytes[12..16].copy_from_slice(&header.channel.to.to_le_bytes());
    bytes[16..24].copy_from_slice(&header.attempt.0.to_le_bytes());
    bytes[24..32].copy_from_slice(&header.number.to_le_bytes());
    bytes[32..40].copy_from_slice(&header.epoch.0.to_le_bytes());
    bytes[40..44].copy_from_slice(&header.count.to_le_bytes());
    bytes[44..48].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    let crc = crc32c_append(crc32c(&bytes[..CRC_AT]), payload);
    bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    Ok((bytes, crc))
}

/// A header that was read, and its payload's checksum as far as the payload has come.
#[derive(Clone, Copy, Debug)]
pub struct Announced {
    header: FrameHeader,
    len: usize,
    found: u32,
    computed: u32,
}

impl Announced {
    /// Reads a header from the front of `bytes`.
    ///
    /// # Errors
    /// As [`decode`], but the payload is not looked at: it may be missing or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let kind = check_start(bytes)?;
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(FrameError::Incomplete { need: HEADER_BYTES });
        };
        let len = u32_at(header, 44) as usize;
        check_len(kind, len)?;
        let found = u32_at(header, CRC_AT);
        let computed = crc32c(&header[..CRC_AT]);
        let channel =
            ChannelId { edge: u32_at(header, 4), from: u32_at(header, 8), to: u32_at(header, 12) };
        let header = FrameHeader {
            kind,
            timed: header[3] & FLAG_TIMED != 0,
            channel,
            attempt: Attempt(u64_at(header, 16)),
            number: u64_at(header, 24),
            epoch: Epoch(u64_at(header, 32)),
            count: u32_at(header, 40),
        };
        Ok(Self { header, len, found, computed })
    }

    /// Bytes of the payload.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if the frame has no payload.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the next bytes of the payload into the checksum.
    pub fn append(&mut self, part: &[u8]) {
        self.computed = crc32c_append(self.computed, part);
    }

    /// The header and the frame's checksum, after the whole payload was appended.
    ///
    /// # Errors
    /// [`FrameError::Checksum`] if the bytes are not those that were written.
    pub const fn finish(&self) -> Result<(FrameHeader, u32), FrameError> {
        let Self { found, computed, .. } = *self;
        if found == computed {
            Ok((self.header, found))
        } else {
            Err(FrameError::Checksum { found, computed })
        }
    }
}

/// The frame at the front of `bytes`: its header, its payload, and how many bytes it has in all.
///
/// # Errors
/// [`FrameError::Incomplete`] if more bytes are needed; any other says that the stream is damaged
/// and nothing behind can be found.
pub fn decode(bytes: &[u8]) -> Result<(FrameHeader, &[u8], usize), FrameError> {
    let mut announced = Announced::decode(bytes)?;
    let whole = HEADER_BYTES + announced.len;
    let Some(payload) = bytes.get(HEADER_BYTES..whole) else {
        return Err(FrameError::Incomplete { need: whole });
    };
    announced.append(payload);
    let (header, _) = announced.finish()?;
    Ok((header, payload, whole))
}

/// Judges the first four bytes, as many as there are: bytes from elsewhere are refused at once,
/// not when as many have come as they seem to announce.
pub(crate) fn check_start(bytes: &[u8]) -> Result<FrameKind, FrameError> {
    let incomplete = FrameError::Incomplete { need: HEADER_BYTES };
    let byte = |at: usize| bytes.get(at).copied().ok_or(incomplete);
    let found = byte(0)?;
    if found != MAGIC {
        return Err(FrameError::NoFrame { found });
    }
    let found = byte(1)?;
    if !VERSIONS_READ.contains(&found) {
        return Err(FrameError::Version { found });
    }
    let found = byte(2)?;
    let kind = FrameKind::of(found).ok_or(FrameError::Kind { found })?;
    let found = byte(3)?;
    if found & !FLAG_TIMED != 0 {
        return Err(FrameError::Flags { found });
    }
    Ok(kind)
}

const fn check_len(kind: FrameKind, len: usize) -> Result<(), FrameError> {
    let max = kind.payload_bytes_max();
    if len > max { Err(FrameError::TooLong { kind, len, max }) } else { Ok(()) }
}

fn u32_at(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&header[at..at + 4]);
    u32::from_le_bytes(bytes)
}

fn u64_at(header: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[at..at + 8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn frame(header: &FrameHeader, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(header, payload, &mut out).expect("it is short");
        out
    }

    const BATCH: FrameHeader = FrameHeader {
        kind: FrameKind::Batch,
        timed: true,
        channel: ChannelId { edge: 1, from: 2, to: 3 },
        attempt: Attempt(4),
        number: 5,
        epoch: Epoch(6),
        count: 7,
    };

    prop_compose! {
        fn any_frame()(
            kind in 1..=5_u8,
            timed: bool,
            (edge, from, to, count) in any::<(u32, u32, u32, u32)>(),
            (attempt, number, epoch) in any::<(u64, u64, u64)>(),
            mut payload in prop::collection::vec(any::<u8>(), 0..300),
        ) -> (FrameHeader, Vec<u8>) {
            let kind = FrameKind::of(kind).expect("there are five");
            payload.truncate(kind.payload_bytes_max());
            let channel = ChannelId { edge, from, to };
            let (attempt, epoch) = (Attempt(attempt), Epoch(epoch));
            (FrameHeader { kind, timed, channel, attempt, number, epoch, count }, payload)
        }
    }

    #[test]
    fn the_layout_is_what_it_was() {
        let bytes = frame(&BATCH, b"xyz");
        let head = [
            b'G', 1, 1, 1, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0,
            0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 3, 0, 0, 0,
        ];
        assert_eq!(bytes[..CRC_AT], head);
        assert_eq!(bytes[HEADER_BYTES..], *b"xyz");
        let crc = crc32c(&[&head, b"xyz".as_slice()].concat());
        assert_eq!(bytes[CRC_AT..HEADER_BYTES], crc.to_le_bytes());
    }

    #[test]
    fn other_versions_kinds_and_flags_are_refused_by_name() {
        let start = |bytes: &[u8]| decode(bytes).expect_err("refused");
        assert_eq!(start(b"X"), FrameError::NoFrame { found: b'X' });
        assert_eq!(start(b"G\0"), FrameError::Version { found: 0 });
        assert_eq!(start(b"G\x02"), FrameError::Version { found: 2 });
        assert!(start(b"G\x02").to_string().contains("version 2, this build reads 1 to 1"));
        assert_eq!(start(b"G\x01\x06"), FrameError::Kind { found: 6 });
        assert_eq!(start(b"G\x01\x01\x02"), FrameError::Flags { found: 2 });
        assert_eq!(start(b""), FrameError::Incomplete { need: HEADER_BYTES });
    }

    #[test]
    fn no_length_is_trusted() {
        let mut bytes = frame(&BATCH, b"");
        bytes[44..48].copy_from_slice(&u32::MAX.to_le_bytes());
        let too_long = |kind, len, max| FrameError::TooLong { kind, len, max };
        let len = u32::MAX as usize;
        let expected = too_long(FrameKind::Batch, len, PAYLOAD_BYTES_MAX);
        assert_eq!(decode(&bytes), Err(expected));
        let end = FrameHeader { kind: FrameKind::End, ..BATCH };
        let mut out = vec![9];
        let payload = [0; CONTROL_BYTES_MAX + 1];
        let expected = too_long(FrameKind::End, payload.len(), CONTROL_BYTES_MAX);
        assert_eq!(encode(&end, &payload, &mut out), Err(expected));
        assert_eq!(out, [9]);
    }

    proptest! {
        #[test]
        fn frames_come_back_one_by_one(
            frames in prop::collection::vec(any_frame(), 1..5),
        ) {
            let mut bytes = Vec::new();
            for (header, payload) in &frames {
                encode(header, payload, &mut bytes).expect("it is short");
            }
            let mut rest = bytes.as_slice();
            for (header, payload) in &frames {
                let (read, content, consumed) = decode(rest).expect("it is whole");
                prop_assert_eq!((&read, content), (header, payload.as_slice()));
                prop_assert_eq!(consumed, HEADER_BYTES + payload.len());
                rest = &rest[consumed..];
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn every_part_of_a_frame_asks_for_more((header, payload) in any_frame()) {
            let bytes = frame(&header, &payload);
            for cut in 0..bytes.len() {
                match decode(&bytes[..cut]) {
                    Err(FrameError::Incomplete { need }) => {
                        prop_assert!(cut < need && need <= bytes.len());
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }

        #[test]
        fn no_damaged_frame_is_accepted(
            (header, payload) in any_frame(),
            // CRC32C finds up to 3 flipped bits in frames of this length, and any burst of 32.
            flips in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
            more in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut bytes = frame(&header, &payload);
            let bits = bytes.len() * 8;
            let flips: alloc::collections::BTreeSet<_> =
                flips.iter().map(|flip| flip.index(bits)).collect();
            for bit in flips {
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            bytes.extend(more);
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            start: bool,
        ) {
            if start && bytes.len() > 4 {
                bytes[..4].copy_from_slice(&[MAGIC, VERSION, 1, 0]);
            }
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
