//! Kafka's own clients without an engine, for figures: what can be had with librdkafka.

pub mod feeder;

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use gear_connectors::kafka::ClientSettings;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{
    BaseProducer, BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer,
};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::runtime::{Builder, Runtime};

use crate::services::Services;
use crate::system::processor_time;

/// Longer than anything takes.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Records between two looks at the clock and at what became of earlier ones.
const SENDS_PER_LOOK: u32 = 1_024;
/// Between two looks whether the broker has everything.
const LOOK: Duration = Duration::from_micros(500);

/// A broker: one that runs, or one of its own for this process.
pub struct Broker {
    address: String,
    services: Option<Services>,
    admin: AdminClient<DefaultClientContext>,
    runtime: Runtime,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Broker {
    /// The broker at this address, or one that is started now; none if there can be none here,
    /// which is said on standard error.
    ///
    /// # Panics
    /// If the operating system has no room for its client.
    #[must_use]
    pub fn reach(address: Option<&str>) -> Option<Self> {
        let services = match address {
            Some(_) => None,
            None => match Services::start() {
                Ok(services) => Some(services?),
                Err(error) => {
                    eprintln!("{error}");
                    return None;
                }
            },
        };
        let started = || services.as_ref().map(|it| it.brokers().to_owned());
        let address = address.map(str::to_owned).or_else(started)?;
        let admin = ClientConfig::new().set("bootstrap.servers", &address).create();
        let admin = admin.expect("the settings are right");
        let runtime = Builder::new_current_thread().build().expect("there is room");
        Some(Self { address, services, admin, runtime })
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The servers, if they were started for this process.
    #[must_use]
    pub const fn services(&self) -> Option<&Services> {
        self.services.as_ref()
    }

    /// Processor time that this process and the broker have taken, if that was started for it.
    #[must_use]
    pub fn processor_time(&self) -> Duration {
        let broker = self.services.as_ref().and_then(|services| services.pid("kafka"));
        let pids = [Some(std::process::id()), broker];
        pids.into_iter().flatten().map(processor_time).sum()
    }

    /// Makes a topic, and waits until clients find it: the broker answers before it has it itself.
    ///
    /// # Panics
    /// If the broker refuses.
    pub fn make_topic(&self, name: &str, partitions: i32) {
        let new = [NewTopic::new(name, partitions, TopicReplication::Fixed(1))];
        let made = self.admin.create_topics(&new, &AdminOptions::new());
        let made = self.runtime.block_on(made).expect("the broker answers");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        let began = Instant::now();
        while !self.has_topic(name, partitions) {
            assert!(began.elapsed() < PATIENCE, "the topic {name} does not come to be");
            sleep(LOOK);
        }
    }

    fn has_topic(&self, name: &str, partitions: i32) -> bool {
        let found = self.admin.inner().fetch_metadata(Some(name), PATIENCE);
        let found = found.expect("the broker answers");
        let leads = |topic: &MetadataTopic| {
            let partitions = topic.partitions().iter();
            partitions.filter(|it| it.error().is_none() && it.leader() >= 0).count()
        };
        found.topics().iter().any(|topic| {
            topic.name() == name && topic.error().is_none() && leads(topic) == partitions as usize
        })
    }

    /// Removes a topic, so that rounds do not fill the disk.
    ///
    /// # Panics
    /// If the broker refuses.
    pub fn remove_topic(&self, name: &str) {
        let removed = self.admin.delete_topics(&[name], &AdminOptions::new());
        let removed = self.runtime.block_on(removed).expect("the broker answers");
        assert!(removed.iter().all(Result::is_ok), "{removed:?}");
    }
}

/// A setting of a client, as a command line gives it: NAME=VALUE.
///
/// # Errors
/// How it is to be written.
pub fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a setting is written NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A client with the settings that a source or a sink gives its own.
#[must_use]
pub fn config(settings: &ClientSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in settings.iter() {
        config.set(name, value);
    }
    config
}

/// A consumer that reads all partitions of a topic from their first records.
///
/// # Panics
/// If the settings are wrong.
#[must_use]
pub fn consumer(settings: &ClientSettings, topic: &str, partitions: i32) -> BaseConsumer {
    let consumer: BaseConsumer = config(settings).create().expect("the settings are right");
    let mut from = TopicPartitionList::new();
    for partition in 0..partitions {
        from.add_partition_offset(topic, partition, Offset::Offset(0)).expect("it is an offset");
    }
    consumer.assign(&from).expect("the partitions are there");
    consumer
}

/// Reads so many records, and gives the bytes of their values.
///
/// # Panics
/// If they do not come.
#[must_use]
pub fn read(consumer: &BaseConsumer, records: u64) -> u64 {
    let (mut read, mut bytes) = (0, 0);
    while read < records {
        match consumer.poll(PATIENCE) {
            Some(Ok(message)) => {
                read += 1;
                bytes += message.payload().map_or(0, <[u8]>::len) as u64;
            }
            other => panic!("{other:?}"),
        }
    }
    bytes
}

/// Appends so many records of the same value, in turn to all partitions.
///
/// # Panics
/// If the broker does not take them.
pub fn fill(config: &ClientConfig, topic: &str, partitions: i32, records: u64, value: &[u8]) {
    let producer: ThreadedProducer<DefaultProducerContext> =
        config.create().expect("the settings are right");
    for number in 0..records {
        let partition = (number % u64::from(partitions.unsigned_abs())) as i32;
        let record = || BaseRecord::<(), _>::to(topic).partition(partition).payload(value);
        while producer.send(record()).is_err() {
            sleep(Duration::from_millis(5));
        }
    }
    producer.flush(PATIENCE).expect("the broker takes them");
}

/// A producer that commits a transaction from time to time.
pub struct Transactions {
    producer: BaseProducer,
    every: Duration,
    due: Instant,
    sends: u32,
}

impl fmt::Debug for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactions").field("every", &self.every).finish_non_exhaustive()
    }
}

