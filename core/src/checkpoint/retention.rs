//! What the checkpoint store keeps: the last committed epochs and all they name.
//!
//! Fences stay for ever, and so does what committed epochs have put aside.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::aside::Aside;
use super::history::History;
use super::record::{EpochRecord, object_name};
use super::requests::{Patience, Requests};
use crate::effect::{Effect, Level, Notice, StoreReply, StoreRequest};
use crate::id::{AppTerm, Attempt, Epoch, LogNumber, Token};
use crate::limits::EPOCHS_RETAINED;
use crate::message::ObjectRef;
use crate::time::Time;

/// The folder of the tasks' state objects, named
/// `<uid>-<index>/t<term>-a<attempt>-e<epoch>` below it.
pub const STATE: &str = "state/";
/// The folder of the output that waits for its epoch, named like [`STATE`] with a number behind: an
/// epoch may have many, and is at least the one in the name.
pub const OUTPUT: &str = "output/";
/// The folder of the records that were put aside, named like [`STATE`].
pub const QUARANTINE: &str = "quarantine/";
/// Objects removed at once: collecting must not crowd out what the running epoch writes.
const DELETES_AT_ONCE: usize = 8;
const _: () = assert!(EPOCHS_RETAINED >= 1, "what was committed last is kept");

/// Collects the garbage of one app.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Tasks that were deployed in this term or later run: what they have written may come to be
    /// named.
    least: AppTerm,
    /// Nobody takes running tasks over, so what is suspected is not needed.
    alone: bool,
    recovered: Epoch,
    /// The attempt of each task's folder that runs, and the epoch from which it went on.
    live: BTreeMap<String, (Attempt, Epoch)>,
    requests: Requests<Purpose>,
    /// Epochs whose records are in the log.
    kept: BTreeMap<Epoch, Kept>,
    /// Numbers of records that are of no use once the floor is above them, and are deleted then.
    stale: Vec<LogNumber>,
    /// Objects that nobody needs if this app master still leads. One that was fenced may know less
    /// than its successor, which may let tasks go on that it took for gone; so they are deleted
    /// once an epoch was committed since, in which every task took part in the attempt known here.
    suspects: BTreeSet<String>,
    doomed: VecDeque<String>,
    /// What is in the quarantine as of the last epoch.
    aside: Aside,
    /// Objects that have left the quarantine, and with which epoch: deleted once every epoch that
    /// is kept is at least that one, so that one can go back to any of them.
    left: BTreeMap<String, Epoch>,
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
        let objects = record.objects().map(|object| object.name.clone()).collect();
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
    pub fn new(history: &History, recovered: Epoch) -> Self {
        let kept = history.epochs.iter().filter(|(_, record)| record.epoch <= recovered);
        let kept = kept.map(|(number, record)| (record.epoch, Kept::new(*number, record)));
        let last = history.epochs.iter().rfind(|(_, record)| record.epoch <= recovered);
        let aside = last.map(|(_, record)| record.aside.clone()).unwrap_or_default();
        let later = history.epochs.iter().filter(|(_, record)| record.epoch > recovered);
        let later = later.map(|(number, _)| *number);
        Self {
            least: AppTerm(0),
            alone: false,
            recovered,
            live: BTreeMap::new(),
            requests: Requests::new(1),
            kept: kept.collect(),
            stale: history.stale.iter().copied().chain(later).collect(),
            suspects: BTreeSet::new(),
            doomed: VecDeque::new(),
            aside,
            left: BTreeMap::new(),
            warned: false,
        }
    }

    /// Looks for objects that no record came to name and nobody who runs will: those of terms
    /// before `least`, in which the oldest of the running tasks was deployed. `alone` if no
    /// successor ever lets this app master's tasks go on.
    pub fn start(&mut self, least: AppTerm, alone: bool, out: &mut Vec<Effect>) {
        self.least = least;
        self.alone = alone;
        self.list(out);
    }

    /// A task runs from an epoch on: what earlier attempts of it wrote for later ones is nobody's.
    /// `folder` is the task's below [`STATE`].
    pub fn deployed(&mut self, folder: String, attempt: Attempt, restored: Epoch) {
        self.live.insert(folder, (attempt, restored));
    }

    /// Tasks are about to be deployed, as the record of this number says.
    pub fn attempted(&mut self, number: LogNumber) {
        self.stale.push(number);
    }

    /// Looks for what the attempts have left that were given up since.
    pub fn list(&mut self, out: &mut Vec<Effect>) {
        for prefix in [STATE, OUTPUT] {
            let request = StoreRequest::List { prefix: prefix.to_string() };
            self.requests.issue(Purpose::List, request, Patience::Bounded, out);
        }
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
        doomed.append(&mut self.suspects);
        doomed.retain(|name| !protected.contains(name));
        self.doomed.extend(doomed);
        let freed = self.stale.extract_if(.., |number| *number < record.floor);
        self.doomed.extend(freed.map(object_name));
        self.aside = record.aside.clone();
        let left = self.aside.taken_out(record.epoch).map(|object| (object, record.epoch));
        self.left.extend(left);
        self.collect_left(&protected);
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
                    let by = written(name, STATE).or_else(|| written(name, OUTPUT));
                    let orphan = by.is_some_and(|by| by.term < self.least || self.is_given_up(&by));
                    orphan && !protected.contains(name)
                };
                let orphans: Vec<_> = names.into_iter().filter(is_orphan).collect();
                self.suspect(orphans);
            }
            (Purpose::ListQuarantine, StoreReply::Names(names)) => {
                let orphans = names.iter().filter(|name| self.is_quarantine_orphan(name)).cloned();
                let orphans: Vec<String> = orphans.collect();
                self.suspect(orphans);
                let left = |name: &String| Some((name.clone(), self.aside.left(name)?));
                let left: Vec<_> = names.iter().filter_map(left).collect();
                self.left.extend(left);
            }
            (Purpose::Delete, StoreReply::Done) => {}
            (_, reply) => self.warn(&reply, out),
        }
        self.delete_on(out);
    }

    /// Deletes what has left the quarantine as of every epoch that is kept.
    fn collect_left(&mut self, protected: &BTreeSet<String>) {
        let oldest = self.kept.first_key_value().map_or(Epoch(0), |(epoch, _)| *epoch);
        let is_over =
            |name: &String, with: &mut Epoch| *with <= oldest && !protected.contains(name);
        let gone = self.left.extract_if(.., is_over).map(|(name, _)| name);
        self.doomed.extend(gone);
    }

    fn suspect(&mut self, orphans: Vec<String>) {
        if self.alone {
            self.doomed.extend(orphans);
        } else {
            self.suspects.extend(orphans);
        }
    }

    /// True if a task that no longer runs put it aside in an epoch that did not commit, so that the
    /// records in it have been read again since.
    fn is_quarantine_orphan(&self, name: &str) -> bool {
        let Some(by) = written(name, QUARANTINE) else { return false };
        let kept = self.kept.get(&by.epoch);
        let is_unnamed = || kept.is_some_and(|kept| !kept.quarantine.contains(name));
        let is_past = by.term < self.least && (by.epoch > self.recovered || is_unnamed());
        (is_past || self.is_given_up(&by)) && !self.aside.holds(name)
    }

    /// True if an attempt wrote it that was given up before the epoch was committed.
    fn is_given_up(&self, by: &Written<'_>) -> bool {
        let live = self.live.get(by.folder);
        live.is_some_and(|(attempt, restored)| by.attempt < *attempt && by.epoch > *restored)
    }

    /// Objects that epochs have named which were given up, unless `named` names them too.
    pub fn give_up<'a>(&mut self, objects: Vec<ObjectRef>, named: impl Iterator<Item = &'a str>) {
        let protected = self.protected(named);
        let names = objects.into_iter().map(|object| object.name);
        self.suspects.extend(names.filter(|name| !protected.contains(name)));
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

/// What the name of a task's object says.
#[derive(Debug, PartialEq, Eq)]
struct Written<'a> {
    /// The task's folder.
    folder: &'a str,
    term: AppTerm,
    attempt: Attempt,
    epoch: Epoch,
}

