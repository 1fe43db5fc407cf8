//! What executors and masters write to each other, as bytes: versioned, checked, never trusted.
//!
//! [`frame`] carries what flows on channels, [`message`] everything else; [`item`] turns frames
//! into what tasks see, and [`stream`] finds both in what comes over a connection. Numbers are
//! little endian. A checksum is CRC32C.

pub mod frame;
pub mod item;
pub mod message;
pub mod stream;

pub use frame::{FrameError, FrameHeader, FrameKind};
pub use item::{ItemError, encode_item, item_of};
pub use message::{MessageError, decode_message, encode_message, message_kind};
pub use stream::{Decoder, Entry, StreamError};
