//! A task's part of each epoch: what is captured at the barrier, written, stored and reported.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::api::sink::IoQueue;
use crate::effect::{Effect, Level, Notice, Place, StoreReply, StoreRequest};
use crate::flow::logic::{Cx, Logic, SnapshotOrder, TaskInfo};
use crate::flow::push::Quarantined;
use crate::flow::state::SnapshotWriter;
use crate::id::{Attempt, Epoch, TaskId, Token};
use crate::limits::{
    QUARANTINED_RECORDS_MAX, SNAPSHOT_CHAIN_MAX, SNAPSHOT_ENTRIES_PER_SLICE, STORE_BACKOFF_MAX,
    STORE_BACKOFF_MIN, STORE_RETRIES_MAX,
};
use crate::message::{EpochStart, Message, ObjectRef, Replayed, TaskSnapshot};
use crate::task::quarantine;
use crate::time::{Duration, Time};

/// The snapshots of one task, from the barrier to the report.
pub(crate) struct Snapshots {
    task: TaskId,
    attempt: Attempt,
    /// The folder of the task's objects, with the attempt in it.
    prefix: String,
    next_token: u64,
    writing: Option<Writing>,
    /// Snapshots whose objects or I/O are on their way, oldest first.
    pending: VecDeque<PendingSnapshot>,
    requests: BTreeMap<Token, Request>,
    /// The chain of each epoch that may become a base.
    chains: BTreeMap<Epoch, Chain>,
    last_epoch: Epoch,
    reports_early: bool,
    /// Bytes of the last object that was written.
    last_len: usize,
    /// The last epoch that was reported, the time from its barrier, and the bytes stored for it.
    reported: (Epoch, Duration, u64),
    aside: Vec<Quarantined>,
    /// What was put aside in epochs that are not known to be committed: one that is given up joins
    /// the next.
    uncommitted: BTreeMap<Epoch, ObjectRef>,
    quarantined: u64,
    /// Commits whose I/O is on its way: the epoch, and the last request of it.
    committing: VecDeque<(Epoch, Token)>,
    /// What was said last of all, for an app master that did not hear it.
    finished: Option<(Epoch, TaskSnapshot)>,
}

struct Writing {
    writer: SnapshotWriter,
    epoch: Epoch,
    /// The objects of its base, which may be forgotten as a base while this is being written.
    chain: Chain,
    whole: bool,
}

/// The objects that make up a state, oldest first.
#[derive(Clone, Default)]
struct Chain {
    objects: Vec<ObjectRef>,
    /// The digest of what the last object says besides its tables.
    meta: u64,
}

struct PendingSnapshot {
    epoch: Epoch,
    /// When its barrier came.
    at: Time,
    /// Bytes of its objects.
    bytes: u64,
    last: bool,
    snapshot: TaskSnapshot,
    /// Objects that are not yet stored.
    objects: usize,
    /// Still being written.
    writing: bool,
    /// I/O of the sink up to here has to be done.
    io: Token,
}

/// A write to the store, kept until it is answered so that it can be repeated.
struct Request {
    epoch: Epoch,
    request: StoreRequest,
    tries: u32,
    sent: bool,
    /// Not repeated before this time.
    not_before: Time,
}

impl Request {
    const fn new(epoch: Epoch, request: StoreRequest) -> Self {
        Self { epoch, request, tries: 0, sent: false, not_before: Time::ZERO }
    }
}

impl Snapshots {
    /// Tokens begin above `tokens`, so that an executor knows whose they are.
    /// `restored` is the last epoch of which the task need not know anything; `reports_early` is a
    /// seeded bug.
    pub(crate) fn new(
        prefix: String,
        info: &TaskInfo,
        tokens: u64,
        quarantined: u64,
        restored: Epoch,
        reports_early: bool,
    ) -> Self {
        Self {
            task: info.task,
            attempt: info.attempt,
            prefix,
            next_token: tokens,
            writing: None,
            pending: VecDeque::new(),
            requests: BTreeMap::new(),
            chains: BTreeMap::new(),
            last_epoch: restored,
            reports_early,
            last_len: 0,
            reported: (Epoch(0), Duration::ZERO, 0),
            aside: Vec::new(),
            uncommitted: BTreeMap::new(),
            quarantined,
            committing: VecDeque::new(),
            finished: None,
        }
    }

    pub(crate) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    pub(crate) const fn last_epoch(&self) -> Epoch {
        self.last_epoch
    }

    /// The last epoch whose barrier it forwarded and what stands for every later one, once it has
    /// said so.
    pub(crate) const fn finished(&self) -> Option<&(Epoch, TaskSnapshot)> {
        self.finished.as_ref()
    }

    pub(crate) const fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    pub(crate) fn allocated(&self) -> usize {
        self.writing.as_ref().map_or(0, |writing| writing.writer.len())
            + self.requests.values().map(|request| size(&request.request)).sum::<usize>()
    }

    /// The last epoch that was reported, the time from its barrier, and the bytes stored for it.
    pub(crate) const fn reported(&self) -> (Epoch, Duration, u64) {
        self.reported
    }

