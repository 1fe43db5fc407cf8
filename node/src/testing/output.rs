//! What a test takes from a job.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gear_core::api::sink::{Sink, SinkConnector, SinkContext, SinkTask};
use gear_core::api::{Owned, Record};
use gear_core::flow::push::Meta;
use gear_core::id::Epoch;
use gear_core::message::Pending;
use gear_core::time::EventTime;

/// What has come to a sink of the job, made by [`output`] or [`output_with`].
///
/// What came behind the last epoch is lost in a crash, as everything that is not committed. Clones
/// are the same output.
#[derive(Debug)]
pub struct Output<O> {
    arrivals: Arc<Mutex<Vec<Arrival<O>>>>,
}

#[derive(Debug)]
struct Arrival<O> {
    record: O,
    at: EventTime,
    /// The index of the sink's task.
    index: u32,
    stage: Stage,
    taken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    Prepared(Epoch),
    Committed,
}

impl<O> Output<O> {
    /// An empty output.
    #[must_use]
    pub fn new() -> Self {
        Self { arrivals: Arc::new(Mutex::new(Vec::new())) }
    }

    fn arrivals(&self) -> MutexGuard<'_, Vec<Arrival<O>>> {
        // Every change leaves it whole.
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, index: u32, until: Epoch) {
        for arrival in &mut *self.arrivals() {
            if let Stage::Prepared(epoch) = arrival.stage
                && arrival.index == index
                && epoch <= until
            {
                arrival.stage = Stage::Committed;
            }
        }
    }
}

impl<O: Clone> Output<O> {
    /// What has come since the last call, committed or not, in the order in which it came.
    #[must_use]
    pub fn take(&self) -> Vec<O> {
        self.take_timed().into_iter().map(|(_, record)| record).collect()
    }

    /// As [`Self::take`], each with its event time.
    #[must_use]
    pub fn take_timed(&self) -> Vec<(EventTime, O)> {
        let mut arrivals = self.arrivals();
        let new = arrivals.iter_mut().filter(|arrival| !arrival.taken);
        new.map(|arrival| {
            arrival.taken = true;
            (arrival.at, arrival.record.clone())
        })
        .collect()
    }

    /// All that has been committed, taken or not.
    #[must_use]
    pub fn committed(&self) -> Vec<O> {
        let arrivals = self.arrivals();
        let committed = arrivals.iter().filter(|arrival| arrival.stage == Stage::Committed);
        committed.map(|arrival| arrival.record.clone()).collect()
    }
}

impl<O> Default for Output<O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O> Clone for Output<O> {
    fn clone(&self) -> Self {
        Self { arrivals: Arc::clone(&self.arrivals) }
    }
}

/// The sink of a job that writes to an [`Output`].
#[must_use]
pub fn output<T: Owned>(output: &Output<T>) -> OutputSink<T, T> {
    output_with(output, |view: T| view)
}

/// A sink for records that borrow: `own` makes of each what is kept.
#[must_use]
pub fn output_with<T: Record, O: Send + 'static>(
    output: &Output<O>,
    own: impl for<'a> Fn(T::View<'a>) -> O + Send + Sync + 'static,
) -> OutputSink<T, O> {
    OutputSink { output: output.clone(), own: Arc::new(own), types: PhantomData }
}

type Own<T, O> = dyn for<'a> Fn(<T as Record>::View<'a>) -> O + Send + Sync;

/// Writes to an [`Output`]; made by [`output`] and [`output_with`].
pub struct OutputSink<T: Record, O> {
    output: Output<O>,
    own: Arc<Own<T, O>>,
    types: PhantomData<fn() -> T>,
}

impl<T: Record, O: Send + 'static> SinkConnector for OutputSink<T, O> {
    type Sink = OutputWriter<T, O>;

    fn sink(&self, task: &SinkTask) -> OutputWriter<T, O> {
        OutputWriter {
            output: self.output.clone(),
            own: Arc::clone(&self.own),
            index: task.index,
            parallelism: task.parallelism,
        }
    }

    fn transactional(&self) -> bool {
        true
    }
}

/// Writes the records of one task to an [`Output`].
pub struct OutputWriter<T: Record, O> {
    output: Output<O>,
    own: Arc<Own<T, O>>,
    index: u32,
    parallelism: u32,
}

impl<T: Record, O: Send + 'static> Sink for OutputWriter<T, O> {
    type In = T;

    fn open(&mut self, pending: &[Pending], _: &mut SinkContext<'_>) -> Result<(), String> {
        for Pending { index, bytes, .. } in pending {
            let epoch = bytes.as_slice().try_into().map(u64::from_le_bytes);
            self.output.commit(*index, Epoch(epoch.unwrap_or(0)));
        }
        // The accounts of an old task are given to the new one that has its place.
        let (index, parallelism) = (self.index, self.parallelism);
        self.output.arrivals().retain(|arrival| {
            arrival.stage == Stage::Committed || arrival.index % parallelism != index
        });
        Ok(())
    }

    fn write(
        &mut self,
        meta: Meta,
        view: T::View<'_>,
        _: &mut SinkContext<'_>,
    ) -> Result<(), String> {
        let record = (self.own)(view);
        self.output.arrivals().push(Arrival {
            record,
            at: meta.at,
            index: self.index,
            stage: Stage::Open,
            taken: false,
        });
        Ok(())
    }

    fn prepare(
        &mut self,
        epoch: Epoch,
        _: bool,
        _: &mut SinkContext<'_>,
    ) -> Result<Vec<u8>, String> {
        for arrival in &mut *self.output.arrivals() {
            if arrival.index == self.index && arrival.stage == Stage::Open {
                arrival.stage = Stage::Prepared(epoch);
            }
        }
        Ok(epoch.0.to_le_bytes().to_vec())
    }

    fn commit(&mut self, epoch: Epoch, _: &mut SinkContext<'_>) -> Result<(), String> {
        self.output.commit(self.index, epoch);
        Ok(())
    }
}
