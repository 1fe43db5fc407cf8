//! Types with derived `Record` and `Key`, as an author writes them.

use std::fmt::Debug;

use gear_core::api::key::KeyArena;
use gear_core::api::record::type_name;
use gear_core::api::{Key, Malformed, Owned, Record, Ref};

#[derive(Clone, Copy, Debug, PartialEq, Record, Key)]
struct UserId(u64);

#[derive(Clone, Copy, Debug, PartialEq, Record, Key)]
struct Everything;

#[derive(Clone, Debug, PartialEq, Record)]
#[record(name = "visit", version = 3)]
struct Visit {
    user: UserId,
    r#type: String,
    pages: Vec<(u32, Option<String>)>,
    seconds: f64,
}

#[derive(Clone, Debug, PartialEq, Record)]
enum Change {
    Nothing,
    Set(i32, String),
    Add { by: u8, to: UserId },
}

#[derive(Clone, Copy, Debug, PartialEq, Record, Key)]
struct Header<'h> {
    host: &'h str,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Record)]
struct Event<'a> {
    header: Header<'a>,
    body: &'a [u8],
    pair: (&'a str, u64),
    tags: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Record)]
enum Line<'a> {
    Blank,
    Text(&'a str),
    Framed { header: Header<'a>, checksum: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Record, Key)]
#[rustfmt::skip]
struct Wide(u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u16, bool);

fn bytes_of<R: Record>(view: &R::View<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    R::encode(view, &mut bytes);
    bytes
}

/// Asserts that a record comes back, leaves what follows it, and that no shorter input is whole.
fn assert_comes_back<'a, R: Record>(view: &R::View<'_>, bytes: &'a mut Vec<u8>) -> R::View<'a>
where
    for<'v> R::View<'v>: PartialEq<R::View<'v>>,
{
    *bytes = bytes_of::<R>(view);
    assert!(!bytes.is_empty());
    for end in 0..bytes.len() {
        assert!(R::decode(&mut &bytes[..end]).is_err(), "{end} of {} bytes", bytes.len());
    }
    bytes.push(0xff);
    let mut rest = bytes.as_slice();
    let decoded = R::decode(&mut rest).expect("a record was encoded");
    assert_eq!(rest, [0xff]);
    decoded
}

fn assert_owned<R: Owned + PartialEq>(value: R) {
    assert_eq!(assert_comes_back::<R>(&value, &mut Vec::new()), value);
}

fn visit() -> Visit {
    Visit {
        user: UserId(9),
        r#type: "browser".into(),
        pages: vec![(1, None), (2, Some("über".into()))],
        seconds: 0.5,
    }
}

#[test]
fn structs_come_back() {
    assert_owned(UserId(u64::MAX));
    assert_owned(Everything);
    assert_owned(visit());
}

#[test]
fn enums_come_back() {
    assert_owned(Change::Nothing);
    assert_owned(Change::Set(-1, "x".into()));
    assert_owned(Change::Add { by: 3, to: UserId(4) });
}

#[test]
fn views_come_back_and_borrow_from_the_batch() {
    let header = Header { host: "example.org", port: 80 };
    let event =
        Event { header, body: &[1, 2, 3], pair: ("a", 7), tags: vec!["t".into(), String::new()] };
    let mut bytes = Vec::new();
    let decoded = assert_comes_back::<Event<'static>>(&event, &mut bytes);
    assert_eq!(decoded, event);
    let host = decoded.header.host.as_ptr();
    assert!(bytes.as_ptr_range().contains(&host));

    for line in [Line::Blank, Line::Text("héllo"), Line::Framed { header, checksum: 1 }] {
        assert_eq!(assert_comes_back::<Line<'static>>(&line, &mut Vec::new()), line);
    }
}

#[test]
fn an_encoding_is_that_of_the_fields() {
    assert_eq!(bytes_of::<UserId>(&UserId(5)), bytes_of::<u64>(&5));
    assert_eq!(bytes_of::<Everything>(&Everything), [0]);
    assert_eq!(bytes_of::<Change>(&Change::Nothing), [0]);
    assert_eq!(bytes_of::<Change>(&Change::Add { by: 3, to: UserId(0) })[..2], [2, 3]);
    let header = Header { host: "h", port: 0x0102 };
    assert_eq!(bytes_of::<Header<'static>>(&header), [1, b'h', 2, 1]);
}

#[test]
fn an_unknown_variant_is_refused_by_the_name_of_its_type() {
    assert_eq!(Change::decode(&mut &[3_u8, 0][..]), Err(Malformed::new("Change")));
}

#[test]
fn names_have_the_version_unless_it_is_the_first() {
    assert_eq!(type_name::<UserId>(), "UserId");
    assert_eq!(type_name::<Visit>(), "visit@v3");
    assert_eq!(type_name::<(Event<'static>, Option<UserId>)>(), "(Event,UserId?)");
}

fn assert_key<K: Key>(view: &K::View<'_>, other: &K::View<'_>)
where
    for<'v> K::View<'v>: Debug,
{
    let mut arena = KeyArena::default();
    let stored = K::store(view, &mut arena);
    assert_eq!(bytes_of::<K>(&K::load(&stored, &arena)), bytes_of::<K>(view));
    assert!(K::matches(&stored, view, &arena));
    assert!(!K::matches(&stored, other, &arena));
    assert_ne!(K::hash(view, 0), K::hash(other, 0));
}

#[test]
fn keys_come_back_from_a_table() {
    assert_key::<UserId>(&UserId(1), &UserId(2));
    let header = Header { host: "a host with a long name", port: 1 };
    assert_key::<Header<'static>>(&header, &Header { port: 2, ..header });
    assert_key::<Header<'static>>(&header, &Header { host: "another with a long name", ..header });
    let wide = Wide(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, true);
    assert_key::<Wide>(&wide, &Wide(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, false));
    assert_key::<Wide>(&wide, &Wide(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0, 13, true));
}

#[test]
fn a_key_hashes_as_the_tuple_of_its_fields() {
    assert_eq!(UserId::hash(&UserId(5), 0), u64::hash(&5, 0));
    assert_eq!(UserId::hash(&UserId(5), 9), u64::hash(&5, 9));
    let header = Header { host: "h", port: 2 };
    assert_eq!(Header::hash(&header, 0), <(Ref<str>, u16)>::hash(&("h", 2), 0));
    assert_eq!(Everything::hash(&Everything, 4), 4);
}
