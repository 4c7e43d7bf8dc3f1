//! YAML bodies, read as Kubernetes reads them: YAML 1.1 scalars (`yes`, `0644`),
//! keys turned into strings, then treated as the JSON they stand for. Aliases, depth and
//! size are bounded. How YAML is written is in [`super::yaml_write`].

use super::CodecError;
use super::json::{Node, Path};
use crate::Value;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::Spanned;
use serde_saphyr::options::DuplicateKeyPolicy;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

/// A level of YAML takes some 15 KB of stack to read without optimisation; a thread has 2 MB.
const DEPTH_MAX: usize = 80;
/// As many keys given twice are told.
const MAX_TOLD: usize = 100;

/// One YAML document as a value tree.
pub fn decode_yaml(bytes: &[u8]) -> Result<Value, CodecError> {
    Ok(decode_yaml_strict(bytes)?.0)
}

/// The tree, and a line about each key that stands twice in its map (the last one counts):
/// `line 5: key "a" already set in map`.
pub fn decode_yaml_strict(bytes: &[u8]) -> Result<(Value, Vec<String>), CodecError> {
    let duplicates = RefCell::default();
    let mut value = read(
        bytes,
        Node {
            at: Path::Root,
            duplicates: &duplicates,
            order: None,
        },
    )?;
    as_json_writes_numbers(&mut value);
    if duplicates.borrow().is_empty() {
        return Ok((value, Vec::new()));
    }
    // Where the keys stand costs a little to know: it is asked only when there is something to tell.
    let lines = RefCell::default();
    read(bytes, Keys { lines: &lines })?;
    Ok((value, lines.into_inner()))
}

fn read<S: for<'de> DeserializeSeed<'de, Value = T>, T>(bytes: &[u8], seed: S) -> Result<T, CodecError> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
        },
    };
    serde_saphyr::with_deserializer_from_slice_with_options(bytes, options, |reader| seed.deserialize(reader)).map_err(
        |error| {
            let line = error.location().map(|at| at.line());
            let mut text = error.to_string();
            // The place stands in front, as Go's reader has it.
            if let Some(at) = text.find(" at line ").or_else(|| text.find("\n")) {
                text.truncate(at);
            }
            let place = line.map_or_else(String::new, |line| format!("line {line}: "));
            CodecError::Yaml(format!("yaml: {place}{text}"))
        },
    )
}

/// Walks over maps and lists for keys that stand twice.
#[derive(Clone, Copy)]
struct Keys<'a> {
    lines: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_bytes<E>(self, _: &[u8]) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        IgnoredAny.visit_newtype_struct(reader).map(|_| ())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let mut lines = self.lines.borrow_mut();
            if !seen.insert(key.value.clone()) && lines.len() < MAX_TOLD {
                lines.push(format!(
                    "line {}: key {:?} already set in map",
                    key.referenced.line(),
                    key.value
                ));
            }
            drop(lines);
            entries.next_value_seed(self)?;
        }
        Ok(())
    }
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
