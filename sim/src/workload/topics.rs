//! The sources and sinks of a job as topics of Kafka: the connectors of production, the input in a
//! cluster in memory, and what a reader of committed records finds there in the end.

use std::collections::{BTreeMap, BTreeSet};

use gear_connectors::faults::Faults;
use gear_connectors::kafka::model::{Log, ModelCluster, ModelRecord};
use gear_connectors::kafka::sink::SEGMENT_BYTES;
use gear_connectors::kafka::{self, TopicPartition, WhenGone, read_up_to};
use gear_core::api::{Record as _, Ref};
use gear_core::clock::Watermarks;
use gear_core::dsl::{App, FromInput, Stream};
use gear_core::time::Duration;

use super::build::Built;
use super::pace::Pace;
use super::source::{Entry, PartitionData, Rows};
use super::{Row, encode, event_time};
use crate::direct::Store;
use crate::oracle::commits::Commits;
use crate::oracle::gone::Outcome;
use crate::oracle::output;
use crate::oracle::topics::ordered;
use crate::random::{Random, mix};

/// What clients call the cluster.
const BROKERS: &str = "model";
/// Bytes of ballast that a record of a topic has at most: the model's topics take no large ones.
const BALLAST_MAX: usize = 5_000;
/// Transactions of other producers than the job's are numbered from here.
const FOREIGN: u64 = 1 << 32;
/// Time between two looks for partitions that have turned up.
const DISCOVER_EVERY: Duration = Duration::from_millis(20);
/// What the names of topics begin with that a job reads.
const SOURCE: &str = "source-";
/// The id of rows that nobody may see.
const UNSEEN: u64 = u64::MAX;

type Plain = Stream<Row, FromInput<Row>>;

/// The partitions of the input that retention has met.
pub type Overtaken = BTreeMap<TopicPartition, Met>;

/// What retention has met in a partition, and what the job has said of it.
#[derive(Clone, Debug, Default)]
pub struct Met {
    /// All that readers of committed records could ever see there: offsets and values.
    pub records: Vec<(u64, Vec<u8>)>,
    /// The offsets of those that were removed before an epoch had read them.
    pub unread: BTreeSet<u64>,
    /// From where to where the job has said that it goes on.
    pub told: Vec<(u64, u64)>,
}

/// How sources and sinks are topics.
#[derive(Clone, Copy, Debug)]
pub struct Topics {
    seed: u64,
    /// Bytes of output that a task holds in memory.
    memory: usize,
    /// Bytes of output that make up an object of the store.
    segment: usize,
    /// After this time the cluster ends a transaction.
    pub timeout: Duration,
    /// What the job does where its position is gone.
    pub when_gone: WhenGone,
    /// Retention removes what was not read, too.
    pub overtaken: bool,
    /// Partitions turn up while the job runs, which never ends by itself.
    pub grows: bool,
    /// How sources read.
    pub pace: Pace,
    /// What comes at once is of several partitions.
    pub mixes: bool,
    read: fn(&Self, &mut App<()>, usize, Watermarks) -> Plain,
    write: fn(&Self, Plain, &str),
}

impl Topics {
    /// What a seed means, with connectors that have these bugs.
    #[must_use]
    pub fn draw<F: Faults>(seed: u64) -> Self {
        let mut random = Random::for_part(seed, 140);
        let (when_gone, overtaken) = draw_gone(&mut Random::for_part(seed, 142));
        let memory = random.pick(&[0, 200, 2_000, 1 << 26]);
        let timeout = random.pick(&[60, 300, 1_000, 60_000]);
        Self {
            seed,
            memory,
            segment: Random::for_part(seed, 148).pick(&[1, 500, SEGMENT_BYTES]),
            timeout: Duration::from_millis(timeout),
            when_gone,
            overtaken,
            grows: false,
            pace: Pace::draw(&mut Random::for_part(seed, 143)),
            mixes: Random::for_part(seed, 147).permille(400),
            read: read::<F>,
            write: write::<F>,
        }
    }

    /// The rows of a source, by its number.
    pub(super) fn read(&self, app: &mut App<()>, number: usize, watermarks: Watermarks) -> Plain {
        (self.read)(self, app, number, watermarks)
    }

    /// Rows to a topic of this name.
    pub(super) fn write(&self, stream: Plain, name: &str) {
        (self.write)(self, stream, name);
    }

    /// A cluster that holds the input, and has these topics for the output.
    #[must_use]
    pub fn cluster(&self, sources: &[Rows], built: &Built) -> ModelCluster {
        let cluster = ModelCluster::new();
        cluster.set_unwritten(self.grows);
        for (number, rows) in sources.iter().enumerate() {
            let there = if self.grows { 1 } else { rows.partitions.len() };
            cluster.create(&topic(number), there as u32);
            (0..there).for_each(|partition| self.fill(&cluster, number, (rows, partition)));
        }
        for sink in &built.job.sinks {
            cluster.create(&sink.name, self.partitions(&sink.name));
        }
        cluster
    }

