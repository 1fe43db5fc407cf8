//! Whether all nodes reach one and the same checkpoint store.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use futures_util::StreamExt as _;

use super::errors::{Code, Problem};
use super::types::ProbeSeen;
use super::{Api, KnownNode, apps};
use crate::client::ClientError;
use crate::security::{hex, random};

/// Nodes that are asked at once.
const NODES_AT_ONCE: usize = 8;
/// Time for each of them: it reads one object.
const NODE_TIME_MAX: Duration = Duration::from_secs(10);
/// Hexadecimal digits of a probe's name.
const NAME_DIGITS: usize = 32;

impl Api {
    /// Checks that the store does what a commit log needs, and that every node that answers finds
    /// there what this one has left.
    pub(super) async fn probe_store(&self) -> Result<(), Problem> {
        let store = self.backend().checkpoints();
        let refused = |reason: String| Problem::new(Code::Refused, reason);
        let name = hex(&random::<{ NAME_DIGITS / 2 }>());
        store.probe(&name).await.map_err(|error| refused(error.to_string()))?;
        store.leave(&name).await.map_err(|error| refused(error.to_string()))?;
        let strangers = self.who_does_not_find(&name).await;
        store.clear(&name).await;
        if strangers.is_empty() {
            return Ok(());
        }
        Err(refused(format!(
            "{} cannot find in the checkpoint store {} what this node has left there: start every \
             node with a --checkpoints URL that all of them reach",
            strangers.join(", "),
            store.url()
        )))
    }

    async fn who_does_not_find(&self, name: &str) -> Vec<String> {
        let here = self.backend().here().node;
        let others = self.backend().nodes().into_iter();
        let others = others.filter(|it| it.node != here && !it.suspected && !it.http.is_empty());
        let path = &format!("/api/v1/checkpoints/probes/{name}");
        let ask = |node: KnownNode| {
            let client = self.0.peers.client(&node.http).within(NODE_TIME_MAX);
            async move { (node.node, client.get::<ProbeSeen>(path).await) }
        };
        let answers = futures_util::stream::iter(others.map(ask)).buffered(NODES_AT_ONCE);
        let strangers = answers.filter_map(|(node, answer)| async move {
            match answer {
                Ok(ProbeSeen { found }) => (!found).then(|| node.to_string()),
                // One that is gone runs nothing of the app; one that refuses us may.
                Err(ClientError::Unreachable { .. }) => None,
                Err(error) => Some(format!("{node} ({error})")),
            }
        });
        strangers.collect().await
    }
}

/// Whether this node finds in the checkpoint store what another one has left.
#[utoipa::path(get, path = "/checkpoints/probes/{probe}", tag = apps::TAG,
    params(("probe" = String, Path)),
    responses((status = 200, body = ProbeSeen), (status = "default", body = Problem)))]
pub(super) async fn probe(
    State(api): State<Api>,
    Path(probe): Path<String>,
) -> Result<Json<ProbeSeen>, Problem> {
    if probe.len() != NAME_DIGITS || crate::security::unhex(&probe).is_none() {
        let what = format!("a probe is named by {NAME_DIGITS} hexadecimal digits");
        return Err(Problem::new(Code::BadRequest, what));
    }
    Ok(Json(ProbeSeen { found: api.backend().checkpoints().finds(&probe).await }))
}
