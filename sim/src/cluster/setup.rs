//! What a seed means for a cluster: its machines, how long things take, and which faults there are.

use std::collections::BTreeSet;

use gear_core::control::Resources;
use gear_core::time::Duration;

use super::fault::{FaultKind, Faults, PLANS, Planned, plan, swarm};
use crate::random::Random;

/// One run of a cluster, settled before it begins.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The seed.
    pub seed: u64,
    /// Nodes that vote; they are the first machines.
    pub masters: usize,
    /// What each machine has to give.
    pub machines: Vec<Resources>,
    /// How long things take.
    pub slow: Slow,
    /// Faults that come at a rate.
    pub rates: Rates,
    /// Which kinds of faults there are.
    pub faults: Faults,
    /// Faults that have a time.
    pub planned: Vec<Planned>,
    /// How long faults happen.
    pub safety: Duration,
    /// The input grows while faults happen; else nothing is there before the core is healed.
    pub feeds: bool,
    /// How long nothing new happens, before only a core of the machines is healed.
    pub quiet: Duration,
    /// How long the core may take to come to its end.
    pub patience: Duration,
}

/// The most that things take, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Slow {
    /// A message between two machines.
    pub network: u64,
    /// An executor's turn.
    pub turn: u64,
    /// A request to the checkpoint store, and its answer.
    pub store: u64,
    /// A request to the connectors' file system, and its answer.
    pub io: u64,
    /// A write to a machine's own disk.
    pub disk: u64,
    /// The launch of a child.
    pub spawn: u64,
    /// From the death of a node's process to its successor.
    pub restart: u64,
}

/// Of a thousand, how many go wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// Writes that are cut, and arrivals that are joined.
    pub chop: u64,
    /// Store requests that fail before they do anything.
    pub store_errors: u64,
    /// Store requests that take effect and are answered with a failure.
    pub store_lost_replies: u64,
    /// Store requests that take a hundred times as long.
    pub store_stragglers: u64,
    /// Requests of dead processes to the connectors' file system that are performed all the same.
    pub zombie_io: u64,
    /// Requests to the connectors' file system that take a hundred times as long.
    pub slow_io: u64,
    /// Launches that fail.
    pub spawn_fails: u64,
    /// Launches that take long.
    pub spawn_slow: u64,
    /// Requests that a client repeats after they were answered.
    pub resubmit: u64,
    /// The most that clocks are wrong, in millionths.
    pub drift: u64,
    /// Leaders that are lost while they write back.
    pub ambush_leader: u64,
    /// App masters that are lost with a record on its way.
    pub ambush_app_master: u64,
    /// Roll-backs in which an executor is lost.
    pub ambush_executor: u64,
    /// Submissions whose leader is lost as soon as the client has heard that they are known. Only
    /// scripts set it.
    pub strike_acknowledger: u64,
    /// Elections after which all masters are lost.
    pub ambush_election: u64,
    /// Writes from executor to executor under which the connection breaks.
    pub ambush_link: u64,
    /// Requests to producers that are not carried out.
    pub broker_refuses: u64,
    /// Requests to producers that are carried out, and the answer is lost.
    pub broker_lost_replies: u64,
    /// Requests to producers before or after which the producer breaks.
    pub producer_breaks: u64,
    /// Requests to a name node that are carried out, and the answer is lost.
    pub name_node_lost_replies: u64,
    /// Requests to an HDFS that hang.
    pub writer_hangs: u64,
    /// Writes to an HDFS that fail.
    pub writer_lost: u64,
}

/// What a user wants of a run; the seed draws the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// So many masters.
    pub masters: Option<usize>,
    /// So many workers besides.
    pub workers: Option<usize>,
    /// Kinds of faults that may happen; each run draws some of them.
    pub faults: Option<Faults>,
    /// Kinds that are switched off in what the seed has drawn, and nothing else is moved by it.
    pub off: Faults,
    /// Places in the list of planned faults that are left out.
    pub without: BTreeSet<usize>,
    /// How long faults happen.
    pub safety: Option<Duration>,
    /// The most that an executor's turn takes.
    pub turn: Option<Duration>,
}

