//! Producers of the cluster in memory, and what coordinates their transactions.
//!
//! As with a real cluster an id has one producer, the one that was opened last; an answer may be
//! lost whether its request was carried out or not; a transaction that takes too long is ended.

use std::collections::BTreeMap;

use gear_core::effect::{IoError, IoErrorKind};

use super::{ModelCluster, ModelRecord, State};
use crate::kafka::error::KafkaError;
use crate::kafka::sink::{Command, Mark, Records, Reply, Session, decode, encode};
use crate::random::SplitMix;

/// The transactions of a cluster.
#[derive(Debug, Default)]
pub(super) struct Coordinator {
    ids: BTreeMap<String, Id>,
    /// By group and topic.
    marks: BTreeMap<(String, String), Mark>,
    /// Transactions that were begun.
    begun: u64,
}

#[derive(Debug, Default)]
struct Id {
    /// Rises with each producer; those of lower epochs are fenced.
    epoch: u64,
    open: Option<u64>,
}

/// How often what goes wrong, in permille of the requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProducerFaults {
    /// A request is not carried out, and may be repeated.
    pub refused: u64,
    /// A request is carried out and its answer is lost; it may be repeated.
    pub lost: u64,
    /// The producer breaks, before or after a request is carried out.
    pub broken: u64,
    /// A seeded bug: each attempt has a transactional id of its own, and so fences nobody.
    pub unfenced: bool,
}

/// How often it did go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerFaultsMet {
    /// Requests that were not carried out.
    pub refused: u64,
    /// Answers that were lost.
    pub lost: u64,
    /// Producers that broke.
    pub broken: u64,
}

/// The producers of one process.
#[derive(Debug)]
pub struct ModelProducers {
    cluster: ModelCluster,
    random: SplitMix,
    /// How often what goes wrong.
    pub faults: ProducerFaults,
    /// How often it did.
    pub met: ProducerFaultsMet,
    producers: BTreeMap<Option<String>, Producer>,
}

#[derive(Debug, Default)]
struct Producer {
    session: Session,
    /// Its transactional id; nothing if it has none.
    name: String,
    epoch: u64,
    /// The number of the next send.
    next: u32,
    /// Transactions that it has committed.
    commits: u32,
}

impl ModelCluster {
    /// The broker ends the open transaction of an id, which has taken too long.
    pub fn expire(&self, id: &str) {
        let mut state = self.state();
        if state.coordinator.ids.get(id).is_some_and(|id| id.open.is_some()) {
            state.end(id, false);
            if let Some(id) = state.coordinator.ids.get_mut(id) {
                id.epoch += 1;
            }
        }
    }

    /// The broker forgets what a group has committed.
    pub fn forget(&self, group: &str) {
        self.state().coordinator.marks.retain(|(of, _), _| of != group);
    }

    /// What a group has committed under a topic.
    #[must_use]
    pub fn mark(&self, group: &str, topic: &str) -> Option<Mark> {
        self.state().coordinator.marks.get(&(group.to_owned(), topic.to_owned())).copied()
    }

    /// The transactional ids that have a transaction open.
    #[must_use]
    pub fn open_transactions(&self) -> Vec<String> {
        let state = self.state();
        let open = state.coordinator.ids.iter().filter(|(_, id)| id.open.is_some());
        open.map(|(name, _)| name.clone()).collect()
    }

    /// The number of the transaction that an id has open.
    #[must_use]
    pub fn transaction(&self, id: &str) -> Option<u64> {
        self.state().coordinator.ids.get(id)?.open
    }

    /// Transactions that were begun.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.state().coordinator.begun
    }
}

impl State {
    /// The transaction of an id, begun if there is none.
    fn begin(&mut self, id: &str) -> u64 {
        let Coordinator { ids, begun, .. } = &mut self.coordinator;
        let id = ids.entry(id.to_owned()).or_default();
        *id.open.get_or_insert_with(|| {
            *begun += 1;
            *begun
        })
    }

    /// Ends the transaction of an id, if one is open.
    fn end(&mut self, id: &str, commit: bool) {
        let open = self.coordinator.ids.get_mut(id).and_then(|id| id.open.take());
        let Some(transaction) = open else { return };
        for topic in self.topics.values_mut() {
            for log in &mut topic.partitions {
                log.end_transaction(transaction, commit);
            }
        }
    }

    fn is_fenced(&self, id: &str, epoch: u64) -> bool {
        self.coordinator.ids.get(id).is_none_or(|id| id.epoch != epoch)
    }

    fn append(
        &mut self,
        topic: &str,
        segment: &[u8],
        transaction: Option<u64>,
    ) -> Result<(), KafkaError> {
        let partitions = self.count(topic)?;
        let wrong = |reason: String| KafkaError::Failed {
            brokers: "model".to_owned(),
            what: format!("a record for `{topic}`"),
            reason,
        };
        let mut records = Records::new(segment, 0).map_err(|error| wrong(error.to_string()))?;
        let mut sent = Vec::new();
        while let Some(record) = records.take_next().map_err(|error| wrong(error.to_string()))? {
            let hash = crc32c::crc32c(record.key.unwrap_or_default());
            let partition = record.partition.unwrap_or(hash % partitions);
            // All or nothing: what is sent again would be there twice.
            self.visible(topic, partition)?;
            let stored = ModelRecord {
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                timestamp: record.timestamp.unwrap_or_default(),
                headers: record.headers.bytes().to_vec(),
            };
            sent.push((partition, stored));
        }
        for (partition, stored) in sent {
            self.visible(topic, partition)?.append(stored, transaction);
        }
        Ok(())
    }
}

