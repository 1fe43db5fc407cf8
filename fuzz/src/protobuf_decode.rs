//! Messages from outside, with and without a frame: what is decoded comes back from its encoding.

use gear_connectors::formats::protobuf::{self, Confluent};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "3")]
    nodes: Vec<Self>,
    #[prost(sint32, repeated, tag = "4")]
    numbers: Vec<i32>,
}

/// Decodes the bytes as a message that nests.
pub fn run(bytes: &[u8]) {
    let frame = Confluent::new(7).message([1, 2]);
    if let Ok(node) = frame.decode::<Node>(bytes) {
        let mut encoded = Vec::new();
        frame.encode(node.clone(), &mut encoded);
        assert_eq!(frame.decode::<Node>(&encoded), Ok(node));
    }
    let Ok(node) = protobuf::decode::<Node>(bytes) else { return };
    let mut encoded = Vec::new();
    protobuf::encode(node.clone(), &mut encoded);
    assert_eq!(protobuf::decode::<Node>(&encoded), Ok(node));
}
