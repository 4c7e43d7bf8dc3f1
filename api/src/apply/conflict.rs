//! Conflicts: fields that an apply would change and somebody else owns.

use super::FieldSet;
use super::entries::{UPDATE, text};
use super::shape::path_text;
use crate::{ApiError, Value};
use serde_json::json;

/// One manager and the fields of it that would change.
pub(super) struct Conflict<'a> {
    pub entry: &'a Value,
    pub fields: FieldSet,
}

/// The 409 that lists them, in upstream's words.
pub(super) fn error(conflicts: &[Conflict<'_>]) -> ApiError {
    let mut found: Vec<(String, String)> = Vec::new();
    for conflict in conflicts {
        let manager = described(conflict.entry);
        conflict
            .fields
            .for_each(&mut |path| found.push((manager.clone(), path_text(path))));
    }
    // Stable: paths stay in their order within a manager.
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let message = match found.as_slice() {
        [(manager, path)] => format!("Apply failed with 1 conflict: conflict with {manager}: {path}"),
        _ => {
            let mut lines: Vec<String> = Vec::new();
            let mut last = "";
            for (manager, path) in &found {
                if manager != last {
                    lines.push(format!("conflicts with {manager}:"));
                    last = manager;
                }
                lines.push(format!("- {path}"));
            }
            format!("Apply failed with {} conflicts: {}", found.len(), lines.join("\n"))
        }
    };
    let causes: Vec<Value> = found
        .iter()
        .map(|(manager, path)| {
            json!({"reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": path})
        })
        .collect();
    let mut error = ApiError::new(409, "Conflict", message);
    error.details = Some(json!({ "causes": causes }));
    error
}

/// `"kubectl-client-side-apply" using apps/v1`.
fn described(entry: &Value) -> String {
    let mut out = format!("{:?}", text(entry, "manager"));
    let subresource = text(entry, "subresource");
    if !subresource.is_empty() {
        out.push_str(&format!(" with subresource {subresource:?}"));
    }
    if text(entry, "operation") == UPDATE {
        out.push_str(&format!(" using {}", text(entry, "apiVersion")));
    }
    out
}
