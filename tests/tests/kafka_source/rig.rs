//! A writer that is a plain client of Kafka, a task that reads, and a job in a process of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use gear_connectors::kafka::{self, KafkaReader, KafkaSource, Message, Whole};
use gear_connectors::os::OsFiles;
use gear_core::api::source::{Advance, Source as _, SourceConnector as _, SourceContext};
use gear_core::message::Partition;
use gear_core::time::{EventTime, Time, WallTime};
use gear_tests::process::{Room, Running};
use gear_tests::services::Services;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// Longer than anything takes on the slowest machine, a broker that starts again included.
const PATIENCE: Duration = Duration::from_secs(90);
/// Time in which what should not come would have come.
const QUIET: Duration = Duration::from_millis(700);

const JOB: &str = env!("CARGO_BIN_EXE_job_kafka_lines");

/// A source of a topic.
pub(crate) fn source(services: &Services, topic: &str) -> KafkaSource<Whole> {
    kafka::source(services.brokers(), [topic])
}

/// A topic that no other test has.
pub(crate) fn fresh_topic(
    services: &Services,
    partitions: i32,
    settings: &[(&str, &str)],
) -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let name = format!("t{}", MADE.fetch_add(1, Ordering::Relaxed));
    Writer::new(services).make(&name, partitions, settings);
    name
}

fn config(services: &Services) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", services.brokers());
    config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "500");
    config
}

fn done<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("there is room for a runtime").block_on(future)
}

/// A client that writes and administers.
pub(crate) struct Writer {
    producer: ThreadedProducer<DefaultProducerContext>,
    admin: AdminClient<DefaultClientContext>,
}

impl Writer {
    pub(crate) fn new(services: &Services) -> Self {
        Self::with(services, |config| {
            config.set("enable.idempotence", "true");
        })
    }

    /// One whose records are all in transactions.
    pub(crate) fn transactional(services: &Services, id: &str) -> Self {
        let writer = Self::with(services, |config| {
            config.set("transactional.id", id);
        });
        writer.producer.init_transactions(PATIENCE).unwrap();
        writer
    }

    fn with(services: &Services, set: impl FnOnce(&mut ClientConfig)) -> Self {
        let mut producer = config(services);
        producer.set("linger.ms", "1");
        set(&mut producer);
        Self { producer: producer.create().unwrap(), admin: config(services).create().unwrap() }
    }

    pub(crate) fn make(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let made = done(self.admin.create_topics(&[new], &AdminOptions::new())).unwrap();
        made.into_iter().for_each(|result| drop(result.unwrap()));
        self.knows(topic, |count| count == partitions as usize);
    }

