//! The faults there are, as data: a run's faults are a list that can be shortened.

use gear_core::time::Duration;

use crate::random::Random;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident => $name:literal,)+) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum FaultKind {
            $($(#[$doc])* $kind,)+
        }

        impl core::str::FromStr for FaultKind {
            type Err = String;

            fn from_str(name: &str) -> Result<Self, String> {
                let kind = Self::ALL.iter().find(|kind| kind.name() == name);
                kind.copied().ok_or_else(|| format!("there is no fault `{name}`"))
            }
        }

        impl FaultKind {
            /// All kinds, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// Its name in reports and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// One connection breaks; both ends hear of it, each in its time.
    Disconnect => "disconnect",
    /// All connections of a machine break.
    DisconnectMachine => "disconnect-machine",
    /// What a machine sends takes long.
    Latency => "latency",
    /// Two machines hear nothing of each other for a while.
    Clog => "clog",
    /// Machines are clogged one by one and released in another order.
    Swizzle => "swizzle",
    /// Machines are parted in two groups whose size is drawn first.
    PartitionSize => "partition-size",
    /// Machines are parted in two groups, each machine by itself.
    PartitionNodes => "partition-nodes",
    /// One machine is cut off.
    Isolate => "isolate",
    /// One direction between two groups is cut.
    OneWay => "one-way",
    /// Bytes of one write come in pieces, and those of several at once.
    Chop => "chop",
    /// A machine loses its power, at a gap between two effects of its processes, and boots later.
    PowerLoss => "power-loss",
    /// The process of a node dies, and its children with it; it is started again.
    KillNode => "kill-node",
    /// An app master dies.
    KillAppMaster => "kill-app-master",
    /// An executor dies.
    KillExecutor => "kill-executor",
    /// The leading master's machine loses its power.
    KillLeader => "kill-leader",
    /// All masters are down for a while.
    KillMasters => "kill-masters",
    /// A leader's machine loses its power while the leader writes back what it has read.
    AmbushLeader => "ambush-leader",
    /// An app master dies while a record is on its way to the log, or has just arrived.
    AmbushAppMaster => "ambush-app-master",
    /// An executor dies while tasks are rolled back.
    AmbushExecutor => "ambush-executor",
    /// A machine stands still, and then hears everything at once.
    PauseMachine => "pause-machine",
    /// A process stands still, and then hears everything at once.
    PauseProcess => "pause-process",
    /// A machine boots with an empty disk.
    WipeDisk => "wipe-disk",
    /// Two machines boot with each other's disk.
    SwapDisks => "swap-disks",
    /// A bit of what a machine's disk holds is another after the boot.
    RotDisk => "rot-disk",
    /// A machine's disk refuses what is to be written.
    FillDisk => "fill-disk",
    /// A machine's disk takes long.
    SlowDisk => "slow-disk",
    /// The clocks of machines go too fast or too slow, by a tenth at most.
    Drift => "drift",
    /// The calendar of a machine jumps.
    ClockJump => "clock-jump",
    /// Requests to the checkpoint store fail.
    StoreErrors => "store-errors",
    /// Requests to the checkpoint store take effect and are answered with a failure.
    StoreLostReplies => "store-lost-replies",
    /// Requests to the checkpoint store take a hundred times as long, some longer than their
    /// author lives.
    StoreStragglers => "store-stragglers",
    /// The checkpoint store fails every request for a while.
    StoreOutage => "store-outage",
    /// What a dead process has asked of the connectors' file system is performed late.
    ZombieIo => "zombie-io",
    /// The connectors' file system takes long.
    SlowIo => "slow-io",
    /// A child process cannot be launched.
    SpawnFails => "spawn-fails",
    /// A child process takes long to be launched.
    SpawnSlow => "spawn-slow",
    /// A client repeats what was answered.
    Resubmit => "resubmit",
    /// What the leader says is heard only when its lease is over, and another one leads perhaps.
    HoldBackLeader => "hold-back-leader",
    /// The leader is cut off from the other masters; once another one acts, that loses its power
    /// and the first one is back.
    DeposeLeader => "depose-leader",
    /// All masters lose their power just when one of them was elected.
    AmbushElection => "ambush-election",
    /// A connection between two executors breaks under what was just written.
    AmbushLink => "ambush-link",
    /// A node gets a vote or loses it, by command.
    ChangeVoters => "change-voters",
    /// A worker is to have no work, or has work again, by command.
    DrainWorker => "drain-worker",
    /// An app is started again from where it is, by command.
    RestartApp => "restart-app",
    /// An epoch of an app is kept, by command.
    Savepoint => "savepoint",
    /// A master whose disk is lost gets a new data folder and its place back, by command.
    Readmit => "readmit",
    /// No broker of Kafka answers for a while.
    BrokerOutage => "broker-outage",
    /// A partition of a topic has no leader for a while, and then another one.
    LeaderMoves => "leader-moves",
    /// A broker ends a transaction that has been open for too long.
    TransactionTimeout => "transaction-timeout",
    /// What is asked of a producer is not carried out.
    BrokerRefuses => "broker-refuses",
    /// What is asked of a producer is carried out, and the answer is lost.
    BrokerLostReplies => "broker-lost-replies",
    /// A producer breaks, before or after it has carried something out.
    ProducerBreaks => "producer-breaks",
    /// The name node of an HDFS changes nothing for a while.
    SafeMode => "safe-mode",
    /// What a name node was asked for is done, and the answer is lost.
    NameNodeLostReplies => "name-node-lost-replies",
    /// What a task writes to an HDFS hangs for a while.
    WriterHangs => "writer-hangs",
    /// What a task writes to an HDFS fails, and its task with it.
    WriterLost => "writer-lost",
    /// Retention removes the oldest records of topics that apps read; which of them nobody has read
    /// yet are among them if the job has chosen what to do then.
    Retention => "retention",
    /// An app master is cut off from everything but an executor of its app, one without tasks if
    /// there is one.
    CutOffAppMaster => "cut-off-app-master",
}

impl FaultKind {
    /// What an operator does, by command.
    pub const COMMANDS: &[Self] =
        &[Self::ChangeVoters, Self::DrainWorker, Self::RestartApp, Self::Savepoint, Self::Readmit];

    /// What happens to the Kafka of apps that read or write one.
    pub const BROKERS: &[Self] = &[
        Self::BrokerOutage,
        Self::LeaderMoves,
        Self::TransactionTimeout,
        Self::BrokerRefuses,
        Self::BrokerLostReplies,
        Self::ProducerBreaks,
        Self::Retention,
    ];

    /// What happens to the HDFS of apps that write to one.
    pub const HDFS: &[Self] =
        &[Self::SafeMode, Self::NameNodeLostReplies, Self::WriterHangs, Self::WriterLost];
}

/// A set of kinds of faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults(u64);

impl Faults {
    /// Every kind.
    #[must_use]
    pub const fn all() -> Self {
        Self((1 << FaultKind::ALL.len()) - 1)
    }

    /// No fault.
    #[must_use]
    pub const fn none() -> Self {
        Self(0)
    }

    /// These kinds only.
    #[must_use]
    pub fn only(kinds: &[FaultKind]) -> Self {
        kinds.iter().fold(Self::none(), |faults, kind| faults.with(*kind))
    }

    /// Lost machines and processes, pauses included.
    #[must_use]
    pub fn crashes() -> Self {
        Self::between(FaultKind::PowerLoss, FaultKind::PauseProcess)
    }

    /// Everything that happens to connections.
    #[must_use]
    pub fn network() -> Self {
        Self::between(FaultKind::Disconnect, FaultKind::Chop)
    }

    fn between(first: FaultKind, last: FaultKind) -> Self {
        Self::only(&FaultKind::ALL[first as usize..=last as usize])
    }

    /// But these kinds.
    #[must_use]
    pub fn without_all(self, kinds: &[FaultKind]) -> Self {
        kinds.iter().fold(self, |faults, kind| faults.without(*kind))
    }

    /// And this kind.
    #[must_use]
    pub const fn with(self, kind: FaultKind) -> Self {
        Self(self.0 | 1 << kind as u64)
    }

    /// But this kind.
    #[must_use]
    pub const fn without(self, kind: FaultKind) -> Self {
        Self(self.0 & !(1 << kind as u64))
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// True if the kind is in it.
    #[must_use]
    pub const fn has(self, kind: FaultKind) -> bool {
        self.0 & (1 << kind as u64) != 0
    }

    /// The kinds in it.
    pub fn kinds(self) -> impl Iterator<Item = FaultKind> {
        FaultKind::ALL.iter().copied().filter(move |kind| self.has(*kind))
    }

    /// As a number, for a replay code.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// From a number; bits that mean nothing are left out.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::all().0)
    }
}

/// A fault that will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When, from the beginning.
    pub at: Duration,
    /// What.
    pub kind: FaultKind,
    /// For how long.
    pub lasts: Duration,
    /// Draws whom it meets, and how.
    pub salt: u64,
}

impl Planned {
    /// The draws of this fault: the same however many others there are.
    #[must_use]
    pub const fn random(&self) -> Random {
        Random::new(self.salt)
    }

    /// For how long it hinders those that it does not end: who is without power, or has lost a
    /// process, is counted for itself.
    #[must_use]
    pub(crate) fn hinders(&self) -> Duration {
        match self.kind {
            FaultKind::Latency
            | FaultKind::Clog
            | FaultKind::PartitionSize
            | FaultKind::PartitionNodes
            | FaultKind::Isolate
            | FaultKind::OneWay
            | FaultKind::CutOffAppMaster
            | FaultKind::PauseMachine
            | FaultKind::PauseProcess
            | FaultKind::FillDisk
            | FaultKind::SlowDisk
            | FaultKind::StoreOutage => self.lasts,
            FaultKind::Swizzle => self.lasts * 2,
            FaultKind::HoldBackLeader | FaultKind::DeposeLeader => DEPOSED_MAX,
            FaultKind::ChangeVoters
            | FaultKind::DrainWorker
            | FaultKind::RestartApp
            | FaultKind::Savepoint
            | FaultKind::Readmit => ORDER_LASTS,
            _ => Duration::ZERO,
        }
    }
}

/// Kinds that are an event with a time; the others are rates.
const EVENTS: &[FaultKind] = &[
    FaultKind::Disconnect,
    FaultKind::Disconnect,
    FaultKind::DisconnectMachine,
    FaultKind::Latency,
    FaultKind::Clog,
    FaultKind::Swizzle,
    FaultKind::PartitionSize,
    FaultKind::PartitionNodes,
    FaultKind::Isolate,
    FaultKind::OneWay,
    FaultKind::PowerLoss,
    FaultKind::PowerLoss,
    FaultKind::KillNode,
    FaultKind::KillAppMaster,
    FaultKind::KillAppMaster,
    FaultKind::KillExecutor,
    FaultKind::KillExecutor,
    FaultKind::KillLeader,
    FaultKind::KillMasters,
    FaultKind::PauseMachine,
    FaultKind::PauseProcess,
    FaultKind::WipeDisk,
    FaultKind::SwapDisks,
    FaultKind::RotDisk,
    FaultKind::FillDisk,
    FaultKind::SlowDisk,
    FaultKind::ClockJump,
    FaultKind::StoreOutage,
];
/// Kinds that have a time and are drawn apart: a seed plans what it did before there were these.
const ELECTIONS: &[FaultKind] = &[FaultKind::HoldBackLeader, FaultKind::DeposeLeader];

/// What an operator does to a cluster that suffers, drawn apart as well.
const ORDERS: &[FaultKind] = &[
    FaultKind::ChangeVoters,
    FaultKind::ChangeVoters,
    FaultKind::ChangeVoters,
    FaultKind::DrainWorker,
    FaultKind::DrainWorker,
    FaultKind::RestartApp,
    FaultKind::Savepoint,
    FaultKind::Savepoint,
    FaultKind::Readmit,
    FaultKind::Readmit,
];

/// What happens to brokers and name nodes, drawn apart as well.
const OUTAGES: &[FaultKind] =
    &[FaultKind::BrokerOutage, FaultKind::LeaderMoves, FaultKind::LeaderMoves, FaultKind::SafeMode];

/// What brokers do with old records, drawn apart as well.
const REMOVALS: &[FaultKind] = &[FaultKind::Retention];

/// Partitions with an app master in the smaller part, drawn apart as well.
const CUT_OFFS: &[FaultKind] = &[FaultKind::CutOffAppMaster];

/// For so long what an operator has ordered is under way, at most, unless something goes wrong.
const ORDER_LASTS: Duration = Duration::from_secs(5);
/// A leader that is to be deposed is cut off for so long at most.
pub(super) const DEPOSED_MAX: Duration = Duration::from_secs(4);
/// Most faults of a run.
const PLANNED_MAX: u64 = 16;
/// Most orders of a run.
const ORDERS_MAX: u64 = 8;
/// Most faults of a run that are about brokers and name nodes.
const OUTAGES_MAX: u64 = 4;
/// Most times in a run that old records are removed.
const REMOVALS_MAX: u64 = 6;
/// Most times in a run that an app master is cut off.
const CUT_OFFS_MAX: u64 = 3;
/// Most faults of a run that are about elections.
const ELECTIONS_MAX: u64 = 3;

/// Kinds that are drawn together, how many faults of a run they are at most, and the part of its
/// randomness that draws them.
pub(super) const PLANS: &[((&[FaultKind], u64), u64)] = &[
    ((EVENTS, PLANNED_MAX), 103),
    ((ELECTIONS, ELECTIONS_MAX), 105),
    ((ORDERS, ORDERS_MAX), 107),
    ((OUTAGES, OUTAGES_MAX), 108),
    ((REMOVALS, REMOVALS_MAX), 109),
    ((CUT_OFFS, CUT_OFFS_MAX), 110),
];

/// What is left of a set in one run: some kinds are off entirely in each.
#[must_use]
pub(super) fn swarm(allowed: Faults, random: &mut Random) -> Faults {
    let share = random.pick(&[150, 400, 400, 700]);
    FaultKind::ALL
        .iter()
        .filter(|kind| {
            let on = random.permille(share);
            on && allowed.has(**kind)
        })
        .fold(Faults::none(), |faults, kind| faults.with(*kind))
}

/// So many faults of some kinds at most, in the order of their times.
#[must_use]
pub(super) fn plan(
    (kinds, most): (&[FaultKind], u64),
    faults: Faults,
    span: Duration,
    random: &mut Random,
) -> Vec<Planned> {
    let kinds: Vec<FaultKind> = kinds.iter().copied().filter(|kind| faults.has(*kind)).collect();
    if kinds.is_empty() {
        return Vec::new();
    }
    // Wildly different weights: each kind is the main one in some runs.
    let weights: Vec<u64> = kinds.iter().map(|_| random.pick(&[1, 1, 2, 5, 20])).collect();
    let total: u64 = weights.iter().sum();
    let nanos = span.as_nanos() as u64;
    let count = random.between(1, most);
    let mut planned: Vec<Planned> = (0..count)
        .map(|_| {
            let mut draw = random.below(total);
            let place = weights.iter().position(|weight| match draw.checked_sub(*weight) {
                Some(left) => {
                    draw = left;
                    false
                }
                None => true,
            });
            Planned {
                at: Duration::from_nanos(random.below(nanos)),
                kind: kinds[place.expect("the draw is below the sum of the weights")],
                lasts: Duration::from_millis(random.pick(&[50, 400, 1_500, 4_000, 9_000])),
                salt: random.next(),
            }
        })
        .collect();
    planned.sort_by_key(|planned| planned.at);
    planned
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn sets_hold_what_is_put_into_them() {
        let all = Faults::all();
        assert_eq!(all.kinds().count(), FaultKind::ALL.len());
        assert!(!all.without(FaultKind::Clog).has(FaultKind::Clog));
        assert_eq!(Faults::from_bits(u64::MAX), all);
        assert!(Faults::crashes().has(FaultKind::KillLeader));
        assert!(!Faults::crashes().has(FaultKind::WipeDisk));
        assert!(Faults::network().has(FaultKind::OneWay));
    }

    #[test]
    fn every_kind_is_planned_in_some_run_and_off_in_others() {
        let mut met = BTreeSet::new();
        let mut without: BTreeSet<FaultKind> = BTreeSet::new();
        for seed in 0..500 {
            let mut random = Random::new(seed);
            let faults = swarm(Faults::all(), &mut random);
            let span = Duration::from_secs(10);
            let mut planned = Vec::new();
            for (drawn, _) in PLANS {
                let some = plan(*drawn, faults, span, &mut random);
                assert!(some.is_sorted_by_key(|planned| planned.at));
                planned.extend(some);
            }
            assert!(planned.iter().all(|planned| faults.has(planned.kind)));
            met.extend(planned.iter().map(|planned| planned.kind));
            without.extend(FaultKind::ALL.iter().filter(|kind| !faults.has(**kind)));
        }
        let mut timed = PLANS.iter().flat_map(|((kinds, _), _)| *kinds);
        assert!(timed.all(|kind| met.contains(kind)), "{met:?}");
        assert_eq!(without.len(), FaultKind::ALL.len());
    }
}
