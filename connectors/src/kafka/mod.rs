//! Kafka: records of topics, read again from any position.
//!
//! The source is a pure machine that reads through a [`Consumers`] port: [`model`] offers one over
//! logs in memory, and the feature `kafka` brings the one over librdkafka.

#[cfg(feature = "kafka")]
pub mod driver;
mod error;
pub mod model;
mod port;
mod record;
mod settings;
pub mod sink;
mod source;

pub use error::KafkaError;
pub use port::{
    Batch, CONSUMERS, Consumer, Consumers, Entry, Event, Fetch, Found, NO_TIMESTAMP, Parts, Place,
    Request, TopicPartition,
};
pub use record::{Header, Headers, Message};
pub use settings::{ClientSettings, SettingError};
pub use sink::dead_letter;
pub use sink::{Field, KafkaSink, KafkaWriter, Outgoing, Payload, Unsure, sink, sink_with};
pub use source::{
    Bytes, DISCOVER_EVERY_DEFAULT, FETCHED_AHEAD_KIB, KafkaReader, KafkaSource, Shape, Start, Text,
    WhenGone, Whole, read_up_to, source,
};
