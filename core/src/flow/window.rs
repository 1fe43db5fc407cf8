//! Event-time windows over keyed streams: tumbling and sliding, with lateness and a late output.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::api::key::{Key, Scoped, key_group};
use crate::api::record::{Malformed, Owned, Record};
use crate::api::state::State;
use crate::flow::aggregate::{Aggregator, begin, restore};
use crate::flow::batch::Mark;
use crate::flow::logic::{Assignment, Captured, Cx, Logic, SnapshotOrder, Work, run_alone};
use crate::flow::outputs::Outputs;
use crate::flow::push::{Entered, Guard, Meta, Push, Quarantined, guarded};
use crate::flow::segment::Staged;
use crate::flow::state::{EntryId, SnapshotReader, SnapshotWriter, Table};
use crate::flow::tail::KeyFn;
use crate::id::Epoch;
use crate::limits::{BATCH_BYTES, RECORDS_PER_SLICE};
use crate::time::{Duration, EventTime};

/// The windows that a record belongs to: `[start, start + size)` for each start that is a multiple
/// of `slide` (from 1970) and whose window holds the record's event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// The length of a window.
    pub size: Duration,
    /// The distance between two windows; equal to `size` for tumbling ones.
    pub slide: Duration,
    /// How long behind its end a window still takes records.
    pub lateness: Duration,
}

impl Windows {
    /// The starts of the windows that hold `at`, from the latest to the earliest.
    pub fn starts(self, at: EventTime) -> impl Iterator<Item = EventTime> {
        let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        let (slide, size) = (micros(self.slide), micros(self.size));
        let last = at.0.div_euclid(slide).saturating_mul(slide);
        (0..).map_while(move |back: i64| {
            let start = last.checked_sub(back.checked_mul(slide)?)?;
            (at.0.saturating_sub(start) < size).then_some(EventTime(start))
        })
    }

    /// The end of the window that starts at `start`: the first time that is not in it.
    #[must_use]
    pub fn end(self, start: EventTime) -> EventTime {
        start + self.size
    }
}

/// A window's bounds in a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    /// The first time in the window.
    pub start: EventTime,
    /// The first time behind it.
    pub end: EventTime,
}

impl Record for Window {
    type View<'a> = Self;

    fn encode(view: &Self, out: &mut Vec<u8>) {
        EventTime::encode(&view.start, out);
        EventTime::encode(&view.end, out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        Ok(Self { start: EventTime::decode(input)?, end: EventTime::decode(input)? })
    }

    fn type_name(out: &mut String) {
        out.push_str("Window");
    }
}

/// The value of a key in a window, and whether it has been emitted.
#[derive(Clone, Debug)]
pub(crate) struct Pane<V> {
    value: V,
    fired: bool,
}

impl<V: State> State for Pane<V> {
    fn save(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.fired));
        self.value.save(out);
    }

    fn load(input: &mut &[u8]) -> Result<Self, Malformed> {
        Ok(Self { fired: bool::decode(input)?, value: V::load(input)? })
    }

    fn heap_bytes(&self) -> usize {
        self.value.heap_bytes()
    }

    fn state_name(out: &mut String) {
        out.push_str("pane ");
        V::state_name(out);
    }
}

/// The port of the records that came too late for every window of theirs.
pub(crate) const LATE_PORT: usize = 1;

const SECTION: &str = "windows";
const META_CLOCK: &str = "clock";

/// Key groups from the first to before the second, and how far event time had come for them.
type GroupClock = (u32, u32, EventTime);

/// A value for each key and window.
pub(crate) struct WindowLogic<T, K, KF, A, P>
where
    T: Record,
    K: Key,
    A: Aggregator<T>,
    A::Value: Owned,
{
    name: Arc<str>,
    key: KF,
    aggregator: A,
    windows: Windows,
    table: Table<Scoped<EventTime, K>, Pane<A::Value>>,
    /// The entries of each open window, by its start; built again from the table on a restore.
    open: BTreeMap<EventTime, Vec<EntryId>>,
    clock: EventTime,
    /// Groups that came from a task whose clock was ahead of ours: what was over there stays over.
    ahead: Vec<GroupClock>,
    groups: (Range<u32>, u32),
    /// What each task whose state was restored said in its last object, by its groups.
    restored: BTreeMap<(u32, u32), Vec<GroupClock>>,
    /// What is still to be emitted or removed since the clock last advanced.
    due: VecDeque<Due>,
    staged: Staged<(K, Window, A::Value), P>,
    draining: bool,
    late: u64,
    late_port: bool,
    /// The clocks at the barrier, encoded for the snapshot.
    saved_clocks: Vec<u8>,
    /// The panes as they were before the record at hand, and where its results begin.
    undo: Vec<(EventTime, EntryId, Option<Pane<A::Value>>)>,
    mark: Mark,
    types: PhantomData<fn(T)>,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    Fire { start: EventTime, from: usize },
    Drop { start: EventTime, from: usize },
}

