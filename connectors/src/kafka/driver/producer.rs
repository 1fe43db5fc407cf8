//! Producers over librdkafka: one thread for each task that writes. It decides nothing: what the
//! cluster did not do in time is told to the sink, which asks again.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use gear_core::effect::{Blob, IoError, IoErrorKind};
use gear_core::id::TaskId;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError as Client, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, NoCustomPartitioner, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::errors::{is_refusal, is_unknown};
use super::outlet::Outlet;
use super::told::Told;
use super::topic_limit::batch_bytes_max;
use crate::kafka::settings::ClientSettings;
use crate::kafka::sink::{
    Command, Mark, Records, Reply, SERVICE, Session, Stored, Values, decode, encode,
};
use crate::services::Answer;

/// Time that a command may take; then the sink hears that it is not done.
const COMMAND_TIME: Duration = Duration::from_secs(1);
/// Time between two looks whether there is room in the queue.
const LOOK: Duration = Duration::from_micros(500);
/// Time for which the thread waits for a command before it looks for what the library tells.
const IDLE: Duration = Duration::from_millis(500);
/// Records put into the queue between two looks at what became of earlier ones.
const SENDS_PER_POLL: u32 = 1_024;

type Work = (Vec<u8>, Blob, Answer);

/// The producers of a process.
#[derive(Default)]
pub(crate) struct Producers {
    threads: BTreeMap<TaskId, Sender<Work>>,
}

impl fmt::Debug for Producers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producers").field("tasks", &self.threads.keys()).finish()
    }
}

impl Producers {
    /// Carries out a command on the thread of the task.
    pub(crate) fn call(&mut self, task: TaskId, command: Vec<u8>, body: Blob, answer: Answer) {
        let mut work = (command, body, answer);
        if let Some(thread) = self.threads.get(&task) {
            match thread.send(work) {
                Ok(()) => return,
                // It has panicked; what it had is lost, and the sink hears so.
                Err(error) => work = error.0,
            }
        }
        let (sender, incoming) = channel();
        let named = thread::Builder::new().name("gear-kafka-write".to_owned());
        match named.spawn(move || serve(&incoming)) {
            Ok(_) => {
                // The thread lives until its sender is gone.
                let _ = sender.send(work);
                self.threads.insert(task, sender);
            }
            Err(error) => {
                let reason = format!("there can be no thread to write: {error}");
                work.2(Err(failed(reason, IoErrorKind::Unavailable)));
            }
        }
    }
}

