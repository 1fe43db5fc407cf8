//! Sinks: where records go, staged until their epoch has committed.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::api::record::Record;
use crate::effect::{Blob, IoError, IoRequest};
use crate::flow::push::Meta;
use crate::id::{Attempt, Epoch, Token};
use crate::message::{ObjectRef, Pending};
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
    /// The app's name.
    pub app: String,
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
///
/// What a sink asks for is outstanding until [`Self::answered`] says that it is done, and the
/// account of an epoch is written down when all that was asked for before is. So a sink whose
/// server does not answer asks again and again, and meanwhile the epoch ages.
pub trait Sink: Send + 'static {
    /// What it writes.
    type In: Record;

    /// Goes on from the last committed epoch: makes its output visible, takes back what came later.
    ///
    /// # Errors
    /// What the user should know: output that is gone, for example.
    fn open(&mut self, pending: &[Pending], cx: &mut SinkContext<'_>) -> Result<(), String>;

    /// True once it takes records: no barrier passes before that either. A sink that has to hear
    /// from a server first is asked again after each answer.
    fn is_open(&self) -> bool {
        true
    }

    /// False while so much output waits that it takes no more records, and lets no barrier pass:
    /// its task waits, and so do those before it. It is asked again in each turn, of which every
    /// answer brings one. Only output that becomes visible without a further barrier may be waited
    /// for so: any other may need the very barrier that waits.
    fn has_room(&self) -> bool {
        true
    }

    /// Takes a record; one that can never be written is put aside by [`IoQueue::refuse`].
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

    /// The objects that the account which [`Self::prepare`] has just given needs: kept for as long
    /// as a record holds that account, and given back with it.
    fn objects(&self) -> Vec<ObjectRef> {
        Vec::new()
    }

    /// What it has asked for was performed, or was not.
    ///
    /// # Errors
    /// What the user should know: the task cannot go on.
    fn answered(
        &mut self,
        token: Token,
        result: Result<Vec<u8>, IoError>,
        cx: &mut SinkContext<'_>,
    ) -> Result<Answered, String> {
        let _ = (token, cx);
        result.map(|_| Answered::Done).map_err(|error| describe(&error))
    }

    /// How much output waits.
    fn waiting(&self) -> Waiting {
        Waiting::default()
    }

    /// The epoch has committed: make visible what was prepared up to it.
    ///
    /// # Errors
    /// What the user should know.
    fn commit(&mut self, epoch: Epoch, cx: &mut SinkContext<'_>) -> Result<(), String>;
}

/// What a sink makes of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The request is done.
    Done,
    /// This is to be asked for in its place, so that it stays outstanding.
    Again {
        /// What.
        request: Request,
        /// Not before this time.
        at: Time,
    },
}

/// What a sink asks for in the place of something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// I/O.
    Io(IoRequest),
    /// The content of an object that it has kept.
    Fetch(ObjectRef),
}

impl From<IoRequest> for Request {
    fn from(request: IoRequest) -> Self {
        Self::Io(request)
    }
}

/// Output of a sink that is not yet visible, for people and for the memory budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Bytes of it, wherever they are.
    pub bytes: u64,
    /// Bytes of it in memory.
    pub allocated: usize,
    /// Since when the oldest epoch has been committed whose output is not visible; none if there is
    /// no such epoch.
    pub since: Option<Time>,
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
    objects: Vec<(Token, ObjectRequest)>,
    /// What is asked for in the place of something else, when its time comes.
    later: BTreeMap<Token, (Time, Request)>,
    outstanding: BTreeSet<Token>,
    sizes: BTreeMap<Token, usize>,
    /// The folder of the task's objects, with the attempt in it.
    folder: String,
    /// The last epoch whose barrier the task has passed.
    passed: Epoch,
    /// Objects that were named.
    named: u64,
    refused: Option<String>,
    warnings: Vec<String>,
}

/// What is asked of the checkpoint store for a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectRequest {
    /// Write this object.
    Keep(ObjectRef, Blob),
    /// Read this object.
    Fetch(ObjectRef),
}

impl IoQueue {
    /// A queue whose tokens begin above this one, and whose objects are in this folder.
    #[must_use]
    pub fn new(token: Token, folder: String, passed: Epoch) -> Self {
        Self { last: token.0, folder, passed, ..Self::default() }
    }

