//! What librdkafka tells on its own of a client that writes.

use std::sync::{Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError as Client, RDKafkaErrorCode as Code};
use rdkafka::producer::{DeliveryResult, ProducerContext};

use super::errors::is_refusal;

/// What the library has told since it was asked last.
#[derive(Default)]
pub(super) struct Told {
    /// The first record that could not be delivered since the last look.
    undelivered: Mutex<Option<(Code, String)>>,
    /// What was said last of the cluster as a whole.
    cluster: Mutex<Option<(Code, String)>>,
}

impl Told {
    /// The cluster has done something: what it said before is past.
    pub(super) fn forget(&self) {
        *self.cluster.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn take_undelivered(&self) -> Option<(Code, String)> {
        self.undelivered.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn cluster(&self) -> Option<(Code, String)> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Told {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: Client, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
            // That no broker is left follows from it.
            if is_refusal(code) || !cluster.as_ref().is_some_and(|(code, _)| is_refusal(*code)) {
                *cluster = Some((code, reason.to_owned()));
            }
        }
    }
}

impl ConsumerContext for Told {}

impl ProducerContext for Told {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            let mut first = self.undelivered.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| (code, error.to_string()));
        }
    }
}
