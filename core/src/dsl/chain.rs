//! Chains of operators as types: what a stream grows, and what makes a task's logic of it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt::Display;
use core::marker::PhantomData;
use core::ops::Range;

use crate::api::key::{Key, groups_of_task};
use crate::api::operator::Operator;
use crate::api::process::Process;
use crate::api::record::{Owned, Record};
use crate::api::source::{Source, SourceConnector};
use crate::clock::{PartitionClocks, Watermarks};
use crate::flow::aggregate::{AggregateLogic, Aggregator, DistinctLogic, EmitWhen};
use crate::flow::logic::{Logic, TaskInfo};
use crate::flow::operator::OperatorLogic;
use crate::flow::process::{ProcessLogic, SIDE_PORT};
use crate::flow::push::Push;
use crate::flow::segment::{Segment, Stateless};
use crate::flow::source::SourceLogic;
use crate::flow::stages::{
    Emitter, Filter, FilterMap, FlatMap, Map, Timestamp, TryMap, Watermarked,
};
use crate::flow::tail::KeyFn;
use crate::flow::window::{LATE_PORT, Window, WindowLogic, Windows};
use crate::time::{EventTime, Time};

/// A chain of operators that ends in records of one type.
pub trait Flow: Clone + Send + Sync + 'static {
    /// The records at its end.
    type Out: Record;

    /// Makes the logic of a task, with `next` behind the chain.
    fn build<P: Push<Self::Out> + 'static>(&self, task: &TaskInfo, next: P) -> Box<dyn Logic>;

    /// True if the chain is only an input, which a reader can do without.
    fn is_only_input(&self) -> bool {
        false
    }
}

fn groups(task: &TaskInfo) -> (Range<u32>, u32) {
    let own = groups_of_task(task.task.index, task.parallelism, task.key_groups);
    (own, task.key_groups)
}

/// Declares a chain: its fields, and how it is put in front of what follows.
macro_rules! chain {
    (
        $(#[$doc:meta])*
        $name:ident<$($param:ident),* $(,)?> { $($field:ident: $type:ty),* $(,)? }
        types $types:ty
    ) => {
        $(#[$doc])*
        pub struct $name<$($param),*> {
            $(pub(crate) $field: $type,)*
            pub(crate) types: PhantomData<fn() -> $types>,
        }

        impl<$($param),*> Clone for $name<$($param),*>
        where
            $($type: Clone,)*
        {
            fn clone(&self) -> Self {
                Self { $($field: self.$field.clone(),)* types: PhantomData }
            }
        }
    };
}

/// The input of a task, and no operator yet.
pub struct FromInput<T>(pub(crate) PhantomData<fn() -> T>);

impl<T> Clone for FromInput<T> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<T: Record> Flow for FromInput<T> {
    type Out = T;

    fn build<P: Push<T> + 'static>(&self, _: &TaskInfo, next: P) -> Box<dyn Logic> {
        Box::new(Stateless { segment: Segment::new(next) })
    }

    fn is_only_input(&self) -> bool {
        true
    }
}

chain! {
    /// A source.
    FromSource<S> { name: Arc<str>, connector: Arc<S> }
    types S
}

impl<S: SourceConnector> Flow for FromSource<S> {
    type Out = <S::Source as Source>::Out;

    fn build<P: Push<Self::Out> + 'static>(&self, _: &TaskInfo, next: P) -> Box<dyn Logic> {
        let (source, discovers) = (self.connector.source(), self.connector.discovers());
        Box::new(SourceLogic::new(Arc::clone(&self.name), source, discovers, next))
    }
}

