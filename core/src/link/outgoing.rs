//! The sending half of a link: what is numbered, kept and written again until it is acknowledged.
//!
//! Everything stands in one queue, in the order in which it was sent; each message and each
//! channel's frames have their own numbers. A connection keeps the order, so what has arrived is
//! always the front of the queue, and what is written again after a break has the old order too.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::id::{Attempt, ChannelId, Epoch};
use crate::limits::{
    BATCH_BYTES, CHANNEL_WINDOW_BYTES_MAX, LINK_ENTRIES_MAX, LINK_MESSAGE_BYTES_MAX,
    POOL_BUFFERS_MAX,
};
use crate::link::audit::Audit;
use crate::link::credit::SenderFigures;
use crate::link::entry::{Acknowledge, Arrived, NumberedRef};
use crate::link::error::{LinkError, LostReason};
use crate::message::{Item, Message};
use crate::wire::frame::{FrameKind, Framed, encode_header};
use crate::wire::item::{header_of, short_payload};
use crate::wire::stream::{StreamError, encode_entry, kind};

/// Bytes of a frame from which on it is written from where it is: shorter ones are joined, since a
/// write of their own costs more than the copy.
const FRAME_APART_BYTES: usize = BATCH_BYTES / 2;

/// What is to be written, or was and may have to be again.
#[derive(Debug)]
enum Body {
    /// A message, encoded.
    Message(Vec<u8>),
    /// A frame. Its records stay in the buffer in which the task has put them.
    Frame { channel: ChannelId, frame: Framed },
    /// A frame of an attempt that is over: nobody waits for it.
    Void,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    body: Body,
}

/// A number on its way: given, written, acknowledged.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    last: u64,
    written: u64,
    acknowledged: u64,
}

impl Numbers {
    /// Takes an acknowledgement.
    const fn acknowledge(&mut self, found: u64) -> Result<(), LinkError> {
        let Self { written, acknowledged: known, .. } = *self;
        if found < known || found > written {
            return Err(LinkError::Acknowledged { known, found, written });
        }
        self.acknowledged = found;
        Ok(())
    }
}

#[derive(Debug)]
struct Channel {
    attempt: Attempt,
    numbers: Numbers,
    /// The epoch in which frames are sent; 0 until the first barrier says.
    epoch: Epoch,
    audit: Audit,
    sent: u64,
    granted: u64,
}

impl Channel {
    fn new(attempt: Attempt) -> Self {
        let (epoch, audit) = (Epoch(0), Audit::default());
        Self { attempt, numbers: Numbers::default(), epoch, audit, sent: 0, granted: 0 }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    queue: VecDeque<Kept>,
    /// How many of the queue have been written to the present connection.
    written: usize,
    messages: Numbers,
    /// Bytes of messages in the queue.
    message_bytes: usize,
    channels: BTreeMap<ChannelId, Channel>,
    /// Empty buffers of batches that have arrived, for the tasks that fill them.
    buffers: Vec<Vec<u8>>,
    /// Items that were dropped because a later attempt had already sent on their channel.
    pub(crate) fenced: u64,
    /// Entries that were written before, to another connection.
    pub(crate) repeated: u64,
}

impl Outgoing {
    /// Sends what flows on a channel.
    pub(crate) fn item(
        &mut self,
        id: ChannelId,
        attempt: Attempt,
        item: Item,
    ) -> Result<(), LostReason> {
        let known = self.channels.get(&id).map(|channel| channel.attempt);
        if known.is_some_and(|known| attempt < known) {
            self.fenced += 1;
            return Ok(());
        }
        if known != Some(attempt) {
            self.void(id);
            self.channels.insert(id, Channel::new(attempt));
        }
        let channel = self.channels.get_mut(&id).expect("it was put there");
        channel.numbers.last += 1;
        let number = channel.numbers.last;
        let header = header_of(id, attempt, number, channel.epoch, &item);
        let mut payload = match item {
            Item::Batch(batch) => {
                channel.sent += batch.len() as u64;
                batch.into_buffer()
            }
            item => short_payload(&item).to_vec(),
        };
        if header.kind == FrameKind::Barrier {
            core::mem::take(&mut channel.audit).encode(&mut payload);
            channel.epoch = header.epoch.next();
        }
        let unsendable = |error| LostReason::Unsendable(Box::new(StreamError::Frame(error)));
        let (head, crc) = encode_header(&header, &payload).map_err(unsendable)?;
        if header.kind != FrameKind::Barrier {
            channel.audit.add(number, crc, header.count);
        }
        let frame = Framed { head, payload: Arc::new(payload) };
        self.keep(Kept { number, body: Body::Frame { channel: id, frame } })
    }

    /// Sends any other message.
    pub(crate) fn message(&mut self, message: &Message) -> Result<(), LostReason> {
        let number = self.messages.last + 1;
        let mut bytes = Vec::new();
        encode_entry(kind::LINK_MESSAGE, &NumberedRef { number, message }, &mut bytes)
            .map_err(|error| LostReason::Unsendable(Box::new(error)))?;
        self.messages.last = number;
        self.message_bytes += bytes.len();
        self.keep(Kept { number, body: Body::Message(bytes) })
    }

    fn keep(&mut self, kept: Kept) -> Result<(), LostReason> {
        if self.queue.len() >= LINK_ENTRIES_MAX || self.message_bytes > LINK_MESSAGE_BYTES_MAX {
            return Err(LostReason::Overflow);
        }
        self.queue.push_back(kept);
        Ok(())
    }

