//! YAML bodies, read as Kubernetes reads them: YAML 1.1 scalars (`yes`, `0644`),
//! keys turned into strings, then treated as the JSON they stand for.

use super::CodecError;
use super::json::{Node, Path};
use crate::Value;
use serde::de::DeserializeSeed;
use serde_json::Number;
use serde_saphyr::options::DuplicateKeyPolicy;
use std::cell::RefCell;

/// One YAML document as a value tree.
pub fn decode_yaml(bytes: &[u8]) -> Result<Value, CodecError> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let duplicates = RefCell::new(Vec::new());
    let mut value = serde_saphyr::with_deserializer_from_slice_with_options(bytes, options, |reader| {
        Node {
            at: Path::Root,
            duplicates: &duplicates,
            order: None,
        }
        .deserialize(reader)
    })
    .map_err(|e| CodecError::Yaml(e.to_string()))?;
    as_json_writes_numbers(&mut value);
    Ok(value)
}

/// `1e3` is a float in YAML, and 1000 once it has passed through JSON.
fn as_json_writes_numbers(value: &mut Value) {
    match value {
        Value::Number(n) => {
            if let Some(f) = n.as_f64().filter(|f| n.is_f64() && f.fract() == 0.0 && f.abs() < 9e15) {
                *n = Number::from(f as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(as_json_writes_numbers),
        Value::Object(map) => map.values_mut().for_each(as_json_writes_numbers),
        _ => {}
    }
}
