//! Keyed aggregates whose keys are forgotten when nothing has come for them for a time.

use core::marker::PhantomData;

use crate::api::key::Key;
use crate::api::process::{Process, ProcessContext, States, ValueState};
use crate::api::record::{Owned, Record};
use crate::api::state::State;
use crate::dsl::chain::{Flow, Processed};
use crate::dsl::keyed::KeyedStream;
use crate::dsl::stream::Stream;
use crate::flow::aggregate::{Aggregator, Count, Fold, Reduce};
use crate::flow::tail::KeyFn;
use crate::time::{Duration, EventTime, WallTime};

/// A keyed stream whose state has a time to live.
///
/// Time is event time where the stream has watermarks, else the wall clock. A key's value is
/// emitted when it expires, or at the end of the input; what comes for it later begins anew.
pub struct ExpiringStream<K: Key, T: Record, C: Flow<Out = T>, KF: KeyFn<T, K>> {
    pub(crate) keyed: KeyedStream<K, T, C, KF>,
    pub(crate) after: Duration,
}

impl<K: Key, T: Record, C: Flow<Out = T>, KF: KeyFn<T, K>> ExpiringStream<K, T, C, KF> {
    fn aggregate<A>(
        self,
        name: &str,
        aggregator: A,
    ) -> Stream<(K, A::Value), Processed<Expiring<K, T, A>, KF>>
    where
        A: Aggregator<T>,
        A::Value: Owned,
    {
        let timed = self.keyed.stream.draft.timed;
        self.keyed.process(
            name,
            Expiring {
                aggregator,
                expiry: Expiry { after: self.after, timed, last: ValueState::default() },
                value: ValueState::default(),
                types: PhantomData,
            },
        )
    }

    /// Counts the records of each key.
    pub fn count(self, name: &str) -> Stream<(K, u64), Processed<Expiring<K, T, Count>, KF>> {
        self.aggregate(name, Count)
    }

    /// Folds the records of each key into a value that begins as `initial`.
    pub fn fold<A, F>(
        self,
        name: &str,
        initial: A,
        f: F,
    ) -> Stream<(K, A), Processed<Expiring<K, T, Fold<A, F>>, KF>>
    where
        A: State + Owned + Sync,
        F: Fn(&mut A, T::View<'_>) + Clone + Send + Sync + 'static,
    {
        self.aggregate(name, Fold { initial, f })
    }

    /// Combines the records of each key pairwise.
    pub fn reduce<F>(
        self,
        name: &str,
        f: F,
    ) -> Stream<(K, T), Processed<Expiring<K, T, Reduce<F>>, KF>>
    where
        T: Owned,
        F: Fn(T, T) -> T + Clone + Send + Sync + 'static,
    {
        self.aggregate(name, Reduce { f })
    }

    /// Passes the first record of each key, and the first after its key has expired.
    pub fn distinct(self, name: &str) -> Stream<T, Processed<ExpiringDistinct<K, T>, KF>> {
        let timed = self.keyed.stream.draft.timed;
        self.keyed.process(
            name,
            ExpiringDistinct {
                expiry: Expiry { after: self.after, timed, last: ValueState::default() },
                types: PhantomData,
            },
        )
    }
}

/// When a key was last heard of, and the timer that looks whether that is too long ago.
#[derive(Clone, Copy)]
struct Expiry {
    after: Duration,
    timed: bool,
    last: ValueState<i64>,
}

impl Expiry {
    fn open(&mut self, states: &mut States) {
        self.last = states.value("last");
    }

    /// Notes a record; true if it is the first of its key.
    fn touch<O: Record, S: Record>(&self, cx: &mut ProcessContext<'_, O, S>) -> bool {
        let before = cx.get(self.last);
        let now = if self.timed { cx.at.0 } else { cx.wall.0 };
        // A record out of order does not make a key older.
        cx.set(self.last, &before.map_or(now, |before| before.max(now)));
        if before.is_none() {
            self.look_at(now, cx);
        }
        before.is_none()
    }

    fn look_at<O: Record, S: Record>(&self, last: i64, cx: &mut ProcessContext<'_, O, S>) {
        if self.timed {
            cx.set_event_timer(EventTime(last) + self.after);
        } else {
            cx.set_wall_timer(WallTime(last) + self.after);
            // At the end of the input no wall-clock timer comes due any more.
            cx.set_event_timer(EventTime::MAX);
        }
    }

