//! The harness: an app master and an executor, driven to a standstill at each call.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use gear_connectors::model::ModelDisk;
use gear_core::app::{AppMaster, Outcome, Stage};
use gear_core::checkpoint::record::{EpochRecord, Record};
use gear_core::dsl::{App, Job, Settings};
use gear_core::effect::{Effect, Notice, Place, StoreReply, StoreRequest};
use gear_core::executor::{Activity, Executor};
use gear_core::flow::push::Quarantined;
use gear_core::id::{Epoch, ExecutorId};
use gear_core::limits::EPOCH_INTERVAL_DEFAULT;
use gear_core::message::Input;
use gear_core::task::{Figures, World, decode_quarantine};
use gear_core::time::{Duration, EventTime, Time, WallTime};

use crate::command::{self, NoOptions, Result};
use crate::embedded::{self, CatchPanic};
use crate::options::{BadRecord, RuntimeOptions};

/// Rounds in which a job has to come to a standstill: far more than any test's records need.
const ROUNDS_MAX: u32 = 10_000_000;
/// The name of the app.
const NAME: &str = "test";
/// The only executor.
const EXECUTOR: ExecutorId = ExecutorId(0);

/// A job that is run by hand; see the [module](super).
///
/// A call that lets the job work panics if the job fails, unless its name begins with `try_`.
pub struct Harness {
    describe: Box<dyn Fn(u32) -> Result<Job>>,
    options: RuntimeOptions,
    pub(super) job: Job,
    master: AppMaster,
    executor: Executor,
    /// What is on its way, in order.
    mail: VecDeque<(Place, Input)>,
    pub(super) store: BTreeMap<String, Vec<u8>>,
    disk: ModelDisk,
    guard: CatchPanic,
    now: Time,
    wall: WallTime,
    /// The app master's time: it moves when an epoch is asked for, and not else.
    master_now: Time,
    starts: u64,
    notices: Vec<Notice>,
}

/// A harness that is being set up; made by [`Harness::setup`].
pub struct Setup<O, F> {
    job_options: O,
    describe: F,
    options: RuntimeOptions,
    disk: ModelDisk,
    wall: WallTime,
}

impl<F: Fn(&mut App<NoOptions>) -> Result<()> + 'static> Setup<NoOptions, F> {
    fn new(describe: F) -> Self {
        Self::with(NoOptions {}, describe)
    }
}

impl<O: Clone + 'static, F: Fn(&mut App<O>) -> Result<()> + 'static> Setup<O, F> {
    fn with(job_options: O, describe: F) -> Self {
        let parallelism = Some(1);
        let options = RuntimeOptions { parallelism, threads: Some(1), ..RuntimeOptions::default() };
        let (disk, wall) = (ModelDisk::new(0), WallTime(0));
        Self { job_options, describe, options, disk, wall }
    }

    /// Tasks of a processor that does not set its own; 1 unless set.
    #[must_use]
    pub const fn parallelism(mut self, parallelism: u32) -> Self {
        self.options.parallelism = Some(parallelism);
        self
    }

    /// What happens to a record that does not decode or whose operator panics.
    #[must_use]
    pub const fn on_bad_record(mut self, policy: BadRecord) -> Self {
        self.options.on_bad_record = policy;
        self
    }

    /// A file that the job can read.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.disk.put(path, content);
        self
    }

    /// The wall-clock time at the beginning; 1970 unless set.
    #[must_use]
    pub const fn wall(mut self, wall: WallTime) -> Self {
        self.wall = wall;
        self
    }

    /// Starts the job: every task is restored and waits for records.
    ///
    /// # Errors
    /// What is wrong with the job, or why it cannot start.
    pub fn start(self) -> Result<Harness> {
        let Self { job_options, describe, options, disk, wall } = self;
        let describe = Box::new(move |parallelism| {
            let settings = Settings { parallelism, ..Settings::default() };
            command::build(NAME, job_options.clone(), settings, &describe)
        });
        Harness::start(describe, options, disk, wall)
    }
}

impl Harness {
    /// A job without options, with one task for each processor, started.
    ///
    /// # Errors
    /// What is wrong with the job, or why it cannot start.
    pub fn new(describe: impl Fn(&mut App<NoOptions>) -> Result<()> + 'static) -> Result<Self> {
        Self::setup(describe).start()
    }

    /// A job without options of its own.
    pub fn setup<F>(describe: F) -> Setup<NoOptions, F>
    where
        F: Fn(&mut App<NoOptions>) -> Result<()> + 'static,
    {
        Setup::new(describe)
    }

    /// A job with its options.
    pub fn setup_with<O, F>(options: O, describe: F) -> Setup<O, F>
    where
        O: Clone + 'static,
        F: Fn(&mut App<O>) -> Result<()> + 'static,
    {
        Setup::with(options, describe)
    }

