//! JSON text to and from the value tree. Remembers fields that stand twice in an
//! object, which serde_json's own reader forgets.

use super::CodecError;
use crate::Value;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number};
use std::cell::RefCell;
use std::fmt;

/// As many duplicate fields are remembered; strict decoding reports no more.
const MAX_DUPLICATES: usize = 100;
/// Fields whose order is noted for a report; faults behind them are told last.
const MAX_ORDERED: usize = 10_000;

/// The tree, and the paths of fields given more than once (the last one counts).
pub fn decode_json(bytes: &[u8]) -> Result<(Value, Vec<String>), CodecError> {
    if std::str::from_utf8(bytes).is_err() {
        // Go reads what is no UTF-8 as replacement characters.
        return decode_json(String::from_utf8_lossy(bytes).as_bytes());
    }
    let duplicates = RefCell::new(Vec::new());
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let seed = Node {
        at: Path::Root,
        duplicates: &duplicates,
        order: None,
    };
    let value = seed.deserialize(&mut reader).map_err(|e| in_gos_words(bytes, &e))?;
    reader.end().map_err(|e| in_gos_words(bytes, &e))?;
    Ok((value, duplicates.into_inner()))
}

/// Go's message for text that is no JSON.
fn in_gos_words(bytes: &[u8], error: &serde_json::Error) -> CodecError {
    let text = error.to_string();
    if error.is_eof() {
        return CodecError::Json("unexpected end of JSON input".into());
    }
    let place = [
        ("trailing characters", "after top-level value"),
        ("expected `:`", "after object key"),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
        ("key must be a string", "looking for beginning of object key string"),
        ("trailing comma", "looking for beginning of object key string"),
        ("expected value", "looking for beginning of value"),
        ("control character", "in string literal"),
        ("invalid escape", "in string escape code"),
        ("invalid number", "in numeric literal"),
    ];
    let place = place
        .iter()
        .find(|(ours, _)| text.starts_with(ours))
        .map(|(_, gos)| gos);
    // Lines and columns count from one; a column is the bytes read of its line.
    let line = bytes.split(|b| *b == b'\n').nth(error.line().saturating_sub(1));
    let at = line.and_then(|line| {
        String::from_utf8_lossy(line.get(error.column().saturating_sub(1)..)?)
            .chars()
            .next()
    });
    CodecError::Json(match (place, at) {
        (Some(place), Some(at)) => format!("invalid character {at:?} {place}"),
        _ if text.starts_with("recursion limit") => "exceeded max depth".into(),
        _ => text,
    })
}

/// Paths of the fields as they stand in the text, up to a bound: what is reported
/// about them follows this order.
pub fn field_order(bytes: &[u8]) -> Vec<String> {
    let (duplicates, order) = (RefCell::default(), RefCell::default());
    let seed = Node {
        at: Path::Root,
        duplicates: &duplicates,
        order: Some(&order),
    };
    // The text was read once already; where it cannot be read again the order is what came so far.
    let _ = seed.deserialize(&mut serde_json::Deserializer::from_slice(bytes));
    order.into_inner()
}

/// Compact JSON.
pub fn encode_json(value: &Value) -> Vec<u8> {
    // A Value's keys are strings and its numbers finite: nothing in it can fail to be written.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Where the reader is; lives on the stack and becomes text only for a duplicate.
pub(super) enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Key(Path::Root, key) => f.write_str(key),
            Path::Key(parent, key) => write!(f, "{parent}.{key}"),
            Path::Index(parent, i) => write!(f, "{parent}[{i}]"),
        }
    }
}

pub(super) struct Node<'a> {
    pub at: Path<'a>,
    pub duplicates: &'a RefCell<Vec<String>>,
    /// Every field's path is noted here.
    pub order: Option<&'a RefCell<Vec<String>>>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number is not finite"))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_string()))
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let seed = Node {
                at: Path::Index(&self.at, list.len()),
                duplicates: self.duplicates,
                order: self.order,
            };
            match items.next_element_seed(seed)? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let at = Path::Key(&self.at, &key);
            if let Some(mut order) = self.order.map(RefCell::borrow_mut)
                && order.len() < MAX_ORDERED
            {
                order.push(at.to_string());
            }
            if map.contains_key(&key) {
                let mut duplicates = self.duplicates.borrow_mut();
                if duplicates.len() < MAX_DUPLICATES {
                    duplicates.push(at.to_string());
                }
            }
            let value = entries.next_value_seed(Node {
                at,
                duplicates: self.duplicates,
                order: self.order,
            })?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
