//! Between bytes and the value tree: JSON, YAML and protobuf, and the check that
//! makes a decoded tree what Go's decoder would have made of it.

pub mod check;
mod decode;
mod encode;
pub mod json;
mod transcode;
pub(crate) mod wire;
pub mod yaml;
mod yaml_write;

pub use check::{FieldValidation, Report, check};
pub use decode::{ProtoEnvelope, decode_proto, decode_proto_bare, open_envelope};
pub use encode::{
    encode_proto, encode_proto_bare, encode_watch_event, frame_watch_event, list_envelope, put_list_item, seal_envelope,
};
pub use json::{decode_json, encode_json};
pub use transcode::transcode_proto;
pub use yaml::{decode_yaml, decode_yaml_strict};
pub use yaml_write::encode_yaml;

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
    let unreadable = |error| unreadable(ty, bytes, &error);
    let (mut value, duplicates) = match encoding {
        Encoding::Json => decode_json(bytes).map_err(unreadable)?,
        Encoding::Yaml => decode_yaml_strict(bytes).map_err(unreadable)?,
        Encoding::Protobuf => (decode_proto(ty, bytes).map_err(unreadable)?, Vec::new()),
    };
    check_kind(ty, &value)?;
    let mut report = check(ty, &mut value, validation)?;
    if ty.is_kind
        && let Some(object) = value.as_object_mut()
    {
        object
            .entry("apiVersion")
            .or_insert_with(|| api_version(&ty.group, &ty.version).into());
        object.entry("kind").or_insert_with(|| ty.short().into());
    }
    match encoding {
        Encoding::Yaml => report.yaml = duplicates,
        _ => report.duplicates = duplicates,
    }
    if encoding == Encoding::Json && !report.is_empty() {
        report.order = json::field_order(bytes);
    }
    let warnings = report.settle(ty, validation)?;
    Ok((value, warnings))
}

/// Of bytes that are no object at all.
pub fn unreadable(ty: &Type, bytes: &[u8], error: &CodecError) -> ApiError {
    match error {
        CodecError::Json(text) => unrecognized(
            ty,
            bytes,
            &format!("couldn't get version/kind; json parse error: {text}"),
        ),
        other => unrecognized(ty, bytes, &other.to_string()),
    }
}

/// Of a body that is not what the path asks for.
pub fn unrecognized(ty: &Type, bytes: &[u8], why: &str) -> ApiError {
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {why} ({})",
        ty.short(),
        summary(bytes)
    ))
}

/// The beginning of a body: as it is if it looks like JSON, else in hexadecimal.
fn summary(bytes: &[u8]) -> String {
    const SHOWN: usize = 30;
    let (begin, dots) = match bytes.get(..SHOWN) {
        Some(begin) if bytes.len() > SHOWN => (begin, " ..."),
        _ => (bytes, ""),
    };
    match bytes.first() {
        None => "<empty>".into(),
        Some(b'{') => format!("{}{dots}", String::from_utf8_lossy(begin)),
        Some(_) => {
            let hex: String = begin.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{hex}{dots}")
        }
    }
}

/// A body that says it is something else is refused in the words of Go's converter.
/// Another version of the same kind is left to the caller, and so is all about kinds that
/// came at run time.
fn check_kind(ty: &Type, value: &Value) -> Result<(), ApiError> {
    let (group, version, kind) = ty.gvk();
    let text = |key: &str| value[key].as_str().filter(|text| !text.is_empty());
    let (said_group, said_version) = match text("apiVersion") {
        Some(said) => crate::schema::split_api_version(said),
        None => (group, version),
    };
    let said = text("kind").unwrap_or(kind);
    let built_in = crate::schema::lookup_gvk(group, version, kind).is_some_and(|own| std::ptr::eq(own, ty));
    if !ty.is_kind || !built_in || (said_group, said_version, said) == ty.gvk() {
        return Ok(());
    }
    let refuse = |why: String| {
        Err(ApiError::bad_request(format!(
            "{said} in version {said_version:?} cannot be handled as a {kind}: {why}"
        )))
    };
    match crate::schema::lookup_gvk(said_group, said_version, said) {
        None => refuse(format!(
            "no kind {said:?} is registered for version {:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
            api_version(said_group, said_version)
        )),
        Some(_) if said == kind => Ok(()),
        Some(other) => refuse(format!(
            "converting ({}) to ({}.{kind}): unknown conversion",
            other.go_name(),
            go_package(group)
        )),
    }
}

/// Go's package of a group's internal types.
fn go_package(group: &str) -> &str {
    match group.split('.').next().unwrap_or_default() {
        "" | "events" => "core",
        first => first,
    }
}

/// The type of a JSON schema node, which refers to itself through three union types.
pub(crate) fn json_schema_type() -> Option<&'static Type> {
    crate::schema::lookup("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod generated;
