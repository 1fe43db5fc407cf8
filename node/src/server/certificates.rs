//! Watches over a node's certificates while it runs: says in time that they end, and has those that
//! were put in their place shown to whoever connects from then on.
//!
//! The connections between nodes and processes look at the files themselves; see `gear_net::tls`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum_server::tls_rustls::RustlsConfig;
use rustls::pki_types::CertificateDer;
use tokio::time::{MissedTickBehavior, interval};

use crate::security::own::{Ends, check, date};
use crate::security::tls::{self, Files};

/// Time between two looks at the files.
const LOOK_INTERVAL: Duration = gear_net::tls::LOOK_INTERVAL;
/// Time after which a warning is said again.
const WARN_INTERVAL: Duration = Duration::from_secs(24 * 3_600);

/// When a node's certificates end, as was found last; none if it has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownEnds(Arc<Mutex<Option<Ends>>>);

impl KnownEnds {
    /// These.
    pub(crate) fn get(&self) -> Option<Ends> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, ends: Ends) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(ends);
    }
}

/// Something that an operator is to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Saying {
    /// All is well.
    Info(String),
    /// Somebody should look.
    Warning(String),
}

/// What was seen and said of the files.
#[derive(Debug)]
struct Watch {
    files: Files,
    /// The certificate that REST shows.
    shown: Vec<CertificateDer<'static>>,
    /// What was warned of last, and when.
    said: Option<(SystemTime, Vec<String>)>,
}

impl Watch {
    /// Looks at the files; gives what is to be said of them, when they end, and whether another
    /// certificate is to be shown.
    fn look(&mut self, now: SystemTime) -> (Vec<Saying>, Option<Ends>, bool) {
        let checked = check(&self.files, now);
        let (warnings, ends) = match &checked {
            Ok(ends) => (ends.warnings(&self.files, now), Some(*ends)),
            Err(error) => {
                let what = "the certificates as they are now cannot be used, and are used no more \
                            by connections that begin; those that were read before are, while \
                            they last";
                (vec![format!("{what}: {error}")], None)
            }
        };
        let mut sayings = Vec::new();
        let shown = tls::shown(&self.files).ok().filter(|it| *it != self.shown);
        let renewed = ends.zip(shown).map(|(ends, shown)| {
            self.shown = shown;
            sayings.push(Saying::Info(format!(
                "the certificate {} was replaced: connections from now on use it; it lasts until \
                 {}",
                self.files.certificate.display(),
                date(ends.node)
            )));
        });
        let is_old =
            |(at, said): &(SystemTime, Vec<String>)| *said != warnings || now > *at + WARN_INTERVAL;
        if self.said.as_ref().is_none_or(is_old) {
            sayings.extend(warnings.iter().cloned().map(Saying::Warning));
            self.said = Some((now, warnings));
        }
        (sayings, ends, renewed.is_some())
    }
}

/// Watches over the files for as long as the node runs; `rest` is what REST is served with.
pub(super) async fn watch(files: Files, known: KnownEnds, rest: Option<RustlsConfig>) {
    let shown = tls::shown(&files).unwrap_or_default();
    let mut watch = Watch { files, shown, said: None };
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let (sayings, ends, renewed) = watch.look(SystemTime::now());
        for saying in sayings {
            match saying {
                Saying::Info(text) => tracing::info!(target: "gear", "{text}"),
                Saying::Warning(text) => tracing::warn!(target: "gear", "{text}"),
            }
        }
        if let Some(ends) = ends {
            known.set(ends);
        }
        if let (true, Some(rest), Ok(config)) = (renewed, &rest, tls::server(&watch.files)) {
            rest.reload_from_config(Arc::new(config));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::security::certificates::{init_authority, node};

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    #[test]
    fn an_end_is_told_before_it_comes_and_a_renewal_when_it_is_whole() {
        let place = TempDir::new().expect("there is a folder");
        let authority = init_authority(place.path(), 1_000).expect("it is made").certificate;
        let make = |name: &str, days| {
            node(place.path(), name, &["localhost".into()], days).expect("it is made")
        };
        let (one, next) = (make("one", 20), make("next", 300));
        let files = Files { authority, certificate: one.certificate, key: one.key };
        let shown = tls::shown(&files).expect("it is there");
        let mut watch = Watch { files: files.clone(), shown, said: None };
        let now = SystemTime::now();
        let (said, ends, renewed) = watch.look(now);
        assert_eq!((said, renewed), (vec![], false));
        assert!(ends.is_some_and(|ends| ends.node > now + 19 * DAY), "{ends:?}");
        // Once a day from two weeks before the end, and not at every look.
        let times = (0..100).filter(|look| {
            let (said, ..) = watch.look(now + 7 * DAY + *look * DAY / 20);
            match &said[..] {
                [Saying::Warning(text)] => assert!(text.contains("expires on"), "{text}"),
                other => assert!(other.is_empty(), "{other:?}"),
            }
            !said.is_empty()
        });
        assert_eq!(times.count(), 5);
        let late = now + 21 * DAY;
        let (said, ends, renewed) = watch.look(late);
        assert_eq!((ends, renewed), (None, false));
        let [Saying::Warning(text)] = &said[..] else { panic!("{said:?}") };
        assert!(text.contains("has expired on"), "{text}");
        // The new certificate is there before its key.
        fs::copy(&next.certificate, &files.certificate).expect("it is ours");
        let (said, ends, renewed) = watch.look(late);
        assert!((ends, renewed) == (None, false), "{said:?}");
        fs::copy(&next.key, &files.key).expect("it is ours");
        let (said, ends, renewed) = watch.look(late);
        let [Saying::Info(text)] = &said[..] else { panic!("{said:?}") };
        assert!(text.contains("was replaced") && renewed, "{text}");
        assert!(ends.is_some_and(|ends| ends.node > late + 200 * DAY), "{ends:?}");
        assert_eq!(watch.look(late), (vec![], ends, false));
    }
}
