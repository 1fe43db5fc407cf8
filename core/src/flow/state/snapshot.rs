//! The snapshot object: what a task's tables held at a barrier, or what changed since another.
//!
//! ```text
//! magic "GSNP", version u16
//! runs:   group u32, entries u32, bytes u64, then per entry: flag u8 (1 live, 0 tombstone),
//!         key as a record, value as a state if live
//! index:  meta bytes; sections u32; per section: name, key type and state type as strings,
//!         epoch u64, base u64 (0: full), total groups, first group, end group, runs, all u32;
//!         per run: group u32, entries u32, offset u64, bytes u64
//! footer: offset of the index u64, CRC32C of all before it u32
//! ```
//! Integers are little endian, strings and bytes preceded by their length as u32. The runs of all
//! sections lie one behind the other, in the order of the index, and fill what is before it.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use crate::api::key::Key;
use crate::api::record::{Malformed, Record, take, type_name};
use crate::api::state::State;
use crate::id::Epoch;

const MAGIC: [u8; 4] = *b"GSNP";
/// The format that is written, and the only one that is read.
pub const SNAPSHOT_VERSION: u16 = 1;
const HEADER: usize = 6;
const FOOTER: usize = 12;
const RUN_HEADER: usize = 16;
const RUN_INDEX: usize = 24;
pub(super) const LIVE: u8 = 1;
pub(super) const TOMBSTONE: u8 = 0;

/// Why a snapshot is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes are something else.
    #[error("this is not a snapshot: it does not begin with \"GSNP\"")]
    NotASnapshot,
    /// Another program wrote it.
    #[error(
        "the snapshot has format version {found}, this program reads version {SNAPSHOT_VERSION}: \
         use the program that wrote it"
    )]
    Version {
        /// Its version.
        found: u16,
    },
    /// It is cut off, or bytes of it have changed.
    #[error(
        "the snapshot is damaged: its CRC32C is {found:08x} instead of {expected:08x} over {len} \
         bytes"
    )]
    Damaged {
        /// What the footer says.
        expected: u32,
        /// What the bytes have.
        found: u32,
        /// Bytes that there are.
        len: usize,
    },
    /// Its checksum is right, but its content is not.
    #[error("the snapshot is malformed at byte {at}: {what}")]
    Malformed {
        /// Where.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// A state changed its type.
    #[error(
        "state {section:?} was saved with the {part} type {found}, but the program has {expected}: \
         go back to {found}, or give the operator another name so that it starts empty"
    )]
    Type {
        /// The section.
        section: String,
        /// Whether it is about the key or the state.
        part: &'static str,
        /// The type in the snapshot.
        found: String,
        /// The type in the program.
        expected: String,
    },
    /// The app has another number of key groups than the snapshot.
    #[error(
        "state {section:?} was saved in {found} key groups, but the app has {expected}: the number \
         is fixed with an app's first epoch, so set it to {found}"
    )]
    Groups {
        /// The section.
        section: String,
        /// Key groups in the snapshot.
        found: u32,
        /// Key groups in the program.
        expected: u32,
    },
}

/// A finished snapshot object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The object.
    pub bytes: Vec<u8>,
    /// The CRC32C of all of it, as the object's reference says it.
    pub crc: u32,
}

/// What a section is about.
#[derive(Clone, Debug)]
pub(super) struct SectionHead<'a> {
    pub(super) name: &'a str,
    pub(super) epoch: Epoch,
    pub(super) base: Option<Epoch>,
    pub(super) groups: Range<u32>,
    pub(super) total_groups: u32,
}

/// Builds a snapshot object in memory.
#[derive(Debug)]
pub struct SnapshotWriter {
    bytes: Vec<u8>,
    /// The CRC32C of `bytes[..checked]`, continued in each part so that the end costs no pause.
    crc: u32,
    checked: usize,
    meta: Vec<u8>,
    names: Vec<String>,
    /// The index of the finished sections.
    index: Vec<u8>,
    /// The runs of the section that is being written, as the index has them.
    runs: Vec<u8>,
    run: Option<Run>,
    in_section: bool,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    group: u32,
    entries: u32,
    /// Where its header is.
    at: usize,
}