impl<T, K, KF, A, P> WindowLogic<T, K, KF, A, P>
where
    T: Record,
    K: Key,
    KF: KeyFn<T, K>,
    A: Aggregator<T>,
    A::Value: Owned,
    P: Push<(K, Window, A::Value)>,
{
    pub(crate) fn new(
        name: Arc<str>,
        key: KF,
        aggregator: A,
        windows: Windows,
        late_port: bool,
        groups: (Range<u32>, u32),
        next: P,
    ) -> Self {
        Self {
            name,
            key,
            aggregator,
            windows,
            table: Table::new(groups.0.clone(), groups.1),
            open: BTreeMap::new(),
            clock: EventTime::MIN,
            ahead: Vec::new(),
            groups,
            restored: BTreeMap::new(),
            due: VecDeque::new(),
            staged: Staged::new(next),
            draining: false,
            late: 0,
            late_port,
            saved_clocks: Vec::new(),
            undo: Vec::new(),
            mark: Mark::default(),
            types: PhantomData,
        }
    }

    fn bounds(&self, start: EventTime) -> Window {
        Window { start, end: self.windows.end(start) }
    }

    #[inline(always)]
    fn record(&mut self, meta: Meta, view: &T::View<'_>) {
        // First of all, so that a panic of the key takes nothing back from the record before.
        self.undo.clear();
        self.mark = self.staged.mark();
        let key = self.key.key(view);
        let hash = K::hash(&key, 0);
        let clock = if self.ahead.is_empty() { self.clock } else { self.clock_of(hash) };
        let mut taken = false;
        for start in self.windows.starts(meta.at) {
            let bounds = self.bounds(start);
            if bounds.end + self.windows.lateness <= clock {
                // Earlier windows are over as well.
                break;
            }
            let pane_key = (start, key.clone());
            let mut first = false;
            let (id, pane, _) = self.table.get_or_insert_with(hash, &pane_key, || {
                first = true;
                Pane { value: self.aggregator.first(view.clone()), fired: false }
            });
            if first {
                self.open.entry(start).or_default().push(id);
                self.undo.push((start, id, None));
            } else {
                self.undo.push((start, id, Some(pane.clone())));
                self.aggregator.add(&mut pane.value, view.clone());
            }
            taken = true;
            if bounds.end <= clock {
                pane.fired = true;
                let meta = Meta { at: EventTime(bounds.end.0 - 1), ..meta };
                self.staged.push(meta, &(key.clone(), bounds, pane.value.clone()));
            }
        }
        if !taken {
            self.too_late(meta, view);
        }
    }

    /// How far event time has come for a key.
    #[cold]
    fn clock_of(&self, hash: u64) -> EventTime {
        let group = key_group(hash, self.groups.1);
        let ahead = self.ahead.iter().filter(|(start, end, _)| (*start..*end).contains(&group));
        ahead.map(|(_, _, clock)| *clock).fold(self.clock, EventTime::max)
    }

    /// Takes back what the record at hand has done to its windows before it panicked.
    fn take_back(&mut self) {
        for (start, id, before) in core::mem::take(&mut self.undo) {
            match before {
                Some(pane) => {
                    if let Some(now) = self.table.value_mut(id) {
                        *now = pane;
                    }
                }
                None => {
                    self.table.remove_id(id);
                    if let Some(ids) = self.open.get_mut(&start) {
                        ids.retain(|other| *other != id);
                    }
                }
            }
        }
        self.staged.cut(self.mark);
    }

    #[cold]
    fn too_late(&mut self, meta: Meta, view: &T::View<'_>) {
        self.late += 1;
        if self.late_port {
            let outputs = self.staged.outputs();
            outputs.begin_record();
            outputs.push::<T>(LATE_PORT, 0, meta, view);
        }
    }

    /// Emits or removes one window's panes; true when it is done with what was due.
    fn step(&mut self, due: Due) -> Option<Due> {
        let (start, from) = match due {
            Due::Fire { start, from } | Due::Drop { start, from } => (start, from),
        };
        let bounds = self.bounds(start);
        let ids = self.open.get(&start)?;
        let end = ids.len().min(from + RECORDS_PER_SLICE);
        for id in &ids[from..end] {
            match due {
                Due::Fire { .. } => {
                    let Some((key, value)) = fire(&mut self.table, *id) else { continue };
                    let meta = Meta { at: EventTime(bounds.end.0 - 1), partition: 0 };
                    self.staged.push(meta, &(key, bounds, value));
                }
                Due::Drop { .. } => {
                    self.table.remove_id(*id);
                }
            }
        }
        if end < ids.len() {
            return Some(match due {
                Due::Fire { .. } => Due::Fire { start, from: end },
                Due::Drop { .. } => Due::Drop { start, from: end },
            });
        }
        if matches!(due, Due::Drop { .. }) {
            self.open.remove(&start);
        }
        None
    }
}

