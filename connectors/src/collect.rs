//! A sink that keeps committed records in memory, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gear_core::api::sink::{Sink, SinkConnector, SinkContext, SinkTask};
use gear_core::api::{Owned, Record};
use gear_core::flow::push::Meta;
use gear_core::id::{Attempt, Epoch};
use gear_core::message::Pending;

use crate::versioned;

const TAG: u8 = b'C';
const VERSION: u8 = 2;

/// A sink, and what has been committed to it.
#[must_use]
pub fn sink<T: Owned>() -> (Collected<T>, CollectSink<T, T>) {
    sink_with(|view: T| view)
}

/// A sink for records that borrow: `own` makes of each what is kept.
#[must_use]
pub fn sink_with<T: Record, O: Send + 'static>(
    own: impl for<'a> Fn(T::View<'a>) -> O + Send + Sync + 'static,
) -> (Collected<O>, CollectSink<T, O>) {
    let shared = Arc::new(Mutex::new(Shared { committed: Vec::new(), staged: BTreeMap::new() }));
    let sink = CollectSink { shared: Arc::clone(&shared), own: Arc::new(own) };
    (Collected { shared }, sink)
}

/// Outlives the tasks, as a disk would.
struct Shared<O> {
    committed: Vec<O>,
    staged: BTreeMap<(u32, Staged), Vec<O>>,
}

/// What is staged at a barrier. An attempt that was given up may go on staging.
type Staged = (Epoch, Attempt);

impl<O> Shared<O> {
    fn commit(&mut self, index: u32, staged: Staged) {
        let staged = self.staged.remove(&(index, staged));
        self.committed.extend(staged.into_iter().flatten());
    }
}

fn lock<O>(shared: &Mutex<Shared<O>>) -> MutexGuard<'_, Shared<O>> {
    // Every change is one call that cannot stop half-way.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The committed records, in the order of their commits.
pub struct Collected<O> {
    shared: Arc<Mutex<Shared<O>>>,
}

impl<O> Collected<O> {
    /// Takes what has been committed since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<O> {
        std::mem::take(&mut lock(&self.shared).committed)
    }

    /// A copy of what has been committed and not taken.
    #[must_use]
    pub fn records(&self) -> Vec<O>
    where
        O: Clone,
    {
        lock(&self.shared).committed.clone()
    }
}

impl<O> Clone for Collected<O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<O> Debug for Collected<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collected").field("len", &lock(&self.shared).committed.len()).finish()
    }
}

type Own<T, O> = dyn for<'a> Fn(<T as Record>::View<'a>) -> O + Send + Sync;

/// The sink; made by [`sink`] and [`sink_with`].
pub struct CollectSink<T: Record, O = T> {
    shared: Arc<Mutex<Shared<O>>>,
    own: Arc<Own<T, O>>,
}

impl<T: Record, O> Clone for CollectSink<T, O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), own: Arc::clone(&self.own) }
    }
}

impl<T: Record, O> Debug for CollectSink<T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CollectSink")
    }
}

impl<T: Record, O: Send + 'static> SinkConnector for CollectSink<T, O> {
    type Sink = Collector<T, O>;

    fn sink(&self, task: &SinkTask) -> Collector<T, O> {
        Collector {
            index: task.index,
            attempt: task.attempt,
            connector: self.clone(),
            records: Vec::new(),
            prepared: BTreeSet::new(),
        }
    }

    fn transactional(&self) -> bool {
        true
    }
}

/// Collects the records of one task.
pub struct Collector<T: Record, O = T> {
    index: u32,
    attempt: Attempt,
    connector: CollectSink<T, O>,
    records: Vec<O>,
    /// What is staged. What others left there under later epochs is never committed.
    prepared: BTreeSet<Staged>,
}

impl<T: Record, O> Debug for Collector<T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("index", &self.index).finish_non_exhaustive()
    }
}

impl<T: Record, O: Send + 'static> Sink for Collector<T, O> {
    type In = T;

    fn open(&mut self, pending: &[Pending], _: &mut SinkContext<'_>) -> Result<(), String> {
        for Pending { index, bytes, .. } in pending {
            let what = "the account of a collecting sink";
            let epochs: BTreeSet<Staged> = versioned::decode(TAG, VERSION, what, bytes)?;
            let mut shared = lock(&self.connector.shared);
            epochs.into_iter().for_each(|staged| shared.commit(*index, staged));
        }
        Ok(())
    }

    fn write(&mut self, _: Meta, view: T::View<'_>, _: &mut SinkContext<'_>) -> Result<(), String> {
        self.records.push((self.connector.own)(view));
        Ok(())
    }

    fn prepare(
        &mut self,
        epoch: Epoch,
        _: bool,
        _: &mut SinkContext<'_>,
    ) -> Result<Vec<u8>, String> {
        let records = std::mem::take(&mut self.records);
        let staged = (epoch, self.attempt);
        lock(&self.connector.shared).staged.insert((self.index, staged), records);
        self.prepared.insert(staged);
        versioned::encode(TAG, VERSION, &self.prepared)
    }

    fn commit(&mut self, epoch: Epoch, _: &mut SinkContext<'_>) -> Result<(), String> {
        let later = self.prepared.split_off(&(epoch.next(), Attempt::default()));
        for staged in std::mem::replace(&mut self.prepared, later) {
            lock(&self.connector.shared).commit(self.index, staged);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gear_core::api::sink::IoQueue;
    use gear_core::time::{EventTime, Time, WallTime};

    use super::*;

    #[test]
    fn records_are_seen_with_their_epoch_and_once() {
        let (collected, connector) = sink::<u64>();
        let attempt = Attempt(1);
        let task = SinkTask {
            app: "app".to_owned(),
            name: "out".to_owned(),
            index: 1,
            parallelism: 2,
            attempt,
        };
        let meta = Meta { at: EventTime::MIN, partition: 0 };
        let mut io = IoQueue::default();
        let mut cx = SinkContext { now: Time::ZERO, wall: WallTime(0), io: &mut io };
        let mut first = connector.sink(&task);
        first.open(&[], &mut cx).unwrap();
        first.write(meta, 1, &mut cx).unwrap();
        let account = first.prepare(Epoch(1), false, &mut cx).unwrap();
        first.write(meta, 2, &mut cx).unwrap();
        first.prepare(Epoch(2), false, &mut cx).unwrap();
        assert!(collected.records().is_empty());

        let mut second = connector.sink(&SinkTask { index: 0, ..task });
        let pending = [Pending { index: 1, bytes: account, objects: Vec::new() }];
        second.open(&pending, &mut cx).unwrap();
        assert_eq!(collected.records(), [1]);
        second.open(&pending, &mut cx).unwrap();
        first.commit(Epoch(1), &mut cx).unwrap();
        second.commit(Epoch(3), &mut cx).unwrap();
        assert_eq!(collected.take(), [1], "epoch 2 was given up");
    }
}
