//! What a task drives: one processor's operators, erased once a batch.

use alloc::string::String;
use alloc::vec::Vec;

use crate::api::files::Files;
use crate::api::record::Record;
use crate::api::sink::{Answered, IoQueue, Waiting, describe};
use crate::api::source::ConnectorFigure;
use crate::effect::IoError;
use crate::flow::batch::Batch;
use crate::flow::outputs::Outputs;
use crate::flow::push::{Entered, Guard, Quarantined, guarded, view_of};
use crate::flow::state::{SnapshotReader, SnapshotWriter};
use crate::id::{Attempt, Epoch, TaskId, Token};
use crate::message::{ObjectRef, Partition, Pending};
use crate::time::{EventTime, Time, WallTime};

/// What an operator may use while it runs.
pub struct Cx<'a> {
    /// The monotonic time.
    pub now: Time,
    /// The wall-clock time.
    pub wall: WallTime,
    /// Files to read.
    pub files: &'a mut dyn Files,
    /// I/O of the sink.
    pub io: &'a mut IoQueue,
}

/// A batch that is being worked through.
#[derive(Debug)]
pub struct Work {
    /// The records.
    pub batch: Batch,
    /// Bytes of the batch that are done; stays at a record's begin while it is processed.
    pub cursor: usize,
    /// The input port.
    pub port: u32,
    /// The number of the input channel.
    pub channel: u32,
}

impl Work {
    /// True if every record is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.cursor >= self.batch.len()
    }
}