/// Marks a pane as emitted and gives its key and value, if it has not been before.
fn fire<K: Key, V: Owned>(
    table: &mut Table<Scoped<EventTime, K>, Pane<V>>,
    id: EntryId,
) -> Option<(K::View<'_>, V)> {
    if table.value(id)?.fired {
        return None;
    }
    let pane = table.value_mut(id)?;
    pane.fired = true;
    let value = pane.value.clone();
    let (_, key) = table.key(id);
    Some((key, value))
}

impl<T, K, KF, A, P> Logic for WindowLogic<T, K, KF, A, P>
where
    T: Record,
    K: Key,
    KF: KeyFn<T, K>,
    A: Aggregator<T>,
    A::Value: Owned,
    P: Push<(K, Window, A::Value)>,
{
    fn outputs(&mut self) -> &mut Outputs {
        self.staged.outputs()
    }

    fn start(&mut self, _: &Assignment, _: &mut Cx<'_>) -> Result<(), String> {
        // Tasks that gave us their groups need not have been equally far: the clock is the lowest,
        // so that nobody's windows are passed over.
        for clocks in core::mem::take(&mut self.restored).into_values() {
            self.ahead.extend(clocks);
        }
        if let Some(lowest) = self.ahead.iter().map(|(_, _, clock)| *clock).min() {
            self.clock = lowest;
            self.ahead.retain(|(_, _, clock)| *clock > lowest);
        }
        let mut cursor = crate::flow::state::Cursor::default();
        while let Some((id, (start, _), _)) = self.table.next_entry(&mut cursor) {
            self.open.entry(start).or_default().push(id);
        }
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
            if self.due.is_empty() {
                return Ok(true);
            }
            while self.staged.waiting() < BATCH_BYTES {
                let Some(due) = self.due.pop_front() else { break };
                if let Some(rest) = self.step(due) {
                    self.due.push_front(rest);
                }
            }
        }
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
        self.take_back();
        if let Err(panic) = guarded(guard, || self.record(meta, &view)) {
            self.take_back();
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

    fn on_watermark(&mut self, at: EventTime, _: &mut Cx<'_>) -> Result<(), String> {
        // The channels begin anew after a restart; the windows do not.
        if at <= self.clock {
            return Ok(());
        }
        let before = core::mem::replace(&mut self.clock, at);
        self.ahead.retain(|(_, _, clock)| *clock > at);
        for &start in self.open.keys() {
            let end = self.windows.end(start);
            if end > at {
                break;
            }
            if end > before {
                self.due.push_back(Due::Fire { start, from: 0 });
            }
            if end + self.windows.lateness <= at {
                self.due.push_back(Due::Drop { start, from: 0 });
            }
        }
        Ok(())
    }

    fn restore(&mut self, object: &SnapshotReader<'_>, epoch: Epoch) -> Result<(), String> {
        let mut meta = object.meta();
        let clocks = Vec::<GroupClock>::decode(&mut meta)
            .map_err(|malformed| [META_CLOCK, ": ", &malformed.to_string()].concat())?;
        if let Some((start, end, _)) = clocks.first() {
            self.restored.insert((*start, *end), clocks);
        }
        restore(&mut self.table, object, SECTION, epoch)
    }

    fn begin_snapshot(
        &mut self,
        snapshot: SnapshotOrder,
        _: &mut Cx<'_>,
    ) -> Result<Captured, String> {
        let own = (self.groups.0.start, self.groups.0.end, self.clock);
        let clocks: Vec<GroupClock> =
            core::iter::once(own).chain(self.ahead.iter().copied()).collect();
        self.saved_clocks.clear();
        Vec::<GroupClock>::encode(&clocks, &mut self.saved_clocks);
        begin(&mut self.table, snapshot)
    }

    fn write_snapshot(&mut self, entries: usize, out: &mut SnapshotWriter) -> bool {
        out.set_meta(&self.saved_clocks);
        self.table.write_snapshot(SECTION, entries, out)
    }

    fn committed(&mut self, epoch: Epoch, _: &mut Cx<'_>) -> Result<(), String> {
        self.table.committed(epoch);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let ids = self.open.values().map(|ids| ids.capacity() * size_of::<EntryId>());
        self.table.allocated() + self.staged.allocated() + ids.sum::<usize>()
    }

    fn late(&self) -> u64 {
        self.late
    }
}
