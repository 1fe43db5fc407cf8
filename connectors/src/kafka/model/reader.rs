//! Consumers of the cluster in memory.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;

use super::{ModelCluster, State};
use crate::kafka::error::KafkaError;
use crate::kafka::port::TopicPartition;
use crate::kafka::port::{Batch, Consumer, Consumers, Event, Fetch, Found, Parts, Place, Request};
use crate::kafka::settings::ClientSettings;
use crate::random::SplitMix;

/// Most records of a batch.
const BATCH_RECORDS_MAX: u64 = 5;

/// Makes consumers of a cluster in memory.
///
/// What they give, and when, is a function of the seed: sometimes nothing, sometimes few records,
/// never what a real one would not give.
#[derive(Clone, Debug)]
pub struct ModelConsumers {
    cluster: ModelCluster,
    random: SplitMix,
    mixes: bool,
}

impl ModelConsumers {
    /// Consumers of this cluster.
    #[must_use]
    pub const fn new(cluster: ModelCluster, seed: u64) -> Self {
        Self { cluster, random: SplitMix(seed), mixes: false }
    }

    /// The same whose batches hold records of several partitions, or of one as before.
    #[must_use]
    pub const fn mixing(mut self, mixes: bool) -> Self {
        self.mixes = mixes;
        self
    }
}

/// What a model of a disk offers beside files.
pub(crate) struct ModelOffer {
    offered: Box<dyn Consumers>,
    /// The same, for a clone.
    consumers: ModelConsumers,
}

impl ModelOffer {
    pub(crate) fn new(consumers: ModelConsumers) -> Self {
        Self { offered: Box::new(consumers.clone()), consumers }
    }

    pub(crate) fn consumers(&mut self) -> &mut dyn Any {
        &mut self.offered
    }
}

impl Clone for ModelOffer {
    fn clone(&self) -> Self {
        Self::new(self.consumers.clone())
    }
}

impl fmt::Debug for ModelOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.consumers.fmt(f)
    }
}

impl Consumers for ModelConsumers {
    fn partitions(
        &mut self,
        _: &ClientSettings,
        topics: &[String],
    ) -> Result<Vec<u32>, KafkaError> {
        // An outage is waited out.
        let state = self.cluster.state();
        topics.iter().map(|topic| state.known(topic)).collect()
    }

    fn consumer(&mut self, settings: &ClientSettings) -> Result<Box<dyn Consumer>, KafkaError> {
        Ok(Box::new(ModelConsumer {
            cluster: self.cluster.clone(),
            random: SplitMix(self.random.next()),
            committed: settings.get("isolation.level") != Some("read_uncommitted"),
            asked: VecDeque::new(),
            round: 0,
            reads: Vec::new(),
            ends: false,
            mixes: self.mixes,
            later: None,
        }))
    }
}

struct ModelConsumer {
    cluster: ModelCluster,
    random: SplitMix,
    committed: bool,
    asked: VecDeque<Request>,
    round: u64,
    reads: Vec<Reading>,
    ends: bool,
    mixes: bool,
    /// What was met while a batch was filled, and is told behind it.
    later: Option<Event>,
}

struct Reading {
    fetch: Fetch,
    told: Told,
}

/// What has been told of a partition since its last record: once is enough.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    End,
    Trouble,
    Lost,
}

impl Consumer for ModelConsumer {
    fn ask(&mut self, request: Request) {
        self.asked.push_back(request);
    }

    fn poll(&mut self) -> Option<Event> {
        if self.random.below(3) == 0 {
            return None;
        }
        if let Some(event) = self.later.take() {
            return Some(event);
        }
        if let Some(request) = self.asked.pop_front() {
            let answer = self.answer(request);
            if answer.is_some() {
                return answer;
            }
        }
        if self.reads.is_empty() {
            return None;
        }
        let cluster = self.cluster.clone();
        let mut state = cluster.state();
        let most = self.random.below(BATCH_RECORDS_MAX) as usize + 1;
        let first = self.random.below(self.reads.len() as u64) as usize;
        let count = self.reads.len();
        let mut places = (0..count).map(|step| (first + step) % count);
        let event = places.find_map(|place| self.read(place, most, &mut state))?;
        match event {
            Event::Batch(batch) if self.mixes => Some(self.mixed(batch, places, &mut state)),
            event => Some(event),
        }
    }

