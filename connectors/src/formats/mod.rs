//! Formats of records: functions that operators decode with, and sinks encode with.
//!
//! Each format is a feature of its own. What decodes is given to `try_map`, whose errors put the
//! record aside or, with `dead_letters()`, give it to a stream of its own. A type that derives
//! `Record` beside serde's traits (or prost's) goes in and out:
//!
#![cfg_attr(feature = "json", doc = "```")]
#![cfg_attr(not(feature = "json"), doc = "```ignore")]
//! use gear_connectors::files;
//! use gear_connectors::formats::json;
//! use gear_core::api::Record;
//! use gear_core::dsl::App;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Debug, Deserialize, Serialize, Record)]
//! struct Order {
//!     id: u64,
//!     customer: String,
//! }
//!
//! fn job(app: &mut App) {
//!     app.source("lines", files::bytes_source(["orders.json"]))
//!         .try_map::<Order, _, _>("parse", |line| json::decode(line))
//!         .filter("known", |order| order.id > 0)
//!         .sink("orders", files::sink::<Order>("out", json::lines::<Order>()));
//! }
//! # job(&mut App::new("job", (), Default::default()));
//! ```
//!
//! What comes from outside is never trusted: a record is no longer than [`DECODED_BYTES_MAX`], and
//! each format bounds how deeply it nests. An error says where in the record it is, and holds no
//! more of the record than [`REASON_BYTES_MAX`].

#[cfg(feature = "avro")]
pub mod avro;
#[cfg(any(feature = "avro", feature = "csv", feature = "json", feature = "protobuf"))]
mod bounds;
pub mod confluent;
#[cfg(feature = "csv")]
pub mod csv;
#[cfg(feature = "json")]
pub mod json;
#[cfg(feature = "protobuf")]
pub mod protobuf;

#[cfg(any(feature = "avro", feature = "csv", feature = "json", feature = "protobuf"))]
use bounds::{bounded, reason};

/// Bytes of a record from which on it is not decoded: four times what a Kafka broker takes unless
/// it is told otherwise. What is decoded may take some dozen times as much memory.
pub const DECODED_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Bytes of a text that says what is wrong with a record: the libraries' own ones may quote all of
/// it.
pub const REASON_BYTES_MAX: usize = 160;

/// Why a record was not decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is longer than any that is decoded.
    #[error("has {bytes} bytes, and no more than {DECODED_BYTES_MAX} are decoded")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It is not what was expected.
    #[error("{place}: {what}")]
    At {
        /// The place in the record, as its format names places.
        place: String,
        /// What is wrong there.
        what: String,
    },
    /// It is not what was expected, and there is no place to name.
    #[error("{0}")]
    Whole(String),
    /// It does not begin as Confluent's serializers begin.
    #[error("does not begin with a zero byte and the four bytes of a schema's id")]
    NotFramed,
    /// It was written with a schema that nobody has given.
    #[error("was written with the schema {0}, which this job was not given")]
    UnknownSchema(u32),
}
