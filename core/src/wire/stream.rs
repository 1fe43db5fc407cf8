//! What comes over a connection: frames and messages, one behind the other, cut anywhere.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | [`frame::MAGIC`](MAGIC): a frame, which says itself how long it is |
//! | 0 | [`MESSAGE_MAGIC`]: a message |
//! | 1..5 | its length |
//! | 5.. | the message, as [`encode_message`] writes it |
//!
//! The first entry in each direction belongs to the handshake. Until it has been judged the peer is
//! a stranger: it may send nothing but one short message.

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use serde::Serialize;

use crate::limits::{BATCH_BYTES, HANDSHAKE_BYTES_MAX, MESSAGE_BYTES_MAX, POOL_BUFFERS_MAX};
use crate::wire::frame::{Announced, FrameError, FrameHeader, HEADER_BYTES, MAGIC, check_start};
use crate::wire::message::{MessageError, encode_message};

/// The first byte of a message.
pub const MESSAGE_MAGIC: u8 = b'M';
/// Bytes in front of a message.
pub const MESSAGE_HEAD_BYTES: usize = 5;

/// What the messages on connections are: the kind in their header.
pub mod kind {
    /// The first message of whoever dialled: a [`Hello`](crate::link::handshake::Hello).
    pub const HELLO: u16 = 1;
    /// The answer that lets it in: a [`Welcome`](crate::link::handshake::Welcome).
    pub const WELCOME: u16 = 2;
    /// The answer that does not: a [`Refusal`](crate::link::handshake::Refusal).
    pub const REFUSAL: u16 = 3;
    /// A [`ControlMessage`](crate::control::ControlMessage).
    pub const CONTROL: u16 = 4;
    /// The first message on a link's new connection: what has arrived before.
    pub const LINK_RESUME: u16 = 5;
    /// What has arrived on a link; also sent to show that one is there.
    pub const LINK_ACKNOWLEDGE: u16 = 6;
    /// A numbered [`Message`](crate::message::Message) on a link.
    pub const LINK_MESSAGE: u16 = 7;
    /// The end of a link: nothing follows, and no connection will be accepted.
    pub const LINK_GOODBYE: u16 = 8;
    /// Asks whether whoever was dialled for control is there.
    pub const PING: u16 = 9;
    /// It is.
    pub const PONG: u16 = 10;
}

/// Bytes for which room is made because a frame announces them; more is made as they come.
const ROOM_AT_ONCE: usize = 4 * BATCH_BYTES;
/// Room is made in steps, so that a buffer fits the next batch too, which is about as long.
const ROOM_STEP: usize = BATCH_BYTES / 8;

/// Something whole that came over a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A frame, its checksum right.
    Frame {
        /// Where it belongs, and what is in it.
        header: FrameHeader,
        /// Its checksum.
        crc: u32,
        /// Its payload, in a buffer of its own.
        payload: Vec<u8>,
    },
    /// The bytes of a message, not yet looked at.
    Message(&'a [u8]),
}

/// Why nothing more can be read from a connection, or an entry cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Neither a frame nor a message begins here.
    #[error("no entry begins with byte {found:#04x}; close the connection, no Gear speaks there")]
    NoEntry {
        /// The byte in its place.
        found: u8,
    },
    /// A message that is longer than any may be.
    #[error("a message of {len} bytes, at most {max} are allowed here; close the connection")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A frame from a peer that has not said who it is.
    #[error("a frame came before the handshake; close the connection")]
    FrameOfStranger,
    /// The frame is none.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The value cannot be a message.
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// Appends a value as a message. Nothing is appended if it fails.
///
/// # Errors
/// [`StreamError::TooLong`] if it has more than [`MESSAGE_BYTES_MAX`] bytes;
/// [`StreamError::Message`] if its type cannot be encoded.
pub fn encode_entry<T: Serialize + ?Sized>(
    kind: u16,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), StreamError> {
    let message = encode_message(kind, value)?;
    let (len, max) = (message.len(), MESSAGE_BYTES_MAX);
    if len > max {
        return Err(StreamError::TooLong { len, max });
    }
    out.reserve(MESSAGE_HEAD_BYTES + len);
    out.push(MESSAGE_MAGIC);
    out.extend_from_slice(&(len as u32).to_le_bytes());
    out.extend_from_slice(&message);
    Ok(())
}

