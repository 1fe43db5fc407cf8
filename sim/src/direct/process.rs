//! One simulated process: an app master and its executors, as the embedded mode runs them.

use std::collections::BTreeMap;
use std::sync::Arc;

use gear_core::api::Files;
use gear_core::app::{AppMaster, AppPlan, Placement, ProcessorPlan};
use gear_core::checkpoint::Identity;
use gear_core::dag::Kind;
use gear_core::effect::{Effect, Place};
use gear_core::executor::{Activity, Executor, Program};
use gear_core::host::Faults;
use gear_core::id::{ExecutorId, TaskId};
use gear_core::message::Input;
use gear_core::task::{QuarantinePolicy, TaskOptions, World};
use gear_core::time::{Time, WallTime};

use super::config::Config;
use super::guard::Catch;
use crate::random::Random;
use crate::workload::build::{Build, Built, build};
use crate::workload::sink;

/// A process that runs, or has run.
pub(crate) struct Process<F: Faults> {
    pub(crate) master: AppMaster<F>,
    pub(crate) executors: Vec<Executor<F>>,
    /// When each executor takes its next turn, if one is settled.
    pub(crate) turns: Vec<Option<Time>>,
    /// When the master's deadline is, if one is settled.
    pub(crate) timeout: Option<Time>,
    pub(crate) alive: bool,
    /// It was thought dead, and goes on.
    pub(crate) zombie: bool,
    /// When the last message on its way between two places arrives.
    pub(crate) arrivals: BTreeMap<(Place, Place), Time>,
    /// When the last request of a task to the disk is performed, and when it is answered.
    pub(crate) disk: BTreeMap<TaskId, (Time, Time)>,
}

/// The job as a process builds it.
pub(crate) fn built(config: &Config, process: u64) -> Built {
    let (_, parallelism) = config.shape(process);
    let shift = if config.faults.rescale { process as u32 } else { 0 };
    build(
        &config.plan,
        &Build {
            sources: config.sources.clone(),
            parallelism,
            shift,
            key_groups: config.key_groups,
            watermarks: config.watermarks.clone(),
            window: config.window,
            lateness: config.lateness,
            files: sink::Files { process, roll: config.roll },
            topics: config.topics,
            folders: None,
        },
    )
}

impl<F: Faults> Process<F> {
    pub(crate) fn new(config: &Config, number: u64, files: &mut dyn Files) -> Self {
        let job = built(config, number).job;
        let (executors, _) = config.shape(number);
        let identity = Identity { app: "simulated".into(), digest: 1, arguments: String::new() };
        let mut plan = AppPlan::new(identity, number + 1);
        plan.key_groups = config.key_groups;
        plan.epoch_interval = config.epoch_interval;
        let processors = job.graph.processors.iter().enumerate();
        plan.processors = processors
            .map(|(place, processor)| {
                let id = gear_core::id::ProcessorId(place as u32);
                let source = job.sources.iter().find(|source| source.processor == id);
                let partitions =
                    source.map(|source| source.connector.partitions(files).expect("known"));
                ProcessorPlan {
                    id,
                    uid: processor.uid.clone(),
                    parallelism: processor.parallelism,
                    source: processor.kind == Kind::Source,
                    sink: processor.kind == Kind::Sink,
                    partitions: partitions.unwrap_or_default(),
                    discovers: source.is_some_and(|source| source.connector.discovers()),
                }
            })
            .collect();
        // Neighbours on different executors, so that channels are of both kinds.
        let place = |task: TaskId| ExecutorId((task.index + task.processor.0) % executors);
        let places = plan.tasks().map(|(task, _)| (task, place(task)));
        plan.placement = Placement::Fixed(places.collect());
        let options = TaskOptions { align: true, quarantine: QuarantinePolicy::Keep };
        let program = Program { graph: job.graph, factories: job.factories, options };
        let program = Arc::new(program);
        let executor = |id| Executor::new(ExecutorId(id), Arc::clone(&program), 0);
        Self {
            master: AppMaster::new(plan),
            executors: (0..executors).map(executor).collect(),
            turns: vec![None; executors as usize],
            timeout: None,
            alive: true,
            zombie: false,
            arrivals: BTreeMap::new(),
            disk: BTreeMap::new(),
        }
    }

    /// One of its machines hears something.
    pub(crate) fn hear(
        &mut self,
        (now, files): (Time, &mut dyn Files),
        place: Place,
        input: Input,
        fx: &mut Vec<Effect>,
    ) {
        match place {
            Place::AppMaster => self.master.handle(now, input, fx),
            Place::Executor(id) => {
                let executor = &mut self.executors[id.0 as usize];
                with_world(now, files, |world| executor.handle(input, world, fx));
            }
        }
    }

    /// An executor's turn: all of its tasks, or only one of them.
    pub(crate) fn turn(
        &mut self,
        (now, files): (Time, &mut dyn Files),
        executor: usize,
        single: Option<&mut Random>,
        fx: &mut Vec<Effect>,
    ) -> Activity {
        let executor = &mut self.executors[executor];
        with_world(now, files, |world| match single {
            Some(random) if executor.task_count() > 1 => {
                let place = random.place(executor.task_count());
                executor.turn(place, world, fx);
                Activity::Busy
            }
            _ => executor.run(world, fx),
        })
    }
}

fn with_world<R>(now: Time, files: &mut dyn Files, call: impl FnOnce(&mut World<'_>) -> R) -> R {
    let mut guard = Catch;
    // The calendar and the clock go alike here.
    let wall = WallTime((now.0 / 1_000) as i64);
    call(&mut World { now, wall, files, guard: &mut guard })
}
