//! Checks of `metadata` that hold for every kind.

use crate::rules::NameRule;
use serde_json::Value;
use skiff_api::FieldError;

pub fn validate(_object: &Value, _rule: NameRule) -> Vec<FieldError> {
    Vec::new()
}

pub fn validate_update(_new: &Value, _old: &Value) -> Vec<FieldError> {
    Vec::new()
}
