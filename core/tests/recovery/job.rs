//! A job whose output is known, and what it reads and writes.

use std::collections::BTreeMap;

use gear_core::api::files::{FileInfo, Files};
use gear_core::api::sink::{Sink, SinkConnector, SinkContext, SinkTask};
use gear_core::api::source::{Advance, Source, SourceConnector, SourceContext};
use gear_core::api::{Owned, Record};
use gear_core::dsl::{App, Job, Settings};
use gear_core::effect::{IoError, IoErrorKind, IoRequest};
use gear_core::flow::push::Meta;
use gear_core::id::Epoch;
use gear_core::message::{Partition, Pending};
use gear_core::time::{Duration, EventTime};

/// Where output is visible.
pub(crate) const OUT: &str = "out/";
const STAGE: &str = "stage/";
/// Keys that are counted.
pub(crate) const KEYS: u64 = 5;
/// Records that a source reads before it pauses.
const BURST: u64 = 4;
const PAUSE: Duration = Duration::from_millis(30);

/// Partitions of the numbers below `len`.
#[derive(Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) partitions: u32,
    pub(crate) len: u64,
}

pub(crate) struct Reader {
    len: u64,
    open: Vec<(String, u64)>,
    turn: usize,
    current: (u32, u64),
    burst: u64,
}

impl SourceConnector for Numbers {
    type Source = Reader;

    fn partitions(&self, _: &mut dyn Files) -> Result<Vec<String>, IoError> {
        Ok((0..self.partitions).map(|number| format!("numbers-{number}")).collect())
    }

    fn source(&self) -> Reader {
        Reader { len: self.len, open: Vec::new(), turn: 0, current: (0, 0), burst: 0 }
    }
}

impl Source for Reader {
    type Out = u64;

    fn open(&mut self, partitions: &[Partition], _: &mut SourceContext<'_>) -> Result<(), String> {
        for partition in partitions {
            let next = partition.position.as_deref().map_or(Ok(0), |bytes| {
                bytes.try_into().map(u64::from_le_bytes).map_err(|_| "a position that is none")
            })?;
            self.open.push((partition.name.clone(), next));
        }
        Ok(())
    }

    fn advance(&mut self, cx: &mut SourceContext<'_>) -> Result<Advance, String> {
        if self.burst >= BURST {
            self.burst = 0;
            return Ok(Advance::Wait(cx.now + PAUSE));
        }
        for step in 0..self.open.len() {
            let number = (self.turn + step) % self.open.len();
            let next = &mut self.open[number].1;
            if *next < self.len {
                self.current = (number as u32, *next);
                *next += 1;
                self.turn = number + 1;
                self.burst += 1;
                return Ok(Advance::Record);
            }
        }
        Ok(Advance::End)
    }

    fn current(&self) -> (Meta, u64) {
        let (partition, number) = self.current;
        (Meta { at: EventTime(number as i64), partition }, number)
    }

    fn positions(&self) -> Vec<Partition> {
        let position = |(name, next): &(String, u64)| Partition {
            name: name.clone(),
            position: Some(next.to_le_bytes().to_vec()),
            done: *next == self.len,
        };
        self.open.iter().map(position).collect()
    }
}

/// A sink of one file an epoch.
#[derive(Clone, Copy)]
pub(crate) struct Epochs<T>(std::marker::PhantomData<fn() -> T>);

pub(crate) struct Writer<T> {
    prefix: String,
    files: u64,
    rows: Vec<u8>,
    closed: Vec<(Epoch, String)>,
    types: std::marker::PhantomData<fn() -> T>,
}

impl<T: Owned> SinkConnector for Epochs<T> {
    type Sink = Writer<T>;

    fn sink(&self, task: &SinkTask) -> Writer<T> {
        Writer {
            prefix: format!("{}-{}-{}", task.name, task.index, task.attempt.0),
            files: 0,
            rows: Vec::new(),
            closed: Vec::new(),
            types: std::marker::PhantomData,
        }
    }

    fn transactional(&self) -> bool {
        true
    }
}

fn publish(name: &str, cx: &mut SinkContext<'_>) {
    let (from, to) = (format!("{STAGE}{name}"), format!("{OUT}{name}"));
    cx.io.submit(IoRequest::Publish { from, to });
}

impl<T: Owned> Sink for Writer<T> {
    type In = T;

