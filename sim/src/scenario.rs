//! What can be run, by name.

use gear_core::host::NoFaults;
use gear_core::time::Duration;

use crate::cluster::{self, FaultKind, Faults, Planned, Setup, Swarm, Wanted};
use crate::direct;
use crate::random::Random;
use crate::report::{Options, Report};
use crate::turmoil;

/// Something that a seed settles a run of.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Runs a seed.
    pub run: fn(u64, &Wanted, &Options) -> Report,
    /// Faults and machines can be taken away from it.
    pub shrinks: bool,
}

/// Everything that can be run.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: direct::NAME,
        about: "one process: an app master and its executors",
        run: |seed, _, options| direct::run(seed, options),
        shrinks: false,
    },
    Scenario {
        name: direct::TOPICS_NAME,
        about: "one process with a job from Kafka to Kafka, and other parallelism at its restarts",
        run: |seed, _, options| direct::run_topics(seed, options),
        shrinks: false,
    },
    Scenario {
        name: cluster::NAME,
        about: "masters, workers and apps on machines, under everything that may happen to them",
        run: cluster::run,
        shrinks: true,
    },
    Scenario {
        name: cluster::TOPICS_NAME,
        about: "the cluster with a job from Kafka to Kafka, and what may happen to brokers too",
        run: cluster::run_topics,
        shrinks: true,
    },
    Scenario {
        name: cluster::FOLDERS_NAME,
        about: "the cluster with a job that writes to an HDFS, and what may happen to that too",
        run: cluster::run_folders,
        shrinks: true,
    },
    Scenario {
        name: turmoil::NAME,
        about: "the same, in the loop of production and over simulated sockets",
        run: turmoil::run,
        shrinks: true,
    },
    Scenario {
        name: "leader-lost",
        about: "the leader is lost again and again, and nothing of an app is",
        run: |seed, wanted, options| scripted("leader-lost", seed, wanted, options, leader_lost),
        shrinks: true,
    },
    Scenario {
        name: "executor-lost",
        about: "an executor is lost, and another one while the tasks go back",
        run: |seed, wanted, options| {
            scripted("executor-lost", seed, wanted, options, executor_lost)
        },
        shrinks: true,
    },
    Scenario {
        name: "retry-budget",
        about: "executors are lost for minutes, with health between: the app is never given up",
        run: |seed, wanted, options| scripted("retry-budget", seed, wanted, options, retry_budget),
        shrinks: true,
    },
    Scenario {
        name: "idle-source",
        about: "a source has nothing to read for a long time, and epochs commit",
        run: idle_source,
        shrinks: true,
    },
    Scenario {
        name: "masters-down",
        about: "all masters are down for long, and epochs commit",
        run: masters_down,
        shrinks: true,
    },
    Scenario {
        name: CUT_OFF,
        about: "an app master is cut off with an executor, and tasks go back on both sides",
        run: app_master_cut_off::<NoFaults>,
        shrinks: true,
    },
    Scenario {
        name: DAG_VERSION,
        about: "each leader is lost with an app that it has just acknowledged, and the app runs",
        run: dag_version_after_leader_loss::<NoFaults>,
        shrinks: true,
    },
];

/// The scenario of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// A cluster of three masters and three workers on which only what a script says goes wrong.
fn scripted(
    name: &'static str,
    seed: u64,
    wanted: &Wanted,
    options: &Options,
    script: fn(&mut Setup, &mut Random),
) -> Report {
    let swarm = Swarm::draw(seed).undisturbed(None);
    scripted_with::<NoFaults>(name, (seed, &swarm), wanted, options, script)
}

/// The same for a workload, with or without a bug in the engine.
fn scripted_with<F: gear_core::host::Faults>(
    name: &'static str,
    (seed, swarm): (u64, &Swarm),
    wanted: &Wanted,
    options: &Options,
    script: fn(&mut Setup, &mut Random),
) -> Report {
    let faults = Faults::only(&[FaultKind::Chop, FaultKind::StoreStragglers]);
    let plain = Wanted {
        masters: wanted.masters.or(Some(3)),
        workers: wanted.workers.or(Some(3)),
        faults: Some(faults),
        ..wanted.clone()
    };
    let mut setup = Setup::draw(seed, swarm.slots(), &plain);
    script(&mut setup, &mut Random::for_part(seed, 130));
    let place = setup.planned.iter().enumerate();
    let left = place.filter(|(place, _)| !wanted.without.contains(place));
    setup.planned = left.map(|(_, planned)| *planned).collect();
    cluster::run_setup::<F>(name, &setup, swarm, wanted, options)
}

/// A fault of this kind at a time, for a time, both in milliseconds.
fn planned(kind: FaultKind, at: u64, lasts: u64, random: &mut Random) -> Planned {
    let (at, lasts) = (Duration::from_millis(at), Duration::from_millis(lasts));
    Planned { at, kind, lasts, salt: random.next() }
}

fn leader_lost(setup: &mut Setup, random: &mut Random) {
    setup.safety = Duration::from_secs(20);
    let mut at = 300;
    while at < 18_000 {
        let lasts = random.between(100, 3_000);
        setup.planned.push(planned(FaultKind::KillLeader, at, lasts, random));
        at += random.between(1_000, 6_000);
    }
}

