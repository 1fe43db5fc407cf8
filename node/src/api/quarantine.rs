//! Records that were put aside: which there are, and what is in them.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use gear_core::checkpoint::retention::QUARANTINE;
use gear_core::control::AppStatus;
use gear_core::task::decode_quarantine;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::Api;
use super::apps::TAG;
use super::errors::{Code, Problem};
use super::extract::Params;
use super::types::{QuarantineSummary, QuarantinedObject, RecordsQuery};

/// Objects that one answer tells of: each is read to count its records.
const OBJECTS_MAX: usize = 1_000;

fn failed(reason: impl std::fmt::Display) -> Problem {
    Problem::new(Code::Internal, format!("the checkpoint store cannot be read: {reason}"))
}

/// The objects with records of committed epochs, and whether there are more.
async fn objects(
    store: &dyn ObjectStore,
    app: &AppStatus,
) -> Result<(Vec<(String, u64)>, bool), Problem> {
    let mut list = store.list(Some(&object_store::path::Path::from(QUARANTINE)));
    let mut found = Vec::new();
    let mut cut = false;
    while let Some(object) = list.next().await {
        let location = object.map_err(failed)?.location.to_string();
        let epoch = location.rsplit_once("-e").and_then(|(_, epoch)| epoch.parse().ok());
        // What is of an epoch that has not committed may still be taken back.
        let Some(epoch) = epoch.filter(|&epoch: &u64| epoch <= app.committed.0) else { continue };
        if found.len() == OBJECTS_MAX {
            cut = true;
            break;
        }
        found.push((location, epoch));
    }
    found.sort();
    Ok((found, cut))
}

async fn read(store: &dyn ObjectStore, location: &str) -> Result<Bytes, Problem> {
    let path = object_store::path::Path::from(location);
    let result = store.get(&path).await.map_err(failed)?;
    result.bytes().await.map_err(failed)
}

/// What was put aside, by task and epoch.
#[utoipa::path(get, path = "/apps/{app}/quarantine", tag = TAG, params(("app" = String, Path)),
    responses((status = 200, body = QuarantineSummary), (status = "default", body = Problem)))]
pub(super) async fn list(
    State(api): State<Api>,
    Path(app): Path<String>,
) -> Result<Json<QuarantineSummary>, Problem> {
    let app = api.app(&app).await?;
    let store = api.backend().checkpoints().app(&app.spec.state);
    let (found, cut) = objects(&*store, &app).await?;
    let mut summary = QuarantineSummary { cut, ..QuarantineSummary::default() };
    for (object, epoch) in found {
        let bytes = read(&*store, &object).await?;
        let damaged = |error| Problem::new(Code::Internal, format!("{object} {error}"));
        let records = decode_quarantine(&bytes).map_err(damaged)?.len() as u64;
        summary.records += records;
        summary.objects.push(QuarantinedObject { object, epoch, records });
    }
    Ok(Json(summary))
}

/// The records that were put aside, one line of JSON each.
#[utoipa::path(get, path = "/apps/{app}/quarantine/records", tag = TAG,
    params(("app" = String, Path), RecordsQuery),
    responses((status = 200, body = String, content_type = "application/jsonl"),
        (status = "default", body = Problem)))]
pub(super) async fn records(
    State(api): State<Api>,
    Path(app): Path<String>,
    Params(query): Params<RecordsQuery>,
) -> Result<Response, Problem> {
    let app = api.app(&app).await?;
    let store = api.backend().checkpoints().app(&app.spec.state);
    let (mut found, _) = objects(&*store, &app).await?;
    if let Some(object) = query.object {
        found.retain(|(location, _)| *location == object);
        if found.is_empty() {
            let what = format!("nothing was put aside in `{object}`: look at the list");
            return Err(Problem::not_found(what));
        }
    }
    // One object at a time, as the caller takes them: all together may be more than memory holds.
    let lines = futures_util::stream::iter(found).then(move |(object, _)| {
        let store = store.clone();
        async move {
            let bytes = read(&*store, &object).await.map_err(std::io::Error::other)?;
            let entries = decode_quarantine(&bytes).map_err(std::io::Error::other)?;
            let mut text = String::new();
            for entry in &entries {
                text.push_str(&crate::quarantine::line(entry).to_string());
                text.push('\n');
            }
            Ok::<_, std::io::Error>(Bytes::from(text))
        }
    });
    let kind = [(header::CONTENT_TYPE, "application/jsonl")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

async fn unsupported(api: &Api, app: &str, what: &str) -> Problem {
    match api.app(app).await {
        Err(problem) => problem,
        Ok(app) => Problem::new(
            Code::NotSupported,
            format!(
                "this version cannot {what} what {} has put aside: download it with `gear-node \
                 quarantine {} --download FILE`, and feed it to a source of the job",
                app.app, app.app.0
            ),
        ),
    }
}

/// Gives the records that were put aside to the job again.
#[utoipa::path(post, path = "/apps/{app}/quarantine/replay", tag = TAG,
    params(("app" = String, Path)),
    responses((status = 501, body = Problem), (status = "default", body = Problem)))]
pub(super) async fn replay(State(api): State<Api>, Path(app): Path<String>) -> Problem {
    unsupported(&api, &app, "replay").await
}

/// Forgets the records that were put aside.
#[utoipa::path(post, path = "/apps/{app}/quarantine/drop", tag = TAG,
    params(("app" = String, Path)),
    responses((status = 501, body = Problem), (status = "default", body = Problem)))]
pub(super) async fn forget(State(api): State<Api>, Path(app): Path<String>) -> Problem {
    unsupported(&api, &app, "drop").await
}