impl Transactions {
    /// A producer of this transactional id, in its first transaction.
    ///
    /// # Panics
    /// If the broker refuses.
    #[must_use]
    pub fn open(settings: &ClientSettings, id: &str, every: Duration) -> Self {
        let config = config(settings).set("transactional.id", id).clone();
        let producer: BaseProducer = config.create().expect("the settings are right");
        producer.init_transactions(PATIENCE).expect("the broker answers");
        producer.begin_transaction().expect("none is open");
        Self { producer, every, due: Instant::now() + every, sends: 0 }
    }

    /// Sends a record, when there is room for it.
    ///
    /// # Panics
    /// If it can never be sent.
    pub fn send(&mut self, topic: &str, value: &[u8]) {
        let mut record = BaseRecord::<(), _>::to(topic).payload(value);
        while let Err((error, back)) = self.producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert_eq!(error, full, "what was to be sent to {topic}");
            self.pause();
            record = back;
        }
        self.sends = self.sends.wrapping_add(1);
        if self.sends.is_multiple_of(SENDS_PER_LOOK) {
            self.producer.poll(Duration::ZERO);
        }
    }

    /// The library's own way of waiting looks again and again within less than a millisecond, and
    /// without a timeout it takes one event: each batch is one.
    fn pause(&self) {
        sleep(LOOK);
        let (mut left, mut now) = (0, self.producer.in_flight_count());
        while left != now {
            left = now;
            self.producer.poll(Duration::ZERO);
            now = self.producer.in_flight_count();
        }
    }

    /// True if a transaction has lasted for its time; looks seldom at the clock.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.sends.is_multiple_of(SENDS_PER_LOOK) && self.is_over(Instant::now())
    }

    /// True if a transaction has lasted for its time.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.due
    }

    /// Commits the transaction and begins the next one; with where a consumer stands, if there is
    /// one.
    ///
    /// # Panics
    /// If the broker refuses.
    pub fn commit(&mut self, read: Option<&BaseConsumer>) {
        // The library's own way of waiting rounds up to 100 ms.
        while self.producer.in_flight_count() > 0 {
            self.pause();
        }
        if let Some(consumer) = read {
            let positions = consumer.position().expect("it has partitions");
            let group = consumer.group_metadata().expect("it has a group");
            let sent = self.producer.send_offsets_to_transaction(&positions, &group, PATIENCE);
            sent.expect("the broker takes them");
        }
        self.producer.commit_transaction(PATIENCE).expect("the broker commits");
        self.producer.begin_transaction().expect("none is open");
        self.due = Instant::now() + self.every;
    }
}

/// The middle one of some figures.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