impl Default for SnapshotWriter {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl SnapshotWriter {
    /// An empty object in a buffer that may have been used before.
    #[must_use]
    pub fn new(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.extend_from_slice(&MAGIC);
        buffer.extend_from_slice(&SNAPSHOT_VERSION.to_le_bytes());
        Self {
            bytes: buffer,
            crc: 0,
            checked: 0,
            meta: Vec::new(),
            names: Vec::new(),
            index: Vec::new(),
            runs: Vec::new(),
            run: None,
            in_section: false,
        }
    }

    /// Sets what the object says besides its tables; less than 4 GiB.
    pub fn set_meta(&mut self, meta: &[u8]) {
        self.meta = meta.to_vec();
    }

    /// A digest of what the object says besides its tables.
    #[must_use]
    pub fn meta_digest(&self) -> u64 {
        xxh3_64(&self.meta)
    }

    /// Bytes so far, the index not included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if no table has written anything yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER
    }

    pub(super) fn begin_section<K: Key, V: State>(&mut self, head: SectionHead<'_>) {
        assert!(!self.in_section, "one section after the other");
        assert!(self.names.iter().all(|name| name != head.name), "a section's name is its own");
        self.in_section = true;
        self.names.push(head.name.into());
        put_bytes(head.name.as_bytes(), &mut self.index);
        put_bytes(type_name::<K>().as_bytes(), &mut self.index);
        put_bytes(state_name::<V>().as_bytes(), &mut self.index);
        u64::encode(&head.epoch.0, &mut self.index);
        u64::encode(&head.base.map_or(0, |base| base.0), &mut self.index);
        for number in [head.total_groups, head.groups.start, head.groups.end] {
            u32::encode(&number, &mut self.index);
        }
    }

    #[inline]
    pub(super) fn entry<K: Key, V: State>(
        &mut self,
        group: u32,
        key: &K::View<'_>,
        value: Option<&V>,
    ) {
        match &mut self.run {
            Some(run) if run.group == group => run.entries += 1,
            _ => {
                self.end_run();
                self.run = Some(Run { group, entries: 1, at: self.bytes.len() });
                self.bytes.extend_from_slice(&[0; RUN_HEADER]);
            }
        }
        self.bytes.push(if value.is_some() { LIVE } else { TOMBSTONE });
        K::encode(key, &mut self.bytes);
        if let Some(value) = value {
            value.save(&mut self.bytes);
        }
    }

    fn end_run(&mut self) {
        let Some(run) = self.run.take() else { return };
        let offset = (run.at + RUN_HEADER) as u64;
        let len = self.bytes.len() as u64 - offset;
        let mut header = Vec::with_capacity(RUN_HEADER);
        u32::encode(&run.group, &mut header);
        u32::encode(&run.entries, &mut header);
        u64::encode(&len, &mut header);
        self.bytes[run.at..run.at + RUN_HEADER].copy_from_slice(&header);
        self.runs.extend_from_slice(&header[..8]);
        u64::encode(&offset, &mut self.runs);
        u64::encode(&len, &mut self.runs);
    }

    /// Continues the checksum over what will not change any more.
    pub(super) fn settle(&mut self) {
        let end = self.run.map_or(self.bytes.len(), |run| run.at);
        self.crc = crc32c::crc32c_append(self.crc, &self.bytes[self.checked..end]);
        self.checked = end;
    }

    pub(super) fn end_section(&mut self) {
        self.end_run();
        self.settle();
        u32::encode(&((self.runs.len() / RUN_INDEX) as u32), &mut self.index);
        self.index.append(&mut self.runs);
        self.in_section = false;
    }

