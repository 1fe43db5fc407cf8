//! What the model cannot learn from a job: its input, and its operators written by hand.

use std::collections::{BTreeMap, BTreeSet};

use gear_core::dsl::Content;
use gear_core::time::EventTime;

use super::Record;
use crate::workload::build::Built;
use crate::workload::source::{Entry, Rows};
use crate::workload::{decode, encode, event_time, is_poison, tally, topics};

/// Whoever knows it.
pub trait Known {
    /// All that a source reads.
    ///
    /// # Errors
    /// Why it cannot be known.
    fn source(&self, name: &str) -> Result<Vec<Content>, String>;

    /// What an operator written by hand makes of its input; none if that is not known.
    fn by_hand(&self, operator: &str, input: Vec<Record>) -> Option<ByHand> {
        let _ = (operator, input);
        None
    }
}

/// What an operator written by hand has made of its input.
#[derive(Clone, Debug, Default)]
pub struct ByHand {
    /// Its output.
    pub emitted: Vec<Record>,
    /// What is put aside, and why.
    pub put_aside: Vec<(Record, String)>,
}

/// A job of the workload, and its input.
pub struct Workload<'a> {
    /// The job.
    pub built: &'a Built,
    /// What its sources read.
    pub sources: &'a [Rows],
    /// As which bytes they read an entry, if not as a row.
    pub bytes: Option<fn(&Entry) -> Vec<u8>>,
}

impl Known for Workload<'_> {
    fn source(&self, name: &str) -> Result<Vec<Content>, String> {
        let number: usize =
            name["source-".len()..].parse().expect("the workload numbers its sources");
        let partitions = self.sources[number].partitions.iter();
        let content = |entry: &Entry| match entry {
            Entry::Row(row) if self.bytes.is_none() => {
                Content::Record(event_time(row), encode(row))
            }
            // Nobody reads what the sources of the workload have to say of it.
            Entry::Malformed(bytes) if self.bytes.is_none() => Content::Malformed {
                partition: String::new(),
                position: String::new(),
                bytes: bytes.clone(),
                reason: String::new(),
            },
            _ => {
                let bytes = self.bytes.map(|bytes| bytes(entry)).unwrap_or_default();
                Content::Record(EventTime::MIN, topics::as_bytes(&bytes))
            }
        };
        Ok(partitions.flat_map(|partition| &partition.entries).map(content).collect())
    }

    fn by_hand(&self, operator: &str, input: Vec<Record>) -> Option<ByHand> {
        let (_, salt) = self.built.tallies.iter().find(|(name, _)| name == operator)?;
        let mut made = ByHand::default();
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        let mut timers = BTreeSet::new();
        for (at, bytes) in input {
            let row = decode(&bytes);
            if is_poison(&row, *salt) {
                made.put_aside.push(((at, bytes), "poison".to_owned()));
                continue;
            }
            let count = counts.entry(row.1).or_default();
            *count += 1;
            timers.insert((row.1, tally::timer_of(at.0)));
            made.emitted.push((at, encode(&tally::counted(row.1, *count))));
        }
        for (key, at) in timers {
            made.emitted.push((EventTime(at), encode(&tally::fired(key, at))));
        }
        Some(made)
    }
}
