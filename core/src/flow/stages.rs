//! Operators without state, fused by generics: each is one `push` that inlines the next.

use alloc::string::ToString;
use alloc::sync::Arc;
use core::fmt::Display;
use core::marker::PhantomData;

use arrayvec::ArrayVec;

use crate::api::record::{Owned, Record};
use crate::clock::PartitionClocks;
use crate::flow::batch::Batch;
use crate::flow::outputs::Outputs;
use crate::flow::push::{Entered, Guard, Meta, Push, Quarantined, REPLAYED, enter_here, guarded};
use crate::time::EventTime;

/// What every stage hands on unchanged.
macro_rules! pass {
    () => {
        fn enter(&mut self, entry: &Quarantined, guard: &mut dyn Guard) -> Entered {
            if *self.name == *entry.operator {
                return enter_here::<T>(self, entry, guard);
            }
            self.next.enter(entry, guard)
        }

        #[inline(always)]
        fn outputs(&mut self) -> &mut Outputs {
            self.next.outputs()
        }

        fn clocks(&mut self) -> Option<&mut PartitionClocks> {
            self.next.clocks()
        }
    };
}

/// One record in, one out.
pub(crate) struct Map<T, U, F, P> {
    pub(crate) name: Arc<str>,
    pub(crate) f: F,
    pub(crate) next: P,
    pub(crate) types: PhantomData<fn(T) -> U>,
}

