//! The runtime of a thread that drives processes, and which transport it has.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::str::FromStr;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::task::JoinSet;

use crate::either::Either;
use crate::tcp::Tcp;
use crate::uring::Uring;

/// The transport of a process of production.
pub type Sockets = Either<Tcp, Uring>;

/// Which transport a user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportChoice {
    /// io_uring if the kernel lets this process use it, epoll otherwise.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll.
    Epoll,
}

impl FromStr for TransportChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "io_uring" | "uring" => Ok(Self::Uring),
            "epoll" => Ok(Self::Epoll),
            other => Err(format!("there is no transport {other}: it is auto, io_uring or epoll")),
        }
    }
}

impl fmt::Display for TransportChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

thread_local! {
    /// True while this thread runs what a ring carries.
    static ON_RING: Cell<bool> = const { Cell::new(false) };
}

/// A runtime of one thread, on which a loop and all that it starts run.
pub struct Runtime {
    inner: Inner,
    description: String,
}

enum Inner {
    Epoll(LocalRuntime),
    Uring(tokio_uring::Runtime),
}

impl Runtime {
    /// A runtime for this thread.
    ///
    /// # Errors
    /// As the operating system says it; with [`TransportChoice::Uring`] also if io_uring cannot be
    /// used, and why.
    pub fn new(choice: TransportChoice) -> io::Result<Self> {
        let why = match choice {
            TransportChoice::Epoll => "as configured".into(),
            TransportChoice::Auto | TransportChoice::Uring => match ring() {
                Ok(ring) => {
                    let description = "transport: io_uring".into();
                    return Ok(Self { inner: Inner::Uring(ring), description });
                }
                Err(error) if choice == TransportChoice::Uring => {
                    let text = format!(
                        "io_uring was asked for and cannot be used: {}; choose the transport auto \
                         or epoll",
                        reason(&error)
                    );
                    return Err(io::Error::new(error.kind(), text));
                }
                Err(error) => format!("io_uring cannot be used: {}", reason(&error)),
            },
        };
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        let description = format!("transport: epoll ({why})");
        Ok(Self { inner: Inner::Epoll(runtime), description })
    }

    /// Which transport runs and why, in one line for the log.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The transport of this runtime; it connects and listens as `tcp` does.
    #[must_use]
    pub fn sockets(&self, tcp: Tcp) -> Sockets {
        match self.inner {
            Inner::Epoll(_) => Either::A(tcp),
            Inner::Uring(_) => Either::B(Uring::new(tcp)),
        }
    }

    /// Runs a future to its end, and beside it whatever it spawns on this thread.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        match &self.inner {
            Inner::Epoll(runtime) => runtime.block_on(future),
            Inner::Uring(ring) => {
                let _on_ring = OnRing::new();
                ring.block_on(future)
            }
        }
    }
}

/// Runs a future as a task of its own on this thread; dropped, it ends the task. Waking a task
/// costs less than waking the future on which a runtime blocks, for which the kernel is called
/// each time.
///
/// # Panics
/// As the future does.
pub async fn spawned<F>(future: F) -> F::Output
where
    F: Future<Output: 'static> + 'static,
{
    let mut task = JoinSet::new();
    task.spawn_local(future);
    match task.join_next().await.expect("there is one task") {
        Ok(output) => output,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// This thread runs what a ring carries, until it is dropped.
struct OnRing;

impl OnRing {
    fn new() -> Self {
        ON_RING.set(true);
        Self
    }
}

impl Drop for OnRing {
    fn drop(&mut self) {
        ON_RING.set(false);
    }
}

/// A ring that does what is asked of it.
fn ring() -> io::Result<tokio_uring::Runtime> {
    let ring = tokio_uring::Runtime::new(&tokio_uring::builder())?;
    ring.block_on(tokio_uring::no_op())?;
    Ok(ring)
}

/// Why there is no ring, for who can change that.
fn reason(error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; the kernel's io_uring_disabled, or the seccomp profile of the container, forbids it"
        }
        io::ErrorKind::Unsupported => "; the kernel is too old or was built without it",
        io::ErrorKind::OutOfMemory => "; the limit of locked memory is too low",
        _ => "",
    };
    format!("{error}{hint}")
}

/// Lets the other tasks of this thread run, and its sockets be served, without sleeping.
pub(crate) async fn breathe() {
    if ON_RING.get() {
        // What is asked of the ring leaves for the kernel only when nothing on the thread can run:
        // waiting for this makes it so, and it is done by the time the kernel has seen it.
        let served = tokio_uring::no_op().await;
        served.expect("an operation that does nothing succeeds");
    } else {
        // The runtime looks at the sockets before it comes back here.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_as_it_is_written() {
        for choice in [TransportChoice::Auto, TransportChoice::Uring, TransportChoice::Epoll] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert!("tcp".parse::<TransportChoice>().is_err());
    }

    #[test]
    fn there_is_always_a_transport_and_it_says_which() {
        let runtime = Runtime::new(TransportChoice::Auto).expect("one of both is there");
        let chosen = match runtime.sockets(Tcp::new()) {
            Either::A(_) => "transport: epoll (io_uring cannot be used: ",
            Either::B(_) => "transport: io_uring",
        };
        assert!(runtime.description().starts_with(chosen), "{}", runtime.description());
        let epoll = Runtime::new(TransportChoice::Epoll).expect("it is always there");
        assert_eq!(epoll.description(), "transport: epoll (as configured)");
        assert_eq!(epoll.block_on(async { 7 }), 7);
    }

    #[test]
    fn a_refused_ring_says_who_can_allow_it() {
        let denied = reason(&io::ErrorKind::PermissionDenied.into());
        assert!(denied.contains("io_uring_disabled") && denied.contains("seccomp"), "{denied}");
    }
}
