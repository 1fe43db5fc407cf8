//! The sources and sinks of a job as topics of Kafka: the connectors of production, the input in a
//! cluster in memory, and what a reader of committed records finds there in the end.

use std::collections::BTreeMap;

use gear_connectors::faults::Faults;
use gear_connectors::kafka;
use gear_connectors::kafka::model::{Log, ModelCluster, ModelRecord};
use gear_core::api::Record as _;
use gear_core::clock::Watermarks;
use gear_core::dsl::{App, FromInput, Stream};
use gear_core::time::Duration;

use super::build::Built;
use super::source::{Entry, PartitionData, Rows};
use super::{Row, encode, event_time};
use crate::oracle::output;
use crate::oracle::topics::ordered;
use crate::random::{Random, mix};

/// What clients call the cluster.
const BROKERS: &str = "model";
/// Bytes of ballast that a record of a topic has at most: the model's topics take no large ones.
const BALLAST_MAX: usize = 5_000;
/// Transactions of other producers than the job's are numbered from here.
const FOREIGN: u64 = 1 << 32;
/// The id of rows that nobody may see.
const UNSEEN: u64 = u64::MAX;

type Plain = Stream<Row, FromInput<Row>>;

/// How sources and sinks are topics.
#[derive(Clone, Copy, Debug)]
pub struct Topics {
    seed: u64,
    /// Bytes of output that a task holds in memory.
    memory: usize,
    /// After this time the cluster ends a transaction.
    pub timeout: Duration,
    read: fn(&mut App<()>, usize, Watermarks) -> Plain,
    write: fn(&Self, Plain, &str),
}

impl Topics {
    /// What a seed means, with connectors that have these bugs.
    #[must_use]
    pub fn draw<F: Faults>(seed: u64) -> Self {
        let mut random = Random::for_part(seed, 140);
        Self {
            seed,
            memory: random.pick(&[0, 200, 2_000, 1 << 26]),
            timeout: Duration::from_millis(random.pick(&[300, 1_000, 3_000, 60_000])),
            read: read::<F>,
            write: write::<F>,
        }
    }

    /// The rows of a source, by its number.
    pub(super) fn read(&self, app: &mut App<()>, number: usize, watermarks: Watermarks) -> Plain {
        (self.read)(app, number, watermarks)
    }

    /// Rows to a topic of this name.
    pub(super) fn write(&self, stream: Plain, name: &str) {
        (self.write)(self, stream, name);
    }

    /// A cluster that holds the input, and has these topics for the output.
    #[must_use]
    pub fn cluster(&self, sources: &[Rows], built: &Built) -> ModelCluster {
        let cluster = ModelCluster::new();
        for (number, rows) in sources.iter().enumerate() {
            let topic = topic(number);
            cluster.create(&topic, rows.partitions.len() as u32);
            for (partition, data) in rows.partitions.iter().enumerate() {
                let mut random = Random::for_part(self.seed ^ mix(partition as u64), 141);
                cluster.with(&topic, partition as u32, |log| fill(log, &data.entries, &mut random));
            }
        }
        for sink in &built.job.sinks {
            cluster.create(&sink.name, self.partitions(&sink.name));
        }
        cluster
    }

    /// Partitions of a topic for output.
    fn partitions(&self, name: &str) -> u32 {
        1 + (mix(self.seed ^ u64::from(crc32c::crc32c(name.as_bytes()))) % 4) as u32
    }

    /// The rows that a reader of committed records finds, encoded, partition by partition.
    #[must_use]
    pub fn rows(&self, cluster: &ModelCluster, name: &str) -> Vec<Vec<Vec<u8>>> {
        let read = |partition| {
            let read = cluster.with(name, partition, |log| log.read(0, usize::MAX, true));
            let records = read.into_iter().flat_map(|read| read.records);
            records.map(|(_, record)| record.value.unwrap_or_default()).collect()
        };
        (0..self.partitions(name)).map(read).collect()
    }
}

/// What is found in the topics of a job's sinks, by name; and what is wrong with the order of the
/// records that went through as they came.
#[must_use]
pub fn found(
    topics: &Topics,
    cluster: &ModelCluster,
    built: &Built,
    sources: &[Rows],
) -> (output::Rows, Vec<String>) {
    let (mut found, mut violations) = (output::Rows::new(), Vec::new());
    for sink in &built.job.sinks {
        let partitions = topics.rows(cluster, &sink.name);
        if let Some(number) = built.ordered.iter().position(|name| *name == sink.name) {
            let places = places(&sources[number]);
            for partition in &partitions {
                let found = partition.iter().filter_map(|row| places.get(row).copied());
                violations.extend(ordered(&sink.name, found));
            }
        }
        let rows: Vec<Vec<u8>> = partitions.into_iter().flatten().collect();
        if !rows.is_empty() {
            found.insert(sink.name.clone(), rows);
        }
    }
    (found, violations)
}

