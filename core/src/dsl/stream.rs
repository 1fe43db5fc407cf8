//! Streams: operators without state, and where a stream parts, joins, and ends.

use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Display;
use core::marker::PhantomData;

use crate::api::dead_letter::DeadLetter;
use crate::api::key::Key;
use crate::api::record::{Owned, Record, Ref, type_name};
use crate::api::sink::{Sink, SinkConnector, SinkTask};
use crate::clock::Watermarks;
use crate::dag::{Kind, Partitioner, Port};
use crate::dsl::app::SinkInfo;
use crate::dsl::builder::{Connect, Draft, JobError, Shared, Upstream, factory};
use crate::dsl::chain::{
    FilterMapped, Filtered, FlatMapped, Flow, FromInput, Mapped, Timed, TryMapped, Watched,
};
use crate::dsl::keyed::KeyedStream;
use crate::dsl::model::{ModelOp, ModelStep};
use crate::flow::push::Meta;
use crate::flow::sink::SinkLogic;
use crate::flow::stages::Emitter;
use crate::flow::tail::{
    BorrowedKey, ByFunction, Emit, KeyFn, OneLane, OwnedKey, Route, Split, no_branch,
};
use crate::id::ProcessorId;
use crate::time::EventTime;

/// A stream of records of type `T`, at the end of the chain `C`.
pub struct Stream<T: Record, C: Flow<Out = T> = FromInput<T>> {
    pub(crate) builder: Shared,
    pub(crate) flow: C,
    pub(crate) draft: Draft,
}

impl<T: Record> Clone for Stream<T, FromInput<T>> {
    /// Reads the same records a second time.
    fn clone(&self) -> Self {
        let mut draft = self.draft.clone();
        let mut builder = self.builder.borrow_mut();
        draft.id = builder.reserve();
        draft.uid = builder.invent(&draft.uid);
        Self { builder: Rc::clone(&self.builder), flow: self.flow.clone(), draft }
    }
}

pub(crate) fn port<T: Record>(name: &str) -> Port {
    Port { name: name.to_string(), record: type_name::<T>() }
}

