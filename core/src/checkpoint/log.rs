//! The commit log of one app, as one app master sees it: fence first, then read, then append.
//!
//! Call order: [`Log::start`] once; every answer of the store to [`Log::handle_stored`] and every
//! deadline to [`Log::handle_timeout`]; after [`LogEvent::Opened`], [`Log::append`] one record at
//! a time. After [`LogEvent::Failed`] nothing is asked of the store any more.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::history::{History, Records, settle};
use super::record::{FOLDER, Fence, Identity, Record, RecordError, number_of, object_name};
use super::requests::{Patience, Requests};
use crate::effect::{Effect, StoreReply, StoreRequest};
use crate::id::{AppTerm, LogNumber, Token};
use crate::time::Time;

/// Records read at once: hides the store's latency without flooding it.
const READS_AT_ONCE: usize = 16;

/// The log of one app.
#[derive(Clone, Debug)]
pub struct Log {
    identity: Identity,
    /// Tells our fence from that of another app master that chose the same term.
    incarnation: u64,
    /// The term that the masters granted; none if the log alone decides.
    granted: Option<AppTerm>,
    term: AppTerm,
    phase: Phase,
    requests: Requests<Purpose>,
    /// What has been read; emptied once the log is open.
    records: Records,
    unread: VecDeque<LogNumber>,
    /// Where our fence stands.
    fence: Option<LogNumber>,
    /// The record that is being written, and where.
    writing: Option<Writing>,
    /// The number of the next record.
    next: LogNumber,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    /// Reading what stands there before our fence.
    Surveying,
    /// Writing our fence.
    Fencing,
    /// Reading what stands there with our fence.
    Verifying,
    Open,
    Appending,
    Failed,
}

#[derive(Clone, Debug)]
enum Purpose {
    List,
    Read(LogNumber),
    Create,
    /// Whose record stands where we wanted ours?
    ReadBack {
        /// What the store said when it could not create it; none if the number is taken.
        failure: Option<String>,
    },
}

#[derive(Clone, Debug)]
struct Writing {
    number: LogNumber,
    bytes: Vec<u8>,
}

/// What the log has to tell its app master.
#[derive(Clone, Debug, PartialEq)]
pub enum LogEvent {
    /// Our fence stands, and this is what stands before it.
    Opened(Box<History>),
    /// The record exists; nothing and nobody can take it back.
    Appended {
        /// Where.
        number: LogNumber,
    },
    /// The app master has to stop.
    Failed(LogError),
}

/// Why an app master cannot use its commit log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Another app master leads.
    #[error(
        "another app master of `{app}` has taken over (its {theirs}, ours is {ours}): this one \
         stops and commits nothing more; if two were started by mistake, stop one of them"
    )]
    Superseded {
        /// The app.
        app: String,
        /// Our term.
        ours: AppTerm,
        /// The term found.
        theirs: AppTerm,
    },
    /// The folder holds the state of another job.
    #[error(
        "the state folder belongs to {found}, but this is {ours}: start the job with the \
         arguments it had, or give it another state folder, or discard the state with `--fresh`"
    )]
    OtherJob {
        /// Whose state it is.
        found: Box<Identity>,
        /// Who we are.
        ours: Box<Identity>,
    },
    /// Another version of the job has gone further than this one can read.
    #[error("the record `{object}` of the commit log cannot be read: {reason}")]
    Version {
        /// The object.
        object: String,
        /// Which version it is of.
        reason: String,
    },
    /// The store does not do what is asked.
    #[error("the checkpoint store failed at `{object}`: {reason}; start again once it works")]
    Store {
        /// The object or folder.
        object: String,
        /// What the store said.
        reason: String,
    },
    /// Something unreadable stands where the next record belongs.
    #[error(
        "`{object}` stands where the next record belongs and cannot be read: {reason}; nothing \
         was committed over it; look at the store, then start again"
    )]
    Unreadable {
        /// The object.
        object: String,
        /// Why.
        reason: String,
    },
}

