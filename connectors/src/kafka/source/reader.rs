//! Reads the partitions of one task.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use gear_core::api::Record;
use gear_core::api::source::{Advance, ConnectorFigure, Source, SourceContext};
use gear_core::flow::push::Meta;
use gear_core::message::Partition;
use gear_core::time::{Duration, EventTime, Time};

use super::decide::{Bounds, Decision, Gone, Known, chosen, decide, mark, micros, start_millis};
use super::part::{Part, State, bounds};
use super::position::{Named, Position, Progress, name, printed};
use super::shape::Shape;
use super::{Plan, consumers};
use crate::faults::{Fault, Faults, NoFaults};
use crate::kafka::error::KafkaError;
use crate::kafka::port::TopicPartition;
use crate::kafka::port::{Batch, Consumer, Entry, Event, Found, Parts, Place, Request};
use crate::kafka::record::{Headers, Message};

/// Time until the source asks again when nothing had come: well below what people notice, and too
/// rare to be seen in an idle job's use of the processor.
const POLL: Duration = Duration::from_millis(2);
/// Time until a question that had no answer is asked again, at first and at last.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Time for which a cluster may not know a topic or a partition, or may have less than was read: a
/// broker that has just started learns what it has within seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Time between two notices of the same trouble.
const NOTICE_EVERY: Duration = Duration::from_secs(60);
/// What a turn takes of a consumer before the task looks at what else there is to do.
const EVENTS_PER_TURN: usize = 16;
/// No partition has this number.
const NOBODY: u32 = u32::MAX;

/// Reads the partitions of one task, as its consumer gives them.
pub struct KafkaReader<S: Shape, F: Faults = NoFaults> {
    plan: Arc<Plan>,
    consumer: Option<Box<dyn Consumer>>,
    parts: Vec<Part>,
    /// Of each topic of which this task takes on what turns up: the number of the partition that
    /// stands for it.
    growing: BTreeMap<String, usize>,
    batch: Batch,
    /// The entry that comes next; the one before it is the current record.
    cursor: usize,
    /// The partition whose records before this offset need no second look.
    plain: u32,
    plain_before: u64,
    round: u64,
    question: Question,
    discover_at: Time,
    discovering: bool,
    /// What is said before anything else is read.
    pending: VecDeque<Advance>,
    notices: VecDeque<String>,
    trouble_at: Option<Time>,
    read: u64,
    kind: PhantomData<fn() -> (S, F)>,
}

/// What is asked about partitions.
#[derive(Debug, Default)]
struct Question {
    /// The partitions of the question that was asked, in its order.
    asked: Option<Vec<usize>>,
    /// Those that wait for the next one.
    wanted: BTreeSet<usize>,
    at: Time,
    failures: u32,
}

/// What becomes of the record at hand.
enum Look {
    Take,
    Pass,
}

