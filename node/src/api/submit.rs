//! From a binary and its arguments to an app.

use axum::Json;
use axum::extract::State;
use gear_core::control::{AppSpec, ClusterStatus, Reply, Request, Resources};

use super::apps::TAG;
use super::errors::{Code, Problem};
use super::extract::{Idempotency, Json as Body};
use super::types::{SubmitRequest, Submitted};
use super::{Api, Digest};
use crate::child::Description;

/// How processes are placed unless asked otherwise.
const STRATEGY_DEFAULT: &str = "spread";
/// Most memory of an app master unless there is less: it holds figures and the epochs' records.
const APP_MASTER_MEMORY: u64 = 256 * 1024 * 1024;
/// Executors of an app, as the masters bound them.
const EXECUTORS_MAX: u32 = 1_024;

/// Submits a job whose binary was uploaded. Repeated under the same `Idempotency-Key`, it is the
/// same app.
#[utoipa::path(post, path = "/apps", tag = TAG, request_body = SubmitRequest,
    params(("idempotency-key" = Option<String>, Header)),
    responses((status = 201, body = Submitted), (status = "default", body = Problem)))]
pub(super) async fn submit(
    State(api): State<Api>,
    Idempotency(id): Idempotency,
    Body(request): Body<SubmitRequest>,
) -> Result<(axum::http::StatusCode, Json<Submitted>), Problem> {
    let digest: Digest = request.binary.parse()?;
    check(&request)?;
    let description = api.describe(digest, &request.arguments).await?;
    if !description.problems.is_empty() {
        return Err(Problem::new(Code::BadJob, description.problems.join("\n")));
    }
    let spec = spec(&request, digest, &description, &api.cluster().await?)?;
    api.probe_store().await?;
    api.spread(digest).await?;
    let name = spec.name.clone();
    let arguments = spec.arguments.clone();
    let request = Request::Submit(Box::new(spec));
    let reply = match id {
        Some(id) => api.ask_as(id, request).await?,
        None => api.ask(request).await?,
    };
    let Reply::Submitted { app } = reply else { return Err(Problem::of_reply(&reply)) };
    let graph = description.text.clone();
    let submitted = Submitted { app: app.0, name, arguments, graph };
    Ok((axum::http::StatusCode::CREATED, Json(submitted)))
}

/// What can be said of a request before anything is done.
pub(crate) fn check(request: &SubmitRequest) -> Result<(), Problem> {
    let bad = |what: String| Err(Problem::new(Code::BadRequest, what));
    if request.executors == Some(0) || request.executors > Some(EXECUTORS_MAX) {
        return bad(format!("an app has 1 to {EXECUTORS_MAX} executors"));
    }
    if request.slots == Some(0) {
        return bad("an executor takes a slot or more: it is a thread of tasks".into());
    }
    if let Some(name) = &request.name {
        check_name(name)?;
    }
    if let Some(from) = &request.from {
        let is_folder = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !from.split('/').all(is_folder) {
            let what = "is no folder of the checkpoint store: take one that the list of an app's \
                        savepoints gives";
            return bad(format!("`{from}` {what}"));
        }
    }
    Ok(())
}

/// A name stands in paths of REST and in folders, and is told from a number.
fn check_name(name: &str) -> Result<(), Problem> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_name = (1..=64).contains(&name.len()) && name.chars().all(fits);
    if is_name && !name.starts_with('.') && name.parse::<u64>().is_err() {
        return Ok(());
    }
    let what = "1 to 64 letters, digits and any of -_., not only digits, and no dot in front";
    Err(Problem::new(Code::BadRequest, format!("`{name}` is no name of an app: {what}")))
}

