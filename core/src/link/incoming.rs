//! The receiving half of a link: what has come, what is taken twice or missing, what is owed.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::id::{Attempt, ChannelId};
use crate::limits::{ACKNOWLEDGE_BYTES, ACKNOWLEDGE_DELAY};
use crate::link::audit::Audit;
use crate::link::credit::{ReceiverFigures, Window};
use crate::link::entry::{Acknowledge, Arrived};
use crate::link::error::LinkError;
use crate::time::Time;
use crate::wire::frame::{FrameHeader, FrameKind};

#[derive(Debug)]
struct Channel {
    attempt: Attempt,
    /// The last frame that has come.
    number: u64,
    audit: Audit,
    window: Window,
}

impl Channel {
    fn new(attempt: Attempt) -> Self {
        Self { attempt, number: 0, audit: Audit::default(), window: Window::new() }
    }
}

/// What is to be done with what has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Take,
    Drop,
}

#[derive(Debug, Default)]
pub(crate) struct Incoming {
    channels: BTreeMap<ChannelId, Channel>,
    /// The last message that has come.
    messages: u64,
    /// Channels of which something is not acknowledged.
    owed: BTreeSet<ChannelId>,
    owed_bytes: usize,
    owed_messages: bool,
    /// When what is owed is due.
    due: Option<Time>,
    /// Frames and messages that came twice.
    pub(crate) duplicates: u64,
    /// Frames and messages before which some were missing.
    pub(crate) gaps: u64,
    /// Frames of attempts that are over.
    pub(crate) fenced: u64,
    /// Epochs of channels that were compared.
    pub(crate) checked: u64,
}

impl Incoming {
    /// Judges a frame; it counts when it is [taken](Self::take).
    pub(crate) fn judge(
        &mut self,
        header: &FrameHeader,
        deduplicate: bool,
    ) -> Result<Verdict, LinkError> {
        let FrameHeader { channel, attempt, number: found, .. } = *header;
        let known = self.channels.get(&channel).map(|known| (known.attempt, known.number));
        let last = match known {
            Some((known, _)) if attempt < known => {
                self.fenced += 1;
                return Ok(Verdict::Drop);
            }
            Some((known, number)) if attempt == known => number,
            _ => 0,
        };
        if found <= last {
            self.duplicates += 1;
            let verdict = if deduplicate { Verdict::Drop } else { Verdict::Take };
            return Ok(verdict);
        }
        let expected = last + 1;
        if found != expected {
            self.gaps += 1;
            return Err(LinkError::Gap { channel, attempt, expected, found });
        }
        Ok(Verdict::Take)
    }

    /// Judges a message, likewise.
    pub(crate) fn judge_message(
        &mut self,
        found: u64,
        deduplicate: bool,
    ) -> Result<Verdict, LinkError> {
        if found <= self.messages {
            self.duplicates += 1;
            return Ok(if deduplicate { Verdict::Drop } else { Verdict::Take });
        }
        let expected = self.messages + 1;
        if found != expected {
            self.gaps += 1;
            return Err(LinkError::MessageGap { expected, found });
        }
        Ok(Verdict::Take)
    }

    /// Counts a frame in. For a barrier gives what was counted in its epoch.
    pub(crate) fn take(
        &mut self,
        now: Time,
        header: &FrameHeader,
        crc: u32,
        bytes: usize,
    ) -> Option<Audit> {
        let FrameHeader { channel: id, attempt, number, count, kind, .. } = *header;
        let channel = self.channels.entry(id).or_insert_with(|| Channel::new(attempt));
        if channel.attempt != attempt {
            *channel = Channel::new(attempt);
        }
        channel.number = channel.number.max(number);
        let audit = if kind == FrameKind::Barrier {
            self.checked += 1;
            Some(core::mem::take(&mut channel.audit))
        } else {
            channel.audit.add(number, crc, count);
            None
        };
        if kind == FrameKind::Batch {
            channel.window.received(now, bytes as u64);
        }
        self.owed.insert(id);
        self.owe(now, bytes);
        audit
    }

    /// Counts a message in.
    pub(crate) fn take_message(&mut self, now: Time, number: u64, bytes: usize) {
        self.messages = self.messages.max(number);
        self.owed_messages = true;
        self.owe(now, bytes);
    }

    fn owe(&mut self, now: Time, bytes: usize) {
        self.owed_bytes += bytes;
        self.due = self.due.or(Some(now + ACKNOWLEDGE_DELAY));
        if self.owed_bytes >= ACKNOWLEDGE_BYTES {
            self.due = Some(now);
        }
    }

    /// When an acknowledgement is due.
    pub(crate) const fn due(&self) -> Option<Time> {
        self.due
    }

    /// True if something is not acknowledged.
    pub(crate) fn owes(&self) -> bool {
        self.owed_messages || !self.owed.is_empty()
    }

    /// What has come since the last acknowledgement.
    pub(crate) fn acknowledge(&mut self) -> Arrived {
        let owed = core::mem::take(&mut self.owed);
        let channels = owed.into_iter().filter_map(|id| {
            let Channel { attempt, number, .. } = *self.channels.get(&id)?;
            Some(Acknowledge { channel: id, attempt, number })
        });
        let arrived = Arrived { messages: self.messages, channels: channels.collect() };
        self.settle();
        arrived
    }

    /// All that has come.
    pub(crate) fn arrived(&mut self) -> Arrived {
        self.owed = self.channels.keys().copied().collect();
        self.acknowledge()
    }

    fn settle(&mut self) {
        self.owed_bytes = 0;
        self.owed_messages = false;
        self.due = None;
    }

    /// The receiving task has worked bytes off. Gives what the sender is told now that it may
    /// send more; none if the sender is another attempt by now.
    pub(crate) fn consumed(
        &mut self,
        now: Time,
        id: ChannelId,
        attempt: Attempt,
        bytes: u64,
    ) -> Option<u64> {
        let channel = self.channels.get_mut(&id)?;
        (channel.attempt == attempt).then(|| channel.window.consumed(now, bytes))
    }

    pub(crate) fn figures(&self) -> impl Iterator<Item = ReceiverFigures> + '_ {
        self.channels
            .iter()
            .map(|(id, channel)| channel.window.figures(*id, channel.attempt, channel.number))
    }
}