impl Wanted {
    /// As arguments of the command line, each with a space before it.
    #[must_use]
    pub fn arguments(&self) -> String {
        let mut text = String::new();
        let mut add = |name: &str, values: Vec<String>| {
            if !values.is_empty() {
                text.push_str(&format!(" --{name} {}", values.join(",")));
            }
        };
        add("masters", self.masters.iter().map(ToString::to_string).collect());
        add("workers", self.workers.iter().map(ToString::to_string).collect());
        add("without", self.off.kinds().map(|kind| kind.name().to_owned()).collect());
        add("skip", self.without.iter().map(ToString::to_string).collect());
        text
    }
}

/// Slots of a machine that gives any.
const SLOTS: u32 = 4;

impl Setup {
    /// What a seed means, so far as it is not wanted otherwise. `executors` of the app have to fit.
    #[must_use]
    pub fn draw(seed: u64, executors: u32, wanted: &Wanted) -> Self {
        let there = Faults::all().without_all(FaultKind::BROKERS).without_all(FaultKind::HDFS);
        Self::draw_of(there, seed, executors, wanted)
    }

    /// The same where apps have brokers to which something may happen.
    #[must_use]
    pub fn draw_with_brokers(seed: u64, executors: u32, wanted: &Wanted) -> Self {
        Self::draw_of(Faults::all().without_all(FaultKind::HDFS), seed, executors, wanted)
    }

    /// The same where apps have an HDFS to which something may happen.
    #[must_use]
    pub fn draw_with_hdfs(seed: u64, executors: u32, wanted: &Wanted) -> Self {
        Self::draw_of(Faults::all().without_all(FaultKind::BROKERS), seed, executors, wanted)
    }

    /// The same for kinds of faults for which there is something that they can meet.
    fn draw_of(there: Faults, seed: u64, executors: u32, wanted: &Wanted) -> Self {
        let mut random = Random::for_part(seed, 101);
        let masters = random.pick(&[1, 3, 3, 3, 3, 5]);
        let workers = random.between(1, 4) as usize;
        // Masters that give slots too.
        let together = random.permille(300) && wanted.workers.is_none();
        let masters = wanted.masters.unwrap_or(masters);
        let workers = wanted.workers.unwrap_or(workers);
        let slots = SLOTS.max(executors + 1);
        let machine = |slots| Resources { slots, memory: 1 << 30 };
        let mut machines = vec![machine(if together { slots } else { 0 }); masters];
        machines.extend((0..workers).map(|_| machine(slots)));
        let allowed = wanted.faults.unwrap_or(Faults::all()).and(there);
        let drawn = swarm(allowed, &mut Random::for_part(seed, 102));
        let faults = wanted.off.kinds().fold(drawn, Faults::without);
        let safety = random.pick(&[2_000, 6_000, 10_000]);
        let safety = wanted.safety.unwrap_or(Duration::from_millis(safety));
        let plan = |&(kinds, part)| plan(kinds, drawn, safety, &mut Random::for_part(seed, part));
        let mut planned: Vec<Planned> = PLANS.iter().flat_map(plan).collect();
        planned.sort_by_key(|planned| planned.at);
        let keep = |(place, planned): (usize, Planned)| {
            let kept = !wanted.without.contains(&place) && faults.has(planned.kind);
            kept.then_some(planned)
        };
        Self {
            seed,
            masters,
            machines,
            slow: Slow::draw(&mut random, wanted),
            rates: Rates::draw(faults, &mut random, &mut Random::for_part(seed, 106)),
            faults,
            planned: planned.into_iter().enumerate().filter_map(keep).collect(),
            safety,
            feeds: true,
            quiet: Duration::from_millis(random.pick(&[100, 1_000, 4_000])),
            patience: Duration::from_secs(120),
        }
    }

    /// What it is, in a line.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { masters, machines, planned, .. } = self;
        let kinds: Vec<&str> = self.faults.kinds().map(FaultKind::name).collect();
        let planned = planned
            .iter()
            .map(|it| format!("{} at {:?} for {:?}", it.kind.name(), it.at, it.lasts));
        let planned: Vec<String> = planned.collect();
        format!(
            "{masters} masters, {} machines; faults: {}; planned: {}",
            machines.len(),
            kinds.join(" "),
            planned.join(", ")
        )
    }

    /// Masters that make a majority.
    #[must_use]
    pub const fn majority(&self) -> usize {
        self.masters / 2 + 1
    }

    /// The machines that give slots.
    pub fn workers(&self) -> impl Iterator<Item = usize> {
        (0..self.machines.len()).filter(|place| self.machines[*place].slots > 0)
    }
}

