//! Records side by side in one piece of memory, as they are on the wire: what timely's own vectors
//! encode and decode one by one.

use std::io::Write;
use std::slice::ChunksExact;

use timely::Accountable;
use timely::bytes::arc::Bytes;
use timely::container::{DrainContainer, PushInto, SizableContainer};
use timely::dataflow::channels::ContainerBytes;

/// A container leaves when it has so many bytes; see README.md for what others gave.
const CAPACITY_BYTES: usize = 64 << 10;

/// Timely wants what it sends to end at a multiple of this.
const ALIGNMENT: usize = 8;

/// Records of `BYTES` bytes each, of which there are at least [`ALIGNMENT`].
#[derive(Clone)]
pub(crate) enum Records<const BYTES: usize> {
    /// Being filled in this process.
    Own(Vec<u8>),
    /// What came from another process, and perhaps a few bytes that fill it up.
    Arrived(Bytes),
}

impl<const BYTES: usize> Records<BYTES> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Arrived(bytes) => bytes,
        }
    }
}

impl<const BYTES: usize> Default for Records<BYTES> {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

impl<const BYTES: usize> Accountable for Records<BYTES> {
    fn record_count(&self) -> i64 {
        (self.bytes().len() / BYTES) as i64
    }
}

impl<const BYTES: usize> DrainContainer for Records<BYTES> {
    type Item<'a> = &'a [u8];
    type DrainIter<'a> = ChunksExact<'a, u8>;

    fn drain(&mut self) -> ChunksExact<'_, u8> {
        self.bytes().chunks_exact(BYTES)
    }
}

impl<const BYTES: usize> SizableContainer for Records<BYTES> {
    fn at_capacity(&self) -> bool {
        self.bytes().len() + BYTES > CAPACITY_BYTES
    }

    fn ensure_capacity(&mut self, spare: &mut Option<Self>) {
        if matches!(self, Self::Own(bytes) if bytes.capacity() > 0) {
            return;
        }
        *self = match spare.take() {
            Some(Self::Own(mut bytes)) if bytes.capacity() >= CAPACITY_BYTES => {
                bytes.clear();
                Self::Own(bytes)
            }
            _ => Self::Own(Vec::with_capacity(CAPACITY_BYTES)),
        };
    }
}

impl<const BYTES: usize> PushInto<&[u8]> for Records<BYTES> {
    fn push_into(&mut self, record: &[u8]) {
        match self {
            Self::Own(bytes) => bytes.extend_from_slice(record),
            Self::Arrived(_) => unreachable!("only own memory is filled"),
        }
    }
}

impl<const BYTES: usize> ContainerBytes for Records<BYTES> {
    fn from_bytes(bytes: Bytes) -> Self {
        Self::Arrived(bytes)
    }

    fn length_in_bytes(&self) -> usize {
        (self.record_count() as usize * BYTES).next_multiple_of(ALIGNMENT)
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        let filled = self.record_count() as usize * BYTES;
        let filling = self.length_in_bytes() - filled;
        writer.write_all(&self.bytes()[..filled]).expect("timely gave room");
        writer.write_all(&[0; ALIGNMENT][..filling]).expect("timely gave room");
    }
}
