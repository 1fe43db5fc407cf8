//! One task of a job with everything around it: its channels, the store, and its app master.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use gear_core::api::files::{FileInfo, Files};
use gear_core::api::sink::{Sink, SinkConnector, SinkContext, SinkTask};
use gear_core::api::source::{Advance, Source, SourceConnector, SourceContext};
use gear_core::api::{Owned, Record};
use gear_core::clock::Watermarks;
use gear_core::dag::Kind;
use gear_core::dsl::{App, Job, Settings, Stream};
use gear_core::effect::{Effect, IoError, IoErrorKind, IoRequest, StoreReply, StoreRequest};
use gear_core::flow::batch::Batch;
use gear_core::flow::logic::TaskInfo;
use gear_core::flow::outputs::{OutputEdge, Outputs};
use gear_core::flow::push::{Guard, Meta, Quarantined};
use gear_core::id::{Attempt, ChannelId, Epoch, TaskId, Token};
use gear_core::limits::KEY_GROUPS_DEFAULT;
use gear_core::message::{
    Barrier, EpochStart, Item, Message, Partition, Pending, TaskDeployment, TaskSnapshot,
};
use gear_core::task::{
    QuarantinePolicy, Task, TaskOptions, TaskParts, Turn, World, decode_quarantine,
};
use gear_core::time::{EventTime, Time, WallTime};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Catches panics in silence.
pub(crate) struct Catch;

impl Guard for Catch {
    fn run(&mut self, call: &mut dyn FnMut()) -> Result<(), String> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let loud = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                if !GUARDED.get() {
                    loud(info);
                }
            }));
        });
        let outer = GUARDED.replace(true);
        let result = catch_unwind(AssertUnwindSafe(call));
        GUARDED.set(outer);
        result.map_err(|panic| text(panic.as_ref()))
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// A source that is never read, for its type.
pub(crate) struct Nothing<T>(PhantomData<fn() -> T>);

/// What reads it.
pub(crate) struct NothingSource<T>(PhantomData<fn() -> T>);

pub(crate) fn nothing<T>() -> Nothing<T> {
    Nothing(PhantomData)
}

impl<T: Record> SourceConnector for Nothing<T> {
    type Source = NothingSource<T>;

    fn partitions(&self, _: &mut dyn Files) -> Result<Vec<String>, IoError> {
        Ok(vec!["nothing".to_owned()])
    }

    fn source(&self) -> NothingSource<T> {
        NothingSource(PhantomData)
    }
}

impl<T: Record> Source for NothingSource<T> {
    type Out = T;

    fn open(&mut self, _: &[Partition], _: &mut SourceContext<'_>) -> Result<(), String> {
        Ok(())
    }

    fn advance(&mut self, _: &mut SourceContext<'_>) -> Result<Advance, String> {
        Ok(Advance::End)
    }

    fn current(&self) -> (Meta, T::View<'_>) {
        unreachable!("it has no record")
    }

    fn positions(&self) -> Vec<Partition> {
        Vec::new()
    }
}

/// A sink that drops everything.
pub(crate) struct Drain<T>(PhantomData<fn() -> T>);

/// What writes to it.
pub(crate) struct DrainSink<T>(PhantomData<fn() -> T>);

pub(crate) fn drain<T>() -> Drain<T> {
    Drain(PhantomData)
}

impl<T: Record> SinkConnector for Drain<T> {
    type Sink = DrainSink<T>;

    fn sink(&self, _: &SinkTask) -> DrainSink<T> {
        DrainSink(PhantomData)
    }

    fn transactional(&self) -> bool {
        false
    }
}

impl<T: Record> Sink for DrainSink<T> {
    type In = T;

    fn open(&mut self, _: &[Pending], _: &mut SinkContext<'_>) -> Result<(), String> {
        Ok(())
    }

    fn write(&mut self, _: Meta, _: T::View<'_>, _: &mut SinkContext<'_>) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&mut self, _: Epoch, _: bool, _: &mut SinkContext<'_>) -> Result<Vec<u8>, String> {
        Ok(Vec::new())
    }

    fn commit(&mut self, _: Epoch, _: &mut SinkContext<'_>) -> Result<(), String> {
        Ok(())
    }
}

struct NoFiles;

impl NoFiles {
    fn refuse<T>(path: &str) -> Result<T, IoError> {
        let (path, reason) = (path.to_owned(), "there are no files here".to_owned());
        Err(IoError { path, reason, kind: IoErrorKind::NotFound })
    }
}

impl Files for NoFiles {
    fn list(&mut self, pattern: &str) -> Result<Vec<FileInfo>, IoError> {
        Self::refuse(pattern)
    }

