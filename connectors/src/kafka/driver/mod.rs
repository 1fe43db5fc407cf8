//! The clients of Kafka that production has: librdkafka's.

mod consumer;
mod errors;
mod fetched;
mod outlet;
mod producer;
mod told;
mod topic_limit;

use std::any::Any;
use std::fmt;

pub use consumer::{RdConsumers, START_TIMEOUT, TOPIC_TIMEOUT};
pub(crate) use producer::Producers;

use super::port::Consumers;

/// What the driver of a process's files offers to the source.
pub(crate) struct Offer(Box<dyn Consumers>);

impl Offer {
    pub(crate) fn consumers(&mut self) -> &mut dyn Any {
        &mut self.0
    }
}

impl Default for Offer {
    fn default() -> Self {
        Self(Box::new(RdConsumers))
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Offer")
    }
}
