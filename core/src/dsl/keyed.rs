//! Keyed streams: aggregates, distinct, windows, and operators written by hand.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::api::key::Key;
use crate::api::process::Process;
use crate::api::record::{Owned, Record, type_name};
use crate::api::state::State;
use crate::dag::{Kind, Partitioner, Port};
use crate::dsl::builder::{Connect, Draft, JobError};
use crate::dsl::chain::{Aggregated, Distinct, Flow, FromInput, Processed, Windowed};
use crate::dsl::expiring::ExpiringStream;
use crate::dsl::model::{ModelAggregate, ModelOp};
use crate::dsl::stream::{Stream, port, side};
use crate::dsl::window::WindowedStream;
use crate::flow::aggregate::{Aggregator, Count, EmitWhen, Fold, Reduce};
use crate::flow::process::SIDE_PORT;
use crate::flow::tail::{ByKey, KeyFn};
use crate::flow::window::{LATE_PORT, Window, Windows};
use crate::time::Duration;

/// A stream whose records belong to keys.
pub struct KeyedStream<K: Key, T: Record, C: Flow<Out = T>, KF: KeyFn<T, K>> {
    pub(crate) stream: Stream<T, C>,
    pub(crate) key: KF,
    pub(crate) types: PhantomData<fn() -> K>,
}

impl<K: Key, T: Record, C: Flow<Out = T>, KF: KeyFn<T, K>> KeyedStream<K, T, C, KF> {
    /// Sends the records to their keys' tasks, where `flow` is the head of the processor `name`.
    fn head<U: Record, D: Flow<Out = U>>(
        self,
        name: &str,
        op: ModelOp,
        extra: Vec<Port>,
        flow: D,
    ) -> Stream<U, D> {
        let node = self.stream.draft.node;
        let builder = self.stream.builder.clone();
        let (_, upstream, before) = self.stream.finish_keyed::<K, KF>(self.key);
        let mut shared = builder.borrow_mut();
        shared.claim(name);
        let node = shared.node(name, Vec::from([node]), type_name::<T>(), op);
        let draft = Draft {
            id: shared.reserve(),
            uid: name.to_string(),
            kind: Kind::Operator,
            operators: Vec::from([name.to_string()]),
            input: Some(port::<T>("in")),
            extra,
            dead_letters: Vec::new(),
            upstream: Vec::from([upstream]),
            parallelism: None,
            timed: before.timed,
            node,
        };
        drop(shared);
        Stream { builder, flow, draft }
    }

    fn aggregate<A>(
        self,
        name: &str,
        aggregator: A,
    ) -> Stream<(K, A::Value), Aggregated<T, K, KF, A>>
    where
        A: Aggregator<T>,
        A::Value: Owned,
    {
        let op = ModelOp::Aggregate {
            aggregate: model::<T, K, KF, A>(&self.key, &aggregator),
            updates: Arc::new(AtomicBool::new(false)),
        };
        let flow = Aggregated {
            name: Arc::from(name),
            key: self.key.clone(),
            aggregator,
            when: EmitWhen::End,
            types: PhantomData,
        };
        self.head(name, op, Vec::new(), flow)
    }

    /// Counts the records of each key.
    pub fn count(self, name: &str) -> Stream<(K, u64), Aggregated<T, K, KF, Count>> {
        self.aggregate(name, Count)
    }

