//! Savepoints: copies of a committed epoch under a name, which nobody collects.
//!
//! A savepoint is a folder with the objects that the epoch's record names, under the names that
//! they have, and the record itself, which is written last: a folder without it is none. So a copy
//! that was cut off is begun anew, and overwrites what is there with the same.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::record::{EpochRecord, Record};
use super::requests::{Patience, Requests};
use crate::effect::{Effect, StoreReply, StoreRequest};
use crate::id::{Epoch, Token};
use crate::message::ObjectRef;
use crate::time::Time;

/// The folder of an app's savepoints, below that of the app.
pub const FOLDER: &str = "savepoints/";
/// The name of a savepoint's record in its folder.
const RECORD: &str = "record";
/// Bytes of a savepoint's name: it is a part of a path.
pub const NAME_BYTES_MAX: usize = 100;
/// Objects copied at once: each is in memory as a whole.
const COPIES_AT_ONCE: usize = 4;

/// Why there is no savepoint, or none that an app can begin from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SavepointError {
    /// The name is no part of a path.
    #[error(
        "`{name}` cannot be a savepoint's name: it has 1 to {NAME_BYTES_MAX} letters, digits, \
         `-`, `_` and `.`, and does not begin with `.`"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// There is one.
    #[error("there is a savepoint `{name}` already: take another name")]
    Exists {
        /// The name.
        name: String,
    },
    /// There is none.
    #[error(
        "there is no savepoint in `{folder}`, or it was not finished: look which there are, and \
         name one as the folder of its app, `savepoints` and its name"
    )]
    Missing {
        /// The folder.
        folder: String,
    },
    /// What it holds cannot be used.
    #[error("the savepoint's `{object}` cannot be used: {reason}; begin from another one")]
    Damaged {
        /// The object.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store does not do what is asked.
    #[error("the checkpoint store failed at `{object}`: {reason}; try again once it works")]
    Store {
        /// The object.
        object: String,
        /// What the store said.
        reason: String,
    },
}

/// Whether this may be a savepoint's name.
///
/// # Errors
/// [`SavepointError::Name`] if not.
pub fn check_name(name: &str) -> Result<(), SavepointError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(plain);
    if is_name { Ok(()) } else { Err(SavepointError::Name { name: name.to_string() }) }
}

/// The objects that a record names: state, output, and what was put aside.
fn objects(record: &EpochRecord) -> impl Iterator<Item = &ObjectRef> {
    let quarantine = record.tasks.values().flat_map(|task| &task.quarantine);
    record.objects().chain(quarantine)
}

#[derive(Clone, Debug)]
enum Purpose {
    /// Is there a record?
    Look,
    Read(ObjectRef),
    Write(String),
    Create,
    /// Whose record stands there?
    ReadBack {
        /// What the store said when it could not create it; none if there is one.
        failure: Option<String>,
    },
}

/// Copies a record's objects from one folder to another.
#[derive(Clone, Debug)]
struct Copier {
    requests: Requests<Purpose>,
    /// What comes before an object's name where it is, and where it is to be.
    from: String,
    to: String,
    left: VecDeque<ObjectRef>,
}

impl Copier {
    const fn new(requests: Requests<Purpose>, from: String, to: String) -> Self {
        Self { requests, from, to, left: VecDeque::new() }
    }

    fn look(&mut self, folder: &str, out: &mut Vec<Effect>) {
        let name = [folder, RECORD].concat();
        self.requests.issue(Purpose::Look, StoreRequest::Get { name }, Patience::Bounded, out);
    }

    fn begin(&mut self, record: &EpochRecord, out: &mut Vec<Effect>) -> bool {
        let distinct: BTreeMap<&str, &ObjectRef> =
            objects(record).map(|object| (object.name.as_str(), object)).collect();
        self.left = distinct.into_values().cloned().collect();
        self.go_on(out)
    }

    /// Asks for as much as may be under way; true if nothing is left.
    fn go_on(&mut self, out: &mut Vec<Effect>) -> bool {
        while self.requests.len() < COPIES_AT_ONCE {
            let Some(object) = self.left.pop_front() else { break };
            let request = StoreRequest::Get { name: [&*self.from, &*object.name].concat() };
            self.requests.issue(Purpose::Read(object), request, Patience::Bounded, out);
        }
        self.requests.len() == 0
    }

