//! Commands about apps.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::CliError;
use super::output::{Output, bytes, count, table, warning};
use crate::api::types::{
    AppDetail, AppState, AppSummary, Done, Logs as LogEnds, QuarantineDropped, QuarantineReplayed,
    QuarantineSummary, SavepointInfo, SavepointRequest, SavepointTaken, Submitted,
};
use crate::api::{Code, Problem, SAVEPOINT_TIME_MAX};
use crate::client::{Client, ClientError};

/// Time between two looks at an app that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Every app.
#[derive(Args, Debug)]
pub(super) struct Apps {
    /// Also those that have ended
    #[arg(long, short)]
    all: bool,
}

/// An app.
#[derive(Args, Debug)]
pub(super) struct App {
    /// Number or name of the app
    #[arg(value_name = "ID")]
    app: String,
    /// Print its graph for Graphviz
    #[arg(long)]
    dot: bool,
}

/// Stops an app.
#[derive(Args, Debug)]
pub(super) struct Stop {
    /// Number or name of the app
    #[arg(value_name = "ID")]
    app: String,
    /// Only begin it, and do not wait for the end
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    /// Wait for the end [default]
    #[arg(long)]
    wait: bool,
}

/// Ends an app.
#[derive(Args, Debug)]
pub(super) struct Kill {
    /// Number or name of the app
    #[arg(value_name = "ID")]
    app: String,
}

/// Runs an app again.
#[derive(Args, Debug)]
pub(super) struct Restart {
    /// Number or name of the app
    #[arg(value_name = "ID")]
    app: String,
}

/// Savepoints of an app.
#[derive(Args, Debug)]
pub(super) struct Savepoint {
    /// Number or name of the app
    #[arg(value_name = "ID")]
    app: String,
    /// Name of the savepoint to take; without it, lists those that there are
    name: Option<String>,
}

/// Records that were put aside.
#[derive(Args, Debug)]
pub(super) struct Quarantine {
    /// Number or name of the app
    #[arg(value_name = "ID")]
    app: String,
    /// Write the records to this file, one line of JSON each
    #[arg(long, value_name = "FILE", conflicts_with_all = ["replay", "drop"])]
    download: Option<PathBuf>,
    /// Give them to the operators that refused them again, each once; those that stay are counted
    #[arg(long, conflicts_with = "drop")]
    replay: bool,
    /// Forget them
    #[arg(long)]
    drop: bool,
}

/// Logs of an app.
#[derive(Args, Debug)]
pub(super) struct Logs {
    /// Number or name of the app
    #[arg(value_name = "ID")]
    app: String,
    /// Bytes of each log's end
    #[arg(long, default_value_t = 16 * 1024)]
    bytes: u64,
}

/// Where an app is in REST; its name may hold anything.
fn path(app: &str) -> String {
    let mut path = String::from("/api/v1/apps/");
    for byte in app.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

pub(super) async fn list(client: &Client, what: Apps, mut out: Output<'_>) -> Result<(), CliError> {
    let mut apps: Vec<AppSummary> = client.get("/api/v1/apps").await?;
    apps.retain(|app| what.all || !app.state.has_ended());
    let warning = if out.json { String::new() } else { warning(client).await };
    out.show(&apps, || warning + &rows(&apps))
}

pub(super) fn rows(apps: &[AppSummary]) -> String {
    let row = |app: &AppSummary| {
        vec![
            app.app.to_string(),
            app.name.clone(),
            app.state.to_string(),
            count(app.committed),
            format!("{}/{}", app.executors_running, app.executors),
            app.restarts.to_string(),
            app.reason.clone(),
        ]
    };
    let head = ["ID#", "NAME", "STATE", "EPOCH#", "EXECUTORS#", "RESTARTS#", "REASON"];
    table(&head, apps.iter().map(row))
}

pub(super) async fn show(client: &Client, what: &App, mut out: Output<'_>) -> Result<(), CliError> {
    if what.dot {
        let dag: crate::api::types::Dag = client.get(&(path(&what.app) + "/dag")).await?;
        return out.show(&dag, || dag.dot.clone());
    }
    let detail: AppDetail = client.get(&path(&what.app)).await?;
    out.show(&detail, || text(&detail))
}

fn text(detail: &AppDetail) -> String {
    let AppDetail { summary, spec, .. } = detail;
    let mut text = format!("app {} `{}` is {}\n", summary.app, summary.name, summary.state);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("{name:<12} {value}\n"));
        }
    };
    line("reason", summary.reason.clone());
    line("epoch", count(summary.committed));
    line("executors", format!("{} of {}", summary.executors_running, summary.executors));
    line("restarts", summary.restarts.to_string());
    line("arguments", spec.arguments.join(" "));
    let labels: Vec<_> = spec.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    line("labels", labels.join(","));
    line("state", spec.state.clone());
    line("from", spec.from.clone().unwrap_or_default());
    line("binary", spec.binary.clone());
    match (&detail.live, &detail.live_missing) {
        (Some(live), _) => {
            line("stage", live.stage.clone());
            line("records", count(live.records));
            line("quarantined", count(live.quarantined));
            line("recoveries", live.recoveries.to_string());
            let audit = &live.audit;
            let (checked, gaps, twice) = (audit.checked, audit.gaps, audit.duplicates);
            let text = format!("{checked} checked, {gaps} gaps, {twice} twice");
            line("audit", text);
            if let Some(holder) = &live.min_clock {
                line("clock", format!("held by {} ({})", holder.task, holder.processor));
            }
        }
        (None, Some(why)) => line("app master", why.clone()),
        (None, None) => {}
    }
    let row = |process: &crate::api::types::PlacedProcess| {
        let name = match process.executor {
            Some(executor) => format!("executor {executor}"),
            None => "app master".to_owned(),
        };
        let detail = process.detail.clone().unwrap_or_default();
        vec![name, process.node.clone(), process.state.clone(), detail]
    };
    if !detail.processes.is_empty() {
        text.push('\n');
        text.push_str(&table(&["PROCESS", "NODE", "STATE", ""], detail.processes.iter().map(row)));
    }
    if let Some(live) = detail.live.as_ref().filter(|live| !live.tasks.is_empty()) {
        text.push('\n');
        text.push_str(&tasks(live));
    }
    text
}