    fn stat(&mut self, path: &str) -> Result<FileInfo, IoError> {
        Self::refuse(path)
    }

    fn read_at(&mut self, path: &str, _: u64, _: &mut [u8]) -> Result<usize, IoError> {
        Self::refuse(path)
    }
}

/// A job of which single tasks are run.
pub(crate) struct Plane {
    pub(crate) job: Job,
}

impl Plane {
    /// The job that `build` makes of a stream; with event times if `timed`.
    pub(crate) fn of<T: Record>(timed: bool, build: impl FnOnce(Stream<T>)) -> Self {
        Self::with(1, timed, build)
    }

    /// The same, with so many tasks of each processor.
    pub(crate) fn with<T: Record>(
        parallelism: u32,
        timed: bool,
        build: impl FnOnce(Stream<T>),
    ) -> Self {
        let settings = Settings { parallelism, key_groups: KEY_GROUPS_DEFAULT };
        let mut app = App::new("plane", (), settings);
        let source = app.source("source", nothing::<T>());
        if timed {
            build(source.watermarks(Watermarks::monotonic()).rebalance());
        } else {
            build(source.rebalance());
        }
        match app.finish() {
            Ok(job) => Self { job },
            Err(errors) => panic!("{errors:?}"),
        }
    }

    /// The only task of a processor, with so many input channels.
    pub(crate) fn task(&self, uid: &str, channels: u32) -> Rig {
        self.start(uid, (0, 1), channels, Restore::default())
    }

    /// A task of a processor that runs as so many, from a snapshot.
    pub(crate) fn start(
        &self,
        uid: &str,
        (index, parallelism): (u32, u32),
        channels: u32,
        restore: Restore,
    ) -> Rig {
        let graph = &self.job.graph;
        let processor = graph.find(uid).unwrap_or_else(|| panic!("no {uid} in {graph:?}"));
        let ports = graph.processors[processor.0 as usize].outputs.len();
        let mut outputs = vec![(false, Vec::new()); ports];
        let mut ports_of_edges = BTreeMap::new();
        for (number, edge) in graph.outputs_of(processor) {
            let channels = (0..graph.processors[edge.to.0 as usize].parallelism)
                .map(|to| ChannelId { edge: number, from: index, to })
                .collect();
            ports_of_edges.insert(number, edge.output as usize);
            let (timed, edges) = &mut outputs[edge.output as usize];
            *timed |= edge.timed;
            edges.push(OutputEdge { partitioner: edge.partitioner.clone(), channels });
        }
        let info = TaskInfo {
            app: "rig".to_owned(),
            task: TaskId { processor, index },
            uid: uid.to_owned(),
            parallelism,
            key_groups: graph.key_groups,
            attempt: Attempt(1),
        };
        let parts = TaskParts {
            logic: (self.job.factories[processor.0 as usize])(&info, Outputs::new(outputs)),
            options: restore.options,
            inputs: (0..channels)
                .map(|from| (ChannelId { edge: u32::MAX, from, to: index }, 0))
                .collect(),
            is_sink: graph.processors[processor.0 as usize].kind == Kind::Sink,
            store_prefix: format!("{uid}-{index}/{}", restore.epoch),
            tokens: 0,
            info,
        };
        let deployment = TaskDeployment {
            task: TaskId { processor, index },
            finished: false,
            partitions: Vec::new(),
            restore: restore.snapshots.into_iter().map(|snapshot| snapshot.chain).collect(),
            pending: restore.pending,
            records: 0,
            quarantined: 0,
        };
        let mut rig = Rig {
            task: Task::new(parts, deployment, Epoch(restore.epoch)),
            ports_of_edges,
            sent: vec![0; channels as usize],
            now: Time::ZERO,
            wall: WallTime(0),
            out: Vec::new(),
            store: restore.store,
            snapshots: BTreeMap::new(),
            finished: None,
            failed: None,
            refused: Vec::new(),
            hold_credit: false,
            held: Vec::new(),
            asked: Vec::new(),
            visible: Vec::new(),
            refuses: 0,
        };
        rig.settle();
        rig
    }
}

/// From what a task goes on.
pub(crate) struct Restore {
    pub(crate) epoch: u64,
    pub(crate) snapshots: Vec<TaskSnapshot>,
    pub(crate) store: BTreeMap<String, Vec<u8>>,
    pub(crate) options: TaskOptions,
    pub(crate) pending: Vec<Pending>,
}

impl Default for Restore {
    fn default() -> Self {
        let (snapshots, store) = (Vec::new(), BTreeMap::new());
        Self { epoch: 0, snapshots, store, options: options(true), pending: Vec::new() }
    }
}

