//! JSON text to protobuf without a tree between: what is answered a thousand times
//! from stored bytes. The same message as [`super::encode_proto_bare`] makes of the
//! parsed text, but for the order of its fields, which protobuf leaves open.
//!
//! Texts, structs, lists and maps are written as they are read. Other leaves
//! (quantities, times, ...) are small and go through the tree's encoder.

use super::encode;
use super::wire::{put_bytes, put_message};
use super::{CodecError, MAX_DEPTH};
use crate::Value;
use crate::schema::{Field, Kind, Shape, Type};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Appends the message of a JSON object of this type. What is no object is refused.
pub fn transcode_proto(ty: &Type, json: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let message = Message { ty, out, depth: 0 };
    reader
        .deserialize_map(message)
        .and_then(|()| reader.end())
        .map_err(|error| CodecError::Json(error.to_string()))
}

/// A struct's members, into the message that is being written.
struct Message<'a> {
    ty: &'a Type,
    out: &'a mut Vec<u8>,
    depth: usize,
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        if self.depth >= MAX_DEPTH {
            return Err(A::Error::custom(CodecError::TooDeep(MAX_DEPTH)));
        }
        // Messages that JSON flattens into this one, by their path.
        let mut nested: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        while let Some(Text(key)) = members.next_key()? {
            let field = self.ty.field(&key).filter(|field| !field.path().is_empty());
            let Some((field, (number, outer))) = field.and_then(|f| Some((f, f.path().split_last()?))) else {
                members.next_value::<IgnoredAny>()?;
                continue;
            };
            let out = if outer.is_empty() {
                &mut *self.out
            } else {
                let at = nested.iter().position(|(path, _)| path == outer).unwrap_or_else(|| {
                    nested.push((outer.to_vec(), Vec::new()));
                    nested.len() - 1
                });
                &mut nested[at].1
            };
            let depth = self.depth;
            members.next_value_seed(Member {
                field,
                number: *number,
                out,
                depth,
            })?;
        }
        fold(nested, self.out);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Writes the flattened messages, the innermost into those around them first.
fn fold(mut nested: Vec<(Vec<u8>, Vec<u8>)>, out: &mut Vec<u8>) {
    while let Some(deepest) = (0..nested.len()).max_by_key(|at| nested[*at].0.len()) {
        let (path, message) = nested.swap_remove(deepest);
        let Some((number, outer)) = path.split_last() else {
            continue;
        };
        if outer.is_empty() {
            put_bytes(out, *number, &message);
            continue;
        }
        match nested.iter_mut().find(|(path, _)| path == outer) {
            Some((_, around)) => put_bytes(around, *number, &message),
            None => {
                let mut around = Vec::new();
                put_bytes(&mut around, *number, &message);
                nested.push((outer.to_vec(), around));
            }
        }
    }
}

/// The value of one member.
struct Member<'a> {
    field: &'a Field,
    number: u8,
    out: &'a mut Vec<u8>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        match self.field.shape {
            // A member that is null is none.
            Shape::One => reader.deserialize_option(self),
            _ => reader.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or a map")
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        one(self.out, self.number, &self.field.kind, self.depth).deserialize(reader)
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items
            .next_element_seed(one(self.out, self.number, &self.field.kind, self.depth))?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let (kind, depth) = (&self.field.kind, self.depth);
        while let Some(Text(key)) = entries.next_key()? {
            put_message(self.out, self.number, |out| {
                put_bytes(out, 1, key.as_bytes());
                match self.field.shape {
                    Shape::MapOfList => put_message(out, 2, |out| entries.next_value_seed(Items { out, kind, depth })),
                    _ => entries.next_value_seed(one(out, 2, kind, depth)),
                }
            })?;
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The list behind a key of a map of lists.
struct Items<'a> {
    out: &'a mut Vec<u8>,
    kind: &'a Kind,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items
            .next_element_seed(one(self.out, 1, self.kind, self.depth))?
            .is_some()
        {}
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

fn one<'a>(out: &'a mut Vec<u8>, number: u8, kind: &'a Kind, depth: usize) -> One<'a> {
    One {
        out,
        number,
        kind,
        depth,
    }
}

/// One value: a member, an element, or what a key stands for.
struct One<'a> {
    out: &'a mut Vec<u8>,
    number: u8,
    kind: &'a Kind,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        use serde::Deserialize;
        match self.kind {
            Kind::String => reader.deserialize_any(self),
            Kind::Object(_) | Kind::Owned(_) => match self.kind.as_type() {
                Some(ty) => {
                    let (out, depth) = (self.out, self.depth + 1);
                    put_message(out, self.number, |out| {
                        reader.deserialize_any(Message { ty, out, depth })
                    })
                }
                None => IgnoredAny::deserialize(reader).map(|_| ()),
            },
            // The stored text is compact already: it is what the tree would give.
            Kind::RawExtension | Kind::Json | Kind::FieldsV1 => {
                let raw = <&RawValue>::deserialize(reader)?;
                if raw.get() == "null" {
                    return Ok(());
                }
                put_message(self.out, self.number, |out| {
                    put_bytes(out, 1, raw.get().as_bytes());
                    Ok(())
                })
            }
            _ => match Value::deserialize(reader)? {
                Value::Null => Ok(()),
                value => encode::one(self.out, self.number, self.kind, &value, self.depth).map_err(D::Error::custom),
            },
        }
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        put_bytes(self.out, self.number, text.as_bytes());
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A key, borrowed from the text where it holds no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_string())))
            }
        }
        reader.deserialize_str(Keys)
    }
}