    /// Folds the records of each key into a value that begins as `initial`.
    pub fn fold<A, F>(
        self,
        name: &str,
        initial: A,
        f: F,
    ) -> Stream<(K, A), Aggregated<T, K, KF, Fold<A, F>>>
    where
        A: State + Owned + Sync,
        F: Fn(&mut A, T::View<'_>) + Clone + Send + Sync + 'static,
    {
        self.aggregate(name, Fold { initial, f })
    }

    /// Combines the records of each key pairwise.
    pub fn reduce<F>(self, name: &str, f: F) -> Stream<(K, T), Aggregated<T, K, KF, Reduce<F>>>
    where
        T: Owned,
        F: Fn(T, T) -> T + Clone + Send + Sync + 'static,
    {
        self.aggregate(name, Reduce { f })
    }

    /// Passes the first record of each key.
    pub fn distinct(self, name: &str) -> Stream<T, Distinct<T, K, KF>> {
        let op = ModelOp::Distinct { key: key_bytes::<T, K, KF>(&self.key) };
        let flow = Distinct { name: Arc::from(name), key: self.key.clone(), types: PhantomData };
        self.head(name, op, Vec::new(), flow)
    }

    /// Gathers the records of each key in windows of event time.
    pub fn window(self, windows: impl Into<Windows>) -> WindowedStream<K, T, C, KF> {
        WindowedStream { keyed: self, windows: windows.into() }
    }

    pub(crate) fn windowed<A>(
        self,
        name: &str,
        windows: Windows,
        aggregator: A,
    ) -> Stream<(K, Window, A::Value), Windowed<T, K, KF, A>>
    where
        A: Aggregator<T>,
        A::Value: Owned,
    {
        {
            let mut builder = self.stream.builder.borrow_mut();
            if !self.stream.draft.timed {
                builder.errors.push(JobError::WindowWithoutTime(name.to_string()));
            }
            if windows.size.as_micros() == 0 || windows.slide.as_micros() == 0 {
                builder.errors.push(JobError::EmptyWindow(name.to_string()));
            }
        }
        let op =
            ModelOp::Window { aggregate: model::<T, K, KF, A>(&self.key, &aggregator), windows };
        let flow = Windowed {
            name: Arc::from(name),
            key: self.key.clone(),
            aggregator,
            windows,
            types: PhantomData,
        };
        self.head(name, op, Vec::from([port::<T>("late")]), flow)
    }

    /// Forgets a key when nothing has come for it for so long.
    pub fn time_to_live(self, after: Duration) -> ExpiringStream<K, T, C, KF> {
        ExpiringStream { keyed: self, after }
    }

    /// Runs an operator written by hand, with state and timers for each key.
    pub fn process<R>(self, name: &str, process: R) -> Stream<R::Out, Processed<R, KF>>
    where
        R: Process<Key = K, In = T>,
    {
        let flow =
            Processed { name: Arc::from(name), process, key: self.key.clone(), types: PhantomData };
        self.head(name, ModelOp::Opaque, Vec::from([port::<R::Side>("side")]), flow)
    }
}

impl<T: Record, C: Flow<Out = T>> Stream<T, C> {
    fn finish_keyed<K: Key, KF: KeyFn<T, K>>(
        self,
        key: KF,
    ) -> (crate::dsl::builder::Shared, crate::dsl::builder::Upstream, Draft) {
        let Self { builder, flow, draft } = self;
        let name: Arc<str> = Arc::from(draft.operators.last().unwrap_or(&draft.uid).as_str());
        let mut outputs = Vec::from([port::<T>("out")]);
        outputs.extend(draft.extra.iter().cloned());
        let dead_letters = draft.dead_letters.clone();
        let make = crate::dsl::builder::factory(move |task, mut outputs| {
            outputs.give_dead_letters(&dead_letters);
            let route =
                ByKey::<K, KF> { key: key.clone(), groups: task.key_groups, types: PhantomData };
            let lanes = outputs.lanes(0);
            let name = Arc::clone(&name);
            let tail = crate::flow::tail::Emit { name, route, lanes, outputs, types: PhantomData };
            let logic: Box<dyn crate::flow::logic::Logic> = flow.build(task, tail);
            logic
        });
        let from = draft.id;
        builder.borrow_mut().finish(draft.clone(), outputs, make);
        let connect = Connect::Chosen(Partitioner::Hash);
        (builder, crate::dsl::builder::Upstream { from, output: 0, connect }, draft)
    }
}

impl<T, K, KF, A> Stream<(K, A::Value), Aggregated<T, K, KF, A>>
where
    T: Record,
    K: Key,
    KF: KeyFn<T, K>,
    A: Aggregator<T>,
    A::Value: Owned,
{
    /// Gives the value after each record, instead of once at the end of the input.
    #[must_use]
    pub fn updates(mut self) -> Self {
        self.flow.when = EmitWhen::Update;
        let builder = self.builder.borrow();
        if let ModelOp::Aggregate { updates, .. } = &builder.model.nodes[self.draft.node.0].op {
            updates.store(true, Ordering::Relaxed);
        }
        drop(builder);
        self
    }
}

impl<T, K, KF, A> Stream<(K, Window, A::Value), Windowed<T, K, KF, A>>
where
    T: Record,
    K: Key,
    KF: KeyFn<T, K>,
    A: Aggregator<T>,
    A::Value: Owned,
{
    /// The records that came when every window of theirs was over.
    #[must_use]
    pub fn late(&self) -> Stream<T, FromInput<T>> {
        side(self, LATE_PORT as u32, "late")
    }
}

impl<R: Process, KF: KeyFn<R::In, R::Key>> Stream<R::Out, Processed<R, KF>> {
    /// What the operator emits on its side output.
    #[must_use]
    pub fn side(&self) -> Stream<R::Side, FromInput<R::Side>> {
        side(self, SIDE_PORT as u32, "side")
    }
}

fn key_bytes<T: Record, K: Key, KF: KeyFn<T, K>>(
    key: &KF,
) -> Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync> {
    let key = key.clone();
    Arc::new(move |mut record| {
        let mut bytes = Vec::new();
        let view = T::decode(&mut record).expect("the model encoded it");
        K::encode(&key.key(&view), &mut bytes);
        bytes
    })
}

fn model<T: Record, K: Key, KF: KeyFn<T, K>, A: Aggregator<T>>(
    key: &KF,
    aggregator: &A,
) -> ModelAggregate {
    let (first, add) = (aggregator.clone(), aggregator.clone());
    ModelAggregate {
        key: key_bytes::<T, K, KF>(key),
        first: Arc::new(move |mut record| {
            let view = T::decode(&mut record).expect("the model encoded it");
            let mut bytes = Vec::new();
            first.first(view).save(&mut bytes);
            bytes
        }),
        add: Arc::new(move |mut value, mut record| {
            let view = T::decode(&mut record).expect("the model encoded it");
            let mut value = A::Value::load(&mut value).expect("the model saved it");
            add.add(&mut value, view);
            let mut bytes = Vec::new();
            value.save(&mut bytes);
            bytes
        }),
    }
}
