//! Bytes from a connection as its entries: the same ones however they are cut.

use gear_core::control::ControlMessage;
use gear_core::limits::BATCH_BYTES;
use gear_core::link::handshake::{Hello, Refusal, Welcome};
use gear_core::wire::message::decode_message;
use gear_core::wire::stream::{Decoder, Entry, StreamError, encode_entry, kind};

/// What is read of a connection, and what ended it.
#[derive(Debug, PartialEq)]
struct Read {
    entries: Vec<Vec<u8>>,
    error: Option<StreamError>,
}

/// Reads the bytes in one piece and in pieces, as a stranger's and as a peer's, and as the content
/// of a message.
pub fn run(bytes: &[u8]) {
    let (step, bytes) = bytes.split_first().unwrap_or((&0, bytes));
    let step = usize::from(*step) + 1;
    for admit in [false, true] {
        let whole = read(bytes, bytes.len().max(1), admit);
        assert_eq!(read(bytes, step, admit), whole, "pieces of {step} bytes");
        assert_eq!(read(bytes, 1, admit), whole, "single bytes");
    }
    let mut message = Vec::new();
    encode_entry(kind::HELLO, &(), &mut message).expect("nothing encodes");
    message.extend_from_slice(bytes);
    if let Ok(len) = u32::try_from(message.len() - 5) {
        message[1..5].copy_from_slice(&len.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&message[5..9]), &message[13..]);
        message[9..13].copy_from_slice(&crc.to_le_bytes());
        read(&message, message.len(), true);
    }
}

fn read(bytes: &[u8], step: usize, admit: bool) -> Read {
    let mut decoder = Decoder::new();
    if admit {
        decoder.admit();
    }
    let mut read = Read { entries: Vec::new(), error: None };
    for mut piece in bytes.chunks(step) {
        loop {
            match decoder.next(&mut piece) {
                Ok(None) => break,
                Ok(Some(Entry::Frame { header, crc, payload })) => {
                    assert!(admit, "a stranger sends no frames");
                    read.entries.push(format!("{header:?} {crc} {payload:?}").into_bytes());
                }
                Ok(Some(Entry::Message(bytes))) => {
                    handshake(bytes);
                    read.entries.push(bytes.to_vec());
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    read.error = Some(error);
                    return read;
                }
            }
        }
        assert!(piece.is_empty(), "what is no entry yet was taken");
        assert!(decoder.allocated() <= bytes.len() * 2 + 5 * BATCH_BYTES);
    }
    read
}

fn handshake(bytes: &[u8]) {
    macro_rules! round_trip {
        ($($kind:ident: $type:ty),*) => {$(
            if let Ok(value) = decode_message::<$type>(kind::$kind, bytes) {
                assert!(!format!("{value:?}").is_empty());
                let mut again = Vec::new();
                encode_entry(kind::$kind, &value, &mut again).expect("was decoded");
                let again = decode_message::<$type>(kind::$kind, &again[5..]);
                assert_eq!(again, Ok(value));
            }
        )*};
    }
    round_trip!(HELLO: Hello, WELCOME: Welcome, REFUSAL: Refusal, CONTROL: ControlMessage);
}
