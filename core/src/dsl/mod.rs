//! The typed builder of jobs: streams in, a plain graph and the makers of its tasks out.
//!
//! A [`Stream`] grows its chain of operators in its type, so that a chain compiles to one loop. It
//! is erased, once a batch, where records change the task: at a key, a split, a union and a sink.

mod app;
mod builder;
mod chain;
mod expiring;
mod keyed;
mod low_level;
mod model;
mod stream;
mod window;

pub use app::{App, Content, Job, Settings, SinkAdmin, SinkInfo, SourceAdmin, SourceInfo};
pub use builder::JobError;
pub use chain::{Flow, FromInput};
pub use expiring::ExpiringStream;
pub use keyed::KeyedStream;
pub use low_level::{GraphBuilder, Node};
pub use model::{Model, ModelAggregate, ModelNode, ModelOp, ModelStep};
pub use stream::Stream;
pub use window::{Sliding, Tumbling, WindowedStream};
