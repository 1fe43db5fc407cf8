//! Which seeds are run.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::cluster::{Faults, Wanted};

/// The seeds of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seeds {
    /// Each of these.
    Range(Range<u64>),
    /// One, so far as it was needed to fail.
    Replay(Replay),
}

impl Seeds {
    /// So many, from 0.
    #[must_use]
    pub const fn first(count: u64) -> Self {
        Self::Range(0..count)
    }

    /// This one only.
    #[must_use]
    pub const fn only(seed: u64) -> Self {
        Self::Range(seed..seed + 1)
    }

    /// The code that a failed check has printed.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn replay(code: &str) -> Self {
        Self::Replay(code.parse().unwrap_or_else(|error| panic!("`{code}`: {error}")))
    }
}

/// A seed, and what is left out of what it means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// The seed.
    pub seed: u64,
    /// What is left out.
    pub wanted: Wanted,
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, wanted } = self;
        let number = |number: Option<usize>| number.map_or(String::new(), |it| it.to_string());
        let (masters, workers) = (number(wanted.masters), number(wanted.workers));
        let skipped: Vec<String> = wanted.without.iter().map(ToString::to_string).collect();
        let skipped = skipped.join(".");
        write!(f, "{seed}-{:x}-{skipped}-{masters}-{workers}", wanted.off.bits())
    }
}

impl FromStr for Replay {
    type Err = String;

    fn from_str(code: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what} is no number: copy the whole code");
        let parts: Vec<&str> = code.split('-').collect();
        let [seed, off, skipped, masters, workers] = parts[..] else {
            return Err("it has five parts: copy the whole code".into());
        };
        let number = |text: &str| match text {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| wrong(text)),
        };
        let skipped = skipped.split('.').filter(|text| !text.is_empty());
        let skipped = skipped.map(|text| text.parse().map_err(|_| wrong(text)));
        let off = u64::from_str_radix(off, 16).map_err(|_| wrong(off))?;
        Ok(Self {
            seed: seed.parse().map_err(|_| wrong(seed))?,
            wanted: Wanted {
                masters: number(masters)?,
                workers: number(workers)?,
                off: Faults::from_bits(off),
                without: skipped.collect::<Result<BTreeSet<usize>, String>>()?,
                ..Wanted::default()
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::FaultKind;

    #[test]
    fn a_code_means_what_was_left_out() {
        let wanted = Wanted {
            workers: Some(2),
            off: Faults::only(&[FaultKind::Clog, FaultKind::Resubmit]),
            without: BTreeSet::from([0, 12]),
            ..Wanted::default()
        };
        let replay = Replay { seed: 77, wanted };
        assert_eq!(replay.to_string().parse(), Ok(replay));
        assert!("77".parse::<Replay>().is_err());
        assert!("x-0---".parse::<Replay>().is_err());
        assert_eq!("5-0---".parse(), Ok(Replay { seed: 5, wanted: Wanted::default() }));
    }
}
