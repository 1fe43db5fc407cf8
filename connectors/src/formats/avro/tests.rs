//! Against what apache-avro writes.

use std::collections::BTreeMap;

use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::super::{DECODED_BYTES_MAX, REASON_BYTES_MAX};
use super::*;

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct Event {
    id: i64,
    name: String,
    ratio: f64,
    share: f32,
    sure: bool,
    tags: Vec<String>,
    sizes: BTreeMap<String, i32>,
    parent: Option<i32>,
    kind: Kind,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
enum Kind {
    Plain,
    Large,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct Place {
    x: i32,
    within: Option<Box<Self>>,
}

const EVENT: &str = r#"{"type": "record", "name": "Event", "namespace": "a.b", "fields": [
    {"name": "id", "type": "long"},
    {"name": "name", "type": "string"},
    {"name": "ratio", "type": "double"},
    {"name": "share", "type": "float"},
    {"name": "sure", "type": "boolean"},
    {"name": "tags", "type": {"type": "array", "items": "string"}},
    {"name": "sizes", "type": {"type": "map", "values": "int"}},
    {"name": "parent", "type": ["null", "int"]},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["Plain", "Large"]}},
    {"name": "place", "type": {"type": "record", "name": "Place", "fields": [
        {"name": "x", "type": "int"},
        {"name": "within", "type": ["Place", "null"]}
    ]}}
]}"#;

fn schema(json: &str) -> Schema {
    Schema::parse(json).unwrap()
}

/// What the crate writes.
fn written(json: &str, value: &impl Serialize) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(json).unwrap();
    GenericDatumWriter::builder(&schema).build().unwrap().write_ser_to_vec(value).unwrap()
}

fn events() -> impl Strategy<Value = Event> {
    let text = prop::collection::vec(".{0,9}", 0..4);
    let sizes = prop::collection::btree_map(".{0,9}", any::<i32>(), 0..4);
    let ratio = prop::num::f64::NORMAL | prop::num::f64::ZERO;
    let kind = prop_oneof![Just(Kind::Plain), Just(Kind::Large)];
    let place = prop::collection::vec(any::<i32>(), 1..5).prop_map(|all| {
        let within = |within, x| Some(Box::new(Place { x, within }));
        *all.into_iter().fold(None, within).expect("there is one")
    });
    let numbers = (any::<i64>(), ratio, any::<bool>(), any::<Option<i32>>());
    (numbers, ".*", text, sizes, kind, place).prop_map(
        |((id, ratio, sure, parent), name, tags, sizes, kind, place)| {
            let share = ratio as f32;
            Event { id, name, ratio, share, sure, tags, sizes, parent, kind, place }
        },
    )
}

proptest! {
    #[test]
    fn what_was_written_is_decoded_and_nothing_less(event in events(), number in any::<u32>()) {
        let bytes = written(EVENT, &event);
        let schema = schema(EVENT);
        prop_assert_eq!(&schema.decode::<Event>(&bytes).unwrap(), &event);
        prop_assert!(schema.decode::<IgnoredAny>(&bytes).is_ok());
        for len in 0..bytes.len() {
            let error = schema.decode::<Event>(&bytes[..len]).unwrap_err().to_string();
            prop_assert!(error.contains("ends too early"), "{}", error);
            prop_assert!(schema.decode::<IgnoredAny>(&bytes[..len]).is_err());
        }
        let mut framed = Vec::new();
        confluent::begin(number, &mut framed);
        framed.extend_from_slice(&bytes);
        let confluent = Confluent::new(number, schema.clone());
        prop_assert_eq!(confluent.decode::<Event>(&framed).unwrap(), event);
        let more = [&bytes[..], b"\0"].concat();
        let error = schema.decode::<Event>(&more).unwrap_err().to_string();
        prop_assert!(error.contains("there is more behind its end"), "{}", error);
    }

    #[test]
    fn rubbish_is_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        for json in [EVENT, LIST, CHOICE] {
            if let Err(error) = schema(json).decode::<IgnoredAny>(&bytes) {
                prop_assert!(error.to_string().starts_with("byte "), "{}", error);
            }
        }
        let _ = schema(EVENT).decode::<Event>(&bytes);
        let _ = schema(CHOICE).decode::<Choice>(&bytes);
    }
}

#[derive(Debug, Deserialize)]
struct List {
    next: Option<Box<Self>>,
}

const LIST: &str = r#"{"type": "record", "name": "List", "fields": [
    {"name": "next", "type": ["null", "List"]}
]}"#;