    /// An object was read or written; true if all are.
    fn copied(
        &mut self,
        purpose: Purpose,
        reply: StoreReply,
        out: &mut Vec<Effect>,
    ) -> Result<bool, SavepointError> {
        match (purpose, reply) {
            (Purpose::Read(object), StoreReply::Bytes(bytes)) => {
                let crc = crc32c::crc32c(&bytes);
                if bytes.len() as u64 != object.len || crc != object.crc {
                    let reason = "it is not what was written".to_string();
                    return Err(SavepointError::Damaged { object: object.name, reason });
                }
                let name = [&*self.to, &*object.name].concat();
                let request = StoreRequest::Put { name, bytes: bytes.into() };
                let purpose = Purpose::Write(object.name);
                self.requests.issue(purpose, request, Patience::Bounded, out);
                Ok(false)
            }
            (Purpose::Read(object), StoreReply::Missing) => {
                let reason = "it is gone".to_string();
                Err(SavepointError::Damaged { object: object.name, reason })
            }
            (Purpose::Write(_), StoreReply::Done) => Ok(self.go_on(out)),
            (Purpose::Read(ObjectRef { name, .. }) | Purpose::Write(name), reply) => {
                Err(failed(name, &reply))
            }
            (_, reply) => Err(failed(RECORD.to_string(), &reply)),
        }
    }
}

fn failed(object: String, reply: &StoreReply) -> SavepointError {
    let reason = match reply {
        StoreReply::Failed { reason, .. } => reason.clone(),
        reply => format!("it answered {reply:?}, which is no answer to that"),
    };
    SavepointError::Store { object, reason }
}

/// A savepoint that is being made.
#[derive(Clone, Debug)]
pub struct Making {
    name: String,
    copier: Copier,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq)]
enum Stage {
    /// Is the name free?
    Looking,
    /// It is, and an epoch is needed.
    Free,
    /// For an epoch behind this one to be committed.
    Waiting(Epoch),
    Copying(EpochRecord),
    Marking(EpochRecord),
    Over,
}

impl Making {
    /// Begins; `issued` requests of its lane have been issued by others.
    pub fn begin(lane: u64, issued: u64, name: String, out: &mut Vec<Effect>) -> Self {
        let folder = format!("{FOLDER}{name}/");
        let requests = Requests::above(lane, issued);
        let mut copier = Copier::new(requests, String::new(), folder.clone());
        copier.look(&folder, out);
        Self { name, copier, stage: Stage::Looking }
    }

    /// Requests of its lane that have been issued.
    #[must_use]
    pub const fn issued(&self) -> u64 {
        self.copier.requests.issued()
    }

    /// True once it needs an epoch, which is to be started; `last` is the last that was.
    pub fn wants_epoch(&mut self, last: Epoch) -> bool {
        let wants = self.stage == Stage::Free;
        if wants {
            self.stage = Stage::Waiting(last);
        }
        wants
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.copier.requests.next_timeout()
    }

    /// Repeats requests that are due.
    pub fn handle_timeout(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.copier.requests.handle_timeout(now, out);
    }

    /// The objects that must stay where they are until they are copied.
    pub fn named(&self) -> impl Iterator<Item = &ObjectRef> {
        let record = match &self.stage {
            Stage::Copying(record) => Some(record),
            _ => None,
        };
        record.into_iter().flat_map(objects)
    }

    /// An epoch is committed.
    pub fn committed(&mut self, record: &EpochRecord, out: &mut Vec<Effect>) {
        if matches!(self.stage, Stage::Waiting(after) if record.epoch > after) {
            self.stage = Stage::Copying(record.clone());
            if self.copier.begin(record, out) {
                self.mark(out);
            }
        }
    }

    fn mark(&mut self, out: &mut Vec<Effect>) {
        let Stage::Copying(record) = core::mem::replace(&mut self.stage, Stage::Over) else {
            return;
        };
        let bytes = Record::Epoch(record.clone()).encode().into();
        self.stage = Stage::Marking(record);
        let request = StoreRequest::Create { name: self.record_name(), bytes };
        self.copier.requests.issue(Purpose::Create, request, Patience::Bounded, out);
    }

    fn record_name(&self) -> String {
        [&*self.copier.to, RECORD].concat()
    }

