//! Dead letters: records that an operator could not process, as records of a stream of their own.

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::api::{Record, Ref};
use crate::time::EventTime;

/// A record that an operator refused, with an error or a panic, or bytes that a source could not
/// read: what [`crate::dsl::Stream::dead_letters`] gives instead of the quarantine.
///
/// It serializes for people: the record as text if it is text, else its bytes in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Record)]
#[record(crate = "crate")]
pub struct DeadLetter<'a> {
    /// The operator whose input it is.
    pub operator: &'a str,
    /// What went wrong: the error, or the message of the panic.
    pub reason: &'a str,
    /// The source's partition, if the operator is a source that could not read it; else empty.
    pub partition: &'a str,
    /// The position there, as the source prints it; else empty.
    pub position: &'a str,
    /// The event time that it had there; [`EventTime::MIN`] if it had none yet.
    pub at: EventTime,
    /// The name of the record's type.
    pub record_type: &'a str,
    /// The record as the engine encodes it: see [`Self::payload`] and [`Self::record`].
    pub bytes: &'a [u8],
}

impl<'a> DeadLetter<'a> {
    /// The record, if it is of the type `T`: what the operator reads.
    #[must_use]
    pub fn record<T: Record>(&self) -> Option<T::View<'a>> {
        if self.record_type != crate::api::record::type_name::<T>() {
            return None;
        }
        let mut input = self.bytes;
        let view = T::decode(&mut input).ok()?;
        input.is_empty().then_some(view)
    }

    /// What a record of text or of bytes holds; of any other type, its encoding.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        let text = self.record::<Ref<str>>().map(str::as_bytes);
        text.or_else(|| self.record::<Ref<[u8]>>()).unwrap_or(self.bytes)
    }
}

impl Serialize for DeadLetter<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_placed = !self.partition.is_empty();
        let is_timed = self.at != EventTime::MIN;
        let fields = 3 + 2 * usize::from(is_placed) + usize::from(is_timed);
        let mut letter = serializer.serialize_struct("DeadLetter", fields)?;
        letter.serialize_field("operator", self.operator)?;
        letter.serialize_field("reason", self.reason)?;
        if is_placed {
            letter.serialize_field("partition", self.partition)?;
            letter.serialize_field("position", self.position)?;
        }
        if is_timed {
            letter.serialize_field("event_time_us", &self.at.0)?;
        }
        let payload = self.payload();
        match core::str::from_utf8(payload) {
            Ok(text) => letter.serialize_field("record", text)?,
            Err(_) => letter.serialize_field("record_hex", &Hexadecimal(payload))?,
        }
        letter.end()
    }
}

struct Hexadecimal<'a>(&'a [u8]);

impl Serialize for Hexadecimal<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl core::fmt::Display for Hexadecimal<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::api::record::type_name;

    fn letter<T: Record>(view: &T::View<'_>, test: impl FnOnce(DeadLetter<'_>)) {
        let (mut bytes, record_type) = (Vec::new(), type_name::<T>());
        T::encode(view, &mut bytes);
        test(DeadLetter {
            operator: "parse",
            reason: "no number",
            partition: "",
            position: "",
            at: EventTime::MIN,
            record_type: &record_type,
            bytes: &bytes,
        });
    }

    #[test]
    fn a_record_comes_back_as_what_it_was() {
        letter::<Ref<str>>(&"seven", |letter| {
            assert_eq!(letter.payload(), b"seven");
            assert_eq!(letter.record::<Ref<str>>(), Some("seven"));
            assert_eq!(letter.record::<u64>(), None);
        });
        letter::<Ref<[u8]>>(&b"\xff".as_slice(), |letter| assert_eq!(letter.payload(), b"\xff"));
        letter::<(u64, Ref<str>)>(&(7, "x"), |letter| {
            assert_eq!(letter.record::<(u64, Ref<str>)>(), Some((7, "x")));
            assert_eq!(letter.payload(), letter.bytes);
            let mut encoded = Vec::new();
            DeadLetter::encode(&letter, &mut encoded);
            assert_eq!(DeadLetter::decode(&mut encoded.as_slice()), Ok(letter));
        });
    }
}
