//! Discovery documents, legacy and aggregated, from the table of kinds. Pure.

use crate::aggregation::{self, Group};
use crate::codec::api_version;
use crate::registry::Catalog;
use serde_json::{Value, json};
use skiff_kinds::{Kind, Subresource};

/// `/apis`: APIGroupList.
pub(super) fn group_list(groups: &[Group]) -> Value {
    let groups: Vec<Value> = groups.iter().map(group_value).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`: APIGroup.
pub(super) fn group(groups: &[Group], name: &str) -> Option<Value> {
    let mut value = group_value(groups.iter().find(|g| g.name == name)?);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(value)
}

fn group_value(group: &Group) -> Value {
    let list: Vec<Value> = group
        .versions
        .iter()
        .map(|v| json!({"groupVersion": api_version(&group.name, &v.name), "version": v.name}))
        .collect();
    json!({"name": group.name, "preferredVersion": list.first(), "versions": list})
}

/// `/api/v1`, `/apis/<group>/<version>`: APIResourceList.
pub(super) fn resource_list(catalog: &Catalog, group: &str, version: &str) -> Option<Value> {
    if !catalog.versions(group).contains(&version) {
        return None;
    }
    let mut resources = Vec::new();
    for kind in catalog.in_version(group, version) {
        let mut row = json!({"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind, "verbs": kind.verbs});
        if !kind.short_names.is_empty() {
            row["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            row["categories"] = json!(kind.categories);
        }
        // What is never stored has no version to be stored in.
        if kind.verbs.contains(&"watch") {
            row["storageVersionHash"] = storage_hash(kind).into();
        }
        resources.push(row);
        for sub in kind.subresources {
            let mut row = json!({"name": format!("{}/{}", kind.plural, sub.name), "singularName": "", "namespaced": kind.namespaced, "kind": sub.kind, "verbs": sub.verbs});
            if (sub.group, version_of(kind, version, sub)) != (group, version) {
                row["group"] = sub.group.into();
                row["version"] = sub.version.into();
            }
            resources.push(row);
        }
    }
    resources.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version(group, version), "resources": resources}),
    )
}

/// Changes when the storage version does; upstream's digest, so that clients that
/// remember it see no change.
fn storage_hash(kind: &Kind) -> String {
    use base64::Engine;
    let text = format!("{}/{}/{}", kind.storage.0, kind.storage_version, kind.kind);
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest.as_ref()[..8])
}

/// `/api` as APIGroupDiscoveryList.
pub(super) fn aggregated_core(catalog: &Catalog, version: &str) -> Value {
    let versions: Vec<Value> = catalog
        .versions("")
        .iter()
        .map(|v| aggregated_version(catalog, "", v))
        .collect();
    list(version, vec![json!({"metadata": {}, "versions": versions})])
}

/// `/apis` as APIGroupDiscoveryList.
pub(super) fn aggregated(catalog: &Catalog, groups: &[Group], version: &str) -> Value {
    let items = groups
        .iter()
        .map(|group| {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|v| match &v.remote {
                    Some(remote) => aggregation::aggregated(remote),
                    None => aggregated_version(catalog, &group.name, &v.name),
                })
                .collect();
            json!({"metadata": {"name": group.name}, "versions": versions})
        })
        .collect();
    list(version, items)
}

fn list(version: &str, items: Vec<Value>) -> Value {
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": items})
}

fn aggregated_version(catalog: &Catalog, group: &str, version: &str) -> Value {
    let resources: Vec<Value> = catalog
        .in_version(group, version)
        .into_iter()
        .map(|kind| {
            let mut row = json!({
                "resource": kind.plural,
                "responseKind": {"group": group, "version": version, "kind": kind.kind},
                "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
                "singularResource": kind.singular,
                "verbs": kind.verbs,
            });
            if !kind.short_names.is_empty() {
                row["shortNames"] = json!(kind.short_names);
            }
            if !kind.categories.is_empty() {
                row["categories"] = json!(kind.categories);
            }
            if !kind.subresources.is_empty() {
                row["subresources"] = kind
                    .subresources
                    .iter()
                    .map(|sub| aggregated_sub(kind, version, sub))
                    .collect();
            }
            row
        })
        .collect();
    json!({"version": version, "freshness": "Current", "resources": resources})
}

fn aggregated_sub(kind: &Kind, version: &str, sub: &Subresource) -> Value {
    let version = version_of(kind, version, sub);
    json!({"subresource": sub.name, "responseKind": {"group": sub.group, "version": version, "kind": sub.kind}, "verbs": sub.verbs})
}

/// The version that a subresource is answered in: the kind itself in the one that is asked for.
fn version_of<'a>(kind: &Kind, version: &'a str, sub: &'a Subresource) -> &'a str {
    if (sub.group, sub.kind) == (kind.group, kind.kind) {
        version
    } else {
        sub.version
    }
}
