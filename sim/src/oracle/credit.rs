//! Credit is neither made nor lost: on each channel, what was worked off, what has arrived, what
//! was sent and what was granted follow each other, and every frame is acknowledged once at most.
//!
//! The engine compares the two accounts itself. This rule is written again, and looks at both ends
//! at one moment, which they cannot.

use gear_core::limits::CHANNEL_WINDOW_BYTES;
use gear_core::link::{ReceiverFigures, SenderFigures};

/// The accounts of both ends of a channel, of one attempt, at one moment.
///
/// # Errors
/// The rule that is broken.
pub fn judge(sender: &SenderFigures, receiver: &ReceiverFigures) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("credit: {what}: {sender:?}, {receiver:?}"));
    if receiver.consumed > receiver.received {
        return wrong("more was worked off than arrived");
    }
    if receiver.received > sender.sent || receiver.frames > sender.frames {
        return wrong("more arrived than was sent");
    }
    if sender.acknowledged > receiver.frames {
        return wrong("more was acknowledged than arrived");
    }
    if sender.granted > receiver.granted {
        return wrong("more credit arrived than was given");
    }
    // What the receiver has room for never exceeds its window beyond what it has worked off.
    let room = CHANNEL_WINDOW_BYTES as u64 + receiver.granted;
    if room > receiver.consumed + receiver.window {
        return wrong("more was granted than there is room for");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gear_core::id::{Attempt, ChannelId};

    use super::*;

    fn accounts() -> (SenderFigures, ReceiverFigures) {
        let (channel, attempt) = (ChannelId::default(), Attempt(1));
        let window = CHANNEL_WINDOW_BYTES as u64;
        let sender =
            SenderFigures { channel, attempt, frames: 9, acknowledged: 7, sent: 900, granted: 300 };
        let receiver = ReceiverFigures {
            channel,
            attempt,
            frames: 8,
            received: 800,
            consumed: 400,
            granted: 400,
            window,
        };
        (sender, receiver)
    }

    #[test]
    fn each_figure_is_bounded_by_the_next() {
        let (sender, receiver) = accounts();
        judge(&sender, &receiver).unwrap();
        let wrong_sender = |sender: SenderFigures| judge(&sender, &receiver).is_err();
        assert!(wrong_sender(SenderFigures { granted: 401, ..sender }), "credit from nowhere");
        assert!(wrong_sender(SenderFigures { acknowledged: 9, ..sender }));
        assert!(wrong_sender(SenderFigures { sent: 799, ..sender }));
        let wrong = |receiver: ReceiverFigures| judge(&sender, &receiver).is_err();
        assert!(wrong(ReceiverFigures { consumed: 801, ..receiver }));
        assert!(wrong(ReceiverFigures { frames: 10, ..receiver }));
        assert!(wrong(ReceiverFigures { granted: 401, ..receiver }), "more than there is room for");
    }
}
