//! A job as the processes of a cluster run it.

use gear_core::api::Files;
use gear_core::app::{AppPlan, Placement, ProcessorPlan};
use gear_core::checkpoint::Identity;
use gear_core::control::{AppSpec, Resources};
use gear_core::dag::{Graph, Kind};
use gear_core::dsl::Job;
use gear_core::executor::Program;
use gear_core::id::TaskId;
use gear_core::task::{QuarantinePolicy, TaskOptions};
use gear_core::time::Duration;

use super::subject::Work;

/// What the processes of a cluster run.
pub trait Jobs: Work {
    /// The job, as a process of this number builds it: no two have the same.
    ///
    /// # Errors
    /// Why it cannot be built.
    fn job(&self, process: u64) -> Result<Job, String>;

    /// Key groups of the apps.
    fn key_groups(&self) -> u32;

    /// Time between two epochs; none for no epoch but the last.
    fn epoch_interval(&self) -> Option<Duration>;
}

/// What is submitted for an app of so many executors.
#[must_use]
pub fn spec(name: &str, executors: u32) -> AppSpec {
    let one = Resources { slots: 1, memory: 1 << 20 };
    AppSpec {
        name: name.to_owned(),
        binary: name.as_bytes().to_vec(),
        executors,
        executor: one,
        app_master: one,
        strategy: "spread".into(),
        ..AppSpec::default()
    }
}

/// How an executor runs a job.
#[must_use]
pub fn program(job: Job) -> Program {
    let options = TaskOptions { align: true, quarantine: QuarantinePolicy::Keep };
    Program { graph: job.graph, factories: job.factories, options }
}

/// How an app master runs a job.
///
/// # Errors
/// Why a source cannot be read.
pub fn app_plan(
    job: &Job,
    spec: &AppSpec,
    jobs: &dyn Jobs,
    files: &mut dyn Files,
) -> Result<AppPlan, String> {
    let identity = Identity { app: spec.name.clone(), digest: 1, arguments: String::new() };
    let mut plan = AppPlan::new(identity, 0);
    plan.key_groups = jobs.key_groups();
    plan.epoch_interval = jobs.epoch_interval();
    for (id, processor) in job.graph.with_ids() {
        let source = job.sources.iter().find(|source| source.processor == id);
        let partitions = match source {
            Some(source) => source.connector.partitions(files).map_err(|it| it.to_string())?,
            None => Vec::new(),
        };
        plan.processors.push(ProcessorPlan {
            id,
            uid: processor.uid.clone(),
            parallelism: processor.parallelism,
            source: processor.kind == Kind::Source,
            sink: processor.kind == Kind::Sink,
            partitions,
            discovers: source.is_some_and(|source| source.connector.discovers()),
        });
    }
    let channels = channels(&job.graph);
    plan.placement = Placement::Executors { wanted: spec.executors, channels };
    Ok(plan)
}

fn channels(graph: &Graph) -> Vec<(TaskId, TaskId)> {
    let mut channels = Vec::new();
    for edge in &graph.edges {
        let task = |processor, index| TaskId { processor, index };
        let pairs = graph.channels_of_edge(edge);
        channels.extend(pairs.map(|(from, to)| (task(edge.from, from), task(edge.to, to))));
    }
    channels
}
