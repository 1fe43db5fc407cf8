//! The workload of a seed: a random job whose input grows while the cluster suffers.

use std::borrow::Cow;

use gear_connectors::faults::Faults;
use gear_connectors::kafka::model::{ModelCluster, ModelConsumers};
use gear_connectors::model::ModelDisk;
use gear_core::control::{AppSpec, Wish};
use gear_core::dsl::Job;
use gear_core::time::Duration;

use super::brokers::Brokers;
use super::jobs::{Jobs, spec};
use super::subject::{LaterWish, Output, Work};
use crate::direct::Config;
use crate::model::{self, Expected, Workload};
use crate::oracle::{output, quarantine};
use crate::random::{Random, mix};
use crate::workload::build::{Build, Built, build};
use crate::workload::folders::{self, Folders};
use crate::workload::pace::Pace;
use crate::workload::sink;
use crate::workload::source::{Entry, Gate, Rows};
use crate::workload::topics::{self, Topics};

/// A random job, and how many apps run it.
pub struct Swarm {
    config: Config,
    gate: Gate,
    apps: u32,
    executors: u32,
    epoch_interval: Option<Duration>,
    /// What the user wants of the apps while they run.
    wishes: Vec<LaterWish>,
    /// Topics of Kafka in the place of sources and sinks.
    topics: Option<Topics>,
    /// A seeded bug: producers fence nobody.
    unfenced: bool,
    /// Folders of an HDFS in the place of sinks.
    folders: Option<Folders>,
}

/// Of a thousand jobs from Kafka to Kafka, those whose topics get more partitions.
const GROWING: u64 = 150;
/// Time between the epochs of such a job that would have none.
const GROWING_INTERVAL: Duration = Duration::from_millis(100);
/// A binary is named by so many bytes, eight by eight.
const BINARY_DIGESTS: usize = 4;
/// Of a thousand apps, those that the user ends in each of the ways.
const WISHES: u64 = 25;
/// Milliseconds of a run within which an app is ended.
const WISHES_SPAN: u64 = 8_000;

