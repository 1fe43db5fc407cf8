//! Avro from outside, with and without a frame: what is decoded is what apache-avro reads, and
//! comes back from what it writes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use gear_connectors::formats::avro::{Confluent, Schema};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct Node {
    id: i64,
    name: String,
    nodes: Vec<Self>,
    sizes: BTreeMap<String, i32>,
    kind: Kind,
    next: Option<Box<Self>>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
enum Kind {
    Plain,
    Large,
}

const NODE: &str = r#"{"type": "record", "name": "Node", "fields": [
    {"name": "id", "type": "long"},
    {"name": "name", "type": "string"},
    {"name": "nodes", "type": {"type": "array", "items": "Node"}},
    {"name": "sizes", "type": {"type": "map", "values": "int"}},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["Plain", "Large"]}},
    {"name": "next", "type": ["null", "Node"]}
]}"#;
/// With every type there is, and values that take no bytes.
const ALL: &str = r#"{"type": "array", "items": ["null", "boolean", "int", "long", "float",
    "double", "bytes", "string", {"type": "fixed", "name": "F", "size": 3},
    {"type": "array", "items": "null"},
    {"type": "map", "values": {"type": "record", "name": "Empty", "fields": []}},
    {"type": "record", "name": "R", "fields": [
        {"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4}},
        {"name": "t", "type": {"type": "long", "logicalType": "timestamp-millis"}}
    ]}]}"#;

static THEIRS: LazyLock<apache_avro::Schema> =
    LazyLock::new(|| apache_avro::Schema::parse_str(NODE).expect("it is a schema"));
static OURS: LazyLock<[Schema; 2]> =
    LazyLock::new(|| [NODE, ALL].map(|json| Schema::parse(json).expect("it is a schema")));

/// Decodes the bytes as a record that nests, and as anything.
pub fn run(bytes: &[u8]) {
    let [nodes, all] = &*OURS;
    let _ = all.decode::<IgnoredAny>(bytes);
    let framed = Confluent::new(7, nodes.clone()).or(8, all.clone());
    let _ = framed.decode::<IgnoredAny>(bytes);
    let Ok(node) = nodes.decode::<Node>(bytes) else { return };
    let reader = GenericDatumReader::builder(&THEIRS).build().expect("nothing is missing in it");
    let theirs: Node = reader.read_deser(&mut &*bytes).expect("it is a value of the schema");
    assert_eq!(node, theirs);
    let writer = GenericDatumWriter::builder(&THEIRS).build().expect("nothing is missing in it");
    let written = writer.write_ser_to_vec(&node).expect("it is a value of the schema");
    assert_eq!(nodes.decode::<Node>(&written), Ok(node.clone()));
    let frame = [b"\0\0\0\0\x07", &written[..]].concat();
    assert_eq!(framed.decode::<Node>(&frame), Ok(node));
}
