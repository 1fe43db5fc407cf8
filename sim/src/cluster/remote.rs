//! The connectors' file system where it is an HDFS: what its driver waits out, and what not.

use gear_core::effect::{IoError, IoErrorKind, IoRequest};
use gear_core::id::{AppId, TaskId};
use gear_core::time::Time;

use super::fault::FaultKind;
use super::world::World;

/// The most that a writer hangs, in nanoseconds.
const HANGS: u64 = 4_000_000_000;
/// The most after which what had no answer is asked again, in nanoseconds.
const AGAIN: u64 = 200_000_000;
/// Writers of a run that are lost: the task of each fails.
const LOST_MAX: u64 = 2;

/// What becomes of a request.
pub(crate) enum Performed {
    /// It is answered.
    Answered(Result<Vec<u8>, IoError>),
    /// It is asked again at this time, and what its task asks for later has to wait.
    Later(Time),
}

impl World<'_> {
    /// The file system of an app performs a request of a process.
    pub(crate) fn perform_remotely(
        &mut self,
        (process, task): (usize, TaskId),
        home: AppId,
        request: &IoRequest,
    ) -> Performed {
        let held = self.processes[process].held.get(&task).copied().unwrap_or_default();
        let held = held.max(self.safe_mode_until);
        if held > self.now {
            return Performed::Later(held);
        }
        let rates = if self.calm { super::setup::Rates::default() } else { self.setup.rates };
        if self.random.io.permille(rates.writer_hangs) {
            self.count(FaultKind::WriterHangs);
            return self.hold((process, task), HANGS);
        }
        let writes = matches!(request, IoRequest::Write { .. } | IoRequest::Sync { .. });
        if writes && self.writers_lost < LOST_MAX && self.random.io.permille(rates.writer_lost) {
            self.writers_lost += 1;
            self.count(FaultKind::WriterLost);
            let reason = "its data nodes are gone".to_owned();
            let (path, kind) = ("model".to_owned(), IoErrorKind::Unavailable);
            return Performed::Answered(Err(IoError { path, reason, kind }));
        }
        // What was written goes to a pipeline, and its end is nothing that is asked for twice.
        let lost = !writes && self.random.io.permille(rates.name_node_lost_replies);
        let Some(services) = self.services.get_mut(&home) else {
            return Performed::Later(self.now);
        };
        let result = services.disk.perform_as(process as u64 + 1, request).map(|()| Vec::new());
        if lost && result.is_ok() {
            self.count(FaultKind::NameNodeLostReplies);
            return self.hold((process, task), AGAIN);
        }
        Performed::Answered(result)
    }

    fn hold(&mut self, (process, task): (usize, TaskId), most: u64) -> Performed {
        let until = Time(self.now.0 + 1 + self.random.io.below(most));
        self.stopwatch.disturb(until);
        self.processes[process].held.insert(task, until);
        Performed::Later(until)
    }
}
