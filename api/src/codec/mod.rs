//! Between bytes and the value tree: JSON, YAML and protobuf, and the check that
//! makes a decoded tree what Go's decoder would have made of it.

pub mod check;
mod decode;
mod encode;
pub mod json;
pub(crate) mod wire;
pub mod yaml;

pub use check::{FieldValidation, Report, check};
pub use decode::{ProtoEnvelope, decode_proto, decode_proto_bare, open_envelope};
pub use encode::{encode_proto, encode_proto_bare, encode_watch_event, frame_watch_event, seal_envelope, seal_list};
pub use json::{decode_json, encode_json};
pub use yaml::decode_yaml;

use crate::schema::{Type, api_version};
use crate::{ApiError, Value};

/// What the body of a request is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

impl Encoding {
    /// From a media type as in `Content-Type`, parameters ignored.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        match media_type.split(';').next().unwrap_or("").trim() {
            "" | "application/json" | "*/*" | "application/*" => Some(Self::Json),
            "application/yaml" => Some(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }
}

/// Why bytes could not become an object.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("{0}")]
    Json(String),
    #[error("{0}")]
    Yaml(String),
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NotProtobuf,
    #[error("proto: {0}")]
    Proto(&'static str),
    #[error("the object is nested more than {0} levels deep")]
    TooDeep(usize),
}

/// No Kubernetes object nests deeper; bounds the recursion of the codecs.
pub(crate) const MAX_DEPTH: usize = 120;

/// A body as an object of the given type, with the warnings for the client.
/// Decoding errors are worded as upstream's handlers word them. A body that does not
/// say its kind gets the type's own.
pub fn decode_object(
    ty: &Type,
    bytes: &[u8],
    encoding: Encoding,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), ApiError> {
    let (mut value, duplicates) = match encoding {
        Encoding::Json => decode_json(bytes).map_err(unreadable)?,
        Encoding::Yaml => (decode_yaml(bytes).map_err(unreadable)?, Vec::new()),
        Encoding::Protobuf => (decode_proto(ty, bytes).map_err(unreadable)?, Vec::new()),
    };
    let mut report = check(ty, &mut value, validation)?;
    if ty.is_kind
        && let Some(object) = value.as_object_mut()
    {
        object
            .entry("apiVersion")
            .or_insert_with(|| api_version(&ty.group, &ty.version).into());
        object.entry("kind").or_insert_with(|| ty.short().into());
    }
    report.duplicates = duplicates;
    if encoding == Encoding::Json && !report.is_empty() {
        report.order = json::field_order(bytes);
    }
    let warnings = report.settle(ty, validation)?;
    Ok((value, warnings))
}

fn unreadable(error: CodecError) -> ApiError {
    ApiError::bad_request(match error {
        CodecError::Json(text) => format!("couldn't get version/kind; json parse error: {text}"),
        CodecError::Yaml(text) => format!("error converting YAML to JSON: {text}"),
        other => other.to_string(),
    })
}

/// The type of a JSON schema node, which refers to itself through three union types.
pub(crate) fn json_schema_type() -> Option<&'static Type> {
    crate::schema::lookup("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod generated;
