//! Records of the quarantine that a task takes again, an object at a time.
//!
//! The records of an object go in between two batches and all of them between the same two
//! barriers, so that the object leaves the quarantine with the epoch that has their effects.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::snapshot::{Snapshots, retry_wait};
use super::{Phase, Task, World, decode_quarantine};
use crate::effect::{Effect, Place, StoreReply, StoreRequest};
use crate::flow::logic::Cx;
use crate::flow::push::{Entered, Quarantined};
use crate::host::Faults;
use crate::id::{Epoch, Token};
use crate::limits::STORE_RETRIES_MAX;
use crate::message::{Message, Replayed};
use crate::time::Time;

/// What became of records that were to leave the quarantine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayCounts {
    /// Taken by the operator that had refused them: they are no longer in the quarantine.
    pub replayed: u64,
    /// Refused again: they are in the quarantine again, with the new error.
    pub refused: u64,
    /// Too long to have been kept whole.
    pub cut: u64,
    /// Of another type than the operator reads now; the notes of timers that panicked, too.
    pub changed: u64,
    /// Of operators that the job no longer has, or no longer has at this place.
    pub missing: u64,
    /// Of keys that belong to another task since the parallelism was changed.
    pub elsewhere: u64,
    /// Bytes of which the source could make no record: they never reached an operator.
    pub unread: u64,
    /// Of tasks that have ended: nothing would carry them on.
    pub ended: u64,
    /// In objects that cannot be read; how many records they hold is unknown, so each counts one.
    pub damaged: u64,
}

impl ReplayCounts {
    /// Records that were given to an operator.
    #[must_use]
    pub const fn given(&self) -> u64 {
        self.replayed + self.refused
    }

    /// Records that stay in the quarantine as they are.
    #[must_use]
    pub const fn kept(&self) -> u64 {
        self.cut
            + self.changed
            + self.missing
            + self.elsewhere
            + self.unread
            + self.ended
            + self.damaged
    }
}

impl core::ops::AddAssign for ReplayCounts {
    fn add_assign(&mut self, other: Self) {
        self.replayed += other.replayed;
        self.refused += other.refused;
        self.cut += other.cut;
        self.changed += other.changed;
        self.missing += other.missing;
        self.elsewhere += other.elsewhere;
        self.unread += other.unread;
        self.ended += other.ended;
        self.damaged += other.damaged;
    }
}

/// What a task has to take again, and what has become of what it took.
#[derive(Default)]
pub(super) struct Replays {
    /// Objects of which this attempt was told.
    known: BTreeSet<String>,
    queue: VecDeque<String>,
    reading: Option<Reading>,
    at_hand: Option<AtHand>,
    /// Of the open epoch.
    done: Vec<Replayed>,
    /// Of epochs that are not known to be committed: one that is given up joins the next.
    uncommitted: BTreeMap<Epoch, Vec<Replayed>>,
}

struct Reading {
    object: String,
    /// None while it waits for the next try.
    token: Option<Token>,
    tries: u32,
    not_before: Time,
}

struct AtHand {
    object: String,
    entries: VecDeque<Quarantined>,
    counts: ReplayCounts,
    /// Those that go back into the quarantine.
    back: Vec<Quarantined>,
}

impl Replays {
    /// Objects that this attempt has not been told of.
    fn order(&mut self, objects: Vec<String>) {
        let new = objects.into_iter().filter(|object| self.known.insert(object.clone()));
        self.queue.extend(new);
    }

    /// True if there is something to be given to the logic.
    pub(super) const fn is_at_hand(&self) -> bool {
        self.at_hand.is_some()
    }

    /// When a read is repeated.
    pub(super) fn next_retry(&self) -> Option<Time> {
        let waiting = self.reading.as_ref().filter(|reading| reading.token.is_none());
        waiting.map(|reading| reading.not_before)
    }

    /// Asks for the next object, one at a time: each may be large.
    pub(super) fn read(&mut self, now: Time, tokens: &mut Snapshots, fx: &mut Vec<Effect>) {
        if self.at_hand.is_some() {
            return;
        }
        if self.reading.is_none() {
            let Some(object) = self.queue.pop_front() else { return };
            self.reading = Some(Reading { object, token: None, tries: 0, not_before: Time::ZERO });
        }
        let Some(reading) = self.reading.as_mut() else { return };
        if reading.token.is_none() && reading.not_before <= now {
            let token = tokens.token();
            reading.token = Some(token);
            let request = StoreRequest::Get { name: reading.object.clone() };
            fx.push(Effect::Store { token, request });
        }
    }

    /// The store answered; false if that was for somebody else.
    pub(super) fn stored(&mut self, token: Token, reply: &StoreReply, now: Time) -> bool {
        let is_ours = |reading: &mut Reading| reading.token == Some(token);
        let Some(mut reading) = self.reading.take_if(is_ours) else { return false };
        let entries = match reply {
            StoreReply::Failed { retriable: true, .. } if reading.tries < STORE_RETRIES_MAX => {
                reading.tries += 1;
                reading.token = None;
                reading.not_before = now + retry_wait(reading.tries);
                self.reading = Some(reading);
                return true;
            }
            StoreReply::Bytes(bytes) => decode_quarantine(bytes).ok(),
            _ => None,
        };
        let counts = match &entries {
            Some(_) => ReplayCounts::default(),
            None => ReplayCounts { damaged: 1, ..ReplayCounts::default() },
        };
        self.at_hand = Some(AtHand {
            object: reading.object,
            entries: entries.unwrap_or_default().into(),
            counts,
            back: Vec::new(),
        });
        true
    }

