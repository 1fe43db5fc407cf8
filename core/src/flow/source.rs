//! The logic of a source's task: reads, and runs each record through the chain in the same loop.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::api::record::{Record, type_name};
use crate::api::source::{Advance, ConnectorFigure, Source, SourceContext};
use crate::clock::Emit;
use crate::flow::logic::{Assignment, Captured, Cx, Logic, Polled, SnapshotOrder, Work};
use crate::flow::outputs::Outputs;
use crate::flow::push::{Entered, Guard, Push, Quarantined};
use crate::id::Epoch;
use crate::limits::{RECORDS_PER_SLICE, SLICES_PER_TURN, WATERMARK_INTERVAL};
use crate::message::Partition;
use crate::time::{Duration, EventTime, Time};

/// A source and the chain behind it.
pub(crate) struct SourceLogic<S, P> {
    name: Arc<str>,
    source: S,
    next: P,
    partitions: Vec<String>,
    /// A record is in the chain: the one to repeat if it panics.
    pushing: bool,
    records: u64,
    watermark_at: Time,
    idle: bool,
    /// The last turn ended before the source did: what has passed since is the readers' time.
    busy_since: Option<Time>,
    /// There may be more partitions later.
    discovers: bool,
}

/// A pause between two turns of a busy source from which on it counts as back-pressure.
const BACK_PRESSURE_MIN: Duration = Duration::from_millis(10);

impl<S: Source, P: Push<S::Out>> SourceLogic<S, P> {
    pub(crate) fn new(name: Arc<str>, source: S, discovers: bool, next: P) -> Self {
        Self {
            name,
            source,
            next,
            partitions: Vec::new(),
            pushing: false,
            records: 0,
            watermark_at: Time::ZERO,
            idle: false,
            busy_since: None,
            discovers,
        }
    }

    /// Records one slice; `None` if the outputs should be looked at and the slice was full.
    #[inline]
    fn slice(&mut self, cx: &mut Cx<'_>) -> Result<Option<Polled>, String> {
        let mut context = SourceContext { now: cx.now, wall: cx.wall, files: cx.files };
        let (mut partition, now) = (u32::MAX, cx.now);
        let most = context.files.records_per_turn();
        for _ in 0..RECORDS_PER_SLICE.min(most) {
            match self.source.advance(&mut context)? {
                Advance::Record => {
                    self.records += 1;
                    let (meta, view) = self.source.current();
                    if meta.partition != partition {
                        partition = meta.partition;
                        if let Some(clocks) = self.next.clocks() {
                            clocks.on_batch(partition, now);
                        }
                    }
                    self.next.outputs().begin_record();
                    self.pushing = true;
                    self.next.push(meta, view);
                    self.pushing = false;
                }
                other => return self.without_record(other, now),
            }
        }
        Ok(None)
    }

    #[cold]
    fn without_record(&mut self, advance: Advance, now: Time) -> Result<Option<Polled>, String> {
        match advance {
            Advance::Record => Ok(None),
            Advance::Wait(until) => Ok(Some(Polled::Wait(until))),
            Advance::End => Ok(Some(Polled::End)),
            Advance::NewPartition(name) => {
                if let Some(clocks) = self.next.clocks() {
                    clocks.add(now);
                }
                self.partitions.push(name);
                self.next.outputs().name_partitions(self.partitions.clone());
                Ok(None)
            }
            Advance::PartitionEnd(partition) => {
                if let Some(clocks) = self.next.clocks() {
                    clocks.done(partition);
                }
                Ok(None)
            }
            Advance::Malformed { partition, position, bytes, reason } => {
                self.records += 1;
                let partition =
                    self.partitions.get(partition as usize).cloned().unwrap_or_default();
                let record = type_name::<S::Out>();
                let outputs = self.next.outputs();
                outputs.begin_record();
                let at = EventTime::MIN;
                outputs
                    .quarantine_bytes(&self.name, partition, position, at, record, bytes, reason);
                Ok(None)
            }
        }
    }

    /// A turn of several slices.
    fn turn(&mut self, cx: &mut Cx<'_>) -> Result<Polled, String> {
        for _ in 0..SLICES_PER_TURN {
            if !self.next.outputs().has_room() {
                return Ok(Polled::More);
            }
            match self.slice(cx)? {
                None => {}
                Some(Polled::Wait(until)) => {
                    self.watermark(cx.now, true);
                    let timeout = self.next.clocks().and_then(|clocks| clocks.next_idle());
                    return Ok(Polled::Wait(timeout.map_or(until, |time| time.min(until))));
                }
                Some(polled) => return Ok(polled),
            }
            // A full batch leaves at once: its reader works on it while the next one fills.
            let few = cx.files.records_per_turn() <= RECORDS_PER_SLICE;
            if few || self.next.outputs().has_ready() {
                break;
            }
        }
        self.watermark(cx.now, false);
        Ok(Polled::More)
    }

