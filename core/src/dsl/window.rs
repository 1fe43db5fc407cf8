//! Windows, as a job names them.

use crate::api::key::Key;
use crate::api::record::{Owned, Record};
use crate::api::state::State;
use crate::dsl::chain::{Flow, Windowed};
use crate::dsl::keyed::KeyedStream;
use crate::dsl::stream::Stream;
use crate::flow::aggregate::{Count, Fold, Reduce};
use crate::flow::tail::KeyFn;
use crate::flow::window::{Window, Windows};
use crate::time::Duration;

/// Windows one behind the other.
#[derive(Clone, Copy, Debug)]
pub struct Tumbling(Windows);

impl Tumbling {
    /// Windows of this length, aligned to 1970.
    #[must_use]
    pub const fn of(size: Duration) -> Self {
        Self(Windows { size, slide: size, lateness: Duration::ZERO })
    }

    /// How long behind its end a window still takes records, and emits its value again.
    #[must_use]
    pub const fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.0.lateness = lateness;
        self
    }
}

/// Windows that overlap.
#[derive(Clone, Copy, Debug)]
pub struct Sliding(Windows);

impl Sliding {
    /// Windows of length `size`, one each `slide`, aligned to 1970.
    #[must_use]
    pub const fn of(size: Duration, slide: Duration) -> Self {
        Self(Windows { size, slide, lateness: Duration::ZERO })
    }

    /// How long behind its end a window still takes records, and emits its value again.
    #[must_use]
    pub const fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.0.lateness = lateness;
        self
    }
}

impl From<Tumbling> for Windows {
    fn from(windows: Tumbling) -> Self {
        windows.0
    }
}

impl From<Sliding> for Windows {
    fn from(windows: Sliding) -> Self {
        windows.0
    }
}

/// A keyed stream gathered in windows.
pub struct WindowedStream<K: Key, T: Record, C: Flow<Out = T>, KF: KeyFn<T, K>> {
    pub(crate) keyed: KeyedStream<K, T, C, KF>,
    pub(crate) windows: Windows,
}

impl<K: Key, T: Record, C: Flow<Out = T>, KF: KeyFn<T, K>> WindowedStream<K, T, C, KF> {
    /// Counts the records of each key and window.
    pub fn count(self, name: &str) -> Stream<(K, Window, u64), Windowed<T, K, KF, Count>> {
        self.keyed.windowed(name, self.windows, Count)
    }

    /// Folds the records of each key and window into a value that begins as `initial`.
    pub fn fold<A, F>(
        self,
        name: &str,
        initial: A,
        f: F,
    ) -> Stream<(K, Window, A), Windowed<T, K, KF, Fold<A, F>>>
    where
        A: State + Owned + Sync,
        F: Fn(&mut A, T::View<'_>) + Clone + Send + Sync + 'static,
    {
        self.keyed.windowed(name, self.windows, Fold { initial, f })
    }

    /// Combines the records of each key and window pairwise.
    pub fn reduce<F>(
        self,
        name: &str,
        f: F,
    ) -> Stream<(K, Window, T), Windowed<T, K, KF, Reduce<F>>>
    where
        T: Owned,
        F: Fn(T, T) -> T + Clone + Send + Sync + 'static,
    {
        self.keyed.windowed(name, self.windows, Reduce { f })
    }
}
