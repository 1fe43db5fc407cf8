//! A record of Kafka as it flows: borrowed, and encoded so that its headers need no parsing.

use std::fmt;

use gear_core::api::record::{put_len, take, take_len};
use gear_core::api::{Malformed, Record, Ref};
use gear_core::time::EventTime;

/// A record of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// What it says; none in a record that deletes its key.
    pub value: Option<&'a [u8]>,
    /// When it was created or appended, as the topic is set; none if its producer gave no time.
    pub timestamp: Option<EventTime>,
    /// Its headers.
    pub headers: Headers<'a>,
    /// The topic that it was read from.
    pub topic: &'a str,
    /// The partition of the topic.
    pub partition: u32,
    /// Its place in the partition.
    pub offset: u64,
}

impl<'a> Message<'a> {
    /// The value as text; none if there is no value, or if it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.value?).ok()
    }

    /// The key as text; none if there is no key, or if it is not UTF-8.
    #[must_use]
    pub fn key_text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.key?).ok()
    }
}

const NAME: &str = "Kafka message";

impl Record for Message<'static> {
    type View<'a> = Message<'a>;

    fn encode(view: &Message<'_>, out: &mut Vec<u8>) {
        Ref::<str>::encode(&view.topic, out);
        u32::encode(&view.partition, out);
        u64::encode(&view.offset, out);
        let flags = u8::from(view.key.is_some())
            | u8::from(view.value.is_some()) << 1
            | u8::from(view.timestamp.is_some()) << 2;
        out.push(flags);
        if let Some(timestamp) = &view.timestamp {
            EventTime::encode(timestamp, out);
        }
        for bytes in [view.key, view.value].iter().flatten() {
            Ref::<[u8]>::encode(bytes, out);
        }
        Ref::<[u8]>::encode(&view.headers.0, out);
    }

    fn decode<'a>(input: &mut &'a [u8]) -> Result<Message<'a>, Malformed> {
        let topic = Ref::<str>::decode(input)?;
        let partition = u32::decode(input)?;
        let offset = u64::decode(input)?;
        let flags = u8::decode(input)?;
        if flags > 0b111 {
            return Err(Malformed::new(NAME));
        }
        let timestamp = if flags & 0b100 == 0 { None } else { Some(EventTime::decode(input)?) };
        let mut bytes =
            |flag: u8| (flags & flag != 0).then(|| Ref::<[u8]>::decode(input)).transpose();
        let (key, value) = (bytes(0b001)?, bytes(0b010)?);
        let headers = Headers::decode(Ref::<[u8]>::decode(input)?)?;
        Ok(Message { key, value, timestamp, headers, topic, partition, offset })
    }

    fn type_name(out: &mut String) {
        out.push_str("kafka.Message");
    }
}

/// The headers of a record, in their order; a name may stand there more than once.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Headers<'a>(&'a [u8]);

/// A header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value; none is another one than an empty one.
    pub value: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    /// No headers.
    #[must_use]
    pub const fn none() -> Self {
        Self(&[])
    }

    /// What [`Self::put`] has written.
    ///
    /// # Errors
    /// [`Malformed`] if it is something else.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = bytes;
        while !rest.is_empty() {
            take_header(&mut rest)?;
        }
        Ok(Self(bytes))
    }

    /// Headers that were written by [`Self::put`].
    pub(crate) const fn trusted(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Appends a header to encoded ones.
    pub fn put(header: Header<'_>, out: &mut Vec<u8>) {
        Ref::<str>::encode(&header.name, out);
        match header.value {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                put_len(value.len(), out);
                out.extend_from_slice(value);
            }
        }
    }

    /// The encoded headers.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// True if there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The headers, in their order.
    pub fn iter(self) -> impl Iterator<Item = Header<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            // They were checked when they were decoded.
            take_header(&mut rest).ok()
        })
    }

    /// The value of the last header of this name, which is the one that counts for most clients.
    #[must_use]
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.iter().filter(|header| header.name == name).last()?.value
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|it| (it.name, it.value))).finish()
    }
}

fn take_header<'a>(input: &mut &'a [u8]) -> Result<Header<'a>, Malformed> {
    let name = Ref::<str>::decode(input)?;
    let value = if bool::decode(input)? {
        let len = take_len(input, NAME)?;
        Some(take(input, len, NAME)?)
    } else {
        None
    };
    Ok(Header { name, value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Parts = (Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>, Vec<(String, Option<Vec<u8>>)>);

    fn parts() -> impl Strategy<Value = Parts> {
        let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
        let headers = proptest::collection::vec((".{0,9}", bytes()), 0..4);
        (bytes(), bytes(), any::<Option<i64>>(), headers)
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            (key, value, timestamp, headers) in parts(),
            topic in "[a-zA-Z0-9._-]{1,20}",
            partition: u32,
            offset: u64,
        ) {
            let mut encoded = Vec::new();
            for (name, value) in &headers {
                Headers::put(Header { name, value: value.as_deref() }, &mut encoded);
            }
            let message = Message {
                key: key.as_deref(),
                value: value.as_deref(),
                timestamp: timestamp.map(EventTime),
                headers: Headers::decode(&encoded).unwrap(),
                topic: &topic,
                partition,
                offset,
            };
            let mut bytes = Vec::new();
            <Message<'static> as Record>::encode(&message, &mut bytes);
            let mut input = bytes.as_slice();
            let decoded = <Message<'static> as Record>::decode(&mut input).unwrap();
            prop_assert_eq!(decoded, message);
            prop_assert!(input.is_empty());
            let read = decoded.headers.iter();
            let read = read.map(|it| (it.name.to_owned(), it.value.map(<[u8]>::to_vec)));
            let read: Vec<_> = read.collect();
            prop_assert_eq!(read, headers);
            for cut in 0..bytes.len() {
                <Message<'static> as Record>::decode(&mut &bytes[..cut]).unwrap_err();
            }
        }
    }

    #[test]
    fn the_last_header_of_a_name_counts() {
        let mut encoded = Vec::new();
        for (name, value) in [("a", Some(&b"1"[..])), ("b", None), ("a", Some(b"2"))] {
            Headers::put(Header { name, value }, &mut encoded);
        }
        let headers = Headers::decode(&encoded).unwrap();
        assert_eq!((headers.get("a"), headers.get("b")), (Some(&b"2"[..]), None));
        assert_eq!(format!("{headers:?}"), r#"{"a": Some([49]), "b": None, "a": Some([50])}"#);
    }
}
