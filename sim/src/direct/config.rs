//! What a seed means: the job, its input, and which faults there are. Each fault is off entirely
//! in some runs, so that no fault hides what another would show.

use std::sync::Arc;

use gear_connectors::faults::Faults;
use gear_core::clock::Watermarks;
use gear_core::time::{Duration, Time};

use crate::random::{Random, mix};
use crate::workload::pace::Pace;
use crate::workload::plan::Plan;
use crate::workload::source::{self, Entry, Gate, PartitionData, Rows};
use crate::workload::topics::{Topics, shortened};

/// One run, settled before it begins.
#[derive(Clone, Debug)]
pub struct Config {
    /// The seed.
    pub seed: u64,
    /// The job.
    pub plan: Plan,
    /// What it reads.
    pub sources: Vec<Rows>,
    /// How watermarks follow.
    pub watermarks: Watermarks,
    /// The length of a window.
    pub window: Duration,
    /// How long a window takes records behind its end.
    pub lateness: Duration,
    /// Key groups.
    pub key_groups: u32,
    /// Executors and parallelism, one pair after the other process by process.
    pub shapes: Vec<(u32, u32)>,
    /// Time between epochs; none for no epoch but the last.
    pub epoch_interval: Option<Duration>,
    /// Bytes at which a sink's file is closed.
    pub roll: u64,
    /// Topics of Kafka in the place of sources and sinks.
    pub topics: Option<Topics>,
    /// Faults.
    pub faults: FaultPlan,
    /// How long things take, in nanoseconds: the most for a message, a turn, the store, the disk.
    pub slow: Slow,
}

/// The most that things take, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Slow {
    /// A message between two places.
    pub message: u64,
    /// An executor's turn.
    pub turn: u64,
    /// A request to the store, and its answer.
    pub store: u64,
    /// A request to the disk, and its answer.
    pub disk: u64,
}

/// Which faults there are, how often, and how many.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultPlan {
    /// Times that the process is killed.
    pub crashes: u64,
    /// Effects between two crashes, at most.
    pub crash_effects: u64,
    /// Of a thousand crashes, those in which the old process goes on for a while.
    pub zombies: u64,
    /// Times that the user asks for a stop.
    pub stops: u64,
    /// Of a thousand requests to the store, those that fail before they do anything.
    pub store_failures: u64,
    /// Of a thousand, those that take effect and are answered with a failure.
    pub store_lost_replies: u64,
    /// Of a thousand answers, those that come twice.
    pub duplicates: u64,
    /// Of a thousand requests, those that take a hundred times as long.
    pub stragglers: u64,
    /// Of a thousand turns, those in which only one task gets one.
    pub single_turns: u64,
    /// Times that the disk refuses a request, which stops the job.
    pub disk_failures: u64,
    /// Parallelism and executors change at a restart.
    pub rescale: bool,
    /// Of a thousand requests to producers, those that are not carried out.
    pub broker_refuses: u64,
    /// Of a thousand, those that are carried out, and the answer is lost.
    pub broker_lost_replies: u64,
    /// Of a thousand, those before or after which the producer breaks.
    pub producer_breaks: u64,
    /// Of a thousand crashes, those after which old records of the input are removed.
    pub retention: u64,
}

/// Of a thousand jobs from Kafka to Kafka, those whose topics get more partitions.
const GROWING: u64 = 150;
/// Time between the epochs of such a job that would have none.
const GROWING_INTERVAL: Duration = Duration::from_millis(20);

