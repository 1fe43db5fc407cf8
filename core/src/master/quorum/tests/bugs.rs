//! Each seeded bug is found by the random runs, and by the rule that it breaks.

use super::random::run;
use crate::host::{Fault, Faults};

/// Seeds within which a bug has to be found.
const SEEDS: u64 = 300;

macro_rules! bugs {
    ($($test:ident, $name:ident, $rule:literal;)*) => {$(
        struct $name;

        impl Faults for $name {
            fn has(fault: Fault) -> bool {
                fault == Fault::$name
            }
        }

        #[test]
        #[should_panic(expected = $rule)]
        fn $test() {
            for seed in 0..SEEDS {
                run::<$name>(seed);
            }
        }
    )*};
}

bugs! {
    a_vote_before_it_is_stored_is_found, VoteBeforeStored, "votes twice";
    an_early_acknowledgement_is_found, AcknowledgeBeforeMajority, "without it";
    a_join_of_older_terms_is_found, JoinOlderTerms, "came back";
    a_leader_after_its_lease_is_found, IgnoreLease, "act at the same time";
}
