//! The Kafka that an app reads and writes: a cluster in memory, the producers of the app's
//! processes, and what happens to them.

use std::collections::BTreeMap;

use gear_connectors::kafka::model::{ModelCluster, ModelConsumers, ModelProducers, ProducerFaults};
use gear_connectors::kafka::sink::{Command, Mark, decode};
use gear_connectors::model::ModelDisk;
use gear_connectors::services;
use gear_core::effect::IoError;
use gear_core::id::{AppId, Epoch};

use super::fault::{FaultKind, Planned};
use super::setup::Rates;
use super::world::{Event, World};
use crate::oracle::topics::Marks;
use crate::random::{Random, mix};
use crate::workload::topics::{Overtaken, Topics};

/// The Kafka of an app.
pub struct Brokers {
    cluster: ModelCluster,
    /// What a job reads and writes there.
    pub(crate) topics: Topics,
    /// A seeded bug: no producer fences another.
    unfenced: bool,
    /// By process.
    producers: BTreeMap<usize, ModelProducers>,
    /// Transactions that were seen to be open, by id.
    open: BTreeMap<String, u64>,
    marks: Marks,
    /// What retention has met, and what the job has said of it.
    pub(crate) overtaken: Overtaken,
}

/// What came of a call.
pub(crate) struct Called {
    pub(crate) result: Result<Vec<u8>, IoError>,
    /// Faults that it has met.
    pub(crate) met: Vec<FaultKind>,
    /// Transactions that were begun.
    pub(crate) begun: Vec<(String, u64)>,
    /// The mark of a transaction that was committed.
    pub(crate) committed: Result<Option<Mark>, String>,
}

impl Brokers {
    /// A cluster with these topics.
    #[must_use]
    pub fn new(cluster: ModelCluster, topics: Topics, unfenced: bool) -> Self {
        let (producers, open, marks, overtaken) = Default::default();
        Self { cluster, topics, unfenced, producers, open, marks, overtaken }
    }

    /// The cluster.
    pub(crate) const fn cluster(&self) -> &ModelCluster {
        &self.cluster
    }

    /// The cluster, and what retention has met there.
    pub(crate) const fn input(&self) -> (&ModelCluster, &Overtaken) {
        (&self.cluster, &self.overtaken)
    }

    /// A transaction has been open for long: the cluster ends it. False if it has ended before.
    pub(crate) fn expire(&self, id: &str, number: u64) -> bool {
        let is_open = self.cluster.transaction(id) == Some(number);
        if is_open {
            self.cluster.expire(id);
        }
        is_open
    }

    /// Whoever reads this disk can read the cluster too.
    pub(crate) fn offer(&self, disk: &mut ModelDisk, seed: u64) {
        let consumers = ModelConsumers::new(self.cluster.clone(), mix(seed));
        disk.offer_kafka(consumers.mixing(self.topics.mixes));
    }

    /// A process asks its producers; `committed` is the last epoch that has committed.
    pub(crate) fn call(
        &mut self,
        (process, seed): (usize, u64),
        (command, body): (&[u8], &[u8]),
        faults: ProducerFaults,
        committed: Epoch,
    ) -> Called {
        let cluster = self.cluster.clone();
        let seed = mix(seed ^ mix(process as u64));
        let producers = self
            .producers
            .entry(process)
            .or_insert_with(|| ModelProducers::new(cluster, seed, ProducerFaults::default()));
        producers.faults = ProducerFaults { unfenced: self.unfenced, ..faults };
        let before = producers.met;
        let result = producers.perform(command, body);
        let met = [
            (producers.met.refused > before.refused, FaultKind::BrokerRefuses),
            (producers.met.lost > before.lost, FaultKind::BrokerLostReplies),
            (producers.met.broken > before.broken, FaultKind::ProducerBreaks),
        ];
        let met = met.into_iter().filter(|(hit, _)| *hit).map(|(_, kind)| kind).collect();
        let committed = self.committed(command, committed);
        Called { result, met, begun: self.begun(), committed }
    }

    fn committed(&mut self, command: &[u8], committed: Epoch) -> Result<Option<Mark>, String> {
        let Ok(Command::Commit { id, topic, .. }) = decode(command) else { return Ok(None) };
        let Some(mark) = self.cluster.mark(&id, &topic) else { return Ok(None) };
        let is_new = self.marks.observe(&id, &topic, mark, committed)?;
        Ok(is_new.then_some(mark))
    }

    fn begun(&mut self) -> Vec<(String, u64)> {
        let mut begun = Vec::new();
        for id in self.cluster.open_transactions() {
            let Some(number) = self.cluster.transaction(&id) else { continue };
            if self.open.insert(id.clone(), number) != Some(number) {
                begun.push((id, number));
            }
        }
        begun
    }

    /// All is well with it, for ever.
    fn heal(&self) {
        self.cluster.set_down(false);
        for (topic, count) in self.cluster.topics() {
            (0..count).for_each(|partition| self.cluster.set_leaderless(&topic, partition, false));
        }
    }