    fn open(&mut self, pending: &[Pending], cx: &mut SinkContext<'_>) -> Result<(), String> {
        for pending in pending {
            let account = std::str::from_utf8(&pending.bytes).map_err(|error| error.to_string())?;
            account.lines().for_each(|name| publish(name, cx));
        }
        Ok(())
    }

    fn write(
        &mut self,
        _: Meta,
        view: <T as Record>::View<'_>,
        _: &mut SinkContext<'_>,
    ) -> Result<(), String> {
        T::encode(&view, &mut self.rows);
        Ok(())
    }

    fn prepare(
        &mut self,
        epoch: Epoch,
        _: bool,
        cx: &mut SinkContext<'_>,
    ) -> Result<Vec<u8>, String> {
        if !self.rows.is_empty() {
            self.files += 1;
            let name = format!("{}-{}", self.prefix, self.files);
            let path = format!("{STAGE}{name}");
            let bytes = std::mem::take(&mut self.rows);
            cx.io.submit(IoRequest::Write { path: path.clone(), offset: 0, bytes });
            cx.io.submit(IoRequest::Sync { path });
            self.closed.push((epoch, name));
        }
        let names: Vec<&str> = self.closed.iter().map(|(_, name)| name.as_str()).collect();
        Ok(names.join("\n").into_bytes())
    }

    fn commit(&mut self, epoch: Epoch, cx: &mut SinkContext<'_>) -> Result<(), String> {
        for (_, name) in self.closed.extract_if(.., |(by, _)| *by <= epoch) {
            publish(&name, cx);
        }
        Ok(())
    }
}

/// Such a sink.
pub(crate) const fn epochs<T>() -> Epochs<T> {
    Epochs(std::marker::PhantomData)
}

/// Two parts that have nothing to do with each other. In one each task of the source has a sink of
/// its own; in the other everything is counted by key.
pub(crate) fn job(numbers: Numbers) -> Job {
    let parallelism = numbers.partitions;
    let mut app = App::new("recovery", (), Settings { parallelism, key_groups: 16 });
    app.source("plain", numbers).sink("copy", epochs());
    let keyed = app.source("keyed", numbers).key_by(|number: &u64| *number % KEYS);
    keyed.count("count").updates().sink("counts", epochs::<(u64, u64)>());
    app.finish().unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// Every row with how often it is to be visible, by sink.
pub(crate) fn expected(numbers: Numbers) -> BTreeMap<(String, Vec<u8>), u64> {
    let mut rows = BTreeMap::new();
    let mut put = |sink: &str, row: Vec<u8>| {
        *rows.entry((sink.to_owned(), row)).or_default() += 1;
    };
    let mut counts = BTreeMap::<u64, u64>::new();
    for _ in 0..numbers.partitions {
        for number in 0..numbers.len {
            let mut row = Vec::new();
            u64::encode(&number, &mut row);
            put("copy", row);
            *counts.entry(number % KEYS).or_default() += 1;
        }
    }
    for (key, count) in counts {
        for count in 1..=count {
            let mut row = Vec::new();
            <(u64, u64)>::encode(&(key, count), &mut row);
            put("counts", row);
        }
    }
    rows
}

/// The rows that are visible, with how often they are.
pub(crate) fn visible(files: &BTreeMap<String, Vec<u8>>) -> BTreeMap<(String, Vec<u8>), u64> {
    let mut rows = BTreeMap::new();
    for (path, bytes) in files.range(OUT.to_owned()..).take_while(|(path, _)| path.starts_with(OUT))
    {
        let sink = path[OUT.len()..].split('-').next().unwrap_or_default();
        let size = if sink == "copy" { 8 } else { 16 };
        for row in bytes.chunks(size) {
            *rows.entry((sink.to_owned(), row.to_vec())).or_default() += 1;
        }
    }
    rows
}

/// There are no files to read.
pub(crate) struct NoFiles;

impl NoFiles {
    fn refuse<T>(path: &str) -> Result<T, IoError> {
        let (path, reason) = (path.to_owned(), "there are no files here".to_owned());
        Err(IoError { path, reason, kind: IoErrorKind::NotFound })
    }
}

impl Files for NoFiles {
    fn list(&mut self, pattern: &str) -> Result<Vec<FileInfo>, IoError> {
        Self::refuse(pattern)
    }

    fn stat(&mut self, path: &str) -> Result<FileInfo, IoError> {
        Self::refuse(path)
    }

    fn read_at(&mut self, path: &str, _: u64, _: &mut [u8]) -> Result<usize, IoError> {
        Self::refuse(path)
    }
}
