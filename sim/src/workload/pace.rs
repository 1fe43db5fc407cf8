//! How fast sources of production read: where they give less than they have fetched, barriers stand
//! between the two.

use crate::random::Random;

/// How sources read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The most records in a turn.
    records: usize,
    /// Of so many turns one: in the others there is no room for what would be read.
    every: u64,
}

/// A turn of this many nanoseconds is slow: where turns are faster, one of many is no pause.
const SLOW_TURN: u64 = 1_000_000;

impl Pace {
    /// In each turn all that was fetched.
    pub const ALL: Self = Self { records: usize::MAX, every: 1 };

    /// A pace of a seed. What is no divisor of anything hits every process in the end.
    pub fn draw(random: &mut Random) -> Self {
        let slow = |records, every| Self { records, every };
        random.pick(&[slow(1, 1), slow(3, 19), slow(1, 97), Self::ALL, Self::ALL, Self::ALL])
    }

    /// The most records that a source reads in the so-manieth step, of which a turn takes so many
    /// nanoseconds at most.
    #[must_use]
    pub const fn records(self, step: u64, turn: u64) -> usize {
        let pauses = turn >= SLOW_TURN && !step.is_multiple_of(self.every);
        if pauses { 0 } else { self.records }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_source_reads_little_and_pauses() {
        let slow = Pace { records: 3, every: 19 };
        assert_eq!([18, 19, 20].map(|step| slow.records(step, SLOW_TURN)), [0, 3, 0]);
        assert_eq!(slow.records(18, SLOW_TURN - 1), 3);
        assert_eq!(Pace::ALL.records(18, SLOW_TURN), usize::MAX);
    }
}
