//! What a test pushes into a job.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gear_core::api::source::{Advance, Source, SourceConnector, SourceContext};
use gear_core::api::{Files, Record};
use gear_core::clock::{WatermarkGenerator, Watermarks};
use gear_core::effect::IoError;
use gear_core::flow::push::Meta;
use gear_core::message::Partition;
use gear_core::time::{Duration, EventTime};

/// The only partition of an input.
const PARTITION: &str = "input";

/// Records and watermarks that a test pushes, and a job reads through [`input`].
///
/// Nothing of it is lost in a crash: the job reads again what its last epoch did not hold. Clones
/// are the same input.
pub struct Input<T: Record> {
    shared: Arc<Shared>,
    types: PhantomData<fn() -> T>,
}

#[derive(Default)]
struct Shared {
    log: Mutex<Log>,
    /// The watermark that the reader has passed.
    watermark: AtomicI64,
}

#[derive(Default)]
struct Log {
    events: Vec<Event>,
    ended: bool,
}

#[derive(Clone)]
enum Event {
    Record(EventTime, Vec<u8>),
    Malformed(Vec<u8>, String),
    Watermark(EventTime),
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        // Every change is one push.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Record> Input<T> {
    /// An empty input.
    #[must_use]
    pub fn new() -> Self {
        let watermark = AtomicI64::new(EventTime::MIN.0);
        Self { shared: Arc::new(Shared { log: Mutex::default(), watermark }), types: PhantomData }
    }

    /// A record with its event time; [`EventTime::MIN`] for a record that has none.
    pub fn push(&self, record: T::View<'_>, at: EventTime) {
        let mut bytes = Vec::new();
        T::encode(&record, &mut bytes);
        self.shared.log().events.push(Event::Record(at, bytes));
    }

    /// Bytes that are no record: the source puts them aside with this reason.
    pub fn push_malformed(&self, bytes: &[u8], reason: &str) {
        self.shared.log().events.push(Event::Malformed(bytes.into(), reason.into()));
    }

    /// No record earlier than this follows, late ones excepted. Only a job that takes its
    /// watermarks from [`Self::watermarks`] hears of it; others have theirs from the records.
    pub fn watermark(&self, at: EventTime) {
        self.shared.log().events.push(Event::Watermark(at));
    }

    /// Nothing follows.
    pub fn end(&self) {
        self.shared.log().ended = true;
    }

    /// Watermarks that are what [`Self::watermark`] says, for `.watermarks(...)` behind the source.
    #[must_use]
    pub fn watermarks(&self) -> Watermarks {
        Watermarks::custom(Told(Arc::clone(&self.shared)))
    }
}

impl<T: Record> Default for Input<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Record> Clone for Input<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), types: PhantomData }
    }
}

impl<T: Record> std::fmt::Debug for Input<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let log = self.shared.log();
        f.debug_struct("Input")
            .field("events", &log.events.len())
            .field("ended", &log.ended)
            .finish()
    }
}

#[derive(Clone)]
struct Told(Arc<Shared>);

impl WatermarkGenerator for Told {
    fn on_record(&mut self, _: EventTime) {}

    fn watermark(&self) -> EventTime {
        EventTime(self.0.watermark.load(Ordering::Relaxed))
    }
}

/// The source of a job that reads an [`Input`].
#[must_use]
pub fn input<T: Record>(input: &Input<T>) -> InputSource<T> {
    InputSource(input.clone())
}

/// Reads an [`Input`]; made by [`input`].
#[derive(Debug)]
pub struct InputSource<T: Record>(Input<T>);

impl<T: Record> SourceConnector for InputSource<T> {
    type Source = InputReader<T>;

    fn partitions(&self, _: &mut dyn Files) -> Result<Vec<String>, IoError> {
        Ok(vec![PARTITION.into()])
    }

    fn source(&self) -> InputReader<T> {
        InputReader {
            shared: Arc::clone(&self.0.shared),
            next: None,
            at: EventTime::MIN,
            bytes: Vec::new(),
            types: PhantomData,
        }
    }
}

/// The reader of an [`Input`].
pub struct InputReader<T: Record> {
    shared: Arc<Shared>,
    /// The event to be read next; none for a task without the partition.
    next: Option<u64>,
    at: EventTime,
    bytes: Vec<u8>,
    types: PhantomData<fn() -> T>,
}

impl<T: Record> Source for InputReader<T> {
    type Out = T;

    fn open(&mut self, partitions: &[Partition], _: &mut SourceContext<'_>) -> Result<(), String> {
        let Some(partition) = partitions.first() else { return Ok(()) };
        let position = partition.position.as_deref().unwrap_or_default();
        let bytes = position.try_into().unwrap_or([0; 8]);
        let next = u64::from_le_bytes(bytes);
        self.next = Some(next);
        let log = self.shared.log();
        let passed = log.events.iter().take(next as usize).filter_map(|event| match event {
            Event::Watermark(at) => Some(at.0),
            _ => None,
        });
        let watermark = passed.max().unwrap_or(EventTime::MIN.0);
        self.shared.watermark.store(watermark, Ordering::Relaxed);
        Ok(())
    }

    fn advance(&mut self, cx: &mut SourceContext<'_>) -> Result<Advance, String> {
        let Some(next) = &mut self.next else { return Ok(Advance::End) };
        let log = self.shared.log();
        let Some(event) = log.events.get(*next as usize) else {
            return Ok(if log.ended {
                Advance::End
            } else {
                // The harness lets some time pass before each run.
                Advance::Wait(cx.now + Duration::from_nanos(1))
            });
        };
        *next += 1;
        match event {
            Event::Record(at, bytes) => {
                self.at = *at;
                self.bytes.clone_from(bytes);
                Ok(Advance::Record)
            }
            Event::Malformed(bytes, reason) => Ok(Advance::Malformed {
                partition: 0,
                position: (*next - 1).to_string(),
                bytes: bytes.clone(),
                reason: reason.clone(),
            }),
            Event::Watermark(at) => {
                self.shared.watermark.fetch_max(at.0, Ordering::Relaxed);
                // A pause is where a source tells its watermark.
                Ok(Advance::Wait(cx.now))
            }
        }
    }

    fn current(&self) -> (Meta, T::View<'_>) {
        let view = T::decode(&mut self.bytes.as_slice()).expect("the input encoded it");
        (Meta { at: self.at, partition: 0 }, view)
    }

    fn positions(&self) -> Vec<Partition> {
        let partition = |next: u64| {
            let log = self.shared.log();
            let done = log.ended && next as usize >= log.events.len();
            let position = Some(next.to_le_bytes().to_vec());
            Partition { name: PARTITION.into(), position, done }
        };
        self.next.map(partition).into_iter().collect()
    }
}