    /// Takes an answer of the store; how it ended, once it has.
    pub fn handle_stored(
        &mut self,
        now: Time,
        token: Token,
        reply: StoreReply,
        out: &mut Vec<Effect>,
    ) -> Option<Result<Epoch, SavepointError>> {
        let (purpose, reply) = self.copier.requests.answer(now, token, reply, out)?;
        let over = self.step(purpose, reply, out).transpose();
        if over.is_some() {
            self.stage = Stage::Over;
        }
        over
    }

    fn step(
        &mut self,
        purpose: Purpose,
        reply: StoreReply,
        out: &mut Vec<Effect>,
    ) -> Result<Option<Epoch>, SavepointError> {
        let exists = SavepointError::Exists { name: self.name.clone() };
        match (purpose, reply, &self.stage) {
            (_, _, Stage::Over) => Ok(None),
            (Purpose::Look, StoreReply::Missing, _) => {
                self.stage = Stage::Free;
                Ok(None)
            }
            (Purpose::Look, StoreReply::Bytes(_), _) => Err(exists),
            (Purpose::Create, StoreReply::Done, Stage::Marking(record)) => Ok(Some(record.epoch)),
            (Purpose::Create, reply @ (StoreReply::Exists | StoreReply::Failed { .. }), _) => {
                // Whether it took effect is unknown; what stands there tells.
                let failure = match reply {
                    StoreReply::Failed { reason, .. } => Some(reason),
                    _ => None,
                };
                let (purpose, name) = (Purpose::ReadBack { failure }, self.record_name());
                let request = StoreRequest::Get { name };
                self.copier.requests.issue(purpose, request, Patience::Bounded, out);
                Ok(None)
            }
            (Purpose::ReadBack { .. }, StoreReply::Bytes(bytes), Stage::Marking(record)) => {
                let ours = Record::Epoch(record.clone()).encode() == bytes;
                if ours { Ok(Some(record.epoch)) } else { Err(exists) }
            }
            (Purpose::ReadBack { failure: Some(reason) }, StoreReply::Missing, _) => {
                Err(SavepointError::Store { object: self.record_name(), reason })
            }
            (purpose, reply, _) => {
                if self.copier.copied(purpose, reply, out)? {
                    self.mark(out);
                }
                Ok(None)
            }
        }
    }
}

/// A savepoint from which an app begins: its objects come into the app's own folder.
#[derive(Clone, Debug)]
pub struct Beginning {
    folder: String,
    copier: Copier,
    record: Option<EpochRecord>,
}

impl Beginning {
    /// Begins; `folder` is the savepoint's in the checkpoint store.
    pub fn begin(lane: u64, folder: &str, out: &mut Vec<Effect>) -> Self {
        let from = format!("/{folder}/");
        let mut copier = Copier::new(Requests::new(lane), from.clone(), String::new());
        copier.look(&from, out);
        Self { folder: folder.to_string(), copier, record: None }
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.copier.requests.next_timeout()
    }

    /// Repeats requests that are due.
    pub fn handle_timeout(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.copier.requests.handle_timeout(now, out);
    }

    /// Takes an answer of the store; the savepoint's record, once all that it names is there.
    pub fn handle_stored(
        &mut self,
        now: Time,
        token: Token,
        reply: StoreReply,
        out: &mut Vec<Effect>,
    ) -> Option<Result<EpochRecord, SavepointError>> {
        let (purpose, reply) = self.copier.requests.answer(now, token, reply, out)?;
        let is_whole = match (purpose, reply) {
            (Purpose::Look, StoreReply::Missing) => {
                return Some(Err(SavepointError::Missing { folder: self.folder.clone() }));
            }
            (Purpose::Look, StoreReply::Bytes(bytes)) => match Record::decode(&bytes) {
                Ok(Record::Epoch(record)) => {
                    let is_whole = self.copier.begin(&record, out);
                    self.record = Some(record);
                    Ok(is_whole)
                }
                other => {
                    let reason = match other {
                        Err(error) => error.to_string(),
                        Ok(_) => "it is the record of no epoch".to_string(),
                    };
                    let object = [&*self.copier.from, RECORD].concat();
                    Err(SavepointError::Damaged { object, reason })
                }
            },
            (purpose, reply) => self.copier.copied(purpose, reply, out),
        };
        match is_whole {
            Ok(false) => None,
            Ok(true) => self.record.take().map(Ok),
            Err(error) => Some(Err(error)),
        }
    }
}
