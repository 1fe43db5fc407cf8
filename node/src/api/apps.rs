//! Apps: looking on, stopping, restarting, killing.

use axum::Json;
use axum::extract::{Path, State};
use gear_core::control::{AppOutcome, AppStatus, Request, Wish};
use gear_core::host::figures::AppFigures;
use gear_core::host::process::{Answer, Command};

use super::Api;
use super::errors::{Code, Problem};
use super::extract::Hopped;
use super::types::{
    AppDetail, AppErrors, AppFailure, AppLive, AppSummary, ClockHolder, Dag, Done, ExecutorInfo,
    PlacedProcess, Spec, Submitted,
};

pub(super) const TAG: &str = "apps";

impl Api {
    /// What an app's app master, which runs here, says of the app.
    async fn figures_here(&self, app: &AppStatus) -> Result<Box<AppFigures>, Problem> {
        let (process, elsewhere) = self.app_master(app)?;
        if let Some(node) = elsewhere {
            return Err(Problem::new(
                Code::NodeUnreachable,
                format!("the app master of {} has moved to {node}: ask again", app.app),
            ));
        }
        let known = self.backend().processes().into_iter().find(|it| it.process == process);
        if let Some(figures) = known.and_then(|it| it.app) {
            return Ok(Box::new(AppFigures::clone(&figures)));
        }
        match self.backend().command(process, Command::Status).await {
            Answer::Status(figures) => Ok(figures),
            other => Err(Problem::of_answer(&other)),
        }
    }

    /// What an app's app master says of it, wherever it runs.
    pub(super) async fn live(&self, app: &AppStatus, hopped: bool) -> Result<AppLive, Problem> {
        let (_, elsewhere) = self.app_master(app)?;
        match elsewhere {
            Some(node) if !hopped => {
                let at = self.http_of(node)?;
                self.0.peers.get(&at, &format!("/api/v1/apps/{}/live", app.app.0)).await
            }
            _ => Ok((&*self.figures_here(app).await?).into()),
        }
    }

    async fn have_end(&self, name: &str, wish: Wish) -> Result<AppStatus, Problem> {
        let app = self.app(name).await?;
        if let Some(outcome) = &app.outcome {
            let how = match outcome {
                AppOutcome::Finished => "finished",
                AppOutcome::Stopped => "been stopped",
                AppOutcome::Killed => "been killed",
                AppOutcome::Failed { .. } => "failed",
            };
            let what = format!("{} has {how} already: there is nothing to end", app.app);
            return Err(Problem::new(Code::Refused, what));
        }
        self.have_done(Request::Wish { app: app.app, wish }).await?;
        Ok(app)
    }
}

/// Every app.
#[utoipa::path(get, path = "/apps", tag = TAG, responses(
    (status = 200, body = Vec<AppSummary>), (status = "default", body = Problem)))]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<AppSummary>>, Problem> {
    let (apps, _) = api.apps().await?;
    Ok(Json(apps.iter().map(AppSummary::from).collect()))
}

/// Everything about an app, by its number or its name.
#[utoipa::path(get, path = "/apps/{app}", tag = TAG, params(("app" = String, Path)), responses(
    (status = 200, body = AppDetail), (status = "default", body = Problem)))]
pub(super) async fn detail(
    State(api): State<Api>,
    Path(app): Path<String>,
    Hopped(hopped): Hopped,
) -> Result<Json<AppDetail>, Problem> {
    let app = api.app(&app).await?;
    // What has ended has no processes any more, only places where they were.
    let (live, live_missing, processes) = if app.outcome.is_some() {
        (None, Some("the app has ended".into()), Vec::new())
    } else {
        let processes = PlacedProcess::of_app(&app);
        match api.live(&app, hopped).await {
            Ok(live) => (Some(live), None, processes),
            Err(problem) => (None, Some(problem.detail), processes),
        }
    };
    Ok(Json(AppDetail {
        summary: AppSummary::from(&app),
        term: app.term.0,
        spec: Spec::from(&app.spec),
        processes,
        live,
        live_missing,
    }))
}

/// What an app's app master says of it.
#[utoipa::path(get, path = "/apps/{app}/live", tag = TAG, params(("app" = String, Path)),
    responses((status = 200, body = AppLive), (status = "default", body = Problem)))]
pub(super) async fn live(
    State(api): State<Api>,
    Path(app): Path<String>,
    Hopped(hopped): Hopped,
) -> Result<Json<AppLive>, Problem> {
    let app = api.app(&app).await?;
    api.live(&app, hopped).await.map(Json)
}

/// The executors of an app.
#[utoipa::path(get, path = "/apps/{app}/executors", tag = TAG, params(("app" = String, Path)),
    responses((status = 200, body = Vec<ExecutorInfo>), (status = "default", body = Problem)))]
pub(super) async fn executors(
    State(api): State<Api>,
    Path(app): Path<String>,
    Hopped(hopped): Hopped,
) -> Result<Json<Vec<ExecutorInfo>>, Problem> {
    executors_of(&api, &app, hopped).await.map(Json)
}

async fn executors_of(api: &Api, app: &str, hopped: bool) -> Result<Vec<ExecutorInfo>, Problem> {
    let app = api.app(app).await?;
    // Without its app master an app still has its executors.
    let live = api.live(&app, hopped).await.unwrap_or_default();
    let executors = PlacedProcess::of_app(&app).into_iter().filter(|it| it.executor.is_some());
    let executor = |process: PlacedProcess| {
        let is_its = |task: &&super::types::TaskInfo| Some(task.executor) == process.executor;
        let tasks = live.tasks.iter().filter(is_its).cloned().collect();
        ExecutorInfo { process, tasks }
    };
    Ok(executors.map(executor).collect())
}

