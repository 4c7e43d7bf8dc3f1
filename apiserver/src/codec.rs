//! Bodies to trees and trees to bytes: which codec of skiff-api a media type
//! means, what is checked on the way in, and conversion between versions. The
//! codecs themselves are skiff-api's.

use crate::handler::ServerCall;
use crate::registry::decode;
use crate::request::{Encoding, FieldValidation};
use bytes::Bytes;
use http::header;
use serde_json::Value;
use skiff_api::ApiError;
use skiff_api::codec as wire;
use skiff_api::patch::{self, PatchType};
use skiff_api::schema::{self, Type};
use skiff_kinds::Kind;
use skiff_kinds::custom::CustomKind;
use skiff_store::Entry;

/// Group, version and kind.
pub(crate) type Gvk<'a> = (&'a str, &'a str, &'a str);

pub(crate) fn api_version(group: &str, version: &str) -> String {
    schema::api_version(group, version)
}

fn type_of((group, version, kind): Gvk<'_>) -> Result<&'static Type, ApiError> {
    schema::lookup_gvk(group, version, kind).ok_or_else(|| {
        ApiError::internal(format!(
            "no description of the type {kind} in {}",
            api_version(group, version)
        ))
    })
}

fn validation(validation: FieldValidation) -> wire::FieldValidation {
    match validation {
        FieldValidation::Ignore => wire::FieldValidation::Ignore,
        FieldValidation::Warn => wire::FieldValidation::Warn,
        FieldValidation::Strict => wire::FieldValidation::Strict,
    }
}

fn type_in<'k>(kind: &'k Kind, version: &str) -> Result<&'k Type, ApiError> {
    kind.type_in(version).ok_or_else(|| {
        ApiError::internal(format!(
            "no description of the type {} in {}",
            kind.kind,
            api_version(kind.group, version)
        ))
    })
}

/// The object in a request's body, checked, in the storage version.
pub(crate) fn decode_object(
    call: &ServerCall,
    kind: &Kind,
    version: &str,
    warnings: &mut Vec<String>,
) -> Result<Value, ApiError> {
    if let Some(custom) = &kind.custom {
        return decode_custom(call, kind, custom, version, warnings);
    }
    let ty = type_in(kind, version)?;
    let encoding = body_encoding(call.header(header::CONTENT_TYPE))?;
    let (value, texts) = wire::decode_object(ty, &call.body, encoding, validation(call.options.field_validation))?;
    warnings.extend(texts);
    check_gvk(&value, (kind.group, version, kind.kind))?;
    to_storage(value, kind, version)
}

/// The object of a custom kind in a request's body, in the version of the request: its
/// schema is the one that counts until the object is stored.
fn decode_custom(
    call: &ServerCall,
    kind: &Kind,
    custom: &CustomKind,
    version: &str,
    warnings: &mut Vec<String>,
) -> Result<Value, ApiError> {
    let ty = type_in(kind, version)?;
    let mode = validation(call.options.field_validation);
    let refused = |error| wire::unreadable(ty, &call.body, &error);
    let mut report = wire::check::Report::default();
    let mut text = None;
    let mut value = match wire::Encoding::of_media_type(call.header(header::CONTENT_TYPE)) {
        Some(wire::Encoding::Json) => {
            let (value, duplicates) = wire::decode_json(&call.body).map_err(refused)?;
            report.duplicates = duplicates;
            text = Some(&call.body[..]);
            value
        }
        Some(wire::Encoding::Yaml) => {
            let (value, duplicates) = wire::decode_yaml_strict(&call.body).map_err(refused)?;
            report.yaml = duplicates;
            value
        }
        _ => {
            return Err(ApiError::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml",
            ));
        }
    };
    if value["kind"].as_str().is_none_or(str::is_empty) {
        let why = format!("Object 'Kind' is missing in '{}'", String::from_utf8_lossy(&call.body));
        return Err(wire::unrecognized(ty, &call.body, &why));
    }
    check_gvk(&value, (kind.group, version, kind.kind))?;
    let mut report = read_custom(custom, ty, version, &mut value, report)?;
    if let Some(text) = text.filter(|_| !report.is_empty()) {
        report.order = wire::json::field_order(text);
    }
    warnings.extend(report.settle(ty, mode)?);
    Ok(value)
}

/// Drops what the schema does not know, and says so.
fn read_custom(
    custom: &CustomKind,
    ty: &Type,
    version: &str,
    value: &mut Value,
    mut report: wire::check::Report,
) -> Result<wire::check::Report, ApiError> {
    report.unknown = custom
        .read(version, value)
        .map_err(|why| wire::check::cannot_handle(ty, &why))?;
    Ok(report)
}

