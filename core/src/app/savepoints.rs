//! Savepoints of an app: one is made of a committed epoch, and a new app begins from one.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::master::{AppMaster, notice};
use super::outcome::Failure;
use crate::checkpoint::LANES;
use crate::checkpoint::history::History;
use crate::checkpoint::log::LogError;
use crate::checkpoint::record::{EpochRecord, Record};
use crate::checkpoint::recovery;
use crate::checkpoint::savepoint::{Beginning, Making, SavepointError, check_name};
use crate::effect::{Effect, Level, StoreReply};
use crate::host::Faults;
use crate::id::{Attempt, Epoch, LogNumber, Token};
use crate::limits::SAVEPOINT_DEADLINE;
use crate::message::ObjectRef;
use crate::time::Time;

/// The parties' tokens, beside those of the log and the collector.
const MAKING: u64 = 2;
const BEGINNING: u64 = 3;

/// What came of a savepoint that was asked for under this number.
pub type Made = (u64, Result<Epoch, String>);

/// What an app master has to do with savepoints.
#[derive(Clone, Debug, Default)]
pub(super) struct Savepoints {
    making: Option<(u64, Time, Making)>,
    beginning: Option<Box<(Beginning, History)>>,
    /// What has come of those that were asked for.
    made: Vec<Made>,
    /// Requests of those that are over.
    issued: u64,
}

impl Savepoints {
    pub(super) fn next_timeout(&self) -> Option<Time> {
        let making = self
            .making
            .iter()
            .flat_map(|(_, deadline, making)| making.next_timeout().into_iter().chain([*deadline]));
        making.chain(self.beginning.iter().filter_map(|it| it.0.next_timeout())).min()
    }

    pub(super) fn owns(&self, token: Token) -> bool {
        matches!(token.0 % LANES, MAKING | BEGINNING)
    }

    /// The objects that have to stay.
    pub(super) fn named(&self) -> impl Iterator<Item = &ObjectRef> {
        self.making.iter().flat_map(|(_, _, making)| making.named())
    }

    pub(super) fn committed(&mut self, record: &EpochRecord, out: &mut Vec<Effect>) {
        if let Some((_, _, making)) = &mut self.making {
            making.committed(record, out);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.making.as_ref().is_some_and(|(_, deadline, _)| *deadline <= now) {
            let seconds = SAVEPOINT_DEADLINE.as_secs();
            self.over(&format!(
                "it was not done within {seconds} s: see how old the open epoch is and what it \
                 waits for, and ask again"
            ));
        }
        if let Some((_, _, making)) = &mut self.making {
            making.handle_timeout(now, out);
        }
        if let Some(beginning) = &mut self.beginning {
            beginning.0.handle_timeout(now, out);
        }
    }

    /// No savepoint is made any more.
    pub(super) fn over(&mut self, why: &str) {
        self.finish(Err(why.to_string()));
    }

    fn finish(&mut self, result: Result<Epoch, String>) {
        if let Some((id, _, making)) = self.making.take() {
            self.issued = making.issued();
            self.made.push((id, result));
        }
    }
}

impl<F: Faults> AppMaster<F> {
    /// Makes a savepoint of the next epoch; what came of it is among [`Self::savepoints_made`]
    /// under `id` within [`SAVEPOINT_DEADLINE`].
    pub fn make_savepoint(&mut self, now: Time, id: u64, name: String, out: &mut Vec<Effect>) {
        let refused = match (&self.run, check_name(&name)) {
            (_, Err(error)) => Some(error.to_string()),
            _ if self.outcome().is_some() => Some("the app has ended".to_string()),
            (None, _) => Some("the app is about to begin: ask again when it runs".to_string()),
            _ if self.savepoints.making.is_some() => {
                Some("another savepoint is being made: ask again when it is done".to_string())
            }
            _ => None,
        };
        if let Some(why) = refused {
            self.savepoints.made.push((id, Err(why)));
            return;
        }
        let making = Making::begin(MAKING, self.savepoints.issued, name, out);
        self.savepoints.making = Some((id, now + SAVEPOINT_DEADLINE, making));
    }

    /// The savepoints that are done, or never will be, since this was asked last.
    pub fn savepoints_made(&mut self) -> Vec<Made> {
        core::mem::take(&mut self.savepoints.made)
    }

    /// Takes an answer of the store.
    pub(super) fn on_savepoint_stored(
        &mut self,
        now: Time,
        token: Token,
        reply: StoreReply,
        out: &mut Vec<Effect>,
    ) {
        if token.0 % LANES == MAKING {
            let making = self.savepoints.making.as_mut();
            let over = making.and_then(|(.., making)| making.handle_stored(now, token, reply, out));
            match over {
                Some(result) => {
                    self.savepoints.finish(result.map_err(|error| error.to_string()));
                }
                None => self.hurry(now, out),
            }
        } else {
            let beginning = self.savepoints.beginning.as_mut();
            match beginning.and_then(|it| it.0.handle_stored(now, token, reply, out)) {
                None => {}
                Some(Ok(record)) => self.adopt_savepoint(record, out),
                Some(Err(error)) => self.fail(refusal(error), out),
            }
        }
    }

    /// The savepoint may have come to need an epoch.
    fn hurry(&mut self, now: Time, out: &mut Vec<Effect>) {
        let (Some((.., making)), Some(run)) = (&mut self.savepoints.making, &self.run) else {
            return;
        };
        if making.wants_epoch(run.coordinator.started()) {
            self.hurry_epoch(now, out);
        }
    }

    /// Copies the savepoint into the app's folder, whose log is open and holds no epoch.
    pub(super) fn begin_from(&mut self, folder: &str, history: History, out: &mut Vec<Effect>) {
        let beginning = Beginning::begin(BEGINNING, folder, out);
        self.savepoints.beginning = Some(Box::new((beginning, history)));
    }

    /// All objects are there: the epoch becomes the first of this app's log. Should this app master
    /// die before, the next one begins anew.
    fn adopt_savepoint(&mut self, mut record: EpochRecord, out: &mut Vec<Effect>) {
        // What does not fit is found before anything is written.
        if let Err(error) = recovery::deploy(Some(&record), &self.plan) {
            return self.fail(error.into(), out);
        }
        let text = format!("{} is taken over from a savepoint", record.epoch);
        notice(Level::Info, text, out);
        record.term = self.log.term();
        record.identity = self.plan.identity.clone();
        record.floor = LogNumber(0);
        // They are attempts of another app: none of this one's is among them.
        record.attempt = Attempt(0);
        record.tasks.values_mut().for_each(|task| task.attempt = Attempt(0));
        let record = Record::Epoch(record);
        self.log.append(&record, out);
        let Record::Epoch(record) = record else { return };
        if let Some(beginning) = &mut self.savepoints.beginning {
            // Its number follows once it is there.
            beginning.1.epochs.push((LogNumber(0), record));
        }
    }

    /// The savepoint's epoch stands in the log: the app goes on from there.
    pub(super) fn on_savepoint_adopted(
        &mut self,
        now: Time,
        number: LogNumber,
        out: &mut Vec<Effect>,
    ) {
        let beginning = self.savepoints.beginning.take().expect("only then something is appended");
        let (_, mut history) = *beginning;
        if let Some((stands, _)) = history.epochs.last_mut() {
            *stands = number;
        }
        self.on_opened(now, &history, out);
    }
}

/// A store that fails may be back for the next app master; anything else is for the user.
fn refusal(error: SavepointError) -> Failure {
    match error {
        SavepointError::Store { object, reason } => LogError::Store { object, reason }.into(),
        error => Failure::Savepoint(error),
    }
}
