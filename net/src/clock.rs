//! The clocks of the operating system.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gear_core::time::{Time, WallTime};

use crate::driver::Clock;
use crate::timer::Timer;

/// About what it takes to wake a thread of a virtual machine, on both sides together, ten times.
const ALERT: Duration = Duration::from_micros(50);

/// The clocks of a real machine. The monotonic time begins when the process first asks, and is the
/// same on all of its threads.
#[derive(Debug, Default)]
pub struct SystemClock {
    timer: Timer,
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        let since = ORIGIN.get_or_init(Instant::now).elapsed();
        Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    async fn breathe(&self) {
        crate::runtime::breathe().await;
    }

    fn alert(&self) -> Duration {
        ALERT
    }

    async fn sleep(&self, span: Duration) {
        self.timer.sleep(span).await;
    }
}