    /// Sends the stream's watermark if it has advanced and the last one is old enough.
    fn watermark(&mut self, now: Time, force: bool) {
        if !force && now.since(self.watermark_at) < WATERMARK_INTERVAL {
            return;
        }
        self.watermark_at = now;
        let Some(clocks) = self.next.clocks() else { return };
        match clocks.watermark(now) {
            Emit::Advance(at) => {
                self.idle = false;
                self.next.outputs().watermark(at);
            }
            // Its end is near, and says more: what is open downstream is not yet over.
            Emit::Idle if clocks.all_done() && !self.discovers => {}
            Emit::Idle if !self.idle => {
                self.idle = true;
                self.next.outputs().idle();
            }
            Emit::Idle | Emit::Unchanged => {}
        }
    }
}

impl<S: Source, P: Push<S::Out>> Logic for SourceLogic<S, P> {
    fn outputs(&mut self) -> &mut Outputs {
        self.next.outputs()
    }

    fn start(&mut self, assignment: &Assignment, cx: &mut Cx<'_>) -> Result<(), String> {
        self.records = assignment.records;
        let mut partitions = Vec::with_capacity(assignment.partitions.len());
        for (number, partition) in assignment.partitions.iter().enumerate() {
            self.partitions.push(partition.name.clone());
            let mut partition = partition.clone();
            let maximum = partition.position.as_mut().and_then(take_maximum);
            if let Some(clocks) = self.next.clocks() {
                let opened = clocks.add(cx.now);
                assert_eq!(opened, number as u32, "partitions are numbered as they are assigned");
                if let Some(maximum) = maximum {
                    clocks.set_maximum(opened, maximum);
                }
                if partition.done {
                    clocks.done(opened);
                }
            }
            partitions.push(partition);
        }
        self.next.outputs().name_partitions(self.partitions.clone());
        let mut context = SourceContext { now: cx.now, wall: cx.wall, files: cx.files };
        self.source.open(&partitions, &mut context)
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> Result<Polled, String> {
        if let Some(since) = self.busy_since.take()
            && cx.now.since(since) > BACK_PRESSURE_MIN
            && let Some(clocks) = self.next.clocks()
        {
            clocks.on_back_pressure(cx.now.since(since));
        }
        let polled = self.turn(cx)?;
        if polled == Polled::More {
            self.busy_since = Some(cx.now);
        }
        Ok(polled)
    }

    fn rerun(
        &mut self,
        _: Option<&mut Work>,
        panic: String,
        guard: &mut dyn Guard,
        _: &mut Cx<'_>,
    ) -> Result<(), String> {
        if !core::mem::take(&mut self.pushing) {
            return Err(panic);
        }
        let (meta, view) = self.source.current();
        self.next.outputs().cut();
        self.next.push_guarded(meta, view, guard);
        Ok(())
    }

    fn replay(
        &mut self,
        entry: &Quarantined,
        guard: &mut dyn Guard,
        _: &mut Cx<'_>,
    ) -> Result<Entered, String> {
        // Only what a source could not read has a position.
        if *self.name == *entry.operator && !entry.position.is_empty() {
            return Ok(Entered::Unread);
        }
        Ok(self.next.enter(entry, guard))
    }

    fn begin_snapshot(&mut self, _: SnapshotOrder, cx: &mut Cx<'_>) -> Result<Captured, String> {
        self.watermark(cx.now, true);
        let mut partitions = self.source.positions();
        for (number, partition) in partitions.iter_mut().enumerate() {
            let maximum =
                self.next.clocks().and_then(|clocks| clocks.maxima().get(number).copied());
            put_maximum(partition, maximum);
        }
        Ok(Captured { partitions, ..Captured::default() })
    }

    fn committed(&mut self, _: Epoch, _: &mut Cx<'_>) -> Result<(), String> {
        Ok(())
    }

    fn read(&self) -> (u64, u64) {
        (self.records, self.source.bytes_read())
    }

    fn notice(&mut self) -> Option<String> {
        self.source.notice()
    }

    fn figures(&self) -> Vec<ConnectorFigure> {
        self.source.figures()
    }
}

/// A partition's position carries the largest event time seen in it, so that after a recovery the
/// watermark is where it was.
fn put_maximum(partition: &mut Partition, maximum: Option<EventTime>) {
    let Some(position) = &mut partition.position else { return };
    match maximum {
        Some(at) => {
            position.extend_from_slice(&at.0.to_le_bytes());
            position.push(1);
        }
        None => position.push(0),
    }
}

/// A partition of an epoch's record as its source gave it.
#[must_use]
pub fn as_given(mut partition: Partition) -> Partition {
    if let Some(position) = &mut partition.position {
        take_maximum(position);
    }
    partition
}

fn take_maximum(position: &mut Vec<u8>) -> Option<EventTime> {
    if position.pop()? == 0 {
        return None;
    }
    let rest = position.len().checked_sub(8)?;
    let maximum = i64::decode(&mut &position[rest..]).ok();
    position.truncate(rest);
    maximum.map(EventTime)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn what_is_added_to_a_position_is_taken_away() {
        let given = Partition { name: "p".into(), position: Some(vec![7, 8, 9]), done: false };
        for maximum in [None, Some(EventTime(0)), Some(EventTime(-5))] {
            let mut partition = given.clone();
            put_maximum(&mut partition, maximum);
            assert_ne!(partition, given);
            assert_eq!(as_given(partition), given);
        }
        let fresh = Partition { position: None, ..given };
        assert_eq!(as_given(fresh.clone()), fresh);
    }
}
