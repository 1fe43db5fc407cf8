//! What is measured, for Prometheus and for who asks for a few of it.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use super::errors::{Code, Problem};
use super::extract::Params;
use super::types::{MetricFamily, MetricsQuery};
use super::{Api, health};
use crate::metrics::{CONTENT_TYPE, Scrape};

impl Api {
    /// All that this node knows at this moment; the masters are asked if they answer at once.
    async fn scrape(&self) -> Scrape {
        let backend = self.backend();
        Scrape {
            cluster: self.cluster().await.ok(),
            nodes: backend.nodes(),
            processes: backend.processes(),
            turned_away: backend.turned_away(),
            certificates: backend.certificates(),
        }
    }
}

/// What this node measures, as Prometheus reads it.
#[utoipa::path(get, path = "/metrics", tag = health::TAG, responses(
    (status = 200, body = String, content_type = "text/plain"),
    (status = "default", body = Problem)))]
pub(super) async fn text(State(api): State<Api>) -> Result<Response, Problem> {
    let scrape = api.scrape().await;
    let text = api.0.metrics.text(scrape).map_err(|error| {
        Problem::new(Code::Internal, format!("the metrics cannot be written: {error}"))
    })?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

/// What this node measures at this moment, as JSON: those that are asked for, added up as asked.
#[utoipa::path(get, path = "/metrics", tag = health::TAG, params(MetricsQuery), responses(
    (status = 200, body = Vec<MetricFamily>), (status = "default", body = Problem)))]
pub(super) async fn query(
    State(api): State<Api>,
    Params(query): Params<MetricsQuery>,
) -> Result<Json<Vec<MetricFamily>>, Problem> {
    let scrape = api.scrape().await;
    Ok(Json(api.0.metrics.query(scrape, &query)))
}
