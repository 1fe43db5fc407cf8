//! Consumers over librdkafka: one thread each, on which every call that waits is made.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError as Client, RDKafkaErrorCode as Code};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::errors::{Errors, is_refusal, is_unknown, may_pass};
use super::fetched::{Fetched, Fetcher};
use crate::kafka::error::KafkaError;
use crate::kafka::port::{
    Batch, Consumer, Consumers, Event, Fetch, Found, NO_TIMESTAMP, Place, Request, TopicPartition,
};
use crate::kafka::record::{Header, Headers};
use crate::kafka::settings::ClientSettings;

/// Time for which a cluster that does not answer is waited for when a job starts.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for which a topic that is not known is waited for then: one that was just made is known to
/// every broker within that.
pub const TOPIC_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that a question to the cluster may take; it is asked again then.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two questions that fail at once.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes at which a batch is handed over: amortises the hand-over, and stays in the second-level
/// cache.
const BATCH_BYTES: usize = 256 * 1_024;
/// Records at which a batch is handed over.
const BATCH_RECORDS: usize = 4_096;
/// Bytes of a batch that is used again: one that has held a very large record is given up.
const SPENT_BYTES_MAX: usize = 4 * BATCH_BYTES;
/// Batches that wait for the task; then the thread waits, and librdkafka stops fetching when its
/// own queue is full: 2 MiB, and at most 8 of the largest records.
const QUEUE_BATCHES: usize = 8;
/// Time that the thread waits for a record before it looks for requests.
const POLL: Duration = Duration::from_millis(5);
/// The longest that librdkafka allows between two polls: a job whose output is blocked reads
/// nothing.
const POLL_INTERVAL_MAX_MS: &str = "86400000";

/// Makes consumers over librdkafka.
#[derive(Clone, Copy, Debug, Default)]
pub struct RdConsumers;

impl Consumers for RdConsumers {
    fn partitions(
        &mut self,
        settings: &ClientSettings,
        topics: &[String],
    ) -> Result<Vec<u32>, KafkaError> {
        let client = client(settings)?;
        let began = Instant::now();
        let mut counts = Vec::new();
        for topic in topics {
            counts.push(count_in_time(&client, settings, topic, began)?);
        }
        end(Fetcher::new(client));
        Ok(counts)
    }

    fn consumer(&mut self, settings: &ClientSettings) -> Result<Box<dyn Consumer>, KafkaError> {
        let client = client(settings)?;
        let (requests, asked) = channel();
        let (told, events) = sync_channel(QUEUE_BATCHES);
        let (give, spent) = channel();
        let reader = Reader {
            fetcher: Fetcher::new(client),
            settings: settings.clone(),
            round: 0,
            ends: false,
            numbers: Numbers::default(),
            batch: Batch::default(),
            reached: BTreeMap::new(),
            spent,
        };
        let thread = thread::Builder::new().name("gear-kafka-read".to_owned());
        let spawned = thread.spawn(move || {
            let mut reader = reader;
            reader.run(&asked, &told);
        });
        spawned
            .map_err(|error| Errors { settings }.failed("no thread to read", error.to_string()))?;
        Ok(Box::new(Handle { requests, events, give, settings: settings.clone() }))
    }
}

/// A consumer, as its task has it.
struct Handle {
    requests: Sender<Request>,
    events: Receiver<Event>,
    give: Sender<Batch>,
    settings: ClientSettings,
}

// What a thread that has ended does not take nobody misses: the next poll tells that it has.
impl Consumer for Handle {
    fn ask(&mut self, request: Request) {
        let _ = self.requests.send(request);
    }

    fn poll(&mut self) -> Option<Event> {
        match self.events.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                let errors = Errors { settings: &self.settings };
                let reason = "it has ended; this is a defect of Gear: please report it";
                Some(Event::Failed(errors.failed("the thread that reads", reason.to_owned())))
            }
        }
    }

    fn give_back(&mut self, batch: Batch) {
        let _ = self.give.send(batch);
    }
}