impl Log {
    /// A log of which nothing is known yet.
    ///
    /// `incarnation` has to differ between any two app masters of an app; `granted` is the term
    /// that the masters gave this one, none if the log alone decides who leads.
    #[must_use]
    pub fn new(identity: Identity, incarnation: u64, granted: Option<AppTerm>) -> Self {
        Self {
            identity,
            incarnation,
            granted,
            term: granted.unwrap_or_default(),
            phase: Phase::New,
            requests: Requests::new(0),
            records: Records::new(),
            unread: VecDeque::new(),
            fence: None,
            writing: None,
            next: LogNumber(1),
        }
    }

    /// Our term; 0 until the log is open unless it was granted.
    #[must_use]
    pub fn term(&self) -> AppTerm {
        self.term
    }

    /// True if records may be appended now.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Open
    }

    /// True if this request is the log's.
    #[must_use]
    pub fn owns(&self, token: Token) -> bool {
        self.requests.owns(token)
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        if self.phase == Phase::Failed { None } else { self.requests.next_timeout() }
    }

    /// Begins: surveys the log, fences it, and reads it.
    pub fn start(&mut self, out: &mut Vec<Effect>) {
        assert_eq!(self.phase, Phase::New, "a log is started once");
        self.phase = Phase::Surveying;
        self.list(out);
    }

    /// Writes a record behind all others.
    ///
    /// # Panics
    /// If the log is not open, if a record is being written, or if the record is not ours.
    pub fn append(&mut self, record: &Record, out: &mut Vec<Effect>) {
        assert_eq!(self.phase, Phase::Open, "one record at a time, once the log is open");
        assert_eq!(record.term(), self.term);
        assert!(!matches!(record, Record::Fence(_)), "the log writes its fence itself");
        self.phase = Phase::Appending;
        self.create(record.encode(), out);
    }

    /// Repeats requests that are due.
    pub fn handle_timeout(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.phase != Phase::Failed {
            self.requests.handle_timeout(now, out);
        }
    }

    /// Takes an answer of the store.
    pub fn handle_stored(
        &mut self,
        now: Time,
        token: Token,
        reply: StoreReply,
        out: &mut Vec<Effect>,
    ) -> Option<LogEvent> {
        if self.phase == Phase::Failed {
            return None;
        }
        let (purpose, reply) = self.requests.answer(now, token, reply, out)?;
        let result = match purpose {
            Purpose::List => self.on_listed(reply, out),
            Purpose::Read(number) => self.on_read(number, reply, out),
            Purpose::Create => self.on_created(reply, out),
            Purpose::ReadBack { failure } => self.on_read_back(failure, reply, out),
        };
        result.unwrap_or_else(|error| {
            self.phase = Phase::Failed;
            Some(LogEvent::Failed(error))
        })
    }

    fn list(&mut self, out: &mut Vec<Effect>) {
        assert!(self.unread.is_empty());
        let request = StoreRequest::List { prefix: FOLDER.to_string() };
        self.requests.issue(Purpose::List, request, Patience::Bounded, out);
    }

    fn on_listed(&mut self, reply: StoreReply, out: &mut Vec<Effect>) -> Step {
        let StoreReply::Names(names) = reply else {
            return Err(store_error(FOLDER, &reply));
        };
        let mut numbers: Vec<LogNumber> = names.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        self.records.retain(|number, _| numbers.binary_search(number).is_ok());
        numbers.retain(|number| !self.records.contains_key(number));
        self.unread = numbers.into();
        self.read_on(out)
    }

    fn read_on(&mut self, out: &mut Vec<Effect>) -> Step {
        while self.requests.len() < READS_AT_ONCE {
            let Some(number) = self.unread.pop_front() else { break };
            let request = StoreRequest::Get { name: object_name(number) };
            self.requests.issue(Purpose::Read(number), request, Patience::Bounded, out);
        }
        if self.requests.len() > 0 {
            return Ok(None);
        }
        match self.phase {
            Phase::Surveying => self.write_fence(out),
            Phase::Verifying => self.verify(out),
            phase => unreachable!("nothing is surveyed in phase {phase:?}"),
        }
    }

    fn on_read(&mut self, number: LogNumber, reply: StoreReply, out: &mut Vec<Effect>) -> Step {
        match reply {
            StoreReply::Bytes(bytes) => {
                self.records.insert(number, Record::decode(&bytes));
            }
            // Collected by the app master that still leads, between our two requests.
            StoreReply::Missing => {}
            reply => return Err(store_error(&object_name(number), &reply)),
        }
        self.read_on(out)
    }

    /// Creates our fence behind everything that has been read.
    fn write_fence(&mut self, out: &mut Vec<Effect>) -> Step {
        self.check_identity()?;
        self.check_versions()?;
        let highest = self.highest_foreign_term();
        // A record that cannot be read may be a fence, so each counts for one term.
        let unreadable = self.records.values().filter(|record| record.is_err()).count() as u64;
        self.term = match self.granted {
            Some(granted) if granted <= highest => return Err(self.superseded(highest)),
            Some(granted) => granted,
            None => AppTerm(self.term.max(highest).0 + unreadable + 1),
        };
        assert!(self.term > highest);
        if let Some((last, _)) = self.records.last_key_value() {
            self.next = last.next();
        }
        self.phase = Phase::Fencing;
        let fence = self.our_fence();
        self.create(fence.encode(), out);
        Ok(None)
    }

    fn our_fence(&self) -> Record {
        Record::Fence(Fence {
            term: self.term,
            incarnation: self.incarnation,
            identity: self.identity.clone(),
        })
    }

    fn check_identity(&self) -> Result<(), LogError> {
        let last = self.records.values().rev().find_map(|record| record.as_ref().ok());
        match last.map(Record::identity) {
            Some(found) if !found.same_job(&self.identity) => Err(LogError::OtherJob {
                found: Box::new(found.clone()),
                ours: Box::new(self.identity.clone()),
            }),
            _ => Ok(()),
        }
    }

    /// Refuses a log whose last records are of another version: they are not damaged, so nothing
    /// may go on without them. Of those before the last epoch that can be read, nothing is needed.
    fn check_versions(&self) -> Result<(), LogError> {
        let is_epoch = |record: &Result<_, _>| matches!(record, Ok(Record::Epoch(_)));
        let last = self.records.iter().rfind(|(_, record)| is_epoch(record));
        let begin = last.map_or(LogNumber(0), |(number, _)| number.next());
        for (number, record) in self.records.range(begin..) {
            if let Err(error @ RecordError::Version { .. }) = record {
                let (object, reason) = (object_name(*number), error.to_string());
                return Err(LogError::Version { object, reason });
            }
        }
        Ok(())
    }

    /// The highest term of all records but our own fences; 0 if there is none.
    fn highest_foreign_term(&self) -> AppTerm {
        let foreign = self.records.values().flatten().filter(|record| match record {
            Record::Fence(fence) => fence.incarnation != self.incarnation,
            Record::Epoch(_) | Record::Closed(_) | Record::Attempt(_) => true,
        });
        foreign.map(Record::term).max().unwrap_or_default()
    }

    /// Accepts our fence if nothing stands behind it.
    fn verify(&mut self, out: &mut Vec<Effect>) -> Step {
        let fence = self.fence.expect("it has been created");
        if !self.records.contains_key(&fence) {
            // It had come late into a freed number, and a deletion of that number was repeated.
            return self.write_fence(out);
        }
        self.check_identity()?;
        // What turned up before our fence since we looked came late, and counts nothing.
        let behind = self.records.range(fence.next()..);
        let highest = behind.flat_map(|(_, record)| record).map(Record::term).max();
        if let Some(highest) = highest.filter(|highest| *highest > self.term) {
            return Err(self.superseded(highest));
        }
        let (&last, _) = self.records.last_key_value().expect("it holds our fence");
        if last > fence {
            // Our request was under way for so long that the app master that still leads had
            // written and freed the number meanwhile. Such a fence fences nothing.
            return self.write_fence(out);
        }
        assert_eq!(self.next, fence.next());
        let history = settle(&self.records);
        if history.term > self.term {
            return Err(self.superseded(history.term));
        }
        self.records.clear();
        self.phase = Phase::Open;
        Ok(Some(LogEvent::Opened(Box::new(history))))
    }

    fn create(&mut self, bytes: Vec<u8>, out: &mut Vec<Effect>) {
        assert!(self.requests.len() == 0, "the log does one thing at a time");
        let number = self.next;
        let request =
            StoreRequest::Create { name: object_name(number), bytes: bytes.clone().into() };
        self.writing = Some(Writing { number, bytes });
        self.requests.issue(Purpose::Create, request, self.patience(), out);
    }

    /// Whoever starts a job wants to hear that its store is down; a running one waits for it.
    fn patience(&self) -> Patience {
        if self.phase == Phase::Appending { Patience::Endless } else { Patience::Bounded }
    }

    fn on_created(&mut self, reply: StoreReply, out: &mut Vec<Effect>) -> Step {
        let failure = match reply {
            StoreReply::Done => return self.on_written(out),
            StoreReply::Exists => None,
            // Whether it took effect is unknown; what stands there tells.
            StoreReply::Failed { reason, .. } => Some(reason),
            reply => return Err(store_error(FOLDER, &reply)),
        };
        let name = object_name(self.writing_number());
        let purpose = Purpose::ReadBack { failure };
        self.requests.issue(purpose, StoreRequest::Get { name }, self.patience(), out);
        Ok(None)
    }

    fn writing_number(&self) -> LogNumber {
        self.writing.as_ref().expect("a record is being written").number
    }

    fn on_read_back(
        &mut self,
        failure: Option<String>,
        reply: StoreReply,
        out: &mut Vec<Effect>,
    ) -> Step {
        let number = self.writing_number();
        let object = object_name(number);
        let bytes = match (reply, failure) {
            (StoreReply::Bytes(bytes), _) => bytes,
            (StoreReply::Missing, Some(reason)) => {
                return Err(LogError::Store { object, reason });
            }
            // Taken by the app master that still leads, and collected by it before we looked.
            (StoreReply::Missing, None) if self.phase == Phase::Fencing => {
                self.writing = None;
                self.phase = Phase::Surveying;
                self.list(out);
                return Ok(None);
            }
            // Nobody collects a number behind our fence: a person emptied the folder.
            (StoreReply::Missing, None) => {
                let reason = "it was removed while the job ran".to_string();
                return Err(LogError::Store { object, reason });
            }
            (reply, _) => return Err(store_error(&object, &reply)),
        };
        let ours = self.writing.as_ref().is_some_and(|writing| writing.bytes == bytes);
        if ours {
            return self.on_written(out);
        }
        self.on_taken(number, &bytes, out)
    }

    /// Somebody else's record stands where ours was to be.
    fn on_taken(&mut self, number: LogNumber, bytes: &[u8], out: &mut Vec<Effect>) -> Step {
        let record = Record::decode(bytes);
        if self.phase == Phase::Fencing {
            self.records.insert(number, record);
            return self.write_fence(out);
        }
        let record = record.map_err(|error| LogError::Unreadable {
            object: object_name(number),
            reason: error.to_string(),
        })?;
        if record.term() >= self.term {
            return Err(self.superseded(record.term()));
        }
        // Void, since our fence stands before it.
        self.next = number.next();
        let writing = self.writing.take().expect("a record is being written");
        self.create(writing.bytes, out);
        Ok(None)
    }

    fn on_written(&mut self, out: &mut Vec<Effect>) -> Step {
        let writing = self.writing.take().expect("a record is being written");
        let number = writing.number;
        assert_eq!(number, self.next);
        self.next = number.next();
        match self.phase {
            Phase::Fencing => {
                self.fence = Some(number);
                self.records.insert(number, Ok(self.our_fence()));
                self.phase = Phase::Verifying;
                self.list(out);
                Ok(None)
            }
            Phase::Appending => {
                assert!(self.fence < Some(number), "every record stands behind our fence");
                self.phase = Phase::Open;
                Ok(Some(LogEvent::Appended { number }))
            }
            phase => unreachable!("nothing is written in phase {phase:?}"),
        }
    }

    fn superseded(&self, theirs: AppTerm) -> LogError {
        LogError::Superseded { app: self.identity.app.clone(), ours: self.term, theirs }
    }
}