impl<S: Shape, F: Faults> KafkaReader<S, F> {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self {
            plan,
            consumer: None,
            parts: Vec::new(),
            growing: BTreeMap::new(),
            batch: Batch::default(),
            cursor: 0,
            plain: NOBODY,
            plain_before: 0,
            round: 0,
            question: Question::default(),
            discover_at: Time::ZERO,
            discovering: false,
            pending: VecDeque::new(),
            notices: VecDeque::new(),
            trouble_at: None,
            read: 0,
            kind: PhantomData,
        }
    }

    fn take_on(&mut self, partition: &Partition) -> Result<(), String> {
        let position = partition.position.as_deref();
        let position =
            position.map(|bytes| Position::decode(&partition.name, bytes)).transpose()?;
        let number = self.parts.len();
        let (of, state) = match (Named::parse(&partition.name)?, position) {
            (Named::Later { topic, from }, None) => {
                (TopicPartition { topic, partition: from }, State::Later(from))
            }
            (Named::Later { topic, from }, Some(Position::Later(next))) => {
                let next = if F::has(Fault::FindPartitionsAgain) { from } else { next };
                (TopicPartition { topic, partition: from }, State::Later(next))
            }
            (Named::One(of), None) => (of, State::Asking(Known::Nothing)),
            (Named::One(of), Some(Position::Earliest)) => (of, State::Asking(Known::Found)),
            (Named::One(of), Some(Position::At(progress))) => {
                (of, State::Asking(Known::Read(progress)))
            }
            (Named::Later { .. }, Some(_)) | (Named::One(_), Some(Position::Later(_))) => {
                return Err(format!(
                    "the position in `{}` is of another kind; restore the checkpoint store, or \
                     start over with --fresh",
                    partition.name
                ));
            }
        };
        if !partition.done && !self.plan.topics.contains(&of.topic) {
            return Err(format!(
                "`{}` was read, and the job does not name its topic any more: name it again, give \
                 the changed source a new name, or start over with --fresh",
                partition.name
            ));
        }
        // A source that reads to the end takes on nothing more.
        let done = partition.done || (self.plan.until_end && matches!(state, State::Later(_)));
        match state {
            State::Later(_) => {
                // It never gives a record, so it holds no clock.
                self.pending.push_back(Advance::PartitionEnd(number as u32));
                if !done {
                    self.growing.insert(of.topic.clone(), number);
                }
            }
            _ if done => {}
            _ => {
                self.question.wanted.insert(number);
            }
        }
        self.parts.push(Part::new(partition.name.clone(), of, state, done));
        Ok(())
    }

    /// Goes on where there is no record of a partition that needs no second look.
    #[cold]
    fn without_record(&mut self, cx: &mut SourceContext<'_>) -> Result<Advance, String> {
        let mut events = 0;
        loop {
            if let Some(advance) = self.pending.pop_front() {
                return Ok(advance);
            }
            let Some(&entry) = self.batch.entries().get(self.cursor) else {
                // No turn lasts for ever, even if nothing that comes is given.
                events += 1;
                match self.refill(cx, events)? {
                    Some(advance) => return Ok(advance),
                    None => continue,
                }
            };
            self.settle(entry.number);
            match self.look(entry)? {
                Look::Pass => self.cursor += 1,
                Look::Take => {
                    self.cursor += 1;
                    return Ok(self.given(entry));
                }
            }
        }
    }

    /// The record, or why it is put aside.
    #[inline]
    fn given(&self, entry: Entry) -> Advance {
        match S::refuse(&self.batch.parts(&entry)) {
            None => Advance::Record,
            Some(reason) => self.malformed(entry, reason),
        }
    }

    #[cold]
    fn malformed(&self, entry: Entry, reason: &str) -> Advance {
        let part = &self.parts[entry.number as usize];
        let value = self.batch.parts(&entry).value.unwrap_or_default();
        Advance::Malformed {
            partition: entry.number,
            position: printed(&part.name, entry.offset),
            bytes: value.to_vec(),
            reason: reason.to_owned(),
        }
    }

    /// The records up to the current one are behind the position of their partition.
    fn settle(&mut self, next: u32) {
        let Some((number, progress)) = self.progress_at_hand() else { return };
        if number as u32 == next && self.plain == next {
            return;
        }
        self.parts[number].state = State::Reading(progress);
        if self.plain != next {
            self.plain = NOBODY;
        }
    }

    /// The current record's partition, and how far that is read with it.
    fn progress_at_hand(&self) -> Option<(usize, Progress)> {
        let entry = self.cursor.checked_sub(1).and_then(|at| self.batch.entries().get(at))?;
        self.progress_with(entry)
    }

    /// The same of a record of the batch.
    fn progress_with(&self, entry: &Entry) -> Option<(usize, Progress)> {
        let number = entry.number as usize;
        let State::Reading(progress) = &self.parts.get(number)?.state else { return None };
        if entry.offset < progress.next || progress.end.is_some_and(|end| entry.offset >= end) {
            return None;
        }
        let Parts { key, value, .. } = self.batch.parts(entry);
        let last = Some(mark(entry.offset, entry.timestamp, key, value));
        Some((number, Progress { next: entry.offset + 1, last, ..progress.clone() }))
    }

    /// What becomes of a record of a partition that needs a look at each.
    fn look(&mut self, entry: Entry) -> Result<Look, String> {
        let number = entry.number as usize;
        let Some(part) = self.parts.get_mut(number).filter(|part| !part.done) else {
            return Ok(Look::Pass);
        };
        let State::Reading(progress) = &mut part.state else { return Ok(Look::Pass) };
        if let Some(verify) = part.verify.take()
            && verify.offset == entry.offset
        {
            let Parts { key, value, .. } = self.batch.parts(&entry);
            if verify != mark(entry.offset, entry.timestamp, key, value) {
                part.state = State::Asking(Known::Replaced(progress.clone()));
                self.question.wanted.insert(number);
            }
            return Ok(Look::Pass);
        }
        if entry.offset < progress.next {
            return Ok(Look::Pass);
        }
        if progress.end.is_some_and(|end| entry.offset >= end) {
            self.finish(number);
            return Ok(Look::Pass);
        }
        if progress.not_before.is_some_and(|time| entry.timestamp < time) {
            progress.next = entry.offset + 1;
            return Ok(Look::Pass);
        }
        progress.not_before = None;
        let last = progress.end.map_or(u64::MAX, |end| end - 1);
        (self.plain, self.plain_before) = (entry.number, last);
        if entry.offset == last {
            self.finish(number);
        }
        Ok(Look::Take)
    }

    /// The partition was read to its end.
    fn finish(&mut self, number: usize) {
        self.parts[number].done = true;
        self.pending.push_back(Advance::PartitionEnd(number as u32));
        if let Some(consumer) = &mut self.consumer {
            consumer.ask(Request::Stop { round: self.round, number: number as u32 });
        }
    }

    /// The batch is read: takes what has come, and asks what is to be asked. None if there is
    /// something to look at.
    fn refill(
        &mut self,
        cx: &mut SourceContext<'_>,
        events: usize,
    ) -> Result<Option<Advance>, String> {
        self.settle(NOBODY);
        if !self.batch.entries().is_empty() {
            self.read += self.batch.bytes() as u64;
            self.return_batch(Batch::default());
        }
        if self.parts.iter().all(|part| part.done) {
            self.consumer = None;
            return Ok(Some(Advance::End));
        }
        if events > EVENTS_PER_TURN {
            return Ok(Some(Advance::Wait(cx.now)));
        }
        self.ask(cx.now);
        let Some(consumer) = &mut self.consumer else { return Ok(Some(Advance::End)) };
        let Some(event) = consumer.poll() else { return Ok(Some(Advance::Wait(cx.now + POLL))) };
        self.handle(event, cx.now)?;
        Ok(None)
    }

    /// Puts another batch in the place of the one that was read.
    fn return_batch(&mut self, next: Batch) {
        let batch = std::mem::replace(&mut self.batch, next);
        self.cursor = 0;
        if let Some(consumer) = &mut self.consumer {
            consumer.give_back(batch);
        }
    }

    /// Asks what is due.
    fn ask(&mut self, now: Time) {
        let Some(consumer) = &mut self.consumer else { return };
        let question = &mut self.question;
        if question.asked.is_none() && !question.wanted.is_empty() && now >= question.at {
            let asked: Vec<_> = std::mem::take(&mut question.wanted).into_iter().collect();
            let of: Vec<_> = asked.iter().map(|it| self.parts[*it].partition.clone()).collect();
            // Behind the last record first: what comes after that is not before the others.
            let mut places = vec![(Place::Latest, of.clone()), (Place::Earliest, of.clone())];
            if let Some(time) = start_millis(&self.plan.start) {
                places.push((Place::At(time), of));
            }
            consumer.ask(Request::Offsets(places));
            question.asked = Some(asked);
        }
        if !self.growing.is_empty() && !self.discovering && now >= self.discover_at {
            consumer.ask(Request::Topics(self.growing.keys().cloned().collect()));
            self.discovering = true;
        }
    }

    fn handle(&mut self, event: Event, now: Time) -> Result<(), String> {
        match event {
            Event::Topics(counts) => self.discovered(counts, now),
            Event::Offsets(found) => self.answered(found, now),
            Event::Batch(batch) => {
                if batch.round == self.round {
                    self.trouble_at = None;
                    self.return_batch(batch);
                } else if let Some(consumer) = &mut self.consumer {
                    consumer.give_back(batch);
                }
                Ok(())
            }
            Event::Reached { round, number, offset } => {
                let part = self.parts.get(number as usize);
                let end = part.filter(|part| round == self.round && !part.done);
                let end = end.and_then(|part| match &part.state {
                    State::Reading(progress) => progress.end,
                    _ => None,
                });
                if end.is_some_and(|end| offset >= end) {
                    self.finish(number as usize);
                }
                Ok(())
            }
            Event::Ends { round, ends } => {
                if round == self.round {
                    for (number, end) in ends {
                        if let Some(part) = self.parts.get_mut(number as usize) {
                            part.end = Some(end);
                        }
                    }
                }
                Ok(())
            }
            Event::OutOfRange { round } => {
                if round == self.round {
                    self.look_again(now);
                }
                Ok(())
            }
            Event::Trouble(error) => {
                self.trouble(&error, now);
                Ok(())
            }
            Event::Failed(error) => Err(error.to_string()),
        }
    }

    /// Asks again about every partition that is read.
    fn look_again(&mut self, now: Time) {
        for (number, part) in self.parts.iter_mut().enumerate() {
            if let (false, State::Reading(progress)) = (part.done, &part.state) {
                let read = Known::Read(progress.clone());
                let anew = F::has(Fault::BeginAnewOutOfRange);
                part.state = State::Asking(if anew { Known::Nothing } else { read });
                self.question.wanted.insert(number);
            }
        }
        self.plain = NOBODY;
        self.question.at = now + BACK_OFF.0;
    }

    /// Tells the user of trouble that may pass, now and then.
    fn trouble(&mut self, error: &KafkaError, now: Time) {
        if self.trouble_at.is_none_or(|at| now.since(at) >= NOTICE_EVERY) {
            self.trouble_at = Some(now);
            self.notices.push_back(format!("{error}; it goes on trying"));
        }
    }

    fn discovered(
        &mut self,
        counts: Vec<Result<u32, KafkaError>>,
        now: Time,
    ) -> Result<(), String> {
        self.discovering = false;
        self.discover_at = now + self.plan.discover_every;
        let growing: Vec<_> = self.growing.iter().map(|(it, at)| (it.clone(), *at)).collect();
        for ((topic, place), count) in growing.into_iter().zip(counts) {
            let State::Later(next) = self.parts[place].state else { continue };
            match count {
                Ok(count) if count < next => {
                    let partition = next - 1;
                    let error = KafkaError::UnknownPartition { topic, partition, count };
                    self.missing(place, error, now)?;
                }
                Ok(count) => {
                    self.parts[place].missing_since = None;
                    self.parts[place].state = State::Later(count);
                    for partition in next..count {
                        self.found(TopicPartition { topic: topic.clone(), partition });
                    }
                }
                Err(error) => self.missing(place, error, now)?,
            }
        }
        Ok(())
    }

    /// A partition has turned up: it is read from its first record on.
    fn found(&mut self, partition: TopicPartition) {
        let name = name(&partition.topic, partition.partition);
        self.pending.push_back(Advance::NewPartition(name.clone()));
        self.question.wanted.insert(self.parts.len());
        self.parts.push(Part::new(name, partition, State::Asking(Known::Found), false));
    }

    /// The cluster gave no answer about a partition.
    fn missing(&mut self, number: usize, error: KafkaError, now: Time) -> Result<(), String> {
        let part = &mut self.parts[number];
        match error {
            KafkaError::UnknownTopic { .. } | KafkaError::UnknownPartition { .. } => {
                let since = *part.missing_since.get_or_insert(now);
                self.discover_at = self.discover_at.min(now + BACK_OFF.1);
                if now.since(since) >= PATIENCE { Err(error.to_string()) } else { Ok(()) }
            }
            error if error.may_pass() => {
                self.trouble(&error, now);
                Ok(())
            }
            error => Err(error.to_string()),
        }
    }

    fn answered(&mut self, found: Vec<Vec<Found>>, now: Time) -> Result<(), String> {
        let asked = self.question.asked.take().unwrap_or_default();
        let mut found = found.into_iter().map(Vec::into_iter);
        let (mut high, mut low, mut at) = (found.next(), found.next(), found.next());
        let next = |of: &mut Option<std::vec::IntoIter<Found>>| of.as_mut()?.next();
        let mut decided = false;
        let mut failed = false;
        for number in asked {
            let bounds = bounds(next(&mut high), next(&mut low), next(&mut at));
            let settled = match bounds {
                None => false,
                Some(Ok(bounds)) => self.decide(number, bounds, now)?,
                Some(Err(error)) => {
                    self.missing(number, error, now)?;
                    false
                }
            };
            decided |= settled;
            if !settled {
                failed = true;
                self.question.wanted.insert(number);
            }
        }
        self.question.failures = if failed { self.question.failures + 1 } else { 0 };
        if failed {
            let doubled = BACK_OFF.0 * (1 << self.question.failures.min(8));
            self.question.at = now + doubled.min(BACK_OFF.1);
        }
        if decided {
            self.fetch();
        }
        Ok(())
    }

    /// Decides how a partition is gone on with; false if that has to wait.
    fn decide(&mut self, number: usize, bounds: Bounds, now: Time) -> Result<bool, String> {
        let part = &mut self.parts[number];
        let State::Asking(known) = &part.state else { return Ok(true) };
        let patient = part.missing_since.is_none_or(|since| now.since(since) < PATIENCE);
        let Plan { start, when_gone, until_end, .. } = &*self.plan;
        let when_gone = chosen::<F>(*when_gone);
        match decide(&part.partition, known, start, when_gone, bounds, patient) {
            Err(Gone::Lost(reason)) => Err(reason),
            Err(Gone::Shrunk(_)) => {
                part.missing_since.get_or_insert(now);
                Ok(false)
            }
            Ok(Decision { mut progress, from: _, verify, notice }) => {
                // One that did read to the end may go on for ever now.
                progress.end = until_end.then(|| progress.end.unwrap_or(bounds.high));
                let at_end = progress.end.is_some_and(|end| progress.next >= end);
                part.state = State::Reading(progress);
                (part.verify, part.missing_since) = (verify, None);
                part.end = Some(bounds.high);
                self.notices.extend(notice.filter(|_| !F::has(Fault::PassUntold)));
                if at_end {
                    self.finish(number);
                }
                Ok(true)
            }
        }
    }

    /// Begins a round: reads every partition of which it is known where to go on.
    fn fetch(&mut self) {
        self.round += 1;
        self.plain = NOBODY;
        let parts = self.parts.iter().enumerate();
        let from = parts.filter_map(|(number, part)| part.fetch(number as u32)).collect();
        if let Some(consumer) = &mut self.consumer {
            consumer.ask(Request::Fetch { round: self.round, from, ends: self.plan.until_end });
        }
    }
}

