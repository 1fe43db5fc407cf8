//! Sinks: where records go, staged until their epoch has committed.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use crate::api::record::Record;
use crate::effect::{IoError, IoRequest};
use crate::flow::push::Meta;
use crate::id::{Attempt, Epoch, Token};
use crate::message::Pending;
use crate::time::{Time, WallTime};

/// A sink as a job names it: makes the writers.
pub trait SinkConnector: Send + Sync + 'static {
    /// What writes the records of one task.
    type Sink: Sink;

    /// A writer for one task.
    fn sink(&self, task: &SinkTask) -> Self::Sink;

    /// True if output becomes visible with its epoch only; a plain sink is at least once.
    fn transactional(&self) -> bool;
}

/// Which task a sink writes for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkTask {
    /// The sink's name in the job.
    pub name: String,
    /// The task's index.
    pub index: u32,
    /// How many tasks the sink has.
    pub parallelism: u32,
    /// Differs between any two attempts of the task: one that was given up may still be writing, so
    /// what is staged bears it in its name.
    pub attempt: Attempt,
}

/// Writes the records of one task. All I/O is asked for through the context and performed in the
/// order in which it was asked for.
///
/// The two phases: [`Self::prepare`] at the barrier asks for everything that makes the epoch's
/// output durable and gives the account of it, which goes into the epoch's record;
/// [`Self::commit`] makes it visible once that record exists. After a crash [`Self::open`] gets the
/// accounts of the last committed epoch, and has to make visible again what may not have been.
pub trait Sink: Send + 'static {
    /// What it writes.
    type In: Record;

    /// Goes on from the last committed epoch: makes its output visible, takes back what came later.
    ///
    /// # Errors
    /// What the user should know: output that is gone, for example.
    fn open(&mut self, pending: &[Pending], cx: &mut SinkContext<'_>) -> Result<(), String>;

    /// Takes a record.
    ///
    /// # Errors
    /// What the user should know.
    fn write(
        &mut self,
        meta: Meta,
        view: <Self::In as Record>::View<'_>,
        cx: &mut SinkContext<'_>,
    ) -> Result<(), String>;

    /// Nothing to do at the moment: hand over what need not wait.
    fn idle(&mut self, cx: &mut SinkContext<'_>) {
        let _ = cx;
    }

    /// The barrier of an epoch; the account is written down when all I/O asked for so far is done.
    /// `last` if nothing follows: then `epoch` is the first that may hold this output, the one
    /// behind the last barrier.
    ///
    /// # Errors
    /// What the user should know.
    fn prepare(
        &mut self,
        epoch: Epoch,
        last: bool,
        cx: &mut SinkContext<'_>,
    ) -> Result<Vec<u8>, String>;

    /// The epoch has committed: make visible what was prepared up to it.
    ///
    /// # Errors
    /// What the user should know.
    fn commit(&mut self, epoch: Epoch, cx: &mut SinkContext<'_>) -> Result<(), String>;
}

/// What a sink may use.
pub struct SinkContext<'a> {
    /// The monotonic time.
    pub now: Time,
    /// The wall-clock time.
    pub wall: WallTime,
    /// Where it asks for I/O.
    pub io: &'a mut IoQueue,
}

/// I/O that a task has asked for, and what of it is outstanding.
#[derive(Clone, Debug, Default)]
pub struct IoQueue {
    last: u64,
    bytes: usize,
    requests: Vec<(Token, IoRequest)>,
    outstanding: BTreeSet<Token>,
    sizes: alloc::collections::BTreeMap<Token, usize>,
}

impl IoQueue {
    /// A queue whose tokens begin above this one.
    #[must_use]
    pub fn above(token: Token) -> Self {
        Self { last: token.0, ..Self::default() }
    }

    /// Asks for I/O.
    pub fn submit(&mut self, request: IoRequest) -> Token {
        self.last += 1;
        let token = Token(self.last);
        if let IoRequest::Write { bytes, .. } | IoRequest::Print { bytes } = &request {
            self.bytes += bytes.len();
            self.sizes.insert(token, bytes.len());
        }
        self.outstanding.insert(token);
        self.requests.push((token, request));
        token
    }

    /// What was asked for since the last call.
    pub fn take(&mut self) -> Vec<(Token, IoRequest)> {
        core::mem::take(&mut self.requests)
    }

    /// A request was performed; false if it was reported before.
    pub fn done(&mut self, token: Token) -> bool {
        self.bytes -= self.sizes.remove(&token).unwrap_or(0);
        self.outstanding.remove(&token)
    }

    /// The last request so far: what comes to be done when all up to here is.
    pub(crate) const fn mark(&self) -> Token {
        Token(self.last)
    }

    /// True if everything up to and with this request has been performed.
    pub(crate) fn is_done(&self, mark: Token) -> bool {
        self.outstanding.first().is_none_or(|first| *first > mark)
    }

    /// Bytes that are being written.
    #[must_use]
    pub const fn bytes_outstanding(&self) -> usize {
        self.bytes
    }
}

/// Why a sink's I/O failed, for the user.
#[must_use]
pub fn describe(error: &IoError) -> String {
    use alloc::format;

    use crate::effect::IoErrorKind;
    let advice = match error.kind {
        IoErrorKind::Full => "; make room and start again, nothing that has committed is lost",
        IoErrorKind::Denied => "; give this user the right to write there and start again",
        IoErrorKind::Damaged => "; it was changed by somebody else: restore it, or use --fresh",
        IoErrorKind::Unavailable => "; start again when it can be reached",
        IoErrorKind::NotFound | IoErrorKind::Other => "",
    };
    format!("{error}{advice}")
}
