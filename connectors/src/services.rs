//! The servers that connectors talk to: what performs [`gear_core::effect::IoRequest::Call`].

use gear_core::effect::{Blob, IoError, IoErrorKind};
use gear_core::id::TaskId;

/// Who waits for what a server says.
pub type Answer = Box<dyn FnOnce(Result<Vec<u8>, IoError>) + Send>;

/// The kinds of server that connectors know, each with the cargo feature that brings it.
const KNOWN: [&str; 1] = ["kafka"];

/// What talks to servers, one kind beside the other. Calls of one task to one server are performed
/// in order, and do not wait for those of other tasks.
#[derive(Debug, Default)]
pub struct Services {
    #[cfg(feature = "kafka")]
    kafka: crate::kafka::driver::Producers,
}

impl Services {
    /// Performs a call, which is answered from another thread.
    pub fn call(
        &mut self,
        task: TaskId,
        service: &str,
        command: Vec<u8>,
        body: Blob,
        answer: Answer,
    ) {
        match service {
            #[cfg(feature = "kafka")]
            crate::kafka::sink::SERVICE => self.kafka.call(task, command, body, answer),
            _ => {
                let _ = (task, command, body);
                answer(Err(missing(service)));
            }
        }
    }
}

/// Why a server cannot be talked to: this program does not know how.
#[must_use]
pub fn missing(service: &str) -> IoError {
    let reason = if KNOWN.contains(&service) {
        format!(
            "this program was built without it: build the job with the feature `{service}` of \
             gear-node, as `cargo build --features gear-node/{service}`"
        )
    } else {
        "no connector of this program knows this kind of server".to_owned()
    };
    IoError { path: service.to_owned(), reason, kind: IoErrorKind::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_this_build_lacks_is_named_with_its_feature() {
        assert!(missing("kafka").to_string().contains("--features gear-node/kafka"));
        assert!(missing("fax").to_string().starts_with("fax: no connector"));
    }
}