/// A body of another type than the path's kind: options, bindings, reviews.
pub(crate) fn decode_plain(content_type: &str, body: &[u8], gvk: Gvk<'_>) -> Result<Value, ApiError> {
    let (group, version, kind) = gvk;
    let ty = if group == "meta.k8s.io" {
        type_of(("", "v1", kind))?
    } else {
        type_of((group, version, kind))?
    };
    Ok(wire::decode_object(ty, body, body_encoding(content_type)?, wire::FieldValidation::Ignore)?.0)
}

/// A patched object, checked as a body would be, in the storage version.
pub(crate) fn check_object(
    mut value: Value,
    kind: &Kind,
    version: &str,
    mode: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, ApiError> {
    let ty = type_in(kind, version)?;
    let mode = validation(mode);
    if let Some(custom) = &kind.custom {
        check_gvk(&value, (kind.group, version, kind.kind))?;
        let report = read_custom(custom, ty, version, &mut value, wire::check::Report::default())?;
        warnings.extend(report.settle(ty, mode)?);
        return Ok(value);
    }
    let report = wire::check(ty, &mut value, mode)?;
    warnings.extend(report.settle(ty, mode)?);
    check_gvk(&value, (kind.group, version, kind.kind))?;
    to_storage(value, kind, version)
}

/// Like [`check_object`], of what a patch made: faults of the patch's own text come first.
pub(crate) fn check_patched(
    patch: &Patch,
    mut value: Value,
    kind: &Kind,
    version: &str,
    mode: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, ApiError> {
    if mode == FieldValidation::Strict && !patch.faults.is_empty() {
        let ty = type_in(kind, version)?;
        let report = wire::check(ty, &mut value, validation(mode))?;
        let faults: Vec<String> = patch.faults.iter().cloned().chain(report.lines()).collect();
        let why = format!("strict decoding error: {}", faults.join(", "));
        return Err(wire::check::cannot_handle(ty, &why));
    }
    if mode == FieldValidation::Warn {
        warnings.extend(patch.faults.iter().cloned());
    }
    check_object(value, kind, version, mode, warnings)
}

/// Members of a JSON patch's operations that mean nothing, or that stand twice.
fn operation_faults(operations: &Value, twice: &[String]) -> Vec<String> {
    let operations = operations.as_array().into_iter().flatten().enumerate();
    let unknown = operations.flat_map(|(i, operation)| {
        let members = operation.as_object().into_iter().flat_map(|members| members.keys());
        members
            .filter(|key| !matches!(key.as_str(), "op" | "path" | "from" | "value"))
            .map(move |key| format!("json patch unknown field \"[{i}].{key}\""))
    });
    // What stands twice in a value is the object's matter: its decoder keeps the last.
    let own = twice.iter().filter(|path| path.matches(['.', '[']).count() == 2);
    let own = own.map(|path| format!("json patch duplicate field {path:?}"));
    unknown.chain(own).take(FAULTS_MAX).collect()
}

/// Strict decoding reports no more faults than this, as upstream.
const FAULTS_MAX: usize = 100;

/// A changed body of another type than the path's kind, checked as it would be when it is read.
pub(crate) fn check_plain(value: &mut Value, gvk: Gvk<'_>) -> Result<(), ApiError> {
    let ty = type_of(gvk)?;
    wire::check(ty, value, wire::FieldValidation::Ignore)?;
    check_gvk(value, gvk)
}

fn body_encoding(content_type: &str) -> Result<wire::Encoding, ApiError> {
    wire::Encoding::of_media_type(content_type).ok_or_else(|| {
        ApiError::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )
    })
}

fn check_gvk(value: &Value, (group, version, kind): Gvk<'_>) -> Result<(), ApiError> {
    let expected = api_version(group, version);
    let given = (
        value["apiVersion"].as_str().unwrap_or(""),
        value["kind"].as_str().unwrap_or(""),
    );
    if given.0 != expected {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({expected})",
            given.0
        )));
    }
    if given.1 != kind {
        let version = if group.is_empty() {
            version.to_string()
        } else {
            format!("{group}/{version}")
        };
        return Err(ApiError::bad_request(format!(
            "{} in version {version:?} cannot be handled as a {kind}: converting ({}) to ({kind}): unknown conversion",
            given.1, given.1
        )));
    }
    Ok(())
}

fn to_storage(mut value: Value, kind: &Kind, version: &str) -> Result<Value, ApiError> {
    let storage = skiff_kinds::storage_api_version(kind);
    skiff_kinds::convert(kind, &api_version(kind.group, version), &storage, &mut value).map_err(ApiError::internal)?;
    Ok(value)
}

/// A stored tree in the version of a request.
pub(crate) fn to_version(mut value: Value, kind: &Kind, version: &str) -> Value {
    let storage = skiff_kinds::storage_api_version(kind);
    // Only versions that the table lists get here, and the table's versions convert.
    if let Err(error) = skiff_kinds::convert(kind, &storage, &api_version(kind.group, version), &mut value) {
        tracing::error!(%error, "an object was left in its storage version");
    }
    value
}

/// A stored entry as a tree with its resourceVersion.
pub(crate) fn stored(entry: &Entry) -> Result<Value, ApiError> {
    decode(entry, entry.mod_revision())
}