/// A task and what is around it.
pub(crate) struct Rig {
    pub(crate) task: Task,
    ports_of_edges: BTreeMap<u32, usize>,
    sent: Vec<u64>,
    pub(crate) now: Time,
    pub(crate) wall: WallTime,
    /// What left the task, by channel.
    pub(crate) out: Vec<(ChannelId, Item)>,
    pub(crate) store: BTreeMap<String, Vec<u8>>,
    pub(crate) snapshots: BTreeMap<u64, TaskSnapshot>,
    pub(crate) finished: Option<TaskSnapshot>,
    pub(crate) failed: Option<String>,
    /// Objects of the quarantine that came too late.
    pub(crate) refused: Vec<String>,
    /// Keep what was sent from being consumed downstream.
    pub(crate) hold_credit: bool,
    held: Vec<(usize, u64)>,
    /// What the sink has asked for and has no answer to.
    pub(crate) asked: Vec<(Token, IoRequest)>,
    /// Epochs that the sink has made visible.
    pub(crate) visible: Vec<u64>,
    /// So many writes are refused by the store.
    pub(crate) refuses: u32,
}

impl Rig {
    /// Puts records into a channel.
    pub(crate) fn batch<T: Owned>(&mut self, channel: u32, records: &[(i64, T)]) {
        let mut batch = Batch::new(Vec::new(), true);
        for (at, record) in records {
            batch.push::<T>(EventTime(*at), record);
        }
        self.sent[channel as usize] += records.len() as u64;
        self.item(channel, Item::Batch(batch));
    }

    pub(crate) fn watermark(&mut self, channel: u32, at: i64) {
        self.item(channel, Item::Watermark(EventTime(at)));
    }

    pub(crate) fn barrier(&mut self, channel: u32, epoch: u64, base: Option<u64>) {
        let records = std::mem::take(&mut self.sent[channel as usize]);
        let start = EpochStart { epoch: Epoch(epoch), base: base.map(Epoch), stop: false };
        self.item(channel, Item::Barrier(Barrier { start, records, born: WallTime(0) }));
    }

    pub(crate) fn item(&mut self, channel: u32, item: Item) {
        self.task.receive(channel as usize, item);
    }

    /// Ends every channel and runs until nothing is left to do.
    pub(crate) fn end(&mut self) {
        for channel in 0..self.sent.len() as u32 {
            self.item(channel, Item::End);
        }
        self.settle();
    }

    /// One step; true if the task may have more to do.
    pub(crate) fn step(&mut self) -> bool {
        let mut effects = Vec::new();
        let mut files = NoFiles;
        let mut world =
            World { now: self.now, wall: self.wall, files: &mut files, guard: &mut Catch };
        let turn = self.task.step(&mut world, &mut effects);
        let mut busy = turn == Turn::Busy || !effects.is_empty();
        self.perform(effects);
        while let Some((slot, item)) = self.task.take_ready() {
            busy = true;
            if let Item::Batch(batch) = &item {
                let bytes = batch.len() as u64;
                if self.hold_credit {
                    self.held.push((slot, bytes));
                } else {
                    self.task.credit(slot, bytes, Vec::new());
                }
            }
            self.out.push((self.task.channel(slot), item));
        }
        while self.task.take_credit().is_some() {}
        busy
    }

    /// A step of a task that waits: until when.
    pub(crate) fn turn(&mut self) -> Turn {
        let mut effects = Vec::new();
        let mut files = NoFiles;
        let mut world =
            World { now: self.now, wall: self.wall, files: &mut files, guard: &mut Catch };
        let turn = self.task.step(&mut world, &mut effects);
        self.perform(effects);
        turn
    }

    /// Gives back the credit that was held.
    pub(crate) fn release(&mut self) {
        for (slot, bytes) in self.held.drain(..) {
            self.task.credit(slot, bytes, Vec::new());
        }
    }

