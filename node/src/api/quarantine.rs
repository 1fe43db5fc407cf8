//! Records that were put aside: which there are, and what is in them.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use futures_util::StreamExt as _;
use gear_core::app::Left;
use gear_core::checkpoint::retention::QUARANTINE;
use gear_core::control::AppStatus;
use gear_core::host::process::{Answer, Command};
use gear_core::task::decode_quarantine;
use object_store::{ObjectStore, ObjectStoreExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::apps::TAG;
use super::errors::{Code, Problem};
use super::extract::{Hopped, Params};
use super::types::{
    QuarantineDropped, QuarantineReplayed, QuarantineSummary, QuarantinedObject, RecordsQuery,
};
use super::{Api, SAVEPOINT_TIME_MAX};
use crate::security::Principal;

/// Objects that one answer tells of: each is read to count its records.
const OBJECTS_MAX: usize = 1_000;

fn failed(reason: impl std::fmt::Display) -> Problem {
    Problem::new(Code::Internal, format!("the checkpoint store cannot be read: {reason}"))
}

/// The objects of the quarantine, and whether there are more.
async fn objects(store: &dyn ObjectStore) -> Result<(Vec<(String, u64)>, bool), Problem> {
    let aside = crate::quarantine::aside(store).await.map_err(failed)?;
    let mut list = store.list(Some(&object_store::path::Path::from(QUARANTINE)));
    let mut found = Vec::new();
    let mut cut = false;
    while let Some(object) = list.next().await {
        let location = object.map_err(failed)?.location.to_string();
        let epoch = location.rsplit_once("-e").and_then(|(_, epoch)| epoch.parse().ok());
        // What is of an epoch that has not committed may still be taken back.
        let Some(epoch) = epoch.filter(|_| aside.holds(&location)) else { continue };
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
    let (found, cut) = objects(&*store).await?;
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
    let (mut found, _) = objects(&*store).await?;
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

/// Has the app master do something with what was put aside; the node that asked for it on
/// another, if this one was not asked first.
async fn leave<T: DeserializeOwned + From<Left>>(
    api: &Api,
    app: &AppStatus,
    hopped: Hopped,
    (what, command): (&str, Command),
) -> Result<T, Problem> {
    let (process, elsewhere) = api.app_master(app)?;
    if let Some(node) = elsewhere {
        let path = format!("/api/v1/apps/{}/quarantine/{what}", app.app.0);
        let master = format!("the app master of {}", app.app);
        let asked = (path.as_str(), &json!({}));
        return api.hand_on((node, &master), hopped, asked, SAVEPOINT_TIME_MAX).await;
    }
    match api.backend().command(process, command).await {
        Answer::Left(left) => Ok(left.into()),
        other => Err(Problem::of_answer(&other)),
    }
}

fn log(principal: Option<Extension<Principal>>, done: &str, app: &AppStatus) {
    let who = principal.map_or_else(|| "somebody".to_owned(), |Extension(it)| it.name);
    tracing::info!(target: "gear", "{who} has {done} what {} had put aside", app.app);
}

/// Gives the records that were put aside to the operators that have refused them. Each of them
/// leaves the quarantine with the epoch that has its effects: it counts once, whatever happens
/// meanwhile and however often this is asked.
#[utoipa::path(post, path = "/apps/{app}/quarantine/replay", tag = TAG,
    params(("app" = String, Path)),
    responses((status = 200, body = QuarantineReplayed), (status = "default", body = Problem)))]
pub(super) async fn replay(
    State(api): State<Api>,
    Path(app): Path<String>,
    hopped: Hopped,
    principal: Option<Extension<Principal>>,
) -> Result<Json<QuarantineReplayed>, Problem> {
    let app = api.app(&app).await?;
    let replayed: QuarantineReplayed =
        leave(&api, &app, hopped, ("replay", Command::Replay)).await?;
    log(principal, "given again", &app);
    Ok(Json(replayed))
}

/// Forgets the records that were put aside. While the app runs they go with an epoch, so that no
/// roll-back brings them back.
#[utoipa::path(post, path = "/apps/{app}/quarantine/drop", tag = TAG,
    params(("app" = String, Path)),
    responses((status = 200, body = QuarantineDropped), (status = "default", body = Problem)))]
pub(super) async fn forget(
    State(api): State<Api>,
    Path(app): Path<String>,
    hopped: Hopped,
    principal: Option<Extension<Principal>>,
) -> Result<Json<QuarantineDropped>, Problem> {
    let app = api.app(&app).await?;
    let dropped = if app.outcome.is_none() {
        leave(&api, &app, hopped, ("drop", Command::Drop)).await?
    } else {
        // One that was restarted goes on in the same folder.
        let (apps, _) = api.apps().await?;
        let heir = apps.iter().find(|it| it.spec.state == app.spec.state && it.outcome.is_none());
        if let Some(heir) = heir {
            let what = format!("{} has ended, and {} goes on from it: ask that", app.app, heir.app);
            return Err(Problem::new(Code::Refused, what));
        }
        let store = api.backend().checkpoints().app(&app.spec.state);
        delete(&*store).await?
    };
    log(principal, "dropped", &app);
    Ok(Json(dropped))
}

/// Deletes what nobody runs for any more.
async fn delete(store: &dyn ObjectStore) -> Result<QuarantineDropped, Problem> {
    let (found, cut) = objects(store).await?;
    let mut dropped = QuarantineDropped { cut, ..QuarantineDropped::default() };
    for (object, _) in found {
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
    Ok(dropped)
}
