//! OpenAPI v2 and v3 documents, made from the descriptors and a list of the
//! resources that the server serves. Pure and not cheap: callers keep what they get.
//!
//! Clients use them for `kubectl explain`, for the merge keys of `kubectl apply`,
//! and to learn that the server validates fields (`fieldValidation` on PATCH).

mod connect;
mod custom;
mod descriptions;
mod gnostic;
mod gnostic3;
mod names;
mod operations;
mod paths;
mod plain;
mod schemas;

pub use descriptions::Descriptions;
pub use gnostic::to_protobuf as v2_protobuf;
pub use gnostic3::to_protobuf as v3_protobuf;

use crate::Value;
use schemas::{Flavor, Schemas};
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// One resource of the server, as plain data.
#[derive(Debug, Clone, Default, PartialEq, Hash)]
pub struct Resource {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub namespaced: bool,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verbs: Vec<String>,
    pub subresources: Vec<Subresource>,
    /// The schema of a custom resource; built-in kinds have a descriptor.
    pub schema: Option<Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Hash)]
pub struct Subresource {
    pub name: String,
    /// What is read and written there (`autoscaling/v1` `Scale`); empty means the resource itself.
    pub group: String,
    pub version: String,
    pub kind: String,
    pub verbs: Vec<String>,
}

/// Documentation of a type (no field) or of one of its fields, as of [`Descriptions`].
pub type Describe<'a> = &'a dyn Fn(&str, Option<&str>) -> Option<&'a str>;

/// For callers without documentation.
pub fn undocumented<'a>(_ty: &str, _field: Option<&str>) -> Option<&'a str> {
    None
}

/// `apis/apps/v1`, `api/v1`.
pub fn group_version_path(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

fn by_group_version(resources: &[Resource]) -> BTreeMap<String, Vec<&Resource>> {
    let mut map: BTreeMap<String, Vec<&Resource>> = BTreeMap::new();
    for resource in resources {
        map.entry(group_version_path(&resource.group, &resource.version))
            .or_default()
            .push(resource);
    }
    map
}

/// The hash in the URL of a group version's document: changes when its resources
/// do, or the program's version.
pub fn document_hash(resources: &[&Resource]) -> String {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    resources.hash(&mut hasher);
    format!("{:016X}", hasher.finish())
}

/// `/openapi/v3`: where each group version's document is.
pub fn v3_index(resources: &[Resource]) -> Value {
    let mut paths = Map::new();
    for (path, resources) in by_group_version(resources) {
        let url = format!("/openapi/v3/{path}?hash={}", document_hash(&resources));
        paths.insert(path, json!({ "serverRelativeURL": url }));
    }
    for path in plain::keys(resources) {
        let url = format!("/openapi/v3/{path}?hash={}", document_hash(&[]));
        paths.insert(path, json!({ "serverRelativeURL": url }));
    }
    json!({ "paths": paths })
}

/// Where the document at a path of the index is, with its hash; `None` when there is none.
pub fn v3_url(path: &str, resources: &[Resource]) -> Option<String> {
    let index = v3_index(resources);
    index["paths"][path]["serverRelativeURL"].as_str().map(str::to_string)
}

/// The document at a path of the index (`api/v1`, `apis/apps/v1`, `version`); `None` when
/// there is none.
pub fn v3_document(path: &str, resources: &[Resource], describe: Describe<'_>) -> Option<Value> {
    let mine: Vec<&Resource> = resources
        .iter()
        .filter(|r| group_version_path(&r.group, &r.version) == path)
        .collect();
    if mine.is_empty() {
        return plain::v3(path, resources, describe);
    }
    let mut schemas = Schemas::new(Flavor::V3, describe, &mine);
    let paths = paths::of(&mine, &mut schemas);
    Some(document_v3(paths, schemas))
}

fn document_v3(paths: Map<String, Value>, schemas: Schemas<'_>) -> Value {
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths,
        "components": {"schemas": schemas.finish(), "securitySchemes": {"BearerToken": bearer()}},
    })
}

/// `/openapi/v2`: everything in one document.
pub fn v2_document(resources: &[Resource], describe: Describe<'_>) -> Value {
    let all: Vec<&Resource> = resources.iter().collect();
    let mut schemas = Schemas::new(Flavor::V2, describe, &all);
    let mut paths = paths::of(&all, &mut schemas);
    plain::add_all(&mut paths, resources, &mut schemas);
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths,
        "definitions": schemas.finish(),
        "securityDefinitions": {"BearerToken": bearer()},
        "security": [{"BearerToken": []}],
    })
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.36.0"})
}

fn bearer() -> Value {
    json!({"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication"})
}

#[cfg(test)]
mod tests;
