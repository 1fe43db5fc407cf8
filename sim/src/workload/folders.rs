//! The sinks of a job as folders of files, written by the file sink of production.

use gear_connectors::faults::Faults;
use gear_connectors::files;
use gear_connectors::model::ModelDisk;
use gear_core::dsl::{FromInput, Stream};

use super::sink::{OUT, put, rows};
use super::{Row, encode};
use crate::oracle::output::Rows;

type Plain = Stream<Row, FromInput<Row>>;

/// How sinks are folders.
#[derive(Clone, Copy, Debug)]
pub struct Folders {
    /// Bytes from which on a file is closed at the barrier.
    roll: u64,
    write: fn(&Self, Plain, &str),
}

impl Folders {
    /// Files of this size, written by sinks that have these bugs.
    #[must_use]
    pub fn new<F: Faults>(roll: u64) -> Self {
        Self { roll, write: write::<F> }
    }

    /// Rows to the folder of this name.
    pub(super) fn write(&self, stream: Plain, name: &str) {
        (self.write)(self, stream, name);
    }
}

fn write<F: Faults>(folders: &Folders, stream: Plain, name: &str) {
    let format = |row: Row, out: &mut Vec<u8>| put(&encode(&row), out);
    let sink = files::sink::<Row>(format!("{OUT}{name}"), format).roll_bytes(folders.roll);
    stream.sink(name, sink.with_faults::<F>());
}

/// The rows of all files that are visible, folder by folder.
pub fn found(disk: &ModelDisk, violations: &mut Vec<String>) -> Rows {
    let mut found = Rows::new();
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
