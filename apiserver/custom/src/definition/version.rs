//! The versions of a definition: schema, subresources, columns, selectable fields.

use super::hoist;
use crate::check::{self, field_path, json::Json};
use crate::path::Path;
use serde_json::Value;
use skiff_api::FieldError;

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
const SELECTABLE_MAX: usize = 8;

pub(super) fn check(spec: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let list = Path::new("spec.versions");
    for (i, version) in spec.items("versions").iter().enumerate() {
        deprecation(version, &list.at(i), errors);
    }
    let old_structural = old.is_none_or(|old| {
        let versions = old.items("versions").iter();
        versions
            .filter_map(|v| v["schema"].node("openAPIV3Schema"))
            .all(check::is_structural)
    });
    hoist::each(spec, hoist::SCHEMA, |version, schema, at| {
        if let Some(schema) = schema.node("openAPIV3Schema") {
            let status = version["subresources"].has("status");
            let before = old.and_then(|old| schema_of(old, version.text("name")));
            if before == Some(schema) || !old_structural {
                // What was accepted once stays accepted.
                return;
            }
            errors.append(&mut check::check(schema, &at.of("openAPIV3Schema"), status));
        }
    });
    hoist::each(spec, hoist::SUBRESOURCES, |_, subresources, at| {
        scale(subresources, at, errors)
    });
    hoist::each(spec, hoist::SELECTABLE, |version, fields, at| {
        selectable(fields, &version["schema"]["openAPIV3Schema"], at, errors);
    });
}

fn schema_of<'a>(spec: &'a Value, version: &str) -> Option<&'a Value> {
    let found = spec.items("versions").iter().find(|v| v.text("name") == version)?;
    found["schema"].node("openAPIV3Schema")
}

fn deprecation(version: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let Some(text) = version.get("deprecationWarning").and_then(Value::as_str) else {
        return;
    };
    let mut wrong = Vec::new();
    if !version.flag("deprecated") {
        wrong.push("can only be set for deprecated versions".to_string());
    } else {
        if text.len() > 256 {
            wrong.push("must be <= 256 characters long".to_string());
        }
        if text.is_empty() {
            wrong.push("must not be an empty string".to_string());
        }
        if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
            wrong.push(format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {at}"
            ));
        }
    }
    for why in wrong {
        errors.push(FieldError::invalid(
            path.of("deprecationWarning").field(),
            &text.into(),
            &why,
        ));
    }
}

fn scale(subresources: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let Some(scale) = subresources.node("scale") else {
        return;
    };
    for (key, prefix, why) in [
        ("specReplicasPath", ".spec.", "should be a json path under .spec"),
        ("statusReplicasPath", ".status.", "should be a json path under .status"),
    ] {
        let (at, text) = (path.of("scale"), scale.text(key));
        let at = at.of(key);
        if text.is_empty() {
            errors.push(FieldError::required(at.field(), ""));
        } else if simple_path(text, &at, errors) && !text.starts_with(prefix) {
            errors.push(FieldError::invalid(at.field(), &text.into(), why));
        }
    }
    let text = scale.text("labelSelectorPath");
    let at = path.of("scale");
    let at = at.of("labelSelectorPath");
    if !text.is_empty()
        && simple_path(text, &at, errors)
        && !text.starts_with(".spec.")
        && !text.starts_with(".status.")
    {
        let why = "should be a json path under either .spec or .status";
        errors.push(FieldError::invalid(at.field(), &text.into(), why));
    }
}

/// Starts with a dot.
fn simple_path(text: &str, at: &Path, errors: &mut Vec<FieldError>) -> bool {
    let fine = text.starts_with('.');
    if !fine {
        let why = "must be a simple json path starting with .";
        errors.push(FieldError::invalid(at.field(), &text.into(), why));
    }
    fine
}

pub(super) fn columns(list: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    for (i, column) in list.as_array().into_iter().flatten().enumerate() {
        let at = path.at(i);
        let mut one_of = |key: &str, known: &[&str], needed: bool| {
            let (at, text) = (at.of(key).field(), column.text(key));
            let why = format!("must be one of {}", known.join(","));
            match text {
                "" if needed => errors.push(FieldError::required(at, &why)),
                "" => {}
                text if known.contains(&text) => {}
                text => errors.push(FieldError::invalid(at, &text.into(), &why)),
            }
        };
        one_of("type", &COLUMN_TYPES, true);
        one_of("format", &COLUMN_FORMATS, false);
        if column.text("name").is_empty() {
            errors.push(FieldError::required(at.of("name").field(), ""));
        }
        let json_path = at.of("JSONPath");
        match column.text("jsonPath") {
            "" => errors.push(FieldError::required(json_path.field(), "")),
            text => drop(simple_path(text, &json_path, errors)),
        }
    }
}

fn selectable(fields: &Value, schema: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let fields = fields.as_array().map_or(&[][..], Vec::as_slice);
    if !fields.is_empty() && !schema.is_object() {
        let why = "selectableFields may only be set when version.schema.openAPIV3Schema is not included";
        return errors.push(FieldError::invalid(path.field(), &"".into(), why));
    }
    let mut seen: Vec<String> = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        let at = path.at(i);
        let at = at.of("jsonPath");
        let text = field.text("jsonPath");
        if text.is_empty() {
            errors.push(FieldError::required(at.field(), ""));
            continue;
        }
        let mut invalid = |why: &str| errors.push(FieldError::invalid(at.field(), &text.into(), why));
        let found = match field_path::follow(text, schema, false) {
            Ok(found) => found,
            Err(why) => {
                invalid(&format!("is an invalid path: {why}"));
                continue;
            }
        };
        if found.names.first().is_some_and(|name| name == "metadata") {
            invalid("must not point to fields in metadata");
        }
        let kind = found.schema.map(|s| s.text("type")).unwrap_or_default();
        if !matches!(kind, "string" | "boolean" | "integer") {
            invalid(
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            );
        }
        if seen.contains(&found.text) {
            errors.push(FieldError::duplicate(at.field(), &text.into()));
        } else {
            seen.push(found.text);
        }
    }
    if seen.len() > SELECTABLE_MAX {
        errors.push(FieldError::too_many(path.field(), seen.len(), SELECTABLE_MAX));
    }
}
