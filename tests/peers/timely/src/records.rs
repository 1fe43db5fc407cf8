//! What holds records on their way: timely's own vectors, or one piece of memory.

use std::io::Write;
use std::slice::ChunksExact;

use serde_bytes::ByteArray;
use timely::bytes::arc::Bytes;
use timely::container::{CapacityContainerBuilder, DrainContainer, PushInto, SizableContainer};
use timely::dataflow::InputHandle;
use timely::dataflow::channels::ContainerBytes;
use timely::{Accountable, Container};

/// Where a source puts what it sends.
pub(crate) type Input<H> = InputHandle<u64, CapacityContainerBuilder<H>>;

/// Timely's own vectors of records, which are encoded and decoded one by one.
pub(crate) type Plain<const BYTES: usize> = Vec<ByteArray<BYTES>>;

/// Holds records of so many bytes.
pub(crate) trait Holder<const BYTES: usize>:
    Container
    + Clone
    + SizableContainer
    + DrainContainer
    + ContainerBytes
    + Send
    + for<'a> PushInto<<Self as DrainContainer>::Item<'a>>
{
    /// Sends a record.
    fn send(input: &mut Input<Self>, record: &[u8; BYTES]);

    /// Shows every record, and leaves nothing of use.
    fn each(&mut self, take: impl FnMut(&[u8]));
}

impl<const BYTES: usize> Holder<BYTES> for Plain<BYTES> {
    fn send(input: &mut Input<Self>, record: &[u8; BYTES]) {
        input.send(ByteArray::new(*record));
    }

    fn each(&mut self, mut take: impl FnMut(&[u8])) {
        self.drain(..).for_each(|record| take(&record[..]));
    }
}

impl<const BYTES: usize> Holder<BYTES> for Flat<BYTES> {
    fn send(input: &mut Input<Self>, record: &[u8; BYTES]) {
        input.send(&record[..]);
    }

    fn each(&mut self, take: impl FnMut(&[u8])) {
        self.drain().for_each(take);
    }
}

/// Memory leaves when it has so many bytes; see README.md for what others gave.
const CAPACITY_BYTES: usize = 64 << 10;

/// Timely wants what it sends to end at a multiple of this.
const ALIGNMENT: usize = 8;

/// Records side by side, as they are on the wire, of `BYTES` bytes each: at least [`ALIGNMENT`], so
/// that what fills the last word is not taken for one.
#[derive(Clone)]
pub(crate) enum Flat<const BYTES: usize> {
    /// Being filled in this process.
    Own(Vec<u8>),
    /// What came from another process, and perhaps a few bytes that fill it up.
    Arrived(Bytes),
}

impl<const BYTES: usize> Flat<BYTES> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Arrived(bytes) => bytes,
        }
    }
}

impl<const BYTES: usize> Default for Flat<BYTES> {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

impl<const BYTES: usize> Accountable for Flat<BYTES> {
    fn record_count(&self) -> i64 {
        (self.bytes().len() / BYTES) as i64
    }
}

impl<const BYTES: usize> DrainContainer for Flat<BYTES> {
    type Item<'a> = &'a [u8];
    type DrainIter<'a> = ChunksExact<'a, u8>;

    fn drain(&mut self) -> ChunksExact<'_, u8> {
        self.bytes().chunks_exact(BYTES)
    }
}

impl<const BYTES: usize> SizableContainer for Flat<BYTES> {
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

impl<const BYTES: usize> PushInto<&[u8]> for Flat<BYTES> {
    fn push_into(&mut self, record: &[u8]) {
        match self {
            Self::Own(bytes) => bytes.extend_from_slice(record),
            Self::Arrived(_) => unreachable!("only own memory is filled"),
        }
    }
}

impl<const BYTES: usize> ContainerBytes for Flat<BYTES> {
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
