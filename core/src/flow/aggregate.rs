//! Keyed aggregates without a window: count, reduce, fold, distinct.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::marker::PhantomData;
use core::ops::Range;

use arrayvec::ArrayVec;

use crate::api::key::Key;
use crate::api::record::{Owned, Record};
use crate::api::state::State;
use crate::flow::logic::{Assignment, Captured, Cx, Logic, SnapshotOrder, Work, run_alone};
use crate::flow::outputs::Outputs;
use crate::flow::push::{Entered, Guard, Meta, Push, Quarantined, guarded};
use crate::flow::segment::Staged;
use crate::flow::state::{Cursor, EntryId, SnapshotReader, SnapshotWriter, Table};
use crate::flow::tail::KeyFn;
use crate::id::Epoch;
use crate::limits::{BATCH_BYTES, RECORDS_PER_SLICE};
use crate::time::EventTime;

/// How the records of a key become one value. A call that panics leaves the value as it was.
pub trait Aggregator<T: Record>: Clone + Send + Sync + 'static {
    /// The value.
    type Value: State;

    /// The value of the first record.
    fn first(&self, view: T::View<'_>) -> Self::Value;

    /// Adds another record.
    fn add(&self, value: &mut Self::Value, view: T::View<'_>);
}

/// Counts records.
#[derive(Clone, Copy, Debug)]
pub struct Count;

impl<T: Record> Aggregator<T> for Count {
    type Value = u64;

    #[inline(always)]
    fn first(&self, _: T::View<'_>) -> u64 {
        1
    }

    #[inline(always)]
    fn add(&self, value: &mut u64, _: T::View<'_>) {
        *value += 1;
    }
}

/// Folds records into a value that begins as a given one.
#[derive(Clone, Copy, Debug)]
pub struct Fold<A, F> {
    /// The value before the first record.
    pub initial: A,
    /// Adds a record.
    pub f: F,
}

impl<T, A, F> Aggregator<T> for Fold<A, F>
where
    T: Record,
    A: State + Sync,
    F: Fn(&mut A, T::View<'_>) + Clone + Send + Sync + 'static,
{
    type Value = A;

    #[inline(always)]
    fn first(&self, view: T::View<'_>) -> A {
        let mut value = self.initial.clone();
        (self.f)(&mut value, view);
        value
    }

    // On a copy, so that a panic half-way leaves the value whole; for plain data it costs nothing.
    #[inline(always)]
    fn add(&self, value: &mut A, view: T::View<'_>) {
        let mut next = value.clone();
        (self.f)(&mut next, view);
        *value = next;
    }
}

/// Combines records pairwise.
#[derive(Clone, Copy, Debug)]
pub struct Reduce<F> {
    /// Combines the value so far with another record.
    pub f: F,
}

impl<T: Owned, F: Fn(T, T) -> T + Clone + Send + Sync + 'static> Aggregator<T> for Reduce<F> {
    type Value = T;

    #[inline(always)]
    fn first(&self, view: T) -> T {
        view
    }

    #[inline(always)]
    fn add(&self, value: &mut T, view: T) {
        *value = (self.f)(value.clone(), view);
    }
}

/// When an aggregate without a window is emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmitWhen {
    /// Once for each key, at the end of the input.
    End,
    /// After each record.
    Update,
}

/// The name of the one table of these operators in a snapshot.
const SECTION: &str = "keys";

/// Records whose keys are looked up together: as many as a core waits for at once, and some.
const AHEAD: usize = 32;

/// A look-up of a key.
#[derive(Clone, Copy)]
struct Probe {
    hash: u64,
    found: Option<EntryId>,
}

/// A value for each key.
pub(crate) struct AggregateLogic<T, K, KF, A, P>
where
    T: Record,
    K: Key,
    A: Aggregator<T>,
    A::Value: Owned,
{
    pub(crate) name: Arc<str>,
    pub(crate) key: KF,
    pub(crate) aggregator: A,
    pub(crate) when: EmitWhen,
    table: Table<K, A::Value>,
    staged: Staged<(K, A::Value), P>,
    /// Where the emission at the end has come to.
    emitting: Option<Cursor>,
    /// The staged records are at work, not the input.
    draining: bool,
    types: PhantomData<fn(T)>,
}

