//! The ends of what an app's processes have printed, on all nodes.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use futures_util::StreamExt as _;

use super::apps::TAG;
use super::errors::{Code, Problem};
use super::extract::{Hopped, Params};
use super::types::{LogEnd, Logs, LogsQuery, node_text};
use super::{Api, KnownNode};

/// Bytes of each log unless asked for others.
const BYTES_DEFAULT: u64 = 16 * 1024;
/// Most bytes of a log: more is in the file on its node.
const BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of all logs of one answer.
const ALL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Nodes that are asked at once.
const NODES_AT_ONCE: usize = 8;
/// Time for each of them.
const NODE_TIME_MAX: Duration = Duration::from_secs(5);

/// The ends of the logs of an app's processes, also of those that have ended.
#[utoipa::path(get, path = "/apps/{app}/logs", tag = TAG, params(("app" = String, Path), LogsQuery),
    responses((status = 200, body = Logs), (status = "default", body = Problem)))]
pub(super) async fn tail(
    State(api): State<Api>,
    Path(app): Path<String>,
    Params(query): Params<LogsQuery>,
    Hopped(hopped): Hopped,
) -> Result<Json<Logs>, Problem> {
    let bytes = query.bytes.unwrap_or(BYTES_DEFAULT).clamp(1, BYTES_MAX);
    // The number of an app is enough for who asks in another's place: the leader was asked there.
    let app = match app.parse() {
        Ok(id) if hopped => gear_core::id::AppId(id),
        _ => api.app(&app).await?.app,
    };
    let here = api.backend().here().node;
    let tails = api.backend().logs(app, bytes).await.map_err(|error| {
        Problem::new(Code::Internal, format!("the logs of {app} cannot be read: {error}"))
    })?;
    let end = |tail: super::LogTail| LogEnd {
        node: node_text(here),
        process: tail.process,
        text: String::from_utf8_lossy(&tail.text).into_owned(),
        cut: tail.cut,
    };
    let mut logs = Logs { logs: tails.into_iter().map(end).collect(), missing: Vec::new() };
    if !hopped {
        let others = api.backend().nodes().into_iter().filter(|it| it.node != here);
        let path = &format!("/api/v1/apps/{}/logs?bytes={bytes}", app.0);
        let ask = |node: KnownNode| {
            let client = api.0.peers.client(&node.http).within(NODE_TIME_MAX);
            async move { (node.node, client.get::<Logs>(path).await) }
        };
        let mut answers = futures_util::stream::iter(others.map(ask)).buffered(NODES_AT_ONCE);
        while let Some((node, answer)) = answers.next().await {
            match answer {
                Ok(theirs) => logs.logs.extend(theirs.logs),
                Err(error) => logs.missing.push(format!("{node}: {error}")),
            }
        }
    }
    cut(&mut logs, ALL_BYTES_MAX);
    Ok(Json(logs))
}

/// Leaves out whole logs, the last ones first, until the rest fits.
fn cut(logs: &mut Logs, bytes_max: usize) {
    let mut bytes = 0;
    for log in &mut logs.logs {
        bytes += log.text.len();
        if bytes > bytes_max {
            log.text.clear();
            log.cut = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out_and_said() {
        let log = |text: &str| LogEnd { text: text.into(), ..LogEnd::default() };
        let mut logs = Logs { logs: vec![log("12"), log("34"), log("5")], missing: Vec::new() };
        cut(&mut logs, 3);
        let texts: Vec<_> = logs.logs.iter().map(|it| (it.text.as_str(), it.cut)).collect();
        assert_eq!(texts, [("12", false), ("", true), ("", true)]);
    }
}
