//! Records leave the quarantine: given to their operators again, or dropped.
//!
//! Which objects are in the quarantine is a part of each epoch's record, so an object leaves it
//! with the epoch that has the effects of its records, or with none. Orders are repeated to a task
//! that has gone back, and a task takes an object once in each attempt, whoever asks how often.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::master::{AppMaster, send};
use crate::checkpoint::aside::Aside;
use crate::checkpoint::requests::{Patience, Requests};
use crate::checkpoint::retention::QUARANTINE;
use crate::effect::{Effect, StoreReply, StoreRequest};
use crate::host::{Fault, Faults};
use crate::id::{Attempt, Epoch, TaskId, Token};
use crate::limits::{REPLAY_DEADLINE, REPLAY_OBJECTS_MAX};
use crate::message::Message;
use crate::task::{ReplayCounts, decode_quarantine};
use crate::time::Time;

/// The party's tokens, beside those of the log, the collector and savepoints.
const LANE: u64 = 4;
/// Objects whose records are counted at once: each is in memory as a whole.
const COUNTS_AT_ONCE: usize = 4;

/// What is to become of what is in the quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Its records are given to the operators that have refused them.
    Replay,
    /// Its records are forgotten.
    Drop,
}

/// What has left the quarantine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Left {
    /// The epoch with which the last of it left; none if nothing did.
    pub epoch: Option<Epoch>,
    /// Objects that have left; those of their records that stay are in others.
    pub objects: u64,
    /// What became of the records, if they were given again.
    pub counts: ReplayCounts,
    /// Records that were dropped.
    pub dropped: u64,
    /// There was more than one request takes: ask again.
    pub more: bool,
}

/// What came of a request under this number.
pub type Gone = (u64, Leave, Result<Left, String>);

/// What an app master has to do with what leaves the quarantine.
#[derive(Clone, Debug)]
pub(super) struct Replays {
    requests: Requests<Purpose>,
    asked: Option<Asked>,
    gone: Vec<Gone>,
    /// What the last list has shown to be deleted: see [`Aside::emptied`].
    emptied: BTreeMap<String, Epoch>,
}

#[derive(Clone, Debug)]
enum Purpose {
    List,
    /// How many records are in this object, and for what.
    Count(Why),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Their task has ended.
    Ended,
    /// The job has no processor of the name.
    Missing,
    Dropped,
}

#[derive(Clone, Debug)]
struct Asked {
    id: u64,
    leave: Leave,
    deadline: Time,
    /// What was in the quarantine when the list was asked for: that is all in it.
    before: Aside,
    listed: bool,
    /// Objects whose epoch is not yet committed: the task, and where it is with it.
    orders: BTreeMap<String, Order>,
    /// The attempt of each of those tasks that was told.
    told: BTreeMap<TaskId, Option<Attempt>>,
    to_count: VecDeque<(String, Why)>,
    /// What is dropped with the next epoch that is appended, and what has been with the last.
    drops: BTreeSet<String>,
    left: Left,
}

#[derive(Clone, Copy, Debug)]
struct Order {
    task: TaskId,
    /// It has done it in the stream.
    done: bool,
}

impl Replays {
    pub(super) fn new() -> Self {
        let emptied = BTreeMap::new();
        Self { requests: Requests::new(LANE), asked: None, gone: Vec::new(), emptied }
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        let deadline = self.asked.as_ref().map(|asked| asked.deadline);
        [self.requests.next_timeout(), deadline].into_iter().flatten().min()
    }

    pub(super) fn owns(&self, token: Token) -> bool {
        self.requests.owns(token)
    }

    pub(super) fn handle_timeout(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.requests.handle_timeout(now, out);
        if self.asked.as_ref().is_some_and(|asked| asked.deadline <= now) {
            self.over(&format!(
                "it was not done within {} s: what has been begun goes on, and every record counts \
                 once all the same; look at the list, and ask again for what is there",
                REPLAY_DEADLINE.as_secs()
            ));
        }
    }

    /// Nobody waits any more.
    pub(super) fn over(&mut self, why: &str) {
        if let Some(asked) = self.asked.take() {
            // Late answers are nobody's.
            self.requests = Requests::above(LANE, self.requests.issued());
            self.gone.push((asked.id, asked.leave, Err(why.to_string())));
        }
    }