    pub(crate) const fn quarantined(&self) -> u64 {
        self.quarantined
    }

    pub(crate) fn put_aside(&mut self, entries: Vec<Quarantined>) -> Result<(), String> {
        self.quarantined += entries.len() as u64;
        if self.quarantined > QUARANTINED_RECORDS_MAX {
            return Err(format!(
                "more than {QUARANTINED_RECORDS_MAX} records were put aside: mend the job or its \
                 input, then start again"
            ));
        }
        self.aside.extend(entries);
        Ok(())
    }

    /// Records that were in the quarantine before: they count once.
    pub(crate) fn put_back(&mut self, entries: Vec<Quarantined>) {
        self.aside.extend(entries);
    }

    /// Captures the task at the barrier of an epoch; `replayed` is what it has to say of the
    /// quarantine.
    pub(crate) fn begin(
        &mut self,
        (start, last): (EpochStart, bool),
        replayed: Vec<Replayed>,
        logic: &mut dyn Logic,
        cx: &mut Cx<'_>,
    ) -> Result<(), String> {
        assert!(self.writing.is_none(), "one snapshot is written at a time");
        assert!(start.epoch > self.last_epoch, "epochs come in order");
        let base = start.base.filter(|base| {
            self.chains.get(base).is_some_and(|Chain { objects, .. }| {
                !objects.is_empty() && objects.len() < SNAPSHOT_CHAIN_MAX
            })
        });
        let order = SnapshotOrder { epoch: start.epoch, base, last };
        let captured = logic.begin_snapshot(order, cx)?;
        let epoch = start.epoch;
        self.last_epoch = self.last_epoch.max(epoch);
        cx.io.pass(epoch);
        let (records, _) = logic.read();
        let mut snapshot = TaskSnapshot {
            attempt: self.attempt,
            finished: last,
            partitions: captured.partitions,
            pending: captured.pending,
            objects: captured.objects,
            watermark: logic.outputs().clock(),
            quarantined: self.quarantined,
            records,
            replayed,
            ..TaskSnapshot::default()
        };
        let aside = core::mem::take(&mut self.aside);
        let (mut objects, mut bytes) = (0, 0);
        if !aside.is_empty() {
            let object = quarantine::encode(&aside);
            let name = format!("quarantine/{}-e{:010}", self.prefix, epoch.0);
            bytes += object.len() as u64;
            let (len, crc) = (object.len() as u64, crc32c::crc32c(&object));
            let named = ObjectRef { name: name.clone(), len, crc };
            self.uncommitted.insert(epoch, named);
            let token = self.token();
            let request = StoreRequest::Put { name, bytes: object.into() };
            self.requests.insert(token, Request::new(epoch, request));
            objects += 1;
        }
        snapshot.quarantine = self.uncommitted.values().cloned().collect();
        if captured.state {
            let chain = base.and_then(|base| self.chains.get(&base)).cloned().unwrap_or_default();
            let whole = captured.whole;
            // Room for all of it: to grow would copy what is written so far, in one go.
            let room = match self.last_len {
                0 => logic.state_bytes(),
                last => logic.state_bytes().min(last + last / 8),
            };
            let writer = SnapshotWriter::new(Vec::with_capacity(room));
            self.writing = Some(Writing { writer, epoch, chain, whole });
        }
        self.pending.push_back(PendingSnapshot {
            epoch,
            at: cx.now,
            bytes,
            last,
            snapshot,
            objects,
            writing: captured.state,
            io: cx.io.mark(),
        });
        Ok(())
    }

    /// Captures the task behind its last record: as a part of the epoch after the last of which it
    /// forwarded the barrier, so that a sink does not make it visible with that one.
    pub(crate) fn begin_last(
        &mut self,
        replayed: Vec<Replayed>,
        logic: &mut dyn Logic,
        cx: &mut Cx<'_>,
    ) -> Result<(), String> {
        let start = EpochStart { epoch: self.last_epoch.next(), base: None, stop: false };
        self.begin((start, true), replayed, logic, cx)
    }

    /// Writes a slice of the snapshot at hand; true if there was one.
    pub(crate) fn write_slice(&mut self, logic: &mut dyn Logic) -> bool {
        let Some(mut writing) = self.writing.take() else { return false };
        if !logic.write_snapshot(SNAPSHOT_ENTRIES_PER_SLICE, &mut writing.writer) {
            self.writing = Some(writing);
            return true;
        }
        let Writing { writer, epoch, mut chain, whole } = writing;
        let meta = writer.meta_digest();
        let unchanged = writer.is_empty() && !chain.objects.is_empty() && chain.meta == meta;
        let name = format!("state/{}-e{:010}", self.prefix, epoch.0);
        let mut stored = None;
        if !unchanged {
            let object = writer.finish();
            let (bytes, crc) = (object.bytes, object.crc);
            if whole {
                chain.objects.clear();
            }
            chain.meta = meta;
            self.last_len = bytes.len();
            chain.objects.push(ObjectRef { name: name.clone(), len: bytes.len() as u64, crc });
            let request = StoreRequest::Put { name, bytes: bytes.into() };
            stored = Some(Request::new(epoch, request));
        }
        self.chains.insert(epoch, chain.clone());
        let pending =
            self.pending.iter_mut().find(|pending| pending.epoch == epoch && pending.writing);
        let pending = pending.expect("what is written is pending");
        pending.snapshot.chain = chain.objects;
        pending.writing = false;
        if let Some(request) = stored {
            pending.objects += 1;
            pending.bytes += self.last_len as u64;
            let token = self.token();
            self.requests.insert(token, request);
        }
        true
    }

