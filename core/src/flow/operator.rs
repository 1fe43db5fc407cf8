//! The logic of a low-level [`Operator`].

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::api::operator::{Operator, OperatorContext};
use crate::api::record::{Record, put_len, take, take_len};
use crate::flow::batch::Mark;
use crate::flow::logic::{Assignment, Captured, Cx, Logic, SnapshotOrder, Work, run_alone};
use crate::flow::outputs::Outputs;
use crate::flow::push::{Entered, Guard, Meta, Push, Quarantined, guarded};
use crate::flow::segment::Staged;
use crate::flow::state::{SnapshotReader, SnapshotWriter};
use crate::id::Epoch;
use crate::limits::RECORDS_PER_SLICE;
use crate::time::{EventTime, WallTime};

/// An operator, its timers, and what it has emitted.
pub(crate) struct OperatorLogic<R: Operator, P> {
    name: Arc<str>,
    operator: R,
    staged: Staged<R::Out, P>,
    side: Outputs,
    due: BTreeSet<WallTime>,
    set: Vec<WallTime>,
    snapshot: Vec<u8>,
    mark: Mark,
    draining: bool,
    /// The operator has a record, not a timer or a watermark.
    at_record: bool,
}

impl<R: Operator, P: Push<R::Out>> OperatorLogic<R, P> {
    pub(crate) fn new(name: Arc<str>, operator: R, next: P) -> Self {
        Self {
            name,
            operator,
            staged: Staged::new(next),
            side: Outputs::default(),
            due: BTreeSet::new(),
            set: Vec::new(),
            snapshot: Vec::new(),
            mark: Mark::default(),
            draining: false,
            at_record: false,
        }
    }

    fn call(
        &mut self,
        at: EventTime,
        channel: u32,
        cx: &Cx<'_>,
        call: impl FnOnce(&mut R, &mut OperatorContext<'_, R::Out>),
    ) {
        self.mark = self.staged.mark();
        self.side.begin_record();
        let staged = &mut self.staged;
        let mut emit =
            |meta: Meta, record: <R::Out as Record>::View<'_>| staged.push(meta, &record);
        let mut context = OperatorContext {
            now: cx.now,
            wall: cx.wall,
            at,
            channel,
            timers: &mut self.set,
            emit: &mut emit,
            side: &mut self.side,
        };
        call(&mut self.operator, &mut context);
        self.due.extend(self.set.drain(..));
    }

    /// Takes back what a call has emitted, put aside and asked for before it panicked.
    fn take_back(&mut self) {
        self.staged.cut(self.mark);
        self.side.cut();
        self.set.clear();
    }

    fn put_aside(&mut self, meta: Meta, view: &<R::In as Record>::View<'_>, panic: String) {
        let name = Arc::clone(&self.name);
        let outputs = self.outputs();
        outputs.begin_record();
        outputs.quarantine::<R::In>(&name, meta, view, panic);
    }
}

impl<R: Operator, P: Push<R::Out>> Logic for OperatorLogic<R, P> {
    fn outputs(&mut self) -> &mut Outputs {
        let aside = self.side.take_quarantined();
        let outputs = self.staged.outputs();
        outputs.adopt_quarantined(aside);
        outputs
    }

    fn start(&mut self, _: &Assignment, cx: &mut Cx<'_>) -> Result<(), String> {
        self.call(EventTime::MIN, 0, cx, |operator, context| operator.on_start(context));
        Ok(())
    }

    fn drain(&mut self, _: &mut Cx<'_>) -> Result<bool, String> {
        self.draining = true;
        let drained = self.staged.drain()?;
        self.draining = false;
        Ok(drained)
    }

    fn work(&mut self, work: &mut Work, cx: &mut Cx<'_>) -> Result<(), String> {
        while !work.is_done() {
            let mut reader = work.batch.reader(work.cursor);
            for _ in 0..RECORDS_PER_SLICE {
                match reader.next::<R::In>() {
                    Ok(Some((at, view))) => {
                        self.at_record = true;
                        self.call(at, work.channel, cx, |operator, context| {
                            operator.on_record(view, context);
                        });
                        self.at_record = false;
                        work.cursor = work.batch.len() - reader.remaining();
                    }
                    Ok(None) => break,
                    Err(malformed) => return Err(malformed.to_string()),
                }
            }
            if !self.drain(cx)? {
                return Ok(());
            }
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
        if core::mem::take(&mut self.draining) {
            return self.staged.rerun(guard);
        }
        if !core::mem::take(&mut self.at_record) {
            return Err(panic);
        }
        let work = work.ok_or(panic)?;
        self.take_back();
        let (at, view, behind) = work.batch.record_at::<R::In>(work.cursor)?;
        let channel = work.channel;
        let rerun = guarded(guard, || {
            self.call(at, channel, cx, |operator, context| {
                operator.on_record(view.clone(), context);
            });
        });
        if let Err(panic) = rerun {
            self.take_back();
            self.put_aside(Meta { at, partition: channel }, &view, panic);
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
            return Ok(self.staged.enter(entry, guard));
        }
        run_alone::<R::In, _>(self, entry, (guard, cx), |_, _| true)
    }

    fn on_watermark(&mut self, at: EventTime, cx: &mut Cx<'_>) -> Result<(), String> {
        self.call(at, 0, cx, |operator, context| operator.on_watermark(at, context));
        Ok(())
    }

    fn next_timer(&self) -> Option<WallTime> {
        self.due.first().copied()
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>) -> Result<(), String> {
        while let Some(at) = self.due.first().copied().filter(|at| *at <= cx.wall) {
            self.due.remove(&at);
            self.call(EventTime::MIN, 0, cx, |operator, context| operator.on_timer(at, context));
        }
        Ok(())
    }

    fn on_end(&mut self, cx: &mut Cx<'_>) -> Result<(), String> {
        self.call(EventTime::MAX, 0, cx, |operator, context| operator.on_stop(context));
        Ok(())
    }

    fn restore(&mut self, object: &SnapshotReader<'_>, _: Epoch) -> Result<(), String> {
        let mut meta = object.meta();
        let malformed = |malformed: crate::api::record::Malformed| malformed.to_string();
        let len = take_len(&mut meta, "timers").map_err(malformed)?;
        for _ in 0..len {
            self.due.insert(WallTime::decode(&mut meta).map_err(malformed)?);
        }
        let len = take_len(&mut meta, "operator state").map_err(malformed)?;
        let state = take(&mut meta, len, "operator state").map_err(malformed)?;
        self.operator.restore(state)
    }

    fn begin_snapshot(
        &mut self,
        snapshot: SnapshotOrder,
        _: &mut Cx<'_>,
    ) -> Result<Captured, String> {
        if snapshot.last {
            return Ok(Captured::default());
        }
        let mut state = Vec::new();
        self.operator.snapshot(&mut state);
        self.snapshot.clear();
        put_len(self.due.len(), &mut self.snapshot);
        for at in &self.due {
            WallTime::encode(at, &mut self.snapshot);
        }
        put_len(state.len(), &mut self.snapshot);
        self.snapshot.extend_from_slice(&state);
        Ok(Captured { state: true, whole: true, ..Captured::default() })
    }

    fn write_snapshot(&mut self, _: usize, out: &mut SnapshotWriter) -> bool {
        out.set_meta(&self.snapshot);
        true
    }

    fn state_bytes(&self) -> usize {
        self.snapshot.capacity() + self.staged.allocated()
    }
}