/// Declares a chain that is an earlier one and a stage behind it.
macro_rules! stage {
    ($(#[$doc:meta])* $name:ident<$($extra:ident),*> => $stage:ident) => {
        chain! {
            $(#[$doc])*
            $name<C, F $(, $extra)*> { before: C, name: Arc<str>, f: F }
            types (C, F $(, $extra)*)
        }
    };
}

stage! {
    /// A chain and a map behind it.
    Mapped<U> => Map
}

impl<C, F, U> Flow for Mapped<C, F, U>
where
    C: Flow,
    U: Owned,
    F: FnMut(<C::Out as Record>::View<'_>) -> U + Clone + Send + Sync + 'static,
{
    type Out = U;

    fn build<P: Push<U> + 'static>(&self, task: &TaskInfo, next: P) -> Box<dyn Logic> {
        let (name, f) = (Arc::clone(&self.name), self.f.clone());
        self.before.build(task, Map { name, f, next, types: PhantomData })
    }
}

stage! {
    /// A chain and a map behind it that can fail.
    TryMapped<U, E> => TryMap
}

impl<C, F, U, E> Flow for TryMapped<C, F, U, E>
where
    C: Flow,
    U: Record,
    E: Display + 'static,
    F: for<'r> FnMut(&'r <C::Out as Record>::View<'_>) -> Result<U::View<'r>, E>
        + Clone
        + Send
        + Sync
        + 'static,
{
    type Out = U;

    fn build<P: Push<U> + 'static>(&self, task: &TaskInfo, next: P) -> Box<dyn Logic> {
        let (name, f) = (Arc::clone(&self.name), self.f.clone());
        self.before.build(task, TryMap::<_, U, E, _, _> { name, f, next, types: PhantomData })
    }
}

stage! {
    /// A chain and a filter behind it.
    Filtered<> => Filter
}

impl<C, F> Flow for Filtered<C, F>
where
    C: Flow,
    F: FnMut(&<C::Out as Record>::View<'_>) -> bool + Clone + Send + Sync + 'static,
{
    type Out = C::Out;

    fn build<P: Push<C::Out> + 'static>(&self, task: &TaskInfo, next: P) -> Box<dyn Logic> {
        let (name, f) = (Arc::clone(&self.name), self.f.clone());
        self.before.build(task, Filter { name, f, next, types: PhantomData })
    }
}

stage! {
    /// A chain and a map behind it that can drop records.
    FilterMapped<U> => FilterMap
}

impl<C, F, U> Flow for FilterMapped<C, F, U>
where
    C: Flow,
    U: Owned,
    F: FnMut(<C::Out as Record>::View<'_>) -> Option<U> + Clone + Send + Sync + 'static,
{
    type Out = U;

    fn build<P: Push<U> + 'static>(&self, task: &TaskInfo, next: P) -> Box<dyn Logic> {
        let (name, f) = (Arc::clone(&self.name), self.f.clone());
        self.before.build(task, FilterMap { name, f, next, types: PhantomData })
    }
}

stage! {
    /// A chain and an operator behind it that emits any number of records for each.
    FlatMapped<U> => FlatMap
}

impl<C, F, U> Flow for FlatMapped<C, F, U>
where
    C: Flow,
    U: Record,
    F: for<'e, 'a> FnMut(<C::Out as Record>::View<'a>, &mut Emitter<'e, 'a, U>)
        + Clone
        + Send
        + Sync
        + 'static,
{
    type Out = U;

    fn build<P: Push<U> + 'static>(&self, task: &TaskInfo, next: P) -> Box<dyn Logic> {
        let (name, f) = (Arc::clone(&self.name), self.f.clone());
        self.before.build(task, FlatMap { name, f, next, types: PhantomData })
    }
}

stage! {
    /// A chain whose records got event times.
    Timed<> => Timestamp
}

impl<C, F> Flow for Timed<C, F>
where
    C: Flow,
    F: FnMut(&<C::Out as Record>::View<'_>) -> EventTime + Clone + Send + Sync + 'static,
{
    type Out = C::Out;

    fn build<P: Push<C::Out> + 'static>(&self, task: &TaskInfo, next: P) -> Box<dyn Logic> {
        let (name, f) = (Arc::clone(&self.name), self.f.clone());
        self.before.build(task, Timestamp { name, f, next, types: PhantomData })
    }
}

chain! {
    /// A chain whose partitions are watched for watermarks.
    Watched<C> { before: C, watermarks: Watermarks }
    types C
}

impl<C: Flow> Flow for Watched<C> {
    type Out = C::Out;

    fn build<P: Push<C::Out> + 'static>(&self, task: &TaskInfo, next: P) -> Box<dyn Logic> {
        let clocks = PartitionClocks::new(self.watermarks.clone(), 0, Time::ZERO);
        self.before.build(task, Watermarked { clocks, next, types: PhantomData })
    }
}

