//! Objects of the checkpoint store that hold output of a sink: kept, and fetched again.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::snapshot::{Snapshots, retry_wait};
use crate::api::sink::ObjectRequest;
use crate::effect::{Effect, IoError, IoErrorKind, Level, Notice, StoreReply, StoreRequest};
use crate::id::Token;
use crate::limits::STORE_RETRIES_MAX;
use crate::message::ObjectRef;
use crate::time::Time;

/// What the sink of a task has asked of the checkpoint store.
#[derive(Default)]
pub(super) struct Objects {
    /// By the token under which the store was asked.
    requests: BTreeMap<Token, Asked>,
}

struct Asked {
    /// The token under which the sink waits.
    by: Token,
    request: ObjectRequest,
    tries: u32,
    sent: bool,
    /// Not repeated before this time.
    not_before: Time,
}

impl Objects {
    pub(super) fn ask(&mut self, by: Token, request: ObjectRequest, tokens: &mut Snapshots) {
        let asked = Asked { by, request, tries: 0, sent: false, not_before: Time::ZERO };
        self.requests.insert(tokens.token(), asked);
    }

    /// Asks the store for what is due.
    pub(super) fn send(&mut self, now: Time, fx: &mut Vec<Effect>) {
        let due = |asked: &&mut Asked| !asked.sent && asked.not_before <= now;
        for (token, asked) in &mut self.requests {
            let Some(asked) = Some(asked).filter(due) else { continue };
            asked.sent = true;
            let request = match &asked.request {
                ObjectRequest::Keep(object, bytes) => {
                    StoreRequest::Put { name: object.name.clone(), bytes: bytes.clone() }
                }
                ObjectRequest::Fetch(object) => StoreRequest::Get { name: object.name.clone() },
            };
            fx.push(Effect::Store { token: *token, request });
        }
    }

    /// When a request has to be repeated.
    pub(super) fn next_retry(&self) -> Option<Time> {
        let waiting = self.requests.values().filter(|asked| !asked.sent);
        waiting.map(|asked| asked.not_before).min()
    }

    pub(super) fn owns(&self, token: Token) -> bool {
        self.requests.contains_key(&token)
    }

    /// The store answered: what the sink is to hear, unless the request is repeated.
    pub(super) fn stored(
        &mut self,
        token: Token,
        reply: StoreReply,
        now: Time,
        tokens: &mut Snapshots,
        fx: &mut Vec<Effect>,
    ) -> Option<(Token, Result<Vec<u8>, IoError>)> {
        let mut asked = self.requests.remove(&token)?;
        let object = match &asked.request {
            ObjectRequest::Keep(object, _) | ObjectRequest::Fetch(object) => object,
        };
        if let StoreReply::Failed { reason, retriable: true } = &reply {
            asked.tries = asked.tries.saturating_add(1);
            // As snapshots are: a store that is full or away comes back.
            if asked.tries == STORE_RETRIES_MAX {
                let text = format!(
                    "the checkpoint store has refused {} {} times in a row ({reason}): output \
                     waits until it is taken",
                    object.name, asked.tries
                );
                fx.push(Effect::Notice(Notice { level: Level::Warning, text }));
            }
            asked.sent = false;
            asked.not_before = now + retry_wait(asked.tries);
            self.requests.insert(tokens.token(), asked);
            return None;
        }
        let result = match (&asked.request, reply) {
            (ObjectRequest::Keep(..), StoreReply::Done) => Ok(Vec::new()),
            (ObjectRequest::Fetch(object), StoreReply::Bytes(bytes)) => checked(object, bytes),
            (ObjectRequest::Fetch(object), StoreReply::Missing) => {
                Err(wrong(object, "is missing".to_string(), IoErrorKind::NotFound))
            }
            (_, StoreReply::Failed { reason, .. }) => {
                Err(wrong(object, reason, IoErrorKind::Other))
            }
            (_, other) => {
                let reason = format!("the checkpoint store answered with {other:?}");
                Err(wrong(object, reason, IoErrorKind::Other))
            }
        };
        Some((asked.by, result))
    }
}

fn checked(object: &ObjectRef, bytes: Vec<u8>) -> Result<Vec<u8>, IoError> {
    if bytes.len() as u64 == object.len && crc32c::crc32c(&bytes) == object.crc {
        return Ok(bytes);
    }
    Err(wrong(object, "is not what was written".to_string(), IoErrorKind::Damaged))
}

fn wrong(object: &ObjectRef, reason: String, kind: IoErrorKind) -> IoError {
    IoError { path: format!("the checkpoint object {}", object.name), reason, kind }
}
