//! Protocol Buffers, by prost.
//!
//! A message is a record if it derives both: prost's code generator adds a derive with
//! `type_attribute(".", "#[derive(gear_node::prelude::Record)]")`.

use prost::Message;

use super::confluent;
use super::{Error, bounded, reason};

/// Messages within each other that are decoded: prost's own limit.
pub const DEPTH_MAX: usize = 100;
/// Numbers in a Confluent frame that say which message of a schema file it is: one a level of
/// nesting, which nobody has this much of.
pub const INDEXES_MAX: usize = 16;

/// A message, which is all of the bytes.
///
/// # Errors
/// What is wrong, with the message and the field.
///
/// ```
/// use gear_connectors::formats::protobuf;
/// use gear_core::api::Record;
///
/// #[derive(Clone, PartialEq, prost::Message, Record)]
/// struct Click {
///     #[prost(uint64, tag = "1")]
///     user: u64,
///     #[prost(string, tag = "2")]
///     page: String,
/// }
///
/// let mut bytes = Vec::new();
/// protobuf::encode(Click { user: 7, page: "/".into() }, &mut bytes);
/// let click: Click = protobuf::decode(&bytes).unwrap();
/// assert_eq!(click.user, 7);
///
/// let error = protobuf::decode::<Click>(b"\x12\x01\xff").unwrap_err();
/// let text = "Click.page: invalid string value: data is not UTF-8 encoded";
/// assert_eq!(error.to_string(), text);
/// ```
#[inline]
pub fn decode<M: Message + Default>(bytes: &(impl AsRef<[u8]> + ?Sized)) -> Result<M, Error> {
    M::decode(bounded(bytes.as_ref())?).map_err(refused)
}

#[cold]
fn refused(error: prost::DecodeError) -> Error {
    let text = error.to_string();
    let mut what = text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(&text);
    // Each message names its field, from the outermost on: the first and the last tell most.
    let mut places = Vec::new();
    while let Some((place, rest)) = what.split_once(": ")
        && place.contains('.')
        && !place.contains(' ')
    {
        places.push(place);
        what = rest;
    }
    let what = reason(what);
    let place = match places.as_slice() {
        [] => return Error::Whole(what),
        [place] => reason(place),
        [first, last] => reason(format_args!("{first} > {last}")),
        [first, .., last] => reason(format_args!("{first} > ... > {last}")),
    };
    Error::At { place, what }
}

/// Appends a message, without its length: for a sink of messages.
pub fn encode(message: impl Message, out: &mut Vec<u8>) {
    // What a vector has no room for is none of prost's errors.
    let _ = message.encode(out);
}

/// Appends a message behind its length: for a sink of files, from which it is read with
/// `parseDelimitedFrom` or its like.
pub fn encode_delimited(message: impl Message, out: &mut Vec<u8>) {
    let _ = message.encode_length_delimited(out);
}

/// Messages in the frame of Confluent's serializers.
///
/// ```
/// use gear_connectors::formats::protobuf::Confluent;
///
/// // The second message of the schema that the registry knows as 12.
/// let frame = Confluent::new(12).message([1]);
/// let mut bytes = Vec::new();
/// frame.encode(String::from("text"), &mut bytes);
/// assert_eq!(frame.decode::<String>(&bytes).unwrap(), "text");
///
/// let error = Confluent::new(13).decode::<String>(&bytes).unwrap_err();
/// assert_eq!(error.to_string(), "was written with the schema 12, which this job was not given");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confluent {
    schema: u32,
    others: Vec<u32>,
    indexes: Vec<i32>,
}

impl Confluent {
    /// Messages that are written with the schema of this number, and are the first one in it.
    #[must_use]
    pub const fn new(schema: u32) -> Self {
        Self { schema, others: Vec::new(), indexes: Vec::new() }
    }

