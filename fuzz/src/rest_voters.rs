//! Bytes as the body of a change of the voters.

use gear_node::api::bodies::voting;

/// Reads and checks the body: whoever votes has an address.
pub fn run(bytes: &[u8]) {
    match voting(bytes) {
        Ok(voters) => {
            assert!(!voters.is_empty(), "somebody votes");
            assert!(voters.values().all(|address| address.0.contains(':')), "{voters:?}");
        }
        Err(problem) => assert!(!problem.detail.is_empty(), "{problem:?}"),
    }
}
