//! The logic of a [`Process`]: byte-valued state by name and key, timers, and what takes both back.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::Range;

use crate::api::key::{Key, Scoped};
use crate::api::process::{Process, ProcessContext, States, Timer};
use crate::api::record::{Malformed, Record, Ref, put_len, take, take_len};
use crate::api::state::State;
use crate::flow::aggregate::restore;
use crate::flow::batch::Mark;
use crate::flow::logic::{Assignment, Captured, Cx, Logic, SnapshotOrder, Work, run_alone};
use crate::flow::outputs::Outputs;
use crate::flow::push::{Entered, Guard, Meta, Push, Quarantined, guarded};
use crate::flow::segment::Staged;
use crate::flow::state::{Cursor, EntryId, SnapshotReader, SnapshotWriter, Table};
use crate::flow::tail::KeyFn;
use crate::id::Epoch;
use crate::limits::{BATCH_BYTES, RECORDS_PER_SLICE};
use crate::time::{EventTime, WallTime};

/// The port of a process's side output.
pub(crate) const SIDE_PORT: usize = 1;

const FIRST_ENTRY: EntryId = EntryId { group: 0, index: 0 };
const STATES: &str = "states";
const TIMERS: &str = "timers";

/// The state of the key at hand.
pub(crate) trait KeyedStates {
    fn read(&self, state: u16, field: &[u8]) -> Option<&[u8]>;
    fn write(&mut self, state: u16, field: &[u8], bytes: &[u8]);
    fn append(&mut self, state: u16, field: &[u8], bytes: &[u8]);
    fn remove(&mut self, state: u16, field: &[u8]);
    fn set_timer(&mut self, timer: Timer);
    fn clear_timer(&mut self, timer: Timer);
}

/// An encoded value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blob(Vec<u8>);

impl State for Blob {
    fn save(&self, out: &mut Vec<u8>) {
        put_len(self.0.len(), out);
        out.extend_from_slice(&self.0);
    }

    fn load(input: &mut &[u8]) -> Result<Self, Malformed> {
        let len = take_len(input, "state")?;
        take(input, len, "state").map(|bytes| Self(bytes.to_vec()))
    }

    fn heap_bytes(&self) -> usize {
        self.0.capacity()
    }

    fn state_name(out: &mut String) {
        out.push_str("encoded");
    }
}

type StateKey<K> = Scoped<(u16, Ref<[u8]>), K>;
type TimerKey<K> = Scoped<(i64, bool), K>;

/// The tables of a process, and what the record at hand changed in them.
struct Tables<K: Key> {
    states: Table<StateKey<K>, Blob>,
    timers: Table<TimerKey<K>, bool>,
    /// Timers by kind and time.
    due: BTreeSet<(bool, i64, EntryId)>,
    undo: Vec<Undo<K>>,
}

enum Undo<K: Key> {
    State { hash: u64, key: Vec<u8>, before: Option<Blob>, types: PhantomData<fn() -> K> },
    TimerSet { id: EntryId, wall: bool, at: i64 },
    TimerCleared { hash: u64, key: Vec<u8>, wall: bool, at: i64 },
}

/// One key's view of the tables.
struct AtKey<'t, K: Key> {
    tables: &'t mut Tables<K>,
    /// The encoded key: a view of it can be had for any lifetime.
    key: &'t [u8],
    hash: u64,
}

fn view<K: Key>(mut key: &[u8]) -> K::View<'_> {
    K::decode(&mut key).expect("was encoded just now")
}

