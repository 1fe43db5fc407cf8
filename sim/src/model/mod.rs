//! The reference: one thread, one record after the other, no partition, no watermark, no
//! snapshot. It runs the functions of a job and nothing else of the engine.

mod known;

use std::collections::{BTreeMap, BTreeSet};

use gear_core::api::{DeadLetter, Record as _, Ref};
use gear_core::dsl::{Content, Model, ModelAggregate, ModelNode, ModelOp};
use gear_core::flow::window::Windows;
use gear_core::time::EventTime;

use crate::direct::catch;
pub use known::{ByHand, Known, Workload};

/// A record: its event time, and its bytes.
pub type Record = (EventTime, Vec<u8>);

/// What the model says of a job.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The rows of each sink.
    pub sinks: BTreeMap<String, Vec<Vec<u8>>>,
    /// Every record that is put aside: the operator whose input it is, and its bytes.
    pub quarantined: Vec<(String, Vec<u8>)>,
    /// What the windows with a late output read.
    pub windows: BTreeMap<String, WindowInput>,
}

/// What an operator of windows read.
#[derive(Clone, Debug)]
pub struct WindowInput {
    /// Its records, poison excepted.
    pub records: Vec<Record>,
    /// Its windows.
    pub windows: Windows,
}

/// Runs a job over all that its sources hold.
///
/// # Errors
/// The operators written by hand of which nothing is known.
pub fn interpret(model: &Model, known: &dyn Known) -> Result<Expected, String> {
    let mut expected = Expected::default();
    let mut outputs: Vec<BTreeMap<u32, Vec<Record>>> = Vec::new();
    for node in &model.nodes {
        let mut input: Vec<Record> = Vec::new();
        for (from, port) in &node.inputs {
            input.extend(outputs[*from].get(port).into_iter().flatten().cloned());
        }
        let mut run = Run { node, expected: &mut expected, ports: BTreeMap::new() };
        match &node.op {
            ModelOp::Source => run.source(known.source(&node.name)?),
            ModelOp::Step(step) => {
                for (at, bytes) in input {
                    let mut emitted = Vec::new();
                    let mut emit = |port, at, bytes| emitted.push((port, (at, bytes)));
                    match catch(|| step(at, &bytes, &mut emit)).flatten() {
                        Ok(()) => emitted.into_iter().for_each(|(port, it)| run.emit(port, it)),
                        Err(reason) => run.put_aside((at, bytes), &reason),
                    }
                }
            }
            ModelOp::Aggregate { aggregate, updates } => {
                let updates = updates.load(std::sync::atomic::Ordering::Relaxed);
                run.aggregate(aggregate, updates, input);
            }
            ModelOp::Distinct { key } => {
                let mut seen = BTreeSet::new();
                input.into_iter().filter(|(_, bytes)| seen.insert(key(bytes))).for_each(|record| {
                    run.emit(0, record);
                });
            }
            ModelOp::Window { aggregate, windows } => run.window(aggregate, *windows, input),
            ModelOp::Union => input.into_iter().for_each(|record| run.emit(0, record)),
            ModelOp::Sink => {
                let rows = input.into_iter().map(|(_, bytes)| bytes).collect();
                run.expected.sinks.insert(node.name.clone(), rows);
            }
            ModelOp::Opaque => {
                let ByHand { emitted, put_aside } = known
                    .by_hand(&node.name, input)
                    .ok_or_else(|| format!("the model knows nothing of `{}`", node.name))?;
                emitted.into_iter().for_each(|record| run.emit(0, record));
                for (record, reason) in put_aside {
                    run.put_aside(record, &reason);
                }
            }
        }
        outputs.push(run.ports);
    }
    Ok(expected)
}

/// One operator at work.
struct Run<'a> {
    node: &'a ModelNode,
    expected: &'a mut Expected,
    ports: BTreeMap<u32, Vec<Record>>,
}