    /// Takes out of the quarantine what is dropped, with the epoch that is about to be appended,
    /// and forgets what is deleted.
    pub(super) fn drop_with(&self, epoch: Epoch, aside: &mut Aside) {
        self.emptied.iter().for_each(|(by, up_to)| aside.forget(by, *up_to));
        let drops = self.asked.iter().flat_map(|asked| &asked.drops);
        drops.for_each(|object| aside.take_out(object, epoch));
    }

    fn count_on(&mut self, out: &mut Vec<Effect>) {
        let Some(asked) = &mut self.asked else { return };
        while self.requests.len() < COUNTS_AT_ONCE {
            let Some((name, why)) = asked.to_count.pop_front() else { return };
            let request = StoreRequest::Get { name };
            self.requests.issue(Purpose::Count(why), request, Patience::Bounded, out);
        }
    }

    /// Says how it ended, if it has.
    fn finish(&mut self) {
        let is_over = |asked: &mut Asked| {
            asked.listed
                && asked.orders.is_empty()
                && asked.drops.is_empty()
                && asked.to_count.is_empty()
        };
        if self.requests.len() == 0
            && let Some(asked) = self.asked.take_if(is_over)
        {
            self.gone.push((asked.id, asked.leave, Ok(asked.left)));
        }
    }
}

impl<F: Faults> AppMaster<F> {
    /// Has the records in the quarantine leave it; what came of that is among [`Self::gone`] under
    /// `id` within [`REPLAY_DEADLINE`].
    pub fn leave_quarantine(&mut self, now: Time, id: u64, leave: Leave, out: &mut Vec<Effect>) {
        let refused = match &self.run {
            _ if self.outcome().is_some() => "the app has ended",
            None => "the app is about to begin: ask again when it runs",
            Some(_) if self.replays.asked.is_some() => {
                "somebody else has asked for that: ask again when it is done"
            }
            Some(run) => {
                let deadline = now + REPLAY_DEADLINE;
                let before = run.last.as_ref().map(|last| last.aside.clone()).unwrap_or_default();
                self.replays.asked = Some(Asked {
                    id,
                    leave,
                    deadline,
                    before,
                    listed: false,
                    orders: BTreeMap::new(),
                    told: BTreeMap::new(),
                    to_count: VecDeque::new(),
                    drops: BTreeSet::new(),
                    left: Left::default(),
                });
                let request = StoreRequest::List { prefix: QUARANTINE.to_string() };
                self.replays.requests.issue(Purpose::List, request, Patience::Bounded, out);
                return;
            }
        };
        self.replays.gone.push((id, leave, Err(refused.to_string())));
    }

    /// The requests that are done, or never will be, since this was asked last.
    pub fn gone(&mut self) -> Vec<Gone> {
        core::mem::take(&mut self.replays.gone)
    }

    /// Takes an answer of the store.
    pub(super) fn on_replay_stored(
        &mut self,
        now: Time,
        token: Token,
        reply: StoreReply,
        out: &mut Vec<Effect>,
    ) {
        let Some((purpose, reply)) = self.replays.requests.answer(now, token, reply, out) else {
            return;
        };
        match (purpose, reply) {
            (Purpose::List, StoreReply::Names(names)) => self.on_listed(now, names, out),
            (Purpose::List, reply) => {
                self.replays.over(&format!("the quarantine cannot be listed ({reply:?})"));
            }
            (Purpose::Count(why), reply) => {
                let records = match reply {
                    StoreReply::Bytes(bytes) => decode_quarantine(&bytes).ok(),
                    _ => None,
                };
                let Some(asked) = &mut self.replays.asked else { return };
                let Left { counts, dropped, .. } = &mut asked.left;
                match (records.map(|records| records.len() as u64), why) {
                    (Some(records), Why::Ended) => counts.ended += records,
                    (Some(records), Why::Missing) => counts.missing += records,
                    (Some(records), Why::Dropped) => *dropped += records,
                    (None, _) => counts.damaged += 1,
                }
            }
        }
        self.replays.count_on(out);
        self.replays.finish();
    }

