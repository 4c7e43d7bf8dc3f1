//! The patches of the API: JSON patch (RFC 6902), merge patch (RFC 7386) and
//! Kubernetes' strategic merge patch. Pure: a live object and a patch in, the
//! patched object or an error out. Checking the result against its type is the
//! caller's next step.

mod json;
mod lists;
mod strategic;

pub use json::json_patch;
pub use strategic::strategic_merge;

use crate::{ApiError, FieldError, Value};
use serde_json::json;

/// The patch types by media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
    ApplyYaml,
}

impl PatchType {
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        match media_type.split(';').next().unwrap_or("").trim() {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/apply-patch+yaml" => Some(Self::ApplyYaml),
            _ => None,
        }
    }
}

/// Applies a merge patch; null removes a member.
pub fn merge_patch(live: &mut Value, patch: &Value) -> Result<(), ApiError> {
    if !patch.is_object() {
        return Err(ApiError::bad_request("Invalid JSON Patch"));
    }
    json_patch::merge(live, patch);
    Ok(())
}

/// Upstream's answer to a JSON patch that cannot be applied; it does not say why.
pub(crate) fn unprocessable() -> ApiError {
    let mut error = ApiError::new(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
    );
    error.details = Some(json!({}));
    error
}

/// Faults of strategic merge patches that upstream does not class.
fn unclassed(why: String) -> ApiError {
    ApiError::new(500, "", why)
}

/// What a patch made of the object cannot be decoded, or has fields that strict
/// validation refuses: worded as upstream words it.
pub fn invalid_patch(patch: &str, why: &str) -> ApiError {
    ApiError::invalid("", "", "", &[FieldError::invalid("patch", &Value::from(patch), why)])
}

#[cfg(test)]
mod tests;