impl<T: Record, U: Owned, F: FnMut(T::View<'_>) -> U + Send, P: Push<U>> Push<T>
    for Map<T, U, F, P>
{
    #[inline(always)]
    fn push(&mut self, meta: Meta, view: T::View<'_>) {
        self.next.push(meta, (self.f)(view));
    }

    fn push_guarded(&mut self, meta: Meta, view: T::View<'_>, guard: &mut dyn Guard) {
        match guarded(guard, || (self.f)(view.clone())) {
            Ok(out) => self.next.push_guarded(meta, out, guard),
            Err(panic) => self.next.outputs().quarantine::<T>(&self.name, meta, &view, panic),
        }
    }

    pass!();
}

/// One record in, one out or put aside.
pub(crate) struct TryMap<T, U, E, F, P> {
    pub(crate) name: Arc<str>,
    pub(crate) f: F,
    pub(crate) next: P,
    pub(crate) types: PhantomData<fn(T) -> (U, E)>,
}

impl<T, U, E, F, P> Push<T> for TryMap<T, U, E, F, P>
where
    T: Record,
    U: Record,
    E: Display,
    F: for<'r> FnMut(&'r T::View<'_>) -> Result<U::View<'r>, E> + Send,
    P: Push<U>,
{
    #[inline(always)]
    fn push(&mut self, meta: Meta, view: T::View<'_>) {
        match (self.f)(&view) {
            Ok(out) => self.next.push(meta, out),
            Err(error) => {
                self.next.outputs().quarantine::<T>(&self.name, meta, &view, error.to_string());
            }
        }
    }

    fn push_guarded(&mut self, meta: Meta, view: T::View<'_>, guard: &mut dyn Guard) {
        let error = match guarded(guard, || (self.f)(&view)) {
            Ok(Ok(out)) => return self.next.push_guarded(meta, out, guard),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic,
        };
        self.next.outputs().quarantine::<T>(&self.name, meta, &view, error);
    }

    pass!();
}

/// One record in, the same out or nothing.
pub(crate) struct Filter<T, F, P> {
    pub(crate) name: Arc<str>,
    pub(crate) f: F,
    pub(crate) next: P,
    pub(crate) types: PhantomData<fn(T)>,
}

impl<T: Record, F: FnMut(&T::View<'_>) -> bool + Send, P: Push<T>> Push<T> for Filter<T, F, P> {
    #[inline(always)]
    fn push(&mut self, meta: Meta, view: T::View<'_>) {
        if (self.f)(&view) {
            self.next.push(meta, view);
        }
    }

    fn push_guarded(&mut self, meta: Meta, view: T::View<'_>, guard: &mut dyn Guard) {
        match guarded(guard, || (self.f)(&view)) {
            Ok(true) => self.next.push_guarded(meta, view, guard),
            Ok(false) => {}
            Err(panic) => self.next.outputs().quarantine::<T>(&self.name, meta, &view, panic),
        }
    }

    pass!();
}

/// One record in, one out or nothing.
pub(crate) struct FilterMap<T, U, F, P> {
    pub(crate) name: Arc<str>,
    pub(crate) f: F,
    pub(crate) next: P,
    pub(crate) types: PhantomData<fn(T) -> U>,
}

impl<T: Record, U: Owned, F: FnMut(T::View<'_>) -> Option<U> + Send, P: Push<U>> Push<T>
    for FilterMap<T, U, F, P>
{
    #[inline(always)]
    fn push(&mut self, meta: Meta, view: T::View<'_>) {
        if let Some(out) = (self.f)(view) {
            self.next.push(meta, out);
        }
    }

    fn push_guarded(&mut self, meta: Meta, view: T::View<'_>, guard: &mut dyn Guard) {
        match guarded(guard, || (self.f)(view.clone())) {
            Ok(Some(out)) => self.next.push_guarded(meta, out, guard),
            Ok(None) => {}
            Err(panic) => self.next.outputs().quarantine::<T>(&self.name, meta, &view, panic),
        }
    }

    pass!();
}

/// Views that wait in an [`Emitter`] before they go on together.
const EMITTER_VIEWS: usize = 32;

/// Where an operator puts any number of output records for one input record.
///
/// A pushed view lives as long as the input record; it goes on with up to 31 others, so that the
/// next operator is one loop. A view of something shorter-lived goes through
/// [`Emitter::push_now`].
pub struct Emitter<'e, 'a, U: Record> {
    waiting: ArrayVec<U::View<'a>, EMITTER_VIEWS>,
    sink: &'e mut dyn Sink<U>,
}

/// What an emitter empties itself into.
trait Sink<U: Record> {
    fn take(&mut self, view: U::View<'_>);
    fn take_all(&mut self, views: &mut ArrayVec<U::View<'_>, EMITTER_VIEWS>);
}

impl<'e, 'a, U: Record> Emitter<'e, 'a, U> {
    fn new(sink: &'e mut dyn Sink<U>) -> Self {
        Self { waiting: ArrayVec::new(), sink }
    }

    /// Emits a record that borrows from the input record, or from nothing.
    #[inline(always)]
    pub fn push(&mut self, view: U::View<'a>) {
        if self.waiting.is_full() {
            self.sink.take_all(&mut self.waiting);
        }
        self.waiting.push(view);
    }

    /// Emits a record that borrows from something shorter-lived.
    pub fn push_now(&mut self, view: U::View<'_>) {
        self.finish();
        self.sink.take(view);
    }

    /// Runs `emit` with an emitter that gives each record, encoded, to `out`.
    pub(crate) fn collect(
        out: &mut dyn FnMut(alloc::vec::Vec<u8>),
        emit: impl FnOnce(&mut Emitter<'_, 'a, U>),
    ) {
        let mut kept = Kept { at: EventTime::MIN, batch: Batch::default() };
        let mut emitter = Emitter::<U>::new(&mut kept);
        emit(&mut emitter);
        emitter.finish();
        let mut reader = kept.batch.reader(0);
        while let Some((_, view)) = reader.next::<U>().expect("was encoded just now") {
            let mut bytes = alloc::vec::Vec::new();
            U::encode(&view, &mut bytes);
            out(bytes);
        }
    }

    #[inline(always)]
    fn finish(&mut self) {
        if !self.waiting.is_empty() {
            self.sink.take_all(&mut self.waiting);
        }
    }
}

/// The next operator, for the records of one input record.
struct Onward<'p, P> {
    meta: Meta,
    next: &'p mut P,
}

impl<U: Record, P: Push<U>> Sink<U> for Onward<'_, P> {
    fn take(&mut self, view: U::View<'_>) {
        self.next.push(self.meta, view);
    }

    fn take_all(&mut self, views: &mut ArrayVec<U::View<'_>, EMITTER_VIEWS>) {
        for view in views.drain(..) {
            self.next.push(self.meta, view);
        }
    }
}

/// Keeps what an operator emits until it has not panicked.
struct Kept {
    at: EventTime,
    batch: Batch,
}

impl<U: Record> Sink<U> for Kept {
    fn take(&mut self, view: U::View<'_>) {
        self.batch.push::<U>(self.at, &view);
    }

    fn take_all(&mut self, views: &mut ArrayVec<U::View<'_>, EMITTER_VIEWS>) {
        for view in views.drain(..) {
            self.batch.push::<U>(self.at, &view);
        }
    }
}

/// One record in, any number out.
pub(crate) struct FlatMap<T, U, F, P> {
    pub(crate) name: Arc<str>,
    pub(crate) f: F,
    pub(crate) next: P,
    pub(crate) types: PhantomData<fn(T) -> U>,
}

impl<T, U, F, P> Push<T> for FlatMap<T, U, F, P>
where
    T: Record,
    U: Record,
    F: for<'e, 'a> FnMut(T::View<'a>, &mut Emitter<'e, 'a, U>) + Send,
    P: Push<U>,
{
    #[inline(always)]
    fn push(&mut self, meta: Meta, view: T::View<'_>) {
        let mut onward = Onward { meta, next: &mut self.next };
        let mut emitter = Emitter::new(&mut onward);
        (self.f)(view, &mut emitter);
        emitter.finish();
    }

    fn push_guarded(&mut self, meta: Meta, view: T::View<'_>, guard: &mut dyn Guard) {
        let mut kept = Kept { at: meta.at, batch: Batch::new(alloc::vec::Vec::new(), false) };
        let emitted = guarded(guard, || {
            let mut emitter = Emitter::<U>::new(&mut kept);
            (self.f)(view.clone(), &mut emitter);
            emitter.finish();
        });
        if let Err(panic) = emitted {
            self.next.outputs().quarantine::<T>(&self.name, meta, &view, panic);
            return;
        }
        let mut reader = kept.batch.reader(0);
        while let Some((_, out)) = reader.next::<U>().expect("was encoded just now") {
            self.next.push_guarded(meta, out, guard);
        }
    }

    pass!();
}

/// Gives each record its event time.
pub(crate) struct Timestamp<T, F, P> {
    pub(crate) name: Arc<str>,
    pub(crate) f: F,
    pub(crate) next: P,
    pub(crate) types: PhantomData<fn(T)>,
}

impl<T: Record, F: FnMut(&T::View<'_>) -> EventTime + Send, P: Push<T>> Push<T>
    for Timestamp<T, F, P>
{
    #[inline(always)]
    fn push(&mut self, meta: Meta, view: T::View<'_>) {
        let at = (self.f)(&view);
        self.next.push(Meta { at, ..meta }, view);
    }

    fn push_guarded(&mut self, meta: Meta, view: T::View<'_>, guard: &mut dyn Guard) {
        match guarded(guard, || (self.f)(&view)) {
            Ok(at) => self.next.push_guarded(Meta { at, ..meta }, view, guard),
            Err(panic) => self.next.outputs().quarantine::<T>(&self.name, meta, &view, panic),
        }
    }

    pass!();
}

/// Watches the event times of each partition and knows the stream's watermark.
pub(crate) struct Watermarked<T, P> {
    pub(crate) clocks: PartitionClocks,
    pub(crate) next: P,
    pub(crate) types: PhantomData<fn(T)>,
}

impl<T: Record, P: Push<T>> Push<T> for Watermarked<T, P> {
    #[inline(always)]
    fn push(&mut self, meta: Meta, view: T::View<'_>) {
        self.clocks.on_record(meta.partition, meta.at);
        self.next.push(meta, view);
    }

    fn push_guarded(&mut self, meta: Meta, view: T::View<'_>, guard: &mut dyn Guard) {
        if meta.partition != REPLAYED {
            self.clocks.on_record(meta.partition, meta.at);
        }
        self.next.push_guarded(meta, view, guard);
    }

    fn enter(&mut self, entry: &Quarantined, guard: &mut dyn Guard) -> Entered {
        self.next.enter(entry, guard)
    }

    #[inline(always)]
    fn outputs(&mut self) -> &mut Outputs {
        self.next.outputs()
    }

    fn clocks(&mut self) -> Option<&mut PartitionClocks> {
        Some(&mut self.clocks)
    }
}
