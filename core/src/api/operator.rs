//! The low-level operator: what the graph API runs without the DSL.

use alloc::string::String;
use alloc::vec::Vec;

use crate::api::record::Record;
use crate::flow::outputs::Outputs;
use crate::flow::push::Meta;
use crate::time::{EventTime, Time, WallTime};

/// An operator written by hand, one value per task.
///
/// Its state is its own: a few values for the task, saved whole at each barrier. State that belongs
/// to keys, and that follows them when the parallelism changes, is [`crate::api::Process`]'s.
pub trait Operator: Clone + Send + Sync + 'static {
    /// What it takes.
    type In: Record;
    /// What it emits.
    type Out: Record;

    /// Begins, after [`Self::restore`].
    fn on_start(&mut self, cx: &mut OperatorContext<'_, Self::Out>) {
        let _ = cx;
    }

    /// Takes a record. A panic puts the record aside and takes back what it emitted, but not what
    /// it changed in `self`; and since the record at hand is tried a second time, to see that it
    /// is the one, that happens twice. So check first, then change.
    fn on_record(
        &mut self,
        record: <Self::In as Record>::View<'_>,
        cx: &mut OperatorContext<'_, Self::Out>,
    );

    /// The task's clock has advanced.
    fn on_watermark(&mut self, at: EventTime, cx: &mut OperatorContext<'_, Self::Out>) {
        let _ = (at, cx);
    }

    /// A timer that was set is due.
    fn on_timer(&mut self, at: WallTime, cx: &mut OperatorContext<'_, Self::Out>) {
        let _ = (at, cx);
    }

    /// Appends the state, at a barrier.
    fn snapshot(&self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Takes the state of one of the tasks that this one succeeds; called once for each.
    ///
    /// # Errors
    /// What the user should change.
    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        let _ = state;
        Ok(())
    }

    /// The inputs have ended: the last chance to emit.
    fn on_stop(&mut self, cx: &mut OperatorContext<'_, Self::Out>) {
        let _ = cx;
    }
}

/// What an [`Operator`] may use.
pub struct OperatorContext<'a, O: Record> {
    /// The monotonic time.
    pub now: Time,
    /// The wall-clock time.
    pub wall: WallTime,
    /// The event time of the record at hand.
    pub at: EventTime,
    /// The number of the channel from which the record came.
    pub channel: u32,
    pub(crate) timers: &'a mut Vec<WallTime>,
    pub(crate) emit: &'a mut dyn FnMut(Meta, O::View<'_>),
    pub(crate) side: &'a mut Outputs,
}

impl<O: Record> OperatorContext<'_, O> {
    /// Emits a record with the event time of the one at hand.
    pub fn emit(&mut self, record: O::View<'_>) {
        (self.emit)(Meta { at: self.at, partition: self.channel }, record);
    }

    /// Emits a record with an event time of its own.
    pub fn emit_at(&mut self, at: EventTime, record: O::View<'_>) {
        (self.emit)(Meta { at, partition: self.channel }, record);
    }

    /// Asks for [`Operator::on_timer`] at a wall-clock time.
    pub fn set_timer(&mut self, at: WallTime) {
        self.timers.push(at);
    }

    /// Puts a record aside with a reason.
    pub fn quarantine<T: Record>(&mut self, operator: &str, record: T::View<'_>, error: String) {
        let meta = Meta { at: self.at, partition: self.channel };
        self.side.quarantine::<T>(operator, meta, &record, error);
    }
}
