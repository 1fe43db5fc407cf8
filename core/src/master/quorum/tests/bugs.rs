//! Each seeded bug is found by the random runs.

extern crate std;

use super::random::run;
use crate::host::Faults;

/// Seeds within which a bug has to be found.
const SEEDS: u64 = 300;

/// The first seed that finds it.
fn found<F: Faults>() -> Option<u64> {
    (0..SEEDS).find(|seed| std::panic::catch_unwind(|| run::<F>(*seed)).is_err())
}

macro_rules! bugs {
    ($($test:ident, $name:ident, $fault:ident;)*) => {$(
        struct $name;

        impl Faults for $name {
            const $fault: bool = true;
        }

        #[test]
        fn $test() {
            assert!(found::<$name>().is_some(), "no run finds {}", stringify!($fault));
        }
    )*};
}

bugs! {
    a_vote_before_it_is_stored_is_found, VoteBeforeStored, VOTE_BEFORE_STORED;
    an_early_acknowledgement_is_found, AcknowledgeBeforeMajority, ACKNOWLEDGE_BEFORE_MAJORITY;
    a_join_of_older_terms_is_found, JoinOlderTerms, JOIN_OLDER_TERMS;
    a_leader_after_its_lease_is_found, IgnoreLease, IGNORE_LEASE;
}