type Step = Result<Option<LogEvent>, LogError>;

fn store_error(object: &str, reply: &StoreReply) -> LogError {
    let reason = match reply {
        StoreReply::Failed { reason, .. } => reason.clone(),
        reply => format!("it gave an answer that belongs to another request ({reply:?})"),
    };
    LogError::Store { object: object.to_string(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::record::EpochRecord;
    use crate::id::Epoch;

    fn request(out: &mut Vec<Effect>) -> (Token, StoreRequest) {
        match out.pop() {
            Some(Effect::Store { token, request }) => (token, request),
            other => panic!("{other:?}"),
        }
    }

    fn answer(log: &mut Log, out: &mut Vec<Effect>, reply: StoreReply) -> Option<LogEvent> {
        let (token, _) = request(out);
        log.handle_stored(Time::ZERO, token, reply, out)
    }

    /// A log of term 1 with an epoch under way to number 2.
    fn appending(out: &mut Vec<Effect>) -> Log {
        let mut log = Log::new(Identity::default(), 7, None);
        log.start(out);
        assert_eq!(answer(&mut log, out, StoreReply::Names(Vec::new())), None);
        assert_eq!(answer(&mut log, out, StoreReply::Done), None);
        let names = StoreReply::Names([object_name(LogNumber(1))].into());
        let opened = answer(&mut log, out, names);
        assert!(matches!(opened, Some(LogEvent::Opened(_))), "{opened:?}");
        let (term, epoch) = (log.term(), Epoch(1));
        log.append(&Record::Epoch(EpochRecord { term, epoch, ..EpochRecord::default() }), out);
        log
    }

    fn fence(term: u64) -> StoreReply {
        let identity = Identity::default();
        let fence = Fence { term: AppTerm(term), incarnation: 8, identity };
        StoreReply::Bytes(Record::Fence(fence).encode())
    }

    #[test]
    fn a_lost_answer_is_resolved_by_reading_back() {
        let mut out = Vec::new();
        let mut log = appending(&mut out);
        let (token, request) = request(&mut out);
        let StoreRequest::Create { bytes, .. } = request else { panic!("{request:?}") };
        let reason = "gone".to_string();
        let failed = StoreReply::Failed { reason, retriable: false };
        assert_eq!(log.handle_stored(Time::ZERO, token, failed, &mut out), None);
        let event = answer(&mut log, &mut out, StoreReply::Bytes(bytes.to_vec()));
        assert_eq!(event, Some(LogEvent::Appended { number: LogNumber(2) }));
    }

    #[test]
    fn a_higher_or_equal_term_in_the_way_supersedes() {
        for term in [1, 2] {
            let mut out = Vec::new();
            let mut log = appending(&mut out);
            assert_eq!(answer(&mut log, &mut out, StoreReply::Exists), None);
            let event = answer(&mut log, &mut out, fence(term));
            let superseded = LogEvent::Failed(log.superseded(AppTerm(term)));
            assert_eq!(event, Some(superseded));
            assert_eq!(out, []);
        }
    }

    #[test]
    fn records_of_another_version_are_refused_before_anything_is_written() {
        let StoreReply::Bytes(mut bytes) = fence(3) else { unreachable!("it is bytes") };
        bytes[6] = 77;
        let mut out = Vec::new();
        let mut log = Log::new(Identity::default(), 7, None);
        log.start(&mut out);
        let names = StoreReply::Names([object_name(LogNumber(1))].into());
        assert_eq!(answer(&mut log, &mut out, names), None);
        let event = answer(&mut log, &mut out, StoreReply::Bytes(bytes));
        let Some(LogEvent::Failed(error)) = event else { panic!("{event:?}") };
        assert!(error.to_string().contains("format version 77"), "{error}");
        assert_eq!(out, []);
    }

    #[test]
    fn a_void_record_in_the_way_is_stepped_over() {
        let mut out = Vec::new();
        let mut log = appending(&mut out);
        assert_eq!(answer(&mut log, &mut out, StoreReply::Exists), None);
        assert_eq!(answer(&mut log, &mut out, fence(0)), None);
        let event = answer(&mut log, &mut out, StoreReply::Done);
        assert_eq!(event, Some(LogEvent::Appended { number: LogNumber(3) }));
    }

    #[test]
    fn something_unreadable_in_the_way_is_named() {
        let mut out = Vec::new();
        let mut log = appending(&mut out);
        assert_eq!(answer(&mut log, &mut out, StoreReply::Exists), None);
        let event = answer(&mut log, &mut out, StoreReply::Bytes(b"torn".to_vec()));
        let Some(LogEvent::Failed(error)) = event else { panic!("{event:?}") };
        assert!(error.to_string().contains("log/0000000002"), "{error}");
    }
}