chain! {
    /// An aggregate at the head of a task.
    Aggregated<T, K, KF, A> { name: Arc<str>, key: KF, aggregator: A, when: EmitWhen }
    types (T, K)
}

impl<T, K, KF, A> Flow for Aggregated<T, K, KF, A>
where
    T: Record,
    K: Key,
    KF: KeyFn<T, K>,
    A: Aggregator<T>,
    A::Value: Owned,
{
    type Out = (K, A::Value);

    fn build<P: Push<Self::Out> + 'static>(&self, task: &TaskInfo, next: P) -> Box<dyn Logic> {
        let name = Arc::clone(&self.name);
        let (key, aggregator) = (self.key.clone(), self.aggregator.clone());
        Box::new(AggregateLogic::<T, K, KF, A, P>::new(
            name,
            key,
            aggregator,
            self.when,
            groups(task),
            next,
        ))
    }
}

chain! {
    /// The first record of each key, at the head of a task.
    Distinct<T, K, KF> { name: Arc<str>, key: KF }
    types (T, K)
}

impl<T: Record, K: Key, KF: KeyFn<T, K>> Flow for Distinct<T, K, KF> {
    type Out = T;

    fn build<P: Push<T> + 'static>(&self, task: &TaskInfo, next: P) -> Box<dyn Logic> {
        let (name, key) = (Arc::clone(&self.name), self.key.clone());
        Box::new(DistinctLogic::<T, K, KF, P>::new(name, key, groups(task), next))
    }
}

chain! {
    /// Windows at the head of a task.
    Windowed<T, K, KF, A> { name: Arc<str>, key: KF, aggregator: A, windows: Windows }
    types (T, K)
}

impl<T, K, KF, A> Flow for Windowed<T, K, KF, A>
where
    T: Record,
    K: Key,
    KF: KeyFn<T, K>,
    A: Aggregator<T>,
    A::Value: Owned,
{
    type Out = (K, Window, A::Value);

    fn build<P: Push<Self::Out> + 'static>(&self, task: &TaskInfo, mut next: P) -> Box<dyn Logic> {
        let late_port = next.outputs().has_readers(LATE_PORT);
        Box::new(WindowLogic::<T, K, KF, A, P>::new(
            Arc::clone(&self.name),
            self.key.clone(),
            self.aggregator.clone(),
            self.windows,
            late_port,
            groups(task),
            next,
        ))
    }
}

chain! {
    /// A keyed operator written by hand, at the head of a task.
    Processed<R, KF> { name: Arc<str>, process: R, key: KF }
    types R
}

impl<R: Process, KF: KeyFn<R::In, R::Key>> Flow for Processed<R, KF> {
    type Out = R::Out;

    fn build<P: Push<R::Out> + 'static>(&self, task: &TaskInfo, mut next: P) -> Box<dyn Logic> {
        let has_side = next.outputs().has_readers(SIDE_PORT);
        let (name, process) = (Arc::clone(&self.name), self.process.clone());
        let key = self.key.clone();
        Box::new(ProcessLogic::<R, KF, P>::new(name, process, key, has_side, groups(task), next))
    }
}

chain! {
    /// A low-level operator at the head of a task.
    Operated<R> { name: Arc<str>, operator: R }
    types R
}

impl<R: Operator> Flow for Operated<R> {
    type Out = R::Out;

    fn build<P: Push<R::Out> + 'static>(&self, _: &TaskInfo, next: P) -> Box<dyn Logic> {
        let (name, operator) = (Arc::clone(&self.name), self.operator.clone());
        Box::new(OperatorLogic::new(name, operator, next))
    }
}
