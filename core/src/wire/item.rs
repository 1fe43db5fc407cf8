//! Frames as the items that tasks see, and back.
//!
//! Payloads: a batch's records as they stand; a watermark's 8 bytes; of a barrier the epoch (8),
//! the epoch it is relative to (1 if there is one, then 8), whether the app stops (1), and the
//! records before it (8); nothing of the others.

use alloc::vec::Vec;

use arrayvec::ArrayVec;

use crate::api::record::{Malformed, Record};
use crate::flow::batch::Batch;
use crate::id::{Attempt, ChannelId, Epoch};
use crate::message::{Barrier, EpochStart, Item};
use crate::time::{EventTime, WallTime};
use crate::wire::frame::{CONTROL_BYTES_MAX, FrameError, FrameHeader, FrameKind, encode};

const BARRIER_BYTES: usize = 34;
const _: () = assert!(BARRIER_BYTES <= CONTROL_BYTES_MAX);

/// Why a sound frame is no item: whoever wrote it does not follow the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ItemError {
    /// The payload is not what a frame of this kind has.
    #[error("the payload of a {kind:?} frame is not one; close the connection")]
    Payload {
        /// The frame's kind.
        kind: FrameKind,
    },
    /// A frame that is no batch says that it has records, or event times.
    #[error("a {kind:?} frame announces {count} records; only batches have any")]
    Records {
        /// The frame's kind.
        kind: FrameKind,
        /// Records that it announces.
        count: u32,
    },
    /// A batch announces more records than it has bytes, or none and has bytes.
    #[error("a batch of {bytes} bytes announces {count} records; close the connection")]
    Count {
        /// Records that it announces.
        count: u32,
        /// Bytes that it has.
        bytes: usize,
    },
    /// A barrier of one epoch in a frame of another.
    #[error("the barrier of {barrier} came in a frame of {frame}; close the connection")]
    Epoch {
        /// What the barrier says.
        barrier: Epoch,
        /// What the frame says.
        frame: Epoch,
    },
}

/// Appends the frame of an item that was sent in `epoch`; a barrier's frame has the epoch it ends.
///
/// # Errors
/// [`FrameError::TooLong`] if it is a batch that is larger than a frame can be.
pub fn encode_item(
    channel: ChannelId,
    attempt: Attempt,
    number: u64,
    epoch: Epoch,
    item: &Item,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let header = header_of(channel, attempt, number, epoch, item);
    match item {
        Item::Batch(batch) => encode(&header, batch.bytes(), out),
        _ => encode(&header, &short_payload(item), out),
    }
}

/// The header of the frame of an item; see [`encode_item`].
#[must_use]
pub fn header_of(
    channel: ChannelId,
    attempt: Attempt,
    number: u64,
    epoch: Epoch,
    item: &Item,
) -> FrameHeader {
    let (kind, epoch) = match item {
        Item::Batch(_) => (FrameKind::Batch, epoch),
        Item::Watermark(_) => (FrameKind::Watermark, epoch),
        Item::Idle => (FrameKind::Idle, epoch),
        Item::Barrier(barrier) => (FrameKind::Barrier, barrier.start.epoch),
        Item::End => (FrameKind::End, epoch),
    };
    let (timed, count) = match item {
        Item::Batch(batch) => (batch.is_timed(), batch.count()),
        _ => (false, 0),
    };
    FrameHeader { kind, timed, channel, attempt, number, epoch, count }
}

/// The payload of an item that is no batch.
#[must_use]
pub fn short_payload(item: &Item) -> ArrayVec<u8, CONTROL_BYTES_MAX> {
    let mut payload = ArrayVec::new();
    match item {
        Item::Watermark(watermark) => payload.extend(watermark.0.to_le_bytes()),
        Item::Barrier(barrier) => payload.extend(barrier_bytes(barrier)),
        Item::Batch(_) | Item::Idle | Item::End => {}
    }
    payload
}