impl Swarm {
    /// What a seed means.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut config = Config::draw(seed);
        let mut random = Random::for_part(seed, 120);
        let gate = Gate::default();
        for rows in &mut config.sources {
            rows.gate = gate.clone();
            // A source that waits for more looks again after this: not too often.
            rows.pace.gap = Duration::from_millis(random.pick(&[2, 10, 30]));
        }
        let interval = random.pick(&[20, 100, 100, 300, 1_000]);
        let never = random.permille(20);
        let apps = if random.permille(150) { 2 } else { 1 };
        Self {
            config,
            gate,
            apps,
            executors: random.pick(&[1, 2, 2, 3, 4]),
            epoch_interval: (!never).then_some(Duration::from_millis(interval)),
            wishes: draw_wishes(apps, &mut Random::for_part(seed, 121)),
            topics: None,
            unfenced: false,
            folders: None,
        }
    }

    /// What a seed means for a job from Kafka to Kafka, with these bugs in its connectors.
    #[must_use]
    pub fn draw_topics<F: Faults>(seed: u64) -> Self {
        let mut swarm = Self::draw(seed);
        let sources = std::mem::take(&mut swarm.config.sources);
        swarm.config.sources = sources.into_iter().map(topics::shortened).collect();
        let mut topics = Topics::draw::<F>(seed);
        topics.grows = Random::for_part(seed, 146).permille(GROWING);
        if topics.grows {
            // What is given at the end of a job would never come, and nobody ends it.
            swarm.config.plan.steps.clear();
            swarm.epoch_interval.get_or_insert(GROWING_INTERVAL);
            swarm.wishes.clear();
        }
        // Of an app that is ended early nobody knows what it has read.
        topics.overtaken &= swarm.wishes.is_empty();
        swarm.topics = Some(topics);
        swarm
    }

    /// What a seed means for a job that writes to an HDFS, with these bugs in its sinks.
    #[must_use]
    pub fn draw_folders<F: Faults>(seed: u64) -> Self {
        let mut swarm = Self::draw(seed);
        let sources = std::mem::take(&mut swarm.config.sources);
        let short: Vec<Rows> = sources.iter().cloned().map(topics::shortened).collect();
        let folders = Folders::draw::<F>(seed, swarm.config.roll, &short);
        swarm.config.sources = if folders.reads.is_some() { short } else { sources };
        swarm.folders = Some(folders);
        swarm
    }

    /// The same with producers that fence nobody.
    #[must_use]
    pub const fn unfenced(mut self) -> Self {
        self.unfenced = true;
        self
    }

    /// The same for so many apps, none of which the user ends.
    #[must_use]
    pub fn undisturbed(mut self, apps: Option<u32>) -> Self {
        self.apps = apps.unwrap_or(self.apps);
        self.wishes.clear();
        self
    }

    /// Executors of all apps, and their app masters.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.apps * (self.executors + 1)
    }

    /// What it is, in a line.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { apps, executors, wishes, .. } = self;
        let wishes = wishes.iter().map(|later| {
            let LaterWish { place, wish, after } = later;
            format!(", app-{place} is to {wish:?} after {after:?}")
        });
        let wishes: String = wishes.collect();
        format!("{apps} apps on {executors} executors{wishes}, {}", self.config.plan.describe())
    }

    /// Time between two epochs.
    #[must_use]
    pub const fn interval(&self) -> Option<Duration> {
        self.epoch_interval
    }

    /// An app with a version and arguments of its own: one is never mistaken for another.
    fn spec(&self, number: u32) -> AppSpec {
        let version = mix(self.config.seed ^ u64::from(number));
        AppSpec {
            binary: version.to_le_bytes().repeat(BINARY_DIGESTS),
            arguments: vec![format!("--app={number}"), format!("--version={version:016x}")],
            ..spec(&format!("app-{number}"), self.executors)
        }
    }

    fn built(&self, process: u64) -> Built {
        let (_, parallelism) = self.config.shape(0);
        build(
            &self.config.plan,
            &Build {
                sources: self.config.sources.clone(),
                parallelism,
                shift: 0,
                key_groups: self.config.key_groups,
                watermarks: self.config.watermarks.clone(),
                window: self.config.window,
                lateness: self.config.lateness,
                files: sink::Files { process, roll: self.config.roll },
                topics: self.topics,
                folders: self.folders,
            },
        )
    }

    /// As which bytes sources read an entry, if not as a row.
    fn bytes(&self) -> Option<fn(&Entry) -> Vec<u8>> {
        let reads = self.folders.is_some_and(|folders| folders.reads.is_some());
        match self.topics {
            Some(_) => Some(topics::value),
            None => reads.then_some(folders::line as fn(&Entry) -> Vec<u8>),
        }
    }

    /// A cluster of Kafka with the input, and what the output goes to.
    fn cluster(&self) -> Option<ModelCluster> {
        let topics = self.topics.as_ref()?;
        Some(topics.cluster(&self.config.sources, &self.built(0)))
    }
}

impl Jobs for Swarm {
    fn job(&self, process: u64) -> Result<Job, String> {
        Ok(self.built(process).job)
    }

    fn key_groups(&self) -> u32 {
        self.config.key_groups
    }

    fn epoch_interval(&self) -> Option<Duration> {
        self.epoch_interval
    }
}

impl Work for Swarm {
    fn specs(&self) -> Vec<AppSpec> {
        (0..self.apps).map(|number| self.spec(number)).collect()
    }

    fn wishes(&self) -> Vec<LaterWish> {
        self.wishes.clone()
    }

    fn files(&self) -> ModelDisk {
        if let Some(folders) = &self.folders {
            let mut disk = ModelDisk::hdfs(self.config.seed);
            folders.fill(&mut disk, &self.config.sources);
            return disk;
        }
        let mut disk = ModelDisk::new(self.config.seed);
        if let Some(cluster) = self.cluster() {
            disk.offer_kafka(ModelConsumers::new(cluster, self.config.seed));
        }
        disk
    }

    fn brokers(&self) -> Option<Brokers> {
        Some(Brokers::new(self.cluster()?, self.topics?, self.unfenced))
    }