    /// Every transaction that is still open has taken too long.
    pub(crate) fn expire_all(&self) {
        for id in self.cluster.open_transactions() {
            self.cluster.expire(&id);
        }
    }
}

impl World<'_> {
    /// The brokers of an app are asked.
    pub(crate) fn call(
        &mut self,
        process: usize,
        home: AppId,
        service: &str,
        (command, body): (&[u8], &[u8]),
    ) -> Result<Vec<u8>, IoError> {
        let rates = if self.calm { Rates::default() } else { self.setup.rates };
        let faults = ProducerFaults {
            refused: rates.broker_refuses,
            lost: rates.broker_lost_replies,
            broken: rates.producer_breaks,
            unfenced: false,
        };
        let who = (process, self.setup.seed);
        let services = self.services.get_mut(&home).expect("whoever calls has been served");
        let Some(brokers) = &mut services.brokers else { return Err(services::missing(service)) };
        let committed = services.commits.last();
        let called = brokers.call(who, (command, body), faults, committed);
        let timeout = brokers.topics.timeout;
        for kind in called.met {
            self.count(kind);
            self.stopwatch.disturb(self.now);
        }
        match called.committed {
            Err(violation) => self.wrong(format!("{home}: {violation}")),
            Ok(None) => {}
            Ok(Some(mark)) => {
                if !self.processes[process].alive {
                    self.seen("a dead process's transaction was committed");
                }
                if mark.segments > 0 {
                    self.seen("a transaction held a part of an epoch's output");
                }
            }
        }
        if self.setup.faults.has(FaultKind::TransactionTimeout) {
            for (id, number) in called.begun {
                self.after(timeout, Event::Expire { home, id, number });
            }
        }
        called.result
    }

    /// A transaction has been open for long: the broker ends it, if it still is.
    pub(crate) fn expire(&mut self, home: AppId, id: String, number: u64) {
        let Some(brokers) = self.services.get(&home).and_then(|it| it.brokers.as_ref()) else {
            return;
        };
        if brokers.cluster.transaction(&id) != Some(number) {
            return;
        }
        if self.brokers_down_until > self.now {
            let at = self.brokers_down_until;
            self.push(at, Event::Expire { home, id, number });
            return;
        }
        brokers.expire(&id, number);
        self.trace.write(self.now, || format!("the transaction of {id} has taken too long"));
        self.count(FaultKind::TransactionTimeout);
        self.stopwatch.disturb(self.now);
    }

    /// A planned fault of the brokers happens; false if there are none.
    pub(crate) fn trouble_brokers(&mut self, planned: &Planned, random: &mut Random) -> bool {
        let until = self.now + planned.lasts;
        let homes: Vec<AppId> = self.services.keys().copied().collect();
        if homes.is_empty() {
            return false;
        }
        if planned.kind == FaultKind::BrokerOutage {
            self.brokers_down_until = self.brokers_down_until.max(until);
            self.each_brokers(|brokers| brokers.cluster.set_down(true));
            self.push(until, Event::BrokersBack);
            return true;
        }
        let home = homes[random.place(homes.len())];
        let Some(brokers) = &self.services[&home].brokers else { return false };
        let topics = brokers.cluster.topics();
        let (topic, count) = topics[random.place(topics.len())].clone();
        let partition = random.below(u64::from(count)) as u32;
        brokers.cluster.set_leaderless(&topic, partition, true);
        self.push(until, Event::LeaderThere { home, topic, partition });
        true
    }

    fn each_brokers(&self, call: impl Fn(&Brokers)) {
        self.services.values().filter_map(|it| it.brokers.as_ref()).for_each(call);
    }

    /// Brokers answer again, unless another outage has begun.
    pub(crate) fn brokers_back(&self) {
        if self.brokers_down_until <= self.now {
            self.each_brokers(|brokers| brokers.cluster.set_down(false));
        }
    }

    /// Another broker leads a partition.
    pub(crate) fn leader_there(&self, home: AppId, topic: &str, partition: u32) {
        if let Some(brokers) = self.services.get(&home).and_then(|it| it.brokers.as_ref()) {
            brokers.cluster.set_leaderless(topic, partition, false);
        }
    }

    /// All brokers are well from now on.
    pub(crate) fn heal_brokers(&mut self) {
        self.brokers_down_until = self.now;
        self.each_brokers(Brokers::heal);
    }

    /// So many thousandths of the input are there.
    pub(crate) fn feed(&mut self, permille: u64) {
        self.fed = permille;
        self.work.feed(permille);
        self.each_brokers(|brokers| brokers.cluster.show(permille));
        // A user's own files are there from the beginning.
        let remote = self.services.values_mut().filter(|services| services.disk.is_hdfs());
        remote.for_each(|services| services.disk.show(permille));
    }
}
