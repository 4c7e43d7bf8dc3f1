//! JSON patch (RFC 6902). What one request may make of an object is bounded: the
//! number of operations, what they copy, and how deep the result nests.

use super::unprocessable;
use crate::codec::decode_json;
use crate::{ApiError, Value};
use json_patch::PatchOperation;
use json_patch::jsonptr::PointerBuf;

/// As upstream: bounds the work one request may ask for.
const OPERATIONS_MAX: usize = 10_000;
/// As upstream: bytes that all copies of one patch may come to.
const COPIED_MAX: usize = 3 << 20;
/// No object nests deeper; a deeper tree could not even be dropped safely.
const DEPTH_MAX: usize = 250;

/// Applies a JSON patch. Either all operations take effect or none.
pub fn json_patch(live: &mut Value, patch: &[u8]) -> Result<(), ApiError> {
    let (patch, _) = decode_json(patch).map_err(|e| ApiError::bad_request(e.to_string()))?;
    let Value::Array(operations) = patch else {
        let what = go_kind(&patch);
        return Err(ApiError::bad_request(format!(
            "json: cannot unmarshal {what} into Go value of type jsonpatch.Patch"
        )));
    };
    if operations.len() > OPERATIONS_MAX {
        return Err(ApiError::too_large(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        )));
    }
    let mut made = live.clone();
    let mut copied = 0;
    for operation in operations {
        if !operation.is_object() {
            let what = go_kind(&operation);
            return Err(ApiError::bad_request(format!(
                "json: cannot unmarshal {what} into Go value of type jsonpatch.Operation"
            )));
        }
        let operation: PatchOperation = serde_json::from_value(operation).map_err(|_| unprocessable())?;
        check_bounds(&made, &operation, &mut copied)?;
        if !tests_absence(&made, &operation) {
            json_patch::patch_unsafe(&mut made, &[operation]).map_err(|_| unprocessable())?;
        }
    }
    *live = made;
    Ok(())
}

/// A test for null holds where there is nothing.
fn tests_absence(object: &Value, operation: &PatchOperation) -> bool {
    match operation {
        PatchOperation::Test(test) => test.value.is_null() && test.path.resolve(object).is_err(),
        _ => false,
    }
}

fn check_bounds(object: &Value, operation: &PatchOperation, copied: &mut usize) -> Result<(), ApiError> {
    let found = |from: &PointerBuf| from.resolve(object).ok();
    let (path, value) = match operation {
        PatchOperation::Add(add) => (&add.path, Some(&add.value)),
        PatchOperation::Replace(replace) => (&replace.path, Some(&replace.value)),
        PatchOperation::Move(to) => (&to.path, found(&to.from)),
        PatchOperation::Copy(to) => (&to.path, found(&to.from)),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
    };
    let Some(value) = value else { return Ok(()) };
    let (depth, bytes) = extent(value);
    if path.count() + depth > DEPTH_MAX {
        return Err(unprocessable());
    }
    if matches!(operation, PatchOperation::Copy(_)) {
        *copied += bytes;
        if *copied > COPIED_MAX {
            return Err(unprocessable());
        }
    }
    Ok(())
}

/// How deep a value nests, and about how long its text is.
fn extent(value: &Value) -> (usize, usize) {
    let around = |(depth, bytes): (usize, usize), (d, b): (usize, usize)| (depth.max(d + 1), bytes + b);
    match value {
        Value::Object(map) => {
            let members = map.iter().map(|(key, value)| (key.len() + 4, extent(value)));
            members.fold((1, 2), |all, (key, (d, b))| around(all, (d, b + key)))
        }
        Value::Array(items) => items
            .iter()
            .map(extent)
            .fold((1, 2), |all, (d, b)| around(all, (d, b + 1))),
        Value::String(text) => (0, text.len() + 2),
        _ => (0, 5),
    }
}

/// Go's word for what was given in place of something else.
fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Null => "null",
    }
}
