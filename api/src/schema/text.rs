//! The text format of the descriptors, and its parser.
//!
//! ```text
//! # comment
//! package io.k8s.api.apps.v1 apps/v1     OpenAPI package, then group/version of its kinds
//!
//! kind Deployment                        a struct with apiVersion and kind
//!   metadata meta.ObjectMeta 1           field, type, protobuf number
//! type DeploymentSpec map=atomic         a plain struct; server-side apply replaces it whole
//!   replicas int32? 1 default=1          `?`: a Go pointer, zero is a value
//!   volumes [Volume] 1 list=map(name) patch=merge+retainKeys key=name
//!   emptyDir EmptyDirVolumeSource 2.2    member 2 of the embedded struct that is member 2
//!   rows [TableRow] - req                `-`: not in protobuf; `req`: must be given
//!   rules [PolicyRule] 2 always          need not be given, is written even when zero
//!   policyName string 1 req omit         must be given, is left out when zero
//!   created Time 8 omitzero              a struct in Go that is left out when zero
//! ```
//!
//! Without `always`, `omit` and `omitzero` a member is written when zero if it is `req`;
//! structs of Go (objects, times, quantities, ...) always, unless they are pointers.
//!
//! Types: scalars, the well-known types of [`super::Kind`], a struct of the same
//! package, `meta.X`, `core.v1.X`; `[T]` a list, `map<T>` a map with string keys.
//! A fault in the embedded text is a programming error and panics on first use,
//! which any test does.

use super::{Field, Kind, ListType, META_V1, Name, Shape, Table, Type, TypeId, zero};
use std::collections::HashMap;

const SOURCES: &[&str] = &[
    include_str!("../../descriptors/meta.txt"),
    include_str!("../../descriptors/core.txt"),
    include_str!("../../descriptors/admission.txt"),
    include_str!("../../descriptors/admissionregistration.txt"),
    include_str!("../../descriptors/apidiscovery.txt"),
    include_str!("../../descriptors/apiextensions.txt"),
    include_str!("../../descriptors/apiregistration.txt"),
    include_str!("../../descriptors/apps.txt"),
    include_str!("../../descriptors/authentication.txt"),
    include_str!("../../descriptors/authorization.txt"),
    include_str!("../../descriptors/autoscaling.txt"),
    include_str!("../../descriptors/batch.txt"),
    include_str!("../../descriptors/certificates.txt"),
    include_str!("../../descriptors/coordination.txt"),
    include_str!("../../descriptors/discovery.txt"),
    include_str!("../../descriptors/events.txt"),
    include_str!("../../descriptors/flowcontrol.txt"),
    include_str!("../../descriptors/networking.txt"),
    include_str!("../../descriptors/node.txt"),
    include_str!("../../descriptors/policy.txt"),
    include_str!("../../descriptors/rbac.txt"),
    include_str!("../../descriptors/resource.txt"),
    include_str!("../../descriptors/scheduling.txt"),
    include_str!("../../descriptors/storage.txt"),
];

/// A struct whose field lines are not read yet: names first, so that types may refer to later ones.
struct Raw {
    package: &'static str,
    lines: Vec<&'static str>,
}

pub(super) fn load() -> Table {
    let mut table = Table {
        types: Vec::with_capacity(640),
        by_name: HashMap::with_capacity(640),
        kinds: Vec::new(),
    };
    let mut raws: Vec<Raw> = Vec::with_capacity(640);
    for source in SOURCES {
        let (mut package, mut group, mut version) = ("", "", "");
        for line in source.lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(field) = line.strip_prefix("  ") {
                raws.last_mut().expect("a field follows its type").lines.push(field);
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("package") => {
                    package = words.next().expect("package has a name");
                    (group, version) = super::split_api_version(words.next().expect("package has a group/version"));
                }
                Some(what @ ("type" | "kind")) => {
                    let short = words.next().expect("a type has a name");
                    let id = TypeId(table.types.len() as u16);
                    let name = Name::Owned(format!("{package}.{short}"));
                    table.by_name.insert(name.clone(), id);
                    let is_kind = what == "kind";
                    if is_kind {
                        table.kinds.push(id);
                    }
                    let atomic = words.next() == Some("map=atomic");
                    let ty = Type {
                        name,
                        group: group.into(),
                        version: version.into(),
                        is_kind,
                        atomic,
                        ..Type::default()
                    };
                    table.types.push(ty);
                    raws.push(Raw {
                        package,
                        lines: Vec::new(),
                    });
                }
                other => panic!("descriptor text: unexpected {other:?} in {line:?}"),
            }
        }
    }
    for (i, raw) in raws.into_iter().enumerate() {
        let mut fields: Vec<Field> = Vec::with_capacity(raw.lines.len() + 2);
        if table.types[i].is_kind {
            fields.extend(
                ["apiVersion string -", "kind string -"].map(|line| parse_field(line, raw.package, &table.by_name)),
            );
        }
        fields.extend(
            raw.lines
                .iter()
                .map(|line| parse_field(line, raw.package, &table.by_name)),
        );
        table.types[i].fields = fields;
        table.types[i].index();
    }
    let Table { types, kinds, .. } = &mut table;
    zero::fill(types);
    kinds.sort_by(|a, b| types[usize::from(a.0)].gvk().cmp(&types[usize::from(b.0)].gvk()));
    table
}