    fn start(
        describe: Box<dyn Fn(u32) -> Result<Job>>,
        options: RuntimeOptions,
        mut disk: ModelDisk,
        wall: WallTime,
    ) -> Result<Self> {
        let job = describe(options.parallelism())?;
        let (master, executor) = machines(&job, &options, 1, &mut disk)?;
        let mut harness = Self {
            describe,
            options,
            job,
            master,
            executor,
            mail: VecDeque::new(),
            store: BTreeMap::new(),
            disk,
            guard: CatchPanic::new(),
            now: Time::ZERO,
            wall,
            master_now: Time::ZERO,
            starts: 1,
            notices: Vec::new(),
        };
        harness.begin()?;
        Ok(harness)
    }

    fn begin(&mut self) -> Result<()> {
        let mut fx = Vec::new();
        self.master.handle(self.master_now, Input::Start, &mut fx);
        self.perform(Place::AppMaster, fx);
        let is_under_way = |stage| matches!(stage, Stage::New | Stage::Opening | Stage::Deploying);
        while is_under_way(self.master.status(self.master_now).stage) {
            self.round();
        }
        self.check()
    }

    /// Lets the job work until it waits: for input, for a timer, or for nothing.
    pub fn run(&mut self) {
        self.try_run().unwrap_or_else(|error| panic!("{error}"));
    }

    /// As [`Self::run`].
    ///
    /// # Errors
    /// Why the job has failed.
    pub fn try_run(&mut self) -> Result<()> {
        // A source that had nothing looks again at a later time only.
        self.now = self.now + Duration::from_nanos(1);
        for _ in 0..ROUNDS_MAX {
            if !self.round() {
                return self.check();
            }
        }
        Err("the job does not come to a standstill: has it a source that never waits?".into())
    }

    /// Lets time pass, at once, and the job work: processing-time timers fire, and partitions fall
    /// idle.
    pub fn advance(&mut self, span: Duration) {
        self.now = self.now + span;
        self.wall = self.wall + span;
        self.run();
    }

    /// Lets the job work, takes an epoch, and commits it. Gives its number, or that of the last one
    /// if the job has finished.
    pub fn epoch(&mut self) -> u64 {
        self.run();
        let before = self.committed();
        while self.master.outcome().is_none() && self.committed() == before {
            self.master_now = self.master_now + EPOCH_INTERVAL_DEFAULT;
            self.run();
        }
        self.committed().0
    }

    /// Loses everything that is not committed, and starts the job again from its last epoch.
    pub fn crash_and_restore(&mut self) {
        self.crash_and_restore_with(self.options.parallelism());
    }

    /// As [`Self::crash_and_restore`], with another parallelism.
    pub fn crash_and_restore_with(&mut self, parallelism: u32) {
        self.try_crash_and_restore_with(parallelism).unwrap_or_else(|error| panic!("{error}"));
    }

    /// As [`Self::crash_and_restore_with`].
    ///
    /// # Errors
    /// Why the job cannot go on.
    pub fn try_crash_and_restore_with(&mut self, parallelism: u32) -> Result<()> {
        self.options.parallelism = Some(parallelism);
        self.starts += 1;
        self.mail.clear();
        self.disk.crash();
        self.job = (self.describe)(parallelism)?;
        (self.master, self.executor) =
            machines(&self.job, &self.options, self.starts, &mut self.disk)?;
        self.begin()
    }