    /// A timer is due: true if the key has expired, or the input has ended.
    fn is_over<O: Record, S: Record>(&self, now: i64, cx: &mut ProcessContext<'_, O, S>) -> bool {
        let last = cx.get(self.last).unwrap_or(i64::MIN);
        let ended = cx.watermark == EventTime::MAX;
        let after = i64::try_from(self.after.as_micros()).unwrap_or(i64::MAX);
        if !ended && last.saturating_add(after) > now {
            self.look_at(last, cx);
            return false;
        }
        cx.clear(self.last);
        if !self.timed {
            cx.clear_event_timer(EventTime::MAX);
            cx.clear_wall_timer(WallTime(last) + self.after);
        }
        true
    }
}

/// An aggregate with a time to live.
pub struct Expiring<K, T: Record, A: Aggregator<T>> {
    aggregator: A,
    expiry: Expiry,
    value: ValueState<A::Value>,
    types: PhantomData<fn() -> (K, T)>,
}

impl<K, T: Record, A: Aggregator<T>> Clone for Expiring<K, T, A> {
    fn clone(&self) -> Self {
        Self {
            aggregator: self.aggregator.clone(),
            expiry: self.expiry,
            value: self.value,
            types: PhantomData,
        }
    }
}

impl<K: Key, T: Record, A: Aggregator<T>> Expiring<K, T, A>
where
    A::Value: Owned,
{
    fn look(&self, now: i64, key: K::View<'_>, cx: &mut ProcessContext<'_, (K, A::Value), ()>) {
        if self.expiry.is_over(now, cx)
            && let Some(value) = cx.get(self.value)
        {
            cx.clear(self.value);
            cx.emit((key, value));
        }
    }
}

impl<K: Key, T: Record, A: Aggregator<T>> Process for Expiring<K, T, A>
where
    A::Value: Owned,
{
    type Key = K;
    type In = T;
    type Out = (K, A::Value);
    type Side = ();

    fn open(&mut self, states: &mut States) {
        self.expiry.open(states);
        self.value = states.value("value");
    }

    fn on_record(&mut self, record: T::View<'_>, cx: &mut ProcessContext<'_, (K, A::Value), ()>) {
        self.expiry.touch(cx);
        let value = match cx.get(self.value) {
            None => self.aggregator.first(record),
            Some(mut value) => {
                self.aggregator.add(&mut value, record);
                value
            }
        };
        cx.set(self.value, &value);
    }

    fn on_event_timer(
        &mut self,
        at: EventTime,
        key: K::View<'_>,
        cx: &mut ProcessContext<'_, (K, A::Value), ()>,
    ) {
        self.look(at.0, key, cx);
    }

    fn on_wall_timer(
        &mut self,
        at: WallTime,
        key: K::View<'_>,
        cx: &mut ProcessContext<'_, (K, A::Value), ()>,
    ) {
        self.look(at.0, key, cx);
    }
}

/// The first record of each key, with a time to live.
pub struct ExpiringDistinct<K, T> {
    expiry: Expiry,
    types: PhantomData<fn() -> (K, T)>,
}

impl<K, T> Clone for ExpiringDistinct<K, T> {
    fn clone(&self) -> Self {
        Self { expiry: self.expiry, types: PhantomData }
    }
}

impl<K: Key, T: Record> Process for ExpiringDistinct<K, T> {
    type Key = K;
    type In = T;
    type Out = T;
    type Side = ();

    fn open(&mut self, states: &mut States) {
        self.expiry.open(states);
    }

    fn on_record(&mut self, record: T::View<'_>, cx: &mut ProcessContext<'_, T, ()>) {
        if self.expiry.touch(cx) {
            cx.emit(record);
        }
    }

    fn on_event_timer(
        &mut self,
        at: EventTime,
        _: K::View<'_>,
        cx: &mut ProcessContext<'_, T, ()>,
    ) {
        self.expiry.is_over(at.0, cx);
    }

    fn on_wall_timer(&mut self, at: WallTime, _: K::View<'_>, cx: &mut ProcessContext<'_, T, ()>) {
        self.expiry.is_over(at.0, cx);
    }
}