#[derive(Debug, PartialEq, Deserialize)]
enum Choice {
    #[serde(rename = "null")]
    Nothing,
    #[serde(rename = "long")]
    Number(i64),
    #[serde(rename = "Point")]
    Point { x: i8, y: u8 },
    #[serde(rename = "array")]
    Texts(Vec<String>),
}

const CHOICE: &str = r#"["null", "long", {"type": "array", "items": "string"},
    {"type": "record", "name": "a.Point", "fields": [
        {"name": "x", "type": "int"}, {"name": "y", "type": "int"}
    ]}]"#;

fn refused<V: DeserializeOwned>(json: &str, bytes: &[u8]) -> String {
    schema(json).decode::<V>(bytes).map(drop).unwrap_err().to_string()
}

#[test]
fn a_union_is_an_option_or_an_enum_or_what_is_in_it() {
    let choice = |bytes: &[u8]| schema(CHOICE).decode::<Choice>(bytes).unwrap();
    assert_eq!(choice(b"\0"), Choice::Nothing);
    assert_eq!(choice(b"\x02\x0e"), Choice::Number(7));
    assert_eq!(choice(b"\x04\x02\x02a\0"), Choice::Texts(vec!["a".into()]));
    assert_eq!(choice(b"\x06\x01\x04"), Choice::Point { x: -1, y: 2 });
    assert_eq!(schema(CHOICE).decode::<Option<(i8, u8)>>(b"\x06\x01\x04"), Ok(Some((-1, 2))));
    assert_eq!(schema(CHOICE).decode::<Option<u64>>(b"\0"), Ok(None));
    assert_eq!(schema(CHOICE).decode::<u64>(b"\x02\x0e"), Ok(7));
    assert_eq!(refused::<Choice>(CHOICE, b"\x08"), "byte 1: is of no type of its union");
    assert_eq!(refused::<Choice>(CHOICE, b"\x01"), "byte 1: is of no type of its union");
}

#[test]
fn the_type_takes_what_fits_it() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Newer<'a> {
        name: &'a str,
        id: u8,
        #[serde(default)]
        more: Option<u64>,
    }
    let older = r#"{"type": "record", "name": "Older", "fields": [
        {"name": "id", "type": "int"},
        {"name": "gone", "type": {"type": "map", "values": "bytes"}},
        {"name": "name", "type": {"type": "string", "logicalType": "uuid"}}
    ]}"#;
    let bytes = b"\x0e\x02\x02k\x02\xff\0\x02n".to_vec();
    let schema = schema(older);
    let newer: Newer<'_> = schema.decode(&bytes).unwrap();
    assert_eq!(newer, Newer { name: "n", id: 7, more: None });
    assert!(bytes.as_ptr_range().contains(&newer.name.as_ptr()), "it is borrowed");
    let wide = schema.decode::<Newer<'_>>(b"\x80\x04\0\x02n").unwrap_err().to_string();
    assert!(wide.starts_with("byte 2 (id): invalid value: integer `256`, expected u8"), "{wide}");
    let bytes = |json: &str, bytes: &'static [u8]| self::schema(json).decode::<Vec<u8>>(bytes);
    assert_eq!(bytes(r#""bytes""#, b"\x04ab"), Ok(b"ab".to_vec()));
    let fixed = r#"{"type": "fixed", "name": "F", "size": 2}"#;
    assert_eq!(bytes(fixed, b"ab"), Ok(b"ab".to_vec()));
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}"#;
    assert_eq!(bytes(decimal, b"\x04\x01\0"), Ok(vec![1, 0]));
    let time = r#"{"type": "long", "logicalType": "timestamp-micros"}"#;
    assert_eq!(self::schema(time).decode::<i64>(b"\x0e"), Ok(7));
}

#[test]
fn what_the_type_does_not_take_is_refused_and_not_left_behind() {
    let three = r#"{"type": "array", "items": "int"}"#;
    let error = refused::<(u8, u8)>(three, b"\x06\x02\x04\x06\0");
    assert_eq!(error, "byte 3: has more items than its type");
    let fields = r#"{"type": "record", "name": "R", "fields": [
        {"name": "a", "type": "int"}, {"name": "b", "type": "int"}
    ]}"#;
    assert_eq!(refused::<(u8,)>(fields, b"\x02\x04"), "byte 1: has the field b too");
    let long = refused::<u8>(r#""string""#, &written(r#""string""#, &"secret ".repeat(99)));
    assert!(long.contains("invalid type: string \"secret") && long.len() < REASON_BYTES_MAX + 32);
}

