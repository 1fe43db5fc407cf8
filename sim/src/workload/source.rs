//! A source over named partitions whose content is known, some of it no record at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gear_core::api::Files;
use gear_core::api::source::{Advance, Source, SourceConnector, SourceContext};
use gear_core::effect::IoError;
use gear_core::flow::push::Meta;
use gear_core::message::Partition;
use gear_core::time::{Duration, EventTime};

use super::{Row, event_time};

/// What a partition holds.
#[derive(Clone, Debug)]
pub struct PartitionData {
    /// Its name.
    pub name: String,
    /// Its content, in order.
    pub entries: Vec<Entry>,
}

/// One thing in a partition.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A record.
    Row(Row),
    /// Bytes that are none.
    Malformed(Vec<u8>),
}

/// How fast a source reads.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Entries that it reads without a pause.
    pub burst: u64,
    /// The pause.
    pub gap: Duration,
}

/// How much of the input is there yet: what a source reads grows while it runs.
#[derive(Clone, Debug)]
pub struct Gate(Arc<AtomicU64>);

impl Default for Gate {
    /// All is there from the beginning.
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(1_000)))
    }
}

impl Gate {
    /// So many thousandths of each partition are there.
    pub fn open(&self, permille: u64) {
        self.0.store(permille, Ordering::Relaxed);
    }

    /// Entries that are there, of so many.
    fn of(&self, entries: usize) -> usize {
        entries * self.0.load(Ordering::Relaxed) as usize / 1_000
    }

    fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 1_000
    }
}

/// A source as a job names it.
#[derive(Clone, Debug)]
pub struct Rows {
    /// All it will ever read.
    pub partitions: Arc<Vec<PartitionData>>,
    /// How fast.
    pub pace: Pace,
    /// How much of it is there yet.
    pub gate: Gate,
}

impl SourceConnector for Rows {
    type Source = RowReader;

    fn partitions(&self, _: &mut dyn Files) -> Result<Vec<String>, IoError> {
        Ok(self.partitions.iter().map(|partition| partition.name.clone()).collect())
    }

    fn source(&self) -> RowReader {
        let data = Arc::clone(&self.partitions);
        let (current, burst) = ((0, 0), 0);
        let gate = self.gate.clone();
        RowReader { data, gate, pace: self.pace, open: Vec::new(), turn: 0, current, burst }
    }
}

/// Reads the partitions of one task, one entry of each in turn.
#[derive(Debug)]
pub struct RowReader {
    data: Arc<Vec<PartitionData>>,
    gate: Gate,
    pace: Pace,
    open: Vec<Open>,
    turn: usize,
    current: (usize, usize),
    burst: u64,
}

#[derive(Debug)]
struct Open {
    /// Its place in the data.
    place: usize,
    /// Entries that were read.
    next: usize,
    done: bool,
}

impl Source for RowReader {
    type Out = Row;

    fn open(&mut self, partitions: &[Partition], _: &mut SourceContext<'_>) -> Result<(), String> {
        for partition in partitions {
            let place = self.data.iter().position(|data| data.name == partition.name);
            let place = place.ok_or_else(|| format!("there is no {}", partition.name))?;
            let next = match &partition.position {
                None => 0,
                Some(bytes) => {
                    let bytes = bytes.as_slice().try_into();
                    u64::from_le_bytes(bytes.map_err(|_| "a position that is none")?) as usize
                }
            };
            self.open.push(Open { place, next, done: partition.done });
        }
        Ok(())
    }

    fn advance(&mut self, cx: &mut SourceContext<'_>) -> Result<Advance, String> {
        if self.burst >= self.pace.burst {
            self.burst = 0;
            return Ok(Advance::Wait(cx.now + self.pace.gap));
        }
        let mut waits = false;
        for step in 0..self.open.len() {
            let number = (self.turn + step) % self.open.len();
            let open = &mut self.open[number];
            if open.done {
                continue;
            }
            let entries = self.data[open.place].entries.len();
            if !self.gate.is_open() && open.next >= self.gate.of(entries) {
                waits = true;
                continue;
            }
            let Some(entry) = self.data[open.place].entries.get(open.next) else {
                open.done = true;
                return Ok(Advance::PartitionEnd(number as u32));
            };
            open.next += 1;
            self.turn = number + 1;
            self.burst += 1;
            return Ok(match entry {
                Entry::Row(_) => {
                    self.current = (number, open.next - 1);
                    Advance::Record
                }
                Entry::Malformed(bytes) => Advance::Malformed {
                    partition: number as u32,
                    position: (open.next - 1).to_string(),
                    bytes: bytes.clone(),
                    reason: "is no row".into(),
                },
            });
        }
        Ok(if waits { Advance::Wait(cx.now + self.pace.gap) } else { Advance::End })
    }

    fn current(&self) -> (Meta, Row) {
        let (number, entry) = self.current;
        match &self.data[self.open[number].place].entries[entry] {
            Entry::Row(row) => {
                (Meta { at: event_time(row), partition: number as u32 }, row.clone())
            }
            Entry::Malformed(_) => (Meta::at(EventTime::MIN), Row::default()),
        }
    }

    fn positions(&self) -> Vec<Partition> {
        let position = |open: &Open| Partition {
            name: self.data[open.place].name.clone(),
            position: Some((open.next as u64).to_le_bytes().to_vec()),
            done: open.done,
        };
        self.open.iter().map(position).collect()
    }
}