    fn fill(&self, cluster: &ModelCluster, number: usize, (rows, partition): (&Rows, usize)) {
        let mut random = Random::for_part(self.seed ^ mix(partition as u64), 141);
        let entries = &rows.partitions[partition].entries;
        cluster.with(&topic(number), partition as u32, |log| fill(log, entries, &mut random));
    }

    /// One more partition of the input turns up; false if all are there.
    #[must_use]
    pub fn grow(&self, cluster: &ModelCluster, sources: &[Rows], random: &mut Random) -> bool {
        let counts: BTreeMap<String, u32> = cluster.topics().into_iter().collect();
        let count = |number: usize| counts[&topic(number)] as usize;
        let short = sources.iter().enumerate();
        let short: Vec<_> = short.filter(|(at, it)| count(*at) < it.partitions.len()).collect();
        if short.is_empty() {
            return false;
        }
        let (number, rows) = short[random.place(short.len())];
        cluster.grow(&topic(number), count(number) as u32 + 1);
        self.fill(cluster, number, (rows, count(number)));
        true
    }

    /// True if a job that copies its input has read all there is of it, but for what it may pass,
    /// and a reader finds all of that in its topics.
    #[must_use]
    pub fn is_through(
        &self,
        (cluster, overtaken): (&ModelCluster, &Overtaken),
        (sources, built): (&[Rows], &Built),
        (commits, store): (&Commits, &Store),
    ) -> bool {
        let counts: BTreeMap<String, u32> = cluster.topics().into_iter().collect();
        let read: BTreeMap<_, _> = commits.partitions().iter().filter_map(read_up_to).collect();
        let at_end = |(number, rows): (usize, &Rows)| {
            let topic = topic(number);
            counts[&topic] as usize == rows.partitions.len()
                && (0..counts[&topic]).all(|partition| {
                    let of = TopicPartition { topic: topic.clone(), partition };
                    let position = read.get(&of).copied();
                    let rest =
                        |log: &mut Log| log.read(position.unwrap_or(log.start()), usize::MAX, true);
                    let rest = cluster.with(&topic, partition, rest);
                    rest.is_some_and(|rest| rest.records.is_empty())
                })
        };
        if !sources.iter().enumerate().all(at_end) {
            return false;
        }
        let aside = commits.quarantined(store).unwrap_or_default();
        let (found, _) = found(self, cluster, built, sources);
        let input = (sources, built.ordered.as_slice());
        let (read, _) = read_at_all(input, overtaken, &found, &aside, false);
        let entries =
            |rows: &Rows| -> usize { rows.partitions.iter().map(|data| data.entries.len()).sum() };
        let all: usize = read.iter().map(entries).sum();
        let copied = |ordered: bool| {
            let names = built.job.sinks.iter().map(|sink| &sink.name);
            let names = names.filter(|name| built.ordered.contains(name) == ordered);
            names.map(|name| found.get(name).map_or(0, Vec::len)).sum::<usize>()
        };
        copied(true) + aside.len() >= all && copied(false) + aside.len() >= all
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

/// What the model has to be given: the input but for what the job passes, as it has told, since
/// retention was faster. And what is wrong with what is missing. `part` if the app has ended before
/// it had read all.
#[must_use]
pub fn read_at_all(
    (sources, ordered): (&[Rows], &[String]),
    overtaken: &Overtaken,
    found: &output::Rows,
    aside: &[(String, Vec<u8>)],
    part: bool,
) -> (Vec<Rows>, Vec<String>) {
    let mut violations = Vec::new();
    let mut read_of = |(number, rows): (usize, &Rows)| {
        // All that was read goes on its own to a topic, or is put aside as no row.
        let through = found.get(&ordered[number]).into_iter().flatten().cloned();
        let decoder = decoder(number);
        let refused = aside.iter().filter(|(operator, _)| *operator == decoder);
        let read: BTreeSet<Vec<u8>> =
            through.chain(refused.map(|(_, bytes)| bytes.clone())).collect();
        let partitions = rows.partitions.iter().enumerate().map(|(partition, data)| {
            let of = TopicPartition { topic: topic(number), partition: partition as u32 };
            let nothing = Met::default();
            let met = overtaken.get(&of).unwrap_or(&nothing);
            let (entries, wrong) = met.entries(&of, &data.entries, &read, part);
            violations.extend(wrong);
            PartitionData { name: data.name.clone(), entries }
        });
        Rows { partitions: partitions.collect::<Vec<_>>().into(), ..rows.clone() }
    };
    let read = sources.iter().enumerate().map(&mut read_of).collect();
    (read, violations)
}

impl Met {
    /// The entries of a partition that a job has to read, with what is wrong with those that it has
    /// not.
    fn entries(
        &self,
        of: &TopicPartition,
        entries: &[Entry],
        read: &BTreeSet<Vec<u8>>,
        part: bool,
    ) -> (Vec<Entry>, Vec<String>) {
        // What was put aside is known with the epoch, and the rows before it only later.
        let judged = |entry: &&Entry| !part || matches!(entry, Entry::Row(_));
        let bytes = |entry: &Entry| match entry {
            Entry::Row(_) => value(entry),
            Entry::Malformed(bytes) => as_bytes(bytes),
        };
        let offsets: BTreeMap<&[u8], u64> =
            self.records.iter().map(|(offset, value)| (value.as_slice(), *offset)).collect();
        let record = |(place, entry): (u64, &Entry)| {
            let offset = offsets.get(value(entry).as_slice()).copied();
            (offset.unwrap_or(place), read.contains(&bytes(entry)))
        };
        let judged: Vec<&Entry> = entries.iter().filter(judged).collect();
        let records: Vec<_> = (0..).zip(judged.iter().copied()).map(record).collect();
        let unread = records.iter().take_while(|(offset, _)| self.unread.contains(offset)).count();
        let outcome = Outcome { records, unread, told: self.told.clone(), part };
        let missing = |place: &usize| !outcome.records[*place].1 && outcome.may_miss(*place);
        let missing: BTreeSet<Vec<u8>> =
            (0..judged.len()).filter(missing).map(|place| value(judged[place])).collect();
        let entries = entries.iter().filter(|entry| !missing.contains(&value(entry))).cloned();
        (entries.collect(), outcome.judge(of))
    }
}

/// What a job has chosen for a position that is gone, and whether retention makes use of it.
fn draw_gone(random: &mut Random) -> (WhenGone, bool) {
    match random.below(1_000) {
        0..350 => (WhenGone::Earliest, true),
        350..600 => (WhenGone::Latest, true),
        600..850 => (WhenGone::Fail, true),
        _ => (WhenGone::Fail, false),
    }
}

/// The topic of a source, which is its name too.
fn topic(number: usize) -> String {
    format!("{SOURCE}{number}")
}

/// True for the topics that a job reads.
#[must_use]
pub fn is_input(topic: &str) -> bool {
    topic.starts_with(SOURCE)
}

/// The operator that makes rows of what a source gives.
pub(super) fn decoder(number: usize) -> String {
    format!("decode-{number}")
}

/// A record's value as an operator gets it.
pub(crate) fn as_bytes(value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Ref::<[u8]>::encode(&value, &mut bytes);
    bytes
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

fn read<F: Faults>(
    topics: &Topics,
    app: &mut App<()>,
    number: usize,
    watermarks: Watermarks,
) -> Plain {
    let topic = topic(number);
    let source = kafka::source(BROKERS, [topic.as_str()]).when_gone(topics.when_gone);
    let source = match topics.grows {
        true => source.discover_every(DISCOVER_EVERY),
        false => source.until_end(),
    };
    let source = source.bytes().with_faults::<F>();
    app.source(&topic, source)
        .try_map::<Row, _, _>(&decoder(number), |bytes| row(bytes))
        .event_time(&format!("time-{number}"), event_time)
        .watermarks(watermarks)
        .fork()
}

fn write<F: Faults>(topics: &Topics, stream: Plain, name: &str) {
    let sink = kafka::sink_with::<Row>(BROKERS, name, |row, record| {
        record.key(row.1.to_le_bytes()).value(encode(&row));
    });
    let timeout = topics.timeout.as_millis().to_string();
    let sink = sink.memory_bytes(topics.memory).segment_bytes(topics.segment);
    let sink = sink.set("transaction.timeout.ms", timeout);
    stream.sink(name, sink.with_faults::<F>());
}

pub(super) fn row(mut bytes: &[u8]) -> Result<Row, String> {
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

#[cfg(test)]
mod tests {
    use super::super::source::{Gate, Pace};
    use super::*;

    #[test]
    fn what_was_passed_is_left_out_unless_it_was_read() {
        let row = |id| Entry::Row((id, 1, 1, String::new()));
        let refused = |text: &str| Entry::Malformed(text.as_bytes().to_vec());
        let entries = vec![row(1), row(2), refused("a"), refused("b"), row(3)];
        let data = PartitionData { name: "p".to_owned(), entries: entries.clone() };
        let pace = Pace { burst: 1, gap: Duration::ZERO };
        let rows = Rows { partitions: vec![data].into(), pace, gate: Gate::default() };
        let records: Vec<_> = (0..).zip(entries.iter().map(value)).collect();
        let met = Met { records, unread: (0..2).collect(), told: vec![(2, 3)] };
        let of = TopicPartition { topic: topic(0), partition: 0 };
        let overtaken = Overtaken::from([(of, met)]);
        let through = [2, 3].map(|id| value(&row(id))).to_vec();
        let found = output::Rows::from([("through".to_owned(), through)]);
        let aside = [(decoder(0), as_bytes(b"b"))];
        let ordered = ["through".to_owned()];
        let (read, wrong) = read_at_all((&[rows], &ordered), &overtaken, &found, &aside, false);
        assert_eq!(wrong, [] as [String; 0]);
        let read: Vec<_> = read[0].partitions[0].entries.iter().map(value).collect();
        assert_eq!(read, [row(2), refused("b"), row(3)].map(|entry| value(&entry)));
    }
}
