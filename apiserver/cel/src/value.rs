//! Values while evaluating. JSON stays where it is: a value of an object is a
//! reference into it together with its declared type, and is looked at one field at
//! a time.

use crate::authorizer::Authz;
use crate::decl::{DeclType, ListSemantics, ObjectType, Shape};
use crate::error::EvalError;
use crate::functions::format::NamedFormat;
use crate::functions::ip::Cidr;
use crate::functions::url::Url;
use crate::types::Type;
use base64::Engine as _;
use jiff::Timestamp;
use serde_json::Value as Json;
use skiff_api::quantity::Quantity;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

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
    Timestamp(Timestamp),
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
}

/// Numbers that are equal are the same key, whatever their type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Bool(bool),
    Number(i128),
    String(String),
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
            Self::List(list) => Json::Array(list.iter().map(|item| item.to_json()).collect::<Result<_, _>>()?),
            Self::Map(Map::Json(fields, _)) => Json::Object((*fields).clone()),
            Self::Map(map) => {
                let mut fields = serde_json::Map::new();
                for (key, value) in map.iter() {
                    let Some(key) = key.as_str() else {
                        return Err(EvalError::failed("only maps with string keys have a JSON form"));
                    };
                    fields.insert(key.to_string(), value.to_json()?);
                }
                Json::Object(fields)
            }
            Self::Struct(made) => {
                let fields = made
                    .fields
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), value.to_json()?)));
                Json::Object(fields.collect::<Result<_, EvalError>>()?)
            }
            Self::Optional(Some(value)) => value.to_json()?,
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
        Some(Shape::Scalar(Type::Timestamp)) => skiff_api::time::parse(text)
            .or_else(|| skiff_api::time::parse(&format!("{text}T00:00:00Z")))
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

    /// The fields of an object with a declared type.
    fn as_object(&self) -> Option<(&'a serde_json::Map<String, Json>, &'a ObjectType)> {
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
    fn get(&self, key: &Value<'_>) -> Option<Value<'a>> {
        let at = self.index.get(&key_of(key)?)?;
        Some(self.entries[*at].1.clone())
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

/// `==`. Values of different types differ; numbers compare across their types.
pub(crate) fn equal(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::String(a), Value::String(b)) => a.as_str() == b.as_str(),
        (Value::List(a), Value::List(b)) => equal_lists(a, b),
        (Value::Map(a), Value::Map(b)) => equal_maps(a, b),
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => equal(a, b),
            (None, None) => true,
            _ => false,
        },
        (Value::Type(a), Value::Type(b)) => a.runtime_name() == b.runtime_name(),
        (Value::Struct(a), Value::Struct(b)) => {
            a.object.name() == b.object.name()
                && a.fields.len() == b.fields.len()
                && a.fields
                    .iter()
                    .all(|(name, value)| b.fields.get(name).is_some_and(|other| equal(value, other)))
        }
        (Value::Opaque(a), Value::Opaque(b)) => equal_opaque(a, b),
        _ => compare(a, b) == Some(Ordering::Equal),
    }
}

fn equal_lists(a: &List<'_>, b: &List<'_>) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match a.semantics() {
        Some(ListSemantics::Set) => {
            let (a, b) = (sorted(a), sorted(b));
            match (a, b) {
                (Some(a), Some(b)) => a.iter().zip(&b).all(|(a, b)| equal(a, b)),
                _ => false,
            }
        }
        Some(ListSemantics::Map(keys)) => {
            let Some(by_key) = crate::functions::lists::by_keys(b, keys) else {
                return false;
            };
            a.iter().all(|item| {
                crate::functions::lists::item_key(&item, keys)
                    .and_then(|key| by_key.get(&key).and_then(|at| b.get(*at)))
                    .is_some_and(|other| equal(&item, &other))
            })
        }
        _ => a.iter().zip(b.iter()).all(|(a, b)| equal(&a, &b)),
    }
}

/// Sets hold scalars mostly; others have no order and are left as they stand.
fn sorted<'a>(list: &List<'a>) -> Option<Vec<Value<'a>>> {
    let mut items: Vec<Value<'a>> = list.iter().collect();
    items.sort_by(|a, b| {
        compare(a, b).unwrap_or_else(|| {
            let text = |value: &Value<'_>| value.to_json().map(|json| json.to_string()).unwrap_or_default();
            text(a).cmp(&text(b))
        })
    });
    Some(items)
}

fn equal_maps(a: &Map<'_>, b: &Map<'_>) -> bool {
    if a.len() != b.len() {
        return false;
    }
    // Of objects, what their schema does not know counts too.
    if let (Some(a), Some(b)) = (a.as_object(), b.as_object()) {
        return a.0.iter().all(|(name, value)| {
            let (ours, theirs) = (a.1.by_json_name(name), b.1.by_json_name(name));
            b.0.get(name)
                .is_some_and(|other| equal(&Value::of_json(value, ours), &Value::of_json(other, theirs)))
        });
    }
    a.iter().all(|(key, value)| {
        let found = match &key {
            Value::String(text) => b.field(text.as_str()),
            key => match b {
                Map::Owned(map) => map.get(key),
                Map::Json(..) => None,
            },
        };
        found.is_some_and(|other| equal(&value, &other))
    })
}

fn equal_opaque(a: &Opaque<'_>, b: &Opaque<'_>) -> bool {
    match (a, b) {
        (Opaque::Url(a), Opaque::Url(b)) => a == b,
        (Opaque::Ip(a), Opaque::Ip(b)) => a == b,
        (Opaque::Cidr(a), Opaque::Cidr(b)) => a == b,
        (Opaque::Quantity(a), Opaque::Quantity(b)) => a == b,
        (Opaque::Semver(a), Opaque::Semver(b)) => a.cmp_precedence(b) == Ordering::Equal,
        (Opaque::Format(a), Opaque::Format(b)) => a.name == b.name,
        (Opaque::Authz(a), Opaque::Authz(b)) => a == b,
        _ => false,
    }
}

/// The order of two values; `None` where they have none.
pub(crate) fn compare(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    use Value::{Bool, Bytes, Double, Duration, Int, String, Timestamp, Uint};
    match (a, b) {
        (Int(a), Int(b)) => Some(a.cmp(b)),
        (Uint(a), Uint(b)) => Some(a.cmp(b)),
        (Int(a), Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Uint(a), Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Double(a), Double(b)) => a.partial_cmp(b),
        (Int(a), Double(b)) => compare_whole(i128::from(*a), *b),
        (Uint(a), Double(b)) => compare_whole(i128::from(*a), *b),
        (Double(a), Int(b)) => compare_whole(i128::from(*b), *a).map(Ordering::reverse),
        (Double(a), Uint(b)) => compare_whole(i128::from(*b), *a).map(Ordering::reverse),
        (Bool(a), Bool(b)) => Some(a.cmp(b)),
        (String(a), String(b)) => Some(a.as_str().cmp(b.as_str())),
        (Bytes(a), Bytes(b)) => Some(a.cmp(b)),
        (Timestamp(a), Timestamp(b)) => Some(a.cmp(b)),
        (Duration(a), Duration(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn compare_whole(a: i128, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        return None;
    }
    if b.abs() >= 1e30 {
        return Some(if b > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let whole = b.trunc();
    // Exact: both fit an i128, and what was cut off decides between equals.
    Some(
        a.cmp(&(whole as i128))
            .then_with(|| 0.0f64.partial_cmp(&(b - whole)).unwrap_or(Ordering::Equal)),
    )
}
