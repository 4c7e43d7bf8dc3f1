//! Values while evaluating. JSON stays where it is: a value of an object is a
//! reference into it together with its declared type, and is looked at one field at
//! a time.

use crate::authorizer::Authz;
use crate::containers::{List, Map};
use crate::decl::{DeclType, ObjectType, Shape};
use crate::error::EvalError;
use crate::functions::format::NamedFormat;
use crate::functions::ip::Cidr;
use crate::functions::url::Url;
use crate::instant::Instant;
use crate::types::Type;
use base64::Engine as _;
use serde_json::Value as Json;
use skiff_api::quantity::Quantity;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// As many values within values as become JSON: an expression may repeat a big one.
const JSON_VALUES_MAX: usize = 1_000_000;

/// A value; cheap to clone. `'a` is the life of the data it looks into.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    Timestamp(Instant),
    /// Nanoseconds.
    Duration(i64),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Arc<Value<'a>>>),
    Type(Arc<Type>),
    Struct(Arc<Struct<'a>>),
    /// Kubernetes' own types.
    Opaque(Opaque<'a>),
    /// The lazily evaluated variables of a policy.
    Variables,
}

#[derive(Debug, Clone)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

/// An object made by an expression: `Object{...}`.
#[derive(Debug)]
pub struct Struct<'a> {
    pub object: Arc<ObjectType>,
    /// By JSON name.
    pub fields: BTreeMap<String, Value<'a>>,
}

#[derive(Debug, Clone)]
pub enum Opaque<'a> {
    Url(Arc<Url>),
    Ip(IpAddr),
    Cidr(Cidr),
    Quantity(Arc<Quantity>),
    Semver(Arc<semver::Version>),
    Format(&'static NamedFormat),
    Authz(Arc<Authz<'a>>),
}

impl Text<'_> {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl<'a> Value<'a> {
    /// Looks at `json`, as its declared type says to read it: without one, numbers are
    /// `int` or `double` and text stays text.
    pub fn of_json(json: &'a Json, decl: Option<&'a DeclType>) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => number_value(number, decl),
            Json::String(text) => text_value(text, decl),
            Json::Array(items) => Self::List(List::Json(items, decl)),
            Json::Object(fields) => Self::Map(Map::Json(fields, decl)),
        }
    }

    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Self::String(Text::Shared(text.into()))
    }

    pub fn list(items: Vec<Value<'a>>) -> Self {
        Self::List(List::Owned(Arc::new(items), None))
    }

    pub fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    pub fn none() -> Self {
        Self::Optional(None)
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text.as_str()),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// What `type()` gives.
    pub(crate) fn type_of(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Uint(_) => Type::Uint,
            Self::Double(_) => Type::Double,
            Self::String(_) => Type::String,
            Self::Bytes(_) => Type::Bytes,
            Self::Timestamp(_) => Type::Timestamp,
            Self::Duration(_) => Type::Duration,
            Self::List(_) => Type::list(Type::Dyn),
            Self::Map(Map::Json(_, Some(decl))) if matches!(decl.shape, Shape::Object(_)) => decl.cel_type(),
            Self::Map(_) | Self::Variables => Type::map(Type::Dyn, Type::Dyn),
            Self::Optional(_) => Type::optional(Type::Dyn),
            Self::Type(_) => Type::Type(Arc::new(Type::Dyn)),
            Self::Struct(made) => Type::Object(made.object.clone()),
            Self::Opaque(opaque) => Type::Opaque(opaque.type_name()),
        }
    }

    /// Characters, bytes, items or entries; 1 for what has no size.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::String(text) => text.as_str().chars().count() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(list) => list.len() as u64,
            Self::Map(map) => map.len() as u64,
            Self::Opaque(Opaque::Ip(IpAddr::V4(_))) => 4,
            Self::Opaque(Opaque::Ip(IpAddr::V6(_))) => 16,
            Self::Opaque(Opaque::Cidr(cidr)) => u64::from(cidr.prefix).div_ceil(8),
            _ => 1,
        }
    }

    /// Whether every object in the value is of the type that its place says: `Object.spec`
    /// below `spec` of `Object`. Types whose fields are open do not say so themselves.
    pub fn check_places(&self, place: &str) -> Result<(), String> {
        match self {
            Self::Struct(made) if made.object.name() != place => Err(format!(
                "unexpected type name {:?}, expected {place:?}, which matches field name path from root Object type",
                made.object.name()
            )),
            Self::Struct(made) => {
                let mut fields = made.fields.iter();
                fields.try_for_each(|(name, value)| value.check_places(&format!("{place}.{name}")))
            }
            Self::List(list) => list.iter().try_for_each(|item| item.check_places(place)),
            Self::Optional(Some(inner)) => inner.check_places(place),
            _ => Ok(()),
        }
    }

    /// The value as JSON, the way Kubernetes stores it.
    pub fn to_json(&self) -> Result<Json, EvalError> {
        let mut left = JSON_VALUES_MAX;
        self.write_json(&mut left)
    }

    fn write_json(&self, left: &mut usize) -> Result<Json, EvalError> {
        *left = left
            .checked_sub(1)
            .ok_or_else(|| EvalError::failed("the value is too big"))?;
        Ok(match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Int(value) => Json::from(*value),
            Self::Uint(value) => Json::from(*value),
            Self::Double(value) => serde_json::Number::from_f64(*value)
                .map(Json::Number)
                .ok_or_else(|| EvalError::failed("a number that is not finite has no JSON form"))?,
            Self::String(text) => Json::from(text.as_str()),
            Self::Bytes(bytes) => Json::from(base64::engine::general_purpose::STANDARD.encode(bytes)),
            Self::Timestamp(at) => Json::from(at.to_string()),
            Self::Duration(nanos) => Json::from(crate::functions::convert::duration_text(*nanos)),
            Self::List(list) => Json::Array(
                list.iter()
                    .map(|item| item.write_json(left))
                    .collect::<Result<_, _>>()?,
            ),
            Self::Map(Map::Json(fields, _)) => Json::Object((*fields).clone()),
            Self::Map(map) => {
                let mut fields = serde_json::Map::new();
                for (key, value) in map.iter() {
                    let Some(key) = key.as_str() else {
                        return Err(EvalError::failed("only maps with string keys have a JSON form"));
                    };
                    fields.insert(key.to_string(), value.write_json(left)?);
                }
                Json::Object(fields)
            }
            Self::Struct(made) => {
                let fields = made
                    .fields
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), value.write_json(left)?)));
                Json::Object(fields.collect::<Result<_, EvalError>>()?)
            }
            Self::Optional(Some(value)) => value.write_json(left)?,
            Self::Optional(None) => Json::Null,
            Self::Opaque(Opaque::Quantity(quantity)) => Json::from(quantity.to_string()),
            other => {
                return Err(EvalError::failed(format!(
                    "a value of type '{}' has no JSON form",
                    other.type_of().runtime_name()
                )));
            }
        })
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(Text::Borrowed(text))
    }
}