    /// Empties what waits on a channel: its attempt is over, and the receiver drops what is left of
    /// it when it sees the next one.
    fn void(&mut self, id: ChannelId) {
        for kept in &mut self.queue {
            if matches!(&kept.body, Body::Frame { channel, .. } if *channel == id) {
                let body = core::mem::replace(&mut kept.body, Body::Void);
                recycle(&mut self.buffers, body);
            }
        }
    }

    /// An empty buffer for a task that sends.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// True if something is to be written.
    pub(crate) fn has_more(&self) -> bool {
        self.written < self.queue.len()
    }

    /// Writes the next entry: appends it, or gives it if it is a frame of so many bytes that it is
    /// to be written from where it is.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) -> Option<Framed> {
        let kept = self.queue.get(self.written)?;
        self.written += 1;
        let (numbers, apart) = match &kept.body {
            Body::Void => return None,
            Body::Message(bytes) => {
                out.extend_from_slice(bytes);
                (&mut self.messages, None)
            }
            Body::Frame { channel, frame } => {
                let apart = (frame.len() >= FRAME_APART_BYTES).then(|| frame.clone());
                if apart.is_none() {
                    frame.append_to(out);
                }
                (&mut self.channels.get_mut(channel).expect("it has sent").numbers, apart)
            }
        };
        if kept.number <= numbers.written {
            self.repeated += 1;
        }
        numbers.written = numbers.written.max(kept.number);
        apart
    }

    /// Goes on over a new connection, from behind what has arrived. A link that does not trust the
    /// peer's word writes everything again.
    pub(crate) fn resume(&mut self, arrived: &Arrived, trust: bool) -> Result<(), LinkError> {
        self.written = 0;
        if trust {
            self.acknowledge(arrived)?;
        }
        Ok(())
    }

    /// Lets go what has arrived.
    pub(crate) fn acknowledge(&mut self, arrived: &Arrived) -> Result<(), LinkError> {
        self.messages.acknowledge(arrived.messages)?;
        for &Acknowledge { channel, attempt, number } in &arrived.channels {
            match self.channels.get_mut(&channel) {
                Some(known) if known.attempt == attempt => known.numbers.acknowledge(number)?,
                // An attempt that is over; nothing is kept of it.
                Some(known) if attempt < known.attempt => {}
                _ => {
                    let (known, written) = (0, 0);
                    return Err(LinkError::Acknowledged { known, found: number, written });
                }
            }
        }
        while let Some(kept) = self.queue.front() {
            let has_arrived = match &kept.body {
                Body::Void => true,
                Body::Message(_) => kept.number <= self.messages.acknowledged,
                Body::Frame { channel, .. } => self
                    .channels
                    .get(channel)
                    .is_some_and(|channel| kept.number <= channel.numbers.acknowledged),
            };
            if !has_arrived {
                break;
            }
            self.let_go();
        }
        Ok(())
    }

    fn let_go(&mut self) {
        let Some(kept) = self.queue.pop_front() else { return };
        self.written = self.written.saturating_sub(1);
        if let Body::Message(bytes) = &kept.body {
            self.message_bytes -= bytes.len();
        }
        recycle(&mut self.buffers, kept.body);
    }

    /// Loses what was written.
    pub(crate) fn forget_written(&mut self) {
        while self.written > 0 {
            self.let_go();
        }
    }

    /// Lets everything go.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            channels: core::mem::take(&mut self.channels),
            fenced: self.fenced,
            repeated: self.repeated,
            ..Self::default()
        };
    }

    /// Takes credit that has come.
    pub(crate) fn credit(
        &mut self,
        id: ChannelId,
        attempt: Attempt,
        bytes: u64,
    ) -> Result<(), LinkError> {
        let Some(channel) = self.channels.get_mut(&id) else { return Ok(()) };
        if channel.attempt != attempt {
            return Ok(());
        }
        let granted = channel.granted.checked_add(bytes);
        let granted = granted.filter(|granted| *granted <= i64::MAX as u64 / 2);
        let error = LinkError::Credit { channel: id, bytes };
        channel.granted = granted.ok_or_else(|| error.clone())?;
        if channel.figures(id).credit() > CHANNEL_WINDOW_BYTES_MAX as i64 {
            return Err(error);
        }
        Ok(())
    }

    pub(crate) fn figures(&self) -> impl Iterator<Item = SenderFigures> + '_ {
        self.channels.iter().map(|(id, channel)| channel.figures(*id))
    }

    /// Bytes that it keeps.
    pub(crate) fn allocated(&self) -> usize {
        let bytes = |kept: &Kept| match &kept.body {
            Body::Message(bytes) => bytes.capacity(),
            Body::Frame { frame, .. } => frame.payload.capacity(),
            Body::Void => 0,
        };
        self.queue.capacity() * size_of::<Kept>()
            + self.queue.iter().map(bytes).sum::<usize>()
            + self.buffers.iter().map(Vec::capacity).sum::<usize>()
    }
}

impl Channel {
    const fn figures(&self, channel: ChannelId) -> SenderFigures {
        SenderFigures {
            channel,
            attempt: self.attempt,
            frames: self.numbers.last,
            acknowledged: self.numbers.acknowledged,
            sent: self.sent,
            granted: self.granted,
        }
    }
}

/// Keeps the buffer of a batch; that of a watermark is too small to be worth it.
fn recycle(buffers: &mut Vec<Vec<u8>>, body: Body) {
    if let Body::Frame { frame, .. } = body
        // A driver that still writes it lets it go itself.
        && let Ok(mut payload) = Arc::try_unwrap(frame.payload)
        && (BATCH_BYTES / 8..=4 * BATCH_BYTES).contains(&payload.capacity())
        && buffers.len() < POOL_BUFFERS_MAX
    {
        payload.clear();
        buffers.push(payload);
    }
}