impl<K: Key> AtKey<'_, K> {
    fn remember(&mut self, state: u16, field: &[u8]) {
        let place = ((state, field), view::<K>(self.key));
        let before = self.tables.states.get(self.hash, &place);
        let before = before.map(|(_, blob)| blob.clone());
        let mut key = Vec::new();
        StateKey::<K>::encode(&place, &mut key);
        let types = PhantomData;
        self.tables.undo.push(Undo::State { hash: self.hash, key, before, types });
    }

    fn change(&mut self, state: u16, field: &[u8], change: impl FnOnce(&mut Vec<u8>)) {
        self.remember(state, field);
        let place = ((state, field), view::<K>(self.key));
        let tables = &mut *self.tables;
        let (_, blob, _) = tables.states.get_or_insert_with(self.hash, &place, Blob::default);
        change(&mut blob.0);
    }
}

impl<K: Key> KeyedStates for AtKey<'_, K> {
    fn read(&self, state: u16, field: &[u8]) -> Option<&[u8]> {
        let place = ((state, field), view::<K>(self.key));
        let (_, blob) = self.tables.states.get(self.hash, &place)?;
        Some(&blob.0)
    }

    fn write(&mut self, state: u16, field: &[u8], bytes: &[u8]) {
        self.change(state, field, |value| {
            value.clear();
            value.extend_from_slice(bytes);
        });
    }

    fn append(&mut self, state: u16, field: &[u8], bytes: &[u8]) {
        self.change(state, field, |value| value.extend_from_slice(bytes));
    }

    fn remove(&mut self, state: u16, field: &[u8]) {
        let place = ((state, field), view::<K>(self.key));
        if self.tables.states.get(self.hash, &place).is_some() {
            self.remember(state, field);
            self.tables.states.remove(self.hash, &place);
        }
    }

    fn set_timer(&mut self, timer: Timer) {
        let (wall, at) = parts(timer);
        let place = ((at, wall), view::<K>(self.key));
        let tables = &mut *self.tables;
        let (id, _, inserted) = tables.timers.get_or_insert_with(self.hash, &place, || true);
        if inserted {
            tables.due.insert((wall, at, id));
            tables.undo.push(Undo::TimerSet { id, wall, at });
        }
    }

    fn clear_timer(&mut self, timer: Timer) {
        let (wall, at) = parts(timer);
        let place = ((at, wall), view::<K>(self.key));
        let tables = &mut *self.tables;
        let Some((id, _)) = tables.timers.get(self.hash, &place) else { return };
        let mut key = Vec::new();
        TimerKey::<K>::encode(&place, &mut key);
        tables.timers.remove_id(id);
        tables.due.remove(&(wall, at, id));
        tables.undo.push(Undo::TimerCleared { hash: self.hash, key, wall, at });
    }
}

const fn parts(timer: Timer) -> (bool, i64) {
    match timer {
        Timer::Event(at) => (false, at.0),
        Timer::Wall(at) => (true, at.0),
    }
}

impl<K: Key> Tables<K> {
    /// Takes back what the record at hand changed, last first.
    fn take_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::State { hash, key, before, .. } => {
                    let place = StateKey::<K>::decode(&mut key.as_slice())
                        .expect("was encoded before the change");
                    match before {
                        Some(blob) => {
                            let (_, value, _) =
                                self.states.get_or_insert_with(hash, &place, Blob::default);
                            *value = blob;
                        }
                        None => {
                            self.states.remove(hash, &place);
                        }
                    }
                }
                Undo::TimerSet { id, wall, at } => {
                    self.due.remove(&(wall, at, id));
                    self.timers.remove_id(id);
                }
                Undo::TimerCleared { hash, key, wall, at } => {
                    let place = TimerKey::<K>::decode(&mut key.as_slice())
                        .expect("was encoded before the change");
                    let (id, _, _) = self.timers.get_or_insert_with(hash, &place, || true);
                    self.due.insert((wall, at, id));
                }
            }
        }
    }
}

/// A process and its state.
pub(crate) struct ProcessLogic<R: Process, KF, P> {
    name: Arc<str>,
    process: R,
    key: KF,
    declared: States,
    tables: Tables<R::Key>,
    staged: Staged<R::Out, P>,
    side: crate::flow::batch::Batch,
    has_side: bool,
    scratch: Vec<u8>,
    encoded: Vec<u8>,
    clock: EventTime,
    saved_clock: EventTime,
    wall: WallTime,
    mark: (Mark, Mark),
    at_hand: AtHand,
    writing: bool,
}

