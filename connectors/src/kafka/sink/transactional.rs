//! The transactional writer: nothing is sent before its epoch has committed.
//!
//! A producer that dies takes its open transaction with it, so a transaction cannot be what is
//! prepared at a barrier. What is prepared are segments in the checkpoint store, which the epoch's
//! record names. Once the record exists they are produced in one short transaction, which commits
//! the epoch's number as an offset too. A writer that goes on from a record fences every producer
//! of the ids that it names, then reads that offset, which nobody can change any more, and then
//! produces what is missing, in order, before it takes the first new record.
//!
//! Brokers end a transaction that takes too long. Output that a slow one does not take in half of
//! that time is produced in several, and the offset's metadata says how many of the epoch's
//! segments they hold. What a producer has queued is not seen, so a transaction that was lost is
//! made again with half as much; full ones that need little time are followed by larger ones.
//!
//! All of this is one conversation with a producer: a request whose answer is followed by the next
//! one in its place, until nothing is left to do. So what the writer has asked for is outstanding
//! until the output of all epochs that have committed is in Kafka, and no later epoch's account is
//! written down before.

use std::marker::PhantomData;
use std::time::Duration;

use gear_core::api::Record;
use gear_core::api::sink::{Answered, Request, SinkContext, Waiting};
use gear_core::effect::{Blob, IoError};
use gear_core::flow::push::Meta;
use gear_core::id::{Attempt, Epoch, Token};
use gear_core::message::{ObjectRef, Pending};
use gear_core::time::Time;

use super::account::Account;
use super::client::{Client, call, misfit};
use super::command::{Command, Reply, Session, decode};
use super::mark::Mark;
use super::output::{Id, Output, Segment, sizes, spill};
use super::{Choices, Unsure};
use crate::faults::{Fault, Faults};

/// Time after which a mark is written anew though there is no output: brokers forget what an idle
/// group has committed, after seven days unless set.
const MARK_AGAIN: Duration = Duration::from_secs(24 * 3_600);
/// What the client library takes for a transaction's time unless set.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// A transaction may use one part in so many of that, then it is ended with what it holds: the last
/// segment, what is queued and the commit have to fit into what is left.
const LONG_PART: u32 = 2;
/// After one that has used less than one part in so many the next may hold twice as much.
const SHORT_PART: u32 = 4;

/// Writes the records of one task, each with its epoch.
pub(super) struct Transactional<T: Record, F: Faults> {
    client: Client<T>,
    choices: Choices,
    attempt: Attempt,
    /// The task's own id, then those of tasks that there are no more, until their output is
    /// produced.
    ids: Vec<Id>,
    /// Segments of the open epoch.
    segments: Vec<Segment>,
    /// The request that is under way, and what it is for.
    asked: Option<(Token, Step)>,
    open: bool,
    /// Output of committed epochs waits, and with what came since more than is to be in memory.
    full: bool,
    faults: PhantomData<fn() -> F>,
}

/// What is asked of a producer or of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Describe,
    Fence(usize),
    Look(usize),
    /// The content of the segment that is sent next.
    Fetch(usize),
    Send(usize),
    Commit(usize),
}

