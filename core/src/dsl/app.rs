//! An app: the streams' beginning, and what is made of them in the end.

use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::marker::PhantomData;

use crate::api::files::Files;
use crate::api::record::Record;
use crate::api::sink::{IoQueue, Sink, SinkConnector, SinkContext, SinkTask};
use crate::api::source::{Advance, Source, SourceConnector, SourceContext};
use crate::dag::{self, Graph, GraphWarning, Kind};
use crate::dsl::builder::{Builder, Draft, JobError, Shared};
use crate::dsl::chain::FromSource;
use crate::dsl::model::{Model, ModelOp};
use crate::dsl::stream::Stream;
use crate::effect::{IoError, IoRequest};
use crate::flow::logic::Factory;
use crate::flow::push::Meta;
use crate::id::{Attempt, Epoch, ProcessorId};
use crate::limits::KEY_GROUPS_DEFAULT;
use crate::message::Partition;
use crate::time::{EventTime, Time, WallTime};

/// What a job may be told from outside: nothing in it may depend on where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The tasks of a processor whose parallelism is not set.
    pub parallelism: u32,
    /// The app's key groups; fixed with its first epoch.
    pub key_groups: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { parallelism: 1, key_groups: KEY_GROUPS_DEFAULT }
    }
}

/// A job that is being described.
pub struct App<O = ()> {
    name: String,
    options: O,
    settings: Settings,
    builder: Shared,
}

impl<O> App<O> {
    /// An app without streams.
    pub fn new(name: &str, options: O, settings: Settings) -> Self {
        let builder = Rc::new(RefCell::new(Builder::new(settings.parallelism)));
        Self { name: name.to_string(), options, settings, builder }
    }

    /// The job's own options.
    pub const fn options(&self) -> &O {
        &self.options
    }

    /// The tasks of a processor whose parallelism is not set.
    #[must_use]
    pub const fn parallelism(&self) -> u32 {
        self.settings.parallelism
    }

    /// A stream of what a source reads. The name is the identity of its positions.
    pub fn source<S: SourceConnector>(
        &mut self,
        name: &str,
        connector: S,
    ) -> Stream<<S::Source as Source>::Out, FromSource<S>> {
        let connector = Arc::new(connector);
        let mut builder = self.builder.borrow_mut();
        builder.claim(name);
        let id = builder.reserve();
        let node = builder.node(name, Vec::new(), String::new(), ModelOp::Source);
        let admin = Arc::clone(&connector);
        builder.sources.push(SourceInfo {
            processor: id,
            name: name.to_string(),
            connector: admin,
        });
        let draft = Draft {
            id,
            uid: name.to_string(),
            kind: Kind::Source,
            operators: Vec::from([name.to_string()]),
            input: None,
            extra: Vec::new(),
            dead_letters: Vec::new(),
            upstream: Vec::new(),
            parallelism: None,
            timed: false,
            node,
        };
        drop(builder);
        let flow = FromSource { name: Arc::from(name), connector, types: PhantomData };
        Stream { builder: Rc::clone(&self.builder), flow, draft }
    }

    pub(crate) fn shared(&self) -> Shared {
        Rc::clone(&self.builder)
    }

    /// What was described, checked.
    ///
    /// # Errors
    /// Every mistake that was found.
    pub fn finish(self) -> Result<Job, Vec<JobError>> {
        let mut builder = self.builder.take();
        let mut errors = core::mem::take(&mut builder.errors);
        let mut sources = core::mem::take(&mut builder.sources);
        for source in &mut sources {
            source.processor = builder.final_number(source.processor);
        }
        let model = core::mem::take(&mut builder.model);
        let sinks = core::mem::take(&mut builder.sinks);
        let (graph, factories) = builder.graph(&self.name, self.settings.key_groups);
        if let Err(found) = dag::validate(&graph) {
            errors.extend(found.into_iter().map(JobError::from));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let warnings = dag::warnings(&graph);
        Ok(Job { graph, factories, sources, sinks, model, warnings })
    }
}

/// A job: its graph, how its tasks are made, and what the driver has to know of its sources.
#[derive(Clone)]
pub struct Job {
    /// The graph.
    pub graph: Graph,
    /// How the tasks of each processor are made.
    pub factories: Vec<Factory>,
    /// Its sources.
    pub sources: Vec<SourceInfo>,
    /// The job for an interpreter.
    pub model: Model,
    /// Its sinks.
    pub sinks: Vec<SinkInfo>,
    /// What may not be as its author wants it.
    pub warnings: Vec<GraphWarning>,
}

/// A source of a job.
#[derive(Clone)]
pub struct SourceInfo {
    /// Its processor.
    pub processor: ProcessorId,
    /// Its name.
    pub name: String,
    /// What knows its partitions.
    pub connector: Arc<dyn SourceAdmin>,
}

/// A sink of a job.
#[derive(Clone)]
pub struct SinkInfo {
    /// Its name.
    pub name: String,
    /// What knows its output.
    pub connector: Arc<dyn SinkAdmin>,
}

/// What a driver asks of a sink, whatever it writes.
pub trait SinkAdmin: Send + Sync {
    /// See [`SinkConnector::transactional`].
    fn transactional(&self) -> bool;

