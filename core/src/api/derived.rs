//! What the derives of [`Record`](super::Record) and [`Key`](super::Key) name in their expansion.
//!
//! ```
//! use gear_core::api::{Key, Record};
//!
//! #[derive(Clone, Debug, Record)]
//! #[record(name = "event", version = 2)]
//! struct Event<'a> {
//!     user: UserId,
//!     text: &'a str,
//! }
//!
//! #[derive(Clone, Copy, Debug, Record, Key)]
//! struct UserId(u64);
//!
//! let mut bytes = Vec::new();
//! Event::encode(&Event { user: UserId(7), text: "hello" }, &mut bytes);
//! let event = Event::decode(&mut bytes.as_slice())?;
//! assert_eq!(event.user.0, 7);
//! assert_eq!(event.text, "hello");
//! # Ok::<_, gear_core::api::Malformed>(())
//! ```
//! A field that is no record:
//! ```compile_fail,E0277
//! #[derive(Clone, Debug, gear_core::api::Record)]
//! struct Event(std::rc::Rc<u8>);
//! ```
//! A field that has no stable hash:
//! ```compile_fail,E0277
//! #[derive(Clone, Debug, gear_core::api::Record, gear_core::api::Key)]
//! struct Place(f64, f64);
//! ```
//! A type parameter:
//! ```compile_fail
//! #[derive(Clone, Debug, gear_core::api::Record)]
//! struct Pair<T>(T, T);
//! ```
//! A type that contains itself:
//! ```compile_fail,E0275
//! #[derive(Clone, Debug, gear_core::api::Record)]
//! enum Tree {
//!     Leaf(u64),
//!     Node(Vec<Tree>),
//! }
//! ```
//! A borrowed part where none can be:
//! ```compile_fail
//! #[derive(Clone, Debug, gear_core::api::Record)]
//! struct Event<'a>(Option<&'a str>);
//! ```

pub use alloc::string::String;
pub use alloc::vec::Vec;
