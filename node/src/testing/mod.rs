//! A job under a test: by hand, in one thread, with a clock that only the test moves.
//!
//! A [`Harness`] runs a job as production does, with the same tasks, epochs and commit log, over a
//! checkpoint store and a disk in memory. The test pushes records and watermarks into an [`Input`],
//! lets the job work, and looks at an [`Output`], at state, at timers, and at what a crash leaves:
//!
//! ```
//! use gear_node::prelude::*;
//! use gear_node::testing::{self, Harness, Input, Output};
//!
//! let (input, output) = (Input::new(), Output::new());
//! let mut job = Harness::new({
//!     let (input, output) = (input.clone(), output.clone());
//!     move |app| {
//!         app.source("in", testing::input::<u64>(&input))
//!             .watermarks(input.watermarks())
//!             .key_by(|number| number % 2)
//!             .window(Tumbling::of(seconds(10)))
//!             .count("per-10s")
//!             .map("flat", |(key, _, count): (u64, Window, u64)| (key, count))
//!             .sink("out", testing::output(&output));
//!         Ok(())
//!     }
//! })?;
//!
//! input.push(1, EventTime::from_seconds(1));
//! input.push(3, EventTime::from_seconds(2));
//! job.run();
//! assert!(output.take().is_empty());
//!
//! job.epoch();
//! input.push(5, EventTime::from_seconds(3));
//! job.run();
//! job.crash_and_restore();
//! input.watermark(EventTime::from_seconds(10));
//! job.run();
//! assert_eq!(output.take(), [(1, 3)]);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//! Nothing in it depends on chance or on the machine's clock: the same test does the same each
//! time. A job with a source that never pauses and never ends cannot be run so.

mod harness;
mod input;
mod output;
mod state;

pub use harness::{Harness, Setup};
pub use input::{Input, InputReader, InputSource, input};
pub use output::{Output, OutputSink, OutputWriter, output, output_with};
pub use state::Timer;
