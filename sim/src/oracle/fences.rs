//! Whoever was fenced changes nothing any more: no executor goes back to an earlier app master or
//! attempt, and no app master believes in a commit that is not in the log.

use std::collections::BTreeMap;

use gear_core::id::{AppId, AppTerm, Attempt, Epoch, MasterTerm, TaskId};

/// What was seen of the fences.
#[derive(Clone, Debug, Default)]
pub struct Fences {
    obeyed: BTreeMap<usize, AppTerm>,
    attempts: BTreeMap<(usize, TaskId), Attempt>,
    believed: BTreeMap<(AppId, AppTerm), Epoch>,
    followed: BTreeMap<usize, MasterTerm>,
}

impl Fences {
    /// An executor, by the number of its process, obeys an app master of this term.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn obeys(&mut self, process: usize, term: AppTerm) -> Result<(), String> {
        let before = self.obeyed.entry(process).or_default();
        if term < *before {
            return Err(format!("fences: process {process} obeys {term} after {before}"));
        }
        *before = term;
        Ok(())
    }

    /// A worker, by the number of its process, follows the orders of a leader of this term.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn follows(&mut self, process: usize, term: MasterTerm) -> Result<(), String> {
        let before = self.followed.entry(process).or_default();
        if term < *before {
            return Err(format!("fences: the worker {process} follows {term} after {before}"));
        }
        *before = term;
        Ok(())
    }

    /// A task of an executor runs in this attempt.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn runs(&mut self, process: usize, task: TaskId, attempt: Attempt) -> Result<(), String> {
        let before = self.attempts.entry((process, task)).or_default();
        if attempt < *before {
            return Err(format!("fences: {task} goes back from {before} to {attempt}"));
        }
        *before = attempt;
        Ok(())
    }

    /// An app master takes an epoch for committed; the log's last one is given.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn believes(
        &mut self,
        (app, term): (AppId, AppTerm),
        epoch: Epoch,
        logged: Epoch,
    ) -> Result<(), String> {
        if epoch > logged {
            return Err(format!(
                "fences: {term} of {app} believes in {epoch}, the log in {logged}"
            ));
        }
        let before = self.believed.entry((app, term)).or_default();
        if epoch < *before {
            return Err(format!("fences: {term} of {app} goes back from {before} to {epoch}"));
        }
        *before = epoch;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_app_master_is_not_obeyed() {
        let mut fences = Fences::default();
        fences.obeys(1, AppTerm(2)).unwrap();
        fences.obeys(2, AppTerm(1)).unwrap();
        assert!(fences.obeys(1, AppTerm(1)).is_err());
    }

    #[test]
    fn an_earlier_leader_is_not_followed() {
        let mut fences = Fences::default();
        fences.follows(1, MasterTerm(2)).unwrap();
        fences.follows(2, MasterTerm(1)).expect("another worker may be behind");
        assert!(fences.follows(1, MasterTerm(1)).is_err());
    }

    #[test]
    fn attempts_rise() {
        let mut fences = Fences::default();
        fences.runs(1, TaskId::default(), Attempt(2)).unwrap();
        fences.runs(2, TaskId::default(), Attempt(1)).expect("another process may be behind");
        assert!(fences.runs(1, TaskId::default(), Attempt(1)).is_err());
    }

    #[test]
    fn nobody_believes_in_what_is_not_in_the_log() {
        let mut fences = Fences::default();
        let master = (AppId(1), AppTerm(1));
        fences.believes(master, Epoch(3), Epoch(4)).unwrap();
        assert!(fences.believes(master, Epoch(5), Epoch(4)).is_err());
        assert!(fences.believes(master, Epoch(2), Epoch(4)).is_err());
    }
}
