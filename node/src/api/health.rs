//! Whether the node lives and can work, for who starts and watches it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::Api;
use super::types::{Ready, Version, Whoami};
use crate::security::{Principal, Role};

pub(super) const TAG: &str = "node";

/// The process lives.
#[utoipa::path(get, path = "/health", tag = TAG, responses((status = 200, body = Version)))]
pub(super) async fn health() -> Json<Version> {
    version().await
}

/// The node can do its work: its cluster is formed, and somebody leads.
#[utoipa::path(get, path = "/ready", tag = TAG, responses(
    (status = 200, body = Ready), (status = 503, body = Ready)))]
pub(super) async fn ready(State(api): State<Api>) -> (StatusCode, Json<Ready>) {
    let not = |reason: &str| {
        let reason = reason.to_owned();
        (StatusCode::SERVICE_UNAVAILABLE, Json(Ready { ready: false, reason }))
    };
    if !api.backend().is_ready() {
        return not("the cluster is not formed: not all of its first masters have joined");
    }
    match api.cluster().await {
        Ok(status) if status.leader.is_some() => {
            (StatusCode::OK, Json(Ready { ready: true, reason: String::new() }))
        }
        Ok(_) => not("nobody leads the masters: a majority of them is not reachable"),
        Err(problem) => not(&problem.detail),
    }
}

/// What serves here.
#[utoipa::path(get, path = "/version", tag = TAG, responses((status = 200, body = Version)))]
pub(super) async fn version() -> Json<Version> {
    Json(Version { version: env!("CARGO_PKG_VERSION").into() })
}

/// As whom one asks.
#[utoipa::path(get, path = "/whoami", tag = TAG, responses((status = 200, body = Whoami)))]
pub(super) async fn whoami(principal: Option<axum::Extension<Principal>>) -> Json<Whoami> {
    let (name, role) = match principal {
        Some(axum::Extension(it)) => (it.name, it.role),
        None => (String::new(), Role::Viewer),
    };
    Json(Whoami { name, role })
}
