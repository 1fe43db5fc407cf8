//! At most one leader acts in each term, and terms do not fall.

use std::collections::BTreeMap;

use gear_core::id::{MasterTerm, NodeId};

/// The nodes that have acted, by their terms.
#[derive(Clone, Debug, Default)]
pub struct Leaders {
    acted: BTreeMap<MasterTerm, (NodeId, u64)>,
    promised: BTreeMap<(NodeId, u64), MasterTerm>,
}

impl Leaders {
    /// A node was seen in a life of its, in a term, acting or not.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn observe(
        &mut self,
        (node, life): (NodeId, u64),
        term: MasterTerm,
        acts: bool,
    ) -> Result<(), String> {
        let promised = self.promised.entry((node, life)).or_default();
        if term < *promised {
            return Err(format!("leaders: {node} went back from {promised} to {term}"));
        }
        *promised = term;
        if !acts {
            return Ok(());
        }
        let first = *self.acted.entry(term).or_insert((node, life));
        if first == (node, life) {
            return Ok(());
        }
        let (other, other_life) = first;
        Err(format!("leaders: {node} (life {life}) and {other} (life {other_life}) act in {term}"))
    }

    /// Terms in which somebody acted.
    #[must_use]
    pub fn terms(&self) -> usize {
        self.acted.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_act_in_one_term_are_seen() {
        let mut leaders = Leaders::default();
        let (one, two) = ((NodeId(1), 0), (NodeId(2), 0));
        leaders.observe(one, MasterTerm(3), true).unwrap();
        leaders.observe(two, MasterTerm(3), false).unwrap();
        leaders.observe(two, MasterTerm(4), true).unwrap();
        leaders.observe(one, MasterTerm(3), true).expect("it may not know of the other yet");
        assert!(leaders.observe(one, MasterTerm(4), true).is_err());
        assert_eq!(leaders.terms(), 2);
    }

    #[test]
    fn a_node_that_acts_again_in_a_term_after_a_crash_is_seen() {
        let mut leaders = Leaders::default();
        leaders.observe((NodeId(1), 0), MasterTerm(3), true).unwrap();
        assert!(leaders.observe((NodeId(1), 1), MasterTerm(3), true).is_err());
    }

    #[test]
    fn a_term_that_falls_is_seen() {
        let mut leaders = Leaders::default();
        leaders.observe((NodeId(1), 0), MasterTerm(3), false).unwrap();
        leaders.observe((NodeId(1), 1), MasterTerm(2), false).expect("it reads its disk first");
        assert!(leaders.observe((NodeId(1), 0), MasterTerm(2), false).is_err());
    }
}