    /// The store answered. A failed write is repeated under a new token, after a wait that doubles.
    pub(crate) fn stored(
        &mut self,
        token: Token,
        reply: StoreReply,
        now: Time,
        fx: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let Some(mut request) = self.requests.remove(&token) else { return Ok(()) };
        match reply {
            StoreReply::Done => {
                let epoch = request.epoch;
                let pending = self
                    .pending
                    .iter_mut()
                    .find(|pending| pending.epoch == epoch && pending.objects > 0);
                if self.reports_early && pending.is_none() {
                    return Ok(());
                }
                pending.expect("a snapshot waits for its objects").objects -= 1;
                Ok(())
            }
            StoreReply::Failed { reason, retriable } => {
                request.tries = request.tries.saturating_add(1);
                if !retriable {
                    return Err(format!(
                        "the checkpoint store refused {}: {reason}; what has committed is safe, \
                         start again when the store works",
                        name(&request.request)
                    ));
                }
                // As the commit log does: a store that is full or away comes back, and until then
                // only as many epochs are open as may be.
                if request.tries == STORE_RETRIES_MAX {
                    let text = format!(
                        "the checkpoint store has refused {} {} times in a row ({reason}): the \
                         epoch waits until it is taken",
                        name(&request.request),
                        request.tries
                    );
                    fx.push(Effect::Notice(Notice { level: Level::Warning, text }));
                }
                request.sent = false;
                request.not_before = now + retry_wait(request.tries);
                let token = self.token();
                self.requests.insert(token, request);
                Ok(())
            }
            other => Err(format!("the checkpoint store answered a write with {other:?}")),
        }
    }

    /// When a write has to be repeated.
    pub(crate) fn next_retry(&self) -> Option<Time> {
        let waiting = self.requests.values().filter(|request| !request.sent);
        waiting.map(|request| request.not_before).min()
    }

    /// Sends requests that wait, and reports what is complete, in order.
    pub(crate) fn collect(&mut self, now: Time, io: &IoQueue, fx: &mut Vec<Effect>) {
        self.send_requests(now, fx);
        while let Some(pending) = self.pending.front() {
            let stored = pending.objects == 0 || self.reports_early;
            if pending.writing || !stored || !io.is_done(pending.io) {
                break;
            }
            let Some(pending) = self.pending.pop_front() else { break };
            let PendingSnapshot { epoch, snapshot, last, at, bytes, .. } = pending;
            self.reported = (epoch, now.since(at), bytes);
            let Self { task, attempt, .. } = *self;
            let message = if last {
                let after = Epoch(epoch.0 - 1);
                self.finished = Some((after, snapshot.clone()));
                Message::Finished { task, attempt, after, snapshot }
            } else {
                Message::Snapshot { task, attempt, epoch, snapshot }
            };
            fx.push(Effect::Send { to: Place::AppMaster, message });
        }
        while let Some(&(epoch, mark)) = self.committing.front() {
            if !io.is_done(mark) {
                break;
            }
            self.committing.pop_front();
            let Self { task, attempt, .. } = *self;
            let message = Message::SinkCommitted { task, attempt, epoch };
            fx.push(Effect::Send { to: Place::AppMaster, message });
        }
    }

    fn send_requests(&mut self, now: Time, fx: &mut Vec<Effect>) {
        for (token, request) in &mut self.requests {
            if !request.sent && request.not_before <= now {
                request.sent = true;
                fx.push(Effect::Store { token: *token, request: request.request.clone() });
            }
        }
    }

    /// This epoch has committed: what came before can no longer become a base.
    pub(crate) fn committed(&mut self, epoch: Epoch, io: Option<Token>) {
        self.chains.retain(|other, _| *other >= epoch);
        self.uncommitted.retain(|other, _| *other > epoch);
        if let Some(mark) = io {
            self.committing.push_back((epoch, mark));
        }
    }
}

/// The wait before a request to the store is repeated for the so-manieth time.
pub(crate) fn retry_wait(tries: u32) -> Duration {
    STORE_BACKOFF_MAX.min(STORE_BACKOFF_MIN * (1 << tries.min(16)))
}

fn name(request: &StoreRequest) -> &str {
    match request {
        StoreRequest::Put { name, .. }
        | StoreRequest::Create { name, .. }
        | StoreRequest::Get { name }
        | StoreRequest::Delete { name } => name,
        StoreRequest::List { prefix } => prefix,
    }
}

fn size(request: &StoreRequest) -> usize {
    match request {
        StoreRequest::Put { bytes, .. } | StoreRequest::Create { bytes, .. } => bytes.len(),
        _ => 0,
    }
}
