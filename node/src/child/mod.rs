//! Jobs' processes: how a worker launches and watches them, and what such a process does.

mod children;
mod describe;
pub(crate) mod protocol;
mod run;
mod table;

pub(crate) use children::{Family, Home};
pub(crate) use describe::{DESCRIBE, describe};
pub use describe::{DescribeError, Description};
pub(crate) use run::run;
pub use table::{ChildInfo, ChildState, ChildTable};
