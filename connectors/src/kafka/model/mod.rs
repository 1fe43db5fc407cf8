//! A cluster of Kafka in memory, whose clients meet what those of a real one meet: brokers that
//! are away, leaders that move, retention that overtakes a reader, topics that are made anew.

mod log;
mod producer;
mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use log::{Log, ModelRecord, Read};
pub use producer::{ModelProducers, ProducerFaults, ProducerFaultsMet};
pub use reader::ModelConsumers;
pub(crate) use reader::ModelOffer;

use super::error::KafkaError;

/// A cluster in memory; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct ModelCluster(Arc<Mutex<State>>);

/// What a cluster holds.
#[derive(Debug, Default)]
pub struct State {
    topics: BTreeMap<String, Topic>,
    /// No broker answers.
    down: bool,
    /// Partitions that no broker leads at present.
    leaderless: BTreeSet<(String, u32)>,
    /// Topics that nobody may read.
    refused: BTreeSet<String>,
    /// Thousandths of each log that consumers do not get yet.
    hidden: u64,
    /// What they do not get is not written yet.
    unwritten: bool,
    coordinator: producer::Coordinator,
}

#[derive(Debug)]
struct Topic {
    partitions: Vec<Log>,
}

impl ModelCluster {
    /// A cluster without topics.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A test that panics leaves whole logs behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a topic, or makes it anew and empty.
    pub fn create(&self, topic: &str, partitions: u32) {
        let partitions = (0..partitions).map(|_| Log::default()).collect();
        self.state().topics.insert(topic.to_owned(), Topic { partitions });
    }

    /// Removes a topic.
    pub fn delete(&self, topic: &str) {
        self.state().topics.remove(topic);
    }

    /// Gives a topic so many partitions; never fewer than it has.
    pub fn grow(&self, topic: &str, partitions: u32) {
        if let Some(topic) = self.state().topics.get_mut(topic) {
            let least = topic.partitions.len();
            topic.partitions.resize_with(least.max(partitions as usize), Log::default);
        }
    }

    /// All topics, each with how many partitions it has.
    #[must_use]
    pub fn topics(&self) -> Vec<(String, u32)> {
        let state = self.state();
        let topics = state.topics.iter();
        topics.map(|(name, topic)| (name.clone(), topic.partitions.len() as u32)).collect()
    }

    /// Appends a record that belongs to no transaction; gives its offset.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn append(&self, topic: &str, partition: u32, record: ModelRecord) -> u64 {
        self.with(topic, partition, |log| log.append(record, None))
    }

    /// Does something with the log of a partition.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn with<R>(&self, topic: &str, partition: u32, f: impl FnOnce(&mut Log) -> R) -> R {
        let mut state = self.state();
        f(state.log_mut(topic, partition).expect("the partition was made"))
    }

    /// Whether brokers answer.
    pub fn set_down(&self, down: bool) {
        self.state().down = down;
    }

    /// Whether a broker leads a partition; the next one leads in a new epoch.
    pub fn set_leaderless(&self, topic: &str, partition: u32, leaderless: bool) {
        let mut state = self.state();
        let key = (topic.to_owned(), partition);
        if leaderless {
            state.leaderless.insert(key);
        } else if state.leaderless.remove(&key)
            && let Some(log) = state.log_mut(topic, partition)
        {
            log.move_leader();
        }
    }

    /// Consumers get so many thousandths of each log; what follows is on its way to them for now.
    pub fn show(&self, permille: u64) {
        self.state().hidden = 1_000 - permille.min(1_000);
    }

    /// Whether what consumers do not get yet is not written yet, so that the logs end before it.
    pub fn set_unwritten(&self, unwritten: bool) {
        self.state().unwritten = unwritten;
    }

    /// Where a partition begins and ends for readers of committed records.
    ///
    /// # Panics
    /// If there is no such partition.
    #[must_use]
    pub fn bounds(&self, topic: &str, partition: u32) -> (u64, u64) {
        let mut state = self.state();
        let shown = state.shown();
        let log = state.log_mut(topic, partition).expect("the partition was made");
        (log.start(), log.stable().min(shown.written(log)))
    }

    /// Whether a topic may be read.
    pub fn set_refused(&self, topic: &str, refused: bool) {
        let mut state = self.state();
        if refused {
            state.refused.insert(topic.to_owned());
        } else {
            state.refused.remove(topic);
        }
    }
}

/// How much of each log there is for consumers.
#[derive(Clone, Copy)]
struct Shown {
    hidden: u64,
    unwritten: bool,
}

impl Shown {
    /// Behind what consumers get of a log.
    fn end(self, log: &Log) -> u64 {
        log.end() * (1_000 - self.hidden) / 1_000
    }

    /// Behind what is written of a log, for all that they can tell.
    fn written(self, log: &Log) -> u64 {
        if self.unwritten { self.end(log) } else { log.end() }
    }
}

impl State {
    fn shown(&self) -> Shown {
        Shown { hidden: self.hidden, unwritten: self.unwritten }
    }

    /// The log of a partition.
    pub(crate) fn log_mut(&mut self, topic: &str, partition: u32) -> Option<&mut Log> {
        self.topics.get_mut(topic)?.partitions.get_mut(partition as usize)
    }

    /// How many partitions a topic has, as a client hears it.
    pub(crate) fn count(&self, topic: &str) -> Result<u32, KafkaError> {
        if self.down {
            return Err(unreachable());
        }
        self.known(topic)
    }

    /// The same, whether brokers answer or not.
    fn known(&self, topic: &str) -> Result<u32, KafkaError> {
        if self.refused.contains(topic) {
            return Err(refused(topic));
        }
        let found = self.topics.get(topic).ok_or_else(|| KafkaError::UnknownTopic {
            topic: topic.to_owned(),
            brokers: NAME.to_owned(),
        })?;
        Ok(found.partitions.len() as u32)
    }

    /// The log of a partition, as a client may see it.
    pub(crate) fn visible(&mut self, topic: &str, partition: u32) -> Result<&mut Log, KafkaError> {
        let count = self.count(topic)?;
        if self.leaderless.contains(&(topic.to_owned(), partition)) {
            return Err(unreachable());
        }
        self.log_mut(topic, partition).ok_or_else(|| KafkaError::UnknownPartition {
            topic: topic.to_owned(),
            partition,
            count,
        })
    }
}

/// What messages call the cluster.
const NAME: &str = "model";

fn unreachable() -> KafkaError {
    KafkaError::Unreachable {
        brokers: NAME.to_owned(),
        seconds: 0,
        reason: "no broker leads it".to_owned(),
    }
}

fn refused(topic: &str) -> KafkaError {
    KafkaError::Refused {
        brokers: NAME.to_owned(),
        what: format!("the topic `{topic}`"),
        reason: "it is not among what this user may read".to_owned(),
    }
}