    /// Waits until the broker tells that a topic has so many partitions.
    fn knows(&self, topic: &str, is_right: impl Fn(usize) -> bool) {
        let began = Instant::now();
        loop {
            let metadata = self.admin.inner().fetch_metadata(Some(topic), PATIENCE).unwrap();
            let topic = &metadata.topics()[0];
            let led = topic.partitions().iter().all(|partition| partition.leader() >= 0);
            if led && is_right(topic.partitions().len()) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "the broker never knows");
            sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn grow(&self, topic: &str, partitions: usize) {
        let new = [NewPartitions::new(topic, partitions)];
        let made = done(self.admin.create_partitions(&new, &AdminOptions::new())).unwrap();
        made.into_iter().for_each(|result| drop(result.unwrap()));
        self.knows(topic, |count| count == partitions);
    }

    pub(crate) fn make_anew(&self, topic: &str, partitions: i32) {
        let gone = done(self.admin.delete_topics(&[topic], &AdminOptions::new())).unwrap();
        gone.into_iter().for_each(|result| drop(result.unwrap()));
        self.knows(topic, |count| count == 0);
        self.make(topic, partitions, &[]);
    }

    /// What retention does: the first offset of a partition is this one from now on.
    pub(crate) fn remove_before(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
        done(self.admin.delete_records(&list, &AdminOptions::new())).unwrap();
    }

    /// Writes a record, and waits until it is there.
    pub(crate) fn send(&self, topic: &str, partition: i32, value: &str, timestamp: i64) {
        self.queue(topic, partition, value, timestamp);
        self.flush();
    }

    /// Writes a record with everything that one can have, and no value.
    pub(crate) fn send_whole(&self, topic: &str) {
        let headers = OwnedHeaders::new()
            .insert(Header { key: "a", value: Some("1") })
            .insert(Header::<&str> { key: "b", value: None });
        self.send_record(record(topic, 0).key("key").headers(headers).timestamp(77_777));
        self.flush();
    }

    /// Writes a record some time soon; [`Self::flush`] waits for it.
    pub(crate) fn queue(&self, topic: &str, partition: i32, value: &str, timestamp: i64) {
        self.send_record(record(topic, partition).payload(value).timestamp(timestamp));
    }

    fn send_record(&self, record: BaseRecord<'_, str, str>) {
        let mut record = Some(record);
        while let Some(next) = record.take() {
            if let Err((error, same)) = self.producer.send(next) {
                assert!(error.to_string().contains("Queue full"), "{error}");
                sleep(Duration::from_millis(5));
                record = Some(same);
            }
        }
    }

    /// Waits until the broker has all that was written. The producer's own `flush` takes a tenth of
    /// a second at least.
    pub(crate) fn flush(&self) {
        let began = Instant::now();
        while self.producer.in_flight_count() > 0 {
            assert!(began.elapsed() < PATIENCE, "the broker does not take it");
            sleep(Duration::from_micros(500));
        }
    }

    pub(crate) fn begin(&self, topic: &str, partition: i32, value: &str) {
        self.producer.begin_transaction().unwrap();
        self.send_record(record(topic, partition).payload(value).timestamp(1));
        self.flush();
    }

    pub(crate) fn abort(&self) {
        self.producer.abort_transaction(PATIENCE).unwrap();
    }

    pub(crate) fn in_transaction(&self, topic: &str, partition: i32, value: &str, commit: bool) {
        self.begin(topic, partition, value);
        if commit {
            self.producer.commit_transaction(PATIENCE).unwrap();
        } else {
            self.abort();
        }
    }
}

fn record(topic: &str, partition: i32) -> BaseRecord<'_, str, str> {
    BaseRecord::to(topic).partition(partition)
}

/// A record that was read.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) partition: i32,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) headers: Vec<(String, Option<String>)>,
    pub(crate) at: EventTime,
}

/// A task of one source, without an engine around it.
pub(crate) struct Task {
    source: KafkaSource<Whole>,
    files: OsFiles,
    began: Instant,
    reader: KafkaReader<Whole>,
    positions: Vec<Partition>,
    ended: bool,
    pub(crate) records: Vec<Read>,
    pub(crate) notices: Vec<String>,
}

impl Task {
    pub(crate) fn new(source: KafkaSource<Whole>) -> Self {
        let mut files = OsFiles::default();
        let names = source.partitions(&mut files).unwrap();
        let new = |name| Partition { name, position: None, done: false };
        let mut task = Self {
            reader: source.source(),
            source,
            files,
            began: Instant::now(),
            positions: names.into_iter().map(new).collect(),
            ended: false,
            records: Vec::new(),
            notices: Vec::new(),
        };
        task.open().unwrap();
        task
    }

    fn open(&mut self) -> Result<(), String> {
        self.reader = self.source.source();
        let now = Time(self.began.elapsed().as_nanos() as u64);
        let mut cx = SourceContext { now, wall: WallTime(0), files: &mut self.files };
        self.reader.open(&self.positions, &mut cx)
    }

    /// Its positions are in an epoch, and it does not run any more.
    pub(crate) fn stop(&mut self) {
        self.positions = self.reader.positions();
        self.reader = self.source.source();
    }

