//! Running jobs in this process.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gear_core::dsl::{App, Job, Settings};
use gear_node::{Report, RuntimeOptions};

/// Measure the processor's time of this process instead of the time that passes: on a machine that
/// others use, for rows with one thread.
pub(crate) static BY_CPU: AtomicBool = AtomicBool::new(false);

/// Measures time.
pub(crate) struct Watch(Instant, Duration);

impl Watch {
    pub(crate) fn start() -> Self {
        Self(Instant::now(), cpu(libc::CLOCK_PROCESS_CPUTIME_ID))
    }

    pub(crate) fn seconds(&self) -> f64 {
        let passed = self.0.elapsed();
        let used = cpu(libc::CLOCK_PROCESS_CPUTIME_ID) - self.1;
        if BY_CPU.load(Ordering::Relaxed) { used.as_secs_f64() } else { passed.as_secs_f64() }
    }
}

/// Time of the processor that was used so far.
pub(crate) fn cpu(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to the place that it is given, and to nothing else.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(failed, 0, "Linux has these clocks");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A folder for what benchmarks write, on the disk of the target folder.
pub(crate) fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("figures");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A folder that goes away with its value.
pub(crate) fn temporary() -> tempfile::TempDir {
    tempfile::tempdir_in(folder()).unwrap()
}

/// How a job runs here.
#[derive(Clone, Copy)]
pub(crate) struct How {
    pub(crate) parallelism: u32,
    pub(crate) threads: u32,
    /// None but the last if zero.
    pub(crate) epochs: Duration,
}

impl How {
    /// So many tasks of each processor, on as many threads.
    pub(crate) const fn parallel(parallelism: u32, epochs: Duration) -> Self {
        Self { parallelism, threads: parallelism, epochs }
    }

    /// One task of each processor, on so many threads.
    pub(crate) const fn on_threads(threads: u32) -> Self {
        Self { parallelism: 1, threads, epochs: Duration::ZERO }
    }

    /// With epochs.
    pub(crate) const fn epochs(mut self, epochs: Duration) -> Self {
        self.epochs = epochs;
        self
    }

    fn options(self, state: PathBuf) -> RuntimeOptions {
        RuntimeOptions {
            parallelism: Some(self.parallelism),
            threads: Some(self.threads),
            epoch_interval: self.epochs,
            state: Some(state),
            ..RuntimeOptions::default()
        }
    }
}

/// Describes a job.
pub(crate) fn job(how: How, describe: impl Fn(&mut App)) -> Job {
    let settings = Settings { parallelism: how.parallelism, ..Settings::default() };
    let describe = |app: &mut App| {
        describe(app);
        Ok(())
    };
    gear_node::build("figures", (), settings, describe).unwrap()
}

/// Runs a job to its end; gives the seconds that it took, from the call to the return.
pub(crate) fn run(how: How, describe: impl Fn(&mut App)) -> (f64, Report) {
    let state = temporary();
    let job = job(how, describe);
    let options = how.options(state.path().join("state"));
    let watch = Watch::start();
    let report = gear_node::run(&job, "", &options).unwrap();
    (watch.seconds(), report)
}