    /// The I/O by which one task would write these encoded records and make them visible: what a
    /// simulator compares the output with.
    ///
    /// # Errors
    /// What the sink says.
    fn write_all(&self, name: &str, records: &[Vec<u8>]) -> Result<Vec<IoRequest>, String>;
}

impl<S: SinkConnector> SinkAdmin for S {
    fn transactional(&self) -> bool {
        SinkConnector::transactional(self)
    }

    fn write_all(&self, name: &str, records: &[Vec<u8>]) -> Result<Vec<IoRequest>, String> {
        let task = SinkTask {
            app: String::new(),
            name: name.to_string(),
            index: 0,
            parallelism: 1,
            attempt: Attempt(1),
        };
        let mut sink = self.sink(&task);
        let mut io = IoQueue::default();
        let mut cx = SinkContext { now: Time::ZERO, wall: WallTime(0), io: &mut io };
        sink.open(&[], &mut cx)?;
        for record in records {
            let view = <<S::Sink as Sink>::In as Record>::decode(&mut record.as_slice());
            let view = view.map_err(|malformed| malformed.to_string())?;
            sink.write(Meta::at(EventTime::MIN), view, &mut cx)?;
        }
        sink.prepare(Epoch(1), true, &mut cx)?;
        sink.commit(Epoch(1), &mut cx)?;
        Ok(io.take().into_iter().map(|(_, request)| request).collect())
    }
}

/// What is in a partition of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A record: its event time, and its encoding.
    Record(EventTime, Vec<u8>),
    /// Bytes that are none.
    Malformed {
        /// The partition that they are in.
        partition: String,
        /// Their position there, as the source prints it.
        position: String,
        /// The bytes.
        bytes: Vec<u8>,
        /// Why they are none.
        reason: String,
    },
}

/// Waits of a source without a record between them from which on it is taken to be endless.
const WAITS_MAX: u32 = 1_000;
/// Most records that are read at once for a simulator.
const CONTENT_MAX: usize = 10_000_000;

/// What a driver asks of a source, whatever it reads.
pub trait SourceAdmin: Send + Sync {
    /// See [`SourceConnector::partitions`].
    ///
    /// # Errors
    /// See there.
    fn partitions(&self, files: &mut dyn Files) -> Result<Vec<String>, IoError>;
    /// See [`SourceConnector::discovers`].
    fn discovers(&self) -> bool;
    /// See [`SourceConnector::rewinds`].
    fn rewinds(&self) -> bool;
    /// See [`SourceConnector::reads_stdin`].
    fn reads_stdin(&self) -> bool;
    /// See [`SourceConnector::total_bytes`].
    fn total_bytes(&self, files: &mut dyn Files) -> Option<u64>;

    /// Everything that it will ever read: what a simulator knows of the input.
    ///
    /// # Errors
    /// What the source says, or that it has no end.
    fn read_all(&self, files: &mut dyn Files) -> Result<Vec<Content>, String>;
}

impl<S: SourceConnector> SourceAdmin for S {
    fn partitions(&self, files: &mut dyn Files) -> Result<Vec<String>, IoError> {
        SourceConnector::partitions(self, files)
    }

    fn discovers(&self) -> bool {
        SourceConnector::discovers(self)
    }

    fn rewinds(&self) -> bool {
        SourceConnector::rewinds(self)
    }

    fn reads_stdin(&self) -> bool {
        SourceConnector::reads_stdin(self)
    }

    fn total_bytes(&self, files: &mut dyn Files) -> Option<u64> {
        SourceConnector::total_bytes(self, files)
    }

    fn read_all(&self, files: &mut dyn Files) -> Result<Vec<Content>, String> {
        let names = SourceConnector::partitions(self, files).map_err(|error| error.to_string())?;
        let partition = |name| Partition { name, position: None, done: false };
        let partitions: Vec<Partition> = names.iter().cloned().map(partition).collect();
        let mut source = self.source();
        let mut cx = SourceContext { now: Time::ZERO, wall: WallTime(0), files };
        source.open(&partitions, &mut cx)?;
        let (mut all, mut waits) = (Vec::new(), 0);
        while waits < WAITS_MAX && all.len() < CONTENT_MAX {
            waits += 1;
            match source.advance(&mut cx)? {
                Advance::Record => {
                    let (meta, view) = source.current();
                    let mut bytes = Vec::new();
                    <S::Source as Source>::Out::encode(&view, &mut bytes);
                    all.push(Content::Record(meta.at, bytes));
                    waits = 0;
                }
                Advance::Malformed { partition, position, bytes, reason } => {
                    let partition = names.get(partition as usize).cloned().unwrap_or_default();
                    all.push(Content::Malformed { partition, position, bytes, reason });
                    waits = 0;
                }
                Advance::Wait(until) => cx.now = cx.now.max(until),
                Advance::NewPartition(_) | Advance::PartitionEnd(_) => {}
                Advance::End => return Ok(all),
            }
        }
        Err("it has no end".to_string())
    }
}