    /// It runs again, from its positions.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        if !self.reader.positions().is_empty() {
            self.stop();
        }
        self.open()
    }

    /// True if it is settled where a partition is gone on with.
    pub(crate) fn knows_where(&self, place: usize) -> bool {
        self.reader.positions()[place].position.is_some()
    }

    fn step(&mut self) -> Result<(), String> {
        let now = Time(self.began.elapsed().as_nanos() as u64);
        let mut cx = SourceContext { now, wall: WallTime(0), files: &mut self.files };
        let advance = self.reader.advance(&mut cx)?;
        self.notices.extend(std::iter::from_fn(|| self.reader.notice()));
        match advance {
            Advance::Record => {
                let (meta, message) = self.reader.current();
                self.records.push(read(meta.at, &message));
            }
            Advance::Wait(until) => {
                sleep(Duration::from_nanos(until.0.saturating_sub(now.0)));
            }
            Advance::End => self.ended = true,
            other => assert!(!matches!(other, Advance::Malformed { .. }), "{other:?}"),
        }
        Ok(())
    }

    /// Reads until this is so.
    pub(crate) fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            self.step().unwrap();
            assert!(!self.ended, "it has ended");
            let count = self.records.len();
            assert!(began.elapsed() < PATIENCE, "{count} records, {:?}", self.notices);
        }
    }

    pub(crate) fn read_to_end(&mut self) {
        let began = Instant::now();
        while !self.ended {
            self.step().unwrap();
            assert!(began.elapsed() < PATIENCE, "it does not end: {:?}", self.reader);
        }
    }

    /// Reads on for a while in which nothing may come.
    pub(crate) fn quiet(&mut self) {
        let (began, count) = (Instant::now(), self.records.len());
        while began.elapsed() < QUIET {
            self.step().unwrap();
        }
        assert_eq!(self.records.len(), count);
    }

    /// Reads until it fails.
    pub(crate) fn error(&mut self) -> String {
        let (began, count) = (Instant::now(), self.records.len());
        loop {
            if let Err(error) = self.step() {
                assert_eq!(self.records.len(), count, "it has read on");
                return error;
            }
            assert!(began.elapsed() < PATIENCE, "it does not fail: {:?}", self.reader);
        }
    }

    pub(crate) fn by_partition(&self) -> BTreeMap<i32, Vec<String>> {
        let mut all: BTreeMap<i32, Vec<String>> = BTreeMap::new();
        for record in &self.records {
            all.entry(record.partition).or_default().extend(record.value.clone());
        }
        all
    }
}

fn read(at: EventTime, message: &Message<'_>) -> Read {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("it was written as text");
    let headers = message.headers.iter();
    Read {
        partition: message.partition as i32,
        key: message.key.map(text),
        value: message.value.map(text),
        headers: headers.map(|it| (it.name.to_owned(), it.value.map(text))).collect(),
        at,
    }
}

/// A job that writes what it reads to files, in a process of its own.
pub(crate) struct Job {
    room: Room,
    arguments: Vec<String>,
    process: Option<Running>,
}

impl Job {
    pub(crate) fn start(services: &Services, topic: &str) -> Self {
        let arguments = ["--brokers", services.brokers(), "--topic", topic, "--out", "out"];
        let more = ["--epoch-interval", "100ms"];
        let arguments = arguments.iter().chain(&more).map(ToString::to_string).collect();
        let mut job = Self { room: Room::new(JOB), arguments, process: None };
        job.start_again();
        job
    }

    pub(crate) fn start_again(&mut self) {
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        self.process = Some(self.room.start(&arguments));
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let process = self.process.take().expect("it runs");
        assert_eq!(process.kill().code, None, "it ran until it was killed");
    }

    /// Waits until so many lines can be seen.
    pub(crate) fn has_written(&mut self, count: usize) {
        let Self { room, process, .. } = self;
        let process = process.as_mut().expect("it runs");
        let written = || room.lines("out").len() >= count;
        assert!(process.wait_until(written), "it has ended: {}", process.err());
    }

    /// The lines that can be seen: partition, offset and value.
    pub(crate) fn lines(&self) -> Vec<(u32, u64, String)> {
        let line = |line: String| {
            let mut fields = line.splitn(3, '\t');
            let mut next = || fields.next().expect("a line has three fields").to_owned();
            let (partition, offset) = (next(), next());
            (partition.parse().unwrap(), offset.parse().unwrap(), next())
        };
        self.room.lines("out").into_iter().map(line).collect()
    }
}
