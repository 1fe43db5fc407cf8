//! The traits of whoever writes records, keys, state, sources, sinks and operators.

#[doc(hidden)]
pub mod derived;
pub mod key;
pub mod record;
pub mod state;

pub use gear_derive::{Key, Record};
pub use key::Key;
pub use record::{Malformed, Owned, Record, Ref};
pub use state::State;
