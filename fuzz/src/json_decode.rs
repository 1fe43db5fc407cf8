//! JSON from outside: what is decoded comes back from its encoding.

use gear_connectors::formats::json;
use serde_json::Value;

/// Decodes the bytes as any value, and as one of a type.
pub fn run(bytes: &[u8]) {
    let _ = json::decode::<(u64, &str, Option<Vec<f64>>)>(bytes);
    let Ok(value) = json::decode::<Value>(bytes) else { return };
    let mut encoded = Vec::new();
    json::encode(&value, &mut encoded);
    assert!(!encoded.contains(&b'\n'), "a value is one line");
    let again: Value = json::decode(&encoded).expect("what was encoded is JSON");
    // Numbers are read to the nearest, which may be the one beside it: once more changes no form.
    assert_eq!(shape(&again), shape(&value));
}

/// The value without its numbers.
fn shape(value: &Value) -> Value {
    match value {
        Value::Number(_) => Value::Null,
        Value::Array(values) => values.iter().map(shape).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect()
        }
        other => other.clone(),
    }
}
