//! Rules of a channel between two executors: its watermark never retreats, nothing follows its
//! end, and what is in flight stays within the window.

use std::collections::BTreeMap;

use gear_core::id::ChannelId;
use gear_core::limits::CHANNEL_WINDOW_BYTES;
use gear_core::message::{Item, Message};
use gear_core::time::EventTime;

/// What was seen of the channels of all processes.
#[derive(Clone, Debug, Default)]
pub struct Channels {
    seen: BTreeMap<(u64, ChannelId), Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    watermark: EventTime,
    in_flight: u64,
    ended: bool,
    largest: u64,
}

/// A task looks at its credit once in so many records.
const SLACK: u64 = gear_core::limits::RECORDS_PER_SLICE as u64;

impl Channels {
    /// A process sends a message.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn observe(&mut self, process: u64, message: &Message) -> Result<(), String> {
        let new = Seen { watermark: EventTime::MIN, in_flight: 0, ended: false, largest: 0 };
        match message {
            Message::Item { channel, item, .. } => {
                let seen = self.seen.entry((process, *channel)).or_insert(new);
                if seen.ended {
                    return Err(format!("{item:?} came behind the end of channel {channel}"));
                }
                match item {
                    Item::Watermark(at) if *at < seen.watermark => {
                        let before = seen.watermark;
                        return Err(format!(
                            "the watermark of channel {channel} fell from {before} to {at}"
                        ));
                    }
                    Item::Watermark(at) => seen.watermark = *at,
                    Item::Batch(batch) => {
                        let len = batch.len() as u64;
                        seen.largest = seen.largest.max(len / u64::from(batch.count().max(1)));
                        seen.in_flight += len;
                        let most = CHANNEL_WINDOW_BYTES as u64 + SLACK * seen.largest.max(2_048);
                        if seen.in_flight > most {
                            let sent = seen.in_flight;
                            return Err(format!("{sent} bytes are in flight on {channel}"));
                        }
                    }
                    Item::End => seen.ended = true,
                    Item::Idle | Item::Barrier(_) => {}
                }
            }
            Message::Credit { channel, bytes, .. } => {
                let seen = self.seen.entry((process, *channel)).or_insert(new);
                let left = seen.in_flight.checked_sub(*bytes);
                seen.in_flight = left.ok_or_else(|| {
                    format!("{channel}: {bytes} bytes of credit for {} sent", seen.in_flight)
                })?;
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gear_core::flow::batch::Batch;
    use gear_core::id::Attempt;

    use super::*;

    fn item(item: Item) -> Message {
        Message::Item { channel: ChannelId::default(), attempt: Attempt(1), item }
    }

    fn credit(bytes: u64) -> Message {
        let (channel, attempt) = (ChannelId::default(), Attempt(1));
        Message::Credit { channel, attempt, bytes, buffer: Vec::new() }
    }

    #[test]
    fn a_watermark_that_falls_is_seen() {
        let mut channels = Channels::default();
        channels.observe(1, &item(Item::Watermark(EventTime(5)))).unwrap();
        channels.observe(2, &item(Item::Watermark(EventTime(3)))).unwrap();
        assert!(channels.observe(1, &item(Item::Watermark(EventTime(4)))).is_err());
    }

    #[test]
    fn credit_is_what_was_sent() {
        let mut channels = Channels::default();
        let mut batch = Batch::default();
        batch.push::<u64>(EventTime::MIN, &7);
        channels.observe(1, &item(Item::Batch(batch))).unwrap();
        channels.observe(1, &credit(8)).unwrap();
        assert!(channels.observe(1, &credit(1)).is_err());
    }

    #[test]
    fn nothing_follows_the_end() {
        let mut channels = Channels::default();
        channels.observe(1, &item(Item::End)).unwrap();
        assert!(channels.observe(1, &item(Item::Idle)).is_err());
    }
}