fn number_value<'a>(number: &'a serde_json::Number, decl: Option<&DeclType>) -> Value<'a> {
    let double = || Value::Double(number.as_f64().unwrap_or(f64::NAN));
    match (decl.map(|decl| &decl.shape), number.as_i64()) {
        (Some(Shape::Scalar(Type::Double)), _) => double(),
        (_, Some(value)) => Value::Int(value),
        // `3.0` for an integer.
        (Some(Shape::Scalar(Type::Int)), None) => match number.as_f64() {
            Some(value) if value.fract() == 0.0 && value.abs() < 9.0e18 => Value::Int(value as i64),
            _ => double(),
        },
        _ => double(),
    }
}

fn text_value<'a>(text: &'a str, decl: Option<&DeclType>) -> Value<'a> {
    let read = match decl.map(|decl| &decl.shape) {
        Some(Shape::Scalar(Type::Timestamp)) => Instant::parse(text)
            .or_else(|| Instant::parse(&format!("{text}T00:00:00Z")))
            .map(Value::Timestamp),
        Some(Shape::Scalar(Type::Duration)) => skiff_api::duration::parse_go(text).map(Value::Duration),
        Some(Shape::Scalar(Type::Bytes)) => base64::engine::general_purpose::STANDARD
            .decode(text)
            .ok()
            .map(|bytes| Value::Bytes(bytes.into())),
        _ => None,
    };
    read.unwrap_or(Value::String(Text::Borrowed(text)))
}

/// A key or scalar as error messages show it.
pub(crate) fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => crate::functions::convert::double_text(*value),
        Value::String(text) => text.as_str().to_string(),
        other => other.type_of().runtime_name().to_string(),
    }
}

impl Opaque<'_> {
    pub(crate) fn type_name(&self) -> &'static str {
        use crate::types;
        match self {
            Self::Url(_) => types::URL,
            Self::Ip(_) => types::IP,
            Self::Cidr(_) => types::CIDR,
            Self::Quantity(_) => types::QUANTITY,
            Self::Semver(_) => types::SEMVER,
            Self::Format(_) => types::FORMAT,
            Self::Authz(authz) => authz.type_name(),
        }
    }
}