/// The app that is asked for, on the workers that there are.
fn spec(
    request: &SubmitRequest,
    digest: Digest,
    description: &Description,
    cluster: &ClusterStatus,
) -> Result<AppSpec, Problem> {
    let name = request.name.clone().unwrap_or_else(|| description.name.clone());
    check_name(&name)?;
    let workers = || cluster.workers.values().filter(|it| !it.drains && it.capacity.slots > 0);
    let slots: u64 = workers().map(|it| u64::from(it.capacity.slots)).sum();
    let each = request.slots.unwrap_or(1);
    let most = u32::try_from(slots / u64::from(each)).unwrap_or(u32::MAX).max(1);
    let executors = request.executors.unwrap_or_else(|| description.parallelism.clamp(1, most));
    // One share of each worker's memory is for app masters, which take no slot.
    let share = workers().map(|it| it.capacity.memory / (u64::from(it.capacity.slots) + 1));
    let share = share.min().unwrap_or(APP_MASTER_MEMORY);
    let memory = request.memory_bytes.unwrap_or_else(|| share.saturating_mul(u64::from(each)));
    Ok(AppSpec {
        name,
        binary: digest.to_bytes(),
        arguments: description.arguments.clone(),
        executors: executors.min(EXECUTORS_MAX),
        executor: Resources { slots: each, memory },
        app_master: Resources { slots: 0, memory: share.min(APP_MASTER_MEMORY) },
        labels: request.labels.clone(),
        strategy: request.strategy.clone().unwrap_or_else(|| STRATEGY_DEFAULT.into()),
        priority: request.priority,
        state: String::new(),
        from: request.from.clone(),
    })
}

#[cfg(test)]
mod tests {
    use gear_core::control::{Address, WorkerStatus};
    use gear_core::id::{Incarnation, MasterTerm, NodeId};
    use gear_core::link::handshake::VERSIONS;

    use super::*;

    fn cluster(workers: &[(u32, u64)]) -> ClusterStatus {
        let worker = |(node, &(slots, memory)): (usize, &(u32, u64))| {
            let worker = WorkerStatus {
                incarnation: Incarnation(1),
                address: Address::default(),
                capacity: Resources { slots, memory },
                used: Resources::default(),
                labels: Default::default(),
                drains: false,
                alive: true,
                processes: Default::default(),
            };
            (NodeId(node as u64), worker)
        };
        ClusterStatus {
            stale: false,
            leader: None,
            term: MasterTerm(1),
            voters: Default::default(),
            updates: 0,
            workers: workers.iter().enumerate().map(worker).collect(),
        }
    }

    fn made(request: &SubmitRequest, workers: &[(u32, u64)]) -> AppSpec {
        let description = Description {
            name: "job".into(),
            arguments: vec!["--resolved".into()],
            parallelism: 4,
            wire: VERSIONS,
            engine: String::new(),
            text: String::new(),
            dot: String::new(),
            problems: Vec::new(),
        };
        let digest = Digest::from_bytes(&[7; 32]).expect("it has 32 bytes");
        spec(request, digest, &description, &cluster(workers)).expect("it is a job")
    }

    #[test]
    fn an_app_fits_the_workers_unless_told_otherwise() {
        let spec = made(&SubmitRequest::default(), &[(1, 800), (2, 1_200)]);
        assert_eq!((spec.name.as_str(), spec.executors), ("job", 3));
        assert_eq!(spec.executor, Resources { slots: 1, memory: 400 });
        assert_eq!(spec.app_master, Resources { slots: 0, memory: 400 });
        assert_eq!(spec.arguments, ["--resolved"]);
        // All of it has room: the smaller worker an executor and an app master, the larger two.
        let told = SubmitRequest {
            executors: Some(9),
            slots: Some(2),
            memory_bytes: Some(5),
            name: Some("mine".into()),
            strategy: Some("pack".into()),
            ..SubmitRequest::default()
        };
        let spec = made(&told, &[(1, 800)]);
        assert_eq!(
            (spec.name.as_str(), spec.executors, spec.strategy.as_str()),
            ("mine", 9, "pack")
        );
        assert_eq!(spec.executor, Resources { slots: 2, memory: 5 });
        assert_eq!(made(&SubmitRequest::default(), &[]).executors, 1);
        assert_eq!(made(&SubmitRequest::default(), &[(64, 1 << 40)]).executors, 4);
    }

    #[test]
    fn nonsense_is_refused_before_anything_runs() {
        let is_bad = |change: fn(&mut SubmitRequest)| {
            let mut request = SubmitRequest::default();
            change(&mut request);
            check(&request).is_err()
        };
        assert!(!is_bad(|_| ()));
        assert!(is_bad(|it| it.executors = Some(0)));
        assert!(is_bad(|it| it.executors = Some(EXECUTORS_MAX + 1)));
        assert!(is_bad(|it| it.slots = Some(0)));
        assert!(is_bad(|it| it.name = Some("12".into())));
        assert!(is_bad(|it| it.name = Some("a/b".into())));
        assert!(is_bad(|it| it.name = Some(String::new())));
        assert!(is_bad(|it| it.from = Some("../../etc".into())));
        assert!(!is_bad(|it| it.from = Some("app-1/savepoints/a".into())));
    }
}
