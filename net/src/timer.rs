//! Waiting for less than a millisecond, which is what the runtime's own timer counts in.

use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};

/// A timer of the operating system (`timerfd`) that a thread waits for as for a socket.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    /// Made with the first wait, since it belongs to the runtime of its thread; none if the
    /// operating system has none to give.
    inner: OnceCell<Option<AsyncFd<OwnedFd>>>,
}

impl Timer {
    /// Waits so long; to the millisecond if the operating system has no timer left.
    pub(crate) async fn sleep(&self, span: Duration) {
        let inner = self.inner.get_or_init(|| create().ok()).as_ref();
        let done = match inner.filter(|timer| set(timer.get_ref(), span).is_ok()) {
            Some(timer) => expired(timer).await.is_ok(),
            None => false,
        };
        if !done {
            tokio::time::sleep(span).await;
        }
    }
}

fn create() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    #[expect(deprecated, reason = "an owned descriptor is all that its unsafe successor asks for")]
    AsyncFd::with_interest(timer, Interest::READABLE)
}

/// Sets the timer, which forgets that it was set before.
fn set(timer: &OwnedFd, span: Duration) -> io::Result<()> {
    // Nothing but zeros would stop it.
    let span = span.max(Duration::from_nanos(1));
    let spec = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec {
            tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: span.subsec_nanos().into(),
        },
    };
    timerfd_settime(timer.as_fd(), TimerfdTimerFlags::empty(), &spec)?;
    Ok(())
}

async fn expired(timer: &AsyncFd<OwnedFd>) -> io::Result<()> {
    loop {
        let mut ready = timer.readable().await?;
        match rustix::io::read(timer.get_ref(), &mut [0; size_of::<u64>()]) {
            Ok(_) => return Ok(()),
            // The runtime remembers an earlier setting that nobody waited for to its end.
            Err(rustix::io::Errno::AGAIN) => ready.clear_ready_matching(Ready::READABLE),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn it_waits_as_long_as_it_was_told_to_last() {
        let timer = Timer::default();
        let mut shortest = Duration::MAX;
        for _ in 0..50 {
            let before = Instant::now();
            timer.sleep(Duration::from_micros(200)).await;
            let took = before.elapsed();
            assert!(took >= Duration::from_micros(200), "{took:?}");
            shortest = shortest.min(took);
        }
        assert!(shortest < Duration::from_millis(1), "{shortest:?}");
        // One that is given up, and one whose time is over while nobody looks.
        for given_up in [Duration::from_secs(60), Duration::from_micros(1)] {
            let mut waiting = Box::pin(timer.sleep(given_up));
            let polled = std::future::poll_fn(|context| {
                std::task::Poll::Ready(waiting.as_mut().poll(context).is_ready())
            });
            assert!(!polled.await || given_up < Duration::from_secs(1));
            drop(waiting);
            std::thread::sleep(Duration::from_millis(2));
            tokio::task::yield_now().await;
            let before = Instant::now();
            timer.sleep(Duration::from_millis(20)).await;
            let took = before.elapsed();
            assert!(
                took >= Duration::from_millis(20) && took < Duration::from_secs(10),
                "{took:?}"
            );
        }
        timer.sleep(Duration::ZERO).await;
    }
}
