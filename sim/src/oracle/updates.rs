//! What was acknowledged to a client is never forgotten, and a request that was repeated has one
//! effect.

use std::collections::BTreeMap;

use gear_core::control::{AppSpec, Wish};
use gear_core::id::{AppId, RequestId};

use super::outcomes::Outcomes;
use crate::cluster::KnownApp;

/// What clients were told.
#[derive(Clone, Debug, Default)]
pub struct Updates {
    /// The app of each acknowledged submission, with what was submitted.
    submitted: BTreeMap<RequestId, (AppId, AppSpec)>,
    /// The app that each request to start one again was about, acknowledged or not.
    restarts: BTreeMap<RequestId, AppId>,
    /// The new app of each of those that was acknowledged.
    restarted: BTreeMap<RequestId, AppId>,
    /// The strongest wish that was acknowledged for each app.
    wishes: BTreeMap<AppId, Wish>,
    /// What any leader has known of apps, or any worker has launched for them.
    known: BTreeMap<AppId, AppSpec>,
    /// How apps have ended.
    pub outcomes: Outcomes,
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

    /// Somebody asks that an app is started again.
    pub fn restart_asked(&mut self, id: RequestId, old: AppId) {
        self.restarts.insert(id, old);
    }

    /// Somebody was told that an app is started again under a new id.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn restarted(&mut self, id: RequestId, old: AppId, app: AppId) -> Result<(), String> {
        if app <= old {
            return Err(format!("updates: {app} is to go on from where {old} is"));
        }
        let before = *self.restarted.entry(id).or_insert(app);
        let mut others = self.restarted.iter().filter(|(other, _)| **other != id);
        let submitted = self.submitted.values().any(|(its, _)| *its == app);
        if before != app || submitted || others.any(|(_, its)| *its == app) {
            return Err(format!("updates: {id} starts {app} again, which is not its own"));
        }
        Ok(())
    }

    /// The latest app of each name, as far as any leader has known.
    pub fn latest(&self) -> impl Iterator<Item = AppId> {
        let apps = self.known.iter().map(|(app, spec)| (spec.name.as_str(), *app));
        apps.collect::<BTreeMap<&str, AppId>>().into_values()
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
                Some(there) if there.request != *id => {
                    return Err(format!("updates: {app} of {id} is that of {}", there.request));
                }
                Some(_) => {}
            }
        }
        for (id, app) in &self.restarted {
            match known.get(app) {
                None => return Err(format!("updates: {app}, started again by {id}, is lost")),
                Some(there) if there.request != *id => {
                    return Err(format!("updates: {app} of {id} is that of {}", there.request));
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
        self.names_are_distinct(known)
    }

    /// No request has brought two apps, and no two apps bear one name but those that were started
    /// again: each of these goes on from where the one is of which that was asked, as the same, and
    /// no other app of that name runs beside the two.
    fn names_are_distinct(&self, known: &BTreeMap<AppId, KnownApp>) -> Result<(), String> {
        let mut requests = BTreeMap::new();
        let mut first: BTreeMap<&str, AppId> = BTreeMap::new();
        let mut running: BTreeMap<&str, AppId> = BTreeMap::new();
        for (app, there) in known {
            let (name, id) = (there.spec.name.as_str(), there.request);
            if let Some(other) = requests.insert(id, app) {
                return Err(format!("updates: {id} has brought {other} and {app}"));
            }
            let old = self.restarts.get(&id).copied();
            if there.after != old {
                let after = there.after;
                return Err(format!("updates: {app} goes on from {after:?}, and not {old:?}"));
            }
            if let Some(old) = old {
                let as_it_was = |spec: &AppSpec| {
                    let before = AppSpec { from: None, ..spec.clone() };
                    same(&before, &there.spec)
                };
                if old >= *app || !self.known.get(&old).is_some_and(as_it_was) {
                    return Err(format!("updates: {app} is not {old} again: {:?}", there.spec));
                }
            } else if let Some(other) = first.insert(name, *app) {
                return Err(format!("updates: two apps are called `{name}`: {other} and {app}"));
            }
            if there.outcome.is_none()
                && let Some(other) = running.insert(name, *app)
                && there.after != Some(other)
            {
                return Err(format!("updates: {other} and {app} both run as `{name}`"));
            }
        }
        Ok(())
    }

    fn knows_app(&mut self, app: AppId, there: &KnownApp) -> Result<(), String> {
        let before = self.known.entry(app).or_insert_with(|| there.spec.clone());
        if !same(before, &there.spec) {
            return Err(format!("updates: {app} was {before:?} and is {:?}", there.spec));
        }
        self.outcomes.leader(app, there.outcome.as_ref())
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
    use gear_core::control::AppOutcome;

    use super::*;

    fn request(number: u64) -> RequestId {
        RequestId { client: 1, number }
    }

    fn spec(name: &str) -> AppSpec {
        AppSpec { name: name.into(), ..AppSpec::default() }
    }

    /// Each came with the request of its number.
    fn known(apps: &[(u64, &str)]) -> BTreeMap<AppId, KnownApp> {
        let app = |id: u64, name: &str| {
            let (request, spec) = (request(id), spec(name));
            KnownApp { request, spec, ..KnownApp::default() }
        };
        apps.iter().map(|(id, name)| (AppId(*id), app(*id, name))).collect()
    }

    /// App 1, and app 2 that goes on from where it is.
    fn again() -> BTreeMap<AppId, KnownApp> {
        let mut apps = known(&[(1, "a"), (2, "a")]);
        apps.get_mut(&AppId(2)).expect("it was just made").after = Some(AppId(1));
        apps
    }

    #[test]
    fn an_app_that_is_started_again_is_one_and_stays() {
        let mut updates = Updates::default();
        updates.leader(&known(&[(1, "a")])).unwrap();
        assert!(updates.clone().leader(&again()).is_err(), "nobody has asked for it");
        updates.restart_asked(request(2), AppId(1));
        updates.leader(&again()).expect("it may be done");
        updates.leader(&known(&[(1, "a")])).expect("it may be lost");
        updates.restarted(request(2), AppId(1), AppId(2)).unwrap();
        assert!(updates.restarted(request(2), AppId(1), AppId(3)).is_err(), "it is app 2");
        updates.leader(&again()).unwrap();
        assert!(updates.leader(&known(&[(1, "a")])).is_err(), "app 2 is lost");
        let mut twice = again();
        let third = KnownApp { request: request(2), ..twice[&AppId(2)].clone() };
        twice.insert(AppId(3), third);
        assert!(updates.clone().leader(&twice).is_err(), "one request has brought two");
        let mut other = again();
        other.get_mut(&AppId(2)).expect("it is there").spec.executors = 7;
        assert!(updates.clone().leader(&other).is_err(), "it is another");
        assert_eq!(updates.latest().collect::<Vec<_>>(), [AppId(2)]);
    }

    #[test]
    fn no_third_app_runs_beside_one_that_takes_the_place_of_another() {
        let mut updates = Updates::default();
        updates.restart_asked(request(2), AppId(1));
        updates.restart_asked(request(3), AppId(1));
        let mut apps = again();
        let third = KnownApp { request: request(3), ..apps[&AppId(2)].clone() };
        apps.insert(AppId(3), third);
        assert!(updates.clone().leader(&apps).is_err(), "apps 2 and 3 both run");
        for app in [1, 2] {
            apps.get_mut(&AppId(app)).expect("it is there").outcome = Some(AppOutcome::Stopped);
        }
        updates.leader(&apps).expect("the others have ended");
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
        let app = KnownApp { request: request(1), spec: filled_in, ..KnownApp::default() };
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
