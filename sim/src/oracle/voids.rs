//! What a leader began without, though an earlier one had written it, is void: it never comes back.

use std::collections::BTreeMap;

use gear_core::crdt::Stamp;
use gear_core::id::MasterTerm;

/// Every register of the masters' state, by its name, with the stamp of its value.
pub type Stamps = BTreeMap<String, Stamp>;

/// What each leader that acted has begun with.
#[derive(Clone, Debug, Default)]
pub struct Voids {
    begun: BTreeMap<MasterTerm, Stamps>,
}

impl Voids {
    /// A leader begins to act with this.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn begins(&mut self, term: MasterTerm, stamps: Stamps) -> Result<(), String> {
        for (earlier, had) in self.begun.range(..term) {
            let void = |(name, stamp): &(&String, &Stamp)| {
                stamp.term < *earlier && had.get(*name) != Some(*stamp)
            };
            if let Some((name, stamp)) = stamps.iter().find(void) {
                return Err(format!(
                    "voids: {name} of {stamp:?} is back in {term}, and {earlier} began without it"
                ));
            }
        }
        self.begun.entry(term).or_insert(stamps);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(all: &[(&str, u64, u64)]) -> Stamps {
        let stamp = |term, counter| Stamp { term: MasterTerm(term), counter };
        all.iter().map(|(name, term, counter)| ((*name).into(), stamp(*term, *counter))).collect()
    }

    #[test]
    fn what_was_void_does_not_come_back() {
        let mut voids = Voids::default();
        voids.begins(MasterTerm(2), stamps(&[("a", 1, 1)])).unwrap();
        voids.begins(MasterTerm(4), stamps(&[("a", 1, 1), ("b", 3, 7)])).expect("3 is later");
        voids.begins(MasterTerm(4), stamps(&[])).expect("it has begun already");
        assert!(voids.begins(MasterTerm(5), stamps(&[("a", 1, 2)])).is_err());
        assert!(voids.begins(MasterTerm(6), stamps(&[("b", 3, 8)])).is_err());
        voids.begins(MasterTerm(7), stamps(&[("b", 5, 1)])).unwrap();
    }
}