    /// Which message of the schema file it is: its place among those at the top, then its place
    /// among those within, and so on.
    #[must_use]
    pub fn message(mut self, indexes: impl IntoIterator<Item = i32>) -> Self {
        self.indexes = indexes.into_iter().collect();
        if self.indexes == [0] {
            self.indexes.clear();
        }
        self
    }

    /// Other schemas that messages may be written with: versions that the type can read.
    #[must_use]
    pub fn or(mut self, schemas: impl IntoIterator<Item = u32>) -> Self {
        self.others.extend(schemas);
        self
    }

    /// A message in its frame.
    ///
    /// # Errors
    /// As [`decode`]; and if it is not framed, of another schema or another message.
    pub fn decode<M: Message + Default>(
        &self,
        bytes: &(impl AsRef<[u8]> + ?Sized),
    ) -> Result<M, Error> {
        let (schema, mut rest) = confluent::open(bytes.as_ref())?;
        if schema != self.schema && !self.others.contains(&schema) {
            return Err(Error::UnknownSchema(schema));
        }
        let indexes = take_indexes(&mut rest)?;
        if indexes != self.indexes {
            let shown =
                |indexes: &[i32]| format!("{:?}", if indexes.is_empty() { &[0] } else { indexes });
            return Err(Error::Whole(format!(
                "is the message {} of its schema, not {}",
                shown(&indexes),
                shown(&self.indexes)
            )));
        }
        decode(rest)
    }

    /// Appends a message in its frame.
    pub fn encode(&self, message: impl Message, out: &mut Vec<u8>) {
        confluent::begin(self.schema, out);
        // The first message, which most schemas have only, is a single zero.
        put_varint(self.indexes.len() as i32, out);
        self.indexes.iter().for_each(|index| put_varint(*index, out));
        encode(message, out);
    }
}

/// Appends a number in zigzag, seven bits a byte.
fn put_varint(number: i32, out: &mut Vec<u8>) {
    let zigzag = ((number << 1) ^ (number >> 31)) as u32;
    prost::encoding::encode_varint(u64::from(zigzag), out);
}

fn take_varint(bytes: &mut &[u8]) -> Option<i32> {
    let zigzag = u32::try_from(prost::encoding::decode_varint(bytes).ok()?).ok()?;
    Some((zigzag >> 1) as i32 ^ -((zigzag & 1) as i32))
}

fn take_indexes(bytes: &mut &[u8]) -> Result<Vec<i32>, Error> {
    let bad = || Error::Whole("does not say which message of its schema it is".to_owned());
    let count = take_varint(bytes).and_then(|count| usize::try_from(count).ok()).ok_or_else(bad)?;
    if count > INDEXES_MAX {
        return Err(bad());
    }
    let indexes: Vec<i32> =
        (0..count).map(|_| take_varint(bytes).ok_or_else(bad)).collect::<Result<_, _>>()?;
    Ok(if indexes == [0] { Vec::new() } else { indexes })
}

#[cfg(test)]
mod tests {
    use gear_core::api::Record;
    use proptest::prelude::*;

    use super::super::{DECODED_BYTES_MAX, REASON_BYTES_MAX};
    use super::*;

    #[derive(Clone, PartialEq, Message, Record)]
    struct Place {
        #[prost(sint32, tag = "1")]
        x: i32,
    }

    #[derive(Clone, PartialEq, Message, Record)]
    struct Event {
        #[prost(uint64, tag = "1")]
        id: u64,
        #[prost(string, tag = "2")]
        name: String,
        #[prost(bytes = "vec", tag = "3")]
        blob: Vec<u8>,
        #[prost(message, optional, tag = "4")]
        place: Option<Place>,
        #[prost(message, repeated, tag = "5")]
        places: Vec<Place>,
        #[prost(double, repeated, tag = "6")]
        numbers: Vec<f64>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Deep {
        #[prost(message, optional, boxed, tag = "1")]
        within: Option<Box<Self>>,
    }