impl ModelProducers {
    /// Producers of a process. What goes wrong is a function of the seed.
    #[must_use]
    pub const fn new(cluster: ModelCluster, seed: u64, faults: ProducerFaults) -> Self {
        let met = ProducerFaultsMet { refused: 0, lost: 0, broken: 0 };
        Self { cluster, random: SplitMix(seed), faults, met, producers: BTreeMap::new() }
    }

    /// Carries out a command, as a driver would.
    ///
    /// # Errors
    /// What a driver would say.
    pub fn perform(&mut self, command: &[u8], body: &[u8]) -> Result<Vec<u8>, IoError> {
        let command: Command = decode(command)?;
        let mut hit = |permille: u64| self.random.below(1_000) < permille;
        let (refused, lost) = (hit(self.faults.refused), hit(self.faults.lost));
        let (broken, before) = (hit(self.faults.broken), hit(500));
        if refused {
            self.met.refused += 1;
            return Err(unavailable("it did not answer"));
        }
        let breaks = broken && !matches!(command, Command::Describe { .. });
        self.met.broken += u64::from(breaks);
        if breaks && before {
            self.producers.clear();
            return Ok(encode(&Reply::Lost("it broke before".to_owned())));
        }
        let reply = self.carry_out(command, body)?;
        if breaks {
            self.producers.clear();
            return Ok(encode(&Reply::Lost("it broke behind".to_owned())));
        }
        if lost {
            self.met.lost += 1;
            return Err(unavailable("its answer is lost"));
        }
        Ok(encode(&reply))
    }

    fn carry_out(&mut self, command: Command, body: &[u8]) -> Result<Reply, IoError> {
        let cluster = self.cluster.clone();
        let mut state = cluster.state();
        if state.down {
            return Err(unavailable("no broker answers"));
        }
        match command {
            Command::Describe { topic, .. } => {
                let partitions = state.count(&topic).map_err(|error| told(&error))?;
                Ok(Reply::Topic { partitions, limit: Some(LIMIT) })
            }
            Command::Open { session, id, .. } => {
                let (mut name, mut epoch) = (String::new(), 0);
                if let Some(id) = &id {
                    name.clone_from(id);
                    if self.faults.unfenced {
                        name.push_str(&format!(".{}", session.attempt));
                    }
                    state.end(&name, false);
                    let known = state.coordinator.ids.entry(name.clone()).or_default();
                    known.epoch += 1;
                    epoch = known.epoch;
                }
                let producer = Producer { session, name, epoch, ..Producer::default() };
                self.producers.insert(id, producer);
                Ok(Reply::Done)
            }
            Command::Look { session, id, topic } => {
                if !self.is_of(Some(&id), session) {
                    return Ok(unknown());
                }
                Ok(Reply::Mark(state.coordinator.marks.get(&(id, topic)).copied()))
            }
            Command::Send { session, id, topic, number } => {
                if !self.is_of(id.as_deref(), session) {
                    return Ok(unknown());
                }
                let producer = self.producers.get_mut(&id).expect("it is of this session");
                if number < producer.next {
                    return Ok(Reply::Done);
                }
                assert_eq!(number, producer.next, "segments are sent in order");
                if id.is_some() && state.is_fenced(&producer.name, producer.epoch) {
                    return Ok(Reply::Fenced("a newer producer".to_owned()));
                }
                let transaction = id.map(|_| state.begin(&producer.name));
                state.append(&topic, body, transaction).map_err(|error| told(&error))?;
                producer.next += 1;
                Ok(Reply::Done)
            }
            Command::Commit { session, id, topic, mark, number } => {
                if !self.is_of(Some(&id), session) {
                    return Ok(unknown());
                }
                let key = Some(id.clone());
                let producer = self.producers.get_mut(&key).expect("it is of this session");
                if number < producer.commits {
                    return Ok(Reply::Done);
                }
                if state.is_fenced(&producer.name, producer.epoch) {
                    return Ok(Reply::Fenced("a newer producer".to_owned()));
                }
                state.begin(&producer.name);
                state.end(&producer.name, true);
                state.coordinator.marks.insert((id, topic), mark);
                (producer.commits, producer.next) = (producer.commits + 1, 0);
                Ok(Reply::Done)
            }
            Command::Flush { session } => {
                if !self.is_of(None, session) {
                    return Ok(unknown());
                }
                self.producers.entry(None).or_default().next = 0;
                Ok(Reply::Done)
            }
        }
    }

    fn is_of(&self, id: Option<&str>, session: Session) -> bool {
        let producer = self.producers.get(&id.map(str::to_owned));
        producer.is_some_and(|producer| producer.session == session)
    }
}

/// Bytes of the largest batch that topics take: small, so that tests need no large records.
const LIMIT: u32 = 10_000;

fn unknown() -> Reply {
    Reply::Lost("there is no such producer".to_owned())
}

fn unavailable(reason: &str) -> IoError {
    let (path, reason) = ("model".to_owned(), reason.to_owned());
    IoError { path, reason, kind: IoErrorKind::Unavailable }
}

/// What a driver makes of what a cluster says.
fn told(error: &KafkaError) -> IoError {
    let kind = match error {
        KafkaError::Unreachable { .. } => IoErrorKind::Unavailable,
        KafkaError::UnknownTopic { .. } => IoErrorKind::NotFound,
        KafkaError::Refused { .. } => IoErrorKind::Denied,
        _ => IoErrorKind::Other,
    };
    IoError { path: "model".to_owned(), reason: error.to_string(), kind }
}