/// The item of a frame. A batch takes over `buffer`, emptied; other items drop it.
///
/// The records of a batch are not looked at: whoever reads them checks them.
///
/// # Errors
/// [`ItemError`] if header and payload do not fit together.
pub fn item_of(header: &FrameHeader, payload: &[u8], buffer: Vec<u8>) -> Result<Item, ItemError> {
    let FrameHeader { kind, count, .. } = *header;
    if kind != FrameKind::Batch && (count != 0 || header.timed) {
        return Err(ItemError::Records { kind, count });
    }
    let malformed = |_: Malformed| ItemError::Payload { kind };
    let mut rest = payload;
    let item = match kind {
        FrameKind::Batch => return batch_of(header, payload, buffer).map(Item::Batch),
        FrameKind::Watermark => Item::Watermark(EventTime::decode(&mut rest).map_err(malformed)?),
        FrameKind::Idle => Item::Idle,
        FrameKind::Barrier => Item::Barrier(barrier_of(&mut rest).map_err(malformed)?),
        FrameKind::End => Item::End,
    };
    if !rest.is_empty() {
        return Err(ItemError::Payload { kind });
    }
    match item {
        Item::Barrier(Barrier { start, .. }) if start.epoch != header.epoch => {
            Err(ItemError::Epoch { barrier: start.epoch, frame: header.epoch })
        }
        item => Ok(item),
    }
}

/// The item of a frame whose payload has a buffer of its own: a batch keeps it.
///
/// # Errors
/// As [`item_of`].
pub fn item_from(header: &FrameHeader, payload: Vec<u8>) -> Result<Item, ItemError> {
    if header.kind != FrameKind::Batch {
        return item_of(header, &payload, Vec::new());
    }
    check_count(header.count, payload.len())?;
    Ok(Item::Batch(Batch::from_parts(payload, header.count, header.timed)))
}

fn batch_of(header: &FrameHeader, payload: &[u8], mut buffer: Vec<u8>) -> Result<Batch, ItemError> {
    check_count(header.count, payload.len())?;
    buffer.clear();
    buffer.extend_from_slice(payload);
    Ok(Batch::from_parts(buffer, header.count, header.timed))
}

/// Every record has a byte at least.
const fn check_count(count: u32, bytes: usize) -> Result<(), ItemError> {
    if count as usize > bytes || (count == 0 && bytes > 0) {
        return Err(ItemError::Count { count, bytes });
    }
    Ok(())
}

fn barrier_bytes(barrier: &Barrier) -> [u8; BARRIER_BYTES] {
    let EpochStart { epoch, base, stop } = barrier.start;
    let mut bytes = [0; BARRIER_BYTES];
    bytes[..8].copy_from_slice(&epoch.0.to_le_bytes());
    bytes[8] = u8::from(base.is_some());
    bytes[9..17].copy_from_slice(&base.map_or(0, |base| base.0).to_le_bytes());
    bytes[17] = u8::from(stop);
    bytes[18..26].copy_from_slice(&barrier.records.to_le_bytes());
    bytes[26..].copy_from_slice(&barrier.born.0.to_le_bytes());
    bytes
}

