//! Quantities in the value tree.

use serde_json::Value;
pub(crate) use skiff_api::quantity::Quantity;

pub(crate) const INVALID: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// The quantity, written as text or as a plain number; `None` if it is neither.
pub(crate) fn parse(quantity: &Value) -> Option<Quantity> {
    match quantity {
        Value::String(text) => text.parse().ok(),
        Value::Number(n) => n.to_string().parse().ok(),
        _ => None,
    }
}
