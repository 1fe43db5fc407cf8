//! What the checkpoint store keeps: the last committed epochs and all they name.
//!
//! Fences stay for ever, and so does what committed epochs have put aside.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::history::History;
use super::record::{EpochRecord, object_name};
use super::requests::{Patience, Requests};
use crate::effect::{Effect, Level, Notice, StoreReply, StoreRequest};
use crate::id::{AppTerm, Epoch, LogNumber, Token};
use crate::limits::EPOCHS_RETAINED;
use crate::time::Time;

/// The folder of the tasks' state objects, named
/// `<uid>-<index>/t<term>-a<attempt>-e<epoch>` below it.
pub const STATE: &str = "state/";
/// The folder of the records that were put aside, named like [`STATE`].
pub const QUARANTINE: &str = "quarantine/";
/// Objects removed at once: collecting must not crowd out what the running epoch writes.
const DELETES_AT_ONCE: usize = 8;
const _: () = assert!(EPOCHS_RETAINED >= 1, "what was committed last is kept");

/// Collects the garbage of one app.
#[derive(Clone, Debug)]
pub struct Retention {
    term: AppTerm,
    recovered: Epoch,
    requests: Requests<Purpose>,
    /// Epochs whose records are in the log.
    kept: BTreeMap<Epoch, Kept>,
    /// Numbers of records that count nothing, deleted once the floor is above them.
    stale: Vec<LogNumber>,
    doomed: VecDeque<String>,
    /// True once a failure to delete has been spoken of.
    warned: bool,
}

#[derive(Clone, Debug)]
struct Kept {
    number: LogNumber,
    objects: BTreeSet<String>,
    quarantine: BTreeSet<String>,
}

impl Kept {
    fn new(number: LogNumber, record: &EpochRecord) -> Self {
        let objects = record.state_objects().map(|object| object.name.clone()).collect();
        let quarantine = record.tasks.values().flat_map(|task| &task.quarantine);
        let quarantine = quarantine.map(|object| object.name.clone()).collect();
        Self { number, objects, quarantine }
    }
}

#[derive(Clone, Copy, Debug)]
enum Purpose {
    List,
    ListQuarantine,
    Delete,
}

impl Retention {
    /// Keeps what the log holds up to the recovered epoch.
    #[must_use]
    pub fn new(term: AppTerm, history: &History, recovered: Epoch) -> Self {
        let kept = history.epochs.iter().filter(|(_, record)| record.epoch <= recovered);
        let kept = kept.map(|(number, record)| (record.epoch, Kept::new(*number, record)));
        let later = history.epochs.iter().filter(|(_, record)| record.epoch > recovered);
        let later = later.map(|(number, _)| *number);
        Self {
            term,
            recovered,
            requests: Requests::new(1),
            kept: kept.collect(),
            stale: history.stale.iter().copied().chain(later).collect(),
            doomed: VecDeque::new(),
            warned: false,
        }
    }

    /// Looks for objects of earlier terms that no record came to name.
    pub fn start(&mut self, out: &mut Vec<Effect>) {
        let request = StoreRequest::List { prefix: STATE.to_string() };
        self.requests.issue(Purpose::List, request, Patience::Bounded, out);
        let request = StoreRequest::List { prefix: QUARANTINE.to_string() };
        self.requests.issue(Purpose::ListQuarantine, request, Patience::Bounded, out);
    }

    /// True if this request is the collector's.
    #[must_use]
    pub fn owns(&self, token: Token) -> bool {
        self.requests.owns(token)
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.requests.next_timeout()
    }

    /// Repeats requests that are due.
    pub fn handle_timeout(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.requests.handle_timeout(now, out);
    }

    /// The floor that the next epoch's record states: once that is committed, this many epochs
    /// are retained, and lower numbers may be freed.
    #[must_use]
    pub fn next_floor(&self) -> LogNumber {
        let oldest = self.kept.values().rev().take(EPOCHS_RETAINED - 1).next_back();
        oldest.map(|kept| kept.number).unwrap_or_default()
    }