fn tasks(live: &crate::api::types::AppLive) -> String {
    let row = |task: &crate::api::types::TaskInfo| {
        vec![
            format!("{}[{}]", task.processor, task.index),
            task.executor.to_string(),
            count(task.records_in),
            count(task.records_out),
            bytes(task.queue_bytes),
            bytes(task.state_bytes),
            format!("{:.1} s", task.blocked_seconds),
            task.epoch.to_string(),
        ]
    };
    let head = ["TASK", "EXECUTOR#", "IN#", "OUT#", "QUEUE#", "STATE#", "BLOCKED#", "EPOCH#"];
    table(&head, live.tasks.iter().map(row))
}

/// Waits until an app has ended; tries again while nobody can be asked.
async fn ended(client: &Client, app: u64) -> Result<AppSummary, CliError> {
    let mut unreachable = 0;
    loop {
        match client.get::<AppDetail>(&path(&app.to_string())).await {
            Ok(detail) if detail.summary.state.has_ended() => return Ok(detail.summary),
            Ok(_) => unreachable = 0,
            // A leader is elected, or the node restarts: the app stops all the same.
            Err(error) if unreachable < 50 && may_pass(&error) => unreachable += 1,
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } => true,
        ClientError::Problem(Problem { code, .. }) => {
            matches!(code, Code::NoLeader | Code::NodeUnreachable | Code::Timeout)
        }
        _ => false,
    }
}

pub(super) async fn stop(
    client: &Client,
    what: &Stop,
    mut out: Output<'_>,
) -> Result<(), CliError> {
    let detail: AppDetail = client.get(&path(&what.app)).await?;
    let app = detail.summary.app;
    let done: Done = client.post(&(path(&app.to_string()) + "/stop"), &json!({})).await?;
    if what.no_wait {
        return out.show(&done, || done.done.clone());
    }
    let summary = ended(client, app).await?;
    let (state, epoch) = (summary.state, summary.committed);
    out.show(&summary, || format!("app {app} has {}, at epoch {epoch}", past(state)))?;
    match summary.state {
        AppState::Failed => Err(CliError::Failed(summary.reason)),
        _ => Ok(()),
    }
}

const fn past(state: AppState) -> &'static str {
    match state {
        AppState::Finished => "finished",
        AppState::Killed => "been killed",
        AppState::Failed => "failed",
        _ => "stopped",
    }
}

pub(super) async fn kill(
    client: &Client,
    what: &Kill,
    mut out: Output<'_>,
) -> Result<(), CliError> {
    let done: Done = client.delete(&path(&what.app)).await?;
    out.show(&done, || done.done.clone())
}

pub(super) async fn restart(
    client: &Client,
    what: &Restart,
    mut out: Output<'_>,
) -> Result<(), CliError> {
    let client = client.clone().keyed(super::submit::key());
    let new: Submitted = client.post(&(path(&what.app) + "/restart"), &json!({})).await?;
    out.show(&new, || format!("`{}` goes on as app {}", new.name, new.app))
}

