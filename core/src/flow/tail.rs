//! Tails: the ends of a chain, where a record is given to a lane of the outputs.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::marker::PhantomData;

use crate::api::key::{Key, key_group, task_of_group};
use crate::api::record::{Owned, Record, Ref};
use crate::clock::PartitionClocks;
use crate::flow::outputs::Outputs;
use crate::flow::push::{Entered, Guard, Meta, Push, Quarantined, enter_here, guarded};

/// Chooses the lane of a record.
pub trait Route<T: Record>: Send {
    /// The lane, below `lanes`.
    fn lane(&mut self, view: &T::View<'_>, lanes: usize) -> usize;
}

/// All records into the one lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OneLane;

impl<T: Record> Route<T> for OneLane {
    #[inline(always)]
    fn lane(&mut self, _: &T::View<'_>, _: usize) -> usize {
        0
    }
}

/// By the key group of a record's key.
pub(crate) struct ByKey<K, F> {
    pub(crate) key: F,
    pub(crate) groups: u32,
    pub(crate) types: PhantomData<fn() -> K>,
}

impl<T: Record, K: Key, F: KeyFn<T, K>> Route<T> for ByKey<K, F> {
    #[inline(always)]
    fn lane(&mut self, view: &T::View<'_>, lanes: usize) -> usize {
        if lanes == 1 {
            return 0;
        }
        let hash = K::hash(&self.key.key(view), 0);
        task_of_group(key_group(hash, self.groups), lanes as u32, self.groups) as usize
    }
}

/// The key of a record, which may borrow from it.
pub trait KeyFn<T: Record, K: Key>: Clone + Send + Sync + 'static {
    /// The key.
    fn key<'r>(&self, view: &'r T::View<'_>) -> K::View<'r>;
}

/// A function to a key that stands for itself.
#[derive(Clone, Copy, Debug)]
pub struct OwnedKey<F>(pub F);

impl<T, K, F> KeyFn<T, K> for OwnedKey<F>
where
    T: Record,
    K: Key + Owned,
    F: Fn(&T::View<'_>) -> K + Clone + Send + Sync + 'static,
{
    #[inline(always)]
    fn key<'r>(&self, view: &'r T::View<'_>) -> K::View<'r> {
        (self.0)(view)
    }
}

/// A function to a key that lies in the record.
#[derive(Clone, Copy, Debug)]
pub struct BorrowedKey<F>(pub F);

impl<T, Q, F> KeyFn<T, Ref<Q>> for BorrowedKey<F>
where
    T: Record,
    Q: ?Sized + 'static,
    Ref<Q>: Key + for<'r> Record<View<'r> = &'r Q>,
    F: for<'r> Fn(&'r T::View<'_>) -> &'r Q + Clone + Send + Sync + 'static,
{
    #[inline(always)]
    fn key<'r>(&self, view: &'r T::View<'_>) -> &'r Q {
        (self.0)(view)
    }
}

/// By a job's own function.
pub(crate) struct ByFunction<F> {
    pub(crate) f: F,
}

impl<T: Record, F: FnMut(&T::View<'_>, usize) -> usize + Send> Route<T> for ByFunction<F> {
    #[inline(always)]
    fn lane(&mut self, view: &T::View<'_>, lanes: usize) -> usize {
        let lane = (self.f)(view, lanes);
        assert!(lane < lanes, "a partitioner chose task {lane} of {lanes}");
        lane
    }
}

/// The end of a chain whose records go to one port.
pub(crate) struct Emit<T, R> {
    pub(crate) name: Arc<str>,
    pub(crate) route: R,
    pub(crate) lanes: usize,
    pub(crate) outputs: Outputs,
    pub(crate) types: PhantomData<fn(T)>,
}

impl<T: Record, R: Route<T>> Push<T> for Emit<T, R> {
    #[inline(always)]
    fn push(&mut self, meta: Meta, view: T::View<'_>) {
        let lane = self.route.lane(&view, self.lanes);
        self.outputs.push::<T>(0, lane, meta, &view);
    }

    fn push_guarded(&mut self, meta: Meta, view: T::View<'_>, guard: &mut dyn Guard) {
        match guarded(guard, || self.route.lane(&view, self.lanes)) {
            Ok(lane) => self.outputs.push::<T>(0, lane, meta, &view),
            Err(panic) => self.outputs.quarantine::<T>(&self.name, meta, &view, panic),
        }
    }

    fn enter(&mut self, entry: &Quarantined, guard: &mut dyn Guard) -> Entered {
        if *self.name == *entry.operator {
            return enter_here::<T>(self, entry, guard);
        }
        Entered::Missing
    }

    #[inline(always)]
    fn outputs(&mut self) -> &mut Outputs {
        &mut self.outputs
    }

    fn clocks(&mut self) -> Option<&mut PartitionClocks> {
        None
    }
}

/// The end of a chain whose records go to the port that a function chooses.
pub(crate) struct Split<T, F> {
    pub(crate) name: Arc<str>,
    pub(crate) f: F,
    pub(crate) ports: usize,
    pub(crate) outputs: Outputs,
    pub(crate) types: PhantomData<fn(T)>,
}

impl<T: Record, F: FnMut(&T::View<'_>) -> usize + Send> Push<T> for Split<T, F> {
    #[inline(always)]
    fn push(&mut self, meta: Meta, view: T::View<'_>) {
        let port = (self.f)(&view);
        if port < self.ports {
            self.outputs.push::<T>(port, 0, meta, &view);
        } else {
            let error = no_branch(port, self.ports);
            self.outputs.quarantine::<T>(&self.name, meta, &view, error);
        }
    }

    fn push_guarded(&mut self, meta: Meta, view: T::View<'_>, guard: &mut dyn Guard) {
        let error = match guarded(guard, || (self.f)(&view)) {
            Ok(port) if port < self.ports => {
                return self.outputs.push::<T>(port, 0, meta, &view);
            }
            Ok(port) => no_branch(port, self.ports),
            Err(panic) => panic,
        };
        self.outputs.quarantine::<T>(&self.name, meta, &view, error);
    }

    fn enter(&mut self, entry: &Quarantined, guard: &mut dyn Guard) -> Entered {
        if *self.name == *entry.operator {
            return enter_here::<T>(self, entry, guard);
        }
        Entered::Missing
    }

    #[inline(always)]
    fn outputs(&mut self) -> &mut Outputs {
        &mut self.outputs
    }

    fn clocks(&mut self) -> Option<&mut PartitionClocks> {
        None
    }
}

pub(crate) fn no_branch(port: usize, ports: usize) -> String {
    let mut text = "chose branch ".to_string();
    text.push_str(&port.to_string());
    text.push_str(" of ");
    text.push_str(&ports.to_string());
    text
}
