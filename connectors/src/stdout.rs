//! Standard output.

use std::fmt;
use std::fmt::Display;

use gear_core::api::Record;
use gear_core::api::sink::{Sink, SinkConnector, SinkContext, SinkTask};
use gear_core::effect::IoRequest;
use gear_core::flow::push::Meta;
use gear_core::id::Epoch;
use gear_core::message::Pending;
use serde::{Deserialize, Serialize};

use crate::format::Format;
use crate::versioned;

/// Bytes that may wait for their epochs' commits: they stand in the epoch's record, which is read
/// and written whole.
pub const WAITING_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Bytes gathered before they are printed, if that is not done by epoch.
const PRINT_BYTES: usize = 16 * 1_024;
const TAG: u8 = b'O';
const VERSION: u8 = 1;

/// Prints records; `format` appends a record's bytes, its line break included.
///
/// An epoch's output is printed when the epoch has committed, and waits in the epoch's record until
/// then. It is printed at least once: a crash between the printing and the next epoch prints it
/// again.
pub fn sink<T: Record>(
    format: impl for<'a> Fn(T::View<'a>, &mut Vec<u8>) + Send + Sync + 'static,
) -> Stdout<T> {
    Stdout { format: Format::new(format), immediate: false }
}

/// Prints each record as a line, as `Display` shows it. See [`sink`].
#[must_use]
pub fn lines<T: Record>() -> Stdout<T>
where
    for<'a> T::View<'a>: Display,
{
    Stdout { format: Format::display(), immediate: false }
}

/// Standard output; made by [`sink`] and [`lines`].
#[derive(Debug)]
pub struct Stdout<T: Record> {
    format: Format<T>,
    immediate: bool,
}

impl<T: Record> Stdout<T> {
    /// Prints without waiting for the epoch: what a crash takes back is printed again.
    #[must_use]
    pub const fn immediate(mut self) -> Self {
        self.immediate = true;
        self
    }
}

impl<T: Record> SinkConnector for Stdout<T> {
    type Sink = Printer<T>;

    fn sink(&self, _: &SinkTask) -> Printer<T> {
        Printer {
            format: self.format.clone(),
            immediate: self.immediate,
            buffer: Vec::new(),
            buffered: 0,
            waiting: Account::default(),
        }
    }

    fn transactional(&self) -> bool {
        false
    }
}

/// Output by epoch, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Account(Vec<(Epoch, Vec<u8>)>);

/// Prints the records of one task.
pub struct Printer<T: Record> {
    format: Format<T>,
    immediate: bool,
    /// Bytes behind `buffered` are those of a record whose format panicked.
    buffer: Vec<u8>,
    buffered: usize,
    waiting: Account,
}

impl<T: Record> fmt::Debug for Printer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Printer").field("buffered", &self.buffered).finish_non_exhaustive()
    }
}

impl<T: Record> Printer<T> {
    fn take(&mut self) -> Vec<u8> {
        self.buffer.truncate(self.buffered);
        self.buffered = 0;
        std::mem::take(&mut self.buffer)
    }

    fn print_now(&mut self, cx: &mut SinkContext<'_>) {
        let bytes = self.take();
        if !bytes.is_empty() {
            cx.io.submit(IoRequest::Print { bytes });
        }
    }
}

impl<T: Record> Sink for Printer<T> {
    type In = T;

    fn open(&mut self, pending: &[Pending], cx: &mut SinkContext<'_>) -> Result<(), String> {
        for pending in pending {
            let what = "the account of standard output";
            let account: Account = versioned::decode(TAG, VERSION, what, &pending.bytes)?;
            for (_, bytes) in account.0 {
                cx.io.submit(IoRequest::Print { bytes });
            }
        }
        Ok(())
    }

    #[inline]
    fn write(
        &mut self,
        _: Meta,
        view: T::View<'_>,
        cx: &mut SinkContext<'_>,
    ) -> Result<(), String> {
        self.buffer.truncate(self.buffered);
        self.format.write(view, &mut self.buffer);
        self.buffered = self.buffer.len();
        if self.immediate {
            if self.buffered >= PRINT_BYTES {
                self.print_now(cx);
            }
        } else if self.buffered > WAITING_BYTES_MAX {
            return Err(too_much());
        }
        Ok(())
    }

