//! A job in one process: executors as threads, and the app master on the thread that called.

mod clock;
mod executor;
mod fresh;
mod guard;
mod io;
mod lock;
mod mailbox;
mod master;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use gear_connectors::schemes::AnyFiles;
use gear_core::api::files::Files;
use gear_core::app::{AppPlan, Guarantee, Placement, ProcessorPlan};
use gear_core::checkpoint::record::Identity;
use gear_core::dag::{Graph, Kind};
use gear_core::dsl::Job;
use gear_core::effect::{IoError, Level, Place};
use gear_core::executor::{Executor, Program};
use gear_core::id::{ExecutorId, TaskId};
use gear_core::message::Input;
use gear_core::task::{QuarantinePolicy, TaskOptions};
use object_store::ObjectStore;
use tokio::sync::mpsc::UnboundedSender;

use crate::options::{BadRecord, GuaranteeOption, RuntimeOptions};
use crate::report::Report;
use crate::store::{CheckpointStore, StoreError};

pub use guard::CatchPanic;
pub(crate) use guard::unwinds;
use mailbox::Mailbox;
pub(crate) use master::stop_on_interrupt;

type Inbox = Mailbox<Input>;

/// Where each thread reaches the others.
#[derive(Clone)]
struct Wires {
    master: Arc<Inbox>,
    executors: Vec<Arc<Inbox>>,
    store: UnboundedSender<store::Request>,
    io: io::IoSender,
}

impl Wires {
    fn inbox(&self, place: Place) -> &Inbox {
        match place {
            Place::AppMaster => &self.master,
            Place::Executor(id) => &self.executors[id.0 as usize],
        }
    }
}

/// Why a job did not run, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A panic would end the process.
    #[error(
        "this program was built with panic = \"abort\", so no bad record could be put aside: build \
         it with panic = \"unwind\""
    )]
    PanicAborts,
    /// The state folder is in use.
    #[error(
        "the state folder {} is in use by process {holder}: wait for it, stop it, or take it over \
         with --take-over", folder.display()
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The process that holds it.
        holder: String,
    },
    /// The state folder cannot be used.
    #[error("the state folder {} cannot be used: {reason}", folder.display())]
    StateFolder {
        /// The folder.
        folder: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// A source has nothing to read.
    #[error("the source {name} cannot be read: {error}")]
    Source {
        /// The source.
        name: String,
        /// What is wrong.
        error: IoError,
    },
    /// The job was asked to be exactly once by name, and cannot be.
    #[error(
        "the source {0} cannot be read a second time, so the job cannot be exactly once: run it \
         with --guarantee at-least-once, and know that a crash loses what was being read"
    )]
    NotRewindable(String),
    /// A thread could not be started.
    #[error("a thread could not be started: {0}")]
    Thread(std::io::Error),
    /// The checkpoint store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The job ended by itself.
    #[error("{0}")]
    Failed(gear_core::app::Failure),
    /// What is left of an earlier run could not be removed.
    #[error("cannot start over: {0}")]
    Fresh(String),
    /// What was put aside could not be listed.
    #[error("the records that were put aside cannot be listed: {0}")]
    Quarantine(String),
}

/// Runs a job on this process's threads until it ends. `arguments` are the job's own, as people
/// read them: a state folder belongs to one job with one set of arguments.
///
/// # Errors
/// [`RunError`], for the user.
pub fn run(job: &Job, arguments: &str, options: &RuntimeOptions) -> Result<Report, RunError> {
    if !unwinds() {
        return Err(RunError::PanicAborts);
    }
    let folder = state_folder(&job.graph.name, options);
    let _lock = lock::StateLock::take(&folder, options.take_over)?;
    let objects = match &options.checkpoints {
        Some(url) => remote(url, &job.graph.name)?,
        None => crate::store::local(&folder).map_err(|error| RunError::StateFolder {
            folder: folder.clone(),
            reason: error.to_string(),
        })?,
    };
    if !options.take_over && options.checkpoints.is_none() {
        for part in ["log", "state", "quarantine"].map(|part| folder.join(part)) {
            // It is in nobody's way if it stays.
            if let Err(error) = crate::store::sweep(&part) {
                tracing::debug!(target: "gear", "{} is not swept: {error}", part.display());
            }
        }
    }
    if options.fresh {
        fresh::remove(objects.as_ref()).map_err(RunError::Fresh)?;
    }
    check_guarantee(job, options)?;
    let mut files = AnyFiles::new(crate::drivers::notice);
    let plan = plan(job, arguments, options, &mut files)?;
    let total = total_bytes(job, &mut files);
    let store = store::StoreDriver::start(Arc::clone(&objects)).map_err(RunError::Thread)?;
    let io = io::IoDriver::start().map_err(RunError::Thread)?;
    let threads = options.threads() as usize;
    let wires = Wires {
        master: Arc::new(Inbox::new()),
        executors: (0..threads).map(|_| Arc::new(Inbox::new())).collect(),
        store: store.sender(),
        io: io.sender(),
    };
    let program = Arc::new(program(job, options));
    let memory = usize::try_from(options.memory()).unwrap_or(usize::MAX) / threads;
    let mut shown = Vec::new();
    let mut running = Vec::new();
    for number in 0..threads {
        let show = Arc::new(executor::Shown::default());
        shown.push(Arc::clone(&show));
        running.push(spawn(number, &program, memory, &wires, show)?);
    }
    let ended = master::run(plan, &wires, &shown, total, options);
    for thread in running {
        // A panic outside the user's code has been printed by the thread.
        let _ = thread.join();
    }
    drop(wires);
    drop((store, io));
    let mut report = master::report(ended, &shown, &job.graph)?;
    report.state = folder;
    if let Some(target) = &options.quarantine {
        report.quarantine_file =
            crate::quarantine::export(objects.as_ref(), target).map_err(RunError::Quarantine)?;
    }
    Ok(report)
}