fn varint(mut rest: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

#[test]
fn nesting_counts_and_lengths_are_bounded() {
    let list = |len| [vec![2; len], vec![0]].concat();
    // A record and a union each.
    let deepest: List = schema(LIST).decode(&list(DEPTH_MAX / 2 - 1)).unwrap();
    let levels = std::iter::successors(deepest.next.as_ref(), |list| list.next.as_ref());
    assert_eq!(levels.count(), DEPTH_MAX / 2 - 1);
    for error in [refused::<List>(LIST, &list(1_000_000)), refused::<IgnoredAny>(LIST, &list(99))] {
        assert!(error.ends_with("): is nested more than 64 deep"), "{error}");
        assert!(error.len() < 2 * REASON_BYTES_MAX, "{error}");
    }
    let endless = r#"{"type": "record", "name": "R", "fields": [{"name": "r", "type": "R"}]}"#;
    assert!(refused::<IgnoredAny>(endless, b"").ends_with("is nested more than 64 deep"));
    let nulls = r#"{"type": "array", "items": "null"}"#;
    // The most that there can be, and the least, which is followed by the bytes of the block.
    for bomb in [varint(u64::MAX - 1), [varint(u64::MAX), vec![0]].concat()] {
        for error in [refused::<Vec<()>>(nulls, &bomb), refused::<IgnoredAny>(nulls, &bomb)] {
            assert!(error.ends_with("has more than 1000000 values"), "{error}");
        }
        let error = refused::<Vec<i64>>(r#"{"type": "array", "items": "long"}"#, &bomb);
        assert!(error.ends_with("ends too early"), "{error}");
    }
    assert_eq!(refused::<String>(r#""string""#, &varint(u64::MAX - 1)), "byte 10: ends too early");
    assert_eq!(refused::<String>(r#""string""#, b"\x01"), "byte 1: has a length below zero");
    assert_eq!(refused::<i64>(r#""long""#, &[0xff; 11]), "byte 10: is no long");
    assert_eq!(schema(r#""long""#).decode::<i64>(&varint(u64::MAX)), Ok(i64::MIN));
    let fixed = r#"{"type": "fixed", "name": "F", "size": 1000000000000}"#;
    assert_eq!(refused::<Vec<u8>>(fixed, b"ab"), "byte 0: ends too early");
    let long = vec![0; DECODED_BYTES_MAX + 1];
    let error = schema(EVENT).decode::<Event>(&long);
    assert_eq!(error, Err(Error::TooLong { bytes: long.len() }));
}

#[test]
fn places_are_named() {
    assert_eq!(refused::<Event>(EVENT, b"\x02\x02\xff"), "byte 3 (name): is not UTF-8");
    for (zeros, byte, expected) in [
        (14, 2, "byte 15 (sure): is neither true nor false"),
        (17, 4, "byte 18 (parent): is of no type of its union"),
        (18, 4, "byte 19 (kind): is no symbol of its enum"),
        (20, 4, "byte 21 (place.within): is of no type of its union"),
    ] {
        // Not a zero in front, or it looks as if it were framed.
        let bytes = [&[2], &vec![0; zeros - 1][..], &[byte]].concat();
        assert_eq!(refused::<Event>(EVENT, &bytes), expected);
        assert!(refused::<IgnoredAny>(EVENT, &bytes).starts_with(expected));
    }
}

#[test]
fn what_is_framed_is_told_from_what_is_not() {
    let long = r#""long""#;
    let error = refused::<i64>(long, b"\0\0\0\0\x07\x0e");
    let text = "byte 1: there is more behind its end; or is it in Confluent's frame, with the \
                schema 7?";
    assert_eq!(error, text);
    let framed = Confluent::new(7, schema(long)).or(8, schema(r#""int""#));
    assert_eq!(framed.decode::<i64>(b"\0\0\0\0\x08\x0e"), Ok(7));
    assert_eq!(framed.decode::<i64>(b"\0\0\0\0\x09\x0e"), Err(Error::UnknownSchema(9)));
    assert_eq!(framed.decode::<i64>(b"\x0e"), Err(Error::NotFramed));
    assert_eq!(framed.decode::<i64>(b""), Err(Error::NotFramed));
}

#[test]
fn a_schema_that_is_none_is_refused() {
    for (json, expected) in [
        ("{", "the schema: "),
        (r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "Other"}]}"#, "Other"),
    ] {
        let error = Schema::parse(json).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
