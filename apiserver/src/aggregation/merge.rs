//! Discovery of this server's group versions and the remote ones together, in the
//! order that their priorities give. Pure.

use super::local::{Rank, rank};
use crate::registry::{Catalog, text_at};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What discovery needs of a group version that another server answers.
#[derive(Debug, Clone)]
pub struct RemoteVersion {
    pub group: String,
    pub version: String,
    pub rank: Rank,
    /// Its APIResourceList as fetched last; `None`: it never answered.
    pub resources: Option<Arc<Value>>,
    pub available: bool,
}

/// A group as clients see it, versions in their order of preference.
#[derive(Debug)]
pub struct Group {
    pub name: String,
    pub versions: Vec<Version>,
}

#[derive(Debug)]
pub struct Version {
    pub name: String,
    /// `None`: answered by this server.
    pub remote: Option<RemoteVersion>,
}

/// All groups but the core one.
pub fn groups(catalog: &Catalog, remotes: &[RemoteVersion]) -> Vec<Group> {
    type Versions = BTreeMap<String, (Rank, Option<RemoteVersion>)>;
    let mut by_name: BTreeMap<String, Versions> = BTreeMap::new();
    for (group, versions) in catalog.groups().iter().filter(|(g, _)| !g.is_empty()) {
        let all = by_name.entry((*group).to_string()).or_default();
        for version in versions {
            all.insert((*version).to_string(), (rank(group, version), None));
        }
    }
    for remote in remotes.iter().filter(|r| !r.group.is_empty()) {
        let all = by_name.entry(remote.group.clone()).or_default();
        all.insert(remote.version.clone(), (remote.rank, Some(remote.clone())));
    }
    let mut ranked: Vec<(i64, Group)> = by_name
        .into_iter()
        .map(|(name, versions)| {
            let first = versions.values().map(|(rank, _)| rank.group).max().unwrap_or(0);
            let mut versions: Vec<(i64, Version)> = versions
                .into_iter()
                .map(|(name, (rank, remote))| (rank.version, Version { name, remote }))
                .collect();
            versions.sort_by_key(|(rank, v)| (Reverse(*rank), age(&v.name)));
            let versions = versions.into_iter().map(|(_, v)| v).collect();
            (first, Group { name, versions })
        })
        .collect();
    // The map was in the order of names, and this sort keeps equals in it.
    ranked.sort_by_key(|(rank, _)| Reverse(*rank));
    ranked.into_iter().map(|(_, group)| group).collect()
}

/// GA before beta before alpha, newer before older; what is no such version last, by name
/// (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#version-priority>).
fn age(version: &str) -> (u8, Reverse<u32>, Reverse<u32>, String) {
    let unknown = || (3, Reverse(0), Reverse(0), version.to_string());
    let Some(rest) = version.strip_prefix('v') else {
        return unknown();
    };
    let (stage, major, minor) = match (rest.split_once("beta"), rest.split_once("alpha")) {
        (Some((major, minor)), _) => (1, major, minor),
        (_, Some((major, minor))) => (2, major, minor),
        _ => (0, rest, "0"),
    };
    match (major.parse(), minor.parse()) {
        (Ok(major), Ok(minor)) => (stage, Reverse(major), Reverse(minor), String::new()),
        _ => unknown(),
    }
}

/// A remote version in the form of aggregated discovery. One that does not answer
/// shows what it had, as stale.
pub fn aggregated(remote: &RemoteVersion) -> Value {
    let freshness = if remote.available && remote.resources.is_some() {
        "Current"
    } else {
        "Stale"
    };
    let mut value = json!({"version": remote.version, "freshness": freshness});
    let listed = remote
        .resources
        .as_ref()
        .and_then(|list| list["resources"].as_array())
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut rows: Vec<Value> = listed
        .iter()
        .filter(|r| !text_at(r, &["name"]).contains('/'))
        .map(|resource| row(remote, resource))
        .collect();
    for sub in listed {
        let Some((parent, name)) = text_at(sub, &["name"]).split_once('/') else {
            continue;
        };
        let entry = json!({"subresource": name, "responseKind": kind_of(remote, sub), "verbs": sub["verbs"]});
        let Some(row) = rows.iter_mut().find(|r| r["resource"] == parent) else {
            continue;
        };
        match row["subresources"].as_array_mut() {
            Some(list) => list.push(entry),
            None => row["subresources"] = json!([entry]),
        }
    }
    if !rows.is_empty() {
        value["resources"] = rows.into();
    }
    value
}