/// A model step that decodes the record.
fn step<T, F>(f: F) -> ModelOp
where
    T: Record,
    F: Fn(EventTime, T::View<'_>, &mut dyn FnMut(u32, EventTime, Vec<u8>)) + Send + Sync + 'static,
{
    try_step::<T, _>(move |at, view, emit| {
        f(at, view, emit);
        Ok(())
    })
}

/// A model step that decodes the record, and may refuse it.
fn try_step<T, F>(f: F) -> ModelOp
where
    T: Record,
    F: Fn(EventTime, T::View<'_>, &mut dyn FnMut(u32, EventTime, Vec<u8>)) -> Result<(), String>
        + Send
        + Sync
        + 'static,
{
    let step: ModelStep = Arc::new(move |at, bytes, emit| {
        let view = T::decode(&mut &*bytes).map_err(|malformed| malformed.to_string())?;
        f(at, view, emit)
    });
    ModelOp::Step(step)
}

fn encoded<U: Record>(view: &U::View<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    U::encode(view, &mut bytes);
    bytes
}

impl<T: Record, C: Flow<Out = T>> Stream<T, C> {
    /// Adds an operator to the chain.
    fn then<U: Record, D: Flow<Out = U>>(
        mut self,
        name: &str,
        op: ModelOp,
        chain: impl FnOnce(C, Arc<str>) -> D,
    ) -> Stream<U, D> {
        let mut builder = self.builder.borrow_mut();
        builder.claim(name);
        self.draft.node = builder.node(name, Vec::from([self.draft.node]), type_name::<T>(), op);
        if self.flow.is_only_input() && self.draft.operators.is_empty() {
            self.draft.uid = name.to_string();
        }
        drop(builder);
        self.draft.operators.push(name.to_string());
        let flow = chain(self.flow, Arc::from(name));
        Stream { builder: self.builder, flow, draft: self.draft }
    }

    /// Gives one record for each.
    pub fn map<U, F>(self, name: &str, f: F) -> Stream<U, Mapped<C, F, U>>
    where
        U: Owned,
        F: Fn(T::View<'_>) -> U + Clone + Send + Sync + 'static,
    {
        let model = f.clone();
        let op = step::<T, _>(move |at, view, emit| emit(0, at, encoded::<U>(&model(view))));
        self.then(name, op, |before, name| Mapped { before, name, f, types: PhantomData })
    }

    /// Gives one record for each, or an error that puts the record aside. The result may borrow
    /// from the record; its family is named: `try_map::<Event, _, _>("parse", ...)`.
    pub fn try_map<U, E, F>(self, name: &str, f: F) -> Stream<U, TryMapped<C, F, U, E>>
    where
        U: Record,
        E: Display + 'static,
        F: for<'r> Fn(&'r T::View<'_>) -> Result<U::View<'r>, E> + Clone + Send + Sync + 'static,
    {
        let model = f.clone();
        let op = try_step::<T, _>(move |at, view, emit| {
            let out = model(&view).map_err(|error| error.to_string())?;
            emit(0, at, encoded::<U>(&out));
            Ok(())
        });
        self.then(name, op, |before, name| TryMapped { before, name, f, types: PhantomData })
    }

    /// Keeps the records for which `f` is true.
    pub fn filter<F>(self, name: &str, f: F) -> Stream<T, Filtered<C, F>>
    where
        F: Fn(&T::View<'_>) -> bool + Clone + Send + Sync + 'static,
    {
        let model = f.clone();
        let op = step::<T, _>(move |at, view, emit| {
            if model(&view) {
                emit(0, at, encoded::<T>(&view));
            }
        });
        self.then(name, op, |before, name| Filtered { before, name, f, types: PhantomData })
    }

    /// Gives one record for each, or none.
    pub fn filter_map<U, F>(self, name: &str, f: F) -> Stream<U, FilterMapped<C, F, U>>
    where
        U: Owned,
        F: Fn(T::View<'_>) -> Option<U> + Clone + Send + Sync + 'static,
    {
        let model = f.clone();
        let op = step::<T, _>(move |at, view, emit| {
            if let Some(out) = model(view) {
                emit(0, at, encoded::<U>(&out));
            }
        });
        self.then(name, op, |before, name| FilterMapped { before, name, f, types: PhantomData })
    }

    /// Gives any number of records for each: `flat_map::<Ref<str>, _>("split", |line, out| ...)`.
    /// They are written to `out`, and may borrow from the record.
    pub fn flat_map<U, F>(self, name: &str, f: F) -> Stream<U, FlatMapped<C, F, U>>
    where
        U: Record,
        F: for<'e, 'a> Fn(T::View<'a>, &mut Emitter<'e, 'a, U>) + Clone + Send + Sync + 'static,
    {
        let model = f.clone();
        let op = step::<T, _>(move |at, view, emit| {
            let mut out = |bytes: Vec<u8>| emit(0, at, bytes);
            Emitter::<U>::collect(&mut out, |emitter| model(view, emitter));
        });
        self.then(name, op, |before, name| FlatMapped { before, name, f, types: PhantomData })
    }

    /// Looks at each record.
    pub fn inspect<F>(self, name: &str, f: F) -> Stream<T, impl Flow<Out = T>>
    where
        F: Fn(&T::View<'_>) + Clone + Send + Sync + 'static,
    {
        let op = step::<T, _>(|at, view, emit| emit(0, at, encoded::<T>(&view)));
        self.then(name, op, |before, name| Filtered {
            before,
            name,
            f: move |view: &T::View<'_>| {
                f(view);
                true
            },
            types: PhantomData,
        })
    }

    /// Gives each record its event time.
    pub fn event_time<F>(self, name: &str, f: F) -> Stream<T, Timed<C, F>>
    where
        F: Fn(&T::View<'_>) -> EventTime + Clone + Send + Sync + 'static,
    {
        let model = f.clone();
        let op = step::<T, _>(move |_, view, emit| emit(0, model(&view), encoded::<T>(&view)));
        self.then(name, op, |before, name| Timed { before, name, f, types: PhantomData })
    }

    /// Says how the watermarks of the stream come from the event times of its records, partition
    /// by partition. Belongs behind a source.
    pub fn watermarks(mut self, watermarks: Watermarks) -> Stream<T, Watched<C>> {
        if self.draft.kind != Kind::Source {
            let error = JobError::WatermarksFarFromSource(self.draft.uid.clone());
            self.builder.borrow_mut().errors.push(error);
        }
        self.draft.timed = true;
        let flow = Watched { before: self.flow, watermarks, types: PhantomData };
        Stream { builder: self.builder, flow, draft: self.draft }
    }

    /// Gives what the operator before this refuses, with an error or a panic, to a stream of its
    /// own, the second, instead of the quarantine. Behind a source, that is what it cannot read.
    ///
    /// Dead letters are output like any other: exactly once, with the epoch of their record. They
    /// count nowhere as put aside, and `--on-bad-record fail` does not concern them. Where nobody
    /// reads the stream, the records go to the quarantine.
    ///
    /// ```
    /// # use gear_core::api::{DeadLetter, SinkConnector, Sink, SourceConnector, Source, Ref};
    /// # use gear_core::dsl::App;
    /// # fn job<S, N, D>(app: &mut App, lines: S, numbers_out: N, letters_out: D)
    /// # where
    /// #     S: SourceConnector<Source: Source<Out = Ref<str>>>,
    /// #     N: SinkConnector<Sink: Sink<In = u64>>,
    /// #     D: SinkConnector<Sink: Sink<In = DeadLetter<'static>>>,
    /// # {
    /// let (numbers, refused) = app
    ///     .source("lines", lines)
    ///     .try_map::<u64, _, _>("parse", |line| line.parse::<u64>())
    ///     .dead_letters();
    /// numbers.sink("numbers", numbers_out);
    /// refused.sink("refused", letters_out);
    /// # }
    /// ```
    #[must_use]
    pub fn dead_letters(mut self) -> (Self, Stream<DeadLetter<'static>>) {
        let output = 1 + self.draft.extra.len() as u32;
        match self.draft.operators.last() {
            Some(name) if !self.draft.dead_letters.iter().any(|(other, _)| other == name) => {
                self.draft
                    .extra
                    .push(port::<DeadLetter<'static>>(&alloc::format!("dead letters of {name}")));
                self.draft.dead_letters.push((name.clone(), output));
                let mut builder = self.builder.borrow_mut();
                builder.model.nodes[self.draft.node.0].dead_letters = Some(output);
            }
            _ => {
                let error = JobError::NoDeadLetters(self.draft.uid.clone());
                self.builder.borrow_mut().errors.push(error);
            }
        }
        let letters = side(&self, output, "dead-letters");
        (self, letters)
    }

    /// How many tasks run the chain that ends here.
    #[must_use]
    pub fn set_parallelism(mut self, parallelism: u32) -> Self {
        self.draft.parallelism = Some(parallelism);
        self
    }

    /// Completes the processor with a tail of one port; what reads it connects to the result.
    pub(crate) fn finish<R: Route<T> + 'static>(
        self,
        route: impl Fn() -> R + Send + Sync + 'static,
        connect: Connect,
    ) -> (Shared, Upstream, Draft) {
        let Self { builder, flow, draft } = self;
        let name: Arc<str> = Arc::from(draft.operators.last().unwrap_or(&draft.uid).as_str());
        let mut outputs = Vec::from([port::<T>("out")]);
        outputs.extend(draft.extra.iter().cloned());
        let dead_letters = draft.dead_letters.clone();
        let make = factory(move |task, mut outputs| {
            outputs.give_dead_letters(&dead_letters);
            let lanes = outputs.lanes(0);
            let name = Arc::clone(&name);
            flow.build(task, Emit { name, route: route(), lanes, outputs, types: PhantomData })
        });
        let from = draft.id;
        builder.borrow_mut().finish(draft.clone(), outputs, make);
        (builder, Upstream { from, output: 0, connect }, draft)
    }

    /// The upstream edges of a reader that takes the records as they are.
    fn readable(self) -> (Shared, Vec<Upstream>, Draft) {
        if self.flow.is_only_input() && self.draft.parallelism.is_none() {
            let draft = self.draft.clone();
            return (self.builder, draft.upstream.clone(), draft);
        }
        let (builder, upstream, draft) = self.finish(|| OneLane, Connect::Auto);
        (builder, Vec::from([upstream]), draft)
    }

    /// Ends the chain, so that the stream can be read more than once: the result can be cloned.
    pub fn fork(self) -> Stream<T, FromInput<T>> {
        if self.flow.is_only_input() && self.draft.parallelism.is_none() {
            return Stream {
                builder: self.builder,
                flow: FromInput(PhantomData),
                draft: self.draft,
            };
        }
        let (builder, upstream, draft) = self.finish(|| OneLane, Connect::Auto);
        input(builder, Vec::from([upstream]), &draft, "fork")
    }

    /// Gives each record to the next task in turn.
    pub fn rebalance(self) -> Stream<T, FromInput<T>> {
        self.exchange(Partitioner::Rebalance, "rebalance")
    }

    /// Gives each record to every task.
    pub fn broadcast(self) -> Stream<T, FromInput<T>> {
        self.exchange(Partitioner::Broadcast, "broadcast")
    }

    /// Gives all records to one task.
    pub fn global(self) -> Stream<T, FromInput<T>> {
        self.exchange(Partitioner::Global, "global").set_parallelism(1)
    }

    fn exchange(self, partitioner: Partitioner, name: &str) -> Stream<T, FromInput<T>> {
        let (builder, upstream, draft) = self.finish(|| OneLane, Connect::Chosen(partitioner));
        input(builder, Vec::from([upstream]), &draft, name)
    }

    /// Gives each record to the task that `f` chooses among so many.
    pub fn partition_by<F>(self, name: &str, f: F) -> Stream<T, FromInput<T>>
    where
        F: Fn(&T::View<'_>, usize) -> usize + Clone + Send + Sync + 'static,
    {
        let connect = Connect::Chosen(Partitioner::Custom(name.to_string()));
        let (builder, upstream, draft) = self.finish(move || ByFunction { f: f.clone() }, connect);
        input(builder, Vec::from([upstream]), &draft, name)
    }

    /// Parts the stream: each record goes to the branch that `f` chooses, from 0 to below
    /// `branches`; any other is put aside.
    pub fn split<F>(self, name: &str, branches: usize, f: F) -> Vec<Stream<T, FromInput<T>>>
    where
        F: Fn(&T::View<'_>) -> usize + Clone + Send + Sync + 'static,
    {
        if !self.draft.extra.is_empty() {
            // The processor has side outputs, whose ports the branches would take.
            return self.fork().split(name, branches, f);
        }
        let Self { builder, flow, mut draft } = self;
        let model = f.clone();
        let op = try_step::<T, _>(move |at, view, emit| {
            let branch = model(&view);
            if branch >= branches {
                return Err(no_branch(branch, branches));
            }
            emit(branch as u32, at, encoded::<T>(&view));
            Ok(())
        });
        {
            let mut builder = builder.borrow_mut();
            builder.claim(name);
            draft.node = builder.node(name, Vec::from([draft.node]), type_name::<T>(), op);
        }
        if draft.operators.is_empty() {
            draft.uid = name.to_string();
        }
        draft.operators.push(name.to_string());
        let shared: Arc<str> = Arc::from(name);
        let outputs = (0..branches).map(|branch| port::<T>(&alloc::format!("branch{branch}")));
        let outputs = outputs.collect();
        let make = factory(move |task, outputs| {
            let (name, f) = (Arc::clone(&shared), f.clone());
            flow.build(task, Split { name, f, ports: branches, outputs, types: PhantomData })
        });
        let from = draft.id;
        builder.borrow_mut().finish(draft.clone(), outputs, make);
        (0..branches as u32)
            .map(|branch| {
                let upstream = Upstream { from, output: branch, connect: Connect::Auto };
                let mut stream = input(Rc::clone(&builder), Vec::from([upstream]), &draft, name);
                stream.draft.node = (draft.node.0, branch);
                stream
            })
            .collect()
    }

    /// Parts the stream in the records for which `f` is true, and the others.
    pub fn branch<F>(self, name: &str, f: F) -> (Stream<T, FromInput<T>>, Stream<T, FromInput<T>>)
    where
        F: Fn(&T::View<'_>) -> bool + Clone + Send + Sync + 'static,
    {
        let mut branches = self.split(name, 2, move |view| usize::from(!f(view))).into_iter();
        match (branches.next(), branches.next()) {
            (Some(yes), Some(no)) => (yes, no),
            _ => unreachable!("two branches were asked for"),
        }
    }

    /// This stream and another as one.
    pub fn union<D: Flow<Out = T>>(self, name: &str, other: Stream<T, D>) -> Stream<T> {
        let timed = self.draft.timed || other.draft.timed;
        let nodes = Vec::from([self.draft.node, other.draft.node]);
        let (builder, mut upstream, draft) = self.readable();
        let (_, others, _) = other.readable();
        upstream.extend(others);
        let mut stream = input(builder, upstream, &draft, name);
        stream.draft.timed = timed;
        stream.draft.node = {
            let mut builder = stream.builder.borrow_mut();
            builder.node(name, nodes, type_name::<T>(), ModelOp::Union)
        };
        stream
    }

    /// What follows has state for each key. The key stands for itself: an integer, for example.
    pub fn key_by<K, F>(self, f: F) -> KeyedStream<K, T, C, OwnedKey<F>>
    where
        K: Key + Owned,
        F: Fn(&T::View<'_>) -> K + Clone + Send + Sync + 'static,
    {
        self.keyed(OwnedKey(f))
    }

    /// What follows has state for each key. The key lies in the record: `key_by_ref(|word| word)`.
    /// It is copied only when it is new.
    pub fn key_by_ref<Q, F>(self, f: F) -> KeyedStream<Ref<Q>, T, C, BorrowedKey<F>>
    where
        Q: ?Sized + 'static,
        Ref<Q>: Key + for<'r> Record<View<'r> = &'r Q>,
        F: for<'r> Fn(&'r T::View<'_>) -> &'r Q + Clone + Send + Sync + 'static,
    {
        self.keyed(BorrowedKey(f))
    }

    fn keyed<K: Key, KF: KeyFn<T, K>>(self, key: KF) -> KeyedStream<K, T, C, KF> {
        KeyedStream { stream: self, key, types: PhantomData }
    }

    /// Ends the stream in a sink. The name is the identity of its output.
    pub fn sink<S>(self, name: &str, connector: S)
    where
        S: SinkConnector,
        S::Sink: Sink<In = T>,
    {
        let node = self.draft.node;
        let timed = self.draft.timed;
        let parallelism = self.draft.parallelism;
        let (builder, upstream, _) = self.readable();
        let mut builder = builder.borrow_mut();
        builder.claim(name);
        builder.node(name, Vec::from([node]), type_name::<T>(), ModelOp::Sink);
        let connector = Arc::new(connector);
        let admin = Arc::clone(&connector);
        builder.sinks.push(SinkInfo { name: name.to_string(), connector: admin });
        let draft = Draft {
            id: builder.reserve(),
            uid: name.to_string(),
            kind: Kind::Sink,
            operators: Vec::from([name.to_string()]),
            input: Some(port::<T>("in")),
            extra: Vec::new(),
            dead_letters: Vec::new(),
            upstream,
            parallelism,
            timed,
            node,
        };
        let shared: Arc<str> = Arc::from(name);
        let make = factory(move |task, outputs| {
            let task = SinkTask {
                app: task.app.clone(),
                name: task.uid.clone(),
                index: task.task.index,
                parallelism: task.parallelism,
                attempt: task.attempt,
            };
            let logic = SinkLogic::new(Arc::clone(&shared), connector.sink(&task), outputs);
            alloc::boxed::Box::new(logic)
        });
        builder.finish(draft, Vec::new(), make);
    }
}

/// A stream at the input of a new processor.
pub(crate) fn input<T: Record>(
    builder: Shared,
    upstream: Vec<Upstream>,
    before: &Draft,
    name: &str,
) -> Stream<T, FromInput<T>> {
    let (id, uid) = {
        let mut builder = builder.borrow_mut();
        (builder.reserve(), builder.invent(&alloc::format!("{}.{name}", before.uid)))
    };
    let draft = Draft {
        id,
        uid,
        kind: Kind::Operator,
        operators: Vec::new(),
        input: Some(port::<T>("in")),
        extra: Vec::new(),
        dead_letters: Vec::new(),
        upstream,
        parallelism: None,
        timed: before.timed,
        node: before.node,
    };
    Stream { builder, flow: FromInput(PhantomData), draft }
}

/// A side output of a processor that is not complete yet.
pub(crate) fn side<T: Record, U: Record, C: Flow<Out = U>>(
    of: &Stream<U, C>,
    output: u32,
    name: &str,
) -> Stream<T, FromInput<T>> {
    let from: ProcessorId = of.draft.id;
    let upstream = Upstream { from, output, connect: Connect::Auto };
    let mut stream = input(Rc::clone(&of.builder), Vec::from([upstream]), &of.draft, name);
    stream.draft.node = (of.draft.node.0, output);
    stream
}

impl Meta {
    /// The meta of a record outside the engine.
    #[must_use]
    pub const fn at(at: EventTime) -> Self {
        Self { at, partition: 0 }
    }
}
