//! Lists and maps while evaluating: views into JSON with its declared type, or made by
//! the expression.

use crate::decl::{DeclType, ListSemantics, ObjectType, Shape};
use crate::error::EvalError;
use crate::value::{Text, Value, shown};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug, Clone)]
pub enum List<'a> {
    Json(&'a [Json], Option<&'a DeclType>),
    Owned(Arc<Vec<Value<'a>>>, Option<&'a ListSemantics>),
}

#[derive(Debug, Clone)]
pub enum Map<'a> {
    Json(&'a serde_json::Map<String, Json>, Option<&'a DeclType>),
    Owned(Arc<OwnedMap<'a>>),
}

/// A map made by an expression, in the order of insertion.
#[derive(Debug, Clone, Default)]
pub struct OwnedMap<'a> {
    entries: Vec<(Value<'a>, Value<'a>)>,
    index: HashMap<Key, usize>,
    /// What a text that is no key stands for, where it is looked up.
    absent: Option<Value<'a>>,
}

/// Numbers that are equal are the same key, whatever their type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Bool(bool),
    Number(i128),
    String(String),
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            Self::Json(items, _) => items.len(),
            Self::Owned(items, _) => items.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, at: usize) -> Option<Value<'a>> {
        match self {
            Self::Json(items, decl) => items
                .get(at)
                .map(|item| Value::of_json(item, decl.and_then(DeclType::items))),
            Self::Owned(items, _) => items.get(at).cloned(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    pub(crate) fn semantics(&self) -> Option<&'a ListSemantics> {
        match self {
            Self::Json(_, decl) => match decl.map(|decl| &decl.shape) {
                Some(Shape::List { semantics, .. }) => Some(semantics),
                _ => None,
            },
            Self::Owned(_, semantics) => *semantics,
        }
    }
}

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Self::Json(fields, _) => fields.len(),
            Self::Owned(map) => map.entries.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// By the name of a field as expressions write it, or by the key of a map.
    pub fn field(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Self::Json(fields, None) => fields.get(name).map(|value| Value::of_json(value, None)),
            Self::Json(fields, Some(decl)) => match &decl.shape {
                Shape::Object(object) => {
                    let field = object.own_field(name)?;
                    // A field that is null counts as absent; items and entries do not.
                    let value = fields.get(&field.name).filter(|value| !value.is_null())?;
                    Some(Value::of_json(value, Some(&field.decl)))
                }
                _ => fields.get(name).map(|value| Value::of_json(value, decl.items())),
            },
            Self::Owned(map) => map.get(&Value::String(Text::Borrowed(name))),
        }
    }

    /// By key. A key that cannot be one is an error.
    pub fn get(&self, key: &Value<'a>) -> Result<Option<Value<'a>>, EvalError> {
        match (self, key) {
            (_, Value::String(text)) => Ok(self.field(text.as_str())),
            (Self::Owned(map), Value::Bool(_) | Value::Int(_) | Value::Uint(_)) => Ok(map.get(key)),
            // Numbers compare across types; one with a fraction is no key.
            (Self::Owned(map), Value::Double(_)) => Ok(map.get(key)),
            (Self::Json(..), Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_)) => Ok(None),
            _ => Err(EvalError::failed(format!(
                "unsupported key type: {}",
                key.type_of().runtime_name()
            ))),
        }
    }

    /// Whether there is such a key, whatever looking it up gives.
    pub(crate) fn contains(&self, key: &Value<'a>) -> Result<bool, EvalError> {
        match (self, key) {
            (Self::Owned(map), Value::String(_)) => Ok(map.find(key).is_some()),
            _ => Ok(self.get(key)?.is_some()),
        }
    }

    /// The fields of an object with a declared type.
    pub(crate) fn as_object(&self) -> Option<(&'a serde_json::Map<String, Json>, &'a ObjectType)> {
        match self {
            Self::Json(fields, Some(decl)) => match &decl.shape {
                Shape::Object(object) => Some((fields, object)),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn iter(&self) -> Box<dyn Iterator<Item = (Value<'a>, Value<'a>)> + '_> {
        match self {
            Self::Json(fields, None) => Box::new(
                fields
                    .iter()
                    .map(|(key, value)| (Value::from(key.as_str()), Value::of_json(value, None))),
            ),
            Self::Json(fields, Some(decl)) => match &decl.shape {
                Shape::Object(object) => {
                    let object: &'a ObjectType = object;
                    let known = object.own_fields().iter();
                    Box::new(known.filter_map(|(name, field)| {
                        let value = fields.get(&field.name)?;
                        Some((Value::from(name.as_str()), Value::of_json(value, Some(&field.decl))))
                    }))
                }
                _ => {
                    let items = decl.items();
                    Box::new(
                        fields
                            .iter()
                            .map(move |(key, value)| (Value::from(key.as_str()), Value::of_json(value, items))),
                    )
                }
            },
            Self::Owned(map) => Box::new(map.entries.iter().cloned()),
        }
    }
}

impl<'a> OwnedMap<'a> {
    /// An empty one, whose other texts stand for this.
    pub(crate) fn or_else(absent: Value<'a>) -> Self {
        Self {
            absent: Some(absent),
            ..Self::default()
        }
    }

    fn find(&self, key: &Value<'_>) -> Option<Value<'a>> {
        let at = self.index.get(&key_of(key)?)?;
        Some(self.entries[*at].1.clone())
    }

    fn get(&self, key: &Value<'_>) -> Option<Value<'a>> {
        let absent = || self.absent.clone().filter(|_| matches!(key, Value::String(_)));
        self.find(key).or_else(absent)
    }

    pub fn insert(&mut self, key: Value<'a>, value: Value<'a>) -> Result<(), EvalError> {
        let Some(index) = key_of(&key) else {
            return Err(EvalError::failed(format!(
                "unsupported key type: {}",
                key.type_of().runtime_name()
            )));
        };
        if self.index.contains_key(&index) {
            return Err(EvalError::failed(format!(
                "insert failed: key {} already exists",
                shown(&key)
            )));
        }
        self.index.insert(index, self.entries.len());
        self.entries.push((key, value));
        Ok(())
    }
}

fn key_of(key: &Value<'_>) -> Option<Key> {
    Some(match key {
        Value::Bool(value) => Key::Bool(*value),
        Value::Int(value) => Key::Number(i128::from(*value)),
        Value::Uint(value) => Key::Number(i128::from(*value)),
        Value::Double(value) if value.fract() == 0.0 && value.abs() < 1e20 => Key::Number(*value as i128),
        Value::String(text) => Key::String(text.as_str().to_string()),
        _ => return None,
    })
}
