//! Event time: how sources tell it, and how a task follows it over its channels.
//!
//! A watermark W is a promise: no record **earlier** than W follows, late ones excepted. A record
//! at W is in time; a window is complete when W reaches its end, which is not part of it.

pub mod inputs;
pub mod watermarks;

pub use inputs::InputClock;
pub use watermarks::{Emit, PartitionClocks, Strategy, WatermarkGenerator, Watermarks};