    /// The whole object.
    ///
    /// # Panics
    /// If a table's snapshot has not been written to its end.
    #[must_use]
    pub fn finish(mut self) -> Snapshot {
        assert!(!self.in_section, "every section is written to its end");
        let index_at = self.bytes.len() as u64;
        put_bytes(&self.meta, &mut self.bytes);
        u32::encode(&(self.names.len() as u32), &mut self.bytes);
        self.bytes.append(&mut self.index);
        u64::encode(&index_at, &mut self.bytes);
        self.settle();
        let crc = self.crc;
        u32::encode(&crc, &mut self.bytes);
        self.settle();
        // It is kept until it is stored, while the table goes on.
        self.bytes.shrink_to_fit();
        Snapshot { bytes: self.bytes, crc: self.crc }
    }
}

pub(super) fn state_name<V: State>() -> String {
    let mut name = String::new();
    V::state_name(&mut name);
    name
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let len = u32::try_from(bytes.len()).expect("invariant: names and meta are below 4 GiB");
    u32::encode(&len, out);
    out.extend_from_slice(bytes);
}

/// One table in a snapshot.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    /// The state's name.
    pub name: &'a str,
    /// The stable name of the key's type.
    pub key_type: &'a str,
    /// The stable name and version of the state's type.
    pub state_type: &'a str,
    /// The epoch at whose barrier it was taken.
    pub epoch: Epoch,
    /// The epoch since which it tells what changed; all there was if none.
    pub base: Option<Epoch>,
    /// The key groups of the task that wrote it.
    pub groups: Range<u32>,
    /// The key groups of the app.
    pub total_groups: u32,
    runs: &'a [u8],
}

impl<'a> Section<'a> {
    /// The entries of each group: group, number of entries, where they are.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u32, u32, Range<usize>)> + use<'a> {
        self.runs.chunks_exact(RUN_INDEX).map(|mut run| {
            let mut next = || -> Result<_, Malformed> {
                let (group, entries) = (u32::decode(&mut run)?, u32::decode(&mut run)?);
                let (offset, len) = (usize::decode(&mut run)?, usize::decode(&mut run)?);
                Ok((group, entries, offset..offset.saturating_add(len)))
            };
            next().expect("invariant: a chunk is as long as a run's index")
        })
    }

    /// Entries and tombstones in it.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.runs().map(|(_, entries, _)| u64::from(entries)).sum()
    }
}

/// Reads a snapshot object, having checked all of it but the entries themselves.
#[derive(Clone, Debug)]
pub struct SnapshotReader<'a> {
    bytes: &'a [u8],
    meta: &'a [u8],
    sections: Vec<Section<'a>>,
}

/// Takes numbers and strings from the index, and knows where it is.
struct IndexReader<'a> {
    rest: &'a [u8],
    end: usize,
}

impl<'a> IndexReader<'a> {
    const fn malformed(&self, what: &'static str) -> SnapshotError {
        SnapshotError::Malformed { at: self.end - self.rest.len(), what }
    }

    fn number<T: for<'b> Record<View<'b> = T>>(&mut self) -> Result<T, SnapshotError> {
        T::decode(&mut self.rest).map_err(|_| self.malformed("the index ends early"))
    }

    fn bytes(&mut self) -> Result<&'a [u8], SnapshotError> {
        let len = self.number::<u32>()? as usize;
        take(&mut self.rest, len, "bytes").map_err(|_| self.malformed("a length leaves the index"))
    }

    fn str(&mut self) -> Result<&'a str, SnapshotError> {
        core::str::from_utf8(self.bytes()?).map_err(|_| self.malformed("a name is not UTF-8"))
    }

    fn section(&mut self) -> Result<Section<'a>, SnapshotError> {
        let (name, key_type, state_type) = (self.str()?, self.str()?, self.str()?);
        let (epoch, base) = (Epoch(self.number()?), Epoch(self.number()?));
        let total_groups = self.number()?;
        let groups = self.number()?..self.number()?;
        if groups.start > groups.end || groups.end > total_groups || base >= epoch {
            return Err(self.malformed("a section contradicts itself"));
        }
        let runs = self.number::<u32>()? as usize;
        let runs = runs.checked_mul(RUN_INDEX).filter(|len| *len <= self.rest.len());
        let Some((runs, rest)) = runs.and_then(|len| self.rest.split_at_checked(len)) else {
            return Err(self.malformed("a number of runs leaves the index"));
        };
        self.rest = rest;
        let base = (base.0 > 0).then_some(base);
        Ok(Section { name, key_type, state_type, epoch, base, groups, total_groups, runs })
    }
}

