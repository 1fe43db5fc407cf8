//! Runs many seeds on several threads; what comes out does not depend on how many.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::report::{Ensemble, Report};

/// How far a sweep goes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads that share the seeds.
    pub threads: usize,
    /// When no further seed is begun; none for never.
    pub until: Option<Instant>,
    /// After so many failures no further seed is begun.
    pub failures: usize,
}

impl Default for Limits {
    /// All processors, to the last seed or the tenth failure.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, until: None, failures: 10 }
    }
}

/// Runs seeds, in their order so far as threads have one, and tells of each.
///
/// # Panics
/// If `run` does.
pub fn sweep(
    seeds: Range<u64>,
    limits: &Limits,
    run: impl Fn(u64) -> Report + Sync,
    done: impl Fn(&Report) + Sync,
) -> Ensemble {
    let next = AtomicU64::new(seeds.start);
    let all = Mutex::new(Ensemble::default());
    let work = || {
        loop {
            let late = limits.until.is_some_and(|until| Instant::now() >= until);
            let failures = lock(&all).failures.len();
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if late || failures >= limits.failures || seed >= seeds.end {
                return;
            }
            let report = run(seed);
            done(&report);
            lock(&all).add(report);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..limits.threads.max(1)).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn lock(all: &Mutex<Ensemble>) -> std::sync::MutexGuard<'_, Ensemble> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_change_nothing() {
        let run = |seed: u64| Report {
            seed,
            events: seed,
            violations: if seed == 7 { vec!["seven".into()] } else { Vec::new() },
            ..Report::default()
        };
        let of = |threads| {
            let limits = Limits { threads, ..Limits::default() };
            let all = sweep(3..40, &limits, run, |_| {});
            (all.seeds, all.events, all.failures.into_keys().collect::<Vec<_>>())
        };
        assert_eq!(of(1), of(4));
        assert_eq!(of(1), (37, (3..40).sum(), vec![7]));
    }

    #[test]
    fn a_time_limit_ends_it() {
        let limits = Limits { until: Some(Instant::now()), ..Limits::default() };
        assert_eq!(sweep(0..1_000, &limits, |_| Report::default(), |_| {}).seeds, 0);
    }
}