pub(super) async fn savepoint(
    client: &Client,
    what: &Savepoint,
    mut out: Output<'_>,
) -> Result<(), CliError> {
    let path = path(&what.app) + "/savepoints";
    let Some(name) = &what.name else {
        let list: Vec<SavepointInfo> = client.get(&path).await?;
        let row = |it: &SavepointInfo| {
            vec![it.name.clone(), count(it.objects), bytes(it.bytes), it.from.clone()]
        };
        return out
            .show(&list, || table(&["NAME", "OBJECTS#", "SIZE#", "FROM"], list.iter().map(row)));
    };
    let client = client.clone().within(SAVEPOINT_TIME_MAX);
    let request = SavepointRequest { name: name.clone() };
    let taken: SavepointTaken = client.post(&path, &request).await?;
    out.show(&taken, || {
        format!(
            "savepoint `{}` of epoch {}; begin from it with `gear-node submit --from {}`",
            taken.name, taken.epoch, taken.from
        )
    })
}

pub(super) async fn quarantine(
    client: &Client,
    what: &Quarantine,
    mut out: Output<'_>,
) -> Result<(), CliError> {
    let path = path(&what.app) + "/quarantine";
    if what.replay {
        let client = client.clone().within(SAVEPOINT_TIME_MAX);
        let done: QuarantineReplayed = client.post(&format!("{path}/replay"), &json!({})).await?;
        return out.show(&done, || given_again(&done));
    }
    if what.drop {
        let client = client.clone().within(SAVEPOINT_TIME_MAX);
        let dropped: QuarantineDropped = client.post(&format!("{path}/drop"), &json!({})).await?;
        return out.show(&dropped, || forgotten(&dropped));
    }
    if let Some(file) = &what.download {
        let failed = |error: std::io::Error| {
            CliError::Failed(format!("{} cannot be written: {error}", file.display()))
        };
        let mut written = std::fs::File::create(file).map_err(failed)?;
        let keep = |chunk: &[u8]| {
            std::io::Write::write_all(&mut written, chunk).map_err(|error| error.to_string())
        };
        let count = client.receive(&format!("{path}/records"), keep).await?;
        let done = Done { done: format!("{} in {}", bytes(count), file.display()) };
        return out.show(&done, || done.done.clone());
    }
    let summary: QuarantineSummary = client.get(&path).await?;
    let row = |it: &crate::api::types::QuarantinedObject| {
        vec![it.epoch.to_string(), count(it.records), it.object.clone()]
    };
    out.show(&summary, || {
        let more = if summary.cut { " or more" } else { "" };
        let head = format!("{} records{more} were put aside\n", count(summary.records));
        let rows = summary.objects.iter().map(row);
        if summary.objects.is_empty() {
            head
        } else {
            head + &table(&["EPOCH#", "RECORDS#", "OBJECT"], rows)
        }
    })
}

fn forgotten(of: &QuarantineDropped) -> String {
    let mut text = format!("{} records are forgotten", count(of.records));
    if of.cut {
        text.push_str("; there are more: ask again");
    }
    text
}

fn given_again(of: &QuarantineReplayed) -> String {
    let mut text = format!("{} records were given again", count(of.replayed));
    if let Some(epoch) = of.epoch {
        text.push_str(&format!(", with epoch {epoch}"));
    }
    if of.refused > 0 {
        text.push_str(&format!("\n{} were refused again", count(of.refused)));
    }
    for (why, records) in &of.reasons {
        text.push_str(&format!("\n{} stay: {why}", count(*records)));
    }
    if of.cut {
        text.push_str("\nthere are more: ask again");
    }
    text
}

pub(super) async fn logs(
    client: &Client,
    what: &Logs,
    mut out: Output<'_>,
) -> Result<(), CliError> {
    let ends: LogEnds =
        client.get(&format!("{}/logs?bytes={}", path(&what.app), what.bytes)).await?;
    out.show(&ends, || {
        let mut text = String::new();
        for log in &ends.logs {
            let cut = if log.cut { ", the end of it" } else { "" };
            text.push_str(&format!("== {} on node {}{cut}\n{}\n", log.process, log.node, log.text));
        }
        for missing in &ends.missing {
            text.push_str(&format!("== missing: {missing}\n"));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn a_name_stays_one_part_of_the_path() {
        assert_eq!(path("word-count_2"), "/api/v1/apps/word-count_2");
        assert_eq!(path("a/b ?"), "/api/v1/apps/a%2Fb%20%3F");
    }
}