fn serve(incoming: &Receiver<Work>) {
    let mut worker = Worker::default();
    loop {
        match incoming.recv_timeout(IDLE) {
            Ok((command, body, answer)) => {
                let perform =
                    || decode(&command).and_then(|command| worker.perform(command, &body));
                let reply = catch_unwind(AssertUnwindSafe(perform)).unwrap_or_else(|_| {
                    let reason = "the thread that writes has panicked".to_owned();
                    Err(failed(reason, IoErrorKind::Other))
                });
                answer(reply.map(|reply| encode(&reply)));
            }
            Err(RecvTimeoutError::Timeout) => {
                for rd in worker.producers.values() {
                    rd.outlet.reap();
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What one task talks to.
#[derive(Default)]
struct Worker {
    /// Asks what the topic is like; kept until it has been told.
    asker: Option<(Values, BaseProducer<Told, NoCustomPartitioner>)>,
    /// By transactional id.
    producers: BTreeMap<Option<String>, Rd>,
}

/// A producer of librdkafka, and how far it is.
struct Rd {
    session: Session,
    /// Its transactional id, which names the group of its mark too; nothing if it has none.
    id: String,
    settings: Values,
    outlet: Outlet<Told>,
    /// Reads and names the group; made when it is needed.
    group: Option<BaseConsumer<Told>>,
    /// A transaction is open.
    began: bool,
    /// The mark is in the transaction.
    marked: bool,
    /// Sends that are done since the last commit or flush, and how far the next one is.
    sends: u32,
    position: usize,
    /// Transactions that are committed.
    commits: u32,
}

impl Drop for Worker {
    fn drop(&mut self) {
        std::mem::take(&mut self.producers).into_values().for_each(end);
    }
}

/// Ends a producer without waiting: librdkafka may take its time.
fn end(rd: Rd) {
    // Without a thread it is ended here.
    let _ = thread::Builder::new().name("gear-kafka-end".to_owned()).spawn(move || drop(rd));
}

impl Worker {
    fn perform(&mut self, command: Command, body: &[u8]) -> Result<Reply, IoError> {
        let deadline = Instant::now() + COMMAND_TIME;
        match command {
            Command::Describe { settings, topic } => self.describe(settings, &topic),
            Command::Open { session, settings, id } => self.open(session, settings, id),
            Command::Look { session, id, topic } => match self.of(Some(id), session) {
                Some(rd) => rd.look(&topic),
                None => Ok(unknown()),
            },
            Command::Send { session, id, topic, number } => {
                let transactional = id.is_some();
                match self.of(id, session) {
                    Some(rd) => rd.send((&topic, number, transactional), body, deadline),
                    None => Ok(unknown()),
                }
            }
            Command::Commit { session, id, topic, mark, number } => {
                match self.of(Some(id), session) {
                    Some(rd) => rd.commit((&topic, mark, number), deadline),
                    None => Ok(unknown()),
                }
            }
            Command::Flush { session } => match self.of(None, session) {
                Some(rd) => rd.flush(deadline),
                None => Ok(unknown()),
            },
        }
    }

    fn of(&mut self, id: Option<String>, session: Session) -> Option<&mut Rd> {
        self.producers.get_mut(&id).filter(|rd| rd.session == session)
    }

    fn describe(&mut self, settings: Values, topic: &str) -> Result<Reply, IoError> {
        if self.asker.as_ref().is_none_or(|(of, _)| *of != settings) {
            let asker = config(&settings).create_with_context(Told::default());
            let asker = asker.map_err(|error| creation(&settings, &error))?;
            self.asker = Some((settings, asker));
        }
        let (settings, asker) = self.asker.as_ref().expect("it was made above");
        let at = address(settings);
        let metadata = asker.client().fetch_metadata(Some(topic), COMMAND_TIME);
        let metadata = metadata.map_err(|error| {
            // Why it did not come the library tells when it is polled.
            asker.poll(LOOK);
            match asker.client().context().cluster() {
                Some((code, reason)) if is_refusal(code) => of_code(at, code, &reason),
                _ => told(at, &error),
            }
        })?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = match found.map(|found| (found.error().map(Code::from), found)) {
            Some((None, found)) if !found.partitions().is_empty() => found.partitions().len(),
            Some((Some(code), _)) if !is_unknown(code) => {
                return Err(of_code(at, code, &format!("the topic `{topic}`: {code}")));
            }
            _ => {
                let reason = format!(
                    "there is no topic `{topic}`: check its name, or make it (it is not made by \
                     itself)"
                );
                return Err(IoError { path: at.to_owned(), reason, kind: IoErrorKind::NotFound });
            }
        };
        let limit = batch_bytes_max(&config(settings), topic, COMMAND_TIME);
        self.asker = None;
        Ok(Reply::Topic { partitions: partitions as u32, limit })
    }

    fn open(
        &mut self,
        session: Session,
        settings: Values,
        id: Option<String>,
    ) -> Result<Reply, IoError> {
        // An answer of it was lost, or it was not done in time: it goes on.
        if self.of(id.clone(), session).is_none() {
            self.producers.remove(&id).into_iter().for_each(end);
            let mut config = config(&settings);
            match &id {
                Some(id) => config.set("transactional.id", id),
                None => config.set("enable.idempotence", "true"),
            };
            let producer = config.create_with_context(Told::default());
            let rd = Rd {
                session,
                id: id.clone().unwrap_or_default(),
                outlet: Outlet::new(producer.map_err(|error| creation(&settings, &error))?),
                settings,
                group: None,
                began: false,
                marked: false,
                sends: 0,
                position: 0,
                commits: 0,
            };
            self.producers.insert(id.clone(), rd);
        }
        let rd = self.producers.get(&id).expect("it was put there");
        if id.is_none() {
            return Ok(Reply::Done);
        }
        rd.producer().poll(LOOK);
        match rd.producer().init_transactions(COMMAND_TIME) {
            Ok(()) => {
                rd.producer().client().context().forget();
                Ok(Reply::Done)
            }
            Err(error) => rd.judge(&error),
        }
    }
}

impl Rd {
    const fn producer(&self) -> &BaseProducer<Told, NoCustomPartitioner> {
        self.outlet.producer()
    }

    fn address(&self) -> &str {
        address(&self.settings)
    }

    /// What an error of a transaction comes to.
    fn judge(&self, error: &Client) -> Result<Reply, IoError> {
        if let Some((code, reason)) = self.producer().client().fatal_error() {
            return self.fatal(code, reason);
        }
        let Client::Transaction(wrong) = error else {
            // The library's own wait, which is bounded.
            return Err(self.late(&error.to_string()));
        };
        let (code, reason) = (wrong.code(), wrong.string());
        if is_refusal(code) {
            // The group of the mark is called so too.
            let reason = format!("`{}`: {reason}", self.id);
            return Err(of_code(self.address(), code, &reason));
        }
        if wrong.is_fatal() {
            return self.fatal(code, reason);
        }
        if wrong.is_retriable() {
            return Err(self.late(&reason));
        }
        if is_permanent(code) {
            return Err(of_code(self.address(), code, &reason));
        }
        Ok(Reply::Lost(format!("{reason} ({code:?})")))
    }

    fn fatal(&self, code: Code, reason: String) -> Result<Reply, IoError> {
        match code {
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => {
                Ok(Reply::Fenced(reason))
            }
            // The next producer would hear the same.
            code if is_refusal(code) => {
                Err(of_code(self.address(), code, &format!("`{}`: {reason}", self.id)))
            }
            code => Ok(Reply::Lost(format!("{reason} ({code:?})"))),
        }
    }

    /// It was not done in time; if the cluster does not let this user in, it never will be.
    fn late(&self, reason: &str) -> IoError {
        match self.producer().client().context().cluster() {
            Some((code, said)) if is_refusal(code) => of_code(self.address(), code, &said),
            Some((_, said)) => {
                let reason = format!("{reason}; {said}");
                IoError { path: self.address().to_owned(), reason, kind: IoErrorKind::Unavailable }
            }
            None => {
                let (path, reason) = (self.address().to_owned(), reason.to_owned());
                IoError { path, reason, kind: IoErrorKind::Unavailable }
            }
        }
    }

    fn group(&mut self) -> Result<&BaseConsumer<Told>, IoError> {
        if self.group.is_none() {
            let mut config = config(&self.settings);
            config.set("group.id", &self.id).set("enable.auto.commit", "false");
            let made = config.create_with_context(Told::default());
            self.group = Some(made.map_err(|error| creation(&self.settings, &error))?);
        }
        Ok(self.group.as_ref().expect("it was made above"))
    }

    fn look(&mut self, topic: &str) -> Result<Reply, IoError> {
        let (at, id) = (self.address().to_owned(), self.id.clone());
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition(topic, MARK_PARTITION);
        let group = self.group()?;
        // Who may not know of the group hears so only when he polls: the question itself goes
        // unanswered.
        let refusal = || match group.poll(LOOK) {
            Some(Err(said)) if said.rdkafka_error_code().is_some_and(is_refusal) => Some(said),
            _ => None,
        };
        let found = group.committed_offsets(wanted, COMMAND_TIME);
        let found = found.map_err(|error| refusal().unwrap_or(error));
        let of_group = |error: Client| {
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            of_code(&at, code, &format!("the group `{id}`: {error}"))
        };
        let found = found.map_err(of_group)?;
        let elements = found.elements();
        let Some(element) = elements.first() else { return Ok(Reply::Mark(None)) };
        element.error().map_err(of_group)?;
        let Offset::Offset(offset) = element.offset() else { return Ok(Reply::Mark(None)) };
        // What another program wrote there may not be text, which the library panics at.
        let metadata = catch_unwind(AssertUnwindSafe(|| element.metadata().to_owned()));
        Ok(Reply::Mark(Some(Mark::read(offset, &metadata.unwrap_or_default()))))
    }

    fn begin(&mut self) -> Result<Option<Reply>, IoError> {
        if self.began {
            return Ok(None);
        }
        // Behind a fatal error the library may not come back from this.
        if let Some((code, reason)) = self.producer().client().fatal_error() {
            return self.fatal(code, reason).map(Some);
        }
        if let Err(error) = self.producer().begin_transaction() {
            return self.judge(&error).map(Some);
        }
        self.began = true;
        Ok(None)
    }

    fn send(
        &mut self,
        (topic, number, transactional): (&str, u32, bool),
        body: &[u8],
        deadline: Instant,
    ) -> Result<Reply, IoError> {
        if number < self.sends {
            return Ok(Reply::Done);
        }
        if number > self.sends {
            return Ok(Reply::Lost("what was to be sent before is missing".to_owned()));
        }
        if transactional && let Some(reply) = self.begin()? {
            return Ok(reply);
        }
        let at = self.position;
        let damaged = |error: &dyn fmt::Display| {
            failed(format!("output that was to be sent is damaged: {error}"), IoErrorKind::Damaged)
        };
        let mut records = Records::new(body, at).map_err(|error| damaged(&error))?;
        let mut count = 0_u32;
        loop {
            self.position = records.position();
            let record = records.take_next().map_err(|error| damaged(&error))?;
            let Some(record) = record else { break };
            count = count.wrapping_add(1);
            if count.is_multiple_of(SENDS_PER_POLL) {
                self.outlet.reap();
            }
            if let Some(reply) = self.put(topic, &record, deadline)? {
                return Ok(reply);
            }
        }
        self.sends += 1;
        self.position = 0;
        self.outlet.reap();
        Ok(Reply::Done)
    }

    /// Puts a record into the queue, and waits for room there.
    fn put(
        &mut self,
        topic: &str,
        record: &Stored<'_>,
        deadline: Instant,
    ) -> Result<Option<Reply>, IoError> {
        loop {
            let Err(code) = self.outlet.put(topic, record) else { return Ok(None) };
            if code != Code::QueueFull {
                if let Some((code, reason)) = self.producer().client().fatal_error() {
                    return self.fatal(code, reason).map(Some);
                }
                if is_permanent(code) || is_refusal(code) {
                    return Err(of_code(self.address(), code, &format!("`{topic}`: {code}")));
                }
                return Ok(Some(Reply::Lost(code.to_string())));
            }
            if Instant::now() >= deadline {
                return Err(self.late("the queue of what is to be sent is full"));
            }
            // The library is not asked to wait: within less than a millisecond it would look again
            // and again.
            if !self.outlet.reap() {
                thread::sleep(LOOK);
            }
        }
    }

    /// What has ended the open transaction, if anything has. The library says so when it is asked
    /// for something that is not possible then; to begin one is not possible in any case.
    fn ended_by(&self) -> Option<(Code, String)> {
        match self.producer().begin_transaction() {
            Err(Client::Transaction(wrong)) if wrong.txn_requires_abort() => {
                Some((wrong.code(), wrong.string()))
            }
            _ => None,
        }
    }

    /// Waits until the cluster has all that was sent.
    fn drain(&self, deadline: Instant) -> Result<Option<Reply>, IoError> {
        let ended = || if self.began { self.ended_by() } else { None };
        while self.producer().in_flight_count() > 0 {
            if Instant::now() >= deadline {
                if let Some((code, reason)) = ended() {
                    return self.undelivered(code, reason).map(Some);
                }
                return Err(self.late("what was sent is not acknowledged"));
            }
            if !self.outlet.reap() {
                self.outlet.hurry();
            }
        }
        let told = self.producer().client().context().take_undelivered();
        let Some(undelivered) = told else { return Ok(None) };
        // All records of a transaction that has ended are dropped, whatever it has ended by.
        let (code, reason) = ended().unwrap_or(undelivered);
        self.undelivered(code, reason).map(Some)
    }

    /// What it comes to that records were not delivered.
    fn undelivered(&self, code: Code, reason: String) -> Result<Reply, IoError> {
        if let Some((code, reason)) = self.producer().client().fatal_error() {
            return self.fatal(code, reason);
        }
        if is_permanent(code) || is_refusal(code) {
            return Err(of_code(self.address(), code, &reason));
        }
        Ok(Reply::Lost(reason))
    }

    fn commit(
        &mut self,
        (topic, mark, number): (&str, Mark, u32),
        deadline: Instant,
    ) -> Result<Reply, IoError> {
        if number < self.commits {
            return Ok(Reply::Done);
        }
        if let Some(reply) = self.begin()? {
            return Ok(reply);
        }
        if let Some(reply) = self.drain(deadline)? {
            return Ok(reply);
        }
        if !self.marked {
            let offset = Offset::Offset(i64::try_from(mark.epoch).unwrap_or(i64::MAX));
            let mut offsets = TopicPartitionList::new();
            let at = self.address().to_owned();
            let mut element = offsets.add_partition(topic, MARK_PARTITION);
            element.set_offset(offset).map_err(|error| told(&at, &error))?;
            element.set_metadata(mark.metadata());
            let Some(group) = self.group()?.group_metadata() else {
                return Err(self.late("the group of the mark is not known yet"));
            };
            let sent = self.producer().send_offsets_to_transaction(&offsets, &group, COMMAND_TIME);
            if let Err(error) = sent {
                return self.judge(&error);
            }
            self.marked = true;
        }
        if let Err(error) = self.producer().commit_transaction(COMMAND_TIME) {
            return self.judge(&error);
        }
        self.producer().client().context().forget();
        (self.began, self.marked, self.sends, self.position) = (false, false, 0, 0);
        self.commits += 1;
        Ok(Reply::Done)
    }

    fn flush(&mut self, deadline: Instant) -> Result<Reply, IoError> {
        if let Some(reply) = self.drain(deadline)? {
            return Ok(reply);
        }
        (self.sends, self.position) = (0, 0);
        Ok(Reply::Done)
    }
}

/// The partition under which the mark stands.
const MARK_PARTITION: i32 = 0;

fn unknown() -> Reply {
    Reply::Lost("there is no such producer".to_owned())
}

fn address(settings: &Values) -> &str {
    let brokers = settings.iter().find(|(name, _)| name == "bootstrap.servers");
    brokers.map_or(SERVICE, |(_, brokers)| brokers)
}

fn config(settings: &Values) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in settings {
        config.set(name, value);
    }
    config
}

fn failed(reason: String, kind: IoErrorKind) -> IoError {
    IoError { path: SERVICE.to_owned(), reason, kind }
}

/// A client could not be made; no value of a setting is in what is said of it.
fn creation(settings: &Values, error: &Client) -> IoError {
    let reason = match error {
        Client::ClientConfig(_, reason, name, _) if ClientSettings::may_be_shown(name) => {
            format!("the setting `{name}` is refused: {reason}")
        }
        Client::ClientConfig(_, _, name, _) => format!(
            "the setting `{name}` is refused: its value is not what librdkafka expects (it is not \
             shown)"
        ),
        other => other.to_string(),
    };
    IoError { path: address(settings).to_owned(), reason, kind: IoErrorKind::Other }
}

fn told(at: &str, error: &Client) -> IoError {
    let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
    of_code(at, code, &error.to_string())
}

fn of_code(at: &str, code: Code, reason: &str) -> IoError {
    let kind = match code {
        code if is_refusal(code) => IoErrorKind::Denied,
        code if is_unknown(code) => IoErrorKind::NotFound,
        code if is_permanent(code) => IoErrorKind::Other,
        _ => IoErrorKind::Unavailable,
    };
    IoError { path: at.to_owned(), reason: reason.to_owned(), kind }
}

/// It fails as often as it is tried.
const fn is_permanent(code: Code) -> bool {
    is_unknown(code)
        || matches!(
            code,
            Code::MessageSizeTooLarge
                | Code::MessageBatchTooLarge
                | Code::InvalidRecord
                | Code::InvalidTopic
                | Code::InvalidTimestamp
                | Code::InvalidTransactionTimeout
                | Code::UnsupportedForMessageFormat
                | Code::UnsupportedVersion
                | Code::UnsupportedFeature
                | Code::PolicyViolation
                | Code::InvalidArgument
        )
}