    fn events() -> impl Strategy<Value = Event> {
        let place = any::<i32>().prop_map(|x| Place { x });
        let places = prop::collection::vec(place.clone(), 0..4);
        let numbers = prop::collection::vec(prop::num::f64::NORMAL, 0..4);
        let blob = prop::collection::vec(any::<u8>(), 0..16);
        let place = prop::option::of(place);
        (any::<u64>(), ".*", blob, place, places, numbers).prop_map(
            |(id, name, blob, place, places, numbers)| Event {
                id,
                name,
                blob,
                place,
                places,
                numbers,
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            event in events(),
            schema in any::<u32>(),
            indexes in prop::collection::vec(any::<i32>(), 0..4),
        ) {
            let mut bytes = Vec::new();
            encode(event.clone(), &mut bytes);
            prop_assert_eq!(&decode::<Event>(&bytes).unwrap(), &event);
            let frame = Confluent::new(schema).message(indexes);
            let mut bytes = Vec::new();
            frame.encode(event.clone(), &mut bytes);
            prop_assert_eq!(&frame.decode::<Event>(&bytes).unwrap(), &event);
            let mut record = Vec::new();
            <Event as Record>::encode(&event, &mut record);
            prop_assert_eq!(<Event as Record>::decode(&mut record.as_slice()).unwrap(), event);
        }

        #[test]
        fn rubbish_is_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Err(error) = decode::<Event>(&bytes) {
                prop_assert!(error.to_string().len() <= 2 * REASON_BYTES_MAX + 2);
            }
            let _ = Confluent::new(0).decode::<Event>(&bytes);
        }
    }

    fn nested(depth: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..depth {
            let mut outer = vec![10];
            prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
            outer.append(&mut bytes);
            bytes = outer;
        }
        bytes
    }

    #[test]
    fn nesting_and_length_are_bounded() {
        assert!(decode::<Deep>(&nested(DEPTH_MAX)).is_ok());
        let error = decode::<Deep>(&nested(DEPTH_MAX + 1)).unwrap_err().to_string();
        assert!(error.ends_with("recursion limit reached"), "{error}");
        // What nobody looks at is no way around it.
        let mut groups = vec![0x4b; 1_000_000];
        groups.extend([0x4c; 1_000_000]);
        let error = decode::<Event>(&groups).unwrap_err().to_string();
        assert!(error.ends_with("recursion limit reached"), "{error}");
        let long = vec![0; DECODED_BYTES_MAX + 1];
        assert_eq!(decode::<Event>(&long), Err(Error::TooLong { bytes: long.len() }));
        // A string that claims more than there is.
        let error = decode::<Event>(b"\x12\xff\xff\xff\xff\x0f").unwrap_err();
        assert_eq!(error.to_string(), "Event.name: buffer underflow");
    }

    #[test]
    fn frames_of_others_are_refused() {
        let frame = Confluent::new(7).or([8]);
        let mut bytes = Vec::new();
        frame.encode(Place { x: 3 }, &mut bytes);
        assert_eq!(bytes[..6], [0, 0, 0, 0, 7, 0], "one zero for the first message");
        bytes[4] = 8;
        assert_eq!(frame.decode::<Place>(&bytes).unwrap().x, 3);
        bytes[4] = 9;
        assert_eq!(frame.decode::<Place>(&bytes), Err(Error::UnknownSchema(9)));
        let other = Confluent::new(7).message([2, 1]);
        let mut bytes = Vec::new();
        other.encode(Place { x: 3 }, &mut bytes);
        let error = frame.decode::<Place>(&bytes).unwrap_err().to_string();
        assert_eq!(error, "is the message [2, 1] of its schema, not [0]");
        // Another count than there are numbers, and one that nobody has.
        assert!(frame.decode::<Place>(&[0, 0, 0, 0, 7, 4, 0]).is_err());
        assert!(frame.decode::<Place>(&[0, 0, 0, 0, 7, 0xfe, 0xff, 0xff, 0xff, 0x0f]).is_err());
        assert!(frame.decode::<Place>(&[0, 0, 0, 0, 7, 1]).is_err(), "less than none");
    }
}
