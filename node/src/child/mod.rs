//! Jobs' processes: how a worker launches and watches them, and what such a process does.

#[cfg(feature = "server")]
mod ask;
#[cfg(feature = "server")]
pub(crate) mod cgroups;
#[cfg(feature = "server")]
mod children;
mod describe;
pub(crate) mod protocol;
mod run;
#[cfg(feature = "server")]
mod table;

#[cfg(feature = "server")]
pub use ask::DescribeError;
#[cfg(feature = "server")]
pub(crate) use children::{Family, Home};
pub use describe::Description;
pub(crate) use describe::{DESCRIBE, describe};
pub(crate) use run::run;
#[cfg(feature = "server")]
pub use table::{ChildInfo, ChildState, ChildTable};
