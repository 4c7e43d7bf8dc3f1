//! Building blocks of a row: verb sets, the usual subresources, columns.

use crate::contract::{Column, Subresource};

pub(crate) const ALL: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
/// Namespaces cannot be deleted as a collection.
pub(crate) const NO_COLLECTION: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
pub(crate) const CREATE: &[&str] = &["create"];
pub(crate) const GET_PATCH_UPDATE: &[&str] = &["get", "patch", "update"];
pub(crate) const CONNECT: &[&str] = &["create", "get"];
pub(crate) const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

pub(crate) const fn sub(
    name: &'static str,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
) -> Subresource {
    Subresource {
        name,
        group,
        version,
        kind,
        verbs,
    }
}

pub(crate) const fn status(group: &'static str, version: &'static str, kind: &'static str) -> Subresource {
    sub("status", group, version, kind, GET_PATCH_UPDATE)
}

pub(crate) const SCALE: Subresource = sub("scale", "autoscaling", "v1", "Scale", GET_PATCH_UPDATE);

/// A row with the usual verbs, no subresources and the default columns; what
/// differs is overridden with struct-update syntax.
macro_rules! kind {
    ($group:expr, $versions:expr, $kind:literal, $plural:literal, $singular:literal, $namespaced:expr) => {
        $crate::contract::Kind {
            group: $group,
            versions: $versions,
            storage_version: $versions[0],
            kind: $kind,
            list_kind: concat!($kind, "List"),
            plural: $plural,
            singular: $singular,
            short_names: &[],
            categories: &[],
            namespaced: $namespaced,
            verbs: $crate::row::ALL,
            subresources: &[],
            columns: $crate::row::DEFAULT_COLUMNS,
            strategy: &$crate::rules::PLAIN,
            storage: ($group, $plural),
            custom: None,
        }
    };
}
pub(crate) use kind;

pub(crate) const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "Name of the object, unique among its kind within a namespace.",
    priority: 0,
};
pub(crate) const AGE: Column = Column {
    name: "Age",
    kind: "string",
    format: "",
    description: "Time since the object was created.",
    priority: 0,
};

pub(crate) const DEFAULT_COLUMNS: &[Column] = &[
    NAME,
    Column {
        name: "Created At",
        kind: "date",
        format: "",
        description: "When the object was created.",
        priority: 0,
    },
];

/// A text column.
pub(crate) const fn text(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        description,
        priority: 0,
    }
}

/// A text column that only `-o wide` shows.
pub(crate) const fn wide(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        description,
        priority: 1,
    }
}

pub(crate) const fn integer(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        kind: "integer",
        format: "",
        description,
        priority: 0,
    }
}

pub(crate) const fn boolean(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        kind: "boolean",
        format: "",
        description,
        priority: 0,
    }
}

/// The cells that most rows are made of.
pub(crate) mod cell {
    use crate::tree::Tree;
    use jiff::Timestamp;
    use serde_json::Value;

    pub(crate) fn name(object: &Value) -> Value {
        object.at("metadata.name").clone()
    }

    pub(crate) fn age(object: &Value, now: Timestamp) -> Value {
        crate::age::age(object.at("metadata.creationTimestamp"), now).into()
    }

    pub(crate) fn since(object: &Value, path: &str, now: Timestamp) -> Value {
        crate::age::age(object.at(path), now).into()
    }

    /// A number, zero where it is absent.
    pub(crate) fn number(object: &Value, path: &str) -> Value {
        object.int(path).unwrap_or(0).into()
    }

    pub(crate) fn text(object: &Value, path: &str) -> Value {
        object.text(path).into()
    }

    pub(crate) fn text_or(object: &Value, path: &str, otherwise: &str) -> Value {
        match object.text(path) {
            "" => otherwise.into(),
            text => text.into(),
        }
    }

    /// How many items a list or map has.
    pub(crate) fn count(object: &Value, path: &str) -> Value {
        match object.at(path) {
            Value::Array(a) => a.len().into(),
            Value::Object(o) => o.len().into(),
            _ => 0.into(),
        }
    }

    /// Go's way to print a truth value in a cell.
    pub(crate) fn truth(value: &Value) -> Value {
        match value.as_bool() {
            Some(true) => "True".into(),
            Some(false) => "False".into(),
            None => "<unset>".into(),
        }
    }

    /// Names and images of the containers of a pod spec.
    pub(crate) fn containers(spec: &Value) -> (Value, Value) {
        let join = |key: &str| {
            spec.items("containers")
                .iter()
                .map(|c| c.text(key))
                .collect::<Vec<_>>()
                .join(",")
        };
        (join("name").into(), join("image").into())
    }

    pub(crate) fn int_or_text(value: &Value, otherwise: &str) -> Value {
        match value {
            Value::Number(n) => n.to_string().into(),
            Value::String(s) => s.as_str().into(),
            _ => otherwise.into(),
        }
    }

    /// Joined, or `<none>`.
    pub(crate) fn joined(parts: &[&str]) -> Value {
        if parts.is_empty() {
            "<none>".into()
        } else {
            parts.join(",").into()
        }
    }
}
