//! What was acknowledged to a client is never forgotten, and a request that was repeated has one
//! effect.

use std::collections::{BTreeMap, BTreeSet};

use gear_core::control::{AppOutcome, AppSpec, Wish};
use gear_core::id::{AppId, RequestId};

use crate::cluster::KnownApp;

/// What clients were told.
#[derive(Clone, Debug, Default)]
pub struct Updates {
    /// The app of each acknowledged submission, with what was submitted.
    submitted: BTreeMap<RequestId, (AppId, AppSpec)>,
    /// The strongest wish that was acknowledged for each app.
    wishes: BTreeMap<AppId, Wish>,
    /// Apps of which a client was told that they have ended.
    ended: BTreeSet<AppId>,
    /// What any leader has known of apps, or any worker has launched for them.
    known: BTreeMap<AppId, AppSpec>,
    /// How apps have ended, as any leader has known it.
    outcomes: BTreeMap<AppId, AppOutcome>,
}

impl Updates {
    /// A client was told that what it has submitted is known under an id.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn submitted(&mut self, id: RequestId, app: AppId, spec: &AppSpec) -> Result<(), String> {
        let before = self.submitted.entry(id).or_insert((app, spec.clone())).0;
        if before != app {
            return Err(format!("updates: {id} is {before} and then {app}"));
        }
        let other = self.submitted.iter().find(|(other, (its, _))| **other != id && *its == app);
        match other {
            Some((other, _)) => Err(format!("updates: {id} and {other} are both {app}")),
            None => Ok(()),
        }
    }

    /// True if a client has been told of this request before.
    #[must_use]
    pub fn knows(&self, id: RequestId) -> bool {
        self.submitted.contains_key(&id)
    }

    /// A client was told that its wish is kept.
    pub fn wished(&mut self, app: AppId, wish: Wish) {
        let before = self.wishes.entry(app).or_default();
        *before = wish.max(*before);
    }

    /// A client was told that its wish comes too late.
    pub fn too_late(&mut self, app: AppId) {
        self.ended.insert(app);
    }

    /// A worker launches a process of an app, and tells it this.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn launched(&mut self, app: AppId, spec: &AppSpec) -> Result<(), String> {
        let submitted = self.submitted.values().find(|(its, _)| *its == app);
        let before = self.known.entry(app).or_insert_with(|| spec.clone());
        match submitted
            .map(|(_, spec)| spec)
            .into_iter()
            .chain([&*before])
            .find(|it| !same(it, spec))
        {
            Some(other) => Err(format!("updates: {app} is {other:?}, and is run as {spec:?}")),
            None => Ok(()),
        }
    }

    /// How an app has ended, so far as a leader has known it.
    #[must_use]
    pub fn outcome(&self, app: AppId) -> Option<&AppOutcome> {
        self.outcomes.get(&app)
    }

    /// A leader that acts knows these apps.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn leader(&mut self, known: &BTreeMap<AppId, KnownApp>) -> Result<(), String> {
        for (id, (app, spec)) in &self.submitted {
            match known.get(app) {
                None => return Err(format!("updates: {app} of {id} is lost")),
                Some(there) if !same(&there.spec, spec) => {
                    let there = &there.spec;
                    return Err(format!("updates: {app} is {there:?}, and was {spec:?}"));
                }
                Some(_) => {}
            }
        }
        for (app, wish) in &self.wishes {
            let now = known.get(app).map(|app| app.wish);
            if now.is_some_and(|now| now < *wish) {
                return Err(format!("updates: the wish {wish:?} of {app} is {now:?} again"));
            }
        }
        for (app, there) in known {
            self.knows_app(*app, there)?;
        }
        let mut names: Vec<&str> = known.values().map(|app| app.spec.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("updates: two apps are called `{}`", pair[0])),
            None => Ok(()),
        }
    }

    fn knows_app(&mut self, app: AppId, there: &KnownApp) -> Result<(), String> {
        if let Some(AppOutcome::Failed { reason }) = &there.outcome {
            return Err(format!("updates: {app} was given up: {reason}"));
        }
        let before = self.known.entry(app).or_insert_with(|| there.spec.clone());
        if !same(before, &there.spec) {
            return Err(format!("updates: {app} was {before:?} and is {:?}", there.spec));
        }
        if self.ended.contains(&app) && there.outcome.is_none() {
            return Err(format!("updates: {app} has not ended, and a client was told that it has"));
        }
        match (self.outcomes.get(&app), &there.outcome) {
            (Some(before), now) if Some(before) != now.as_ref() => {
                Err(format!("updates: {app} has ended as {before:?}, and is {now:?} now"))
            }
            (None, Some(now)) => {
                self.outcomes.insert(app, now.clone());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Every app of an acknowledged submission.
    pub fn apps(&self) -> impl Iterator<Item = AppId> {
        self.submitted.values().map(|(app, _)| *app)
    }
}

/// True if one is what was submitted as the other; a leader fills in where its state is.
fn same(one: &AppSpec, other: &AppSpec) -> bool {
    if one.state.is_empty() == other.state.is_empty() {
        return one == other;
    }
    let bare = |spec: &AppSpec| AppSpec { state: String::new(), ..spec.clone() };
    bare(one) == bare(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(number: u64) -> RequestId {
        RequestId { client: 1, number }
    }

    fn spec(name: &str) -> AppSpec {
        AppSpec { name: name.into(), ..AppSpec::default() }
    }

    fn known(apps: &[(u64, &str)]) -> BTreeMap<AppId, KnownApp> {
        let app = |name: &str| KnownApp { spec: spec(name), ..KnownApp::default() };
        apps.iter().map(|(id, name)| (AppId(*id), app(name))).collect()
    }

    #[test]
    fn what_was_acknowledged_and_is_gone_is_seen() {
        let mut updates = Updates::default();
        updates.leader(&known(&[])).unwrap();
        updates.submitted(request(1), AppId(1), &spec("a")).unwrap();
        updates.leader(&known(&[(1, "a"), (2, "b")])).unwrap();
        assert!(updates.leader(&known(&[(2, "b")])).is_err(), "app 1 is lost");
        assert!(updates.leader(&known(&[(1, "c")])).is_err(), "app 1 is another");
        assert!(updates.leader(&known(&[(1, "a"), (3, "a")])).is_err(), "one name twice");
    }

    #[test]
    fn another_version_of_what_was_acknowledged_is_seen() {
        let mut updates = Updates::default();
        let second = AppSpec { arguments: vec!["--version=2".into()], ..spec("a") };
        updates.submitted(request(1), AppId(1), &second).unwrap();
        let filled_in = AppSpec { state: "app-1".into(), ..second.clone() };
        updates.launched(AppId(1), &filled_in).unwrap();
        assert!(updates.launched(AppId(1), &spec("a")).is_err(), "the first version runs");
        assert!(updates.leader(&known(&[(1, "a")])).is_err(), "a leader knows the first version");
        let app = KnownApp { spec: filled_in, ..KnownApp::default() };
        updates.leader(&[(AppId(1), app)].into()).unwrap();
    }

    #[test]
    fn a_repeated_request_is_one_app() {
        let mut updates = Updates::default();
        updates.submitted(request(1), AppId(1), &spec("a")).unwrap();
        updates.submitted(request(1), AppId(1), &spec("a")).unwrap();
        assert!(updates.submitted(request(1), AppId(2), &spec("a")).is_err());
        assert!(updates.submitted(request(2), AppId(1), &spec("b")).is_err());
    }

    fn ended(outcome: AppOutcome) -> BTreeMap<AppId, KnownApp> {
        let mut apps = known(&[(1, "a")]);
        apps.get_mut(&AppId(1)).expect("it was just made").outcome = Some(outcome);
        apps
    }

    #[test]
    fn an_app_that_is_given_up_is_seen() {
        Updates::default().leader(&known(&[(1, "a")])).unwrap();
        let failed = AppOutcome::Failed { reason: "no slots".into() };
        assert!(Updates::default().leader(&ended(failed)).is_err());
    }

    #[test]
    fn an_end_is_kept() {
        let mut updates = Updates::default();
        updates.leader(&ended(AppOutcome::Stopped)).unwrap();
        assert!(updates.leader(&known(&[(1, "a")])).is_err(), "it runs again");
        assert!(updates.leader(&ended(AppOutcome::Killed)).is_err(), "it ended otherwise");
        let mut updates = Updates::default();
        updates.too_late(AppId(1));
        assert!(updates.leader(&known(&[(1, "a")])).is_err(), "a client was told that it ended");
    }

    #[test]
    fn a_wish_is_kept() {
        let mut updates = Updates::default();
        updates.wished(AppId(1), Wish::Stop);
        let mut apps = known(&[(1, "a")]);
        assert!(updates.leader(&apps).is_err());
        apps.get_mut(&AppId(1)).expect("it was just made").wish = Wish::Kill;
        updates.leader(&apps).unwrap();
    }
}
