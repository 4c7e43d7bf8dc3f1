//! One operation of a path, and how both versions of OpenAPI write it down.

use super::schemas::Flavor;
use crate::Value;
use serde_json::{Map, json};

pub(super) const JSON: &str = "application/json";
pub(super) const ENCODINGS: [&str; 3] = [JSON, "application/yaml", "application/vnd.kubernetes.protobuf"];
/// Lists may be watched.
pub(super) const STREAMS: [&str; 5] = [
    JSON,
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
pub(super) const ANYTHING: [&str; 1] = ["*/*"];
pub(super) const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// Custom resources know no strategies.
pub(super) const CUSTOM_PATCHES: [&str; 3] = [PATCHES[0], PATCHES[1], PATCHES[3]];

pub(super) type Parameter = (&'static str, &'static str);

const DRY_RUN: Parameter = ("dryRun", "string");
pub(super) const PRETTY: Parameter = ("pretty", "string");
pub(super) const WRITE: [Parameter; 3] = [DRY_RUN, ("fieldManager", "string"), ("fieldValidation", "string")];
pub(super) const PATCH: [Parameter; 4] = [WRITE[0], WRITE[1], WRITE[2], ("force", "boolean")];
pub(super) const LIST: [Parameter; 10] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
pub(super) const DELETE: [Parameter; 5] = [
    DRY_RUN,
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

/// One operation before it is written down.
pub(super) struct Operation<'a> {
    pub method: &'static str,
    pub id: String,
    /// `x-kubernetes-action`; empty for what is no operation on an object.
    pub action: &'static str,
    pub description: String,
    pub query: Vec<Parameter>,
    /// The schema of the body, its media types, and whether it must be there.
    pub body: Option<(Value, &'static [&'static str], bool)>,
    pub answer: Value,
    pub answers: &'static [&'static str],
    /// Status codes of success.
    pub codes: &'static [u16],
    pub gvk: Option<[&'a str; 3]>,
}

pub(super) fn parameter((name, ty): Parameter, place: &str, description: &str, flavor: Flavor) -> Value {
    let mut made = json!({"name": name, "in": place});
    match flavor {
        Flavor::V2 => {
            made["type"] = ty.into();
            made["uniqueItems"] = true.into();
        }
        Flavor::V3 => made["schema"] = json!({"type": ty, "uniqueItems": true}),
    }
    if !description.is_empty() {
        made["description"] = description.into();
    }
    if place == "path" {
        made["required"] = true.into();
    }
    made
}

/// `tag` groups the operations of a group version.
pub(super) fn written(operation: Operation<'_>, tag: &str, flavor: Flavor) -> Value {
    let query = operation.query.iter();
    let mut parameters: Vec<Value> = query.map(|p| parameter(*p, "query", "", flavor)).collect();
    let mut made = json!({
        "operationId": operation.id, "description": operation.description, "tags": [tag],
    });
    if !operation.action.is_empty() {
        made["x-kubernetes-action"] = operation.action.into();
    }
    if let Some([group, version, kind]) = operation.gvk {
        made["x-kubernetes-group-version-kind"] = json!({"group": group, "version": version, "kind": kind});
    }
    let content = |types: &[&str], schema: &Value| -> Value {
        let entries = types.iter().map(|t| ((*t).to_string(), json!({"schema": schema})));
        entries.collect::<Map<String, Value>>().into()
    };
    match (flavor, operation.body) {
        (Flavor::V2, body) => {
            made["schemes"] = json!(["https"]);
            made["produces"] = operation.answers.to_vec().into();
            made["consumes"] = body
                .as_ref()
                .map_or(ANYTHING.to_vec(), |(_, types, _)| types.to_vec())
                .into();
            if let Some((schema, _, required)) = body {
                let mut body = json!({"name": "body", "in": "body", "schema": schema});
                if required {
                    body["required"] = true.into();
                }
                parameters.push(body);
            }
        }
        (Flavor::V3, Some((schema, types, required))) => {
            made["requestBody"] = json!({"content": content(types, &schema)});
            if required {
                made["requestBody"]["required"] = true.into();
            }
        }
        (Flavor::V3, None) => {}
    }
    let mut responses = Map::from_iter([("401".to_string(), json!({"description": "Unauthorized"}))]);
    for code in operation.codes {
        let description = match code {
            201 => "Created",
            202 => "Accepted",
            _ => "OK",
        };
        let mut response = json!({ "description": description });
        match flavor {
            Flavor::V2 => response["schema"] = operation.answer.clone(),
            Flavor::V3 => response["content"] = content(operation.answers, &operation.answer),
        }
        responses.insert(code.to_string(), response);
    }
    made["responses"] = responses.into();
    if !parameters.is_empty() {
        made["parameters"] = parameters.into();
    }
    made
}
