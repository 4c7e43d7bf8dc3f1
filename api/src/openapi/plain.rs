//! Documents of what is no resource: discovery, the version, the issuer's keys.

use super::names::{camel, group_words};
use super::operations::{ENCODINGS, JSON, Operation, written};
use super::schemas::Schemas;
use super::{Describe, Resource, document_v3, schemas::Flavor};
use crate::Value;
use serde_json::{Map, json};
use std::collections::BTreeSet;

/// One GET.
struct Plain {
    path: String,
    id: String,
    tag: String,
    description: &'static str,
    /// A type of meta/v1; empty for text.
    answers: &'static str,
}

/// The v3 document at `path` (`api`, `apis/apps`, `version`); `None` if there is none.
pub(super) fn v3(path: &str, resources: &[Resource], describe: Describe<'_>) -> Option<Value> {
    let found = of(resources).into_iter().find(|plain| key(plain) == path)?;
    let mut schemas = Schemas::new(Flavor::V3, describe, &[]);
    let mut paths = Map::new();
    put(&mut paths, found, &mut schemas);
    Some(document_v3(paths, schemas))
}

/// Where the v3 documents are: the path without its slashes at the ends.
pub(super) fn keys(resources: &[Resource]) -> Vec<String> {
    of(resources).iter().map(key).collect()
}

fn key(plain: &Plain) -> String {
    plain.path.trim_matches('/').to_string()
}

/// All of them, for v2.
pub(super) fn add_all(paths: &mut Map<String, Value>, resources: &[Resource], schemas: &mut Schemas<'_>) {
    for plain in of(resources) {
        put(paths, plain, schemas);
    }
}

fn put(paths: &mut Map<String, Value>, plain: Plain, schemas: &mut Schemas<'_>) {
    let answer = match plain.answers {
        "" => json!({"type": "string"}),
        "Info" => schemas.named("io.k8s.apimachinery.pkg.version.Info", version_info()),
        short => schemas.meta(short),
    };
    let operation = Operation {
        method: "get",
        id: plain.id,
        action: "",
        description: plain.description.into(),
        query: Vec::new(),
        body: None,
        answer,
        answers: if matches!(plain.answers, "" | "Info") {
            &[JSON]
        } else {
            &ENCODINGS
        },
        codes: &[200],
        gvk: None,
    };
    paths.insert(
        plain.path,
        json!({"get": written(operation, &plain.tag, schemas.flavor)}),
    );
}

fn version_info() -> Value {
    let needed = [
        "major",
        "minor",
        "gitVersion",
        "gitCommit",
        "gitTreeState",
        "buildDate",
        "goVersion",
        "compiler",
        "platform",
    ];
    let more = [
        "emulationMajor",
        "emulationMinor",
        "minCompatibilityMajor",
        "minCompatibilityMinor",
    ];
    let text = |name: &&str| ((*name).to_string(), json!({"type": "string"}));
    let properties: Map<String, Value> = needed.iter().chain(&more).map(text).collect();
    json!({"type": "object", "properties": properties, "required": needed})
}

fn of(resources: &[Resource]) -> Vec<Plain> {
    let plain = |path: &str, id: &str, tag: &str, description, answers| Plain {
        path: path.into(),
        id: id.into(),
        tag: tag.into(),
        description,
        answers,
    };
    let mut found = vec![
        plain(
            "/api/",
            "getCoreAPIVersions",
            "core",
            "get available API versions",
            "APIVersions",
        ),
        plain(
            "/apis/",
            "getAPIVersions",
            "apis",
            "get available API versions",
            "APIGroupList",
        ),
        plain(
            "/version/",
            "getCodeVersion",
            "version",
            "get the version information for this server",
            "Info",
        ),
        plain(
            "/.well-known/openid-configuration/",
            "getServiceAccountIssuerOpenIDConfiguration",
            "WellKnown",
            "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
            "",
        ),
        plain(
            "/openid/v1/jwks/",
            "getServiceAccountIssuerOpenIDKeyset",
            "openid",
            "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
            "",
        ),
    ];
    let built_in = resources.iter().filter(|r| r.schema.is_none() && !r.group.is_empty());
    let groups: BTreeSet<&str> = built_in.map(|r| r.group.as_str()).collect();
    for group in groups {
        found.push(plain(
            &format!("/apis/{group}/"),
            &format!("get{}APIGroup", camel(group, true)),
            &camel(group, false),
            "get information of a group",
            "APIGroup",
        ));
    }
    found
}

/// The list of a built-in group version's resources, which stands in its own document.
pub(super) fn resource_list(paths: &mut Map<String, Value>, resource: &Resource, schemas: &mut Schemas<'_>) {
    if resource.schema.is_some() {
        return;
    }
    let (group, version) = group_words(&resource.group, &resource.version);
    let path = format!("/{}/", super::group_version_path(&resource.group, &resource.version));
    if paths.contains_key(&path) {
        return;
    }
    let list = Plain {
        path,
        id: format!("get{group}{version}APIResources"),
        tag: super::names::tag(resource),
        description: "get available resources",
        answers: "APIResourceList",
    };
    put(paths, list, schemas);
}
