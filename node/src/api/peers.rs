//! How a node asks another one in somebody's place.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::errors::{Code, Problem};
use crate::client::{Client, ClientError, Http, Token};
use crate::security::NodeToken;
use crate::security::tls::TlsError;

/// Is in a request that comes from another node in somebody's place: no third one is asked.
pub const HOP_HEADER: &str = "x-gear-hop";

/// The other nodes.
#[derive(Clone, Debug)]
pub struct Peers {
    http: Http,
    token: Option<NodeToken>,
}

impl Peers {
    /// Nodes that know this token, and whose certificates the authority has signed; without one
    /// they are asked without TLS.
    ///
    /// # Errors
    /// If the authority's certificate cannot be used.
    pub fn new(token: Option<NodeToken>, authority: Option<&Path>) -> Result<Self, TlsError> {
        Ok(Self { http: Http::new(authority)?, token })
    }

    pub(crate) fn client(&self, at: &str) -> Client {
        let token = self.token.as_ref().map(|it| Token::new(it.secret()));
        self.http.at(at, token).hopping()
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        at: &str,
        path: &str,
    ) -> Result<T, Problem> {
        self.client(at).get(path).await.map_err(|error| problem(&error))
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        at: &str,
        path: &str,
        body: &(impl Serialize + Sync),
        within: Duration,
    ) -> Result<T, Problem> {
        let client = self.client(at).within(within);
        client.post(path, body).await.map_err(|error| problem(&error))
    }
}

/// What the caller is told if another node did not do it.
pub(super) fn problem(error: &ClientError) -> Problem {
    match error {
        // Whoever asks us has shown a token: that ours is not taken is not his fault.
        ClientError::Problem(problem)
            if matches!(problem.code, Code::NoToken | Code::NotAllowed) =>
        {
            Problem::new(
                Code::NodeUnreachable,
                "another node does not know this one's key: give all nodes the same cluster key",
            )
        }
        ClientError::Problem(problem) => Problem::new(problem.code, problem.detail.clone()),
        other => Problem::new(Code::NodeUnreachable, other.to_string()),
    }
}
