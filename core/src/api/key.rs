//! Keys: what state belongs to, with a hash that is specified for ever.

use alloc::vec::Vec;
use core::fmt::Debug;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::api::record::{Malformed, Record, Ref};
use crate::time::{EventTime, WallTime};

/// A record type that state can belong to.
///
/// The hash is xxh3_64 over the key's bytes (integers little endian); the parts of a composite key
/// are chained, each hashed with the hash so far as its seed, from seed 0. It decides for ever
/// which key group a key belongs to.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no stable hash, so no state can belong to it",
    label = "not a key",
    note = "derive `Record` and `Key` for it, or take an integer, a string or bytes as the key"
)]
pub trait Key: Record {
    /// How a table keeps the key: inline, or a place in the table's arena.
    type Stored: Copy + Debug + Send + 'static;

    /// The stable hash, continued from `seed`.
    fn hash(view: &Self::View<'_>, seed: u64) -> u64;

    /// The hash by which a table finds the key, from the stable one.
    #[inline(always)]
    fn probe(view: &Self::View<'_>, hash: u64) -> u64 {
        let _ = view;
        hash
    }

    /// Puts the key into a table.
    fn store(view: &Self::View<'_>, arena: &mut KeyArena) -> Self::Stored;

    /// The key as it was put in.
    fn load<'a>(stored: &'a Self::Stored, arena: &'a KeyArena) -> Self::View<'a>;

    /// True if this is the stored key.
    fn matches(stored: &Self::Stored, view: &Self::View<'_>, arena: &KeyArena) -> bool;
}

/// The group of a key: fixed for the life of an app, whatever its parallelism.
#[inline(always)]
#[must_use]
pub const fn key_group(hash: u64, groups: u32) -> u32 {
    ((hash as u128 * groups as u128) >> 64) as u32
}

/// The task to which a key group belongs.
#[inline(always)]
#[must_use]
pub const fn task_of_group(group: u32, parallelism: u32, groups: u32) -> u32 {
    (group as u64 * parallelism as u64 / groups as u64) as u32
}

/// The key groups of a task: those that [`task_of_group`] gives it.
#[must_use]
pub const fn groups_of_task(index: u32, parallelism: u32, groups: u32) -> core::ops::Range<u32> {
    let first = (index as u64 * groups as u64).div_ceil(parallelism as u64);
    let end = ((index as u64 + 1) * groups as u64).div_ceil(parallelism as u64);
    first as u32..end as u32
}

/// The bytes of keys that do not fit in their entry.
#[derive(Clone, Debug, Default)]
pub struct KeyArena {
    bytes: Vec<u8>,
}

impl KeyArena {
    /// Bytes of memory in use.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Bytes of a key up to this length are kept in the entry itself.
const INLINE: usize = 12;

/// A variable-length key in an entry: inline up to 12 bytes, else its first 4 and a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBytes {
    len: u32,
    inline: [u8; INLINE],
}

impl StoredBytes {
    #[inline(always)]
    fn new(bytes: &[u8], arena: &mut KeyArena) -> Self {
        let mut inline = [0; INLINE];
        if bytes.len() <= INLINE {
            inline[..bytes.len()].copy_from_slice(bytes);
        } else {
            inline[..4].copy_from_slice(&bytes[..4]);
            inline[4..].copy_from_slice(&(arena.bytes.len() as u64).to_le_bytes());
            arena.bytes.extend_from_slice(bytes);
        }
        Self { len: bytes.len() as u32, inline }
    }

    #[inline(always)]
    fn get<'a>(&'a self, arena: &'a KeyArena) -> &'a [u8] {
        let len = self.len as usize;
        if len <= INLINE {
            &self.inline[..len]
        } else {
            let mut place = [0; 8];
            place.copy_from_slice(&self.inline[4..]);
            let place = u64::from_le_bytes(place) as usize;
            &arena.bytes[place..place + len]
        }
    }

    #[inline(always)]
    fn matches(&self, bytes: &[u8], arena: &KeyArena) -> bool {
        self.len as usize == bytes.len() && self.get(arena) == bytes
    }
}

macro_rules! inline_key {
    ($($type:ty => $bytes:expr),* $(,)?) => {$(
        impl Key for $type {
            type Stored = Self;

            #[inline(always)]
            fn hash(view: &Self, seed: u64) -> u64 {
                let bytes: fn(&Self) -> _ = $bytes;
                xxh3_64_with_seed(&bytes(view), seed)
            }

            #[inline(always)]
            fn store(view: &Self, _: &mut KeyArena) -> Self {
                *view
            }

            #[inline(always)]
            fn load<'a>(stored: &'a Self, _: &'a KeyArena) -> Self {
                *stored
            }

            #[inline(always)]
            fn matches(stored: &Self, view: &Self, _: &KeyArena) -> bool {
                stored == view
            }
        }
    )*};
}
inline_key! {
    u8 => |key| key.to_le_bytes(),
    u16 => |key| key.to_le_bytes(),
    u32 => |key| key.to_le_bytes(),
    u64 => |key| key.to_le_bytes(),
    u128 => |key| key.to_le_bytes(),
    i8 => |key| key.to_le_bytes(),
    i16 => |key| key.to_le_bytes(),
    i32 => |key| key.to_le_bytes(),
    i64 => |key| key.to_le_bytes(),
    i128 => |key| key.to_le_bytes(),
    bool => |key| [u8::from(*key)],
    char => |key| u32::from(*key).to_le_bytes(),
    EventTime => |key| key.0.to_le_bytes(),
    WallTime => |key| key.0.to_le_bytes(),
    () => |_| [],
}

impl Key for Ref<[u8]> {
    type Stored = StoredBytes;

    #[inline(always)]
    fn hash(view: &&[u8], seed: u64) -> u64 {
        xxh3_64_with_seed(view, seed)
    }

    #[inline(always)]
    fn store(view: &&[u8], arena: &mut KeyArena) -> StoredBytes {
        StoredBytes::new(view, arena)
    }

    #[inline(always)]
    fn load<'a>(stored: &'a StoredBytes, arena: &'a KeyArena) -> &'a [u8] {
        stored.get(arena)
    }

    #[inline(always)]
    fn matches(stored: &StoredBytes, view: &&[u8], arena: &KeyArena) -> bool {
        stored.matches(view, arena)
    }
}

impl Key for Ref<str> {
    type Stored = StoredBytes;

    #[inline(always)]
    fn hash(view: &&str, seed: u64) -> u64 {
        xxh3_64_with_seed(view.as_bytes(), seed)
    }

    #[inline(always)]
    fn store(view: &&str, arena: &mut KeyArena) -> StoredBytes {
        StoredBytes::new(view.as_bytes(), arena)
    }

    fn load<'a>(stored: &'a StoredBytes, arena: &'a KeyArena) -> &'a str {
        core::str::from_utf8(stored.get(arena)).expect("a string was stored")
    }

    #[inline(always)]
    fn matches(stored: &StoredBytes, view: &&str, arena: &KeyArena) -> bool {
        stored.matches(view.as_bytes(), arena)
    }
}

impl Key for alloc::string::String {
    type Stored = StoredBytes;

    fn hash(view: &Self, seed: u64) -> u64 {
        Ref::<str>::hash(&view.as_str(), seed)
    }

    fn store(view: &Self, arena: &mut KeyArena) -> StoredBytes {
        Ref::<str>::store(&view.as_str(), arena)
    }

    fn load<'a>(stored: &'a StoredBytes, arena: &'a KeyArena) -> Self {
        Self::from(Ref::<str>::load(stored, arena))
    }

    fn matches(stored: &StoredBytes, view: &Self, arena: &KeyArena) -> bool {
        stored.matches(view.as_bytes(), arena)
    }
}

macro_rules! tuple_key {
    ($($name:ident $place:tt),+) => {
        impl<$($name: Key),+> Key for ($($name,)+) {
            type Stored = ($($name::Stored,)+);

            #[inline(always)]
            fn hash(view: &Self::View<'_>, mut seed: u64) -> u64 {
                $(seed = $name::hash(&view.$place, seed);)+
                seed
            }

            #[inline(always)]
            fn store(view: &Self::View<'_>, arena: &mut KeyArena) -> Self::Stored {
                ($($name::store(&view.$place, arena),)+)
            }

            #[inline(always)]
            fn load<'a>(stored: &'a Self::Stored, arena: &'a KeyArena) -> Self::View<'a> {
                ($($name::load(&stored.$place, arena),)+)
            }

            #[inline(always)]
            fn matches(stored: &Self::Stored, view: &Self::View<'_>, arena: &KeyArena) -> bool {
                $($name::matches(&stored.$place, &view.$place, arena))&&+
            }
        }
    };
}
tuple_key!(A 0, B 1);
tuple_key!(A 0, B 1, C 2);
tuple_key!(A 0, B 1, C 2, D 3);

/// A key within something of its own, such as a window: it lies in the key's group, and tables
/// tell its scopes apart.
pub struct Scoped<S, K>(core::marker::PhantomData<fn() -> (S, K)>);

impl<S: Record, K: Record> Record for Scoped<S, K> {
    type View<'a> = (S::View<'a>, K::View<'a>);

