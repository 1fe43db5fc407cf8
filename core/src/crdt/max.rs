//! The greatest value that was ever put in.

use serde::{Deserialize, Serialize};

use super::Lattice;

/// A value that only rises.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Max<T>(pub T);

impl<T: Ord + Clone> Lattice for Max<T> {
    fn join(&mut self, other: &Self) -> bool {
        let rises = other.0 > self.0;
        if rises {
            self.0 = other.0.clone();
        }
        rises
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crdt::laws;

    proptest! {
        #[test]
        fn it_is_a_lattice(a: u8, b: u8, c: u8) {
            laws::hold(&Max(a), &Max(b), &Max(c))?;
            let mut max = Max(a);
            max.join(&Max(b));
            prop_assert_eq!(max.0, a.max(b));
        }
    }
}
