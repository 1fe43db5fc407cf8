//! A user's own job on a simulated cluster, from an ordinary test.
//!
//! ```ignore
//! #[test]
//! fn survives_anything() {
//!     sim::Cluster::new(my_job)
//!         .file("in/words.txt", "to be or not to be")
//!         .check(sim::Seeds::first(1_000));
//! }
//! ```
//!
//! [`Cluster::turmoil`] runs the same job in the loop of production, over simulated sockets: a seed
//! takes about a hundred times as long.

mod expect;
mod seeds;
mod work;

use std::fmt::Display;
use std::path::{Path, PathBuf};

use gear_connectors::model::ModelDisk;
use gear_core::dsl::App;
use gear_core::host::NoFaults;
use gear_core::time::Duration;

use crate::cluster::{self, Faults, Real, Setup, Wanted};
use crate::report::{Ensemble, Options, Report};
use crate::shrink::shrink;
use crate::sweep::{Limits, sweep};
use crate::turmoil;
use expect::Expect;
pub use expect::{Difference, Lines, compare, modelled};
pub use seeds::{Replay, Seeds};
use work::UserWork;

/// How a user's job is called in the simulator.
const NAME: &str = "job";
/// How long faults happen.
const SAFETY: Duration = Duration::from_secs(2);
/// The most that an executor's turn takes: the input is spread over the time of the faults.
const TURN: Duration = Duration::from_millis(10);
/// Runs that the shrinking of a failure takes at most.
const SHRINK_RUNS: u32 = 60;
/// More faults than a seed ever plans.
const PLANNED_MAX: usize = 32;

type Describe<'a, O> = Box<dyn Fn(&mut App<O>) -> Result<(), String> + Sync + 'a>;

/// A cluster that is being set up.
pub struct Cluster<'a, O = ()> {
    describe: Describe<'a, O>,
    options: O,
    masters: usize,
    workers: usize,
    executors: u32,
    parallelism: u32,
    epoch_interval: Duration,
    faults: Faults,
    files: ModelDisk,
    expect: Expect<'a>,
    trace: Option<PathBuf>,
    turmoil: bool,
}

impl<'a, O: Clone + Default + Sync> Cluster<'a, O> {
    /// A cluster of three masters and four workers that runs a job on two executors, with its
    /// options as they are by default. The function is called by every process, as the job's
    /// binary is on a real cluster.
    pub fn new<E: Display>(job: impl Fn(&mut App<O>) -> Result<(), E> + Sync + 'a) -> Self {
        Self::with_options(O::default(), job)
    }
}

impl<'a, O: Clone + Sync> Cluster<'a, O> {
    /// As [`Self::new`], with other options.
    pub fn with_options<E: Display>(
        options: O,
        job: impl Fn(&mut App<O>) -> Result<(), E> + Sync + 'a,
    ) -> Self {
        Self {
            describe: Box::new(move |app| job(app).map_err(|error| error.to_string())),
            options,
            masters: 3,
            workers: 4,
            executors: 2,
            parallelism: 2,
            epoch_interval: Duration::from_millis(200),
            faults: Faults::all(),
            files: ModelDisk::new(0),
            expect: Expect::Model,
            trace: None,
            turmoil: false,
        }
    }

    /// Nodes that vote, besides the workers; an odd number.
    #[must_use]
    pub const fn masters(mut self, masters: usize) -> Self {
        self.masters = masters;
        self
    }

    /// Nodes that run the job.
    #[must_use]
    pub const fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Executors of the job.
    #[must_use]
    pub const fn executors(mut self, executors: u32) -> Self {
        self.executors = executors;
        self
    }

    /// Tasks of a processor that does not set its own.
    #[must_use]
    pub const fn parallelism(mut self, parallelism: u32) -> Self {
        self.parallelism = parallelism;
        self
    }

    /// Time between two epochs.
    #[must_use]
    pub const fn epoch_interval(mut self, interval: Duration) -> Self {
        self.epoch_interval = interval;
        self
    }

