//! State: what an operator remembers for a key.

use alloc::string::String;
use alloc::vec::Vec;

use crate::api::record::{Malformed, Owned};

/// A value that can be kept for a key, saved in a snapshot and restored from it.
///
/// Every [`Owned`] record is one. The name and version of the type are part of the snapshot: state
/// is only read by the type that wrote it.
pub trait State: Clone + Send + 'static {
    /// Appends the encoding.
    fn save(&self, out: &mut Vec<u8>);

    /// Takes a value from the front of `input`.
    ///
    /// # Errors
    /// [`Malformed`] if `input` does not begin with a whole value.
    fn load(input: &mut &[u8]) -> Result<Self, Malformed>;

    /// Bytes that the value holds outside itself, for the memory budget.
    fn heap_bytes(&self) -> usize {
        0
    }

    /// Appends the stable name and version of the type.
    fn state_name(out: &mut String);
}

impl<T: Owned> State for T {
    fn save(&self, out: &mut Vec<u8>) {
        T::encode(self, out);
    }

    fn load(input: &mut &[u8]) -> Result<Self, Malformed> {
        T::decode(input)
    }

    fn state_name(out: &mut String) {
        T::type_name(out);
    }
}