impl<'a> SnapshotReader<'a> {
    /// Checks an object: that it is one, its version, its checksum, and every length in it.
    ///
    /// # Errors
    /// [`SnapshotError`] says what is wrong with it.
    pub fn open(bytes: &'a [u8]) -> Result<Self, SnapshotError> {
        if bytes.len() < HEADER || bytes[..4] != MAGIC {
            return Err(SnapshotError::NotASnapshot);
        }
        let found = u16::from_le_bytes([bytes[4], bytes[5]]);
        if found != SNAPSHOT_VERSION {
            return Err(SnapshotError::Version { found });
        }
        let malformed = |at, what| SnapshotError::Malformed { at, what };
        let (Some((body, crc)), true) =
            (bytes.split_last_chunk::<4>(), bytes.len() >= HEADER + FOOTER)
        else {
            return Err(malformed(bytes.len(), "it ends before its footer"));
        };
        let (expected, found) = (u32::from_le_bytes(*crc), crc32c::crc32c(body));
        if expected != found {
            return Err(SnapshotError::Damaged { expected, found, len: bytes.len() });
        }
        let end = bytes.len() - FOOTER;
        let mut offset = &body[end..];
        let offset = usize::decode(&mut offset).unwrap_or(usize::MAX);
        if !(HEADER..=end).contains(&offset) {
            return Err(malformed(end, "the index is out of bounds"));
        }
        let mut index = IndexReader { rest: &bytes[offset..end], end };
        let meta = index.bytes()?;
        let mut sections: Vec<Section<'a>> = Vec::new();
        let mut at = HEADER;
        for _ in 0..index.number::<u32>()? {
            let section = index.section()?;
            if sections.iter().any(|other| other.name == section.name) {
                return Err(index.malformed("two sections have one name"));
            }
            at = check_runs(bytes, &section, at, offset)?;
            sections.push(section);
        }
        if !index.rest.is_empty() || at != offset {
            return Err(malformed(at, "something is left over"));
        }
        Ok(Self { bytes, meta, sections })
    }

    /// What the object says besides its tables.
    #[must_use]
    pub const fn meta(&self) -> &'a [u8] {
        self.meta
    }

    /// Its tables.
    #[must_use]
    pub fn sections(&self) -> &[Section<'a>] {
        &self.sections
    }

    /// The table of this name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section<'a>> {
        self.sections.iter().find(|section| section.name == name)
    }

    pub(super) const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// Checks that the runs of a section follow `at` without a gap, and gives where they end.
fn check_runs(
    bytes: &[u8],
    section: &Section<'_>,
    mut at: usize,
    end: usize,
) -> Result<usize, SnapshotError> {
    let mut last = None;
    for (group, entries, place) in section.runs() {
        let malformed = |what| SnapshotError::Malformed { at, what };
        if place.start != at.saturating_add(RUN_HEADER)
            || place.end > end
            || place.end < place.start
        {
            return Err(malformed("a run is out of place"));
        }
        let mut header = &bytes[at..place.start];
        let header =
            (u32::decode(&mut header), u32::decode(&mut header), usize::decode(&mut header));
        if header != (Ok(group), Ok(entries), Ok(place.len())) {
            return Err(malformed("a run differs from its index"));
        }
        if !section.groups.contains(&group) || last.is_some_and(|last| last >= group) {
            return Err(malformed("a run's group is out of order"));
        }
        // A flag and a key have at least a byte each.
        if (entries as usize).saturating_mul(2) > place.len() {
            return Err(malformed("a run has more entries than bytes"));
        }
        last = Some(group);
        at = place.end;
    }
    Ok(at)
}