/// Who wrote an object of a folder; none if its name says nothing, and it is somebody else's.
fn written<'a>(name: &'a str, folder: &str) -> Option<Written<'a>> {
    let is_output = folder == OUTPUT;
    let (folder, last) = name.strip_prefix(folder)?.rsplit_once('/')?;
    let (by, epoch) = last.strip_prefix('t')?.split_once("-e")?;
    let epoch = match epoch.split_once('-').filter(|_| is_output) {
        Some((epoch, number)) => number.parse().ok().map(|_: u64| epoch)?,
        None => epoch,
    };
    // Without an attempt: from before there were any.
    let (term, count) = by.split_once("-a").unwrap_or((by, "0"));
    let (term, count) = (AppTerm(term.parse().ok()?), count.parse::<u32>().ok()?);
    let attempt = Attempt(Attempt::before(term).0 + u64::from(count));
    Some(Written { folder, term, attempt, epoch: Epoch(epoch.parse().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orphans(least: u64, live: &[(&str, Attempt, u64)]) -> Vec<&'static str> {
        let mut retention = Retention::new(&History::default(), Epoch(7));
        retention.start(AppTerm(least), true, &mut Vec::new());
        for (folder, attempt, restored) in live {
            retention.deployed((*folder).into(), *attempt, Epoch(*restored));
        }
        let names = [
            "state/count-0/t2-e7",
            "state/a/b-0/t2-a1-e7",
            "state/count-0/t2-a5-e7",
            "state/count-0/t3-a1-e8",
            "state/count-0/t3-a2-e9",
            "state/count-0/notes.txt",
        ];
        let is_orphan = |name: &&str| {
            let by = written(name, STATE);
            by.is_some_and(|by| by.term < retention.least || retention.is_given_up(&by))
        };
        names.into_iter().filter(is_orphan).collect()
    }

    #[test]
    fn what_was_written_before_the_oldest_running_task_is_nobodys() {
        let names = ["state/count-0/t2-e7", "state/a/b-0/t2-a1-e7", "state/count-0/t2-a5-e7"];
        assert_eq!(orphans(3, &[]), names);
        assert!(orphans(2, &[]).is_empty());
        assert_eq!(written("quarantine/count-0/t2-e7", STATE), None);
        assert_eq!(written("state/count-0/t2-e7-1", STATE), None);
        assert_eq!(written("output/count-0/t2-a1-e7-x", OUTPUT), None);
        let output = written("output/count-0/t2-a1-e7-12", OUTPUT);
        assert_eq!(output.map(|by| (by.term, by.epoch)), Some((AppTerm(2), Epoch(7))));
    }

    #[test]
    fn what_an_attempt_wrote_behind_the_epoch_it_was_taken_back_to_is_nobodys() {
        let third = Attempt::before(AppTerm(3));
        let now = [("count-0", third.next().next(), 7)];
        assert_eq!(orphans(2, &now), ["state/count-0/t3-a1-e8"]);
        // Epoch 8 was committed with the first attempt.
        assert!(orphans(2, &[("count-0", third.next().next(), 8)]).is_empty());
    }
}