fn row(remote: &RemoteVersion, resource: &Value) -> Value {
    let mut row = json!({
        "resource": resource["name"],
        "responseKind": kind_of(remote, resource),
        "scope": if resource["namespaced"] == true { "Namespaced" } else { "Cluster" },
        "singularResource": text_at(resource, &["singularName"]),
        "verbs": resource["verbs"],
    });
    for key in ["shortNames", "categories"] {
        if resource[key].is_array() {
            row[key] = resource[key].clone();
        }
    }
    row
}

fn kind_of(remote: &RemoteVersion, resource: &Value) -> Value {
    let or = |key: &str, default: &str| match text_at(resource, &[key]) {
        "" => default.to_string(),
        text => text.to_string(),
    };
    let group = match resource["group"].as_str() {
        Some(group) if !group.is_empty() || !text_at(resource, &["version"]).is_empty() => group.to_string(),
        _ => remote.group.clone(),
    };
    json!({"group": group, "version": or("version", &remote.version), "kind": text_at(resource, &["kind"])})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(group: &str, version: &str, of_group: i64, of_version: i64) -> RemoteVersion {
        RemoteVersion {
            group: group.into(),
            version: version.into(),
            rank: Rank {
                group: of_group,
                version: of_version,
            },
            resources: None,
            available: true,
        }
    }

    #[test]
    fn priorities_give_the_order() {
        let catalog = Catalog::new(skiff_kinds::kinds(), &[]);
        let remotes = [
            remote("wardle.example.com", "v1alpha1", 2000, 200),
            remote("wardle.example.com", "v1beta1", 100, 200),
            remote("wardle.example.com", "v1", 100, 1),
            remote("metrics.k8s.io", "v1beta1", 100, 100),
            remote("first.io", "v1", 19000, 1),
        ];
        let all = groups(&catalog, &remotes);
        let names: Vec<&str> = all.iter().map(|g| g.name.as_str()).collect();
        assert_eq!(
            &names[..4],
            ["apiregistration.k8s.io", "first.io", "apps", "events.k8s.io"]
        );
        assert_eq!(&names[names.len() - 2..], ["wardle.example.com", "metrics.k8s.io"]);
        let wardle = all.iter().find(|g| g.name == "wardle.example.com").unwrap();
        let versions: Vec<&str> = wardle.versions.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(versions, ["v1beta1", "v1alpha1", "v1"]);
    }

    #[test]
    fn built_in_groups_keep_their_order() {
        let catalog = Catalog::new(skiff_kinds::kinds(), &[]);
        let merged: Vec<String> = groups(&catalog, &[]).into_iter().map(|g| g.name).collect();
        let own: Vec<&str> = catalog
            .groups()
            .iter()
            .map(|(g, _)| *g)
            .filter(|g| !g.is_empty())
            .collect();
        assert_eq!(merged, own);
    }

    #[test]
    fn a_legacy_list_becomes_aggregated() {
        let mut flunders = remote("wardle.example.com", "v1alpha1", 1, 1);
        assert_eq!(
            aggregated(&flunders),
            json!({"version": "v1alpha1", "freshness": "Stale"})
        );
        flunders.resources = Some(Arc::new(json!({"resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"], "shortNames": ["fl"]},
            {"name": "flunders/scale", "singularName": "", "namespaced": true, "kind": "Scale", "group": "autoscaling", "version": "v1", "verbs": ["get"]},
        ]})));
        assert_eq!(
            aggregated(&flunders),
            json!({"version": "v1alpha1", "freshness": "Current", "resources": [{
                "resource": "flunders", "singularResource": "flunder", "scope": "Namespaced", "verbs": ["get"], "shortNames": ["fl"],
                "responseKind": {"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"},
                "subresources": [{"subresource": "scale", "verbs": ["get"],
                    "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}}],
            }]})
        );
        flunders.available = false;
        assert_eq!(aggregated(&flunders)["freshness"], "Stale");
    }
}