    /// True if the input has ended and all output is committed.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let outcome = self.master.outcome();
        matches!(outcome, Some(Outcome::Finished { .. } | Outcome::AlreadyFinished { .. }))
    }

    /// The number of the last committed epoch; 0 if there is none.
    #[must_use]
    pub fn committed(&self) -> Epoch {
        match self.master.outcome() {
            Some(Outcome::AlreadyFinished { epoch }) => *epoch,
            _ => self.master.status(self.master_now).committed.unwrap_or_default(),
        }
    }

    /// The wall-clock time.
    #[must_use]
    pub const fn wall(&self) -> WallTime {
        self.wall
    }

    /// The event time that all tasks of a processor have reached; `MIN` if there is no processor of
    /// this name. A processor is called after its first operator.
    pub fn clock(&mut self, uid: &str) -> EventTime {
        let clocks = self.figures(uid).into_iter().map(|figures| figures.clock);
        clocks.min().unwrap_or(EventTime::MIN)
    }

    /// Bytes that the state of a processor holds.
    pub fn state_bytes(&mut self, uid: &str) -> u64 {
        self.figures(uid).iter().map(|figures| figures.state_bytes).sum()
    }

    /// Records that came too late for their windows, since the last start.
    pub fn late(&mut self, uid: &str) -> u64 {
        self.figures(uid).iter().map(|figures| figures.late).sum()
    }

    /// The figures of each task of a processor.
    pub fn figures(&mut self, uid: &str) -> Vec<Figures> {
        let processor = self.job.graph.with_ids().find(|(_, processor)| processor.uid == uid);
        let Some((id, _)) = processor else { return Vec::new() };
        let all = self.executor.figures().into_iter();
        all.filter(|(task, _)| task.processor == id).map(|(_, figures)| figures).collect()
    }

    /// What was put aside in committed epochs.
    ///
    /// # Panics
    /// If what was stored cannot be read.
    #[must_use]
    pub fn quarantined(&self) -> Vec<Quarantined> {
        let committed = self.committed().0;
        let of = |name: &str| name.rsplit_once("-e")?.1.parse::<u64>().ok();
        let objects = self.store.iter().filter(|(name, _)| name.starts_with("quarantine/"));
        let objects = objects.filter(|(name, _)| of(name).is_some_and(|epoch| epoch <= committed));
        objects.flat_map(|(_, bytes)| decode_quarantine(bytes).expect("it was stored so")).collect()
    }

    /// What the job has told its user so far.
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// The disk that the job reads from and writes to.
    pub const fn disk(&mut self) -> &mut ModelDisk {
        &mut self.disk
    }

    /// The record of the last committed epoch.
    pub(super) fn record(&self) -> Option<Box<EpochRecord>> {
        let log = self.store.iter().rev().filter(|(name, _)| name.starts_with("log/"));
        log.filter_map(|(_, bytes)| Record::decode(bytes).ok()).find_map(|record| match record {
            Record::Epoch(record) => Some(Box::new(record)),
            _ => None,
        })
    }

    fn check(&self) -> Result<()> {
        match self.master.outcome() {
            Some(Outcome::Failed(failure)) => Err(failure.to_string().into()),
            _ => Ok(()),
        }
    }

    /// Delivers what is on its way and gives each task a turn; false if all wait.
    fn round(&mut self) -> bool {
        let mut busy = false;
        while let Some((to, input)) = self.mail.pop_front() {
            busy = true;
            self.deliver(to, input);
        }
        if self.master.next_timeout().is_some_and(|(at, _)| at <= self.master_now) {
            busy = true;
            let mut fx = Vec::new();
            self.master.handle(self.master_now, Input::Timeout, &mut fx);
            self.perform(Place::AppMaster, fx);
        }
        if self.executor.is_stopped() {
            return busy || !self.mail.is_empty();
        }
        let mut fx = Vec::new();
        let Self { now, wall, disk, guard, .. } = self;
        let mut world = World { now: *now, wall: *wall, files: disk, guard };
        let activity = self.executor.run(&mut world, &mut fx);
        self.perform(Place::Executor(EXECUTOR), fx);
        let waits = match activity {
            Activity::Busy => false,
            Activity::Idle(until) => until.is_none_or(|until| until > self.now),
        };
        busy || !waits || !self.mail.is_empty()
    }

    fn deliver(&mut self, to: Place, input: Input) {
        let mut fx = Vec::new();
        match to {
            Place::AppMaster => self.master.handle(self.master_now, input, &mut fx),
            Place::Executor(_) => {
                let Self { now, wall, disk, guard, .. } = self;
                let mut world = World { now: *now, wall: *wall, files: disk, guard };
                self.executor.handle(input, &mut world, &mut fx);
            }
        }
        self.perform(to, fx);
    }

    fn perform(&mut self, from: Place, fx: Vec<Effect>) {
        for effect in fx {
            match effect {
                Effect::Send { to, message } => {
                    self.mail.push_back((to, Input::Message { from, message }));
                }
                Effect::Store { token, request } => {
                    let reply = self.stored(request);
                    self.mail.push_back((from, Input::Stored { token, reply }));
                }
                Effect::Io { task, token, request } => {
                    let result = self.disk.perform(&request).map(|()| Vec::new());
                    self.mail.push_back((from, Input::IoDone { task, token, result }));
                }
                Effect::Notice(notice) => self.notices.push(notice),
            }
        }
    }

    fn stored(&mut self, request: StoreRequest) -> StoreReply {
        match request {
            StoreRequest::Put { name, bytes } => {
                self.store.insert(name, bytes.to_vec());
                StoreReply::Done
            }
            StoreRequest::Create { name, .. } if self.store.contains_key(&name) => {
                StoreReply::Exists
            }
            StoreRequest::Create { name, bytes } => {
                self.store.insert(name, bytes.to_vec());
                StoreReply::Done
            }
            StoreRequest::Get { name } => {
                self.store.get(&name).cloned().map_or(StoreReply::Missing, StoreReply::Bytes)
            }
            StoreRequest::List { prefix } => {
                let names = self.store.keys().filter(|name| name.starts_with(&prefix));
                StoreReply::Names(names.cloned().collect())
            }
            StoreRequest::Delete { name } => {
                self.store.remove(&name);
                StoreReply::Done
            }
        }
    }
}

/// The machines of a job at its `start`-th start.
fn machines(
    job: &Job,
    options: &RuntimeOptions,
    start: u64,
    disk: &mut ModelDisk,
) -> Result<(AppMaster, Executor)> {
    let mut plan = embedded::plan(job, "", options, disk)?;
    plan.incarnation = start;
    let program = Arc::new(embedded::program(job, options));
    Ok((AppMaster::new(plan), Executor::new(EXECUTOR, program, 0)))
}