    fn give_back(&mut self, _: Batch) {}
}

impl ModelConsumer {
    /// A batch with more of other partitions.
    fn mixed(
        &mut self,
        mut batch: Batch,
        places: impl Iterator<Item = usize>,
        state: &mut State,
    ) -> Event {
        for place in places {
            let most = self.random.below(BATCH_RECORDS_MAX) as usize;
            if most == 0 {
                continue;
            }
            match self.read(place, most, state) {
                Some(Event::Batch(more)) => more.entries().iter().for_each(|entry| {
                    let Parts { key, value, headers } = more.parts(entry);
                    let place = (entry.number, entry.offset, entry.timestamp);
                    batch.push(place, key, value, |out| {
                        out.extend_from_slice(headers.unwrap_or_default());
                        headers.is_some()
                    });
                }),
                Some(event) => {
                    self.later = Some(event);
                    break;
                }
                None => {}
            }
        }
        Event::Batch(batch)
    }

    fn answer(&mut self, request: Request) -> Option<Event> {
        let mut state = self.cluster.state();
        match request {
            Request::Topics(topics) => {
                Some(Event::Topics(topics.iter().map(|topic| state.count(topic)).collect()))
            }
            Request::Offsets(questions) => {
                let committed = self.committed;
                let mut find = |(place, partitions): &(Place, Vec<TopicPartition>)| {
                    let found = partitions.iter();
                    found.map(|it| offset(&mut state, *place, it, committed)).collect()
                };
                Some(Event::Offsets(questions.iter().map(&mut find).collect()))
            }
            Request::Fetch { round, from, ends } => {
                (self.round, self.ends) = (round, ends);
                self.reads =
                    from.into_iter().map(|fetch| Reading { fetch, told: Told::Nothing }).collect();
                None
            }
            Request::Stop { round, number } => {
                self.reads.retain(|it| round != self.round || it.fetch.number != number);
                None
            }
        }
    }

    /// What comes next of one partition.
    fn read(&mut self, place: usize, most: usize, state: &mut State) -> Option<Event> {
        let (round, ends, committed) = (self.round, self.ends, self.committed);
        let shown = state.shown();
        let Reading { fetch, told } = &mut self.reads[place];
        let log = match state.visible(&fetch.partition.topic, fetch.partition.partition) {
            Ok(log) => log,
            Err(error) => {
                // What is lost meanwhile is told when the trouble is over.
                let (tell, event) = match error {
                    KafkaError::Unreachable { .. } => (Told::Trouble, Event::Trouble(error)),
                    KafkaError::Refused { .. } => (Told::Lost, Event::Failed(error)),
                    _ => (Told::Lost, Event::OutOfRange { round }),
                };
                let said = std::mem::replace(told, tell);
                return (said != tell).then_some(event);
            }
        };
        if shown.hidden > 0 && fetch.offset >= shown.end(log) {
            return None;
        }
        let before = shown.written(log);
        let Some(read) = log.read_before(before, fetch.offset, most, committed) else {
            let said = std::mem::replace(told, Told::Lost);
            return (said != Told::Lost).then_some(Event::OutOfRange { round });
        };
        if read.next == fetch.offset {
            let said = std::mem::replace(told, Told::End);
            let (number, offset) = (fetch.number, fetch.offset);
            return (said != Told::End && ends).then_some(Event::Reached { round, number, offset });
        }
        (fetch.offset, *told) = (read.next, Told::Nothing);
        let mut batch = Batch::default();
        batch.clear(round);
        for (offset, record) in &read.records {
            let headers = |out: &mut Vec<u8>| {
                out.extend_from_slice(&record.headers);
                true
            };
            let place = (fetch.number, *offset, record.timestamp);
            batch.push(place, record.key.as_deref(), record.value.as_deref(), headers);
        }
        Some(Event::Batch(batch))
    }
}

fn offset(state: &mut State, place: Place, of: &TopicPartition, committed: bool) -> Found {
    let shown = state.shown();
    let log = state.visible(&of.topic, of.partition)?;
    let written = shown.written(log);
    Ok(match place {
        Place::Earliest => Some(log.start()),
        Place::Latest => Some(if committed { log.stable() } else { log.end() }.min(written)),
        Place::At(timestamp) => log.first_at(timestamp, committed).filter(|at| *at < written),
    })
}
