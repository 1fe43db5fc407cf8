//! A sink that counts its records and drops them.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gear_core::api::Record;
use gear_core::api::sink::{Sink, SinkConnector, SinkContext, SinkTask};
use gear_core::flow::push::Meta;
use gear_core::id::Epoch;
use gear_core::message::Pending;

/// Counts records and drops them.
#[must_use]
pub fn sink<T: Record>() -> BlackHole<T> {
    BlackHole { count: Arc::default(), kind: PhantomData }
}

/// The sink; made by [`sink`].
#[derive(Debug)]
pub struct BlackHole<T: Record> {
    count: Arc<AtomicU64>,
    kind: PhantomData<fn(T)>,
}

impl<T: Record> BlackHole<T> {
    /// The records that all tasks have dropped, up to their last barrier; those that were read
    /// again after a failure are counted again.
    #[must_use]
    pub fn count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.count)
    }
}

impl<T: Record> SinkConnector for BlackHole<T> {
    type Sink = Dropped<T>;

    fn sink(&self, _: &SinkTask) -> Dropped<T> {
        Dropped { count: Arc::clone(&self.count), own: 0, kind: PhantomData }
    }

    fn transactional(&self) -> bool {
        true
    }
}

/// Drops the records of one task.
#[derive(Debug)]
pub struct Dropped<T: Record> {
    count: Arc<AtomicU64>,
    /// Records since the last barrier: the shared count would be fought for by all tasks.
    own: u64,
    kind: PhantomData<fn(T)>,
}

impl<T: Record> Sink for Dropped<T> {
    type In = T;

    fn open(&mut self, _: &[Pending], _: &mut SinkContext<'_>) -> Result<(), String> {
        Ok(())
    }

    #[inline]
    fn write(&mut self, _: Meta, _: T::View<'_>, _: &mut SinkContext<'_>) -> Result<(), String> {
        self.own += 1;
        Ok(())
    }

    fn prepare(&mut self, _: Epoch, _: bool, _: &mut SinkContext<'_>) -> Result<Vec<u8>, String> {
        self.count.fetch_add(std::mem::take(&mut self.own), Ordering::Relaxed);
        Ok(Vec::new())
    }

    fn commit(&mut self, _: Epoch, _: &mut SinkContext<'_>) -> Result<(), String> {
        Ok(())
    }
}
