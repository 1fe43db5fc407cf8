//! JSON, by serde_json.

use gear_core::api::Record;
use serde::{Deserialize, Serialize};

use super::{Error, bounded, reason};

/// Arrays and objects within each other that are decoded: serde_json's own limit.
pub const DEPTH_MAX: usize = 128;

/// A value of JSON.
///
/// It may borrow from the bytes. But text that has an escape in JSON (`\n`, `\"`, `\u00e9`) cannot
/// be borrowed: a field of type `&str` refuses it, one of type `String` takes it.
///
/// # Errors
/// What is wrong, with line and column: what is no JSON, nests more than [`DEPTH_MAX`] deep, is too
/// long, has something behind its end, or is of another type.
///
/// ```
/// use gear_connectors::formats::json;
/// use gear_core::api::Record;
///
/// #[derive(Clone, Debug, PartialEq, serde::Deserialize, Record)]
/// struct Click<'a> {
///     user: u64,
///     page: &'a str,
/// }
///
/// let click: Click<'_> = json::decode(r#"{"user": 7, "page": "/"}"#).unwrap();
/// assert_eq!(click, Click { user: 7, page: "/" });
///
/// let error = json::decode::<Click<'_>>(r#"{"user": "seven"}"#).unwrap_err();
/// let text = "line 1 column 16: invalid type: string \"seven\", expected u64";
/// assert_eq!(error.to_string(), text);
/// ```
#[inline]
pub fn decode<'r, V: Deserialize<'r>>(bytes: &'r (impl AsRef<[u8]> + ?Sized)) -> Result<V, Error> {
    serde_json::from_slice(bounded(bytes.as_ref())?).map_err(refused)
}

#[cold]
fn refused(error: serde_json::Error) -> Error {
    let text = error.to_string();
    let (line, column) = (error.line(), error.column());
    if line == 0 {
        return Error::Whole(reason(text));
    }
    // The place comes first: what is behind it may be cut.
    let place = format!(" at line {line} column {column}");
    let what = text.strip_suffix(&place).unwrap_or(&text);
    Error::At { place: place.trim_start_matches(" at ").to_owned(), what: reason(what) }
}

/// Appends a value as JSON on one line, without a line break: for a sink of messages.
///
/// # Panics
/// If the value cannot be JSON, as a map whose keys are no text; the record is then put aside.
pub fn encode(value: impl Serialize, out: &mut Vec<u8>) {
    if let Err(error) = serde_json::to_writer(&mut *out, &value) {
        panic!("cannot be written as JSON: {error}");
    }
}