impl Slow {
    fn draw(random: &mut Random, wanted: &Wanted) -> Self {
        let turn = random.pick(&[10_000, 100_000, 1_000_000]);
        Self {
            turn: wanted.turn.map_or(turn, |turn| turn.as_nanos() as u64),
            network: random.pick(&[100_000, 1_000_000, 5_000_000]),
            store: random.pick(&[100_000, 2_000_000, 20_000_000]),
            io: random.pick(&[100_000, 1_000_000, 10_000_000]),
            disk: random.pick(&[50_000, 1_000_000, 10_000_000]),
            spawn: random.pick(&[1_000_000, 30_000_000, 300_000_000]),
            restart: random.pick(&[50_000_000, 500_000_000]),
        }
    }
}

impl Rates {
    /// `later` draws what came later, so that nothing else is moved by it.
    fn draw(faults: Faults, random: &mut Random, later: &mut Random) -> Self {
        let pick = |random: &mut Random, kind: FaultKind, choices: &[u64]| {
            let rate = random.pick(choices);
            if faults.has(kind) { rate } else { 0 }
        };
        let mut rate = |kind, choices: &[u64]| pick(random, kind, choices);
        let mut later = |kind, choices: &[u64]| pick(later, kind, choices);
        Self {
            chop: rate(FaultKind::Chop, &[20, 200, 700]),
            store_errors: rate(FaultKind::StoreErrors, &[10, 50, 150]),
            store_lost_replies: rate(FaultKind::StoreLostReplies, &[10, 50, 100]),
            store_stragglers: rate(FaultKind::StoreStragglers, &[10, 100]),
            zombie_io: rate(FaultKind::ZombieIo, &[300, 1_000]),
            slow_io: rate(FaultKind::SlowIo, &[10, 100]),
            spawn_fails: rate(FaultKind::SpawnFails, &[100, 400]),
            spawn_slow: rate(FaultKind::SpawnSlow, &[100, 500]),
            resubmit: rate(FaultKind::Resubmit, &[500]),
            drift: rate(FaultKind::Drift, &[1_000, 20_000, 100_000]),
            ambush_leader: rate(FaultKind::AmbushLeader, &[300]),
            ambush_app_master: rate(FaultKind::AmbushAppMaster, &[20, 100]),
            ambush_executor: rate(FaultKind::AmbushExecutor, &[200, 500]),
            strike_acknowledger: 0,
            ambush_election: later(FaultKind::AmbushElection, &[500]),
            ambush_link: later(FaultKind::AmbushLink, &[5, 20]),
            broker_refuses: later(FaultKind::BrokerRefuses, &[20, 200]),
            broker_lost_replies: later(FaultKind::BrokerLostReplies, &[20, 200]),
            producer_breaks: later(FaultKind::ProducerBreaks, &[20, 100]),
            name_node_lost_replies: later(FaultKind::NameNodeLostReplies, &[20, 200]),
            writer_hangs: later(FaultKind::WriterHangs, &[5, 50]),
            writer_lost: later(FaultKind::WriterLost, &[5, 20]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_is_switched_off_takes_no_other_with_it() {
        let all = Setup::draw(7, 3, &Wanted::default());
        let kind = all.planned[0].kind;
        let off = Wanted { off: Faults::only(&[kind]), ..Wanted::default() };
        let less = Setup::draw(7, 3, &off).planned;
        let kept: Vec<_> = all.planned.into_iter().filter(|it| it.kind != kind).collect();
        assert_eq!(less, kept);
    }

    #[test]
    fn what_is_wanted_moves_nothing_else() {
        let all = Setup::draw(7, 3, &Wanted::default());
        let less = Wanted { without: BTreeSet::from([0]), ..Wanted::default() };
        let less = Setup::draw(7, 3, &less);
        assert_eq!(less.planned, all.planned[1..]);
        assert_eq!(format!("{:?}", less.slow), format!("{:?}", all.slow));
        let mut sizes: Vec<usize> = (0..100)
            .map(|seed| Setup::draw(seed, 1, &Wanted::default()))
            .inspect(|setup| assert!(setup.workers().count() > 0))
            .map(|setup| setup.masters)
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        assert_eq!(sizes, [1, 3, 5]);
    }
}
