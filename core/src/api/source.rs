//! Sources: where records come from, in partitions that can be replayed from a position.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::api::files::Files;
use crate::api::record::Record;
use crate::effect::IoError;
use crate::flow::push::Meta;
use crate::message::Partition;
use crate::time::{Time, WallTime};

/// A source as a job names it: knows its partitions and makes the readers.
pub trait SourceConnector: Send + Sync + 'static {
    /// What reads the partitions of one task.
    type Source: Source;

    /// The names of the partitions there are now. Called before the tasks start.
    ///
    /// One that is named by [`growing`] stands for those of its group that turn up while its reader
    /// runs, and which that finds itself ([`Advance::NewPartition`]). Once an epoch holds it, other
    /// new names of its group are left to it, so that none is read twice.
    ///
    /// # Errors
    /// [`IoError`], for the user.
    fn partitions(&self, files: &mut dyn Files) -> Result<Vec<String>, IoError>;

    /// A reader for one task.
    fn source(&self) -> Self::Source;

    /// True if partitions that appear after the first start are read too.
    fn discovers(&self) -> bool {
        false
    }

    /// True if a position can be returned to; if not, the job cannot be exactly once.
    fn rewinds(&self) -> bool {
        true
    }

    /// True if it reads standard input, which the processes of a cluster do not have.
    fn reads_stdin(&self) -> bool {
        false
    }

    /// What the source will read, in bytes, if it knows: for a progress bar.
    fn total_bytes(&self, files: &mut dyn Files) -> Option<u64> {
        let _ = files;
        None
    }
}

/// Reads the partitions that were assigned to one task.
///
/// A pull of two halves, so that a record can be looked at twice: [`Self::advance`] moves to the
/// next record, [`Self::current`] is that record. A position is behind the current record.
pub trait Source: Send + 'static {
    /// What it reads.
    type Out: Record;

    /// Begins with these partitions, each at its position. A partition's place in the list is its
    /// number from now on.
    ///
    /// # Errors
    /// What the user should know: a position that can no longer be read, for example.
    fn open(&mut self, partitions: &[Partition], cx: &mut SourceContext<'_>) -> Result<(), String>;

    /// Moves to the next record.
    ///
    /// # Errors
    /// What the user should know; the task fails and goes on from its last epoch when restarted.
    fn advance(&mut self, cx: &mut SourceContext<'_>) -> Result<Advance, String>;

    /// The record to which the last [`Advance::Record`] moved.
    fn current(&self) -> (Meta, <Self::Out as Record>::View<'_>);

    /// Every partition of the task, with its position behind the current record.
    fn positions(&self) -> Vec<Partition>;

    /// Bytes read since it was opened, for a progress bar.
    fn bytes_read(&self) -> u64 {
        0
    }

    /// Something that the user should know although all goes on; each is given once.
    fn notice(&mut self) -> Option<String> {
        None
    }

    /// What people may want to see beside what every source has.
    fn figures(&self) -> Vec<ConnectorFigure> {
        Vec::new()
    }
}

/// A figure of a connector, as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorFigure {
    /// What it counts, in snake case with its unit: `lag_records`.
    pub name: String,
    /// Of what: a partition, for example.
    pub of: String,
    /// How much.
    pub value: u64,
}

/// What the name of a partition that grows ends in.
const GROWING: char = '+';
/// What parts the group of a partition from the rest of its name.
const GROUP_END: char = '#';

/// The name of the partition that stands for the ones that turn up later in a group, of which it
/// has so many: `events#4+`, in the group of `events#3`.
#[must_use]
pub fn growing(group: &str, count: u32) -> String {
    format!("{group}{GROUP_END}{count}{GROWING}")
}

/// The group of a partition, and the partitions that it had, if the name was made by [`growing`].
#[must_use]
pub fn grows(name: &str) -> Option<(&str, u32)> {
    let (group, count) = name.strip_suffix(GROWING)?.rsplit_once(GROUP_END)?;
    Some((group, count.parse().ok()?))
}

/// The group in whose name the partition is, if it is in any.
pub(crate) fn group(name: &str) -> Option<&str> {
    name.rsplit_once(GROUP_END).map(|(group, _)| group)
}

/// What [`Source::advance`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advance {
    /// There is a record.
    Record,
    /// There is none now; ask again at this time, or when woken.
    Wait(Time),
    /// There are bytes that are no record: put aside, and passed.
    Malformed {
        /// The number of the partition.
        partition: u32,
        /// Where in it, for people.
        position: String,
        /// The bytes.
        bytes: Vec<u8>,
        /// What is wrong with them.
        reason: String,
    },
    /// A partition was found that is read from now on. Its number follows those that there are.
    NewPartition(String),
    /// This partition holds nothing more; others may.
    PartitionEnd(u32),
    /// There will never be another.
    End,
}

/// What a source may use.
pub struct SourceContext<'a> {
    /// The monotonic time.
    pub now: Time,
    /// The wall-clock time.
    pub wall: WallTime,
    /// Files to read.
    pub files: &'a mut dyn Files,
}
