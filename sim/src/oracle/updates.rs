//! What was acknowledged to a client is never forgotten, and a request that was repeated has one
//! effect.

use std::collections::BTreeMap;

use gear_core::control::Wish;
use gear_core::id::{AppId, RequestId};

use crate::cluster::KnownApp;

/// What clients were told.
#[derive(Clone, Debug, Default)]
pub struct Updates {
    /// The app of each acknowledged submission, with its name.
    submitted: BTreeMap<RequestId, (AppId, String)>,
    /// The strongest wish that was acknowledged for each app.
    wishes: BTreeMap<AppId, Wish>,
    /// The names of apps that any leader has known.
    known: BTreeMap<AppId, String>,
}

impl Updates {
    /// A client was told that its app is known under an id.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn submitted(&mut self, id: RequestId, app: AppId, name: &str) -> Result<(), String> {
        let before = self.submitted.entry(id).or_insert((app, name.to_owned())).clone();
        if before.0 != app {
            return Err(format!("updates: {id} is {} and then {app}", before.0));
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

    /// A leader that acts knows these apps.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn leader(&mut self, known: &BTreeMap<AppId, KnownApp>) -> Result<(), String> {
        for (id, (app, name)) in &self.submitted {
            match known.get(app) {
                None => return Err(format!("updates: {app} of {id} is lost")),
                Some(there) if there.name != *name => {
                    return Err(format!("updates: {app} is `{}`, and was `{name}`", there.name));
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
            if let Some(reason) = &there.failure {
                return Err(format!("updates: {app} was given up: {reason}"));
            }
            let before = self.known.entry(*app).or_insert_with(|| there.name.clone());
            if *before != there.name {
                return Err(format!("updates: {app} was `{before}` and is `{}`", there.name));
            }
        }
        let mut names: Vec<&str> = known.values().map(|app| app.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("updates: two apps are called `{}`", pair[0])),
            None => Ok(()),
        }
    }

    /// Every app of an acknowledged submission.
    pub fn apps(&self) -> impl Iterator<Item = AppId> {
        self.submitted.values().map(|(app, _)| *app)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(number: u64) -> RequestId {
        RequestId { client: 1, number }
    }

    fn known(apps: &[(u64, &str)]) -> BTreeMap<AppId, KnownApp> {
        let app = |name: &str| KnownApp { name: name.into(), ..KnownApp::default() };
        apps.iter().map(|(id, name)| (AppId(*id), app(name))).collect()
    }

    #[test]
    fn what_was_acknowledged_and_is_gone_is_seen() {
        let mut updates = Updates::default();
        updates.leader(&known(&[])).unwrap();
        updates.submitted(request(1), AppId(1), "a").unwrap();
        updates.leader(&known(&[(1, "a"), (2, "b")])).unwrap();
        assert!(updates.leader(&known(&[(2, "b")])).is_err(), "app 1 is lost");
        assert!(updates.leader(&known(&[(1, "c")])).is_err(), "app 1 is another");
        assert!(updates.leader(&known(&[(1, "a"), (3, "a")])).is_err(), "one name twice");
    }

    #[test]
    fn a_repeated_request_is_one_app() {
        let mut updates = Updates::default();
        updates.submitted(request(1), AppId(1), "a").unwrap();
        updates.submitted(request(1), AppId(1), "a").unwrap();
        assert!(updates.submitted(request(1), AppId(2), "a").is_err());
        assert!(updates.submitted(request(2), AppId(1), "b").is_err());
    }

    #[test]
    fn an_app_that_is_given_up_is_seen() {
        let mut apps = known(&[(1, "a")]);
        Updates::default().leader(&apps).unwrap();
        apps.get_mut(&AppId(1)).expect("it was just made").failure = Some("no slots".into());
        assert!(Updates::default().leader(&apps).is_err());
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
