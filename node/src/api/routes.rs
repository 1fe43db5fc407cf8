//! Which endpoint is where, and who may use it.

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::errors::{Code, Problem};
use super::{
    Api, BODY_BYTES_MAX, REQUEST_TIME_MAX, apps, auth, binaries, checkpoints, cluster, events,
    health, logs, metrics, quarantine, savepoints, submit, voters,
};
use crate::security::Role;

/// Where all endpoints are but those that whoever watches a process expects elsewhere.
const PREFIX: &str = "/api/v1";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Gear",
        description = "A cluster of Gear: its nodes, and the apps that run on it. Everything but \
                       health and this document may ask for a token, as `Authorization: Bearer \
                       TOKEN`. What cannot be done is answered by `application/problem+json` \
                       with a code that programs can rely on."
    ),
    components(schemas(Problem))
)]
struct Document;

type Endpoints = OpenApiRouter<Api>;

/// For those who look on.
fn viewer() -> Endpoints {
    OpenApiRouter::new()
        .routes(routes!(cluster::get))
        .routes(routes!(cluster::nodes))
        .routes(routes!(cluster::node))
        .routes(routes!(cluster::workers))
        .routes(routes!(cluster::worker))
        .routes(routes!(voters::get))
        .routes(routes!(apps::list))
        .routes(routes!(apps::detail))
        .routes(routes!(apps::live))
        .routes(routes!(apps::executors))
        .routes(routes!(apps::executor))
        .routes(routes!(apps::dag))
        .routes(routes!(apps::stalling))
        .routes(routes!(apps::errors))
        .routes(routes!(savepoints::list))
        .routes(routes!(quarantine::list))
        .routes(routes!(metrics::query))
        .routes(routes!(events::events))
        .routes(routes!(health::whoami))
}

/// For those who keep apps running. Records and logs are the users' own data.
fn operator() -> Endpoints {
    OpenApiRouter::new()
        .routes(routes!(apps::stop))
        .routes(routes!(apps::kill))
        .routes(routes!(apps::restart))
        .routes(routes!(quarantine::records))
        .routes(routes!(cluster::drain))
        .routes(routes!(cluster::undrain))
        .routes(routes!(logs::tail))
}

/// For those who decide what runs: a job is code.
fn admin() -> Endpoints {
    OpenApiRouter::new()
        .routes(routes!(submit::submit))
        .routes(routes!(voters::put))
        .routes(routes!(voters::readmit))
        .routes(routes!(checkpoints::probe))
}

/// What takes as long as it takes.
fn transfers() -> Endpoints {
    OpenApiRouter::new()
        .routes(routes!(binaries::get, binaries::put))
        .route_layer(from_fn_with_state(Role::Admin, auth::require))
}

fn all() -> Endpoints {
    let needs = |role| from_fn_with_state(role, auth::require);
    let quick = Endpoints::new()
        .merge(viewer().route_layer(needs(Role::Viewer)))
        .merge(operator().route_layer(needs(Role::Operator)))
        .merge(admin().route_layer(needs(Role::Admin)))
        .merge(OpenApiRouter::new().routes(routes!(health::version)).routes(routes!(document)))
        .route_layer(from_fn(in_time));
    let slow = OpenApiRouter::new()
        .routes(routes!(savepoints::take))
        .routes(routes!(quarantine::replay))
        .routes(routes!(quarantine::forget))
        .route_layer(needs(Role::Operator));
    let measured =
        OpenApiRouter::new().routes(routes!(metrics::text)).route_layer(needs(Role::Viewer));
    let watched = OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .merge(measured)
        .route_layer(from_fn(in_time));
    let bounded = Endpoints::new()
        .nest(PREFIX, quick.merge(slow))
        .merge(watched)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    // Binaries have a bound of their own, which is counted as they come.
    let unbounded = Endpoints::new().nest(PREFIX, transfers()).layer(DefaultBodyLimit::disable());
    OpenApiRouter::with_openapi(Document::openapi()).merge(bounded).merge(unbounded)
}

/// The endpoints of a node.
pub(super) fn router(api: Api) -> Router {
    let (router, _) = all().split_for_parts();
    router
        .fallback(nothing_here)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(api.clone(), auth::authenticate))
        .layer(from_fn_with_state(api.clone(), count))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            let what = "the node failed at this request: look into its log, and report it";
            Problem::new(Code::Internal, what).into_response()
        }))
        .with_state(api)
}

/// What REST offers, for programs.
#[must_use]
pub fn openapi() -> OpenApi {
    let (_, mut document) = all().split_for_parts();
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", scheme);
    document.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    document
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = health::TAG,
    responses((status = 200, body = Object)))]
async fn document() -> Json<OpenApi> {
    Json(openapi())
}

async fn nothing_here(request: Request) -> Problem {
    let path = request.uri().path();
    Problem::not_found(format!("there is nothing at {path}: see {PREFIX}/openapi.json"))
}

async fn no_such_method(request: Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    let what = format!("{path} has no method {method}: see {PREFIX}/openapi.json");
    Problem::new(Code::NoSuchMethod, what)
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let seconds = REQUEST_TIME_MAX.as_secs();
            let what = format!("it took more than {seconds} s; look whether it was done: it may");
            Problem::new(Code::Timeout, what).into_response()
        }
    }
}

async fn count(State(api): State<Api>, request: Request, next: Next) -> Response {
    let endpoint = request.extensions().get::<MatchedPath>().map(|it| it.as_str().to_owned());
    let response = next.run(request).await;
    let status: StatusCode = response.status();
    // What has no pattern shares one name: whoever asks for anything makes no new series.
    api.0.metrics.answered(endpoint.as_deref().unwrap_or("none"), status.as_u16());
    response
}
