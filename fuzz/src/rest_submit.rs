//! Bytes as the body of a submission.

use gear_node::api::bodies::submission;

/// Reads and checks the body: what is taken can be written and is taken again.
pub fn run(bytes: &[u8]) {
    match submission(bytes) {
        Ok(request) => {
            assert_ne!(request.executors, Some(0), "an app has an executor");
            let name = request.name.as_deref().unwrap_or("none");
            assert!(!name.contains('/') && !name.starts_with('.'), "{name} is a folder");
            let text = serde_json::to_vec(&request).expect("plain data");
            assert_eq!(submission(&text), Ok(request));
        }
        Err(problem) => assert!(!problem.detail.is_empty(), "{problem:?}"),
    }
}