    fn idle(&mut self, cx: &mut SinkContext<'_>) {
        if self.immediate {
            self.print_now(cx);
        }
    }

    fn prepare(
        &mut self,
        epoch: Epoch,
        _: bool,
        cx: &mut SinkContext<'_>,
    ) -> Result<Vec<u8>, String> {
        if self.immediate {
            self.print_now(cx);
        } else {
            let bytes = self.take();
            if !bytes.is_empty() {
                self.waiting.0.push((epoch, bytes));
            }
        }
        if self.waiting.0.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > WAITING_BYTES_MAX {
            return Err(too_much());
        }
        versioned::encode(TAG, VERSION, &self.waiting)
    }

    fn commit(&mut self, epoch: Epoch, cx: &mut SinkContext<'_>) -> Result<(), String> {
        for (_, bytes) in self.waiting.0.extract_if(.., |(of, _)| *of <= epoch) {
            cx.io.submit(IoRequest::Print { bytes });
        }
        Ok(())
    }
}

fn too_much() -> String {
    format!(
        "more than {WAITING_BYTES_MAX} bytes of standard output wait for an epoch to commit; use \
         `.immediate()`, shorter epochs, or a file sink"
    )
}

#[cfg(test)]
mod tests {
    use gear_core::api::sink::IoQueue;
    use gear_core::id::Attempt;
    use gear_core::time::{EventTime, Time, WallTime};

    use super::*;

    const META: Meta = Meta { at: EventTime::MIN, partition: 0 };

    fn printed(io: &mut IoQueue) -> String {
        let all = io.take().into_iter().flat_map(|(_, request)| match request {
            IoRequest::Print { bytes } => bytes,
            other => panic!("{other:?}"),
        });
        String::from_utf8(all.collect()).unwrap()
    }

    #[test]
    fn an_epoch_is_printed_when_it_has_committed_and_again_if_that_is_unknown() {
        let attempt = Attempt(1);
        let task = SinkTask {
            app: "app".to_owned(),
            name: "out".to_owned(),
            index: 0,
            parallelism: 1,
            attempt,
        };
        let mut sink = lines::<u64>().sink(&task);
        let mut io = IoQueue::default();
        let mut cx = SinkContext { now: Time::ZERO, wall: WallTime(0), io: &mut io };
        sink.open(&[], &mut cx).unwrap();
        sink.write(META, 1, &mut cx).unwrap();
        let first = sink.prepare(Epoch(1), false, &mut cx).unwrap();
        sink.write(META, 2, &mut cx).unwrap();
        sink.prepare(Epoch(2), false, &mut cx).unwrap();
        assert_eq!(printed(cx.io), "");
        sink.commit(Epoch(1), &mut cx).unwrap();
        assert_eq!(printed(cx.io), "1\n");
        sink.commit(Epoch(2), &mut cx).unwrap();
        assert_eq!(printed(cx.io), "2\n");

        let mut again = lines::<u64>().sink(&task);
        again
            .open(&[Pending { index: 0, bytes: first.clone(), objects: Vec::new() }], &mut cx)
            .unwrap();
        assert_eq!(printed(cx.io), "1\n");
        for cut in 0..first.len() {
            let bytes = first[..cut].to_vec();
            again.open(&[Pending { index: 0, bytes, objects: Vec::new() }], &mut cx).unwrap_err();
        }
    }

    #[test]
    fn too_much_output_is_refused() {
        let attempt = Attempt(1);
        let task = SinkTask {
            app: "app".to_owned(),
            name: "out".to_owned(),
            index: 0,
            parallelism: 1,
            attempt,
        };
        let mut sink = sink::<u64>(|_, out| out.resize(out.len() + 1_000_000, 0)).sink(&task);
        let mut io = IoQueue::default();
        let mut cx = SinkContext { now: Time::ZERO, wall: WallTime(0), io: &mut io };
        let error = (0..9).find_map(|n| sink.write(META, n, &mut cx).err()).unwrap();
        assert!(error.contains("immediate"), "{error}");
    }
}
