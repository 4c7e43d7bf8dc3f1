//! What server-side apply makes of a field: a leaf that is owned as a whole, or
//! something whose parts are owned one by one. Also the names of list items.
//! Source: <https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy>.

use crate::Value;
use crate::schema::{Field, Kind, ListType, Name, Shape, Type};
use std::fmt::Write;

/// How a value is owned and merged.
#[derive(Clone, Copy)]
pub(super) enum Node<'a> {
    /// Scalars and whatever is atomic.
    Leaf,
    Struct(&'a Type),
    /// A granular map; the field says what its values are.
    Map(&'a Field),
    /// A list that is a set, or is keyed.
    List(&'a Field),
    /// JSON of no known type: objects are granular, all else is a leaf.
    Deduced,
}

/// The node of a member of an object, and whether the type names it.
pub(super) struct Member<'a> {
    pub node: Node<'a>,
    pub field: Option<&'a Field>,
}

impl<'a> Node<'a> {
    pub fn of(field: &'a Field) -> Self {
        match field.shape {
            Shape::One => Self::of_kind(&field.kind, field.atomic),
            Shape::Map | Shape::MapOfList if field.atomic => Self::Leaf,
            Shape::Map | Shape::MapOfList => Self::Map(field),
            Shape::List => match field.list {
                ListType::Set | ListType::Map => Self::List(field),
                ListType::Unset if field.patch.merge => Self::List(field),
                ListType::Unset | ListType::Atomic => Self::Leaf,
            },
        }
    }

    fn of_kind(kind: &'a Kind, atomic: bool) -> Self {
        match kind {
            Kind::RawExtension | Kind::FieldsV1 if !atomic => Self::Deduced,
            _ => match kind.as_type() {
                Some(ty) if !atomic && !ty.atomic => Self::Struct(ty),
                _ => Self::Leaf,
            },
        }
    }

    /// Of the values of a map, or the items of a list.
    pub fn of_element(field: &'a Field) -> Self {
        match field.shape {
            Shape::MapOfList => Self::Leaf,
            _ => Self::of_kind(&field.kind, false),
        }
    }

    pub fn member(self, name: &str) -> Member<'a> {
        match self {
            Self::Struct(ty) => match ty.field(name) {
                Some(field) => Member {
                    node: Self::of(field),
                    field: Some(field),
                },
                None => Member {
                    node: Self::Deduced,
                    field: None,
                },
            },
            Self::Map(field) => Member {
                node: Self::of_element(field),
                field: None,
            },
            _ => Member {
                node: Self::Deduced,
                field: None,
            },
        }
    }

    /// The node behind a path element of a set.
    pub fn element(self, element: &str) -> Node<'a> {
        match (self, element.strip_prefix("f:")) {
            (_, Some(name)) => self.member(name).node,
            (Self::List(field), None) => Self::of_element(field),
            _ => Self::Leaf,
        }
    }
}

/// What Go's JSON shows for a required member that is not set counts as there.
pub(super) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}

pub(super) fn same_leaf(a: &Value, b: &Value) -> bool {
    a == b || (a.is_null() && is_zero(b)) || (b.is_null() && is_zero(a))
}

/// The keys of a list; none for a set.
pub(super) fn keys_of(field: &Field) -> &[Name] {
    match (&field.list, &field.merge_key) {
        (ListType::Map, _) => &field.keys,
        (ListType::Unset, Some(key)) => std::slice::from_ref(key),
        _ => &[],
    }
}

fn key_value<'a>(field: &'a Field, key: &str, item: &'a Value) -> Option<&'a Value> {
    item.get(key)
        .filter(|v| !v.is_null())
        .or_else(|| field.as_type()?.field(key)?.default.as_ref())
}

/// The path element of an item: `k:{"name":"web"}`, `v:"a"`; `None` for an item that
/// such a list cannot hold.
pub(super) fn item_element(field: &Field, item: &Value) -> Option<String> {
    let keys = keys_of(field);
    if keys.is_empty() {
        return match item {
            Value::Null | Value::Array(_) | Value::Object(_) => None,
            scalar => Some(format!("v:{scalar}")),
        };
    }
    let mut names: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
    names.sort_unstable();
    let mut text = String::with_capacity(32);
    for name in names {
        if let Some(value) = key_value(field, name, item) {
            let comma = if text.is_empty() { "k:{" } else { "," };
            write!(text, "{comma}\"{name}\":{value}").expect("writing to a string does not fail");
        }
    }
    if text.is_empty() {
        return None;
    }
    text.push('}');
    Some(text)
}

/// Whether two items have the same path element, told without writing it.
pub(super) fn same_item(field: &Field, a: &Value, b: &Value) -> bool {
    let keys = keys_of(field);
    if keys.is_empty() {
        return a == b;
    }
    keys.iter()
        .all(|key| key_value(field, key, a) == key_value(field, key, b))
}

/// A path as upstream prints it: `.spec.containers[name="web"].image`.
pub(super) fn path_text(path: &[&str]) -> String {
    let mut text = String::new();
    for element in path {
        let (kind, rest) = element.split_once(':').unwrap_or(("", element));
        match kind {
            "f" => {
                text.push('.');
                text.push_str(rest);
            }
            "k" => {
                let keys: serde_json::Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
                let pairs: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                text.push_str(&format!("[{}]", pairs.join(",")));
            }
            "v" => text.push_str(&format!("[={rest}]")),
            _ => text.push_str(&format!("[{rest}]")),
        }
    }
    text
}
