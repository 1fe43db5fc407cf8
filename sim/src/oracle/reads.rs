//! An answer that is not marked as stale shows all that was acknowledged before it was asked for.

use std::collections::BTreeSet;

use gear_core::id::AppId;

/// What a client that asks for the apps has to be shown.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    acknowledged: BTreeSet<AppId>,
}

impl Asked {
    /// A client asks now, when these apps have been acknowledged.
    pub fn now(acknowledged: impl Iterator<Item = AppId>) -> Self {
        Self { acknowledged: acknowledged.collect() }
    }

    /// It is answered with these apps.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn answered(&self, stale: bool, apps: &BTreeSet<AppId>) -> Result<(), String> {
        let missing = self.acknowledged.difference(apps).next();
        match missing {
            Some(app) if !stale => Err(format!("reads: a fresh answer does not show {app}")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stale_answer_may_miss_what_was_acknowledged() {
        let asked = Asked::now([AppId(1)].into_iter());
        let (all, none) = (BTreeSet::from([AppId(1), AppId(2)]), BTreeSet::new());
        asked.answered(false, &all).unwrap();
        asked.answered(true, &none).unwrap();
        assert!(asked.answered(false, &none).is_err());
    }
}
