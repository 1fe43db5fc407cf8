//! Records that fill a record of Kafka by themselves.

use std::io::Write as _;

use gear_core::api::{Record, Ref};

use super::segment::Outgoing;

/// What can be a record's key or value.
pub trait Field: Record {
    /// Appends its bytes.
    fn put(view: &Self::View<'_>, out: &mut Vec<u8>);
}

/// What can be a record: a value, or a pair of a key and a value.
pub trait Payload: Record {
    /// Fills a record.
    fn fill(view: Self::View<'_>, record: &mut Outgoing);
}

macro_rules! fields {
    ($(($type:ty, $view:ident, $out:ident) => $put:expr),+ $(,)?) => {$(
        impl Field for $type {
            fn put($view: &Self::View<'_>, $out: &mut Vec<u8>) {
                $put
            }
        }

        impl Payload for $type {
            fn fill(view: Self::View<'_>, record: &mut Outgoing) {
                <$type as Field>::put(&view, record.value_buffer());
            }
        }
    )+};
}

fields! {
    (Ref<str>, view, out) => out.extend_from_slice(view.as_bytes()),
    (Ref<[u8]>, view, out) => out.extend_from_slice(view),
    (String, view, out) => out.extend_from_slice(view.as_bytes()),
    (Vec<u8>, view, out) => out.extend_from_slice(view),
}

macro_rules! numbers {
    ($($type:ty),+) => {fields! {$(
        // A `Vec` takes all that is written.
        ($type, view, out) => drop(write!(out, "{view}"))
    ),+}};
}

numbers!(u8, u16, u32, u64, i8, i16, i32, i64);

impl<K: Field, V: Field> Payload for (K, V) {
    fn fill(view: Self::View<'_>, record: &mut Outgoing) {
        K::put(&view.0, record.key_buffer());
        V::put(&view.1, record.value_buffer());
    }
}

#[cfg(test)]
mod tests {
    use gear_core::time::EventTime;

    use super::*;
    use crate::kafka::sink::segment::{Records, append};

    #[test]
    fn a_pair_is_a_key_and_a_value_and_numbers_are_decimal() {
        let mut record = Outgoing::default();
        let mut segment = Vec::new();
        record.clear(EventTime(5_000), 1);
        <(Ref<str>, u64)>::fill(("word", 12), &mut record);
        append(&mut segment, &record);
        record.clear(EventTime(5_000), 1);
        Vec::<u8>::fill(b"\xff".to_vec(), &mut record);
        append(&mut segment, &record);
        let mut records = Records::new(&segment, 0).unwrap();
        let first = records.take_next().unwrap().unwrap();
        assert_eq!((first.key, first.value), (Some(&b"word"[..]), Some(&b"12"[..])));
        let second = records.take_next().unwrap().unwrap();
        assert_eq!((second.key, second.value), (None, Some(&b"\xff"[..])));
    }
}