/// What librdkafka tells between two records.
#[derive(Default)]
struct Told {
    /// Calls: after one of them a poll has given nothing though there may be more.
    calls: AtomicU64,
    statistics: Mutex<Option<Statistics>>,
    said: Mutex<String>,
}

impl Told {
    /// What was said with the last error, once.
    fn said(&self) -> String {
        std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for Told {
    // What matters of it comes as an error too.
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    fn stats(&self, statistics: Statistics) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        *self.statistics.lock().unwrap_or_else(PoisonError::into_inner) = Some(statistics);
    }

    fn error(&self, _: Client, reason: &str) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        reason.clone_into(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ConsumerContext for Told {}

type Rd = BaseConsumer<Told>;

fn client(settings: &ClientSettings) -> Result<Rd, KafkaError> {
    let mut config = ClientConfig::new();
    for (name, value) in settings.iter() {
        config.set(name, value);
    }
    config.set("max.poll.interval.ms", POLL_INTERVAL_MAX_MS);
    config.create_with_context(Told::default()).map_err(|error| Errors { settings }.creation(error))
}

/// Ends a client on a thread of its own: that takes up to a tenth of a second, and longer if its
/// cluster does not answer.
fn end(client: Fetcher<Told>) {
    // Without a thread it ends here.
    let _ = thread::Builder::new().name("gear-kafka-end".to_owned()).spawn(move || drop(client));
}

/// How many partitions a topic has, waiting for a cluster that does not answer.
fn count_in_time(
    client: &Rd,
    settings: &ClientSettings,
    topic: &str,
    began: Instant,
) -> Result<u32, KafkaError> {
    loop {
        // A refusal is told by polling only, and behind figures for which a poll that does not wait
        // would end.
        while let Some(polled) = client.poll(POLL) {
            if let Err(error) = polled
                && refuses(code_of(&error))
            {
                let said = client.context().said();
                let errors = Errors { settings };
                return Err(errors.of(code_of(&error), "this cluster", 0, &said));
            }
        }
        let error = match count(client, settings, topic, began) {
            Err(error) => error,
            found => return found,
        };
        let most = match error {
            KafkaError::UnknownTopic { .. } => TOPIC_TIMEOUT,
            ref error if error.may_pass() => START_TIMEOUT,
            error => return Err(error),
        };
        if began.elapsed() >= most {
            return Err(error);
        }
        thread::sleep(PAUSE);
    }
}

/// How many partitions a topic has.
fn count(
    client: &Rd,
    settings: &ClientSettings,
    topic: &str,
    began: Instant,
) -> Result<u32, KafkaError> {
    let errors = Errors { settings };
    let what = format!("the topic `{topic}`");
    let of = |code: Code| {
        if is_unknown(code) {
            return errors.unknown_topic(topic);
        }
        errors.of(code, &what, began.elapsed().as_secs(), &client.context().said())
    };
    let metadata = client.fetch_metadata(Some(topic), QUESTION_TIMEOUT);
    let metadata = metadata.map_err(|error| of(code_of(&error)))?;
    let found = metadata.topics().iter().find(|it| it.name() == topic);
    let Some(found) = found else { return Err(errors.unknown_topic(topic)) };
    match found.error() {
        None => Ok(found.partitions().len() as u32),
        Some(code) => Err(of(code.into())),
    }
}

/// True if this user is not let in. The library looks for the coordinator of the group that it has
/// to be given, though nothing is kept there: that this is refused changes nothing.
fn refuses(code: Code) -> bool {
    is_refusal(code) && code != Code::GroupAuthorizationFailed
}

fn code_of(error: &Client) -> Code {
    error.rdkafka_error_code().unwrap_or(Code::Fail)
}

/// The partitions that are read, and their numbers.
#[derive(Default)]
struct Numbers {
    all: BTreeMap<String, BTreeMap<i32, u32>>,
    /// Of the last record, by its topic's number: the next one is of the same partition nearly
    /// always.
    last: (usize, i32, u32),
}

impl Numbers {
    fn new(from: &[Fetch]) -> Self {
        let mut all: BTreeMap<String, BTreeMap<i32, u32>> = BTreeMap::new();
        for Fetch { number, partition, .. } in from {
            let numbers = all.entry(partition.topic.clone()).or_default();
            numbers.insert(partition.partition as i32, *number);
        }
        Self { all, last: (0, -1, 0) }
    }

    #[inline]
    fn get(&mut self, of: Fetched<'_>) -> Option<u32> {
        let (topic, partition, number) = self.last;
        if (topic, partition) == (of.topic_number(), of.partition()) {
            return Some(number);
        }
        let numbers = self.all.get(of.topic().to_str().ok()?)?;
        let number = *numbers.get(&of.partition())?;
        self.last = (of.topic_number(), of.partition(), number);
        Some(number)
    }

    fn remove(&mut self, number: u32) -> Option<TopicPartition> {
        for (topic, numbers) in &mut self.all {
            let found = numbers.iter().find(|(_, it)| **it == number).map(|(it, _)| *it);
            if let Some(partition) = found {
                numbers.remove(&partition);
                self.last.1 = -1;
                return Some(TopicPartition { topic: topic.clone(), partition: partition as u32 });
            }
        }
        None
    }
}

/// What the thread works on.
struct Reader {
    fetcher: Fetcher<Told>,
    settings: ClientSettings,
    round: u64,
    ends: bool,
    numbers: Numbers,
    batch: Batch,
    /// Ends that are told as soon as what came before them is, by the partitions' numbers.
    reached: BTreeMap<u32, u64>,
    spent: Receiver<Batch>,
}

/// Nobody reads any more.
struct Gone;

impl Reader {
    /// Reads until nobody does.
    fn run(&mut self, requests: &Receiver<Request>, events: &SyncSender<Event>) {
        loop {
            let going_on = match requests.try_recv() {
                Ok(request) => self.answer(request, events),
                Err(TryRecvError::Empty) => self.read(events),
                Err(TryRecvError::Disconnected) => Err(Gone),
            };
            if going_on.is_err() {
                return;
            }
        }
    }

    fn client(&self) -> &Rd {
        self.fetcher.client()
    }

    fn answer(&mut self, request: Request, events: &SyncSender<Event>) -> Result<(), Gone> {
        let event = match request {
            Request::Topics(topics) => {
                let began = Instant::now();
                let count = |it: &String| count(self.client(), &self.settings, it, began);
                Event::Topics(topics.iter().map(count).collect())
            }
            Request::Offsets(questions) => {
                let found = questions.iter().map(|(place, of)| self.offsets(*place, of));
                Event::Offsets(found.collect())
            }
            Request::Fetch { round, from, ends } => match self.fetch(round, &from, ends) {
                Ok(()) => return Ok(()),
                Err(error) => Event::Failed(error),
            },
            Request::Stop { round, number } => {
                self.stop(round, number);
                return Ok(());
            }
        };
        events.send(event).map_err(|_| Gone)
    }

    /// Where a place is in each of these partitions.
    fn offsets(&self, place: Place, of: &[TopicPartition]) -> Vec<Found> {
        let began = Instant::now();
        let ask = || -> Result<TopicPartitionList, Client> {
            let mut list = TopicPartitionList::with_capacity(of.len());
            let offset = match place {
                Place::Earliest => Offset::Beginning,
                Place::Latest => Offset::End,
                Place::At(time) => Offset::Offset(time),
            };
            for it in of {
                list.add_partition_offset(&it.topic, it.partition as i32, offset)?;
            }
            self.client().offsets_for_times(list, QUESTION_TIMEOUT)
        };
        let found = match ask() {
            Ok(found) => found,
            Err(error) => {
                let code = code_of(&error);
                return of.iter().map(|it| Err(self.why(code, it, began))).collect();
            }
        };
        let of = of.iter().map(|it| {
            let found = found.find_partition(&it.topic, it.partition as i32);
            let Some(found) = found else { return Err(self.why(Code::Fail, it, began)) };
            if let Err(error) = found.error() {
                return Err(self.why(code_of(&error), it, began));
            }
            Ok(match found.offset() {
                Offset::Offset(offset) => u64::try_from(offset).ok(),
                _ => None,
            })
        });
        of.collect()
    }

    /// Why a question about a partition has failed: the code may be another one's.
    fn why(&self, code: Code, of: &TopicPartition, began: Instant) -> KafkaError {
        let TopicPartition { topic, partition } = of;
        let errors = Errors { settings: &self.settings };
        if is_unknown(code) {
            return match count(self.client(), &self.settings, topic, began) {
                Err(error) => error,
                Ok(count) if *partition >= count => {
                    let (topic, partition) = (topic.clone(), *partition);
                    KafkaError::UnknownPartition { topic, partition, count }
                }
                Ok(_) => errors.unreachable(began.elapsed().as_secs(), code.to_string()),
            };
        }
        let what = format!("partition {partition} of the topic `{topic}`");
        errors.of(code, &what, began.elapsed().as_secs(), "")
    }

    /// Begins a round. Each has a client of its own after the first: nothing that one of an
    /// earlier round had fetched can come into it.
    fn fetch(&mut self, round: u64, from: &[Fetch], ends: bool) -> Result<(), KafkaError> {
        if self.round > 0 {
            let fetcher = Fetcher::new(client(&self.settings)?);
            end(std::mem::replace(&mut self.fetcher, fetcher));
        }
        (self.round, self.ends) = (round, ends);
        self.numbers = Numbers::new(from);
        self.reached.clear();
        self.batch.clear(round);
        let named = from.iter().map(|Fetch { partition: it, .. }| it);
        let named = named.map(|it| (it.topic.as_str(), it.partition as i32));
        let forwarded = self.fetcher.forward(named);
        forwarded.map_err(|topic| Errors { settings: &self.settings }.unknown_topic(topic))?;
        let assign = || -> Result<(), Client> {
            let mut list = TopicPartitionList::with_capacity(from.len());
            for Fetch { partition: TopicPartition { topic, partition }, offset, .. } in from {
                let offset = Offset::Offset(i64::try_from(*offset).unwrap_or(i64::MAX));
                list.add_partition_offset(topic, *partition as i32, offset)?;
            }
            self.client().assign(&list)
        };
        let failed = |error: Client| {
            let errors = Errors { settings: &self.settings };
            errors.failed("the partitions cannot be assigned", error.to_string())
        };
        assign().map_err(failed)
    }

    fn stop(&mut self, round: u64, number: u32) {
        if round != self.round {
            return;
        }
        let Some(TopicPartition { topic, partition }) = self.numbers.remove(number) else { return };
        let mut list = TopicPartitionList::new();
        list.add_partition(&topic, partition as i32);
        // What comes nevertheless has no number, and is passed.
        let _ = self.client().pause(&list);
    }

    /// Reads a batch, as much of it as there is.
    fn read(&mut self, events: &SyncSender<Event>) -> Result<(), Gone> {
        self.hear(events)?;
        let Self { fetcher, numbers, batch, .. } = self;
        let mut failure = None;
        let all = fetcher.take(POLL, |fetched| {
            if let Some(error) = fetched.error() {
                failure = Some(error);
                return ControlFlow::Break(());
            }
            if let Some(number) = numbers.get(fetched) {
                push(batch, number, fetched);
            }
            let full = batch.bytes() >= BATCH_BYTES || batch.entries().len() >= BATCH_RECORDS;
            if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        self.hand_over(events)?;
        if let Some((code, said)) = failure {
            return self.failed((code, false, said), events);
        }
        if all {
            self.tell_reached(events)?;
        }
        self.tell_ends(events)
    }

    /// Hears all that the library tells between two records, which come from another queue.
    fn hear(&self, events: &SyncSender<Event>) -> Result<(), Gone> {
        let told = self.client().context();
        loop {
            let calls = told.calls.load(Ordering::Relaxed);
            match self.client().poll(Duration::ZERO) {
                Some(Err(error)) => {
                    let fatal = matches!(error, Client::MessageConsumptionFatal(_));
                    self.failed((code_of(&error), fatal, told.said()), events)?;
                }
                Some(Ok(_)) => unreachable!("a partition was assigned that is not forwarded"),
                None if calls == told.calls.load(Ordering::Relaxed) => return Ok(()),
                None => {}
            }
        }
    }

    fn hand_over(&mut self, events: &SyncSender<Event>) -> Result<(), Gone> {
        if self.batch.entries().is_empty() {
            return Ok(());
        }
        let spent = self.spent.try_recv().ok().filter(|it| it.capacity() <= SPENT_BYTES_MAX);
        let mut next = spent.unwrap_or_default();
        next.clear(self.round);
        let batch = std::mem::replace(&mut self.batch, next);
        events.send(Event::Batch(batch)).map_err(|_| Gone)
    }

    fn tell_reached(&mut self, events: &SyncSender<Event>) -> Result<(), Gone> {
        for (number, offset) in std::mem::take(&mut self.reached) {
            let event = Event::Reached { round: self.round, number, offset };
            events.send(event).map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// Tells where partitions end, if librdkafka has just said so.
    fn tell_ends(&mut self, events: &SyncSender<Event>) -> Result<(), Gone> {
        let told = self.client().context();
        let statistics = told.statistics.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(statistics) = statistics else { return Ok(()) };
        let committed = self.settings.get("isolation.level") == Some("read_committed");
        let mut ends = Vec::new();
        for (topic, of) in &statistics.topics {
            let Some(numbers) = self.numbers.all.get(topic) else { continue };
            for (partition, of) in &of.partitions {
                let Some(number) = numbers.get(partition) else { continue };
                let end = if committed { of.ls_offset } else { of.hi_offset };
                if let Ok(end) = u64::try_from(end) {
                    ends.push((*number, end));
                }
                if self.ends
                    && let Ok(offset) = u64::try_from(of.eof_offset)
                {
                    self.reached.insert(*number, offset);
                }
            }
        }
        let event = Event::Ends { round: self.round, ends };
        events.send(event).map_err(|_| Gone)
    }

    fn failed(
        &self,
        (code, fatal, said): (Code, bool, String),
        events: &SyncSender<Event>,
    ) -> Result<(), Gone> {
        let round = self.round;
        let errors = Errors { settings: &self.settings };
        let event = match code {
            // A log that was cut is looked at again, too.
            Code::AutoOffsetReset
            | Code::OffsetOutOfRange
            | Code::NoOffset
            | Code::LogTruncation => Event::OutOfRange { round },
            code if is_unknown(code) => Event::OutOfRange { round },
            code if refuses(code) || fatal => {
                Event::Failed(errors.of(code, "what is read", 0, &said))
            }
            // One of several brokers; of the last one more is told.
            Code::BrokerTransportFailure | Code::Resolve => return Ok(()),
            Code::GroupAuthorizationFailed => return Ok(()),
            code if may_pass(code) => Event::Trouble(errors.of(code, "reading", 0, &said)),
            code => Event::Trouble(errors.of(code, "reading has failed", 0, &said)),
        };
        events.send(event).map_err(|_| Gone)
    }
}

#[inline]
fn push(batch: &mut Batch, number: u32, fetched: Fetched<'_>) {
    let timestamp = fetched.timestamp().unwrap_or(NO_TIMESTAMP);
    let place = (number, fetched.offset() as u64, timestamp);
    batch.push(place, fetched.key(), fetched.value(), |out| {
        let mut is_text = true;
        fetched.headers(|name: &CStr, value| match name.to_str() {
            Ok(name) => Headers::put(Header { name, value }, out),
            // Anybody can send one.
            Err(_) => is_text = false,
        });
        is_text
    });
}