impl<S: Shape, F: Faults> Source for KafkaReader<S, F> {
    type Out = S::Out;

    fn open(&mut self, partitions: &[Partition], cx: &mut SourceContext<'_>) -> Result<(), String> {
        for partition in partitions {
            self.take_on(partition)?;
        }
        if self.parts.iter().all(|part| part.done) {
            return Ok(());
        }
        let settings = self.plan.settings().map_err(|error| error.to_string())?;
        let consumer = consumers(cx.files).and_then(|consumers| consumers.consumer(&settings));
        self.consumer = Some(consumer.map_err(|error| error.to_string())?);
        Ok(())
    }

    #[inline]
    fn advance(&mut self, cx: &mut SourceContext<'_>) -> Result<Advance, String> {
        match self.batch.entries().get(self.cursor) {
            Some(&entry) if entry.number == self.plain && entry.offset < self.plain_before => {
                self.cursor += 1;
                Ok(self.given(entry))
            }
            _ => self.without_record(cx),
        }
    }

    #[inline]
    fn current(&self) -> (Meta, <S::Out as Record>::View<'_>) {
        let entry = &self.batch.entries()[self.cursor - 1];
        let Parts { key, value, headers } = self.batch.parts(entry);
        let timestamp = micros(entry.timestamp).map(EventTime);
        let TopicPartition { topic, partition } = &self.parts[entry.number as usize].partition;
        let message = Message {
            key,
            value,
            timestamp,
            headers: Headers::trusted(headers.unwrap_or_default()),
            topic,
            partition: *partition,
            offset: entry.offset,
        };
        let at = timestamp.unwrap_or(EventTime::MIN);
        (Meta { at, partition: entry.number }, S::view(message))
    }

