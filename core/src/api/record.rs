//! Records: what flows, as bytes in a batch and as a borrowed view in an operator.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{Debug, Write as _};
use core::marker::PhantomData;

use crate::time::{EventTime, WallTime};

/// A type whose values flow between operators.
///
/// A batch holds records encoded one behind the other; an operator sees a [`Self::View`], which
/// may borrow from the batch. An encoding says where it ends and has at least one byte. Formats
/// are kept for ever: state and frames hold them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no record, so it cannot flow or be kept",
    label = "not a record",
    note = "derive `Record` for it; a field that borrows is `&'a str` or `&'a [u8]` in a struct \
            with that lifetime"
)]
pub trait Record: 'static {
    /// What an operator sees.
    type View<'a>: Clone + Debug;

    /// Appends the encoding of `view`.
    fn encode(view: &Self::View<'_>, out: &mut Vec<u8>);

    /// Takes one record from the front of `input`.
    ///
    /// # Errors
    /// [`Malformed`] if `input` does not begin with a whole record; `input` is then unspecified.
    fn decode<'a>(input: &mut &'a [u8]) -> Result<Self::View<'a>, Malformed>;

    /// Appends the stable name of the type, which both ends of an edge and a state must agree on.
    fn type_name(out: &mut String);
}

/// A record type that is its own view.
pub trait Owned: for<'a> Record<View<'a> = Self> + Clone + Debug + Send + Sized {}

impl<T> Owned for T where T: for<'a> Record<View<'a> = Self> + Clone + Debug + Send {}

/// Bytes that are no encoding of the expected type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not a whole {expected}")]
pub struct Malformed {
    /// The type that was expected.
    pub expected: &'static str,
}

impl Malformed {
    /// The bytes are not a whole value of this type.
    #[must_use]
    pub const fn new(expected: &'static str) -> Self {
        Self { expected }
    }
}

/// The name of a record type.
#[must_use]
pub fn type_name<T: Record>() -> String {
    let mut name = String::new();
    T::type_name(&mut name);
    name
}

/// The family of the views `&str` (`Ref<str>`) and `&[u8]` (`Ref<[u8]>`).
pub struct Ref<T: ?Sized>(PhantomData<fn() -> *const T>);

/// Takes `len` bytes from the front.
///
/// # Errors
/// [`Malformed`] if there are fewer.
#[inline(always)]
pub fn take<'a>(
    input: &mut &'a [u8],
    len: usize,
    expected: &'static str,
) -> Result<&'a [u8], Malformed> {
    let Some((head, rest)) = input.split_at_checked(len) else {
        return Err(Malformed::new(expected));
    };
    *input = rest;
    Ok(head)
}

/// Appends a length as LEB128: seven bits a byte, lowest first.
#[inline(always)]
pub fn put_len(mut len: usize, out: &mut Vec<u8>) {
    while len >= 0x80 {
        out.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
}

/// Takes a length that [`put_len`] wrote; never more than what follows it.
///
/// # Errors
/// [`Malformed`] if it is none, or larger than the rest of `input`.
#[inline(always)]
pub fn take_len(input: &mut &[u8], expected: &'static str) -> Result<usize, Malformed> {
    let mut len = 0_usize;
    let mut shift = 0;
    loop {
        let Some((&byte, rest)) = input.split_first() else {
            return Err(Malformed::new(expected));
        };
        *input = rest;
        if shift > 56 {
            return Err(Malformed::new(expected));
        }
        len |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
        shift += 7;
    }
    if len > input.len() {
        return Err(Malformed::new(expected));
    }
    Ok(len)
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Record for $type {
            type View<'a> = Self;

            #[inline(always)]
            fn encode(view: &Self, out: &mut Vec<u8>) {
                out.extend_from_slice(&view.to_le_bytes());
            }

            #[inline(always)]
            fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
                let Some((head, rest)) = input.split_first_chunk() else {
                    return Err(Malformed::new(stringify!($type)));
                };
                *input = rest;
                Ok(Self::from_le_bytes(*head))
            }

            fn type_name(out: &mut String) {
                out.push_str(stringify!($type));
            }
        }
    )*};
}
number!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, f32, f64);

impl Record for usize {
    type View<'a> = Self;

    fn encode(view: &Self, out: &mut Vec<u8>) {
        u64::encode(&(*view as u64), out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        Self::try_from(u64::decode(input)?).map_err(|_| Malformed::new("usize"))
    }

    fn type_name(out: &mut String) {
        out.push_str("u64");
    }
}

impl Record for bool {
    type View<'a> = Self;