    /// What is in the quarantine is known: each object has its task, or none.
    fn on_listed(&mut self, now: Time, names: Vec<String>, out: &mut Vec<Effect>) {
        let Some(run) = &self.run else { return };
        let aside = run.last.as_ref().map(|record| &record.aside);
        let holds = |name: &String| aside.is_some_and(|aside| aside.holds(name));
        let Some(asked) = &self.replays.asked else { return };
        let emptied = asked.before.emptied(names.iter().map(String::as_str));
        let mut held: Vec<String> = names.into_iter().filter(holds).collect();
        let more = held.len() > REPLAY_OBJECTS_MAX;
        held.truncate(REPLAY_OBJECTS_MAX);
        let placed: Vec<_> = held.iter().map(|object| self.task_of(object)).collect();
        let Some(asked) = &mut self.replays.asked else { return };
        asked.listed = true;
        asked.left.more = more;
        self.replays.emptied = emptied;
        for (object, task) in held.into_iter().zip(placed) {
            match (asked.leave, task) {
                (Leave::Drop, _) => {
                    asked.to_count.push_back((object.clone(), Why::Dropped));
                    asked.drops.insert(object);
                }
                (Leave::Replay, Some(task)) => {
                    asked.told.insert(task, None);
                    asked.orders.insert(object, Order { task, done: false });
                }
                (Leave::Replay, None) => asked.to_count.push_back((object, Why::Missing)),
            }
        }
        if !asked.drops.is_empty() {
            self.hurry_epoch(now, out);
        }
    }

    /// The task that takes an object: whose place the task had that put it aside.
    fn task_of(&self, object: &str) -> Option<TaskId> {
        let (folder, _) = object.strip_prefix(QUARANTINE)?.rsplit_once('/')?;
        let (uid, index) = folder.rsplit_once('-')?;
        let index: u32 = index.parse().ok()?;
        let mut processors = self.plan.processors.iter();
        let processor = processors.find(|processor| processor.uid == uid)?;
        Some(TaskId { processor: processor.id, index: index % processor.parallelism })
    }

    /// Tells tasks that run and have not been told in their present attempt.
    pub(super) fn order_replays(&mut self, out: &mut Vec<Effect>) {
        let Some(mut asked) = self.replays.asked.take() else { return };
        for (&task, told) in &mut asked.told {
            let runs = self.region_of(task).is_some_and(|at| self.regions[at].is_running());
            let attempt = self.attempts.get(&task).filter(|_| runs).copied();
            let Some(attempt) = attempt.filter(|_| *told != attempt) else { continue };
            *told = Some(attempt);
            let mut objects = Vec::new();
            for (object, order) in asked.orders.iter_mut().filter(|(_, order)| order.task == task) {
                order.done = false;
                objects.push(object.clone());
            }
            if !objects.is_empty() {
                let message = Message::Replay { term: self.log.term(), task, attempt, objects };
                out.push(send(self.placement[&task], message));
            }
        }
        self.replays.asked = Some(asked);
    }

    /// A task has done with an object what is to be done.
    pub(super) fn on_replayed(
        &mut self,
        now: Time,
        object: String,
        ended: bool,
        out: &mut Vec<Effect>,
    ) {
        if F::has(Fault::ReplayLeavesBeforeCommit) && !ended {
            let request = StoreRequest::Delete { name: object.clone() };
            self.replays.requests.issue(
                Purpose::Count(Why::Dropped),
                request,
                Patience::Bounded,
                out,
            );
        }
        let Some(asked) = &mut self.replays.asked else { return };
        if ended {
            if asked.orders.remove(&object).is_some() {
                asked.to_count.push_back((object, Why::Ended));
            }
            self.replays.count_on(out);
        } else if let Some(order) = asked.orders.get_mut(&object) {
            order.done = true;
        }
        self.replays.finish();
        self.hurry_if_done(now, out);
    }

    /// An epoch is committed: what it says has left has left.
    pub(super) fn replays_committed(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Some(asked) = &mut self.replays.asked else { return };
        let Some(record) = self.run.as_ref().and_then(|run| run.last.as_deref()) else { return };
        let before = asked.left.objects;
        for replayed in record.tasks.values().flat_map(|task| &task.replayed) {
            if asked.orders.remove(&replayed.object).is_some() {
                asked.left.counts += replayed.counts;
                asked.left.objects += u64::from(replayed.taken);
            }
        }
        let drops = asked.drops.len();
        asked.drops.retain(|object| record.aside.holds(object));
        asked.left.objects += (drops - asked.drops.len()) as u64;
        if asked.left.objects > before {
            asked.left.epoch = Some(record.epoch);
        }
        self.replays.count_on(out);
        self.replays.finish();
        self.hurry_if_done(now, out);
    }

    /// Once every task has done its part, nothing is waited for but the epoch.
    fn hurry_if_done(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Some(asked) = &self.replays.asked else { return };
        let waits = !asked.orders.is_empty() || !asked.drops.is_empty();
        if waits && asked.orders.values().all(|order| order.done) {
            self.hurry_epoch(now, out);
        }
    }
}