impl Run<'_> {
    fn emit(&mut self, port: u32, record: Record) {
        self.ports.entry(port).or_default().push(record);
    }

    fn put_aside(&mut self, (at, bytes): Record, reason: &str) {
        let Some(port) = self.node.dead_letters else {
            self.expected.quarantined.push((self.node.name.clone(), bytes));
            return;
        };
        self.emit_letter(port, at, ["", ""], (&self.node.reads, &bytes), reason);
    }

    fn emit_letter(
        &mut self,
        port: u32,
        at: EventTime,
        [partition, position]: [&str; 2],
        (record_type, bytes): (&str, &[u8]),
        reason: &str,
    ) {
        let operator = &self.node.name;
        let letter = DeadLetter { operator, reason, partition, position, at, record_type, bytes };
        let mut encoded = Vec::new();
        DeadLetter::encode(&letter, &mut encoded);
        self.emit(port, (at, encoded));
    }

    fn source(&mut self, contents: Vec<Content>) {
        for content in contents {
            match content {
                Content::Record(at, bytes) => self.emit(0, (at, bytes)),
                Content::Malformed { partition, position, bytes, reason } => {
                    let Some(port) = self.node.dead_letters else {
                        self.expected.quarantined.push((self.node.name.clone(), bytes));
                        continue;
                    };
                    let mut encoded = Vec::new();
                    Ref::<[u8]>::encode(&bytes.as_slice(), &mut encoded);
                    let record = ("bytes", encoded.as_slice());
                    let place = [partition.as_str(), position.as_str()];
                    self.emit_letter(port, EventTime::MIN, place, record, &reason);
                }
            }
        }
    }

    fn aggregate(&mut self, aggregate: &ModelAggregate, updates: bool, input: Vec<Record>) {
        let mut values: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (at, bytes) in input {
            let key = (aggregate.key)(&bytes);
            let before = values.get(&key);
            match catch(|| added(aggregate, before, &bytes)) {
                Ok(value) => {
                    if updates {
                        self.emit(0, (at, pair(&key, &value)));
                    }
                    values.insert(key, value);
                }
                Err(reason) => self.put_aside((at, bytes), &reason),
            }
        }
        if !updates {
            for (key, value) in values {
                self.emit(0, (EventTime::MAX, pair(&key, &value)));
            }
        }
    }

    fn window(&mut self, aggregate: &ModelAggregate, windows: Windows, input: Vec<Record>) {
        let mut values: BTreeMap<(i64, Vec<u8>), Vec<u8>> = BTreeMap::new();
        for (at, bytes) in &input {
            let key = (aggregate.key)(bytes);
            for start in starts(windows, at.0) {
                let place = (start, key.clone());
                let value = added(aggregate, values.get(&place), bytes);
                values.insert(place, value);
            }
        }
        let size = windows.size.as_micros() as i64;
        for ((start, key), value) in values {
            let end = start + size;
            let mut bytes = key;
            bytes.extend_from_slice(&start.to_le_bytes());
            bytes.extend_from_slice(&end.to_le_bytes());
            bytes.extend_from_slice(&value);
            self.emit(0, (EventTime(end - 1), bytes));
        }
        let read = WindowInput { records: input, windows };
        self.expected.windows.insert(self.node.name.clone(), read);
    }
}

/// The starts of the windows that hold a time.
#[must_use]
pub fn starts(windows: Windows, at: i64) -> Vec<i64> {
    let (size, slide) = (windows.size.as_micros() as i64, windows.slide.as_micros() as i64);
    let first = (at - size).div_euclid(slide) + 1;
    (first..=at.div_euclid(slide)).map(|number| number * slide).collect()
}

fn added(aggregate: &ModelAggregate, before: Option<&Vec<u8>>, record: &[u8]) -> Vec<u8> {
    match before {
        None => (aggregate.first)(record),
        Some(value) => (aggregate.add)(value, record),
    }
}

fn pair(key: &[u8], value: &[u8]) -> Vec<u8> {
    [key, value].concat()
}

#[cfg(test)]
mod tests {
    use gear_core::time::Duration;

    use super::*;

    #[test]
    fn windows_hold_their_start_and_not_their_end() {
        let micros = Duration::from_micros;
        let windows = |size, slide| Windows {
            size: micros(size),
            slide: micros(slide),
            lateness: Duration::ZERO,
        };
        assert_eq!(starts(windows(10, 10), 20), [20]);
        assert_eq!(starts(windows(10, 10), 29), [20]);
        assert_eq!(starts(windows(10, 5), 22), [15, 20]);
        assert_eq!(starts(windows(10, 5), -1), [-10, -5]);
        // Windows that do not touch hold nothing in between.
        assert_eq!(starts(windows(3, 10), 25), [] as [i64; 0]);
    }
}
