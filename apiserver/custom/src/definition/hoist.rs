//! Upstream's internal form of a definition has one schema, one set of subresources and
//! of columns at the top where all versions have the same. Errors are told in that form.

use crate::check::json::Json;
use crate::path::Path;
use serde_json::Value;

/// A part of the versions: (key in a version, key at the top).
pub(super) const SCHEMA: (&str, &str) = ("schema", "validation");
pub(super) const SUBRESOURCES: (&str, &str) = ("subresources", "subresources");
pub(super) const COLUMNS: (&str, &str) = ("additionalPrinterColumns", "additionalPrinterColumns");
pub(super) const SELECTABLE: (&str, &str) = ("selectableFields", "selectableFields");

/// Calls `visit` for the part once, with its place at the top, if all versions have the
/// same; else for every version with its place there.
pub(super) fn each(spec: &Value, part: (&str, &str), mut visit: impl FnMut(&Value, &Value, &Path)) {
    let versions = spec.items("versions");
    let Some(first) = versions.first() else { return };
    let root = Path::new("spec");
    if versions.iter().all(|v| v.get(part.0) == first.get(part.0)) {
        if let Some(value) = first.get(part.0) {
            visit(first, value, &root.of(part.1));
        }
        return;
    }
    let list = root.of("versions");
    for (i, version) in versions.iter().enumerate() {
        if let Some(value) = version.get(part.0) {
            visit(version, value, &list.at(i).of(part.0));
        }
    }
}