/// Runs the record of an entry through a logic as if it had come over the channel that it came over
/// at first; `owns` says whether it is this task's.
///
/// # Errors
/// What the user should know.
pub(crate) fn run_alone<T: Record, L: Logic>(
    logic: &mut L,
    entry: &Quarantined,
    (guard, cx): (&mut dyn Guard, &mut Cx<'_>),
    owns: impl Fn(&L, &T::View<'_>) -> bool,
) -> Result<Entered, String> {
    let Some(view) = view_of::<T>(entry) else { return Ok(Entered::Changed) };
    // One whose key cannot be told is the operator's to refuse again.
    if guarded(guard, || owns(logic, &view)).is_ok_and(|owned| !owned) {
        return Ok(Entered::Elsewhere);
    }
    let mut batch = Batch::new(Vec::new(), true);
    batch.push::<T>(entry.at, &view);
    let channel = entry.partition.strip_prefix(CHANNEL).and_then(|number| number.parse().ok());
    let mut work = Work { batch, cursor: 0, port: 0, channel: channel.unwrap_or(0) };
    match guarded(guard, || logic.work(&mut work, cx)) {
        Ok(result) => result?,
        Err(panic) => logic.rerun(Some(&mut work), panic, guard, cx)?,
    }
    if !work.is_done() {
        return Err("a record of the quarantine was given where there was no room for it; this \
                    is a defect of Gear: please report it"
            .into());
    }
    Ok(Entered::Taken)
}

/// How an input channel is called in the quarantine, before its number.
pub(crate) const CHANNEL: &str = "input ";

/// What a source's turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// There is more.
    More,
    /// There is nothing until this time, or until it is woken.
    Wait(Time),
    /// There will never be more.
    End,
}

/// One processor's operators in one task.
///
/// Every call leaves the logic consistent, even one that panics: [`Self::rerun`] then repeats the
/// record at hand with a guard around every operator. What does not fit in a call is left for
/// [`Self::drain`].
pub trait Logic: Send {
    /// The task's outputs.
    fn outputs(&mut self) -> &mut Outputs;

    /// Begins, after every [`Self::restore`].
    ///
    /// # Errors
    /// What the user should know.
    fn start(&mut self, assignment: &Assignment, cx: &mut Cx<'_>) -> Result<(), String>;

    /// Goes on with what earlier calls left; true if nothing is left.
    ///
    /// # Errors
    /// What the user should know.
    fn drain(&mut self, cx: &mut Cx<'_>) -> Result<bool, String> {
        let _ = cx;
        Ok(true)
    }

    /// Works through a batch, or as much of it as the outputs have room for.
    ///
    /// # Errors
    /// What the user should know.
    fn work(&mut self, work: &mut Work, cx: &mut Cx<'_>) -> Result<(), String> {
        let _ = (work, cx);
        Err("a source has no input".into())
    }

    /// A source's turn.
    ///
    /// # Errors
    /// What the user should know.
    fn poll(&mut self, cx: &mut Cx<'_>) -> Result<Polled, String> {
        let _ = cx;
        Err("only a source is polled".into())
    }

    /// After a call panicked: repeats the record at hand under the guard.
    ///
    /// # Errors
    /// `panic`, if no record was at hand.
    fn rerun(
        &mut self,
        work: Option<&mut Work>,
        panic: String,
        guard: &mut dyn Guard,
        cx: &mut Cx<'_>,
    ) -> Result<(), String>;

    /// Gives a record that was put aside to the operator that refused it. What it puts aside once
    /// more is in the outputs. Only when nothing is left to drain.
    ///
    /// # Errors
    /// What the user should know.
    fn replay(
        &mut self,
        entry: &Quarantined,
        guard: &mut dyn Guard,
        cx: &mut Cx<'_>,
    ) -> Result<Entered, String>;

    /// The task's clock has advanced.
    ///
    /// # Errors
    /// What the user should know.
    fn on_watermark(&mut self, at: EventTime, cx: &mut Cx<'_>) -> Result<(), String> {
        let _ = (at, cx);
        Ok(())
    }

    /// The wall-clock time of the next processing-time timer.
    fn next_timer(&self) -> Option<WallTime> {
        None
    }

    /// A processing-time timer is due.
    ///
    /// # Errors
    /// What the user should know.
    fn on_timer(&mut self, cx: &mut Cx<'_>) -> Result<(), String> {
        let _ = cx;
        Ok(())
    }

    /// Nothing waits at the inputs: what is held back for company may go.
    fn idle(&mut self, cx: &mut Cx<'_>) {
        let _ = cx;
    }

    /// The inputs have ended.
    ///
    /// # Errors
    /// What the user should know.
    fn on_end(&mut self, cx: &mut Cx<'_>) -> Result<(), String> {
        let _ = cx;
        Ok(())
    }

    /// Takes state from an object of the restored epoch. Objects of a chain come in order.
    ///
    /// # Errors
    /// What the user should know.
    fn restore(&mut self, object: &SnapshotReader<'_>, epoch: Epoch) -> Result<(), String> {
        let _ = (object, epoch);
        Ok(())
    }

    /// The barrier: what is written from now on belongs to the next epoch.
    ///
    /// # Errors
    /// What the user should know.
    fn begin_snapshot(
        &mut self,
        snapshot: SnapshotOrder,
        cx: &mut Cx<'_>,
    ) -> Result<Captured, String>;

    /// Writes a slice of the snapshot; true when it is whole.
    fn write_snapshot(&mut self, entries: usize, out: &mut SnapshotWriter) -> bool {
        let _ = (entries, out);
        true
    }

    /// This epoch has committed.
    ///
    /// # Errors
    /// What the user should know.
    fn committed(&mut self, epoch: Epoch, cx: &mut Cx<'_>) -> Result<(), String> {
        let _ = (epoch, cx);
        Ok(())
    }

    /// What it has asked for was performed, or was not.
    ///
    /// # Errors
    /// What the user should know.
    fn answered(
        &mut self,
        token: Token,
        result: Result<Vec<u8>, IoError>,
        cx: &mut Cx<'_>,
    ) -> Result<Answered, String> {
        let _ = (token, cx);
        result.map(|_| Answered::Done).map_err(|error| describe(&error))
    }

    /// Output that is not yet visible.
    fn waiting(&self) -> Waiting {
        Waiting::default()
    }

    /// Bytes of state, for the memory budget.
    fn state_bytes(&self) -> usize {
        0
    }

    /// Records and bytes that a source has read.
    fn read(&self) -> (u64, u64) {
        (0, 0)
    }

    /// Records that came too late for their window.
    fn late(&self) -> u64 {
        0
    }

    /// Something that the user should know although all goes on; each is given once.
    fn notice(&mut self) -> Option<String> {
        None
    }

    /// Figures of its connector.
    fn figures(&self) -> Vec<ConnectorFigure> {
        Vec::new()
    }
}

/// What a task starts with.
#[derive(Clone, Debug, Default)]
pub struct Assignment {
    /// A source's partitions.
    pub partitions: Vec<Partition>,
    /// A sink's accounts of the restored epoch.
    pub pending: Vec<Pending>,
    /// Records read before the restored epoch.
    pub records: u64,
}

/// Which snapshot is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOrder {
    /// The epoch that ends here.
    pub epoch: Epoch,
    /// What changed since then is written; everything if none.
    pub base: Option<Epoch>,
    /// Nothing follows: state has no further use.
    pub last: bool,
}

/// What is known of a snapshot at its barrier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// True if [`Logic::write_snapshot`] has something to write.
    pub state: bool,
    /// What is written stands alone: objects of earlier epochs are not needed with it.
    pub whole: bool,
    /// A source's partitions.
    pub partitions: Vec<Partition>,
    /// A sink's account.
    pub pending: Vec<u8>,
    /// The objects that it needs.
    pub objects: Vec<ObjectRef>,
}

/// Which task a logic is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskInfo {
    /// The app's name.
    pub app: String,
    /// The task.
    pub task: TaskId,
    /// The processor's stable name.
    pub uid: String,
    /// The processor's parallelism.
    pub parallelism: u32,
    /// The app's key groups.
    pub key_groups: u32,
    /// Which attempt of the task this is.
    pub attempt: Attempt,
}

/// Makes the logic of one task.
pub type Factory =
    alloc::sync::Arc<dyn Fn(&TaskInfo, Outputs) -> alloc::boxed::Box<dyn Logic> + Send + Sync>;
