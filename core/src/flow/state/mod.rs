//! Keyed state: tables by key group, and snapshots of them that stop nobody.
//!
//! A [`Table`] holds the state of one operator in one task. Its entries carry the epoch of their
//! last write, so a snapshot finds what changed since a committed one, and the first write to an
//! entry after a barrier keeps the old value aside until the scan has written it out.

mod group;
mod index;
mod restore;
mod scan;
mod snapshot;
mod table;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod model;

pub use snapshot::{
    SNAPSHOT_VERSION, Section, Snapshot, SnapshotError, SnapshotReader, SnapshotWriter,
};
pub use table::{Cursor, EntryId, Table};
