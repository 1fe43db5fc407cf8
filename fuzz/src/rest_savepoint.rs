//! Bytes as the body of a request for a savepoint.

use gear_node::api::bodies::savepoint;

/// Reads and checks the body: a name is one part of a path.
pub fn run(bytes: &[u8]) {
    match savepoint(bytes) {
        Ok(request) => {
            let name = &request.name;
            assert!(!name.contains('/') && !name.starts_with('.'), "{name} is a folder");
        }
        Err(problem) => assert!(!problem.detail.is_empty(), "{problem:?}"),
    }
}