    /// Kinds of faults that may happen; all unless set. Each seed draws some of them.
    #[must_use]
    pub const fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// A file that the job can read.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.put(path, content);
        self
    }

    /// The lines of all files that the job should leave, in any order; what the reference model
    /// says unless set.
    #[must_use]
    pub fn expect_lines<L: Into<String>>(mut self, lines: impl IntoIterator<Item = L>) -> Self {
        self.expect = Expect::Given(lines.into_iter().map(Into::into).collect());
        self
    }

    /// What the job should leave, as a function that says what is wrong with it.
    #[must_use]
    pub fn expect<E: Display>(
        mut self,
        judge: impl Fn(&Lines) -> Result<(), E> + Sync + 'a,
    ) -> Self {
        let judge = move |lines: &Lines| judge(lines).map_err(|error| error.to_string());
        self.expect = Expect::Judge(Box::new(judge));
        self
    }

    /// Runs the job in the loop of production over simulated sockets, where a connection is one
    /// stream of bytes that is cut anywhere, instead of the direct simulator. Machines, faults and
    /// judgement are the same; a seed takes about a second, and means another run than in the
    /// direct simulator.
    #[must_use]
    pub const fn turmoil(mut self) -> Self {
        self.turmoil = true;
        self
    }

    /// Writes every step of the seed that is replayed to a file.
    #[must_use]
    pub fn trace(mut self, file: impl AsRef<Path>) -> Self {
        self.trace = Some(file.as_ref().to_owned());
        self
    }

    /// Runs the seeds, and gives what they came to.
    ///
    /// # Panics
    /// If the output of a seed is not what it should be, or if no fault fired: the message says
    /// which seed, what differs, and how to run it again.
    pub fn check(&self, seeds: Seeds) -> Ensemble {
        let work = match UserWork::new(self) {
            Ok(work) => work,
            Err(error) => panic!("the job cannot be simulated: {error}"),
        };
        let (range, wanted) = match seeds {
            Seeds::Range(range) => (range, Wanted::default()),
            Seeds::Replay(replay) => (replay.seed..replay.seed + 1, replay.wanted),
        };
        let alone = range.end - range.start == 1;
        let run = |seed, wanted: &Wanted, options: &Options| self.run(&work, seed, wanted, options);
        let options = Options { keep: self.trace.is_some() && alone, print: false };
        // The first failure is enough, and in the order of the seeds it is always the same one.
        let limits = Limits { failures: 1, ..Limits::default() };
        let all = sweep(
            range,
            &limits,
            |seed| run(seed, &wanted, &options),
            |report| {
                if let Some(file) = self.trace.as_ref().filter(|_| alone)
                    && let Err(error) = std::fs::write(file, report.trace.join("\n"))
                {
                    eprintln!("{}: {error}", file.display());
                }
            },
        );
        if let Some(seed) = all.failures.keys().next().copied() {
            let less = |wanted: &Wanted| run(seed, wanted, &Options::default());
            let small = shrink(&wanted, PLANNED_MAX, SHRINK_RUNS, &less);
            let (wanted, report) = small.unwrap_or_else(|| (wanted.clone(), less(&wanted)));
            panic!("{}", failure(seed, &wanted, &report));
        }
        assert!(
            all.seeds < FAULTLESS_MAX || !all.fired.is_empty() || self.faults == Faults::none(),
            "no fault fired in {} seeds, so they have shown nothing",
            all.seeds
        );
        all
    }

    fn run(&self, work: &UserWork<'_, O>, seed: u64, wanted: &Wanted, options: &Options) -> Report {
        let wanted = Wanted {
            masters: wanted.masters.or(Some(self.masters)),
            workers: wanted.workers.or(Some(self.workers)),
            faults: Some(self.faults),
            safety: Some(SAFETY),
            turn: Some(TURN),
            ..wanted.clone()
        };
        let setup = Setup::draw(seed, self.executors + 1, &wanted);
        let simulate = if self.turmoil { turmoil::simulate } else { cluster::simulate };
        let mut report = simulate(&setup, &Real::<NoFaults>::new(work), work, options);
        report.about = setup.describe();
        report
    }
}

/// So few seeds may all be without a fault.
const FAULTLESS_MAX: u64 = 20;

/// What a failed check says.
fn failure(seed: u64, wanted: &Wanted, report: &Report) -> String {
    let replay = Replay { seed, wanted: wanted.clone() };
    format!(
        "seed {seed}:\n  {}\nwith the least that makes it so: {}\nrun it again, and see every \
         step: .trace(\"trace.txt\").check(Seeds::replay(\"{replay}\"))",
        report.violations.join("\n  "),
        report.about,
    )
}