    fn token(&mut self, bytes: usize) -> Token {
        self.last += 1;
        let token = Token(self.last);
        if bytes > 0 {
            self.bytes += bytes;
            self.sizes.insert(token, bytes);
        }
        self.outstanding.insert(token);
        token
    }

    /// Asks for I/O.
    pub fn submit(&mut self, request: IoRequest) -> Token {
        let bytes = match &request {
            IoRequest::Write { bytes, .. } | IoRequest::Print { bytes } => bytes.len(),
            _ => 0,
        };
        let token = self.token(bytes);
        self.requests.push((token, request));
        token
    }

    /// Asks for these bytes to be kept in the checkpoint store. They stay there for as long as
    /// [`Sink::objects`] names the object.
    pub fn keep(&mut self, bytes: Blob) -> (ObjectRef, Token) {
        self.named += 1;
        // The first epoch that may come to name it.
        let epoch = self.passed.next().0;
        let name = alloc::format!("{}-e{epoch:010}-{}", self.folder, self.named);
        let object = ObjectRef { name, len: bytes.len() as u64, crc: crc32c::crc32c(&bytes) };
        let token = self.token(bytes.len());
        self.objects.push((token, ObjectRequest::Keep(object.clone(), bytes)));
        (object, token)
    }

    /// Asks for the content of an object, which is checked before it is given.
    pub fn fetch(&mut self, object: ObjectRef) -> Token {
        let token = self.token(0);
        self.objects.push((token, ObjectRequest::Fetch(object)));
        token
    }

    /// The record at hand cannot be written, now or ever: it is put aside, with this reason.
    pub fn refuse(&mut self, reason: String) {
        self.refused = Some(reason);
    }

    /// Goes on, but somebody should look: the user hears of it.
    pub fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    /// What the user is to hear.
    pub fn take_warnings(&mut self) -> Vec<String> {
        core::mem::take(&mut self.warnings)
    }

    pub(crate) const fn take_refused(&mut self) -> Option<String> {
        self.refused.take()
    }

    /// What was asked for since the last call.
    pub fn take(&mut self) -> Vec<(Token, IoRequest)> {
        core::mem::take(&mut self.requests)
    }

    /// What was asked of the checkpoint store since the last call.
    pub fn take_objects(&mut self) -> Vec<(Token, ObjectRequest)> {
        core::mem::take(&mut self.objects)
    }

    /// A request was performed; false if it was reported before.
    pub fn done(&mut self, token: Token) -> bool {
        self.bytes -= self.sizes.remove(&token).unwrap_or(0);
        self.outstanding.remove(&token)
    }

    /// This is asked for in the place of a request that was performed, which stays outstanding.
    pub fn again(&mut self, token: Token, request: Request, at: Time) {
        assert!(self.outstanding.contains(&token), "only what is outstanding is asked for again");
        self.later.insert(token, (at, request));
    }

    /// Asks for what is due.
    pub fn resume(&mut self, now: Time) {
        for (token, (_, request)) in self.later.extract_if(.., |_, (at, _)| *at <= now) {
            match request {
                Request::Io(request) => self.requests.push((token, request)),
                Request::Fetch(object) => {
                    self.objects.push((token, ObjectRequest::Fetch(object)));
                }
            }
        }
    }

    /// When [`Self::resume`] is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        self.later.values().map(|(at, _)| *at).min()
    }

    /// The task has passed the barrier of this epoch.
    pub(crate) const fn pass(&mut self, epoch: Epoch) {
        self.passed = epoch;
    }

    /// True if this request was not yet performed for good.
    #[must_use]
    pub fn is_outstanding(&self, token: Token) -> bool {
        self.outstanding.contains(&token)
    }

    /// The last request so far: what comes to be done when all up to here is.
    #[must_use]
    pub const fn mark(&self) -> Token {
        Token(self.last)
    }

    /// True if everything up to and with this request has been performed.
    #[must_use]
    pub fn is_done(&self, mark: Token) -> bool {
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
        IoErrorKind::Unavailable => {
            "; start again when it works, nothing that has committed is lost"
        }
        IoErrorKind::NotFound | IoErrorKind::Other => "",
    };
    format!("{error}{advice}")
}
