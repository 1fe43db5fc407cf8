//! The traits of whoever writes records, keys, state, sources, sinks and operators.

pub mod dead_letter;
#[doc(hidden)]
pub mod derived;
pub mod files;
pub mod key;
pub mod operator;
pub mod process;
pub mod record;
pub mod sink;
pub mod source;
pub mod state;

pub use dead_letter::DeadLetter;
pub use files::{FileInfo, Files};
pub use gear_derive::{Key, Record};
pub use key::Key;
pub use operator::{Operator, OperatorContext};
pub use process::{ListState, MapState, Process, ProcessContext, States, ValueState};
pub use record::{Malformed, Owned, Record, Ref};
pub use sink::{Sink, SinkConnector, SinkContext, SinkTask};
pub use source::{Advance, ConnectorFigure, Source, SourceConnector, SourceContext};
pub use state::State;