/// The format of a sink of lines: each record as JSON on a line of its own.
///
/// The format panics where [`encode`] does, and the record is put aside.
///
/// ```
/// use gear_connectors::files;
/// use gear_connectors::formats::json;
/// use gear_core::api::Record;
///
/// #[derive(Clone, Debug, serde::Serialize, Record)]
/// struct Count {
///     word: String,
///     count: u64,
/// }
///
/// let sink = files::sink::<Count>("out", json::lines::<Count>()).suffix(".json");
/// # let _ = sink;
/// let mut out = Vec::new();
/// json::lines::<Count>()(Count { word: "to".into(), count: 2 }, &mut out);
/// assert_eq!(out, b"{\"word\":\"to\",\"count\":2}\n");
/// ```
pub fn lines<T: Record>() -> impl for<'a> Fn(T::View<'a>, &mut Vec<u8>) + Clone + Send + Sync
where
    for<'a> T::View<'a>: Serialize,
{
    |view, out: &mut Vec<u8>| {
        encode(view, out);
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::{DECODED_BYTES_MAX, REASON_BYTES_MAX};
    use super::*;

    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Record)]
    struct Event {
        id: u64,
        name: String,
        ratio: f64,
        tags: Vec<String>,
        parent: Option<i32>,
        kind: Kind,
    }

    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Record)]
    enum Kind {
        Plain,
        Sized { bytes: u32 },
    }

    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    struct Deep(Vec<Self>);

    fn events() -> impl Strategy<Value = Event> {
        let kind =
            prop_oneof![Just(Kind::Plain), any::<u32>().prop_map(|bytes| Kind::Sized { bytes })];
        let ratio = prop::num::f64::NORMAL | prop::num::f64::ZERO;
        (any::<u64>(), ".*", ratio, prop::collection::vec(".*", 0..4), any::<Option<i32>>(), kind)
            .prop_map(|(id, name, ratio, tags, parent, kind)| Event {
                id,
                name,
                ratio,
                tags,
                parent,
                kind,
            })
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(event in events()) {
            let mut out = b"before".to_vec();
            lines::<Event>()(event.clone(), &mut out);
            let line = out.strip_prefix(b"before").unwrap().strip_suffix(b"\n").unwrap();
            prop_assert!(!line.contains(&b'\n'));
            // Numbers are parsed to the nearest, which may be the one beside it.
            let decoded: Event = decode(line).unwrap();
            prop_assert!((decoded.ratio - event.ratio).abs() <= event.ratio.abs() * 1e-15);
            prop_assert_eq!(Event { ratio: event.ratio, ..decoded }, event);
        }

        #[test]
        fn rubbish_is_refused_with_a_place(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Err(error) = decode::<Event>(&bytes) {
                prop_assert!(error.to_string().starts_with("line "), "{}", error);
            }
        }
    }

    fn refused_text(bytes: impl AsRef<[u8]>) -> String {
        decode::<Event>(&bytes).unwrap_err().to_string()
    }

    #[test]
    fn places_are_named_and_payloads_are_not_quoted_whole() {
        assert_eq!(refused_text("{\n  \"id\": x"), "line 2 column 9: expected value");
        assert_eq!(refused_text("{\"id\":1"), "line 1 column 7: EOF while parsing an object");
        let two = r#"{"id":1,"name":"","ratio":0,"tags":[],"parent":null,"kind":"Plain"} {}"#;
        assert_eq!(refused_text(two), "line 1 column 69: trailing characters");
        let long = format!("{{\"id\": \"{}\"}}", "secret ".repeat(1_000));
        let text = refused_text(long);
        assert!(text.starts_with("line 1 column 7009: invalid type: string \"secret"), "{text}");
        assert!(text.len() < REASON_BYTES_MAX + 32, "{text}");
        assert!(refused_text(b"{\"name\": \"\xff\"}").contains("invalid unicode code point"));
    }

    #[test]
    fn nesting_and_length_are_bounded() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        // A level of the array, and one of the value within.
        assert!(decode::<Deep>(&nested(DEPTH_MAX - 1)).is_ok());
        let error = decode::<Deep>(&nested(DEPTH_MAX)).unwrap_err().to_string();
        assert!(error.ends_with("recursion limit exceeded"), "{error}");
        // What nobody looks at is skipped without going down into it.
        let ignored = format!("{{\"more\": {}}}", nested(1_000_000));
        let error = decode::<Event>(&ignored).unwrap_err().to_string();
        assert!(error.ends_with("missing field `id`"), "{error}");
        let long = " ".repeat(DECODED_BYTES_MAX + 1);
        assert_eq!(decode::<Event>(&long), Err(Error::TooLong { bytes: long.len() }));
    }

    #[test]
    #[should_panic(expected = "cannot be written as JSON: key must be a string")]
    fn what_is_no_json_panics_for_the_guard() {
        encode(BTreeMap::from([((1, 2), 3)]), &mut Vec::new());
    }

    #[test]
    fn borrowed_text_is_not_copied() {
        let line = String::from("[\"a\",\"b\"]");
        let texts: (&str, &str) = decode(&line).unwrap();
        assert_eq!(texts, ("a", "b"));
        assert!(line.as_bytes().as_ptr_range().contains(&texts.0.as_ptr()));
        assert!(decode::<(&str, &str)>("[\"a\",\"\\n\"]").is_err(), "an escape cannot be borrowed");
    }
}