impl<T, K, KF, A, P> AggregateLogic<T, K, KF, A, P>
where
    T: Record,
    K: Key,
    KF: KeyFn<T, K>,
    A: Aggregator<T>,
    A::Value: Owned,
    P: Push<(K, A::Value)>,
{
    pub(crate) fn new(
        name: Arc<str>,
        key: KF,
        aggregator: A,
        when: EmitWhen,
        groups: (Range<u32>, u32),
        next: P,
    ) -> Self {
        Self {
            name,
            key,
            aggregator,
            when,
            table: Table::new(groups.0, groups.1),
            staged: Staged::new(next),
            emitting: None,
            draining: false,
            types: PhantomData,
        }
    }

    /// Adds a record to its key's value, which was `found` when it was looked up ahead.
    #[inline(always)]
    fn record(&mut self, meta: Meta, view: &T::View<'_>, key: K::View<'_>, probe: Probe) {
        let mut first = false;
        let known = probe.found.and_then(|id| self.table.value_mut(id));
        let value = match known {
            Some(value) => value,
            None => {
                let make = || {
                    first = true;
                    self.aggregator.first(view.clone())
                };
                self.table.get_or_insert_with(probe.hash, &key, make).1
            }
        };
        if !first {
            self.aggregator.add(value, view.clone());
        }
        if self.when == EmitWhen::Update {
            self.staged.push(meta, &(key, value.clone()));
        }
    }

    /// Works off some records, in some loops, so that the memory that one look-up waits for is
    /// fetched together with that of the next ones. False behind the last record.
    ///
    /// If a key function panics, the records before it have not been counted and come again.
    #[inline]
    fn some(&mut self, work: &mut Work) -> Result<bool, String> {
        let mut reader = work.batch.reader(work.cursor);
        let mut records = ArrayVec::<_, AHEAD>::new();
        while !records.is_full() {
            match reader.next::<T>() {
                Ok(Some((at, view))) => {
                    records.push((at, view, work.batch.len() - reader.remaining()));
                }
                Ok(None) => break,
                Err(malformed) => return Err(malformed.to_string()),
            }
        }
        let mut probes = ArrayVec::<_, AHEAD>::new();
        for (_, view, _) in &records {
            let key = self.key.key(view);
            probes.push((Probe { hash: K::hash(&key, 0), found: None }, key));
        }
        for (probe, key) in &mut probes {
            probe.found = self.table.guess(probe.hash, key);
        }
        for (probe, key) in &mut probes {
            probe.found = probe.found.filter(|id| self.table.confirms(*id, key));
        }
        for ((probe, key), (at, view, end)) in probes.into_iter().zip(&records) {
            self.record(Meta { at: *at, partition: work.channel }, view, key, probe);
            work.cursor = *end;
        }
        Ok(records.is_full())
    }

    #[inline]
    fn slice(&mut self, work: &mut Work) -> Result<(), String> {
        for _ in 0..RECORDS_PER_SLICE / AHEAD {
            if !self.some(work)? {
                break;
            }
        }
        Ok(())
    }
}

