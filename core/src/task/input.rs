//! An input channel of a task.

use alloc::collections::VecDeque;
use alloc::string::String;

use crate::id::ChannelId;
use crate::message::{Barrier, EpochStart, Item};
use crate::time::WallTime;

/// What waits on a channel, and where the channel is in its epoch.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) id: ChannelId,
    pub(crate) port: u32,
    pub(crate) queue: VecDeque<Item>,
    /// Held back until every other channel has brought the barrier too.
    pub(crate) held: bool,
    /// The barriers that it has brought and others have not, and when sources began them; more than
    /// one if it is not held.
    pub(crate) aligned: VecDeque<(EpochStart, WallTime)>,
    pub(crate) ended: bool,
    /// Records since the barrier before.
    pub(crate) records: u64,
}

impl Input {
    pub(crate) const fn new(id: ChannelId, port: u32) -> Self {
        Self {
            id,
            port,
            queue: VecDeque::new(),
            held: false,
            aligned: VecDeque::new(),
            ended: false,
            records: 0,
        }
    }

    pub(crate) fn may_serve(&self) -> bool {
        !self.held && !self.queue.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |item: &Item| match item {
            Item::Batch(batch) => batch.allocated(),
            _ => 0,
        };
        self.queue.iter().map(bytes).sum()
    }

    /// Compares what came over the channel in the epoch with what was sent.
    pub(crate) fn audit(&mut self, uid: &str, barrier: Barrier) -> Result<(), String> {
        let got = core::mem::take(&mut self.records);
        if got == barrier.records {
            return Ok(());
        }
        Err(alloc::format!(
            "{uid} got {got} records over channel {} in {}, but {} were sent; this is a defect of \
             Gear: the epoch is not taken, please report it",
            self.id,
            barrier.start.epoch,
            barrier.records
        ))
    }
}