    /// What an epoch that begins to be captured has to say.
    pub(super) fn capture(&mut self, epoch: Epoch) -> Vec<Replayed> {
        assert!(self.at_hand.as_ref().is_none_or(|it| it.counts.given() == 0), "whole objects");
        let done = core::mem::take(&mut self.done);
        if !done.is_empty() {
            self.uncommitted.insert(epoch, done);
        }
        self.uncommitted.values().flatten().cloned().collect()
    }

    pub(super) fn committed(&mut self, epoch: Epoch) {
        self.uncommitted.retain(|other, _| *other > epoch);
    }
}

impl<F: Faults> Task<F> {
    /// The order to take these objects of the quarantine again.
    pub fn replay(&mut self, objects: Vec<String>, fx: &mut Vec<Effect>) {
        self.replays.order(objects);
        self.waits_until = None;
        // One that had finished has none of its state.
        if self.finished_before || matches!(self.phase, Phase::Ending | Phase::Ended) {
            self.refuse_replays(fx);
        }
    }

    /// The stream has ended: nothing can be put into it any more.
    pub(super) fn refuse_replays(&mut self, fx: &mut Vec<Effect>) {
        let reading = self.replays.reading.take().map(|reading| reading.object);
        let at_hand = self.replays.at_hand.take().map(|at_hand| at_hand.object);
        for object in reading.into_iter().chain(at_hand).chain(self.replays.queue.drain(..)) {
            let (task, attempt) = (self.info.task, self.info.attempt);
            let message = Message::Replayed { task, attempt, object, ended: true };
            fx.push(Effect::Send { to: Place::AppMaster, message });
        }
    }

    /// Gives the logic one record of the object at hand, or closes the object behind its last.
    pub(super) fn replay_step(
        &mut self,
        world: &mut World<'_>,
        fx: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let Some(mut at_hand) = self.replays.at_hand.take() else { return Ok(()) };
        if let Some(entry) = at_hand.entries.pop_front() {
            self.give_again(entry, &mut at_hand, world)?;
            self.replays.at_hand = Some(at_hand);
            return Ok(());
        }
        let AtHand { object, counts, back, .. } = at_hand;
        let taken = counts.given() > 0;
        if taken {
            // Otherwise the object stays, with all that is in it.
            self.snapshots.put_back(back);
        }
        self.replays.done.push(Replayed { object: object.clone(), taken, counts });
        let (task, attempt) = (self.info.task, self.info.attempt);
        let message = Message::Replayed { task, attempt, object, ended: false };
        fx.push(Effect::Send { to: Place::AppMaster, message });
        Ok(())
    }

    fn give_again(
        &mut self,
        entry: Quarantined,
        at_hand: &mut AtHand,
        world: &mut World<'_>,
    ) -> Result<(), String> {
        let counts = &mut at_hand.counts;
        if entry.cut {
            counts.cut += 1;
            at_hand.back.push(entry);
            return Ok(());
        }
        let mut cx = Cx { now: world.now, wall: world.wall, files: world.files, io: &mut self.io };
        match self.logic.replay(&entry, world.guard, &mut cx)? {
            Entered::Taken => {
                let mut is_refused = false;
                let mut new = Vec::new();
                for mut aside in self.logic.outputs().take_quarantined() {
                    // Where it came from at first is what a person looks for.
                    aside.partition.clone_from(&entry.partition);
                    aside.position.clone_from(&entry.position);
                    let same = aside.operator == entry.operator && aside.bytes == entry.bytes;
                    if same && !is_refused {
                        is_refused = true;
                        at_hand.back.push(aside);
                    } else {
                        new.push(aside);
                    }
                }
                if is_refused {
                    counts.refused += 1;
                } else {
                    counts.replayed += 1;
                }
                return self.snapshots.put_aside(new);
            }
            Entered::Missing => counts.missing += 1,
            Entered::Changed => counts.changed += 1,
            Entered::Elsewhere => counts.elsewhere += 1,
            Entered::Unread => counts.unread += 1,
        }
        at_hand.back.push(entry);
        Ok(())
    }
}

/// What a user reads of what became of the records.
impl core::fmt::Display for ReplayCounts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} were given again", self.replayed)?;
        if self.refused > 0 {
            write!(f, ", {} were refused again", self.refused)?;
        }
        let reasons = [
            (self.cut, "are cut, since they were too long to be kept whole"),
            (self.changed, "are of another type than their operator reads now"),
            (self.missing, "are of operators that the job no longer has there"),
            (self.elsewhere, "are of keys that another task has since the parallelism changed"),
            (self.unread, "could not be read by the source and never were records"),
            (self.ended, "are of tasks that have ended"),
            (self.damaged, "objects cannot be read"),
        ];
        for (count, why) in reasons.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "; {count} {why}")?;
        }
        Ok(())
    }
}
