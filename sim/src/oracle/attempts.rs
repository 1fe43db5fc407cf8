//! A later attempt of a task never begins from before an epoch that an earlier one has committed:
//! what both have done since would be there twice.

use std::collections::BTreeMap;

use gear_core::id::{Attempt, Epoch};

/// A task as the log names it: its processor's name, and its place there.
pub type Name = (String, u32);

/// What was seen of the attempts of an app's tasks.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    tasks: BTreeMap<Name, Seen>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    /// From which epoch each attempt went on.
    begun: BTreeMap<Attempt, Epoch>,
    /// The last epoch that each attempt has committed.
    committed: BTreeMap<Attempt, Epoch>,
}

impl Attempts {
    /// A task runs in this attempt, and has begun from this epoch.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn begins(&mut self, task: Name, attempt: Attempt, from: Epoch) -> Result<(), String> {
        let seen = self.tasks.entry(task.clone()).or_default();
        match seen.begun.insert(attempt, from) {
            Some(before) if before != from => {
                let (name, index) = task;
                Err(format!(
                    "attempts: {name}-{index} begins in {attempt} from {from} and from {before}"
                ))
            }
            Some(_) => Ok(()),
            None => seen.judge(&task),
        }
    }

    /// An epoch is committed with what a task has done in this attempt.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn commits(&mut self, task: Name, attempt: Attempt, epoch: Epoch) -> Result<(), String> {
        let seen = self.tasks.entry(task.clone()).or_default();
        seen.committed.insert(attempt, epoch);
        seen.judge(&task)
    }
}

impl Seen {
    fn judge(&self, (name, index): &Name) -> Result<(), String> {
        for (later, from) in &self.begun {
            let mut before = self.committed.range(..later);
            if let Some((earlier, epoch)) = before.find(|(_, epoch)| *epoch > from) {
                return Err(format!(
                    "attempts: {name}-{index} begins in {later} from {from}, and {epoch} is \
                     committed in {earlier}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Name {
        ("count".into(), 1)
    }

    #[test]
    fn what_is_committed_is_not_begun_again() {
        let mut attempts = Attempts::default();
        attempts.begins(name(), Attempt(1), Epoch(0)).unwrap();
        attempts.commits(name(), Attempt(1), Epoch(3)).unwrap();
        attempts.begins(("count".into(), 0), Attempt(2), Epoch(2)).expect("it is another task");
        let mut late = attempts.clone();
        attempts.begins(name(), Attempt(2), Epoch(3)).unwrap();
        assert!(attempts.commits(name(), Attempt(1), Epoch(4)).is_err());
        assert!(late.begins(name(), Attempt(2), Epoch(2)).is_err());
    }

    #[test]
    fn an_attempt_begins_once() {
        let mut attempts = Attempts::default();
        attempts.begins(name(), Attempt(1), Epoch(2)).unwrap();
        attempts.begins(name(), Attempt(1), Epoch(2)).expect("it was seen twice");
        assert!(attempts.begins(name(), Attempt(1), Epoch(3)).is_err());
    }
}
