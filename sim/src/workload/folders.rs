//! The sources and sinks of a job as folders of files, read and written by the file source and sink
//! of production.

use gear_connectors::faults::Faults;
use gear_connectors::files;
use gear_connectors::model::ModelDisk;
use gear_core::clock::Watermarks;
use gear_core::dsl::{App, FromInput, Stream};

use super::pace::Pace;
use super::sink::{OUT, put, rows};
use super::source::{Entry, Rows};
use super::topics::{decoder, row, value};
use super::{Row, encode, event_time};
use crate::oracle::output::Rows as Found;
use crate::random::Random;

/// Below this the input is.
const IN: &str = "in/";

type Plain = Stream<Row, FromInput<Row>>;

/// How sinks are folders, and sources perhaps.
#[derive(Clone, Copy, Debug)]
pub struct Folders {
    /// Bytes from which on a file is closed at the barrier.
    roll: u64,
    /// How sources read; none if they are not files.
    pub reads: Option<Reads>,
    read: fn(&Reads, &mut App<()>, usize, Watermarks) -> Plain,
    write: fn(&Self, Plain, &str),
}

/// How sources read files.
#[derive(Clone, Copy, Debug)]
pub struct Reads {
    /// Bytes of a file that are one partition.
    split: u64,
    /// How fast.
    pub pace: Pace,
    /// Of a thousand reads, those that come late.
    late: u64,
}

impl Folders {
    /// Files of this size, read and written by connectors that have these bugs.
    #[must_use]
    pub fn draw<F: Faults>(seed: u64, roll: u64, sources: &[Rows]) -> Self {
        let mut random = Random::for_part(seed, 150);
        let reads = random.permille(500);
        let files = sources.iter().flat_map(|rows| rows.partitions.iter());
        let longest = files.map(|data| file(&data.entries).len()).max().unwrap_or(0);
        let reads = reads.then(|| Reads {
            split: longest as u64 / random.pick(&[1, 1, 2, 5, 20]) + 1,
            pace: Pace::draw(&mut random),
            late: random.pick(&[0, 50, 300]),
        });
        Self { roll, reads, read: read::<F>, write: write::<F> }
    }

    /// The rows of a source, by its number, if sources are files.
    pub(super) fn read(
        &self,
        app: &mut App<()>,
        number: usize,
        watermarks: &Watermarks,
    ) -> Option<Plain> {
        let reads = self.reads.as_ref()?;
        Some((self.read)(reads, app, number, watermarks.clone()))
    }

    /// Rows to the folder of this name.
    pub(super) fn write(&self, stream: Plain, name: &str) {
        (self.write)(self, stream, name);
    }

    /// Puts the input there.
    pub fn fill(&self, disk: &mut ModelDisk, sources: &[Rows]) {
        let Some(reads) = &self.reads else { return };
        for (number, rows) in sources.iter().enumerate() {
            for data in rows.partitions.iter() {
                disk.put(&format!("{}{}", folder(number), data.name), file(&data.entries));
            }
        }
        disk.read_late(reads.late);
    }
}

/// The folder of a source.
fn folder(number: usize) -> String {
    format!("{IN}source-{number}/")
}

/// What a file of these entries holds.
fn file(entries: &[Entry]) -> Vec<u8> {
    let lines = entries.iter().flat_map(|entry| [line(entry), b"\n".to_vec()]);
    lines.flatten().collect()
}

/// An entry as a line.
pub(crate) fn line(entry: &Entry) -> Vec<u8> {
    match entry {
        Entry::Row(_) => {
            value(entry).iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
        }
        Entry::Malformed(bytes) => bytes.clone(),
    }
}

/// The row that a line holds.
fn parse(line: &[u8]) -> Result<Row, String> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = line.chunks(2).map(byte).collect();
    row(&bytes.ok_or("is no row")?)
}

fn read<F: Faults>(
    reads: &Reads,
    app: &mut App<()>,
    number: usize,
    watermarks: Watermarks,
) -> Plain {
    let source = files::bytes_source([folder(number)]).split_bytes(reads.split);
    app.source(&format!("source-{number}"), source.with_faults::<F>())
        .try_map::<Row, _, _>(&decoder(number), |line| parse(line))
        .event_time(&format!("time-{number}"), event_time)
        .watermarks(watermarks)
        .fork()
}

fn write<F: Faults>(folders: &Folders, stream: Plain, name: &str) {
    let format = |row: Row, out: &mut Vec<u8>| put(&encode(&row), out);
    let sink = files::sink::<Row>(format!("{OUT}{name}"), format).roll_bytes(folders.roll);
    stream.sink(name, sink.with_faults::<F>());
}

/// The rows of all files that are visible, folder by folder.
pub fn found(disk: &ModelDisk, violations: &mut Vec<String>) -> Found {
    let mut found = Found::new();
    for path in disk.names() {
        let parts = path.strip_prefix(OUT).and_then(|path| path.split_once('/'));
        let Some((folder, _)) = parts.filter(|(_, file)| !file.starts_with('.')) else { continue };
        match rows(disk.content(path).unwrap_or_default()) {
            Ok(more) => found.entry(folder.to_owned()).or_default().extend(more),
            Err(error) => violations.push(format!("{path}: {error}")),
        }
    }
    found
}