/// An executor of an app.
#[utoipa::path(get, path = "/apps/{app}/executors/{executor}", tag = TAG,
    params(("app" = String, Path), ("executor" = u32, Path)),
    responses((status = 200, body = ExecutorInfo), (status = "default", body = Problem)))]
pub(super) async fn executor(
    State(api): State<Api>,
    Path((app, executor)): Path<(String, u32)>,
    Hopped(hopped): Hopped,
) -> Result<Json<ExecutorInfo>, Problem> {
    let executors = executors_of(&api, &app, hopped).await?;
    let found = executors.into_iter().find(|it| it.process.executor == Some(executor));
    found
        .map(Json)
        .ok_or_else(|| Problem::not_found(format!("the app `{app}` has no executor {executor}")))
}

/// The graph of an app.
#[utoipa::path(get, path = "/apps/{app}/dag", tag = TAG, params(("app" = String, Path)),
    responses((status = 200, body = Dag), (status = "default", body = Problem)))]
pub(super) async fn dag(
    State(api): State<Api>,
    Path(app): Path<String>,
    Hopped(hopped): Hopped,
) -> Result<Json<Dag>, Problem> {
    let app = api.app(&app).await?;
    let processors = api.live(&app, hopped).await.unwrap_or_default().processors;
    // The app master's node has the binary in any case; others may.
    match (api.describe_app(&app).await, api.app_master(&app)) {
        (Ok(description), _) => {
            let (text, dot) = (description.text.clone(), description.dot.clone());
            Ok(Json(Dag { processors, text, dot }))
        }
        (Err(_), Ok((_, Some(node)))) if !hopped => {
            let at = api.http_of(node)?;
            api.0.peers.get(&at, &format!("/api/v1/apps/{}/dag", app.app.0)).await.map(Json)
        }
        (Err(_), _) if !processors.is_empty() => Ok(Json(Dag { processors, ..Dag::default() })),
        (Err(problem), _) => Err(problem),
    }
}

/// The tasks whose clocks hold all the others back; none if the clock is not known.
#[utoipa::path(get, path = "/apps/{app}/stalling", tag = TAG, params(("app" = String, Path)),
    responses((status = 200, body = Vec<ClockHolder>), (status = "default", body = Problem)))]
pub(super) async fn stalling(
    State(api): State<Api>,
    Path(app): Path<String>,
    Hopped(hopped): Hopped,
) -> Result<Json<Vec<ClockHolder>>, Problem> {
    let app = api.app(&app).await?;
    Ok(Json(api.live(&app, hopped).await?.min_clock.into_iter().collect()))
}

/// What has failed in an app.
#[utoipa::path(get, path = "/apps/{app}/errors", tag = TAG, params(("app" = String, Path)),
    responses((status = 200, body = AppErrors), (status = "default", body = Problem)))]
pub(super) async fn errors(
    State(api): State<Api>,
    Path(app): Path<String>,
) -> Result<Json<AppErrors>, Problem> {
    let app = api.app(&app).await?;
    let processes = PlacedProcess::of_app(&app).into_iter();
    let failure = |process: PlacedProcess| {
        let reason = process.detail.clone().unwrap_or_default();
        AppFailure { process, reason }
    };
    Ok(Json(AppErrors {
        outcome: match &app.outcome {
            Some(AppOutcome::Failed { reason }) => Some(reason.clone()),
            _ => None,
        },
        waiting: (!app.waiting.is_empty()).then(|| app.waiting.clone()),
        failures: processes.filter(|it| it.state == "exited").map(failure).collect(),
    }))
}

/// Stops an app with one last epoch. It has stopped when it says so: this only begins it.
#[utoipa::path(post, path = "/apps/{app}/stop", tag = TAG, params(("app" = String, Path)),
    responses((status = 200, body = Done), (status = "default", body = Problem)))]
pub(super) async fn stop(
    State(api): State<Api>,
    Path(app): Path<String>,
) -> Result<Json<Done>, Problem> {
    let app = api.have_end(&app, Wish::Stop).await?;
    Ok(Json(Done { done: format!("{} stops with one last epoch", app.app) }))
}

/// Ends an app at once; what is not committed is not done.
#[utoipa::path(delete, path = "/apps/{app}", tag = TAG, params(("app" = String, Path)),
    responses((status = 200, body = Done), (status = "default", body = Problem)))]
pub(super) async fn kill(
    State(api): State<Api>,
    Path(app): Path<String>,
) -> Result<Json<Done>, Problem> {
    let app = api.have_end(&app, Wish::Kill).await?;
    Ok(Json(Done { done: format!("{} ends at once", app.app) }))
}

/// Runs an app again from where it is, under a new number.
#[utoipa::path(post, path = "/apps/{app}/restart", tag = TAG, params(("app" = String, Path)),
    responses((status = 200, body = Submitted), (status = "default", body = Problem)))]
pub(super) async fn restart(
    State(api): State<Api>,
    Path(app): Path<String>,
    super::extract::Idempotency(id): super::extract::Idempotency,
) -> Result<Json<Submitted>, Problem> {
    let app = api.app(&app).await?;
    let request = Request::Restart { app: app.app };
    let reply = match id {
        Some(id) => api.ask_as(id, request).await?,
        None => api.ask(request).await?,
    };
    match reply {
        gear_core::control::Reply::Submitted { app: new } => {
            let arguments = app.spec.arguments;
            Ok(Json(Submitted { app: new.0, name: app.name, arguments, graph: String::new() }))
        }
        other => Err(Problem::of_reply(&other)),
    }
}
