//! REST, for people, programs, and the other nodes.

mod apps;
mod auth;
pub mod backend;
mod binaries;
pub mod bodies;
mod checkpoints;
mod cluster;
mod describe;
pub mod errors;
mod events;
mod extract;
mod health;
mod logs;
mod metrics;
mod peers;
mod quarantine;
mod routes;
mod savepoints;
mod serve;
mod submit;
#[cfg(test)]
pub(crate) mod tests;
pub mod types;
mod voters;

use std::sync::Arc;
use std::time::Duration;

use gear_core::control::{AppStatus, ClusterStatus, ProcessId, Reply, Request, Role};
use gear_core::host::process::Answer;
use gear_core::id::{AppId, NodeId, RequestId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::metrics::Metrics;
use crate::security::{Access, NodeToken, random};
pub use backend::{Backend, Here, KnownNode, LocalProcess, LogTail, TurnedAway};
pub use binaries::{Digest, PeerBinaries};
pub use errors::{Code, Problem};
use extract::Hopped;
pub use peers::{HOP_HEADER, Peers};
pub use routes::openapi;
pub use serve::{ServeError, Served, listen, serve};

/// Bytes of a body of JSON: a submission has at most 16 KiB, a list of voters less.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// Time for everything but transfers, events and what waits for an epoch: the leader answers within
/// a second or two, also when it has to be elected first.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// Time for what waits for an epoch: a savepoint, which copies the state as well, and what leaves
/// the quarantine.
pub const SAVEPOINT_TIME_MAX: Duration = Duration::from_secs(600);

/// All that handlers share.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    backend: Arc<dyn Backend>,
    access: Access,
    peers: Peers,
    metrics: Metrics,
    events: events::Events,
    describer: describe::Describer,
    uploads: tokio::sync::Semaphore,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("here", &self.backend().here()).finish_non_exhaustive()
    }
}

impl Api {
    /// REST of a node. The other nodes are asked through `peers`.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>, access: Access, peers: Peers) -> Self {
        let here = backend.here();
        Self(Arc::new(Inner {
            metrics: Metrics::new(here.node),
            backend,
            access,
            peers,
            events: events::Events::new(),
            describer: describe::Describer::new(),
            uploads: tokio::sync::Semaphore::new(binaries::UPLOADS_AT_ONCE),
        }))
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.0.backend
    }

    pub(crate) fn access(&self) -> &Access {
        &self.0.access
    }

    /// Asks the leader for something under an id of its own.
    async fn ask(&self, request: Request) -> Result<Reply, Problem> {
        let bytes = random::<16>();
        let (client, number) = bytes.split_at(8);
        let part = |of: &[u8]| u64::from_le_bytes(of.try_into().expect("it has 8 bytes"));
        self.ask_as(RequestId { client: part(client), number: part(number) }, request).await
    }

    /// Asks the leader for something under this id.
    async fn ask_as(&self, id: RequestId, request: Request) -> Result<Reply, Problem> {
        match self.backend().request(id, request).await {
            Answer::Reply(reply @ (Reply::Refused { .. } | Reply::NotLeader { .. })) => {
                Err(Problem::of_reply(&reply))
            }
            Answer::Reply(reply) => Ok(reply),
            // A node refuses a request itself only if it has found nobody who leads.
            Answer::Refused { reason } => Err(Problem::new(Code::NoLeader, reason)),
            other => Err(Problem::of_answer(&other)),
        }
    }

    /// Asks for something that is done once it is acknowledged.
    async fn have_done(&self, request: Request) -> Result<(), Problem> {
        match self.ask(request).await? {
            Reply::Done => Ok(()),
            other => Err(Problem::of_reply(&other)),
        }
    }

    /// Every app, and whether the answer may be old.
    async fn apps(&self) -> Result<(Vec<AppStatus>, bool), Problem> {
        match self.ask(Request::Apps).await? {
            Reply::Apps { apps, stale } => Ok((apps, stale)),
            other => Err(Problem::of_reply(&other)),
        }
    }

    /// An app by its number, or the youngest by its name.
    async fn app(&self, name: &str) -> Result<AppStatus, Problem> {
        let (apps, _) = self.apps().await?;
        let found = match name.parse().map(AppId) {
            Ok(id) => apps.into_iter().find(|app| app.app == id),
            // One that has not ended goes before those of its name that have.
            Err(_) => apps
                .into_iter()
                .filter(|app| app.name == name)
                .max_by_key(|app| (app.outcome.is_none(), app.app)),
        };
        found.ok_or_else(|| {
            Problem::not_found(format!("there is no app `{name}`: `gear-node apps` lists them"))
        })
    }

    async fn cluster(&self) -> Result<ClusterStatus, Problem> {
        match self.ask(Request::Cluster).await? {
            Reply::Cluster(status) => Ok(status),
            other => Err(Problem::of_reply(&other)),
        }
    }

    /// Where a node serves REST.
    fn http_of(&self, node: NodeId) -> Result<String, Problem> {
        let found = self.backend().nodes().into_iter().find(|it| it.node == node);
        match found {
            Some(known) if !known.http.is_empty() => Ok(known.http),
            _ => Err(Problem::new(
                Code::NodeUnreachable,
                format!("{node} is not heard: look with `gear-node nodes` whether it runs"),
            )),
        }
    }

    /// Has the node that has what is wanted do it in this one's place, within a time. A node that
    /// was asked in another's place asks no third one: `what` has moved, and is to be asked again.
    async fn hand_on<T: DeserializeOwned>(
        &self,
        (node, what): (NodeId, &str),
        Hopped(hopped): Hopped,
        (path, body): (&str, &(impl Serialize + Sync)),
        within: Duration,
    ) -> Result<T, Problem> {
        if hopped {
            let text = format!("{what} has moved to {node}: ask again");
            return Err(Problem::new(Code::NodeUnreachable, text));
        }
        self.0.peers.post(&self.http_of(node)?, path, body, within).await
    }

    /// Where an app's app master runs; its node is this one if there is none to be named.
    fn app_master(&self, app: &AppStatus) -> Result<(ProcessId, Option<NodeId>), Problem> {
        let Some(grant) = &app.app_master else {
            let why = if app.outcome.is_some() { "it has ended" } else { "it has no place yet" };
            return Err(Problem::new(
                Code::Refused,
                format!("the app master of {} does not run: {why}", app.app),
            ));
        };
        let process = ProcessId { app: app.app, role: Role::AppMaster(app.term) };
        let here = grant.worker == self.backend().here().node;
        Ok((process, (!here).then_some(grant.worker)))
    }
}

/// With what this node asks others, and shows that it is one of them.
#[must_use]
pub fn node_token(key: Option<&crate::security::ClusterKey>) -> Option<NodeToken> {
    key.map(NodeToken::of)
}
