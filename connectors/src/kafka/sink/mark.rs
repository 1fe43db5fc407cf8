//! How far a sink's output has been produced, as the transactions that hold it say.

use serde::{Deserialize, Serialize};

/// What a transaction commits beside its records: up to which epoch output has been produced, and
/// how much of the next one if that does not fit into one transaction. It is the offset of a
/// consumer group that nobody joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// All output up to and with this epoch has been produced.
    pub epoch: u64,
    /// So many segments of the output of the epoch after it have been, too.
    pub segments: u32,
    /// The life of the sink to which the epoch belongs: one that starts over counts anew.
    pub lineage: u64,
    /// The attempt of the task that produced it.
    pub attempt: u64,
    /// How far another life had come when this one wrote its first mark.
    pub before: Option<Before>,
}

/// How far another life of a sink had come, as a [`Mark`] remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// All of its output up to and with this epoch had been produced.
    pub epoch: u64,
    /// So many segments of the output of the epoch after it had been, too.
    pub segments: u32,
    /// That life.
    pub lineage: u64,
    /// The attempt of the task that produced it.
    pub attempt: u64,
}

impl Mark {
    /// What is written beside the offset.
    #[must_use]
    pub fn metadata(&self) -> String {
        let life = |lineage, attempt, segments| {
            let part = if segments > 0 { format!("+{segments}") } else { String::new() };
            format!("{lineage:016x} {attempt}{part}")
        };
        let own = format!("gear {}", life(self.lineage, self.attempt, self.segments));
        match self.before {
            None => own,
            Some(Before { epoch, segments, lineage, attempt }) => {
                format!("{own} {epoch} {}", life(lineage, attempt, segments))
            }
        }
    }

    /// The mark that an offset is; of no life that this program knows if something else wrote it.
    #[must_use]
    pub fn read(offset: i64, metadata: &str) -> Self {
        let parsed = || {
            let mut words = metadata.strip_prefix("gear ")?.split(' ');
            let own = life(&mut words)?;
            let before = match words.next() {
                None => None,
                Some(epoch) => {
                    let epoch = epoch.parse().ok()?;
                    let (lineage, attempt, segments) = life(&mut words)?;
                    Some(Before { epoch, segments, lineage, attempt })
                }
            };
            words.next().is_none().then_some((own, before))
        };
        let ((lineage, attempt, segments), before) = parsed().unwrap_or_default();
        let epoch = u64::try_from(offset).unwrap_or(0);
        Self { epoch, segments, lineage, attempt, before }
    }

    /// The last epoch of which something has been produced.
    #[must_use]
    pub const fn last(&self) -> u64 {
        if self.segments > 0 { self.epoch.saturating_add(1) } else { self.epoch }
    }

    /// What it says of a life: its own, or the one that it remembers.
    #[must_use]
    pub fn of(self, life: u64) -> Option<Self> {
        if self.lineage == life {
            return Some(self);
        }
        let before = self.before.filter(|before| before.lineage == life)?;
        let Before { epoch, segments, lineage, attempt } = before;
        Some(Self { epoch, segments, lineage, attempt, before: None })
    }

    /// What a life that begins behind it has to remember. It may be that of an attempt which comes
    /// late and takes itself for the first: then the later attempt that is fenced by it is needed.
    #[must_use]
    pub fn remembered(self) -> Before {
        let Self { epoch, segments, lineage, attempt, before } = self;
        let own = Before { epoch, segments, lineage, attempt };
        before.filter(|before| before.attempt > attempt).unwrap_or(own)
    }
}

/// A life, its attempt, and how many segments it has produced of the next epoch.
fn life<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<(u64, u64, u32)> {
    let lineage = u64::from_str_radix(words.next()?, 16).ok()?;
    let word = words.next()?;
    let (attempt, segments) = word.split_once('+').unwrap_or((word, "0"));
    let segments = segments.parse().ok()?;
    Some((lineage, attempt.parse().ok()?, segments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_what_others_wrote_is_of_no_life() {
        let mark = Mark { epoch: 7, segments: 0, lineage: 0xab, attempt: 1 << 40, before: None };
        assert_eq!(Mark::read(7, "gear 00000000000000ab 1099511627776"), mark);
        assert_eq!(Mark::read(7, &mark.metadata()), mark);
        let mark = Mark { segments: 3, ..mark };
        assert_eq!((Mark::read(7, &mark.metadata()), mark.last()), (mark, 8));
        let next =
            Mark { epoch: 0, segments: 0, lineage: 0xac, before: Some(mark.remembered()), ..mark };
        assert_eq!(Mark::read(0, &next.metadata()), next);
        assert_eq!(next.of(0xab), Some(mark));
        assert_eq!((next.of(0xac), next.of(1)), (Some(next), None));
        for other in ["", "gear", "gear x 1", "gear 1 y", "gear 1 2 3", "gear 1 2+", "consumer 1 2"]
        {
            let none = Mark { epoch: 7, segments: 0, lineage: 0, attempt: 0, before: None };
            assert_eq!(Mark::read(7, other), none);
        }
        assert_eq!(Mark::read(-1, "").epoch, 0);
    }
}