fn parse_field(line: &'static str, package: &str, names: &HashMap<Name, TypeId>) -> Field {
    let mut words = line.split_ascii_whitespace();
    let (Some(name), Some(ty), Some(number)) = (words.next(), words.next(), words.next()) else {
        panic!("descriptor text: a field needs a name, a type and a number: {line:?}");
    };
    let (ty, pointer) = ty.strip_suffix('?').map_or((ty, false), |t| (t, true));
    let (shape, element) = match ty.strip_prefix("map<").and_then(|t| t.strip_suffix('>')) {
        Some(inner) => unlist(inner).map_or((Shape::Map, inner), |t| (Shape::MapOfList, t)),
        None => unlist(ty).map_or((Shape::One, ty), |t| (Shape::List, t)),
    };
    let mut path = [0; super::MAX_PATH];
    if number != "-" {
        for (slot, n) in path.iter_mut().zip(number.split('.')) {
            *slot = n
                .parse()
                .unwrap_or_else(|_| panic!("descriptor text: bad number in {line:?}"));
        }
    }
    let mut field = Field {
        name: name.into(),
        shape,
        kind: kind_of(element, package, names),
        pointer,
        path,
        ..Field::default()
    };
    for word in words {
        apply_word(&mut field, word, line);
    }
    field
}

fn apply_word(field: &mut Field, word: &'static str, line: &str) {
    match word.split_once('=') {
        None if word == "req" => (field.required, field.always) = (true, true),
        None if word == "always" => field.always = true,
        None if word == "omit" => field.always = false,
        None if word == "omitzero" => field.omit_zero = true,
        Some(("list", "atomic")) => field.list = ListType::Atomic,
        Some(("list", "set")) => field.list = ListType::Set,
        Some(("list", map)) if map.starts_with("map(") => {
            field.list = ListType::Map;
            field.keys = map
                .trim_start_matches("map(")
                .trim_end_matches(')')
                .split(',')
                .map(Name::from)
                .collect();
        }
        Some(("map", value)) => field.atomic = value == "atomic",
        Some(("patch", value)) => {
            for strategy in value.split('+') {
                match strategy {
                    "merge" => field.patch.merge = true,
                    "replace" => field.patch.replace = true,
                    "retainKeys" => field.patch.retain_keys = true,
                    other => panic!("descriptor text: patch strategy {other:?} in {line:?}"),
                }
            }
        }
        Some(("key", value)) => field.merge_key = Some(value.into()),
        Some(("default", value)) => {
            field.default =
                Some(serde_json::from_str(value).unwrap_or_else(|_| panic!("descriptor text: default in {line:?}")));
        }
        Some(("enum", value)) => field.allowed = value.split('|').map(Name::from).collect(),
        _ => panic!("descriptor text: unexpected {word:?} in {line:?}"),
    }
}

fn unlist(ty: &str) -> Option<&str> {
    ty.strip_prefix('[').and_then(|t| t.strip_suffix(']'))
}

fn kind_of(ty: &str, package: &str, names: &HashMap<Name, TypeId>) -> Kind {
    match ty {
        "string" => Kind::String,
        "bool" => Kind::Bool,
        "int32" => Kind::Int32,
        "int64" => Kind::Int64,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "Quantity" => Kind::Quantity,
        "IntOrString" => Kind::IntOrString,
        "Time" => Kind::Time,
        "MicroTime" => Kind::MicroTime,
        "Duration" => Kind::Duration,
        "RawExtension" => Kind::RawExtension,
        "JSON" => Kind::Json,
        "FieldsV1" => Kind::FieldsV1,
        "JSONSchemaPropsOrArray" => Kind::SchemaOrArray,
        "JSONSchemaPropsOrBool" => Kind::SchemaOrBool,
        "JSONSchemaPropsOrStringArray" => Kind::SchemaOrStrings,
        name => {
            let full = match name.strip_prefix("meta.") {
                Some(short) => format!("{META_V1}.{short}"),
                None if name.contains('.') => format!("io.k8s.api.{name}"),
                None => format!("{package}.{name}"),
            };
            match names.get(full.as_str()) {
                Some(id) => Kind::Object(*id),
                None => panic!("descriptor text: no type {full}"),
            }
        }
    }
}