    fn encode(view: &Self::View<'_>, out: &mut Vec<u8>) {
        <(S, K)>::encode(view, out);
    }

    fn decode<'a>(input: &mut &'a [u8]) -> Result<Self::View<'a>, Malformed> {
        <(S, K)>::decode(input)
    }

    fn type_name(out: &mut alloc::string::String) {
        <(S, K)>::type_name(out);
    }
}

impl<S: Key, K: Key> Key for Scoped<S, K> {
    type Stored = (S::Stored, K::Stored);

    #[inline(always)]
    fn hash(view: &Self::View<'_>, seed: u64) -> u64 {
        K::hash(&view.1, seed)
    }

    #[inline(always)]
    fn probe(view: &Self::View<'_>, hash: u64) -> u64 {
        S::hash(&view.0, hash)
    }

    #[inline(always)]
    fn store(view: &Self::View<'_>, arena: &mut KeyArena) -> Self::Stored {
        <(S, K)>::store(view, arena)
    }

    #[inline(always)]
    fn load<'a>(stored: &'a Self::Stored, arena: &'a KeyArena) -> Self::View<'a> {
        <(S, K)>::load(stored, arena)
    }

    #[inline(always)]
    fn matches(stored: &Self::Stored, view: &Self::View<'_>, arena: &KeyArena) -> bool {
        <(S, K)>::matches(stored, view, arena)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_the_task_whose_range_holds_it() {
        for groups in [1, 2, 7, 1_024] {
            for parallelism in 1..=groups.min(65) {
                for index in 0..parallelism {
                    for group in groups_of_task(index, parallelism, groups) {
                        assert_eq!(task_of_group(group, parallelism, groups), index);
                    }
                }
                let covered: u32 = (0..parallelism)
                    .map(|index| groups_of_task(index, parallelism, groups).len() as u32)
                    .sum();
                assert_eq!(covered, groups);
            }
        }
    }

    #[test]
    fn hashes_are_what_they_were() {
        assert_eq!(u64::hash(&42, 0), xxh3_64_with_seed(&42_u64.to_le_bytes(), 0));
        assert_eq!(Ref::<str>::hash(&"", 0), 0x2d06_8005_38d3_94c2);
        assert_eq!(<(u64, Ref<str>)>::hash(&(1, "a"), 0), Ref::<str>::hash(&"a", u64::hash(&1, 0)));
    }

    #[test]
    fn long_and_short_keys_come_back() {
        let mut arena = KeyArena::default();
        for key in ["", "short", "twelve bytes", "thirteen byte", "a rather longer key than that"] {
            let stored = Ref::<str>::store(&key, &mut arena);
            assert_eq!(Ref::<str>::load(&stored, &arena), key);
            assert!(Ref::<str>::matches(&stored, &key, &arena));
            assert!(!Ref::<str>::matches(&stored, &"other", &arena));
        }
    }
}
