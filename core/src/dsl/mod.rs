//! The typed builder of jobs: streams in, a plain graph and the makers of its tasks out.
//!
//! A [`Stream`] grows its chain of operators in its type, so that a chain compiles to one loop. It
//! is erased, once a batch, where records change the task: at a key, a split, a union and a sink.
//!
//! # Records that are put aside
//! A record for which an operator fails or panics is put aside with its context, and the stream
//! goes on. When what was wrong is mended, in the job or in the world outside,
//! `gear-node quarantine ID --replay` gives it to the operator that had refused it, exactly once:
//! it has left the quarantine when, and only when, the epoch is committed that has its effects. To
//! be given again it has to fit:
//! * The operator still has its name, in the same part of the graph: `map`, `try_map` and the like
//!   are found anywhere in the chain behind the name of the task that ran them.
//! * It still reads a type of the same name. A record of another type stays.
//! * It was kept whole: one of more than 64 KiB was cut, and stays.
//! * Its key still belongs to the task that put it aside. After a change of the parallelism some do
//!   not, and stay until the old one is back.
//! * The task has not ended, and the source had been able to read it.
//!
//! It keeps its event time, and moves no watermark. So in a window that is over it is late, like
//! any other record of that time: it counts as late, and goes to the late output if there is one.
//! What depends on the order of records sees it where it comes in now. If it is refused once more
//! it is put aside once more, with the new error.
//!
//! # Dead letters
//! [`Stream::dead_letters`] gives what one operator refuses to a stream instead. There is nothing
//! to replay then: the stream is the job's own. A record that is in the quarantine when its
//! operator gets dead letters can still be given again, and what is refused once more goes to that
//! stream.

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