impl<T: Record, F: Faults> Transactional<T, F> {
    pub(super) fn new(client: Client<T>, choices: Choices, id: String, attempt: Attempt) -> Self {
        let own = Id::new(id, client.topic.clone(), 0, Time::ZERO);
        let (ids, segments) = (vec![own], Vec::new());
        let (asked, open, full, faults) = (None, false, false, PhantomData);
        Self { client, choices, attempt, ids, segments, asked, open, full, faults }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    pub(super) const fn has_room(&self) -> bool {
        !self.full
    }

    pub(super) fn open(
        &mut self,
        pending: &[Pending],
        cx: &mut SinkContext<'_>,
    ) -> Result<(), String> {
        let mut others = Vec::new();
        let mut own = None;
        for account in pending {
            for id in Id::of_account(&account.bytes, &account.objects, cx.now)? {
                if id.name == self.ids[0].name {
                    own = Some(id);
                } else {
                    others.push(id);
                }
            }
        }
        // A life of its own for one that has none: later than any before it.
        let lineage = u64::try_from(cx.wall.0).unwrap_or(0).max(1);
        let Id { name, topic, .. } = self.ids.remove(0);
        self.ids.push(own.unwrap_or_else(|| Id::new(name, topic, lineage, cx.now)));
        if F::has(Fault::FenceOwnIdOnly) {
            let own = &mut self.ids[0].outputs;
            own.extend(others.drain(..).flat_map(|id| id.outputs));
            own.make_contiguous().sort_by_key(|output| output.epoch);
        }
        self.ids.append(&mut others);
        self.converse(cx);
        Ok(())
    }

    #[inline]
    pub(super) fn write(&mut self, meta: Meta, view: T::View<'_>, cx: &mut SinkContext<'_>) {
        self.client.write(meta, view, cx);
        if self.client.buffer.len() >= self.choices.segment {
            self.cut(cx);
        }
    }

    pub(super) fn prepare(
        &mut self,
        epoch: Epoch,
        cx: &mut SinkContext<'_>,
    ) -> Result<Vec<u8>, String> {
        self.cut(cx);
        let segments = std::mem::take(&mut self.segments);
        if !segments.is_empty() {
            let output = Output { epoch: epoch.0, segments, since: None };
            self.ids[0].outputs.push_back(output);
        }
        if F::has(Fault::ProduceBeforeRecord) {
            self.commit(epoch, cx);
        }
        let named = |id: &Id| {
            let mut account = id.account();
            account.outputs.drain(..Self::unnamed(id));
            account
        };
        Account { epoch: epoch.0, ids: self.ids.iter().map(named).collect() }.encode()
    }

    pub(super) fn objects(&self) -> Vec<ObjectRef> {
        let outputs = self.ids.iter().flat_map(|id| id.outputs.iter().skip(Self::unnamed(id)));
        let segments = outputs.flat_map(|output| &output.segments);
        segments.map(|segment| segment.object.clone()).collect()
    }

    /// Outputs that an account does not name: none.
    fn unnamed(id: &Id) -> usize {
        if F::has(Fault::CollectBeforeProduced) { id.outputs.len().saturating_sub(1) } else { 0 }
    }

    pub(super) fn commit(&mut self, epoch: Epoch, cx: &mut SinkContext<'_>) {
        let own = &mut self.ids[0];
        for output in own.outputs.iter_mut().filter(|output| output.epoch <= epoch.0) {
            output.since.get_or_insert(cx.now);
        }
        own.unmarked |= cx.now.since(own.marked_at) >= MARK_AGAIN;
        self.converse(cx);
        self.weigh();
    }

    pub(super) fn answered(
        &mut self,
        token: Token,
        result: Result<Vec<u8>, IoError>,
        cx: &mut SinkContext<'_>,
    ) -> Result<Answered, String> {
        let Some((_, step)) = self.asked.filter(|(asked, _)| *asked == token) else {
            let kept = result.map_err(|error| gear_core::api::sink::describe(&error));
            return kept.map(|_| self.kept(token));
        };
        // Whether a segment of which nothing is heard is in the transaction is not known.
        let is_known = result.is_ok() || matches!(step, Step::Fetch(_));
        let at = match result {
            Err(error) => Some(self.client.unheard(&error, cx)?),
            Ok(bytes) => {
                // The store's answer says nothing of the brokers.
                if !matches!(step, Step::Fetch(_)) {
                    self.client.heard();
                }
                self.hear(step, bytes, cx)?
            }
        };
        if let Step::Send(id) | Step::Fetch(id) = step
            && (is_known || F::has(Fault::EndUnheard))
        {
            let is_long = self.age(id, cx.now) >= self.timeout() / LONG_PART;
            let id = &mut self.ids[id];
            let sent = id.sent - id.done;
            id.ending = sent > 0 && (is_long || sent >= id.most);
        }
        self.weigh();
        let Some(step) = self.next() else {
            self.asked = None;
            self.rest(cx);
            return Ok(Answered::Done);
        };
        self.asked = Some((token, step));
        let request = self.ask(step, cx.now);
        self.spill();
        Ok(Answered::Again { request, at: at.unwrap_or(cx.now) })
    }

    pub(super) fn waiting(&self) -> Waiting {
        let outputs = || self.ids.iter().flat_map(|id| &id.outputs);
        let segments = self.ids.iter().flat_map(Id::segments).chain(&self.segments);
        let (bytes, allocated) = sizes(segments);
        let buffered = self.client.buffer.len();
        Waiting {
            bytes: bytes + buffered as u64,
            allocated: allocated + buffered,
            since: outputs().filter_map(|output| output.since).min(),
        }
    }

    /// Makes a segment of what is buffered.
    fn cut(&mut self, cx: &mut SinkContext<'_>) {
        if let Some(bytes) = self.client.cut() {
            let (object, token) = cx.io.keep(bytes.clone());
            self.segments.push(Segment { object, bytes: Some(bytes), keeping: Some(token) });
            self.weigh();
        }
    }

    /// Looks anew whether there is room for more. Beyond what fits into memory, half as much is
    /// taken as is sent: an epoch that holds more than memory brings the task to no standstill, and
    /// the next one holds less.
    fn weigh(&mut self) {
        let waits_for = |output: &Output| output.since.is_some();
        let all = || self.ids.iter().flat_map(|id| &id.outputs);
        if !F::has(Fault::WaitForUncommitted) && !all().any(waits_for) {
            self.full = false;
            return;
        }
        let bytes = |segments: &mut dyn Iterator<Item = &Segment>| sizes(segments).0;
        let sent = bytes(&mut self.ids.iter().flat_map(|id| id.segments().take(id.sent)));
        let newer = all().filter(|output| !waits_for(output)).flat_map(|output| &output.segments);
        let newer = bytes(&mut newer.chain(&self.segments));
        let waiting = bytes(&mut self.ids.iter().flat_map(Id::segments).chain(&self.segments));
        self.full = waiting - sent > self.choices.memory as u64 && newer >= sent / 2;
    }

    /// A segment is in the store.
    fn kept(&mut self, token: Token) -> Answered {
        let segments = self.ids.iter_mut().flat_map(Id::segments_mut).chain(&mut self.segments);
        for segment in segments {
            segment.keeping.take_if(|keeping| *keeping == token);
        }
        self.spill();
        Answered::Done
    }

    fn spill(&mut self) {
        // What is being sent may have to be sent again.
        let busy = match self.asked {
            Some((_, Step::Send(id) | Step::Fetch(id))) => Some(id),
            _ => None,
        };
        let held = busy.and_then(|id| self.ids[id].next_mut()?.bytes.take());
        let allocated = self.waiting().allocated;
        let segments = self.ids.iter_mut().flat_map(Id::segments_mut).chain(&mut self.segments);
        spill(segments, allocated, self.choices.memory);
        if let Some(segment) = busy.and_then(|id| self.ids[id].next_mut()) {
            segment.bytes = held;
        }
    }

    /// Begins to talk to the producer, if there is anything to say and it is not being said.
    fn converse(&mut self, cx: &mut SinkContext<'_>) {
        if self.asked.is_some() {
            return;
        }
        let Some(step) = self.next() else { return };
        let token = match self.ask(step, cx.now) {
            Request::Io(request) => cx.io.submit(request),
            Request::Fetch(object) => cx.io.fetch(object),
        };
        self.asked = Some((token, step));
    }

    /// What is to be done next. All producers are fenced before any mark is read, and all marks are
    /// read before anything is produced.
    fn next(&self) -> Option<Step> {
        if !self.client.is_described() {
            return Some(Step::Describe);
        }
        let first = |has: fn(&Id) -> bool| self.ids.iter().position(|id| !has(id));
        if let Some(id) = first(|id| id.fenced) {
            return Some(Step::Fence(id));
        }
        if let Some(id) = first(|id| id.looked) {
            return Some(Step::Look(id));
        }
        let next = |(number, id): (usize, &Id)| match id.due() {
            Some(output) => Some(match output.segments.get(id.sent).filter(|_| !id.ending) {
                Some(Segment { bytes: Some(_), .. }) => Step::Send(number),
                Some(_) => Step::Fetch(number),
                None => Step::Commit(number),
            }),
            None => id.unmarked.then_some(Step::Commit(number)),
        };
        self.ids.iter().enumerate().find_map(next)
    }

    /// All that could be done is.
    fn rest(&mut self, cx: &SinkContext<'_>) {
        self.open = true;
        // What was produced for tasks that there are no more is none of this one's business.
        self.ids.truncate(1);
        debug_assert!(self.ids[0].due().is_none() && cx.now >= self.ids[0].marked_at);
    }

    fn ask(&mut self, step: Step, now: Time) -> Request {
        if let Step::Send(id) | Step::Commit(id) = step {
            let id = &mut self.ids[id];
            id.began.get_or_insert(now);
            // A commit of which nothing is heard is asked for again, whatever has become due since.
            id.ending |= matches!(step, Step::Commit(_));
        }
        self.request(step)
    }

    fn request(&self, step: Step) -> Request {
        let session = |id: &Id| Session { attempt: self.attempt.0, number: id.producer };
        let mut body = Blob::default();
        let command = match step {
            Step::Describe => self.client.describe(),
            Step::Fence(id) => {
                let (session, name) = (session(&self.ids[id]), self.ids[id].name.clone());
                Command::Open { session, settings: self.client.values(), id: Some(name) }
            }
            Step::Look(id) => {
                let id = &self.ids[id];
                let (name, topic) = (id.name.clone(), id.topic.clone());
                Command::Look { session: session(id), id: name, topic }
            }
            Step::Fetch(id) => {
                let id = &self.ids[id];
                let output = id.due().expect("it was found due");
                return Request::Fetch(output.segments[id.sent].object.clone());
            }
            Step::Send(id) => {
                let id = &self.ids[id];
                let segment = id.due().and_then(|output| output.segments.get(id.sent));
                body = segment.and_then(|it| it.bytes.clone()).unwrap_or_default();
                let (name, topic) = (Some(id.name.clone()), id.topic.clone());
                let session = session(id);
                let number = (id.sent - id.done) as u32;
                Command::Send { session, id: name, topic, number }
            }
            Step::Commit(id) => {
                let id = &self.ids[id];
                let mut mark = id.mark(self.attempt.0);
                if F::has(Fault::LeaveOutEpochNumber) {
                    (mark.epoch, mark.segments) = (id.known, 0);
                }
                let (name, topic) = (id.name.clone(), id.topic.clone());
                let (session, number) = (session(id), id.commits);
                Command::Commit { session, id: name, topic, mark, number }
            }
        };
        Request::Io(call(&command, body))
    }

    /// Takes an answer; gives the time before which nothing more is asked, if it has to wait.
    fn hear(
        &mut self,
        step: Step,
        bytes: Vec<u8>,
        cx: &mut SinkContext<'_>,
    ) -> Result<Option<Time>, String> {
        if let Step::Fetch(id) = step {
            if let Some(segment) = self.ids[id].next_mut() {
                segment.bytes = Some(bytes.into());
            }
            return Ok(None);
        }
        let reply: Reply = decode(&bytes).map_err(|error| error.to_string())?;
        match (step, reply) {
            (Step::Describe, Reply::Topic { partitions, limit }) => {
                self.client.hear(partitions, limit)?;
            }
            (Step::Fence(id), Reply::Done) => {
                self.ids[id].fenced = true;
            }
            (Step::Look(id), Reply::Mark(mark)) => self.judge(id, mark)?,
            (Step::Send(id), Reply::Done) => self.ids[id].note_sent(),
            (Step::Commit(id), Reply::Done) => self.produced(id, cx.now),
            (Step::Commit(id), Reply::Lost(_)) if F::has(Fault::TakeUnknownForCommitted) => {
                self.produced(id, cx.now);
                self.lose(id);
            }
            (
                Step::Fence(id) | Step::Look(id) | Step::Send(id) | Step::Commit(id),
                Reply::Lost(reason),
            ) => {
                self.lose(id);
                return Ok(Some(self.client.lost(&reason, cx)));
            }
            (
                Step::Fence(id) | Step::Look(id) | Step::Send(id) | Step::Commit(id),
                Reply::Fenced(reason),
            ) => {
                if !self.may_be_late(id, cx.now) {
                    return Err(self.fenced(id, &reason));
                }
                // The broker ends a transaction that takes too long by fencing its producer.
                self.lose(id);
                return Ok(Some(self.client.lost(&reason, cx)));
            }
            (_, reply) => return Err(misfit(&reply)),
        }
        Ok(None)
    }

    /// A producer is of no more use.
    fn lose(&mut self, id: usize) {
        let id = &mut self.ids[id];
        let sent = id.sent - id.done;
        if sent > 0 {
            id.most = (sent / 2).max(1);
        }
        let looked = id.looked;
        id.lose();
        id.looked = F::has(Fault::LookBeforeFence) && looked;
    }

    /// After this time a broker ends a transaction.
    fn timeout(&self) -> Duration {
        let set = self.client.settings.get("transaction.timeout.ms");
        let set = set.and_then(|set| set.parse().ok()).map(Duration::from_millis);
        set.unwrap_or(TRANSACTION_TIMEOUT)
    }

    /// How long the transaction has been open.
    fn age(&self, id: usize, now: Time) -> Duration {
        self.ids[id].began.map_or(Duration::ZERO, |began| now.since(began))
    }

    /// True if the transaction has been open for so long that the broker may have ended it: its
    /// clock is not this one's, and began before it.
    fn may_be_late(&self, id: usize, now: Time) -> bool {
        self.age(id, now) >= self.timeout() * 3 / 4
    }

    fn fenced(&self, id: usize, reason: &str) -> String {
        format!(
            "another producer has the transactional id `{}` ({reason}): a later attempt of this \
             task, which goes on in its place, or another job of the same name that writes to {}; \
             if it is one, give either another name",
            self.ids[id].name,
            self.client.settings.brokers()
        )
    }

    /// A transaction is committed: with output that was due or a part of it, or a mark alone.
    fn produced(&mut self, id: usize, now: Time) {
        self.client.losses = 0;
        let own = self.client.topic.clone();
        let is_short = self.age(id, now) < self.timeout() / SHORT_PART;
        let id = &mut self.ids[id];
        if is_short && id.sent - id.done >= id.most {
            id.most = id.most.saturating_mul(2);
        }
        let mark = id.mark(self.attempt.0);
        let is_there = id.go_on_behind(mark);
        debug_assert!(is_there, "the mark is of this output");
        id.commits += 1;
        (id.known, id.fresh) = (id.known.max(mark.epoch), false);
        (id.unmarked, id.marked_at) = (false, now);
        self.follow(own);
    }

    /// The job may write to another topic than it did: once all is in that one, the mark moves.
    fn follow(&mut self, topic: String) {
        let own = &mut self.ids[0];
        if own.looked && own.due().is_none() && own.topic != topic {
            (own.topic, own.unmarked) = (topic, true);
        }
    }

    /// What the mark says of the output that waits. Nobody else can change it: all earlier
    /// producers are fenced.
    fn judge(&mut self, number: usize, mark: Option<Mark>) -> Result<(), String> {
        let attempt = self.attempt.0;
        let id = &mut self.ids[number];
        let is_other = mark.is_some_and(|mark| mark.lineage != id.lineage);
        // One whose life is only remembered may itself be the one that comes late.
        let latest = mark.map_or(0, |mark| mark.attempt);
        match mark.and_then(|mark| mark.of(id.lineage)) {
            Some(mark) if mark.attempt.max(latest) > attempt => {
                let reason = "a later attempt has committed".to_owned();
                return Err(self.fenced(number, &reason));
            }
            Some(mark) if mark.last() > id.highest() => {
                // The job was taken back to an earlier epoch by hand. What it does from there has
                // epochs that were produced before with other content: the mark goes back too.
                id.produced(u64::MAX);
                id.unmarked = true;
            }
            Some(mark) => {
                let segments = if F::has(Fault::ForgetPart) { 0 } else { mark.segments };
                let is_there = id.go_on_behind(Mark { segments, ..mark });
                (id.fresh, id.known) = (false, id.known.max(mark.epoch));
                id.unmarked = is_other || !is_there || id.unmarked && mark.attempt != attempt;
            }
            None if id.fresh && mark.is_some_and(|mark| id.is_older(mark, attempt)) => {
                let reason = "one that was started later has committed".to_owned();
                return Err(self.fenced(number, &reason));
            }
            None if id.fresh || id.due().is_none() => {
                if let Some(mark) = mark.filter(|_| id.fresh) {
                    // An earlier attempt has left no record, and its calendar was ahead.
                    id.lineage = id.lineage.max(mark.lineage.saturating_add(1));
                    id.before = Some(mark.remembered());
                }
                id.unmarked = true;
            }
            None => match self.choices.unsure {
                Unsure::Stop => return Err(self.unsure_of(number, mark)),
                Unsure::Produce => {}
                Unsure::Skip => {
                    id.produced(u64::MAX);
                    id.unmarked = true;
                }
            },
        }
        let id = &mut self.ids[number];
        id.looked = true;
        if F::has(Fault::ProduceNewestFirst)
            && id.outputs.iter().all(|output| output.since.is_some())
        {
            id.outputs.make_contiguous().reverse();
        }
        let own = self.client.topic.clone();
        self.follow(own);
        Ok(())
    }

    fn unsure_of(&self, id: usize, mark: Option<Mark>) -> String {
        let Id { name, topic, outputs, .. } = &self.ids[id];
        let found = match mark {
            None => "is gone (brokers forget those of idle groups, after 7 days unless set)",
            Some(_) => "was written by another job, or by this one before it was started afresh",
        };
        let epochs = outputs.iter().filter(|output| output.since.is_some());
        let epochs: Vec<String> = epochs.map(|output| output.epoch.to_string()).collect();
        format!(
            "whether the output of epoch {} is in the topic `{topic}` of {} is not known: the \
             offset of the group `{name}`, which says it, {found}. Look at the topic (a part may \
             be there, if brokers took long), then start the sink with \
             `.when_unsure(Unsure::Skip)` if the output is there, or with \
             `.when_unsure(Unsure::Produce)` if it is not, or discard all state with `--fresh`",
            epochs.join(", "),
            self.client.settings.brokers()
        )
    }
}