fn executor_lost(setup: &mut Setup, random: &mut Random) {
    setup.safety = Duration::from_secs(12);
    setup.rates.ambush_executor = 1_000;
    for _ in 0..3 {
        let at = random.between(1_000, 10_000);
        setup.planned.push(planned(FaultKind::KillExecutor, at, 0, random));
    }
    setup.planned.sort_by_key(|planned| planned.at);
}

fn retry_budget(setup: &mut Setup, random: &mut Random) {
    setup.safety = Duration::from_secs(240);
    let mut at = 1_000;
    while at < 235_000 {
        setup.planned.push(planned(FaultKind::KillExecutor, at, 0, random));
        at += random.between(4_000, 10_000);
    }
}

/// Epochs that have to commit in a quarter of the time of the idle source.
fn idle_source(seed: u64, wanted: &Wanted, options: &Options) -> Report {
    let report = scripted("idle-source", seed, wanted, options, |setup, _| {
        setup.safety = Duration::from_secs(30);
        setup.feeds = false;
    });
    enough_epochs(report, Duration::from_secs(15), seed)
}

fn masters_down(seed: u64, wanted: &Wanted, options: &Options) -> Report {
    let report = scripted("masters-down", seed, wanted, options, |setup, random| {
        setup.safety = Duration::from_secs(30);
        setup.planned.push(planned(FaultKind::KillMasters, 4_000, 20_000, random));
    });
    let name = "an epoch committed while all masters were down";
    let committed = report.rare.get(name).copied().unwrap_or(0);
    let mut report = enough_epochs(report, Duration::from_secs(15), seed);
    if committed == 0 && Swarm::draw(seed).interval().is_some() && report.violations.is_empty() {
        report.violations.push("no epoch committed while all masters were down".into());
    }
    report
}

/// The name of [`app_master_cut_off`].
const CUT_OFF: &str = "app-master-cut-off";

/// An app master is cut off together with an executor of its app again and again, and takes tasks
/// back there, while its successor takes the same tasks over from where they run.
#[must_use]
pub fn app_master_cut_off<F: gear_core::host::Faults>(
    seed: u64,
    wanted: &Wanted,
    options: &Options,
) -> Report {
    let swarm = Swarm::draw(seed).undisturbed(None);
    scripted_with::<F>(CUT_OFF, (seed, &swarm), wanted, options, |setup, random| {
        setup.safety = Duration::from_secs(30);
        let mut at = random.between(500, 3_000);
        while at < 28_000 {
            // The executor that is launched anew has no tasks yet.
            if random.permille(700) {
                setup.planned.push(planned(FaultKind::KillExecutor, at, 0, random));
                at += random.between(500, 2_500);
            }
            let lasts = random.between(500, 6_000);
            setup.planned.push(planned(FaultKind::CutOffAppMaster, at, lasts, random));
            at += lasts + random.between(500, 3_000);
        }
    })
}

/// The name of [`dag_version_after_leader_loss`].
const DAG_VERSION: &str = "dag-version-after-leader-loss";

/// Apps that are submitted one after the other, each to another leader.
const SUBMISSIONS: u32 = 3;

/// The failure that Gearpump had of its own: a user's change was acknowledged, the leader was lost,
/// and its successor went on with the version before. Each leader that acknowledges a submission is
/// lost right after the client has heard of it, and some are cut off from the others before. The
/// oracles require that every later leader knows, and every worker launches, exactly what was
/// submitted, once, and that the committed output is right.
#[must_use]
pub fn dag_version_after_leader_loss<F: gear_core::host::Faults>(
    seed: u64,
    wanted: &Wanted,
    options: &Options,
) -> Report {
    let swarm = Swarm::draw(seed).undisturbed(Some(SUBMISSIONS));
    let mut report =
        scripted_with::<F>(DAG_VERSION, (seed, &swarm), wanted, options, |setup, random| {
            setup.safety = Duration::from_secs(20);
            setup.rates.strike_acknowledger = 1_000;
            setup.rates.resubmit = 300;
            let mut at = random.between(300, 1_500);
            while at < 10_000 {
                let lasts = random.between(200, 1_500);
                setup.planned.push(planned(FaultKind::Isolate, at, lasts, random));
                at += lasts + random.between(200, 1_500);
            }
        });
    if !report.rare.contains_key(cluster::ACKNOWLEDGER_LOST) && report.violations.is_empty() {
        report.violations.push("no leader was lost with what it had acknowledged".into());
    }
    report
}

/// Epochs commit in at least this time, whatever else happens.
fn enough_epochs(mut report: Report, span: Duration, seed: u64) -> Report {
    let Some(interval) = Swarm::draw(seed).interval() else { return report };
    // An epoch begins when the one before has been taken: slow ones take a few intervals.
    let least = span.as_millis() / interval.max(Duration::from_secs(1)).as_millis() / 2;
    if u128::from(report.epochs) < least && report.violations.is_empty() {
        let epochs = report.epochs;
        report.violations.push(format!("only {epochs} epochs committed, of at least {least}"));
    }
    report
}
