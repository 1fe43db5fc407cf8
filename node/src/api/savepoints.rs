//! Savepoints: named copies of an epoch, from which an app can begin.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use futures_util::StreamExt as _;
use gear_core::host::process::{Answer, Command};

use super::apps::TAG;
use super::errors::{Code, Problem};
use super::extract::{Hopped, Json as Body};
use super::types::{SavepointInfo, SavepointRequest, SavepointTaken};
use super::{Api, SAVEPOINT_TIME_MAX};

/// Objects that are counted for the list.
const OBJECTS_MAX: usize = 100_000;

/// Where savepoints are in the folder of their app.
const FOLDER: &str = "savepoints/";

/// The folder of an app's savepoint in the checkpoint store.
pub(crate) fn folder(state: &str, name: &str) -> String {
    format!("{state}/{FOLDER}{name}")
}

/// Whether a savepoint may be called so.
pub(crate) fn check_name(name: &str) -> Result<(), Problem> {
    let checked = gear_core::checkpoint::savepoint::check_name(name);
    checked.map_err(|error| Problem::new(Code::BadRequest, error.to_string()))
}

/// The savepoints of an app.
#[utoipa::path(get, path = "/apps/{app}/savepoints", tag = TAG, params(("app" = String, Path)),
    responses((status = 200, body = Vec<SavepointInfo>), (status = "default", body = Problem)))]
pub(super) async fn list(
    State(api): State<Api>,
    Path(app): Path<String>,
) -> Result<Json<Vec<SavepointInfo>>, Problem> {
    let app = api.app(&app).await?;
    let failed = |reason: String| {
        let what = format!("the checkpoint store cannot be listed: {reason}");
        Problem::new(Code::Internal, what)
    };
    let store = api.backend().checkpoints().app(&app.spec.state);
    let folder = object_store::path::Path::from(FOLDER);
    let mut objects = store.list(Some(&folder)).take(OBJECTS_MAX);
    let mut found: BTreeMap<String, SavepointInfo> = BTreeMap::new();
    while let Some(object) = objects.next().await {
        let object = object.map_err(|error| failed(error.to_string()))?;
        let location = object.location.to_string();
        let name = location.strip_prefix(FOLDER).and_then(|it| it.split('/').next());
        let Some(name) = name else { continue };
        let entry = found.entry(name.to_owned()).or_insert_with(|| SavepointInfo {
            name: name.to_owned(),
            from: self::folder(&app.spec.state, name),
            ..SavepointInfo::default()
        });
        entry.objects += 1;
        entry.bytes += object.size;
    }
    Ok(Json(found.into_values().collect()))
}

/// Takes a savepoint: commits an epoch, and keeps a copy of it under this name.
#[utoipa::path(post, path = "/apps/{app}/savepoints", tag = TAG, params(("app" = String, Path)),
    request_body = SavepointRequest,
    responses((status = 200, body = SavepointTaken), (status = "default", body = Problem)))]
pub(super) async fn take(
    State(api): State<Api>,
    Path(app): Path<String>,
    hopped: Hopped,
    Body(request): Body<SavepointRequest>,
) -> Result<Json<SavepointTaken>, Problem> {
    check_name(&request.name)?;
    let app = api.app(&app).await?;
    let (process, elsewhere) = api.app_master(&app)?;
    if let Some(node) = elsewhere {
        let what = format!("the app master of {}", app.app);
        let path = format!("/api/v1/apps/{}/savepoints", app.app.0);
        let asked = (path.as_str(), &request);
        return api.hand_on((node, &what), hopped, asked, SAVEPOINT_TIME_MAX).await.map(Json);
    }
    let name = request.name;
    let command = Command::Savepoint { name: name.clone() };
    match api.backend().command(process, command).await {
        Answer::Savepoint { epoch } => {
            let from = folder(&app.spec.state, &name);
            Ok(Json(SavepointTaken { name, epoch: epoch.0, from }))
        }
        other => Err(Problem::of_answer(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        for name in ["a", "before-upgrade_2.1"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "a/b", "..", ".hidden", "ü", &"n".repeat(1_000)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