    /// Runs until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1_000_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the task does not come to rest");
    }

    /// These objects of the quarantine are to be taken again.
    pub(crate) fn replay(&mut self, objects: &[&str]) {
        let mut effects = Vec::new();
        let objects = objects.iter().map(|object| (*object).to_owned()).collect();
        self.task.replay(objects, &mut effects);
        self.perform(effects);
    }

    /// An epoch's record exists.
    pub(crate) fn committed(&mut self, epoch: u64) {
        let mut effects = Vec::new();
        let mut files = NoFiles;
        let mut world =
            World { now: self.now, wall: self.wall, files: &mut files, guard: &mut Catch };
        self.task.committed(Epoch(epoch), &mut world, &mut effects);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Store { token, request } => self.serve(token, request),
                Effect::Send { message, .. } => match message {
                    Message::Ready { .. } => self.task.run(),
                    Message::Snapshot { epoch, snapshot, .. } => {
                        self.snapshots.insert(epoch.0, snapshot);
                    }
                    Message::Finished { snapshot, .. } => self.finished = Some(snapshot),
                    Message::Failed { reason, .. } => self.failed = Some(reason),
                    Message::Replayed { object, ended, .. } => {
                        self.refused.extend(ended.then_some(object));
                    }
                    Message::SinkCommitted { epoch, .. } => self.visible.push(epoch.0),
                    other => panic!("{other:?}"),
                },
                Effect::Io { token, request, .. } => self.asked.push((token, request)),
                other @ Effect::Notice(_) => panic!("{other:?}"),
            }
        }
    }

    fn serve(&mut self, token: Token, request: StoreRequest) {
        let reply = match request {
            StoreRequest::Put { .. } if self.refuses > 0 => {
                self.refuses -= 1;
                StoreReply::Failed { reason: "it is full".to_owned(), retriable: true }
            }
            StoreRequest::Put { name, bytes } => {
                let before = self.store.insert(name.clone(), bytes.to_vec());
                assert_eq!(before, None, "{name} is written once");
                StoreReply::Done
            }
            StoreRequest::Get { name } => self
                .store
                .get(&name)
                .map_or(StoreReply::Missing, |it| StoreReply::Bytes(it.clone())),
            other => panic!("{other:?}"),
        };
        let mut effects = Vec::new();
        let mut files = NoFiles;
        let mut world =
            World { now: self.now, wall: self.wall, files: &mut files, guard: &mut Catch };
        self.task.stored(token, reply, &mut world, &mut effects);
        self.perform(effects);
    }

    /// Answers the oldest request of the sink.
    pub(crate) fn answer(&mut self, result: Result<Vec<u8>, IoError>) {
        let (token, _) = self.asked.remove(0);
        let mut effects = Vec::new();
        let mut files = NoFiles;
        let mut world =
            World { now: self.now, wall: self.wall, files: &mut files, guard: &mut Catch };
        self.task.io_done(token, result, &mut world, &mut effects);
        self.perform(effects);
    }

    /// Takes the records that left by a port, in order.
    pub(crate) fn records<T: Owned>(&mut self, port: usize) -> Vec<(i64, T)> {
        let mut records = Vec::new();
        self.each::<T>(port, |at, record| records.push((at.0, record)));
        records
    }

    /// The same, for records that borrow.
    pub(crate) fn each<T: Record>(
        &mut self,
        port: usize,
        mut each: impl FnMut(EventTime, T::View<'_>),
    ) {
        let ports = &self.ports_of_edges;
        self.out.retain(|(channel, item)| {
            let Item::Batch(batch) = item else { return true };
            if ports[&channel.edge] != port {
                return true;
            }
            let mut reader = batch.reader(0);
            while let Some((at, record)) = reader.next::<T>().expect("a record was encoded") {
                each(at, record);
            }
            false
        });
    }

    /// What a snapshot says was put aside.
    pub(crate) fn aside(&self, snapshot: &TaskSnapshot) -> Vec<Quarantined> {
        snapshot.quarantine.iter().flat_map(|object| self.entries(&object.name)).collect()
    }

    /// Everything that was put aside up to the task's end.
    pub(crate) fn all_aside(&self) -> Vec<Quarantined> {
        let names = self.store.keys().filter(|name| name.starts_with("quarantine/"));
        names.flat_map(|name| self.entries(name)).collect()
    }

    fn entries(&self, name: &str) -> Vec<Quarantined> {
        decode_quarantine(&self.store[name]).expect("was written by the task")
    }
}

/// The encoding of a record.
pub(crate) fn encoded<T: Owned>(record: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    T::encode(record, &mut bytes);
    bytes
}

/// Options of a task that aligns or not.
pub(crate) const fn options(align: bool) -> TaskOptions {
    TaskOptions { align, quarantine: QuarantinePolicy::Keep }
}

/// What a task goes on from: all tasks' snapshots of an epoch and all that was stored.
pub(crate) fn restore(epoch: u64, rigs: &[&Rig]) -> Restore {
    Restore {
        epoch,
        snapshots: rigs.iter().map(|rig| rig.snapshots[&epoch].clone()).collect(),
        store: rigs.iter().flat_map(|rig| rig.store.clone()).collect(),
        options: options(true),
        pending: Vec::new(),
    }
}