/// What a panic would have interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtHand {
    Nothing,
    Record,
    Timer,
    Staged,
}

impl<R: Process, KF: KeyFn<R::In, R::Key>, P: Push<R::Out>> ProcessLogic<R, KF, P> {
    pub(crate) fn new(
        name: Arc<str>,
        mut process: R,
        key: KF,
        has_side: bool,
        groups: (Range<u32>, u32),
        next: P,
    ) -> Self {
        let mut declared = States::default();
        process.open(&mut declared);
        Self {
            name,
            process,
            key,
            declared,
            tables: Tables {
                states: Table::new(groups.0.clone(), groups.1),
                timers: Table::new(groups.0, groups.1),
                due: BTreeSet::new(),
                undo: Vec::new(),
            },
            staged: Staged::new(next),
            side: crate::flow::batch::Batch::new(Vec::new(), true),
            has_side,
            scratch: Vec::new(),
            encoded: Vec::new(),
            clock: EventTime::MIN,
            saved_clock: EventTime::MIN,
            wall: WallTime(0),
            mark: (Mark::default(), Mark::default()),
            at_hand: AtHand::Nothing,
            writing: false,
        }
    }

    /// Runs `call` with the state of one key at hand.
    fn at_key(
        &mut self,
        at: EventTime,
        key: <R::Key as Record>::View<'_>,
        call: impl FnOnce(&mut R, &mut ProcessContext<'_, R::Out, R::Side>),
    ) {
        let hash = R::Key::hash(&key, 0);
        let staged = &mut self.staged;
        let side = &mut self.side;
        let has_side = self.has_side;
        let mut emit = |at: EventTime, record: <R::Out as Record>::View<'_>| {
            staged.push(Meta { at, partition: 0 }, &record);
        };
        let mut emit_side = |at: EventTime, record: <R::Side as Record>::View<'_>| {
            if has_side {
                side.push::<R::Side>(at, &record);
            }
        };
        self.encoded.clear();
        R::Key::encode(&key, &mut self.encoded);
        let mut states = AtKey { tables: &mut self.tables, key: &self.encoded, hash };
        let mut cx = ProcessContext {
            at,
            watermark: self.clock,
            wall: self.wall,
            states: &mut states,
            emit: &mut emit,
            side: &mut emit_side,
            scratch: &mut self.scratch,
        };
        call(&mut self.process, &mut cx);
    }

    /// What happens from here on is undone if it panics.
    fn begin(&mut self, at_hand: AtHand) {
        self.mark = (self.staged.mark(), self.side.mark());
        self.tables.undo.clear();
        self.at_hand = at_hand;
    }

    fn record(&mut self, meta: Meta, view: &<R::In as Record>::View<'_>) {
        // Before the key, which may panic as well.
        self.begin(AtHand::Record);
        let function = self.key.clone();
        let key = function.key(view);
        self.at_key(meta.at, key, |process, cx| process.on_record(view.clone(), cx));
    }

    fn take_back(&mut self) {
        self.tables.take_back();
        self.staged.cut(self.mark.0);
        self.side.cut(self.mark.1);
    }

    /// The next timer that is due.
    fn next_due(&self) -> Option<(bool, i64, EntryId)> {
        let event = self.tables.due.range((false, i64::MIN, FIRST_ENTRY)..).next();
        if let Some(&(false, at, id)) = event
            && at <= self.clock.0
        {
            return Some((false, at, id));
        }
        let wall = self.tables.due.range((true, i64::MIN, FIRST_ENTRY)..).next();
        wall.copied().filter(|&(_, at, _)| at <= self.wall.0)
    }

    fn fire(&mut self, wall: bool, at: i64, id: EntryId) {
        let mut encoded = Vec::new();
        let (_, key) = self.tables.timers.key(id);
        R::Key::encode(&key, &mut encoded);
        drop(key);
        self.tables.due.remove(&(wall, at, id));
        self.tables.timers.remove_id(id);
        self.begin(AtHand::Timer);
        let key = view::<R::Key>(&encoded);
        let event_at = if wall { self.clock } else { EventTime(at) };
        self.at_key(event_at, key.clone(), |process, cx| {
            if wall {
                process.on_wall_timer(WallTime(at), key, cx);
            } else {
                process.on_event_timer(EventTime(at), key, cx);
            }
        });
        self.at_hand = AtHand::Nothing;
    }

    fn send_side(&mut self) -> Result<(), String> {
        if self.side.is_empty() {
            return Ok(());
        }
        let batch = core::mem::take(&mut self.side);
        let mut reader = batch.reader(0);
        let outputs = self.staged.outputs();
        while let Some((at, view)) =
            reader.next::<R::Side>().map_err(|malformed| malformed.to_string())?
        {
            outputs.begin_record();
            outputs.push::<R::Side>(SIDE_PORT, 0, Meta { at, partition: 0 }, &view);
        }
        self.side = crate::flow::batch::Batch::new(batch.into_buffer(), true);
        Ok(())
    }
}

