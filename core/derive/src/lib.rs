//! Derives of `Record` and `Key` for the types that flow through a job.
//!
//! Jobs reach both through `gear_core::api` or `gear_node::core::api`, where the traits are.

mod input;
mod key;
mod record;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

use crate::input::Input;

/// Derives `Record` for a struct or an enum.
///
/// The encoding is that of the fields, in the order in which they are declared; a type without
/// fields is one zero byte. An enum begins with the position of its variant as a byte, so variants
/// may be added at the end, and nowhere else. Any other change of the type changes what its bytes
/// mean: raise the version with it.
///
/// The type has to be `Clone` and `Debug`. Without a lifetime it is its own view, and its fields
/// are owned records. With one lifetime, as `Event<'a>`, the record type is `Event<'static>` and
/// its view `Event<'a>`, which borrows from the batch. Its fields are then
/// - `&'a str` and `&'a [u8]`,
/// - other records with the lifetime, as `Header<'a>`,
/// - tuples of these, and
/// - owned records.
///
/// Type and const parameters are refused, and so is a type that contains itself: bytes from outside
/// could nest it deeper than the stack.
///
/// # Attribute
/// `#[record(name = "event", version = 2)]` sets the stable name and the version, which both ends
/// of an edge and a state have to agree on. Unless set they are the type's own name and 1.
/// `#[record(crate = "path::to::core")]` says where the core is, if it is neither the dependency
/// `gear-core` nor inside the dependency `gear-node`.
#[proc_macro_derive(Record, attributes(record))]
pub fn derive_record(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    Input::parse(&input, "Record")
        .map_or_else(|error| error.to_compile_error(), |input| record::expand(&input))
        .into()
}

/// Derives `Key` for a struct whose fields are keys; the struct derives `Record` beside it.
///
/// The hash chains the fields in the order in which they are declared, each hashed with the hash
/// so far as its seed. A struct has therefore the hash of the tuple of its fields, and to reorder
/// its fields moves its state to other key groups.
#[proc_macro_derive(Key, attributes(record))]
pub fn derive_key(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    Input::parse(&input, "Key")
        .and_then(|input| key::expand(&input))
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}
