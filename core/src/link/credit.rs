//! The window of a channel: how much may be on its way.
//!
//! Credit is given end to end, between tasks: what the receiver has worked off the sender may send
//! more. On the receiving side the link sees both, and measures how fast the task works while it
//! has something to do. The window is what it works off in [`CHANNEL_IN_FLIGHT_TARGET`]: to widen
//! it the link gives more than was worked off, to narrow it less, never anything negative. So
//! `window = first window + granted - consumed` holds at every moment, and so does
//! `sender's credit + bytes and credit on their way + bytes not worked off = window`.
//!
//! Credit is said in parts of the window, not batch by batch: what is not said yet counts as on its
//! way.
//!
//! A sender may send while it has any credit. A record that is larger than the window is therefore
//! sent too, and nothing behind it until it has been worked off.

use crate::id::{Attempt, ChannelId};
use crate::limits::{
    CHANNEL_CREDIT_PARTS, CHANNEL_IN_FLIGHT_TARGET, CHANNEL_WINDOW_BYTES, CHANNEL_WINDOW_BYTES_MAX,
    CHANNEL_WINDOW_BYTES_MIN,
};
use crate::time::{Duration, Time};
use alloc::boxed::Box;

/// A channel's window, as its receiver keeps it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    window: u64,
    /// What the window is to be, as soon as credit allows.
    wanted: u64,
    received: u64,
    consumed: u64,
    granted: u64,
    /// What of it has not been said yet: less than one of [`CHANNEL_CREDIT_PARTS`], so that the
    /// sender is never out of credit when all that it sent was worked off.
    unsaid: u64,
    /// Since when the receiver has had something to do.
    busy_since: Option<Time>,
    /// How long it had something to do, and what it worked off, since the window was judged.
    busy: Duration,
    drained: u64,
}

impl Window {
    pub(crate) const fn new() -> Self {
        Self {
            window: CHANNEL_WINDOW_BYTES as u64,
            wanted: CHANNEL_WINDOW_BYTES as u64,
            received: 0,
            consumed: 0,
            granted: 0,
            unsaid: 0,
            busy_since: None,
            busy: Duration::ZERO,
            drained: 0,
        }
    }

    /// Bytes have come for the receiver.
    pub(crate) const fn received(&mut self, now: Time, bytes: u64) {
        if self.busy_since.is_none() && bytes > 0 {
            self.busy_since = Some(now);
        }
        self.received += bytes;
    }

    /// The receiver has worked bytes off; gives what the sender is told now that it may send more.
    pub(crate) fn consumed(&mut self, now: Time, bytes: u64) -> u64 {
        self.consumed += bytes;
        self.drained += bytes;
        assert!(self.consumed <= self.received, "no more is worked off than has come");
        if let Some(since) = self.busy_since {
            self.busy += now.since(since);
            self.busy_since = (self.consumed < self.received).then_some(now);
        }
        if self.drained >= self.window || self.busy >= CHANNEL_IN_FLIGHT_TARGET {
            self.judge();
        }
        let grant = (self.wanted + bytes).saturating_sub(self.window);
        self.window = self.window + grant - bytes;
        self.granted += grant;
        self.unsaid += grant;
        if self.unsaid * CHANNEL_CREDIT_PARTS < self.window {
            return 0;
        }
        core::mem::take(&mut self.unsaid)
    }

    /// Chooses the window by what was worked off; at most doubles or halves it at once, so that one
    /// odd measurement does little.
    fn judge(&mut self) {
        let target = CHANNEL_IN_FLIGHT_TARGET.as_nanos();
        let wanted = u128::from(self.drained) * target / self.busy.as_nanos().max(1);
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        let wanted = wanted.clamp(self.window / 2, self.window * 2);
        let (least, most) = (CHANNEL_WINDOW_BYTES_MIN as u64, CHANNEL_WINDOW_BYTES_MAX as u64);
        self.wanted = wanted.clamp(least, most);
        self.busy = Duration::ZERO;
        self.drained = 0;
    }

    pub(crate) const fn figures(
        &self,
        channel: ChannelId,
        attempt: Attempt,
        frames: u64,
    ) -> ReceiverFigures {
        let Self { received, consumed, granted, window, .. } = *self;
        ReceiverFigures { channel, attempt, frames, received, consumed, granted, window }
    }
}

/// The account of a channel's credit where it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderFigures {
    /// The channel.
    pub channel: ChannelId,
    /// The sender's attempt; every figure is of this attempt.
    pub attempt: Attempt,
    /// Frames sent.
    pub frames: u64,
    /// Frames of them that the other side has acknowledged.
    pub acknowledged: u64,
    /// Bytes of records sent.
    pub sent: u64,
    /// Bytes of credit that have come.
    pub granted: u64,
}

impl SenderFigures {
    /// Bytes that may still be sent; less than nothing after a batch that was larger than that.
    #[must_use]
    pub const fn credit(&self) -> i64 {
        CHANNEL_WINDOW_BYTES as i64 + self.granted as i64 - self.sent as i64
    }
}

