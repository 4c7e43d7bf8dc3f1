//! The spec of a definition as a whole, and its names.

use super::{conversion, hoist, version};
use crate::check::json::Json;
use crate::path::Path;
use serde_json::Value;
use skiff_api::{FieldError, names as shapes};

pub(super) fn check(spec: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    group(spec.text("group"), &path.of("group"), errors);
    const SCOPES: [&str; 2] = ["Cluster", "Namespaced"];
    match spec.text("scope") {
        "" => errors.push(FieldError::required("spec.scope", "")),
        scope if SCOPES.contains(&scope) => {}
        scope => errors.push(FieldError::not_supported("spec.scope", &scope.into(), &SCOPES)),
    }
    schemas_are_there(spec, old, &path, errors);
    versions(spec, &path.of("versions"), errors);
    version::check(spec, old, errors);
    let at = path.of("names");
    for key in ["plural", "singular", "kind", "listKind"] {
        if spec["names"].text(key).is_empty() {
            errors.push(FieldError::required(at.of(key).field(), ""));
        }
    }
    names(&spec["names"], &at, errors);
    hoist::each(spec, hoist::COLUMNS, |_, list, at| version::columns(list, at, errors));
    conversion::check(spec, old, &path.of("conversion"), errors);
}

fn group(group: &str, at: &Path, errors: &mut Vec<FieldError>) {
    if group.is_empty() {
        return errors.push(FieldError::required(at.field(), ""));
    }
    let wrong = shapes::dns1123_subdomain(group);
    if !wrong.is_empty() {
        errors.push(FieldError::invalid(at.field(), &group.into(), &wrong.join(",")));
    } else if !group.contains('.') {
        let why = "should be a domain with at least one dot";
        errors.push(FieldError::invalid(at.field(), &group.into(), why));
    }
}

fn schemas_are_there(spec: &Value, old: Option<&Value>, path: &Path, errors: &mut Vec<FieldError>) {
    let lacks = |version: &Value| version["schema"].node("openAPIV3Schema").is_none();
    // What is stored without schemas need not get any.
    if old.is_some_and(|old| old.items("versions").iter().any(lacks)) {
        return;
    }
    let list = path.of("versions");
    for (i, version) in spec.items("versions").iter().enumerate() {
        if lacks(version) {
            let at = list.at(i);
            let at = at.of("schema");
            errors.push(FieldError::required(
                at.of("openAPIV3Schema").field(),
                "schemas are required",
            ));
        }
    }
}

fn versions(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let versions = spec.items("versions");
    let mut unique = true;
    for (i, version) in versions.iter().enumerate() {
        let name = version.text("name");
        unique &= !versions[..i].iter().any(|v| v.text("name") == name);
        let wrong = shapes::dns1035_label(name);
        if !wrong.is_empty() {
            let at = path.at(i);
            errors.push(FieldError::invalid(
                at.of("name").field(),
                &name.into(),
                &wrong.join(","),
            ));
        }
    }
    let mut all = |why: &str| {
        let shown: Vec<&str> = versions.iter().map(|v| v.text("name")).collect();
        errors.push(FieldError::invalid(path.field(), &shown.into(), why));
    };
    if !unique {
        all("must contain unique version names");
    }
    if versions.iter().filter(|v| v.flag("storage")).count() != 1 {
        all("must have exactly one version marked as storage version");
    }
    if let Some(first) = versions.first() {
        let wrong = shapes::dns1035_label(first.text("name"));
        if !wrong.is_empty() {
            errors.push(FieldError::invalid("spec.version", &first["name"], &wrong.join(",")));
        }
    }
}

/// Names as they are asked for or were accepted.
pub(super) fn names(names: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let mut label = |at: Path, text: &str, kind: bool| {
        let wrong = shapes::dns1035_label(&if kind { text.to_lowercase() } else { text.to_string() });
        if !text.is_empty() && !wrong.is_empty() {
            let mixed = if kind {
                "may have mixed case, but should otherwise match: "
            } else {
                ""
            };
            let why = format!("{mixed}{}", wrong.join(","));
            errors.push(FieldError::invalid(at.field(), &text.into(), &why));
        }
    };
    label(path.of("plural"), names.text("plural"), false);
    label(path.of("singular"), names.text("singular"), false);
    label(path.of("kind"), names.text("kind"), true);
    label(path.of("listKind"), names.text("listKind"), true);
    let lists = [
        ("shortNames", path.of("shortNames")),
        ("categories", path.of("categories")),
    ];
    for (i, short) in names.items("shortNames").iter().enumerate() {
        label(lists[0].1.at(i), short.as_str().unwrap_or_default(), false);
    }
    for (i, category) in names.items("categories").iter().enumerate() {
        label(lists[1].1.at(i), category.as_str().unwrap_or_default(), false);
    }
    let kind = names.text("kind");
    if !kind.is_empty() && kind == names.text("listKind") {
        let why = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(path.of("listKind").field(), &kind.into(), why));
    }
}
