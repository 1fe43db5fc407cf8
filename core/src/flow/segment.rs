//! Segments: loops that run the records of a batch through a fused chain.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::marker::PhantomData;

use crate::api::record::Record;
use crate::flow::batch::Batch;
use crate::flow::logic::{Assignment, Captured, Cx, Logic, SnapshotOrder, Work};
use crate::flow::outputs::Outputs;
use crate::flow::push::{Entered, Guard, Meta, Push, Quarantined};
use crate::limits::RECORDS_PER_SLICE;

/// A chain and the loop in front of it.
pub(crate) struct Segment<T, P> {
    pub(crate) next: P,
    types: PhantomData<fn(T)>,
}

impl<T: Record, P: Push<T>> Segment<T, P> {
    pub(crate) const fn new(next: P) -> Self {
        Self { next, types: PhantomData }
    }

    /// Runs the records behind `cursor` until the batch or the outputs' room ends.
    #[inline]
    pub(crate) fn run(
        &mut self,
        batch: &Batch,
        cursor: &mut usize,
        partition: u32,
    ) -> Result<(), String> {
        while *cursor < batch.len() && self.next.outputs().has_room() {
            self.slice(batch, cursor, partition)?;
        }
        Ok(())
    }

    #[inline]
    fn slice(&mut self, batch: &Batch, cursor: &mut usize, partition: u32) -> Result<(), String> {
        let mut reader = batch.reader(*cursor);
        for _ in 0..RECORDS_PER_SLICE {
            match reader.next::<T>() {
                Ok(Some((at, view))) => {
                    self.next.outputs().begin_record();
                    self.next.push(Meta { at, partition }, view);
                    *cursor = batch.len() - reader.remaining();
                }
                Ok(None) => return Ok(()),
                Err(malformed) => return Err(malformed.to_string()),
            }
        }
        Ok(())
    }

    /// Takes back what the record at `cursor` emitted and runs it again under the guard.
    pub(crate) fn rerun(
        &mut self,
        batch: &Batch,
        cursor: &mut usize,
        partition: u32,
        guard: &mut dyn Guard,
    ) -> Result<(), String> {
        let (at, view, behind) = batch.record_at::<T>(*cursor)?;
        self.next.outputs().cut();
        self.next.push_guarded(Meta { at, partition }, view, guard);
        *cursor = behind;
        Ok(())
    }
}

/// What a keyed operator has emitted and its chain has not yet taken.
///
/// It lies between the two so that a panic in the chain never repeats a change of state.
pub(crate) struct Staged<T, P> {
    pub(crate) segment: Segment<T, P>,
    batch: Batch,
    cursor: usize,
}

impl<T: Record, P: Push<T>> Staged<T, P> {
    pub(crate) fn new(next: P) -> Self {
        Self { segment: Segment::new(next), batch: Batch::new(Vec::new(), true), cursor: 0 }
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, meta: Meta, view: &T::View<'_>) {
        self.batch.push::<T>(meta.at, view);
    }

    /// What was emitted so far, to come back to with [`Self::cut`].
    #[inline(always)]
    pub(crate) fn mark(&self) -> crate::flow::batch::Mark {
        self.batch.mark()
    }

    pub(crate) fn cut(&mut self, mark: crate::flow::batch::Mark) {
        self.batch.cut(mark);
    }

    /// Bytes that wait.
    #[inline(always)]
    pub(crate) fn waiting(&self) -> usize {
        self.batch.len() - self.cursor
    }

    /// Runs what waits through the chain; true if all of it went.
    #[inline]
    pub(crate) fn drain(&mut self) -> Result<bool, String> {
        if self.waiting() > 0 {
            self.segment.run(&self.batch, &mut self.cursor, 0)?;
            if self.waiting() > 0 {
                return Ok(false);
            }
        }
        if !self.batch.is_empty() {
            let buffer = core::mem::take(&mut self.batch).into_buffer();
            self.batch = Batch::new(buffer, true);
            self.cursor = 0;
        }
        Ok(self.segment.next.outputs().has_room())
    }

    /// Repeats the record at hand under the guard.
    pub(crate) fn rerun(&mut self, guard: &mut dyn Guard) -> Result<(), String> {
        self.segment.rerun(&self.batch, &mut self.cursor, 0, guard)
    }

    /// Gives a record that was put aside to an operator of the chain.
    pub(crate) fn enter(&mut self, entry: &Quarantined, guard: &mut dyn Guard) -> Entered {
        self.segment.next.enter(entry, guard)
    }

    pub(crate) fn outputs(&mut self) -> &mut Outputs {
        self.segment.next.outputs()
    }

    pub(crate) fn allocated(&self) -> usize {
        self.batch.allocated()
    }
}

/// A processor without state: its chain, and nothing in front.
pub(crate) struct Stateless<T, P> {
    pub(crate) segment: Segment<T, P>,
}

impl<T: Record, P: Push<T>> Logic for Stateless<T, P> {
    fn outputs(&mut self) -> &mut Outputs {
        self.segment.next.outputs()
    }

    fn start(&mut self, _: &Assignment, _: &mut Cx<'_>) -> Result<(), String> {
        Ok(())
    }

    fn work(&mut self, work: &mut Work, _: &mut Cx<'_>) -> Result<(), String> {
        self.segment.run(&work.batch, &mut work.cursor, work.channel)
    }

    fn rerun(
        &mut self,
        work: Option<&mut Work>,
        panic: String,
        guard: &mut dyn Guard,
        _: &mut Cx<'_>,
    ) -> Result<(), String> {
        let work = work.ok_or(panic)?;
        self.segment.rerun(&work.batch, &mut work.cursor, work.channel, guard)
    }

    fn replay(
        &mut self,
        entry: &Quarantined,
        guard: &mut dyn Guard,
        _: &mut Cx<'_>,
    ) -> Result<Entered, String> {
        Ok(self.segment.next.enter(entry, guard))
    }

    fn begin_snapshot(&mut self, _: SnapshotOrder, _: &mut Cx<'_>) -> Result<Captured, String> {
        Ok(Captured::default())
    }
}
