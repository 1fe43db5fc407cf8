//! A table from snapshots, whichever tasks wrote them.

use alloc::string::String;

use super::group::Group;
use super::snapshot::{LIVE, Section, SnapshotError, SnapshotReader, TOMBSTONE, state_name};
use super::table::Table;
use crate::api::key::{Key, key_group};
use crate::api::record::type_name;
use crate::api::state::State;
use crate::id::Epoch;

/// Entries for which an index is sized before they have been read: a hostile count buys no more.
const RESERVED_MAX: usize = 1 << 16;

impl<K: Key, V: State> Table<K, V> {
    /// Applies a section of a snapshot, as far as its groups are the task's own. A section that is
    /// missing changes nothing.
    ///
    /// A chain is applied from its full object on, in order; chains of several tasks one after the
    /// other. Then comes [`Self::restored`].
    ///
    /// # Errors
    /// [`SnapshotError`] if the section is of other types or another number of key groups, and then
    /// nothing has changed; or if its entries are malformed, and then the table is of no use.
    ///
    /// # Panics
    /// If the table has been written to or takes a snapshot.
    pub fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        section: &str,
    ) -> Result<(), SnapshotError> {
        assert!(self.open == 1 && self.scan.is_none(), "a table is restored before it is used");
        let Some(section) = reader.section(section) else { return Ok(()) };
        self.check(section)?;
        if section.base.is_none() {
            self.clear(section);
        }
        for (number, entries, place) in section.runs() {
            let at = number.wrapping_sub(self.first) as usize;
            if at >= self.groups.len() {
                continue;
            }
            let mut input = &reader.bytes()[place.clone()];
            self.measured(at, |group| group.reserve((entries as usize).min(RESERVED_MAX)));
            for _ in 0..entries {
                let malformed = |rest: &[u8], what| SnapshotError::Malformed {
                    at: place.end - rest.len(),
                    what,
                };
                let before = input;
                self.apply(at, &mut input).map_err(|what| malformed(before, what))?;
            }
            if !input.is_empty() {
                let at = place.end - input.len();
                return Err(SnapshotError::Malformed { at, what: "a run has bytes left over" });
            }
        }
        Ok(())
    }

    /// All that was restored is as it was at the end of `epoch`, and the next one is open.
    ///
    /// # Panics
    /// If a snapshot was taken before.
    pub fn restored(&mut self, epoch: Epoch) {
        assert!(self.open == 1 && self.scan.is_none(), "a table is restored before it is used");
        self.origin = epoch;
    }

    fn check(&self, section: &Section<'_>) -> Result<(), SnapshotError> {
        let types = [
            ("key", section.key_type, type_name::<K>()),
            ("state", section.state_type, state_name::<V>()),
        ];
        for (part, found, expected) in types {
            if found != expected {
                let (section, found) = (String::from(section.name), String::from(found));
                return Err(SnapshotError::Type { section, part, found, expected });
            }
        }
        if section.total_groups != self.total {
            return Err(SnapshotError::Groups {
                section: section.name.into(),
                found: section.total_groups,
                expected: self.total,
            });
        }
        Ok(())
    }

    /// A full section tells all there was in its groups, so nothing older stays.
    fn clear(&mut self, section: &Section<'_>) {
        let (first, end) = (self.first, self.groups().end);
        for number in section.groups.start.max(first)..section.groups.end.min(end) {
            let at = (number - first) as usize;
            if self.groups[at].used() > 0 {
                self.len -= self.groups[at].live();
                self.measured(at, |group| *group = Group::new());
            }
        }
    }

    fn apply(&mut self, at: usize, input: &mut &[u8]) -> Result<(), &'static str> {
        const KEY: &str = "a key is malformed";
        let (&flag, rest) = input.split_first().ok_or(KEY)?;
        *input = rest;
        let key = K::decode(input).map_err(|_| KEY)?;
        let hash = K::hash(&key, 0);
        if key_group(hash, self.total) != self.first + at as u32 {
            return Err("a key is in a foreign group");
        }
        match flag {
            TOMBSTONE => {
                if self.measured(at, |group| group.erase(hash, &key)).is_some() {
                    self.len -= 1;
                }
            }
            LIVE => {
                let value = V::load(input).map_err(|_| "a value is malformed")?;
                match self.groups[at].find(hash, &key) {
                    Some(index) => self.measured(at, |group| group.replace(index, value)),
                    None => {
                        self.measured(at, |group| group.insert(hash, &key, value, 0));
                        self.len += 1;
                    }
                }
            }
            _ => return Err("an entry is neither live nor a tombstone"),
        }
        Ok(())
    }
}
