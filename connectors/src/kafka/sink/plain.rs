//! The plain writer: records are sent as they come, and the barrier waits until the cluster has
//! them. What a producer that was lost may have sent is sent again, so it is at least once.

use std::collections::VecDeque;

use gear_core::api::Record;
use gear_core::api::sink::{Answered, SinkContext, Waiting};
use gear_core::effect::{Blob, IoError};
use gear_core::flow::push::Meta;
use gear_core::id::{Attempt, Token};
use gear_core::limits::SINK_BYTES_OUTSTANDING_MAX;

use super::client::{Client, call, misfit};
use super::command::{Command, Reply, Session, decode};

/// Bytes of records that are sent together while there are always more.
const SEND_BYTES: usize = 1_024 * 1_024;

/// Writes the records of one task as they come.
pub(super) struct Plain<T: Record> {
    client: Client<T>,
    attempt: Attempt,
    producer: u32,
    has_producer: bool,
    /// What the cluster is not known to have, oldest first.
    unflushed: VecDeque<Blob>,
    /// Those of them that this producer was given.
    sent: usize,
    flush: bool,
    asked: Option<(Token, Step)>,
    open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Describe,
    Open,
    Send,
    Flush,
}

impl<T: Record> Plain<T> {
    pub(super) const fn new(client: Client<T>, attempt: Attempt) -> Self {
        Self {
            client,
            attempt,
            producer: 0,
            has_producer: false,
            unflushed: VecDeque::new(),
            sent: 0,
            flush: false,
            asked: None,
            open: false,
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    /// What waits has to fit in memory.
    pub(super) fn has_room(&self) -> bool {
        self.allocated() <= SINK_BYTES_OUTSTANDING_MAX
    }

    fn allocated(&self) -> usize {
        self.client.buffer.len() + self.unflushed.iter().map(|bytes| bytes.len()).sum::<usize>()
    }

    pub(super) fn open(&mut self, cx: &mut SinkContext<'_>) {
        self.converse(cx);
    }

    #[inline]
    pub(super) fn write(&mut self, meta: Meta, view: T::View<'_>, cx: &mut SinkContext<'_>) {
        self.client.write(meta, view, cx);
        if self.client.buffer.len() >= SEND_BYTES {
            self.idle(cx);
        }
    }

    /// Sends what there is.
    pub(super) fn idle(&mut self, cx: &mut SinkContext<'_>) {
        self.unflushed.extend(self.client.cut());
        // What is forgotten only when it is flushed must be flushed now and then.
        self.flush |= self.allocated() > SINK_BYTES_OUTSTANDING_MAX / 2;
        self.converse(cx);
    }

    pub(super) fn prepare(&mut self, cx: &mut SinkContext<'_>) {
        self.flush = true;
        self.idle(cx);
    }

    pub(super) fn answered(
        &mut self,
        token: Token,
        result: Result<Vec<u8>, IoError>,
        cx: &mut SinkContext<'_>,
    ) -> Result<Answered, String> {
        let Some((_, step)) = self.asked.filter(|(asked, _)| *asked == token) else {
            return Ok(Answered::Done);
        };
        let at = match result {
            Err(error) => self.client.unheard(&error, cx)?,
            Ok(bytes) => {
                self.client.heard();
                let reply = decode(&bytes).map_err(|error| error.to_string())?;
                self.hear(step, reply, cx)?
            }
        };
        let Some(step) = self.next() else {
            (self.asked, self.open) = (None, true);
            return Ok(Answered::Done);
        };
        self.asked = Some((token, step));
        Ok(Answered::Again { request: self.request(step).into(), at })
    }

    pub(super) fn waiting(&self) -> Waiting {
        let allocated = self.allocated();
        Waiting { bytes: allocated as u64, allocated, since: None }
    }

    fn converse(&mut self, cx: &mut SinkContext<'_>) {
        if self.asked.is_none()
            && let Some(step) = self.next()
        {
            self.asked = Some((cx.io.submit(self.request(step)), step));
        }
    }

    fn next(&self) -> Option<Step> {
        if !self.client.is_described() {
            return Some(Step::Describe);
        }
        if !self.has_producer {
            return Some(Step::Open);
        }
        if self.sent < self.unflushed.len() {
            return Some(Step::Send);
        }
        (self.flush && !self.unflushed.is_empty()).then_some(Step::Flush)
    }

    fn request(&self, step: Step) -> gear_core::effect::IoRequest {
        let session = Session { attempt: self.attempt.0, number: self.producer };
        let mut body = Blob::default();
        let command = match step {
            Step::Describe => self.client.describe(),
            Step::Open => Command::Open { session, settings: self.client.values(), id: None },
            Step::Send => {
                body = self.unflushed.get(self.sent).cloned().unwrap_or_default();
                let (topic, number) = (self.client.topic.clone(), self.sent as u32);
                Command::Send { session, id: None, topic, number }
            }
            Step::Flush => Command::Flush { session },
        };
        call(&command, body)
    }

    /// Takes an answer; gives the time before which nothing more is asked.
    fn hear(
        &mut self,
        step: Step,
        reply: Reply,
        cx: &mut SinkContext<'_>,
    ) -> Result<gear_core::time::Time, String> {
        match (step, reply) {
            (Step::Describe, Reply::Topic { partitions, limit }) => {
                self.client.hear(partitions, limit)?;
            }
            (Step::Open, Reply::Done) => (self.has_producer, self.sent) = (true, 0),
            (Step::Send, Reply::Done) => self.sent += 1,
            (Step::Flush, Reply::Done) => {
                self.client.losses = 0;
                // All that there is had been sent before.
                self.unflushed.clear();
                (self.sent, self.flush) = (0, false);
            }
            (Step::Open | Step::Send | Step::Flush, Reply::Lost(reason)) => {
                (self.has_producer, self.sent) = (false, 0);
                self.producer += 1;
                return Ok(self.client.lost(&reason, cx));
            }
            (_, reply) => return Err(misfit(&reply)),
        }
        Ok(cx.now)
    }
}
