//! What the simulated jobs read, do and write: rows, sources, sinks, and random graphs.

pub mod build;
pub mod folders;
pub mod pace;
pub mod plan;
pub mod sink;
pub mod source;
pub mod tally;
pub mod topics;

use gear_core::api::Record;
use gear_core::time::EventTime;

use crate::random::mix;

/// What flows: an id, a key, an event time in microseconds, and ballast.
pub type Row = (u64, u64, i64, String);

/// The encoding of a row.
#[must_use]
pub fn encode(row: &Row) -> Vec<u8> {
    let mut bytes = Vec::new();
    Row::encode(row, &mut bytes);
    bytes
}

/// The row that these bytes hold.
///
/// # Panics
/// If they hold none: whoever asks has encoded them.
#[must_use]
pub fn decode(mut bytes: &[u8]) -> Row {
    Row::decode(&mut bytes).expect("these bytes were a row")
}

/// The event time of a row.
#[must_use]
pub const fn event_time(row: &Row) -> EventTime {
    EventTime(row.2)
}

/// True for the rows on which an operator of this salt fails.
#[must_use]
pub const fn is_poison(row: &Row, salt: u64) -> bool {
    mix(row.0 ^ salt).is_multiple_of(13)
}
