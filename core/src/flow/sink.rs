//! The logic of a sink's task: gives each record to the connector and asks for its I/O.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::api::sink::{Answered, Sink, SinkContext, Waiting};
use crate::effect::IoError;
use crate::flow::logic::{Assignment, Captured, Cx, Logic, SnapshotOrder, Work, run_alone};
use crate::flow::outputs::Outputs;
use crate::flow::push::{Entered, Guard, Meta, Quarantined, guarded};
use crate::id::{Epoch, Token};
use crate::limits::{RECORDS_PER_SLICE, SINK_BYTES_OUTSTANDING_MAX};

/// A sink behind its input.
pub(crate) struct SinkLogic<S> {
    name: Arc<str>,
    sink: S,
    outputs: Outputs,
}

impl<S: Sink> SinkLogic<S> {
    pub(crate) const fn new(name: Arc<str>, sink: S, outputs: Outputs) -> Self {
        Self { name, sink, outputs }
    }

    fn context<'c>(cx: &'c mut Cx<'_>) -> SinkContext<'c> {
        SinkContext { now: cx.now, wall: cx.wall, io: cx.io }
    }

    fn takes(&self, cx: &Cx<'_>) -> bool {
        self.sink.has_room() && cx.io.bytes_outstanding() <= SINK_BYTES_OUTSTANDING_MAX
    }

    fn slice(&mut self, work: &mut Work, cx: &mut Cx<'_>) -> Result<(), String> {
        let mut context = Self::context(cx);
        let mut reader = work.batch.reader(work.cursor);
        for _ in 0..RECORDS_PER_SLICE {
            match reader.next::<S::In>() {
                Ok(Some((at, view))) => {
                    self.outputs.begin_record();
                    let meta = Meta { at, partition: work.channel };
                    self.sink.write(meta, view, &mut context)?;
                    if let Some(reason) = context.io.take_refused() {
                        let (_, view, _) = work.batch.record_at::<S::In>(work.cursor)?;
                        self.outputs.quarantine::<S::In>(&self.name, meta, &view, reason);
                    }
                    work.cursor = work.batch.len() - reader.remaining();
                }
                Ok(None) => break,
                Err(malformed) => return Err(malformed.to_string()),
            }
        }
        Ok(())
    }
}

impl<S: Sink> Logic for SinkLogic<S> {
    fn outputs(&mut self) -> &mut Outputs {
        &mut self.outputs
    }

    fn start(&mut self, assignment: &Assignment, cx: &mut Cx<'_>) -> Result<(), String> {
        self.sink.open(&assignment.pending, &mut Self::context(cx))
    }

    fn drain(&mut self, cx: &mut Cx<'_>) -> Result<bool, String> {
        Ok(self.sink.is_open() && self.takes(cx))
    }

    fn work(&mut self, work: &mut Work, cx: &mut Cx<'_>) -> Result<(), String> {
        while !work.is_done() && self.takes(cx) {
            self.slice(work, cx)?;
        }
        Ok(())
    }

    fn rerun(
        &mut self,
        work: Option<&mut Work>,
        panic: String,
        guard: &mut dyn Guard,
        cx: &mut Cx<'_>,
    ) -> Result<(), String> {
        let work = work.ok_or(panic)?;
        let (at, view, behind) = work.batch.record_at::<S::In>(work.cursor)?;
        let meta = Meta { at, partition: work.channel };
        self.outputs.cut();
        let mut context = Self::context(cx);
        match guarded(guard, || self.sink.write(meta, view.clone(), &mut context)) {
            Ok(written) => {
                written?;
                if let Some(reason) = context.io.take_refused() {
                    self.outputs.quarantine::<S::In>(&self.name, meta, &view, reason);
                }
            }
            Err(panic) => self.outputs.quarantine::<S::In>(&self.name, meta, &view, panic),
        }
        work.cursor = behind;
        Ok(())
    }

    fn replay(
        &mut self,
        entry: &Quarantined,
        guard: &mut dyn Guard,
        cx: &mut Cx<'_>,
    ) -> Result<Entered, String> {
        if *self.name != *entry.operator {
            return Ok(Entered::Missing);
        }
        run_alone::<S::In, _>(self, entry, (guard, cx), |_, _| true)
    }

    fn idle(&mut self, cx: &mut Cx<'_>) {
        self.sink.idle(&mut Self::context(cx));
    }

    fn begin_snapshot(
        &mut self,
        snapshot: SnapshotOrder,
        cx: &mut Cx<'_>,
    ) -> Result<Captured, String> {
        let pending = self.sink.prepare(snapshot.epoch, snapshot.last, &mut Self::context(cx))?;
        Ok(Captured { pending, objects: self.sink.objects(), ..Captured::default() })
    }

    fn answered(
        &mut self,
        token: Token,
        result: Result<Vec<u8>, IoError>,
        cx: &mut Cx<'_>,
    ) -> Result<Answered, String> {
        self.sink.answered(token, result, &mut Self::context(cx))
    }

    fn waiting(&self) -> Waiting {
        self.sink.waiting()
    }

    fn committed(&mut self, epoch: Epoch, cx: &mut Cx<'_>) -> Result<(), String> {
        self.sink.commit(epoch, &mut Self::context(cx))
    }
}