fn barrier_of(input: &mut &[u8]) -> Result<Barrier, Malformed> {
    let epoch = Epoch(u64::decode(input)?);
    let base = match (bool::decode(input)?, u64::decode(input)?) {
        (true, base) => Some(Epoch(base)),
        (false, 0) => None,
        (false, _) => return Err(Malformed::new("barrier")),
    };
    let stop = bool::decode(input)?;
    let records = u64::decode(input)?;
    let born = WallTime(i64::decode(input)?);
    Ok(Barrier { start: EpochStart { epoch, base, stop }, records, born })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::frame::decode;

    const CHANNEL: ChannelId = ChannelId { edge: 1, from: 2, to: 3 };

    fn any_item() -> impl Strategy<Value = Item> {
        let batch = (prop::collection::vec(any::<(i64, u32)>(), 0..20), any::<bool>());
        let epochs = (any::<u64>(), any::<Option<u64>>(), any::<bool>(), any::<(u64, i64)>());
        prop_oneof![
            batch.prop_map(|(records, timed)| {
                let mut batch = Batch::new(Vec::new(), timed);
                for (at, record) in records {
                    batch.push::<u32>(EventTime(at), &record);
                }
                Item::Batch(batch)
            }),
            any::<i64>().prop_map(|at| Item::Watermark(EventTime(at))),
            Just(Item::Idle),
            epochs.prop_map(|(epoch, base, stop, (records, born))| {
                let start = EpochStart { epoch: Epoch(epoch), base: base.map(Epoch), stop };
                Item::Barrier(Barrier { start, records, born: WallTime(born) })
            }),
            Just(Item::End),
        ]
    }

    fn header(kind: FrameKind) -> FrameHeader {
        FrameHeader {
            kind,
            timed: false,
            channel: CHANNEL,
            attempt: Attempt(1),
            number: 1,
            epoch: Epoch(1),
            count: 0,
        }
    }

    #[test]
    fn headers_and_payloads_that_do_not_fit_are_refused() {
        let item = |header: FrameHeader, payload: &[u8]| {
            item_of(&header, payload, Vec::new()).expect_err("refused")
        };
        let kinds = [FrameKind::Watermark, FrameKind::Idle, FrameKind::Barrier, FrameKind::End];
        for kind in kinds {
            assert_eq!(item(header(kind), &[1; 27]), ItemError::Payload { kind });
            let counted = FrameHeader { count: 2, ..header(kind) };
            assert_eq!(item(counted, &[]), ItemError::Records { kind, count: 2 });
            let timed = FrameHeader { timed: true, ..header(kind) };
            assert_eq!(item(timed, &[]), ItemError::Records { kind, count: 0 });
        }
        let batch = header(FrameKind::Batch);
        assert_eq!(item(batch, b"abc"), ItemError::Count { count: 0, bytes: 3 });
        let batch = FrameHeader { count: 4, ..batch };
        assert_eq!(item(batch, b"abc"), ItemError::Count { count: 4, bytes: 3 });
        let start = EpochStart { epoch: Epoch(2), base: None, stop: false };
        let mut bytes = barrier_bytes(&Barrier { start, records: 0, born: WallTime(0) });
        let barrier = header(FrameKind::Barrier);
        let epochs = ItemError::Epoch { barrier: Epoch(2), frame: Epoch(1) };
        assert_eq!(item(barrier, &bytes), epochs);
        bytes[9] = 1;
        assert_eq!(item(barrier, &bytes), ItemError::Payload { kind: FrameKind::Barrier });
    }

    proptest! {
        #[test]
        fn items_come_back(item in any_item(), attempt: u64, number: u64, epoch: u64) {
            let mut bytes = Vec::new();
            let (attempt, epoch) = (Attempt(attempt), Epoch(epoch));
            encode_item(CHANNEL, attempt, number, epoch, &item, &mut bytes).expect("it is short");
            let (header, payload, consumed) = decode(&bytes).expect("it is whole");
            prop_assert_eq!(consumed, bytes.len());
            prop_assert_eq!((header.channel, header.attempt), (CHANNEL, attempt));
            prop_assert_eq!(header.number, number);
            if !matches!(item, Item::Barrier(_)) {
                prop_assert_eq!(header.epoch, epoch);
            }
            let used = alloc::vec![7; 50];
            prop_assert_eq!(item_of(&header, payload, used), Ok(item.clone()));
            prop_assert_eq!(item_from(&header, payload.to_vec()), Ok(item));
        }

        #[test]
        fn no_payload_makes_it_panic(
            kind in prop::sample::select(alloc::vec![
                FrameKind::Batch, FrameKind::Watermark, FrameKind::Idle, FrameKind::Barrier,
            ]),
            count in 0..30_u32,
            payload in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let header = FrameHeader { count, ..header(kind) };
            let taken = item_of(&header, &payload, Vec::new());
            prop_assert_eq!(item_from(&header, payload), taken);
        }
    }
}