/// Finds the entries in a connection's bytes.
///
/// A frame's payload is copied once, into the buffer in which it is handed out; a message that came
/// in one piece is not copied.
#[derive(Debug)]
pub struct Decoder {
    stage: Stage,
    head: ArrayVec<u8, HEADER_BYTES>,
    /// A message of which the end has not come yet.
    message: Vec<u8>,
    /// True as soon as the peer is no stranger.
    admitted: bool,
    /// Empty buffers for payloads.
    buffers: Vec<Vec<u8>>,
}

#[derive(Debug)]
enum Stage {
    Head,
    Frame { announced: Announced, payload: Vec<u8> },
    Message { len: usize },
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder at the beginning of a connection whose peer is a stranger.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            stage: Stage::Head,
            head: ArrayVec::new_const(),
            message: Vec::new(),
            admitted: false,
            buffers: Vec::new(),
        }
    }

    /// Accepts everything from here on: the handshake has gone well.
    pub const fn admit(&mut self) {
        self.admitted = true;
    }

    /// Goes back to the beginning of another connection with the same peer, and keeps the buffers.
    pub fn restart(&mut self) {
        if let Stage::Frame { payload, .. } = core::mem::replace(&mut self.stage, Stage::Head) {
            self.give(payload);
        }
        self.head.clear();
        self.message = Vec::new();
    }

    /// Takes back the buffer of a payload, for a later one.
    pub fn give(&mut self, buffer: Vec<u8>) {
        let is_common = buffer.capacity() > 0 && buffer.capacity() <= ROOM_AT_ONCE;
        if is_common && self.buffers.len() < POOL_BUFFERS_MAX {
            self.buffers.push(buffer);
        }
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub fn allocated(&self) -> usize {
        let payload = match &self.stage {
            Stage::Frame { payload, .. } => payload.capacity(),
            Stage::Head | Stage::Message { .. } => 0,
        };
        payload + self.message.capacity() + self.buffers.iter().map(Vec::capacity).sum::<usize>()
    }

    /// Takes the next entry from the front of `input`, or all of `input` if its end is missing.
    /// What is behind the entry stays in `input`.
    ///
    /// # Errors
    /// [`StreamError`]: nothing behind can be found, and the connection is of no further use.
    pub fn next<'a, 'b: 'a>(
        &'a mut self,
        input: &mut &'b [u8],
    ) -> Result<Option<Entry<'a>>, StreamError> {
        if matches!(self.stage, Stage::Head) {
            match self.begin(input)? {
                Some(stage) => self.stage = stage,
                None => return Ok(None),
            }
        }
        match &mut self.stage {
            Stage::Head => Ok(None),
            Stage::Frame { announced, payload } => {
                let part = take(input, announced.len() - payload.len());
                announced.append(part);
                payload.extend_from_slice(part);
                if payload.len() < announced.len() {
                    return Ok(None);
                }
                let finished = announced.finish();
                let payload = core::mem::take(payload);
                self.stage = Stage::Head;
                let (header, crc) = finished?;
                Ok(Some(Entry::Frame { header, crc, payload }))
            }
            Stage::Message { len } => {
                let len = *len;
                if self.message.is_empty() && input.len() >= len {
                    self.stage = Stage::Head;
                    return Ok(Some(Entry::Message(take(input, len))));
                }
                let part = take(input, len - self.message.len());
                self.message.extend_from_slice(part);
                if self.message.len() < len {
                    return Ok(None);
                }
                self.stage = Stage::Head;
                Ok(Some(Entry::Message(&self.message)))
            }
        }
    }

    /// Reads the head of an entry, as far as it is there.
    fn begin(&mut self, input: &mut &[u8]) -> Result<Option<Stage>, StreamError> {
        if self.head.is_empty() {
            let Some(&first) = input.first() else { return Ok(None) };
            // The message before has been read.
            self.message.clear();
            match first {
                MAGIC if self.admitted => {}
                MAGIC => return Err(StreamError::FrameOfStranger),
                MESSAGE_MAGIC => {}
                found => return Err(StreamError::NoEntry { found }),
            }
            self.head.push(first);
            *input = &input[1..];
        }
        let is_frame = self.head[0] == MAGIC;
        let need = if is_frame { HEADER_BYTES } else { MESSAGE_HEAD_BYTES };
        self.head.extend(take(input, need - self.head.len()).iter().copied());
        if self.head.len() < need {
            if is_frame {
                // Refuses what cannot become a frame before the rest of it has come.
                match check_start(&self.head) {
                    Ok(_) | Err(FrameError::Incomplete { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            return Ok(None);
        }
        let stage = if is_frame {
            let announced = Announced::decode(&self.head)?;
            let mut payload = self.buffers.pop().unwrap_or_default();
            payload.clear();
            let room = announced.len().next_multiple_of(ROOM_STEP);
            payload.reserve_exact(room.min(ROOM_AT_ONCE));
            Stage::Frame { announced, payload }
        } else {
            Stage::Message { len: self.message_len()? }
        };
        self.head.clear();
        Ok(Some(stage))
    }

    fn message_len(&self) -> Result<usize, StreamError> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.head[1..MESSAGE_HEAD_BYTES]);
        let len = u32::from_le_bytes(bytes) as usize;
        let max = if self.admitted { MESSAGE_BYTES_MAX } else { HANDSHAKE_BYTES_MAX };
        if len > max { Err(StreamError::TooLong { len, max }) } else { Ok(len) }
    }
}

/// Takes up to `most` bytes from the front.
fn take<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (part, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    part
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::id::{Attempt, ChannelId, Epoch};
    use crate::wire::frame::{FrameKind, encode};
    use crate::wire::message::decode_message;

    #[derive(Clone, Debug, PartialEq)]
    enum Sent {
        Frame(u64, Vec<u8>),
        Message(Vec<u8>),
    }

    fn header(number: u64, kind: FrameKind) -> FrameHeader {
        let channel = ChannelId { edge: 1, from: 2, to: 3 };
        let (attempt, epoch) = (Attempt(1), Epoch(2));
        FrameHeader { kind, timed: false, channel, attempt, number, epoch, count: 1 }
    }

    fn written(sent: &[Sent]) -> Vec<u8> {
        let mut out = Vec::new();
        for entry in sent {
            match entry {
                Sent::Frame(number, payload) => {
                    encode(&header(*number, FrameKind::Batch), payload, &mut out).expect("short");
                }
                Sent::Message(value) => encode_entry(9, value, &mut out).expect("short"),
            }
        }
        out
    }

    fn any_sent() -> impl Strategy<Value = Sent> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..300);
        prop_oneof![
            (any::<u64>(), bytes()).prop_map(|(number, payload)| Sent::Frame(number, payload)),
            bytes().prop_map(Sent::Message),
        ]
    }

    fn admitted() -> Decoder {
        let mut decoder = Decoder::new();
        decoder.admit();
        decoder
    }

    /// Reads all that is there; the error ends it.
    fn read(decoder: &mut Decoder, mut input: &[u8]) -> Result<Vec<Sent>, StreamError> {
        let mut read = Vec::new();
        while let Some(entry) = decoder.next(&mut input)? {
            read.push(match entry {
                Entry::Frame { header, payload, .. } => Sent::Frame(header.number, payload),
                Entry::Message(bytes) => {
                    Sent::Message(decode_message(9, bytes).expect("was encoded"))
                }
            });
        }
        assert!(input.is_empty(), "what is no entry yet was taken");
        Ok(read)
    }

    #[test]
    fn what_is_no_entry_is_refused_by_name() {
        let refused = |bytes: &[u8]| read(&mut admitted(), bytes).expect_err("refused");
        assert_eq!(refused(b"X"), StreamError::NoEntry { found: b'X' });
        assert_eq!(refused(b"G\x02"), FrameError::Version { found: 2 }.into());
        let long = (MESSAGE_BYTES_MAX as u32 + 1).to_le_bytes();
        let (len, max) = (MESSAGE_BYTES_MAX + 1, MESSAGE_BYTES_MAX);
        assert_eq!(refused(&[b"M", long.as_slice()].concat()), StreamError::TooLong { len, max });
        let mut damaged = written(&[Sent::Frame(1, vec![1; 9])]);
        damaged[50] ^= 1;
        assert!(matches!(refused(&damaged), StreamError::Frame(FrameError::Checksum { .. })));
    }

    #[test]
    fn a_stranger_may_send_one_short_message() {
        let refused = |bytes: &[u8]| read(&mut Decoder::new(), bytes).expect_err("refused");
        assert_eq!(refused(b"G"), StreamError::FrameOfStranger);
        let (len, max) = (HANDSHAKE_BYTES_MAX + 1, HANDSHAKE_BYTES_MAX);
        let long = (len as u32).to_le_bytes();
        assert_eq!(refused(&[b"M", long.as_slice()].concat()), StreamError::TooLong { len, max });
        let sent = [Sent::Message(vec![7; 100])];
        assert_eq!(read(&mut Decoder::new(), &written(&sent)), Ok(sent.to_vec()));
    }

    #[test]
    fn a_length_makes_no_room() {
        let mut decoder = admitted();
        let mut frame = written(&[Sent::Frame(1, Vec::new())]);
        let len = crate::wire::frame::PAYLOAD_BYTES_MAX as u32;
        frame[44..48].copy_from_slice(&len.to_le_bytes());
        assert_eq!(read(&mut decoder, &frame), Ok(vec![]));
        assert!(decoder.allocated() <= ROOM_AT_ONCE);
        let mut decoder = admitted();
        let message = [b"M", (MESSAGE_BYTES_MAX as u32).to_le_bytes().as_slice(), b"abc"].concat();
        assert_eq!(read(&mut decoder, &message), Ok(vec![]));
        assert!(decoder.allocated() < 64);
    }

    #[test]
    fn buffers_come_back_in_use() {
        let mut decoder = admitted();
        let buffer = Vec::with_capacity(ROOM_STEP);
        let at = buffer.as_ptr();
        decoder.give(buffer);
        let bytes = written(&[Sent::Frame(1, vec![1; 900])]);
        let mut input = bytes.as_slice();
        let entry = decoder.next(&mut input);
        let Ok(Some(Entry::Frame { payload, .. })) = entry else { panic!("{entry:?}") };
        assert_eq!(payload.as_ptr(), at);
        decoder.give(Vec::with_capacity(ROOM_AT_ONCE + 1));
        assert_eq!(decoder.allocated(), 0, "a rare large one is let go");
    }

    #[test]
    fn a_message_that_is_too_long_is_not_written() {
        let mut out = vec![1];
        let value = vec![0_u8; MESSAGE_BYTES_MAX];
        let refused = encode_entry(9, &value, &mut out).expect_err("refused");
        assert!(matches!(refused, StreamError::TooLong { .. }));
        assert_eq!(out, [1]);
    }

    proptest! {
        #[test]
        fn entries_come_back_however_they_are_cut(
            sent in prop::collection::vec(any_sent(), 0..8),
            cuts in prop::collection::vec(1..200_usize, 1..20),
        ) {
            let bytes = written(&sent);
            let mut decoder = admitted();
            let mut rest = bytes.as_slice();
            let mut cuts = cuts.iter().cycle();
            let mut came = Vec::new();
            while !rest.is_empty() {
                let piece = take(&mut rest, *cuts.next().expect("it cycles"));
                came.extend(read(&mut decoder, piece).expect("sound"));
            }
            prop_assert_eq!(came, sent);
        }

        #[test]
        fn a_restart_forgets_the_half(sent in any_sent(), at: prop::sample::Index) {
            let bytes = written(core::slice::from_ref(&sent));
            let mut decoder = admitted();
            prop_assert_eq!(read(&mut decoder, &bytes[..at.index(bytes.len())]), Ok(vec![]));
            decoder.restart();
            prop_assert_eq!(read(&mut decoder, &bytes), Ok(vec![sent]));
        }

        #[test]
        fn no_bytes_make_it_panic_or_take_memory(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            magic in prop::sample::select(vec![MAGIC, MESSAGE_MAGIC]),
            admit: bool,
        ) {
            let mut decoder = Decoder::new();
            if admit {
                decoder.admit();
            }
            let bytes = [&[magic], bytes.as_slice()].concat();
            let mut input = bytes.as_slice();
            while let Ok(Some(_)) = decoder.next(&mut input) {}
            prop_assert!(decoder.allocated() <= ROOM_AT_ONCE + 1_024);
        }
    }
}