pub(crate) fn encode(encoding: Encoding, value: &Value) -> Result<Bytes, ApiError> {
    match encoding {
        Encoding::Json => {
            let mut out = serde_json::to_vec(value).map_err(ApiError::internal)?;
            out.push(b'\n');
            Ok(Bytes::from(out))
        }
        Encoding::Yaml => Ok(Bytes::from(wire::encode_yaml(value))),
        Encoding::Protobuf => to_protobuf(value).map(Bytes::from),
    }
}

/// Protobuf in its envelope.
pub(crate) fn to_protobuf(value: &Value) -> Result<Vec<u8>, ApiError> {
    let (group, version) = schema::split_api_version(value["apiVersion"].as_str().unwrap_or(""));
    let kind = value["kind"].as_str().unwrap_or("");
    let ty = type_of((group, version, kind))
        .map_err(|_| ApiError::not_acceptable(format!("{kind} has no protobuf form: ask for application/json")))?;
    wire::encode_proto(ty, value).map_err(ApiError::internal)
}

pub(crate) fn protobuf_event(what: &str, object: &[u8]) -> Bytes {
    Bytes::from(wire::frame_watch_event(what, object))
}

/// Whether a patch is a server-side apply.
pub(crate) fn is_apply(content_type: &str) -> bool {
    PatchType::of_media_type(content_type) == Some(PatchType::ApplyYaml)
}

/// An applied configuration: YAML, or JSON, which is YAML.
pub(crate) fn apply_body(body: &[u8]) -> Result<Value, ApiError> {
    if body.trim_ascii_start().first() == Some(&b'{')
        && let Ok((value, _)) = wire::decode_json(body)
    {
        return Ok(value);
    }
    wire::decode_yaml(body).map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))
}

/// Keys that stand twice in an applied configuration: warnings, or the error that strict
/// validation asks for.
pub(crate) fn apply_faults(body: &[u8], mode: FieldValidation) -> Result<Vec<String>, ApiError> {
    if mode == FieldValidation::Ignore {
        return Ok(Vec::new());
    }
    // What cannot be read is refused by whoever reads it for its content.
    let json = body.trim_ascii_start().first() == Some(&b'{');
    if json && wire::decode_json(body).is_ok_and(|(_, twice)| twice.is_empty()) {
        return Ok(Vec::new());
    }
    let lines = wire::decode_yaml_strict(body).map_or_else(|_| Vec::new(), |(_, lines)| lines);
    if mode == FieldValidation::Strict && !lines.is_empty() {
        return Err(ApiError::bad_request(format!(
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {}",
            lines.join("\n  ")
        )));
    }
    Ok(lines)
}

/// A patch as it was sent, and what is wrong with its text: members given twice.
pub(crate) struct Patch {
    what: Content,
    faults: Vec<String>,
}

enum Content {
    Json(Bytes),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    pub fn read(content_type: &str, body: &Bytes) -> Result<Self, ApiError> {
        let parse = |prefix: &str| match wire::decode_json(body) {
            Ok(read) => Ok(read),
            Err(error) => Err(ApiError::bad_request(format!("{prefix}{error}"))),
        };
        let twice = |paths: Vec<String>| paths.iter().map(|path| format!("duplicate field {path:?}")).collect();
        match PatchType::of_media_type(content_type) {
            Some(PatchType::Json) => {
                let (operations, paths) = parse("error decoding patch: ")?;
                Ok(Self {
                    what: Content::Json(body.clone()),
                    faults: operation_faults(&operations, &paths),
                })
            }
            Some(PatchType::Merge) => {
                let (merge, paths) = parse("error decoding patch: ")?;
                Ok(Self {
                    what: Content::Merge(merge),
                    faults: twice(paths),
                })
            }
            Some(PatchType::Strategic) => {
                let (merge, paths) = parse("")?;
                Ok(Self {
                    what: Content::Strategic(merge),
                    faults: twice(paths),
                })
            }
            // Apply is no patch of an object: its callers ask for it first.
            Some(PatchType::ApplyYaml) | None => Err(ApiError::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, \
                 application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
            )),
        }
    }

    pub fn is_strategic(&self) -> bool {
        matches!(self.what, Content::Strategic(_))
    }

    /// Applies it to an object in the given version of the kind.
    pub fn apply(&self, kind: &Kind, version: &str, object: &mut Value) -> Result<(), ApiError> {
        self.apply_as((kind.group, version, kind.kind), object)
    }

    pub fn apply_as(&self, gvk: Gvk<'_>, object: &mut Value) -> Result<(), ApiError> {
        match &self.what {
            Content::Json(body) => patch::json_patch(object, body),
            Content::Merge(merge) => patch::merge_patch(object, merge),
            Content::Strategic(merge) => patch::strategic_merge(type_of(gvk)?, object, merge.clone()),
        }
    }
}
