//! Credit is neither made nor lost: what a receiver has consumed, what has arrived, what was sent
//! and what was granted follow each other in this order, channel by channel.

/// What the two ends of a channel have counted in one attempt, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The sender may have sent so many in all.
    pub granted: u64,
    /// The sender has sent.
    pub sent: u64,
    /// Has arrived at the receiver.
    pub received: u64,
    /// The receiver has worked off.
    pub consumed: u64,
}

/// What both ends have counted fits. `window` is what may be in flight, `record` the largest record
/// that is sent alone.
///
/// # Errors
/// The rule that is broken.
pub fn judge(account: Account, window: u64, record: u64) -> Result<(), String> {
    let Account { granted, sent, received, consumed } = account;
    let wrong = |what: &str| Err(format!("credit: {what}: {account:?}"));
    if consumed > received {
        return wrong("more was worked off than arrived");
    }
    if received > sent {
        return wrong("more arrived than was sent");
    }
    if sent > granted + record {
        return wrong("more was sent than was granted");
    }
    if granted > consumed + window {
        return wrong("more was granted than there is room for");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_is_bounded_by_the_next() {
        let good = Account { granted: 100, sent: 90, received: 80, consumed: 40 };
        judge(good, 64, 0).unwrap();
        assert!(judge(Account { consumed: 81, ..good }, 64, 0).is_err());
        assert!(judge(Account { received: 91, ..good }, 64, 0).is_err());
        assert!(judge(Account { sent: 101, ..good }, 64, 0).is_err());
        judge(Account { sent: 101, ..good }, 64, 1).expect("one record may be larger");
        assert!(judge(Account { granted: 105, ..good }, 64, 0).is_err());
    }
}
