//! Looks at the app's figures over REST all the time: each app master counts from 0.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use serde_json::Value;

use crate::rest;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// What the app masters of an app said, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// How often regions were taken back to the last committed epoch.
    pub recoveries: u64,
    /// Connections of links that took the place of broken ones.
    pub reconnects: u64,
}

#[derive(Debug, Default)]
struct Shared {
    ends: bool,
    silent: BTreeSet<usize>,
    /// By the term of the app master.
    recoveries: BTreeMap<u64, u64>,
    /// By the term, who tells of it, and of whom.
    reconnects: BTreeMap<(u64, String, String), u64>,
}

/// A thread that looks.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Looks at an app at these nodes.
    pub(super) fn start(nodes: Vec<SocketAddr>, app: u64) -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let of = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            loop {
                let silent = {
                    let shared = of.lock().unwrap_or_else(PoisonError::into_inner);
                    if shared.ends {
                        return;
                    }
                    shared.silent.clone()
                };
                let speaks = |number: &usize| !silent.contains(number);
                let path = format!("/api/v1/apps/{app}");
                let found =
                    (0..nodes.len()).filter(speaks).find_map(|it| rest::get(nodes[it], &path));
                if let Some(found) = found {
                    of.lock().unwrap_or_else(PoisonError::into_inner).take(&found["live"]);
                }
                sleep(PAUSE);
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// Does not ask these nodes, which would not answer.
    pub(super) fn avoid(&self, silent: BTreeSet<usize>) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).silent = silent;
    }

    /// What was seen.
    pub(super) fn watched(&self) -> Watched {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        Watched {
            recoveries: shared.recoveries.values().sum(),
            reconnects: shared.reconnects.values().sum(),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).ends = true;
        if let Some(thread) = self.thread.take() {
            // It has printed why it failed, if it did.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn take(&mut self, live: &Value) {
        let Some(term) = live["term"].as_u64() else { return };
        let most = |known: &mut u64, said: &Value| *known = said.as_u64().unwrap_or(0).max(*known);
        most(self.recoveries.entry(term).or_default(), &live["recoveries"]);
        for link in live["links"].as_array().into_iter().flatten() {
            let text = |name: &str| link[name].as_str().unwrap_or_default().to_owned();
            let link_of = (term, text("process"), text("peer"));
            most(self.reconnects.entry(link_of).or_default(), &link["reconnects"]);
        }
    }
}
