//! Checks of `metav1.Condition` lists in statuses.

use crate::check::{Errors, Path};
use crate::names;
use crate::tree::Tree;
use serde_json::Value;
use std::collections::BTreeSet;

const REASON_CHARS_MAX: usize = 1024;
const MESSAGE_CHARS_MAX: usize = 32 * 1024;

/// Each type once; type, status, time and reason are there and well formed.
pub(crate) fn check(conditions: &[Value], list: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, condition) in conditions.iter().enumerate() {
        let path = list.at(i);
        let (kind, reason) = (condition.text("type"), condition.text("reason"));
        if kind.is_empty() {
            errors.required(&path.of("type"), "must be set");
        } else {
            errors.all(&path.of("type"), kind, names::qualified_name(kind));
        }
        if !seen.insert(kind) {
            errors.duplicate(&path.of("type"), kind);
        }
        let status = condition.text("status");
        if !matches!(status, "True" | "False" | "Unknown") {
            errors.not_supported(&path.of("status"), status, &["False", "True", "Unknown"]);
        }
        errors.non_negative(condition, &path, "observedGeneration");
        if !condition.has("lastTransitionTime") {
            errors.required(&path.of("lastTransitionTime"), "must be set");
        }
        if reason.is_empty() {
            errors.required(&path.of("reason"), "must be set");
        } else {
            errors.all(&path.of("reason"), reason, reason_faults(reason));
            if reason.len() > REASON_CHARS_MAX {
                errors.too_long(&path.of("reason"), REASON_CHARS_MAX);
            }
        }
        if condition.text("message").len() > MESSAGE_CHARS_MAX {
            errors.too_long(&path.of("message"), MESSAGE_CHARS_MAX);
        }
    }
}

fn reason_faults(reason: &str) -> Vec<String> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b',' | b':');
    let bytes = reason.as_bytes();
    let fine = bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
        && bytes.iter().all(|b| inner(*b));
    let fault = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
    (!fine).then(|| fault.to_string()).into_iter().collect()
}
