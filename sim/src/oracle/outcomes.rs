//! How apps end: an end is kept, and no app is given up, since everything that happens to a cluster
//! here is something from which it recovers; but for one that has chosen to fail.

use std::collections::{BTreeMap, BTreeSet};

use gear_core::control::AppOutcome;
use gear_core::id::AppId;

use super::gone::names_choices;

/// What was seen of the ends of apps.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    /// Apps of which a client was told that they have ended.
    ended: BTreeSet<AppId>,
    /// Apps that have said that they fail, as they have chosen for what was met.
    may_fail: BTreeSet<AppId>,
    /// How apps have ended, as any leader has known it.
    outcomes: BTreeMap<AppId, AppOutcome>,
}

impl Outcomes {
    /// A client was told that its wish comes too late.
    pub fn too_late(&mut self, app: AppId) {
        self.ended.insert(app);
    }

    /// An app says that it fails, and what the user can choose.
    pub fn may_fail(&mut self, app: AppId) {
        self.may_fail.insert(app);
    }

    /// How an app has ended, so far as a leader has known it.
    #[must_use]
    pub fn outcome(&self, app: AppId) -> Option<&AppOutcome> {
        self.outcomes.get(&app)
    }

    /// A leader that acts knows that an app has ended so, or that it has not.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn leader(&mut self, app: AppId, outcome: Option<&AppOutcome>) -> Result<(), String> {
        if let Some(AppOutcome::Failed { reason }) = outcome
            && !(self.may_fail.contains(&app) && names_choices(reason))
        {
            return Err(format!("outcomes: {app} was given up: {reason}"));
        }
        if self.ended.contains(&app) && outcome.is_none() {
            return Err(format!("outcomes: {app} runs, and a client was told that it has ended"));
        }
        match (self.outcomes.get(&app), outcome) {
            (Some(before), now) if Some(before) != now => {
                Err(format!("outcomes: {app} has ended as {before:?}, and is {now:?} now"))
            }
            (None, Some(now)) => {
                self.outcomes.insert(app, now.clone());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: AppId = AppId(1);

    #[test]
    fn an_app_that_is_given_up_is_seen() {
        Outcomes::default().leader(APP, None).unwrap();
        let failed = AppOutcome::Failed { reason: "no slots".into() };
        let mut outcomes = Outcomes::default();
        assert!(outcomes.leader(APP, Some(&failed)).is_err());
        let chosen = "WhenGone::Earliest, WhenGone::Latest, --fresh".into();
        let chosen = AppOutcome::Failed { reason: chosen };
        assert!(outcomes.leader(APP, Some(&chosen)).is_err(), "it has not said so");
        outcomes.may_fail(APP);
        assert!(outcomes.leader(APP, Some(&failed)).is_err(), "that is not what it has chosen");
        outcomes.leader(APP, Some(&chosen)).unwrap();
    }

    #[test]
    fn an_end_is_kept() {
        let mut outcomes = Outcomes::default();
        outcomes.leader(APP, Some(&AppOutcome::Stopped)).unwrap();
        assert_eq!(outcomes.outcome(APP), Some(&AppOutcome::Stopped));
        assert!(outcomes.leader(APP, None).is_err(), "it runs again");
        assert!(outcomes.leader(APP, Some(&AppOutcome::Killed)).is_err(), "it ended otherwise");
        let mut outcomes = Outcomes::default();
        outcomes.too_late(APP);
        assert!(outcomes.leader(APP, None).is_err(), "a client was told that it ended");
    }
}