/// Where a source's rows are: the partition, and the place in it.
fn places(rows: &Rows) -> BTreeMap<Vec<u8>, (usize, usize)> {
    let partitions = rows.partitions.iter().enumerate();
    let entries = partitions.flat_map(|(partition, data)| {
        let entries = data.entries.iter().enumerate();
        entries.map(move |(place, entry)| (value(entry), (partition, place)))
    });
    entries.collect()
}

/// The topic of a source, which is its name too.
fn topic(number: usize) -> String {
    format!("source-{number}")
}

/// The rows with no more ballast than a topic takes.
#[must_use]
pub fn shortened(mut rows: Rows) -> Rows {
    let short = |entry: &Entry| match entry {
        Entry::Row((id, key, at, ballast)) => {
            Entry::Row((*id, *key, *at, ballast[..ballast.len().min(BALLAST_MAX)].to_owned()))
        }
        Entry::Malformed(bytes) => Entry::Malformed(bytes.clone()),
    };
    let partitions = rows.partitions.iter().map(|data| PartitionData {
        name: data.name.clone(),
        entries: data.entries.iter().map(short).collect(),
    });
    rows.partitions = partitions.collect::<Vec<_>>().into();
    rows
}

fn read<F: Faults>(app: &mut App<()>, number: usize, watermarks: Watermarks) -> Plain {
    let topic = topic(number);
    let source = kafka::source(BROKERS, [topic.as_str()]).until_end().bytes().with_faults::<F>();
    app.source(&topic, source)
        .try_map::<Row, _, _>(&format!("decode-{number}"), |bytes| row(bytes))
        .event_time(&format!("time-{number}"), event_time)
        .watermarks(watermarks)
        .fork()
}

fn write<F: Faults>(topics: &Topics, stream: Plain, name: &str) {
    let sink = kafka::sink_with::<Row>(BROKERS, name, |row, record| {
        record.key(row.1.to_le_bytes()).value(encode(&row));
    });
    let timeout = topics.timeout.as_millis().to_string();
    let sink = sink.memory_bytes(topics.memory).set("transaction.timeout.ms", timeout);
    stream.sink(name, sink.with_faults::<F>());
}

fn row(mut bytes: &[u8]) -> Result<Row, String> {
    match Row::decode(&mut bytes) {
        Ok(row) if bytes.is_empty() => Ok(row),
        _ => Err("is no row".to_owned()),
    }
}

/// What an entry is as a record's value.
pub(crate) fn value(entry: &Entry) -> Vec<u8> {
    match entry {
        Entry::Row(row) => encode(row),
        Entry::Malformed(bytes) => bytes.clone(),
    }
}

/// Fills a log as producers do: in transactions and without, with some that are aborted between
/// them, records that were compacted away, and one transaction that hangs in the end.
fn fill(log: &mut Log, entries: &[Entry], random: &mut Random) {
    let record = |value| ModelRecord { value: Some(value), timestamp: 1, ..ModelRecord::default() };
    let unseen = || record(encode(&(UNSEEN, 0, 0, String::new())));
    let mut begun = FOREIGN;
    let mut begin = || {
        begun += 1;
        begun
    };
    let (mut open, mut doomed) = (None, None);
    for entry in entries {
        if open.is_none() && random.permille(200) {
            open = Some(begin());
        }
        if doomed.is_none() && random.permille(100) {
            let transaction = begin();
            log.append(unseen(), Some(transaction));
            doomed = Some(transaction);
        }
        if random.permille(50) {
            let offset = log.append(unseen(), None);
            log.compact(offset);
        }
        log.append(record(value(entry)), open);
        if let Some(transaction) = open.take_if(|_| random.permille(300)) {
            log.end_transaction(transaction, true);
        }
        if let Some(transaction) = doomed.take_if(|_| random.permille(500)) {
            log.end_transaction(transaction, false);
        }
    }
    for (transaction, commit) in [(open, true), (doomed, false)] {
        if let Some(transaction) = transaction {
            log.end_transaction(transaction, commit);
        }
    }
    if random.permille(200) {
        log.append(unseen(), Some(begin()));
    }
}
