//! The patches of the API: JSON patch (RFC 6902), merge patch (RFC 7386) and
//! Kubernetes' strategic merge patch. Pure: a live object and a patch in, the
//! patched object or an error out. Checking the result against its type is the
//! caller's next step.

mod lists;
mod strategic;

pub use strategic::strategic_merge;

use crate::{ApiError, FieldError, Value};
use serde_json::json;

/// As upstream: bounds the work one request may ask for.
const MAX_OPERATIONS: usize = 10_000;

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

/// Applies a JSON patch. Either all operations take effect or none.
pub fn json_patch(live: &mut Value, patch: &[u8]) -> Result<(), ApiError> {
    let operations: Vec<json_patch::PatchOperation> =
        serde_json::from_slice(patch).map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(ApiError::too_large(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    json_patch::patch(live, &operations).map_err(|e| unprocessable(&e.to_string()))
}

/// Applies a merge patch; null removes a member.
pub fn merge_patch(live: &mut Value, patch: &Value) -> Result<(), ApiError> {
    if !patch.is_object() {
        return Err(ApiError::bad_request(
            "error decoding patch: a merge patch must be a JSON object",
        ));
    }
    json_patch::merge(live, patch);
    Ok(())
}

/// Upstream's answer to a patch that cannot be applied; why is in the cause.
pub(crate) fn unprocessable(why: &str) -> ApiError {
    let mut error = ApiError::new(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
    );
    error.details = Some(json!({"causes": [{"message": why}]}));
    error
}

/// What a patch made of the object cannot be decoded, or has fields that strict
/// validation refuses: worded as upstream words it.
pub fn invalid_patch(patch: &str, why: &str) -> ApiError {
    ApiError::invalid("", "", "", &[FieldError::invalid("patch", &Value::from(patch), why)])
}

#[cfg(test)]
mod tests;
