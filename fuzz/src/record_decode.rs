//! Bytes from outside as records: no panic, and what was decoded is encoded and decoded again.

use gear_core::api::key::KeyArena;
use gear_core::api::{Key, Record, Ref};
use gear_core::time::EventTime;

#[derive(Clone, Debug, Record)]
struct Owned {
    id: u64,
    name: String,
    scores: Vec<(u16, f32)>,
    parent: Option<Box16>,
}

#[derive(Clone, Copy, Debug, Record, Key)]
struct Box16(u128);

#[derive(Clone, Copy, Debug, Record, Key)]
struct Place<'a> {
    host: &'a str,
    port: u16,
    path: &'a [u8],
}

#[derive(Clone, Debug, Record)]
enum Borrowed<'a> {
    Nothing,
    Letter(char),
    Event { at: EventTime, place: Place<'a>, tags: Vec<String> },
}

/// Decodes the bytes as records of several types.
pub fn run(bytes: &[u8]) {
    records::<()>(bytes);
    records::<bool>(bytes);
    records::<usize>(bytes);
    records::<Ref<str>>(bytes);
    records::<Vec<Vec<Option<String>>>>(bytes);
    records::<(Ref<[u8]>, char, EventTime)>(bytes);
    records::<Owned>(bytes);
    records::<Borrowed<'static>>(bytes);
    keys::<Place<'static>>(bytes);
    keys::<(Box16, Ref<str>)>(bytes);
}

/// Takes records until the bytes end or are none.
fn records<T: Record>(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let before = bytes.len();
        let Ok(view) = T::decode(&mut bytes) else { return };
        assert!(bytes.len() < before, "a record has at least one byte");

        let mut encoded = Vec::new();
        T::encode(&view, &mut encoded);
        // Compared as bytes, since NaN differs from itself. The input may have said the same at
        // greater length.
        let mut rest = encoded.as_slice();
        let again = T::decode(&mut rest).expect("a record was encoded");
        assert!(rest.is_empty(), "a record ends where its encoding ends");
        let mut encoded_again = Vec::new();
        T::encode(&again, &mut encoded_again);
        assert_eq!(encoded, encoded_again);
    }
}

/// The same for keys, which a table also keeps and gives back.
fn keys<T: Key>(mut bytes: &[u8]) {
    records::<T>(bytes);
    let mut arena = KeyArena::default();
    while !bytes.is_empty() {
        let Ok(view) = T::decode(&mut bytes) else { return };
        let stored = T::store(&view, &mut arena);
        assert!(T::matches(&stored, &view, &arena));
        assert_eq!(T::hash(&T::load(&stored, &arena), 0), T::hash(&view, 0));
    }
}
