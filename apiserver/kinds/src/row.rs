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