impl<T, K, KF, A, P> Logic for AggregateLogic<T, K, KF, A, P>
where
    T: Record,
    K: Key,
    KF: KeyFn<T, K>,
    A: Aggregator<T>,
    A::Value: Owned,
    P: Push<(K, A::Value)>,
{
    fn outputs(&mut self) -> &mut Outputs {
        self.staged.outputs()
    }

    fn start(&mut self, _: &Assignment, _: &mut Cx<'_>) -> Result<(), String> {
        Ok(())
    }

    fn drain(&mut self, _: &mut Cx<'_>) -> Result<bool, String> {
        loop {
            self.draining = true;
            let drained = self.staged.drain()?;
            self.draining = false;
            if !drained {
                return Ok(false);
            }
            let Some(cursor) = &mut self.emitting else { return Ok(true) };
            while self.staged.waiting() < BATCH_BYTES {
                let Some((_, key, value)) = self.table.next_entry(cursor) else {
                    self.emitting = None;
                    break;
                };
                let meta = Meta { at: EventTime::MAX, partition: 0 };
                self.staged.push(meta, &(key, value.clone()));
            }
        }
    }

    fn work(&mut self, work: &mut Work, cx: &mut Cx<'_>) -> Result<(), String> {
        while !work.is_done() {
            self.slice(work)?;
            if self.when == EmitWhen::Update && !self.drain(cx)? {
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
        _: &mut Cx<'_>,
    ) -> Result<(), String> {
        if core::mem::take(&mut self.draining) {
            return self.staged.rerun(guard);
        }
        let work = work.ok_or(panic)?;
        let (at, view, behind) = work.batch.record_at::<T>(work.cursor)?;
        let meta = Meta { at, partition: work.channel };
        let again = guarded(guard, || {
            let key = self.key.key(&view);
            let probe = Probe { hash: K::hash(&key, 0), found: None };
            self.record(meta, &view, key, probe);
        });
        if let Err(panic) = again {
            let name = Arc::clone(&self.name);
            self.outputs().begin_record();
            self.outputs().quarantine::<T>(&name, meta, &view, panic);
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
        run_alone::<T, _>(self, entry, (guard, cx), |it, view| {
            it.table.owns(K::hash(&it.key.key(view), 0))
        })
    }

    fn on_end(&mut self, _: &mut Cx<'_>) -> Result<(), String> {
        if self.when == EmitWhen::End {
            self.emitting = Some(Cursor::default());
        }
        Ok(())
    }

    fn restore(&mut self, object: &SnapshotReader<'_>, epoch: Epoch) -> Result<(), String> {
        restore(&mut self.table, object, SECTION, epoch)
    }

    fn begin_snapshot(
        &mut self,
        snapshot: SnapshotOrder,
        _: &mut Cx<'_>,
    ) -> Result<Captured, String> {
        begin(&mut self.table, snapshot)
    }

    fn write_snapshot(&mut self, entries: usize, out: &mut SnapshotWriter) -> bool {
        self.table.write_snapshot(SECTION, entries, out)
    }

    fn committed(&mut self, epoch: Epoch, _: &mut Cx<'_>) -> Result<(), String> {
        self.table.committed(epoch);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.table.allocated() + self.staged.allocated()
    }
}

/// Passes the first record of each key.
pub(crate) struct DistinctLogic<T: Record, K: Key, KF, P> {
    pub(crate) name: Arc<str>,
    key: KF,
    table: Table<K, bool>,
    staged: Staged<T, P>,
    draining: bool,
}

impl<T: Record, K: Key, KF: KeyFn<T, K>, P: Push<T>> DistinctLogic<T, K, KF, P> {
    pub(crate) fn new(name: Arc<str>, key: KF, groups: (Range<u32>, u32), next: P) -> Self {
        Self {
            name,
            key,
            table: Table::new(groups.0, groups.1),
            staged: Staged::new(next),
            draining: false,
        }
    }

    #[inline(always)]
    fn record(&mut self, meta: Meta, view: &T::View<'_>) {
        let key = self.key.key(view);
        let hash = K::hash(&key, 0);
        let mut first = false;
        self.table.get_or_insert_with(hash, &key, || {
            first = true;
            true
        });
        if first {
            self.staged.push(meta, view);
        }
    }
}

impl<T: Record, K: Key, KF: KeyFn<T, K>, P: Push<T>> Logic for DistinctLogic<T, K, KF, P> {
    fn outputs(&mut self) -> &mut Outputs {
        self.staged.outputs()
    }

    fn start(&mut self, _: &Assignment, _: &mut Cx<'_>) -> Result<(), String> {
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
                match reader.next::<T>() {
                    Ok(Some((at, view))) => {
                        self.record(Meta { at, partition: work.channel }, &view);
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
        _: &mut Cx<'_>,
    ) -> Result<(), String> {
        if core::mem::take(&mut self.draining) {
            return self.staged.rerun(guard);
        }
        let work = work.ok_or(panic)?;
        let (at, view, behind) = work.batch.record_at::<T>(work.cursor)?;
        let meta = Meta { at, partition: work.channel };
        if let Err(panic) = guarded(guard, || self.record(meta, &view)) {
            let name = Arc::clone(&self.name);
            self.outputs().begin_record();
            self.outputs().quarantine::<T>(&name, meta, &view, panic);
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
        run_alone::<T, _>(self, entry, (guard, cx), |it, view| {
            it.table.owns(K::hash(&it.key.key(view), 0))
        })
    }

    fn restore(&mut self, object: &SnapshotReader<'_>, epoch: Epoch) -> Result<(), String> {
        restore(&mut self.table, object, SECTION, epoch)
    }

    fn begin_snapshot(
        &mut self,
        snapshot: SnapshotOrder,
        _: &mut Cx<'_>,
    ) -> Result<Captured, String> {
        begin(&mut self.table, snapshot)
    }

    fn write_snapshot(&mut self, entries: usize, out: &mut SnapshotWriter) -> bool {
        self.table.write_snapshot(SECTION, entries, out)
    }

    fn committed(&mut self, epoch: Epoch, _: &mut Cx<'_>) -> Result<(), String> {
        self.table.committed(epoch);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.table.allocated() + self.staged.allocated()
    }
}

/// Takes a table's part of a snapshot object.
pub(crate) fn restore<K: Key, V: State>(
    table: &mut Table<K, V>,
    object: &SnapshotReader<'_>,
    section: &str,
    epoch: Epoch,
) -> Result<(), String> {
    table.restore(object, section).map_err(|error| error.to_string())?;
    table.restored(epoch);
    Ok(())
}

/// Begins a table's snapshot; at the end of the stream there is nothing to keep.
pub(crate) fn begin<K: Key, V: State>(
    table: &mut Table<K, V>,
    snapshot: SnapshotOrder,
) -> Result<Captured, String> {
    if snapshot.last {
        return Ok(Captured::default());
    }
    table.begin_snapshot(snapshot.epoch, snapshot.base);
    Ok(Captured { state: true, ..Captured::default() })
}
