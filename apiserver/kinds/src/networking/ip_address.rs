//! IP addresses: who uses which service address.

use super::address;
use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::row::{AGE, NAME, cell, text};
use crate::rules::{NameRule, Rules};
use crate::tree::Tree;
use serde_json::Value;

pub(crate) const COLUMNS: &[Column] = &[NAME, text("ParentRef", "What the address belongs to."), AGE];

pub(crate) static STRATEGY: Rules = Rules {
    name: NameRule::Any,
    validate_create: |o| {
        gather(|errors| {
            let path = Path::new("metadata.name");
            match o.text("metadata.name") {
                "" => errors.required(&path, "name or generateName is required"),
                name => address::canonical_ip(&path, name, errors),
            }
            parent(o.at("spec.parentRef"), errors);
        })
    },
    validate_update: |_, new, old| gather(|errors| errors.immutable(new, old, "spec.parentRef")),
    row: |o, now| {
        let p = o.at("spec.parentRef");
        let resource = match p.text("group") {
            "" => p.text("resource").to_string(),
            group => format!("{}.{group}", p.text("resource")),
        };
        let rest: Vec<&str> = ["namespace", "name"]
            .iter()
            .map(|k| p.text(k))
            .filter(|t| !t.is_empty())
            .collect();
        vec![
            cell::name(o),
            format!("{resource}/{}", rest.join("/")).into(),
            cell::age(o, now),
        ]
    },
    fields: |o| {
        let p = o.at("spec.parentRef");
        vec![
            ("spec.parentRef.resource", p.text("resource").into()),
            ("spec.parentRef.namespace", p.text("namespace").into()),
            ("spec.parentRef.name", p.text("name").into()),
        ]
    },
    field_names: &[
        "spec.parentRef.resource",
        "spec.parentRef.namespace",
        "spec.parentRef.name",
    ],
    ..Rules::BASE
};

fn parent(parent: &Value, errors: &mut Errors) {
    let path = Path::new("spec.parentRef");
    if parent.is_null() {
        return errors.required(&path, "");
    }
    errors.name_at(parent, &path, "group", names::dns_subdomain);
    errors.texts_required(parent, &path, &["resource"]);
    errors.name_at(parent, &path, "resource", names::path_segment);
    errors.texts_required(parent, &path, &["name"]);
    errors.name_at(parent, &path, "name", names::path_segment);
    errors.name_at(parent, &path, "namespace", names::path_segment);
}