    /// An epoch has been committed. Deletes what is below its floor, but nothing from
    /// `oldest_base` on and nothing that `named` names: epochs in flight need it.
    pub fn handle_committed<'a>(
        &mut self,
        number: LogNumber,
        record: &EpochRecord,
        oldest_base: Option<Epoch>,
        named: impl Iterator<Item = &'a str>,
        out: &mut Vec<Effect>,
    ) {
        let before = self.kept.insert(record.epoch, Kept::new(number, record));
        assert!(before.is_none(), "an epoch is committed once");
        let base = oldest_base.unwrap_or(record.epoch);
        let is_old = |epoch: Epoch, kept: &Kept| kept.number < record.floor && epoch < base;
        let mut dropped = Vec::new();
        // Only from the oldest on: what an epoch names its followers may name too.
        while let Some(oldest) = self.kept.first_entry() {
            if !is_old(*oldest.key(), oldest.get()) {
                break;
            }
            dropped.push(oldest.remove());
        }
        assert!(self.kept.len() >= EPOCHS_RETAINED.min(self.kept.len() + dropped.len()));
        let protected = self.protected(named);
        let mut doomed = BTreeSet::new();
        for kept in dropped {
            self.doomed.push_back(object_name(kept.number));
            doomed.extend(kept.objects.into_iter().filter(|name| !protected.contains(name)));
        }
        self.doomed.extend(doomed);
        let freed = self.stale.extract_if(.., |number| *number < record.floor);
        self.doomed.extend(freed.map(object_name));
        self.delete_on(out);
    }

    /// Takes an answer of the store.
    pub fn handle_stored<'a>(
        &mut self,
        now: Time,
        token: Token,
        reply: StoreReply,
        named: impl Iterator<Item = &'a str>,
        out: &mut Vec<Effect>,
    ) {
        let Some((purpose, reply)) = self.requests.answer(now, token, reply, out) else { return };
        match (purpose, reply) {
            (Purpose::List, StoreReply::Names(names)) => {
                let protected = self.protected(named);
                let is_orphan = |name: &String| {
                    is_of_earlier_term(name, self.term) && !protected.contains(name)
                };
                self.doomed.extend(names.into_iter().filter(is_orphan));
            }
            (Purpose::ListQuarantine, StoreReply::Names(names)) => {
                let orphans = names.into_iter().filter(|name| self.is_quarantine_orphan(name));
                let orphans: Vec<String> = orphans.collect();
                self.doomed.extend(orphans);
            }
            (Purpose::Delete, StoreReply::Done) => {}
            (_, reply) => self.warn(&reply, out),
        }
        self.delete_on(out);
    }

    /// True if an earlier app master's task put it aside in an epoch that did not commit, so that
    /// the records in it have been read again since.
    fn is_quarantine_orphan(&self, name: &str) -> bool {
        let Some((term, epoch)) = written(name, QUARANTINE) else { return false };
        let unnamed = || self.kept.get(&epoch).is_some_and(|kept| !kept.quarantine.contains(name));
        term < self.term && (epoch > self.recovered || unnamed())
    }

    fn protected<'a>(&self, named: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
        let kept = self.kept.values().flat_map(|kept| kept.objects.iter().cloned());
        kept.chain(named.map(ToString::to_string)).collect()
    }

    fn delete_on(&mut self, out: &mut Vec<Effect>) {
        while self.requests.len() < DELETES_AT_ONCE {
            let Some(name) = self.doomed.pop_front() else { return };
            assert!(!self.kept.values().any(|kept| kept.objects.contains(&name)));
            let request = StoreRequest::Delete { name };
            self.requests.issue(Purpose::Delete, request, Patience::Bounded, out);
        }
    }

    /// What could not be deleted costs space only; the next app master tries again.
    fn warn(&mut self, reply: &StoreReply, out: &mut Vec<Effect>) {
        if self.warned {
            return;
        }
        self.warned = true;
        let text = format!(
            "the checkpoint store does not let go of what is no longer needed ({reply:?}): it \
             grows until the next start of the job, which tries again"
        );
        out.push(Effect::Notice(Notice { level: Level::Warning, text }));
    }
}

/// True if the name of a state object says that an earlier app master's task wrote it.
fn is_of_earlier_term(name: &str, term: AppTerm) -> bool {
    // A name that says nothing belongs to somebody else.
    written(name, STATE).is_some_and(|(written, _)| written < term)
}

/// The term and the epoch that the name of a task's object says.
fn written(name: &str, folder: &str) -> Option<(AppTerm, Epoch)> {
    let last = name.strip_prefix(folder)?.rsplit('/').next()?;
    let (term, epoch) = last.strip_prefix('t')?.split_once("-e")?;
    // Without an attempt: from before there were any.
    let term = term.split_once("-a").map_or(term, |(term, _)| term);
    Some((AppTerm(term.parse().ok()?), Epoch(epoch.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_earlier_terms_are_orphans() {
        let of_earlier = |name| is_of_earlier_term(name, AppTerm(3));
        assert!(of_earlier("state/count-0/t2-e7"));
        assert!(of_earlier("state/a/b-0/t2-e7"));
        assert!(of_earlier("state/count-0/t2-a5-e7"));
        assert!(!of_earlier("state/count-0/t3-e7"));
        assert!(!of_earlier("state/count-0/t3-a1-e7"));
        assert!(!of_earlier("state/count-0/notes.txt"));
        assert!(!of_earlier("quarantine/count-0/t2-e7"));
    }
}