impl<R: Process, KF: KeyFn<R::In, R::Key>, P: Push<R::Out>> Logic for ProcessLogic<R, KF, P> {
    fn outputs(&mut self) -> &mut Outputs {
        self.staged.outputs()
    }

    fn start(&mut self, _: &Assignment, cx: &mut Cx<'_>) -> Result<(), String> {
        self.wall = cx.wall;
        let mut cursor = Cursor::default();
        while let Some((id, ((at, wall), _), _)) = self.tables.timers.next_entry(&mut cursor) {
            self.tables.due.insert((wall, at, id));
        }
        Ok(())
    }

    fn drain(&mut self, cx: &mut Cx<'_>) -> Result<bool, String> {
        self.wall = cx.wall;
        loop {
            self.send_side()?;
            self.at_hand = AtHand::Staged;
            let drained = self.staged.drain()?;
            self.at_hand = AtHand::Nothing;
            if !drained {
                return Ok(false);
            }
            let mut fired = false;
            while self.staged.waiting() + self.side.len() < BATCH_BYTES {
                let Some((wall, at, id)) = self.next_due() else { break };
                self.fire(wall, at, id);
                fired = true;
            }
            if !fired {
                return Ok(true);
            }
        }
    }

    fn work(&mut self, work: &mut Work, cx: &mut Cx<'_>) -> Result<(), String> {
        self.wall = cx.wall;
        while !work.is_done() {
            let mut reader = work.batch.reader(work.cursor);
            for _ in 0..RECORDS_PER_SLICE {
                match reader.next::<R::In>() {
                    Ok(Some((at, view))) => {
                        self.record(Meta { at, partition: work.channel }, &view);
                        self.at_hand = AtHand::Nothing;
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
        match core::mem::replace(&mut self.at_hand, AtHand::Nothing) {
            AtHand::Staged => self.staged.rerun(guard),
            AtHand::Timer => {
                // The timer is gone and what it did is taken back: its key goes on without it.
                self.take_back();
                let name = Arc::clone(&self.name);
                let meta = Meta { at: self.clock, partition: 0 };
                let outputs = self.outputs();
                outputs.begin_record();
                outputs.quarantine::<()>(&name, meta, &(), ["timer: ", &panic].concat());
                Ok(())
            }
            AtHand::Nothing => Err(panic),
            AtHand::Record => {
                self.take_back();
                let work = work.ok_or(panic)?;
                let (at, view, behind) = work.batch.record_at::<R::In>(work.cursor)?;
                let meta = Meta { at, partition: work.channel };
                let ran = guarded(guard, || self.record(meta, &view));
                self.at_hand = AtHand::Nothing;
                if let Err(panic) = ran {
                    self.take_back();
                    let name = Arc::clone(&self.name);
                    self.outputs().begin_record();
                    self.outputs().quarantine::<R::In>(&name, meta, &view, panic);
                }
                work.cursor = behind;
                Ok(())
            }
        }
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
        run_alone::<R::In, _>(self, entry, (guard, cx), |it, view| {
            it.tables.states.owns(R::Key::hash(&it.key.key(view), 0))
        })
    }

    fn on_watermark(&mut self, at: EventTime, _: &mut Cx<'_>) -> Result<(), String> {
        // The channels begin anew after a restart; the clock does not.
        self.clock = self.clock.max(at);
        Ok(())
    }

    fn next_timer(&self) -> Option<WallTime> {
        let next = self.tables.due.range((true, i64::MIN, FIRST_ENTRY)..).next();
        next.map(|&(_, at, _)| WallTime(at))
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>) -> Result<(), String> {
        self.wall = cx.wall;
        Ok(())
    }

    fn restore(&mut self, object: &SnapshotReader<'_>, epoch: Epoch) -> Result<(), String> {
        let mut meta = object.meta();
        let malformed = |malformed: Malformed| malformed.to_string();
        let clock = EventTime::decode(&mut meta).map_err(malformed)?;
        self.clock = self.clock.max(clock);
        let before = Vec::<(String, String)>::decode(&mut meta).map_err(malformed)?;
        compare(&self.name, &before, &self.declared.declared)?;
        restore(&mut self.tables.states, object, STATES, epoch)?;
        restore(&mut self.tables.timers, object, TIMERS, epoch)
    }

    fn begin_snapshot(
        &mut self,
        snapshot: SnapshotOrder,
        _: &mut Cx<'_>,
    ) -> Result<Captured, String> {
        self.saved_clock = self.clock;
        if snapshot.last {
            return Ok(Captured::default());
        }
        self.writing = true;
        self.tables.states.begin_snapshot(snapshot.epoch, snapshot.base);
        self.tables.timers.begin_snapshot(snapshot.epoch, snapshot.base);
        Ok(Captured { state: true, ..Captured::default() })
    }

    fn write_snapshot(&mut self, entries: usize, out: &mut SnapshotWriter) -> bool {
        let mut meta = Vec::new();
        EventTime::encode(&self.saved_clock, &mut meta);
        Vec::encode(&self.declared.declared, &mut meta);
        out.set_meta(&meta);
        if self.writing {
            self.writing = !self.tables.states.write_snapshot(STATES, entries, out);
            return false;
        }
        self.tables.timers.write_snapshot(TIMERS, entries, out)
    }

    fn committed(&mut self, epoch: Epoch, _: &mut Cx<'_>) -> Result<(), String> {
        self.tables.states.committed(epoch);
        self.tables.timers.committed(epoch);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.tables.states.allocated() + self.tables.timers.allocated() + self.staged.allocated()
    }
}

/// State is read by its number: the declarations have to be those of the snapshot, or more.
fn compare(
    operator: &str,
    before: &[(String, String)],
    now: &[(String, String)],
) -> Result<(), String> {
    for (number, (name, types)) in before.iter().enumerate() {
        match now.get(number) {
            Some(declared) if *declared == (name.clone(), types.clone()) => {}
            Some((other, found)) => {
                return Err([
                    operator,
                    ": state ",
                    name,
                    " was saved as ",
                    types,
                    ", and is now declared as ",
                    other,
                    ": ",
                    found,
                    "; declare it as it was, put new states behind it, or start with --fresh",
                ]
                .concat());
            }
            None => {
                return Err([
                    operator,
                    ": state ",
                    name,
                    " (",
                    types,
                    ") was saved and is no longer declared; declare it, or start with --fresh",
                ]
                .concat());
            }
        }
    }
    Ok(())
}