    fn grow(&self, cluster: &ModelCluster, random: &mut Random) -> bool {
        let sources = self.config.sources.as_slice();
        self.topics.is_some_and(|topics| topics.grow(cluster, sources, random))
    }

    fn goes_on(&self) -> bool {
        self.topics.is_some_and(|topics| topics.grows)
    }

    fn is_through(&self, left: &Output<'_>) -> bool {
        let (Some(brokers), Some(topics)) = (left.topics, &self.topics) else { return false };
        let built = self.built(0);
        let input = (self.config.sources.as_slice(), &built);
        topics.is_through(brokers.input(), input, (left.commits, left.store))
    }

    fn pace(&self) -> Pace {
        let topics = self.topics.map(|topics| topics.pace);
        let folders = self.folders.and_then(|folders| folders.reads).map(|reads| reads.pace);
        topics.or(folders).unwrap_or(Pace::ALL)
    }

    fn feed(&self, permille: u64) {
        self.gate.open(permille);
    }

    fn punctual(&self) -> bool {
        self.config.plan.punctual
    }

    fn judge(&self, left: &Output<'_>) -> (Vec<String>, u64) {
        let built = self.built(0);
        let part = left.is_part();
        let mut violations = Vec::new();
        let mut sources = Cow::Borrowed(&self.config.sources);
        let aside = left.commits.quarantined(left.store).unwrap_or_else(|violation| {
            violations.push(violation);
            Vec::new()
        });
        let found = match (left.topics, &self.topics) {
            (Some(brokers), Some(topics)) => {
                let (found, wrong) = topics::found(topics, brokers.cluster(), &built, &sources);
                violations.extend(wrong);
                let input = (sources.as_slice(), built.ordered.as_slice());
                let overtaken = &brokers.overtaken;
                let (read, wrong) = topics::read_at_all(input, overtaken, &found, &aside, part);
                violations.extend(wrong);
                sources = Cow::Owned(read);
                found
            }
            _ if self.folders.is_some() => folders::found(left.disk, &mut violations),
            _ => rows(left.disk, &mut violations),
        };
        let known = Workload { built: &built, sources: &sources, bytes: self.bytes() };
        let expected: Expected =
            model::interpret(&built.job.model, &known).expect("the workload is known");
        let records = found.values().map(|rows| rows.len() as u64).sum();
        violations.extend(output::judge(&built.sinks, &expected, &found, part));
        violations.extend(quarantine::judge(&expected.quarantined, aside, part));
        (violations.into_iter().map(|it| format!("{}: {it}", left.app)).collect(), records)
    }
}

/// Some apps are stopped, some are killed, and some are killed after they were told to stop.
fn draw_wishes(apps: u32, random: &mut Random) -> Vec<LaterWish> {
    let mut wishes = Vec::new();
    for place in 0..apps as usize {
        let mut after = Duration::from_millis(random.below(WISHES_SPAN));
        for wish in [Wish::Stop, Wish::Kill] {
            if random.permille(WISHES) {
                wishes.push(LaterWish { place, wish, after });
                after += Duration::from_millis(random.below(WISHES_SPAN / 8));
            }
        }
        // Somebody who has no patience.
        if random.permille(WISHES) {
            wishes.push(LaterWish { place, wish: Wish::Stop, after });
            let soon = Duration::from_millis(random.pick(&[0, 200, 1_000]));
            wishes.push(LaterWish { place, wish: Wish::Kill, after: after + soon });
        }
    }
    wishes
}

/// The committed rows of every sink.
fn rows(disk: &ModelDisk, violations: &mut Vec<String>) -> output::Rows {
    let mut sinks = output::Rows::new();
    for path in disk.names().filter(|path| path.starts_with(sink::OUT)) {
        let name: Vec<&str> = path[sink::OUT.len()..].split('-').collect();
        let rows = sinks.entry(name[..2].join("-")).or_default();
        match sink::rows(disk.content(path).unwrap_or_default()) {
            Ok(more) => rows.extend(more),
            Err(error) => violations.push(format!("{path}: {error}")),
        }
    }
    sinks
}