fn spawn(
    number: usize,
    program: &Arc<Program>,
    memory: usize,
    wires: &Wires,
    shown: Arc<executor::Shown>,
) -> Result<JoinHandle<()>, RunError> {
    let id = ExecutorId(number as u32);
    let program = Arc::clone(program);
    let inbox = Arc::clone(&wires.executors[number]);
    let wires = wires.clone();
    std::thread::Builder::new()
        .name(format!("gear-executor-{number}"))
        .spawn(move || {
            let executor = Executor::new(id, program, memory);
            let task = std::panic::AssertUnwindSafe(|| {
                executor::run(executor, &wires, &inbox, &shown);
            });
            if std::panic::catch_unwind(task).is_err() {
                let reason = format!(
                    "executor {number} panicked outside of a job's operator; this is a defect of \
                     Gear: please report it"
                );
                let task = TaskId::default();
                let attempt = gear_core::id::Attempt::default();
                let message = gear_core::message::Message::Failed { task, attempt, reason };
                let from = Place::Executor(id);
                wires.master.send(Input::Message { from, message });
            }
        })
        .map_err(RunError::Thread)
}

/// The folder of a job in a checkpoint store, which has to do what a commit log needs.
fn remote(url: &str, job: &str) -> Result<Arc<dyn ObjectStore>, RunError> {
    let store = CheckpointStore::open(url)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(RunError::Thread)?;
    runtime.block_on(store.probe(&format!("{:016x}", incarnation())))?;
    Ok(store.job(job))
}

fn state_folder(name: &str, options: &RuntimeOptions) -> PathBuf {
    options.state.clone().unwrap_or_else(|| Path::new("gear-state").join(name))
}

pub(crate) fn program(job: &Job, options: &RuntimeOptions) -> Program {
    let quarantine = match options.on_bad_record {
        BadRecord::Keep => QuarantinePolicy::Keep,
        BadRecord::Fail => QuarantinePolicy::Fail,
    };
    let align = options.guarantee() == Guarantee::ExactlyOnce;
    Program {
        graph: job.graph.clone(),
        factories: job.factories.clone(),
        options: TaskOptions { align, quarantine },
    }
}

/// A source that cannot be read again caps the guarantee, whatever was asked for.
fn check_guarantee(job: &Job, options: &RuntimeOptions) -> Result<(), RunError> {
    for source in &job.sources {
        if !source.connector.rewinds() {
            if options.guarantee == Some(GuaranteeOption::ExactlyOnce) {
                return Err(RunError::NotRewindable(source.name.clone()));
            }
            let text = format!(
                "the source {} cannot be read a second time: a crash loses what was being read",
                source.name
            );
            notice(Level::Warning, &text);
        }
    }
    for sink in &job.sinks {
        if !sink.connector.transactional() {
            let text = format!("the sink {} may repeat output after a crash", sink.name);
            notice(Level::Info, &text);
        }
    }
    Ok(())
}

pub(crate) fn plan(
    job: &Job,
    arguments: &str,
    options: &RuntimeOptions,
    files: &mut dyn Files,
) -> Result<AppPlan, RunError> {
    let identity = Identity {
        app: job.graph.name.clone(),
        digest: xxhash_rust::xxh3::xxh3_64(arguments.as_bytes()),
        arguments: arguments.into(),
    };
    let mut plan = AppPlan::new(identity, incarnation());
    plan.key_groups = options.key_groups;
    let interval = options.epoch_interval;
    plan.epoch_interval = (!interval.is_zero()).then_some(interval);
    plan.guarantee = options.guarantee();
    plan.drop_state = options.drop_state;
    plan.fall_back = options.fall_back;
    plan.placement = Placement::Fixed(placement(&job.graph, options.threads()));
    for (id, processor) in job.graph.with_ids() {
        let source = job.sources.iter().find(|source| source.processor == id);
        let partitions = match source {
            None => Vec::new(),
            Some(source) => source
                .connector
                .partitions(files)
                .map_err(|error| RunError::Source { name: source.name.clone(), error })?,
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
    Ok(plan)
}

/// Where tasks run: those of one index together where there are as many as threads, the others in
/// turn, so that a pipeline of single tasks uses every thread.
fn placement(graph: &Graph, threads: u32) -> Vec<(TaskId, ExecutorId)> {
    let mut next = 0;
    let mut placement = Vec::new();
    for (processor, described) in graph.with_ids() {
        let offset = if described.parallelism >= threads {
            0
        } else {
            next += described.parallelism;
            next - described.parallelism
        };
        for index in 0..described.parallelism {
            let executor = ExecutorId((index + offset) % threads);
            placement.push((TaskId { processor, index }, executor));
        }
    }
    placement
}

fn total_bytes(job: &Job, files: &mut dyn Files) -> Option<u64> {
    let totals: Option<Vec<u64>> =
        job.sources.iter().map(|source| source.connector.total_bytes(files)).collect();
    totals.map(|totals| totals.iter().sum())
}

/// A number that no other run of this job has: which app master wrote a record.
fn incarnation() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    // Keyed with entropy of the operating system.
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.write_i64(clock::wall().0);
    hasher.finish()
}

/// Tells the user.
pub(crate) fn notice(level: Level, text: &str) {
    match level {
        Level::Info => tracing::info!(target: "gear", "{text}"),
        Level::Warning => tracing::warn!(target: "gear", "{text}"),
        Level::Error => tracing::error!(target: "gear", "{text}"),
    }
}
