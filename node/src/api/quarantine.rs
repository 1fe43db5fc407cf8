//! Records that were put aside: which there are, and what is in them.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use futures_util::StreamExt as _;
use gear_core::checkpoint::record::{self, Record};
use gear_core::checkpoint::retention::QUARANTINE;
use gear_core::control::AppStatus;
use gear_core::task::decode_quarantine;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::Api;
use super::apps::TAG;
use super::errors::{Code, Problem};
use super::extract::Params;
use super::types::{QuarantineDropped, QuarantineSummary, QuarantinedObject, RecordsQuery};
use crate::security::Principal;

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

/// Gives the records that were put aside to the job again: no version can yet, since a record that
/// was given again would have to count once, whatever happens meanwhile.
#[utoipa::path(post, path = "/apps/{app}/quarantine/replay", tag = TAG,
    params(("app" = String, Path)),
    responses((status = 501, body = Problem), (status = "default", body = Problem)))]
pub(super) async fn replay(State(api): State<Api>, Path(app): Path<String>) -> Problem {
    match api.app(&app).await {
        Err(problem) => problem,
        Ok(app) => Problem::new(
            Code::NotSupported,
            format!(
                "this version cannot give {0} what it has put aside: download it with `gear-node \
                 quarantine {1} --download FILE`, mend the records, submit a job that reads that \
                 file, and forget them here with `gear-node quarantine {1} --drop`",
                app.app, app.app.0
            ),
        ),
    }
}

/// What the retained epochs of an app name: a savepoint copies it.
async fn named(store: &dyn ObjectStore) -> Result<BTreeSet<String>, Problem> {
    let mut list = store.list(Some(&object_store::path::Path::from(record::FOLDER)));
    let mut named = BTreeSet::new();
    while let Some(object) = list.next().await {
        let location = object.map_err(failed)?.location;
        let bytes = match store.get(&location).await {
            Ok(result) => result.bytes().await.map_err(failed)?,
            // An epoch that is no longer retained.
            Err(object_store::Error::NotFound { .. }) => continue,
            Err(error) => return Err(failed(error)),
        };
        // A record that is damaged names nothing: the app itself has to say so.
        if let Ok(Record::Epoch(epoch)) = Record::decode(&bytes) {
            let objects = epoch.tasks.into_values().flat_map(|task| task.quarantine);
            named.extend(objects.map(|object| object.name));
        }
    }
    Ok(named)
}

/// Forgets the records that were put aside. What an epoch names that is retained stays while the
/// app runs: asked again after further epochs, it goes too.
#[utoipa::path(post, path = "/apps/{app}/quarantine/drop", tag = TAG,
    params(("app" = String, Path)),
    responses((status = 200, body = QuarantineDropped), (status = "default", body = Problem)))]
pub(super) async fn forget(
    State(api): State<Api>,
    Path(app): Path<String>,
    principal: Option<Extension<Principal>>,
) -> Result<Json<QuarantineDropped>, Problem> {
    let app = api.app(&app).await?;
    let store = api.backend().checkpoints().app(&app.spec.state);
    // One that was restarted goes on in the same folder.
    let (apps, _) = api.apps().await?;
    let runs = apps.iter().any(|it| it.spec.state == app.spec.state && it.outcome.is_none());
    let named = if runs { named(&*store).await? } else { BTreeSet::new() };
    let (found, cut) = objects(&*store, &app).await?;
    let mut dropped = QuarantineDropped { cut, ..QuarantineDropped::default() };
    for (object, _) in found {
        if named.contains(&object) {
            dropped.kept += 1;
            continue;
        }
        let path = object_store::path::Path::from(object.as_str());
        let bytes = match store.get(&path).await {
            Ok(result) => result.bytes().await.map_err(failed)?,
            // Somebody else has dropped it.
            Err(object_store::Error::NotFound { .. }) => continue,
            Err(error) => return Err(failed(error)),
        };
        // One that is damaged goes as well, and nobody knows what it held.
        let records = decode_quarantine(&bytes).map_or(0, |records| records.len() as u64);
        store.delete(&path).await.map_err(failed)?;
        dropped.objects += 1;
        dropped.records += records;
    }
    let who = principal.map_or_else(|| "somebody".to_owned(), |Extension(it)| it.name);
    tracing::info!(
        target: "gear",
        "{who} has dropped {} records in {} objects that {} had put aside",
        dropped.records, dropped.objects, app.app
    );
    Ok(Json(dropped))
}