impl Config {
    /// What a seed means.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::for_part(seed, 1);
        let plan = Plan::draw(&mut random);
        let faults = FaultPlan::draw(&mut Random::for_part(seed, 2));
        let bound = Duration::from_micros(random.pick(&[0, 5, 50, 400]));
        let sources = draw_sources(&plan, bound, &mut random);
        let told = if plan.punctual { bound } else { bound / random.pick(&[2, 4, 1_000]) };
        let key_groups = random.pick(&[1, 3, 8, 16, 64]) as u32;
        let shape = |random: &mut Random| {
            let parallelism = random.pick(&[1, 2, 2, 3]).min(key_groups);
            (random.between(1, 3) as u32, parallelism)
        };
        let first = shape(&mut random);
        let later = (0..7).map(|_| if faults.rescale { shape(&mut random) } else { first });
        let shapes = std::iter::once(first).chain(later).collect();
        let idle = (!plan.punctual && random.permille(500)).then(|| random.between(1, 20));
        let mut watermarks = Watermarks::bounded(told);
        if let Some(millis) = idle {
            watermarks = watermarks.idle_after(Duration::from_millis(millis));
        }
        let slow = Slow {
            message: random.pick(&[1_000, 100_000, 3_000_000]),
            turn: random.pick(&[1_000, 50_000, 1_000_000]),
            store: random.pick(&[10_000, 2_000_000, 30_000_000]),
            disk: random.pick(&[10_000, 1_000_000, 10_000_000]),
        };
        let interval = random.pick(&[1, 5, 20, 20, 50, 100, 0]);
        Self {
            seed,
            sources,
            watermarks,
            window: Duration::from_micros(random.pick(&[50, 200, 1_000])),
            lateness: Duration::from_micros(random.pick(&[0, 0, 50, 300])),
            key_groups,
            shapes,
            epoch_interval: (interval > 0).then(|| Duration::from_millis(interval)),
            roll: random.pick(&[0, 0, 200, 4_000, 1 << 40]),
            topics: None,
            plan,
            faults,
            slow,
        }
    }

    /// What a seed means for a job from Kafka to Kafka, with these bugs in its connectors.
    #[must_use]
    pub fn draw_topics<F: Faults>(seed: u64) -> Self {
        let mut config = Self::draw(seed);
        config.sources = config.sources.into_iter().map(shortened).collect();
        config.topics = Some(Topics::draw::<F>(seed));
        let mut random = Random::for_part(seed, 5);
        let mut some = |choices: &[u64]| {
            let (on, value) = (random.permille(500), random.pick(choices));
            if on { value } else { 0 }
        };
        config.faults.broker_refuses = some(&[20, 200]);
        config.faults.broker_lost_replies = some(&[20, 200]);
        config.faults.producer_breaks = some(&[20, 100]);
        config.faults.retention = some(&[300, 1_000]);
        config.grow(seed);
        config
    }

    /// In some runs the job copies topics whose partitions turn up while it runs, for ever.
    fn grow(&mut self, seed: u64) {
        let Some(topics) = self.topics.as_mut() else { return };
        topics.grows = Random::for_part(seed, 7).permille(GROWING);
        if topics.grows {
            // What is given at the end of a job would never come, and what turns up is late.
            self.plan.steps.clear();
            self.epoch_interval.get_or_insert(GROWING_INTERVAL);
            (self.faults.disk_failures, self.faults.retention) = (0, 0);
        }
    }

    /// The most records that a source reads in the so-manieth step.
    #[must_use]
    pub fn records_per_turn(&self, step: u64) -> usize {
        let pace = self.topics.map_or(Pace::ALL, |topics| topics.pace);
        pace.records(step, self.slow.turn)
    }

    /// The executors and the parallelism of a process.
    #[must_use]
    pub fn shape(&self, process: u64) -> (u32, u32) {
        self.shapes[process as usize % self.shapes.len()]
    }

    /// Before this time everything that is still possible has to be done, counted from the last
    /// fault.
    #[must_use]
    pub const fn patience(&self) -> Time {
        Time(600_000_000_000)
    }
}

impl FaultPlan {
    fn draw(random: &mut Random) -> Self {
        // Some runs are without any fault: they show what the engine does on its best day.
        if random.permille(50) {
            return Self::default();
        }
        let mut some = |choices: &[u64]| {
            let on = random.permille(500);
            let value = random.pick(choices);
            if on { value } else { 0 }
        };
        let store_failures = some(&[10, 50, 150]);
        let store_lost_replies = some(&[10, 50, 100]);
        let duplicates = some(&[20, 200]);
        let stragglers = some(&[10, 100]);
        let single_turns = some(&[300, 900]);
        let zombies = some(&[200, 600]);
        let stops = some(&[1, 1, 2]);
        let disk_failures = some(&[0, 0, 1]);
        let crashes = if random.permille(850) { random.between(1, 6) } else { 0 };
        Self {
            crashes,
            crash_effects: random.pick(&[15, 60, 200, 600, 2_000]),
            zombies,
            stops,
            store_failures,
            store_lost_replies,
            duplicates,
            stragglers,
            single_turns,
            disk_failures,
            rescale: random.permille(400),
            ..Self::default()
        }
    }
}

fn draw_sources(plan: &Plan, bound: Duration, random: &mut Random) -> Vec<Rows> {
    let total = match random.below(20) {
        0 => 0,
        1 => 1,
        2..=12 => random.between(2, 60),
        _ => random.between(20, 300),
    };
    let keys = random.pick(&[1, 2, 7, 30, 1_000]);
    let malformed = random.pick(&[0, 0, 0, 30, 200]);
    let heavy = random.permille(15);
    let total = if heavy { total.min(40) } else { total };
    let bound = bound.as_micros() as u64;
    let mut id = 0;
    let mut rows = || {
        let partitions = random.between(1, 4);
        let share = total / partitions + 1;
        let step = random.pick(&[1, 10, 60]);
        let mut partition = |number: u64, random: &mut Random| {
            let mut base = random.below(500);
            let entries = (0..random.below(share * 2)).map(|_| {
                id += 1;
                base += random.below(step * 2);
                if random.permille(malformed) {
                    return Entry::Malformed(format!("bad {id}").into_bytes());
                }
                // Half of all records are of one key.
                let key = if random.permille(500) { 0 } else { random.below(keys) };
                let time = 1_000 + base - random.below(bound.min(base) + 1);
                let len = if heavy { mix(id) % 120_000 } else { mix(id) % 4 };
                Entry::Row((id, key, time as i64, "x".repeat(len as usize)))
            });
            PartitionData { name: format!("part-{number}"), entries: entries.collect() }
        };
        let partitions = (0..partitions).map(|number| partition(number, random)).collect();
        let pace = source::Pace {
            burst: random.pick(&[1, 3, 10, 100]),
            gap: Duration::from_micros(random.pick(&[10, 500, 3_000])),
        };
        Rows { partitions: Arc::new(partitions), pace, gate: Gate::default() }
    };
    (0..plan.sources).map(|_| rows()).collect()
}