    fn encode(view: &Self, out: &mut Vec<u8>) {
        out.push(u8::from(*view));
    }

    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        match u8::decode(input)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::new("bool")),
        }
    }

    fn type_name(out: &mut String) {
        out.push_str("bool");
    }
}

impl Record for char {
    type View<'a> = Self;

    fn encode(view: &Self, out: &mut Vec<u8>) {
        u32::encode(&u32::from(*view), out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        Self::from_u32(u32::decode(input)?).ok_or(Malformed::new("char"))
    }

    fn type_name(out: &mut String) {
        out.push_str("char");
    }
}

impl Record for () {
    type View<'a> = Self;

    // One byte, so that every record can be told from the end of its batch.
    fn encode(_: &Self, out: &mut Vec<u8>) {
        out.push(0);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        take(input, 1, "()").map(drop)
    }

    fn type_name(out: &mut String) {
        out.push_str("()");
    }
}

macro_rules! micros {
    ($($type:ident),*) => {$(
        impl Record for $type {
            type View<'a> = Self;

            fn encode(view: &Self, out: &mut Vec<u8>) {
                i64::encode(&view.0, out);
            }

            fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
                i64::decode(input).map(Self)
            }

            fn type_name(out: &mut String) {
                out.push_str(stringify!($type));
            }
        }
    )*};
}
micros!(EventTime, WallTime);

impl Record for Ref<[u8]> {
    type View<'a> = &'a [u8];

    #[inline(always)]
    fn encode(view: &&[u8], out: &mut Vec<u8>) {
        put_len(view.len(), out);
        out.extend_from_slice(view);
    }

    #[inline(always)]
    fn decode<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
        let len = take_len(input, "bytes")?;
        take(input, len, "bytes")
    }

    fn type_name(out: &mut String) {
        out.push_str("bytes");
    }
}

impl Record for Ref<str> {
    type View<'a> = &'a str;

    #[inline(always)]
    fn encode(view: &&str, out: &mut Vec<u8>) {
        Ref::<[u8]>::encode(&view.as_bytes(), out);
    }

    #[inline(always)]
    fn decode<'a>(input: &mut &'a [u8]) -> Result<&'a str, Malformed> {
        let bytes = Ref::<[u8]>::decode(input)?;
        core::str::from_utf8(bytes).map_err(|_| Malformed::new("str"))
    }

    fn type_name(out: &mut String) {
        out.push_str("str");
    }
}

impl Record for String {
    type View<'a> = Self;

    fn encode(view: &Self, out: &mut Vec<u8>) {
        Ref::<str>::encode(&view.as_str(), out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        Ref::<str>::decode(input).map(Self::from)
    }

    fn type_name(out: &mut String) {
        out.push_str("str");
    }
}

impl<T: Owned> Record for Vec<T> {
    type View<'a> = Self;

    fn encode(view: &Self, out: &mut Vec<u8>) {
        put_len(view.len(), out);
        view.iter().for_each(|element| T::encode(element, out));
    }

    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        // A list of zero-sized elements claims more than the bytes that follow: refused, since a
        // decoder never trusts a length.
        let len = take_len(input, "list")?;
        (0..len).map(|_| T::decode(input)).collect()
    }

    fn type_name(out: &mut String) {
        out.push('[');
        T::type_name(out);
        out.push(']');
    }
}

impl<T: Owned> Record for Option<T> {
    type View<'a> = Self;

    fn encode(view: &Self, out: &mut Vec<u8>) {
        out.push(u8::from(view.is_some()));
        if let Some(value) = view {
            T::encode(value, out);
        }
    }

    fn decode(input: &mut &[u8]) -> Result<Self, Malformed> {
        bool::decode(input)?.then(|| T::decode(input)).transpose()
    }

    fn type_name(out: &mut String) {
        T::type_name(out);
        out.push('?');
    }
}

macro_rules! tuple {
    ($($name:ident $place:tt),+) => {
        impl<$($name: Record),+> Record for ($($name,)+) {
            type View<'a> = ($($name::View<'a>,)+);

            #[inline(always)]
            fn encode(view: &Self::View<'_>, out: &mut Vec<u8>) {
                $($name::encode(&view.$place, out);)+
            }

            #[inline(always)]
            fn decode<'a>(input: &mut &'a [u8]) -> Result<Self::View<'a>, Malformed> {
                Ok(($($name::decode(input)?,)+))
            }

            fn type_name(out: &mut String) {
                out.push('(');
                $($name::type_name(out); let _ = out.write_char(',');)+
                out.pop();
                out.push(')');
            }
        }
    };
}
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
