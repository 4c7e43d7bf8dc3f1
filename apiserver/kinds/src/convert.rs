//! Conversion between the served versions of a resource and its storage version.
//! Most kinds have one version: nothing but `apiVersion` changes.

use crate::contract::Kind;
use crate::{autoscaling, events};
use serde_json::Value;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConvertError {
    #[error("no conversion of {kind} from {from} to {to}: serve only versions that the table lists")]
    Unknown {
        kind: &'static str,
        from: String,
        to: String,
    },
    #[error("{0}")]
    Custom(String),
}

/// The `apiVersion` that objects of this kind are stored in, and that their
/// strategy expects.
pub fn storage_api_version(kind: &Kind) -> String {
    match kind.storage.0 {
        "" => kind.storage_version.to_string(),
        group => format!("{group}/{}", kind.storage_version),
    }
}

/// Turns an object of one `apiVersion` (`autoscaling/v1`, `v1`, ...) into
/// another, in place.
pub fn convert(kind: &Kind, from: &str, to: &str, object: &mut Value) -> Result<(), ConvertError> {
    // Objects of these say themselves what they are of: they may lie in older versions.
    if let Some(custom) = &kind.custom {
        return custom.convert(to, object).map_err(ConvertError::Custom);
    }
    if from == to {
        return Ok(());
    }
    match (kind.plural, from, to) {
        ("horizontalpodautoscalers", "autoscaling/v1", "autoscaling/v2") => autoscaling::v1_to_v2(object),
        ("horizontalpodautoscalers", "autoscaling/v2", "autoscaling/v1") => autoscaling::v2_to_v1(object),
        ("events", "v1", "events.k8s.io/v1") => events::from_core(object),
        ("events", "events.k8s.io/v1", "v1") => events::to_core(object),
        _ => {
            return Err(ConvertError::Unknown {
                kind: kind.kind,
                from: from.into(),
                to: to.into(),
            });
        }
    }
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".into(), to.into());
    }
    Ok(())
}