/// The account of a channel's credit where it is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverFigures {
    /// The channel.
    pub channel: ChannelId,
    /// The sender's attempt; every figure is of this attempt.
    pub attempt: Attempt,
    /// Frames received.
    pub frames: u64,
    /// Bytes of records received.
    pub received: u64,
    /// Bytes of them that the receiving task has worked off.
    pub consumed: u64,
    /// Bytes of credit given.
    pub granted: u64,
    /// Bytes that may be on their way.
    pub window: u64,
}

/// Why the two accounts of a channel do not fit together: a defect of Gear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credit of a channel is not conserved: {what}; {sender:?}, {receiver:?}")]
pub struct CreditError {
    /// The rule that does not hold.
    pub what: &'static str,
    /// The sender's account.
    pub sender: SenderFigures,
    /// The receiver's account.
    pub receiver: ReceiverFigures,
}

/// Compares the two accounts of a channel's attempt, taken at one moment.
///
/// # Errors
/// [`CreditError`] if credit was made or lost.
pub fn check_credit(
    sender: &SenderFigures,
    receiver: &ReceiverFigures,
) -> Result<(), Box<CreditError>> {
    let first = CHANNEL_WINDOW_BYTES as u64;
    let rules = [
        (receiver.received <= sender.sent, "more was received than sent"),
        (receiver.consumed <= receiver.received, "more was worked off than received"),
        (sender.granted <= receiver.granted, "more credit has come than was given"),
        (
            receiver.window + receiver.consumed == first + receiver.granted,
            "the window is not what was given beyond what was worked off",
        ),
        (
            (CHANNEL_WINDOW_BYTES_MIN as u64..=CHANNEL_WINDOW_BYTES_MAX as u64)
                .contains(&receiver.window),
            "the window is out of its bounds",
        ),
        (sender.credit() <= receiver.window as i64, "there is more credit than the window"),
    ];
    match rules.iter().find(|(holds, _)| !holds) {
        Some((_, what)) => {
            Err(Box::new(CreditError { what, sender: *sender, receiver: *receiver }))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: u64 = 64 * 1_024;

    /// A sender that always uses its credit, and a receiver that works a batch off in this time.
    fn settle(per_batch: Duration) -> ReceiverFigures {
        let mut window = Window::new();
        let (mut now, mut credit) = (Time::ZERO, CHANNEL_WINDOW_BYTES as i64);
        for _ in 0..2_000 {
            while credit > 0 {
                window.received(now, BATCH);
                credit -= BATCH as i64;
            }
            now = now + per_batch;
            credit += window.consumed(now, BATCH) as i64;
        }
        window.figures(ChannelId::default(), Attempt::default(), 0)
    }

    #[test]
    fn what_is_in_flight_is_a_bounded_time() {
        let window = |millis| settle(Duration::from_micros(millis)).window;
        assert_eq!(window(20), CHANNEL_WINDOW_BYTES_MAX as u64, "3 GB/s");
        assert_eq!(window(10_000), 10 * BATCH, "a tenth of a second at 10 ms a batch");
        assert_eq!(window(5_000), 20 * BATCH);
        assert_eq!(window(200_000), CHANNEL_WINDOW_BYTES_MIN as u64);
    }

    #[test]
    fn a_pause_of_the_sender_does_not_narrow_the_window() {
        let mut window = Window::new();
        let mut now = Time::ZERO;
        for _ in 0..100 {
            window.received(now, BATCH);
            now = now + Duration::from_micros(50);
            window.consumed(now, BATCH);
            now = now + Duration::from_secs(10);
        }
        let figures = window.figures(ChannelId::default(), Attempt::default(), 0);
        assert_eq!(figures.window, CHANNEL_WINDOW_BYTES_MAX as u64);
    }

    #[test]
    fn narrowing_takes_no_credit_back() {
        let mut window = Window::new();
        let mut now = Time::ZERO;
        window.received(now, CHANNEL_WINDOW_BYTES as u64);
        let mut credit = 0;
        for _ in 0..8 {
            now = now + Duration::from_secs(1);
            credit += window.consumed(now, BATCH);
        }
        let figures = window.figures(ChannelId::default(), Attempt::default(), 0);
        assert_eq!(figures.window, CHANNEL_WINDOW_BYTES_MIN as u64);
        assert_eq!(credit, figures.window, "all of it is the sender's");
    }

    #[test]
    fn accounts_that_do_not_fit_are_told_apart() {
        let receiver = settle(Duration::from_millis(10));
        let (sent, granted) = (receiver.received, receiver.granted);
        let (channel, attempt) = (receiver.channel, receiver.attempt);
        let sender = SenderFigures { channel, attempt, frames: 0, acknowledged: 0, sent, granted };
        assert_eq!(check_credit(&sender, &receiver), Ok(()));
        let what = |sender: SenderFigures, receiver| {
            check_credit(&sender, &receiver).expect_err("does not fit").what
        };
        let twice = SenderFigures { granted: granted + BATCH, ..sender };
        assert_eq!(what(twice, receiver), "more credit has come than was given");
        let twice = ReceiverFigures { granted: granted + BATCH, ..receiver };
        assert!(what(sender, twice).starts_with("the window is not what"));
        let invented = SenderFigures { sent: sent - 1, ..sender };
        assert_eq!(what(invented, receiver), "more was received than sent");
    }
}