    fn positions(&self) -> Vec<Partition> {
        let fetched = self.batch.entries().last().filter(|_| F::has(Fault::PositionsOfFetched));
        let mut at_hand =
            fetched.map_or_else(|| self.progress_at_hand(), |entry| self.progress_with(entry));
        let positions = self.parts.iter().enumerate().map(|(number, part)| {
            let progress = at_hand.take_if(|(it, _)| *it == number).map(|(_, progress)| progress);
            Partition {
                name: part.name.clone(),
                position: part.position(progress).map(|position| position.encode()),
                done: part.done,
            }
        });
        positions.collect()
    }

    fn bytes_read(&self) -> u64 {
        self.read
    }

    fn notice(&mut self) -> Option<String> {
        self.notices.pop_front()
    }

    fn figures(&self) -> Vec<ConnectorFigure> {
        let at_hand = self.progress_at_hand();
        let lag = |(number, part): (usize, &Part)| {
            let State::Reading(progress) = &part.state else { return None };
            let at_hand = at_hand.as_ref().filter(|(it, _)| *it == number);
            let next = at_hand.map_or(progress.next, |(_, progress)| progress.next);
            let value = part.end?.saturating_sub(next);
            Some(ConnectorFigure { name: "lag_records".to_owned(), of: part.name.clone(), value })
        };
        self.parts.iter().enumerate().filter(|(_, part)| !part.done).filter_map(lag).collect()
    }
}

impl<S: Shape, F: Faults> fmt::Debug for KafkaReader<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaReader").field("parts", &self.parts).finish_non_exhaustive()
    }
}
